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
from tqdm import tqdm

from taskq_lib.aws import queues
from taskq_lib.aws.frames import attempts_frame, read_items, state_of, tasks_frame
from taskq_lib.aws.queues import Counts
from taskq_lib.aws.stack import Stack
from taskq_lib.errors import BadInput, NotDone
from taskq_worker.contract import N_SHARDS, State

KEYS_PER_REQUEST = 100  # BatchGetItem takes no more
N_THREADS = 8
N_TRIES = 10
#: SQS's counts are approximate and settle within about a minute; only after this long is an empty queue believed.
IDLE_S = 60.0
_FINAL = {State.COMPLETED, State.DEAD_LETTERED}

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
    found = list(items(stack, task_ids))
    return Statuses(tasks_frame(found), attempts_frame(found))


def items(stack: Stack, keys: Sequence[str], **projection: Any) -> Iterator[dict[str, Any]]:
    """Read the items of these keys as plain Python values, strongly consistent, each once; `projection` as boto3's.

    Raises `NotDone` where the table stays throttled.
    """
    keys = list(dict.fromkeys(keys))
    chunks = [keys[i : i + KEYS_PER_REQUEST] for i in range(0, len(keys), KEYS_PER_REQUEST)]
    with ThreadPoolExecutor(N_THREADS) as pool:
        for found in pool.map(lambda chunk: _batch_get(stack, chunk, projection), chunks):
            yield from read_items(found)


def window(stack: Stack, since: datetime, until: datetime | None = None) -> Statuses:
    """Read the tasks whose last change lies in [since, until], by the index, its shards side by side; never a scan.

    `until` defaults to now. Raises `BadInput` for naive datetimes or where the stack has no index by time.
    """
    found = list(changed(stack, since, until))
    return Statuses(tasks_frame(found), attempts_frame(found))


def changed(
    stack: Stack, since: datetime, until: datetime | None = None, **projection: Any
) -> Iterator[dict[str, Any]]:
    """Read the items whose last change lies in [since, until], as `window` does; `projection` as boto3's.

    What is projected may name the attributes by `#at` (timestamp), `#status` and their own names.
    """
    until = until or datetime.now(UTC)
    if since.tzinfo is None or until.tzinfo is None or since > until:
        raise BadInput("A time window needs two datetimes with a time zone, the earlier one first.")
    if stack.time_index is None:
        raise BadInput(
            f"Stack {stack.name!r} has no index by time (TimeIndex=false), and a scan is never made unasked.",
            "Read by ids, or deploy with TimeIndex=true; the index then fills by itself.",
        )
    with ThreadPoolExecutor(N_SHARDS) as pool:
        for found in pool.map(lambda shard: _query(stack, shard, (since, until), projection), range(N_SHARDS)):
            yield from read_items(found)


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
    with tqdm(total=len(open_), unit="task", desc="final", disable=not progress) as bar:
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
    found = items(stack, task_ids, ProjectionExpression="taskId, #status, deadLettered", ExpressionAttributeNames=names)
    return dict.fromkeys(task_ids, State.PENDING) | {item["taskId"]: state_of(item) for item in found}


def _batch_get(stack: Stack, task_ids: Sequence[str], projection: dict[str, Any]) -> list[dict[str, Any]]:
    """Read up to 100 items; keys that DynamoDB left unprocessed are asked for again, ever more slowly."""
    dynamodb = stack.target.client("dynamodb")
    request = {
        stack.table: {
            "Keys": [{"taskId": {"S": task_id}} for task_id in task_ids],
            "ConsistentRead": True,
            **projection,
        }
    }
    found: list[dict[str, Any]] = []
    for n_try in range(N_TRIES):
        answer = dynamodb.batch_get_item(RequestItems=request)
        found += answer["Responses"].get(stack.table, [])
        request = answer.get("UnprocessedKeys", {})
        if not request:
            return found
        time.sleep(min(5.0, 0.05 * 2**n_try))
    raise NotDone(
        f"Table {stack.table} left keys unread after {N_TRIES} tries: it is throttled.",
        "Wait a minute and run it again; a new on-demand table serves 12,000 read units a second at first.",
    )


def _query(
    stack: Stack, shard: int, window: tuple[datetime, datetime], projection: Mapping[str, Any]
) -> list[dict[str, Any]]:
    names = {"#at": "timestamp", "#shard": "shard"} | ({"#status": "status"} if projection else {})
    pages = (
        stack.target.client("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=stack.table,
            IndexName=stack.time_index,
            KeyConditionExpression="#shard = :shard AND #at BETWEEN :since AND :until",
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={
                ":shard": {"N": str(shard)},
                ":since": {"N": f"{window[0].timestamp():.3f}"},
                ":until": {"N": f"{window[1].timestamp():.3f}"},
            },
            **projection,
        )
    )
    return [item for page in pages for item in page["Items"]]
