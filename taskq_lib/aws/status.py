"""Read tasks' status: one id, many ids, or a time window; and wait until a run's tasks are final."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pandas as pd

from taskq_lib import attended
from taskq_lib.aws import columns, queues, wire
from taskq_lib.aws.frames import read_items
from taskq_lib.aws.queues import Counts
from taskq_lib.aws.stack import Stack
from taskq_lib.errors import BadInput
from taskq_worker.contract import N_SHARDS, State

N_THREADS = 8
#: SQS's counts are approximate and settle within about a minute; only after this long is an empty queue believed.
IDLE_S = 60.0
_FINAL = {State.COMPLETED, State.DEAD_LETTERED}
_GOT, _QUERIED = wire.batch_get_decoder(columns.Item), wire.query_decoder(columns.Item)
_GOT_STATE = wire.batch_get_decoder(columns.ItemState)

#: Is told what a wait sees: the queues' counts and, where they were read at that moment, how many tasks are in which
#: state (else None).
Note = Callable[[Counts, Mapping[State, int] | None], object]


class Statuses(NamedTuple):
    """Tasks and their attempts, as `frames.TASK_COLUMNS` and `frames.ATTEMPT_COLUMNS` describe them."""

    tasks: pd.DataFrame
    attempts: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class Waited:
    """How a wait ended."""

    n_final: int
    n_open: int
    waited_s: float
    why: str  #: "all final", "deadline" or "queue empty"


def get(stack: Stack, task_ids: Sequence[str]) -> Statuses:
    """Read the items of these tasks by id (`BatchGetItem`); ids without an item have no row.

    Strongly consistent: what one read saw as final, the next one must not see as open.
    """
    with ThreadPoolExecutor(1) as gatherer:
        return Statuses(*columns.frames_of([columns.gather(_pages_by_id(stack, task_ids, _GOT), gatherer)]))


def items(stack: Stack, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Read the items of these keys as plain Python values, strongly consistent, each once.

    Raises `NotDone` where the table stays throttled.
    """
    for page in _pages_by_id(stack, keys, None):
        yield from read_items(page)


def window(stack: Stack, since: datetime, until: datetime | None = None) -> Statuses:
    """Read the tasks whose last change lies in [since, until], by the index, its shards side by side; never a scan.

    `until` defaults to now. Raises `BadInput` for naive datetimes or where the stack has no index by time.
    """
    request, client = _by_time(stack, since, until), stack.target.client("dynamodb")

    def read(shard: int) -> list[columns.Columns]:
        # Pages become columns as they come, so that no more than one is held of each shard.
        return columns.gather(wire.query(client, _QUERIED, request(shard)), gatherer)

    with ThreadPoolExecutor(1) as gatherer, ThreadPoolExecutor(N_SHARDS) as pool:
        return Statuses(*columns.frames_of(pool.map(read, range(N_SHARDS))))


def changed(
    stack: Stack, since: datetime, until: datetime | None = None, **projection: Any
) -> Iterator[dict[str, Any]]:
    """Read the items whose last change lies in [since, until], as `window` does; `projection` as boto3's.

    What is projected may name the attributes by `#at` (timestamp), `#status` and their own names.
    """
    request, client = _by_time(stack, since, until, **projection), stack.target.client("dynamodb")
    with ThreadPoolExecutor(N_SHARDS) as pool:
        for pages in pool.map(lambda shard: list(wire.query(client, None, request(shard))), range(N_SHARDS)):
            for page in pages:
                yield from read_items(page)


def wait(
    stack: Stack, task_ids: Sequence[str], timeout_s: float, *, progress: bool = True, note: Note = lambda *_: None
) -> Waited:
    """Wait until every task is completed or dead-lettered, the deadline passes, or nothing is left that could run.

    Reads by id, the open ones only, at intervals that grow with their number; `note` is given what is seen meanwhile.
    Raises nothing for open tasks: the ledger says what they are.
    """
    start = time.monotonic()
    open_, final = list(task_ids), Counter[State]()
    busy_at = start
    with attended.bar(len(open_), "task", "final", progress=progress) as bar:
        while True:
            asked_at = time.monotonic()
            states = _states(stack, open_)
            open_ = [task_id for task_id in open_ if states[task_id] not in _FINAL]
            final += Counter(state for state in states.values() if state in _FINAL)
            bar.update(len(task_ids) - len(open_) - bar.n)
            now, counts = time.monotonic(), queues.counts(stack)
            note(counts, final + Counter(states[task_id] for task_id in open_))
            if counts.n_unsettled:
                busy_at = now
            why = _why_stop(len(open_), now - start > timeout_s, now - busy_at > IDLE_S)
            if why:
                return Waited(
                    n_final=len(task_ids) - len(open_), n_open=len(open_), waited_s=round(now - start, 1), why=why
                )
            # At most a quarter of the time is spent asking; the table has work to do.
            pause_s = min(max(0.5, 3 * (now - asked_at)), 10.0, max(0.1, timeout_s - (now - start)))
            _pause(stack, pause_s, note)


def _pause(stack: Stack, pause_s: float, note: Note) -> None:
    """Wait so long; the queues, which cost little to count, are noted every second of it."""
    end = time.monotonic() + pause_s
    while (left_s := end - time.monotonic()) > 1.5:
        time.sleep(1.0)
        note(queues.counts(stack), None)
    time.sleep(max(0.0, left_s))


def _why_stop(n_open: int, late: bool, idle: bool) -> str | None:  # noqa: FBT001 - three facts, no switches
    if not n_open:
        return "all final"
    if late:
        return "deadline"
    return "queue empty" if idle else None


def _states(stack: Stack, task_ids: Sequence[str]) -> dict[str, State]:
    """Return the state of each of these tasks, in their order; one without an item is pending."""
    names = {"#status": "status"}
    states = dict.fromkeys(task_ids, State.PENDING)
    for page in _pages_by_id(
        stack,
        task_ids,
        _GOT_STATE,
        ProjectionExpression="taskId, #status, deadLettered",
        ExpressionAttributeNames=names,
    ):
        states |= columns.states_of(page)
    return states


def _pages_by_id(
    stack: Stack, keys: Sequence[str], decoder: wire.Decoder | None, **projection: Any
) -> Iterator[Sequence[Any]]:
    """Yield the items of these keys, each once, strongly consistent, a page an answer."""
    client, keys = stack.target.client("dynamodb"), list(dict.fromkeys(keys))

    def read(begin: int) -> list[Sequence[Any]]:
        some = [{"taskId": {"S": key}} for key in keys[begin : begin + wire.KEYS_PER_REQUEST]]
        return list(wire.batch_get(client, decoder, stack.table, {"Keys": some, "ConsistentRead": True, **projection}))

    with ThreadPoolExecutor(N_THREADS) as pool:
        for pages in pool.map(read, range(0, len(keys), wire.KEYS_PER_REQUEST)):
            yield from pages


def _by_time(
    stack: Stack, since: datetime, until: datetime | None, **projection: Any
) -> Callable[[int], dict[str, Any]]:
    """Return what to ask each shard of the index for: what changed in [since, until].

    Raises `BadInput` for naive datetimes or where the stack has no index by time.
    """
    until = until or datetime.now(UTC)
    if since.tzinfo is None or until.tzinfo is None or since > until:
        raise BadInput("A time window needs two datetimes with a time zone, the earlier one first.")
    if stack.time_index is None:
        raise BadInput(
            f"Stack {stack.name!r} has no index by time (TimeIndex=false), and a scan is never made unasked.",
            "Read by ids, or deploy with TimeIndex=true; the index then fills by itself.",
        )
    values = {":since": {"N": f"{since.timestamp():.3f}"}, ":until": {"N": f"{until.timestamp():.3f}"}}
    names = {"#at": "timestamp", "#shard": "shard"} | ({"#status": "status"} if projection else {})
    return lambda shard: {
        "TableName": stack.table,
        "IndexName": stack.time_index,
        "KeyConditionExpression": "#shard = :shard AND #at BETWEEN :since AND :until",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": {":shard": {"N": str(shard)}, **values},
        **projection,
    }
