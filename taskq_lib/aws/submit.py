"""Send tasks, each to its queue: packed by count and bytes, requests side by side; what was sent survives a kill."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypedDict

import msgspec
import numpy as np
import pandas as pd

from taskq_lib import attended
from taskq_lib.aws import routing, sends
from taskq_lib.aws.limit import Limit
from taskq_lib.aws.stack import Stack
from taskq_lib.errors import BadInput, NotDone
from taskq_lib.lock import alone
from taskq_worker.contract import MAX_BODY_BYTES, InvalidMessage, Task

if TYPE_CHECKING:
    from tqdm import tqdm

BATCH_SIZE = 10  # SQS SendMessageBatch takes no more
#: What one core can pack and sign, about 1,000 requests a second, keeps so many in flight at 60 ms a request.
MAX_REQUESTS = 64
N_TRIES = 8
#: A batch waits no longer to be filled while tasks for the other queue are packed.
MAX_HELD_S = 0.1

_AGAIN = "Run the same again with the same run id: it sends what is missing, and nothing twice that was acknowledged."

#: The widest number that a body can hold as enqueued_at, for checking sizes before the time is known.
_WIDEST_TIME = 4_102_444_799.999
_TIME_BYTES = len(f"{_WIDEST_TIME!r}}}")
#: Data of more characters are measured as a body before they are sent: escaped, one may take 12 bytes.
MAX_COPIED = 80_000

#: Several times as quick as `json.loads`; what it refuses, infinite numbers for one, is judged the slow way.
_decode = msgspec.json.Decoder().decode

Envelope = Callable[..., Mapping[str, str]]  #: (task id, group or None, default_group=...) -> what SQS is told


class Address(NamedTuple):
    """Where a task is sent, and what SQS is told beside its body (`routing.envelope`)."""

    url: str
    envelope: Mapping[str, str]


class Entry(TypedDict):
    """A message of a batch; enqueued_at in Unix seconds."""

    task_id: str
    enqueued_at: float
    body: str
    envelope: Mapping[str, str]


class Message(NamedTuple):
    """A task that is ready to be sent, but for the time."""

    task_id: str
    url: str
    envelope: Mapping[str, str]
    head: str  #: The body up to its last field, the time (`body_head`)
    offset_s: float  #: When it is due, in seconds from the start

    def entry(self, enqueued_at: float) -> Entry:
        """Return what goes into a batch at this time, in Unix seconds."""
        at = round(enqueued_at, 3)
        return {"task_id": self.task_id, "enqueued_at": at, "body": f"{self.head}{at!r}}}", "envelope": self.envelope}


def address(stack: Stack, task: Task, group: str | None = None) -> Address:
    """Say where a task is sent: the queue that takes its priority or type, and its message group.

    On a FIFO stack the group is the task's type where none is given, and the deduplication id its task id, unless the
    stack's FifoDeduplication is `content`: then SQS makes it from the body. That holds `enqueued_at`, so a task that
    is submitted again differs and is not dropped; only the same request, sent again by the AWS SDK, is.
    """
    envelope = _envelope(stack)(task.task_id, group, default_group=task.type)
    return Address(stack.queue_for(task.type, task.priority).url, envelope)


def _envelope(stack: Stack) -> Envelope:
    by_content = stack.parameters.get("FifoDeduplication") == "content"
    return partial(routing.envelope, is_fifo=stack.is_fifo, by_content=by_content)


def send_one(stack: Stack, task: Task, group: str | None = None) -> str:
    """Send one task, in message group `group` if given; returns the id that SQS gave its message.

    Raises `BadInput` where the task breaks the contract, or SQS does not take the group.
    """
    try:
        body = task.to_body()
    except InvalidMessage as error:
        raise BadInput(f"The task cannot be sent: {error}.") from error
    url, envelope = address(stack, task, None if group is None else routing.check_group(group))
    answer = stack.target.client("sqs").send_message(QueueUrl=url, MessageBody=body, **envelope)
    message_id: str = answer["MessageId"]
    return message_id


def send(stack: Stack, manifest: Path, run_id: str, *, progress: bool = True) -> pd.DataFrame:
    """Send the tasks of the manifest file that are not acknowledged yet: all of them, or what a kill left of them.

    A task is enqueued when it is handed to a request, or, with arrivals over time (`offset_s` above 0), when it was
    meant to arrive: a submitter that falls behind must not hide the wait it causes (coordinated omission). Resumed,
    the first task that is missing is due at once and the others keep their distance from it.

    To FIFO queues one request is sent at a time, since the order of requests in flight is not known. A message that
    SQS refuses for its own reasons and takes at a later try comes behind those of its batch that were taken.

    What SQS acknowledges is in the journal beside the manifest at once. A message whose answer was lost is sent a
    second time, at most 10 for each request in flight; the function takes the second for a duplicate.

    Returns one row a message, earlier calls' too: task_id, message_id (str), enqueued_at (datetime64[us, UTC]),
    n_tries (Int32); it is also written as `sends.parquet`, after an interruption with what was sent until then.
    Raises `BadInput` before anything is sent, `RunExists` where another process submits this run or it was submitted
    to another stack, `NotDone` where entries still failed after `N_TRIES` tries.
    """
    tasks = pd.read_parquet(manifest)
    _check(tasks, run_id)
    journal = manifest.with_name(sends.JOURNAL)
    with alone(manifest.with_name("submit.lock")):
        earlier = sends.sent(stack, manifest)
        rest = tasks[~tasks["task_id"].isin(earlier["task_id"])] if len(earlier) else tasks
        if rest.empty and not journal.exists():
            return earlier
        passed_s = float(rest["offset_s"].iloc[0]) if len(rest) and len(earlier) else 0.0
        messages = _messages(stack, rest, run_id, passed_s)
        bar = attended.bar(len(tasks), "task", "submit", initial=len(earlier), progress=progress)
        with sends.begin(journal, earlier) as sink:
            try:
                _Sender(stack, sink, bar).run(messages)
            finally:
                found = sends.end(journal)
        journal.unlink()
    return found


def verify(manifest: pd.DataFrame, acknowledged: pd.DataFrame) -> None:
    """Raise `NotDone` unless every task of the manifest was acknowledged once, each under its own message id."""
    missing = manifest.loc[~manifest["task_id"].isin(acknowledged["task_id"]), "task_id"]
    if len(missing):
        raise NotDone(f"{len(missing):,} tasks were not acknowledged, the first is {missing.iloc[0]}.", _AGAIN)
    if acknowledged["task_id"].duplicated().any() or acknowledged["message_id"].duplicated().any():
        raise NotDone(
            "A task was acknowledged twice, or two tasks under one message id.",
            "sends.parquet in the run's folder lists them. A task that was sent twice is done once: go on with "
            "30_status, whose ledger says whether one is missing.",
        )


class _Sender:
    """The requests in flight, each in a thread of its own, and what has come of them."""

    def __init__(self, stack: Stack, journal: IO[bytes], bar: tqdm[Any]) -> None:
        self.limit = Limit(1 if stack.is_fifo else MAX_REQUESTS)
        self.sqs = stack.target.client("sqs")
        self.journal = journal
        self.bar = bar
        self.n_in_flight = 0
        self.turn = threading.Condition()
        self.is_over = threading.Event()

    def run(self, messages: Iterable[Message]) -> None:
        """Send all messages; whatever happens, the requests in flight are awaited and counted."""
        batches = pack(messages, time.time(), self.is_over.wait)
        with self.bar, ThreadPoolExecutor(self.limit.most, thread_name_prefix="submit") as pool:
            try:
                threads = [pool.submit(self._work, batches) for _ in range(self.limit.most)]
                wait(threads, return_when=FIRST_EXCEPTION)
            finally:
                self.is_over.set()
                with self.turn:
                    self.turn.notify_all()
        for thread in threads:
            thread.result()

    def _work(self, batches: Iterator[tuple[str, list[Entry]]]) -> None:
        """Send batches until there is none left. Each thread packs its own: handing one over would cost more."""
        while batch := self._next(batches):
            n_sent = self._request(*batch)
            with self.turn:
                self.n_in_flight -= 1
                self.bar.update(n_sent)

    def _next(self, batches: Iterator[tuple[str, list[Entry]]]) -> tuple[str, list[Entry]] | None:
        """Return the next batch as soon as the limit allows one more request; None where there is none, or all ends."""
        with self.turn:
            while self.n_in_flight >= self.limit.n_requests and not self.is_over.is_set():
                self.turn.wait()
            # Packing may wait for a task to be due, so it is asked again whether all ends.
            batch = None if self.is_over.is_set() else next(batches, None)
            if batch is None or self.is_over.is_set():
                self.turn.notify_all()
                return None
            self.n_in_flight += 1
            if self.n_in_flight < self.limit.n_requests:
                self.turn.notify()
            return batch

    def _request(self, url: str, entries: list[Entry]) -> int:
        """Send one batch; entries that SQS refuses for its own reasons are sent again, alone or with each other.

        Returns how many were taken: all, unless all ends meanwhile.
        """
        open_ = {str(i): entry for i, entry in enumerate(entries)}
        for n_try in range(1, N_TRIES + 1):
            batch = [{"Id": key, "MessageBody": one["body"], **one["envelope"]} for key, one in open_.items()]
            asked_at = time.monotonic()
            answer = self.sqs.send_message_batch(QueueUrl=url, Entries=batch)
            self.limit.learn(time.monotonic() - asked_at)
            taken = [(open_.pop(done["Id"]), done["MessageId"]) for done in answer.get("Successful", [])]
            self._note([(entry["task_id"], id_, entry["enqueued_at"], n_try) for entry, id_ in taken])
            failed = answer.get("Failed", [])
            if fatal := [one for one in failed if one.get("SenderFault")]:
                raise NotDone(
                    f"SQS refuses {len(fatal)} messages, the first as {fatal[0].get('Code')}: "
                    f"{fatal[0].get('Message')} (task {open_[fatal[0]['Id']]['task_id']}).",
                    f"Correct the cause. {_AGAIN}",
                )
            if not open_ or self.is_over.wait(_pause_s(n_try)):
                return len(entries) - len(open_)
        raise NotDone(
            f"{len(open_)} messages were still refused after {N_TRIES} tries, the first for task "
            f"{next(iter(open_.values()))['task_id']}.",
            f"Look at the queue's health. {_AGAIN}",
        )

    def _note(self, rows: list[sends.Row]) -> None:
        """Add the acknowledged tasks to the journal; called by all threads, and each write is whole.

        Handed to the operating system, a line outlives this process. It is not forced to the disk: only a crash of the
        machine could take it from there, and then the task is sent a second time, which does no harm.
        """
        self.journal.write(sends.line(rows))
        self.journal.flush()


def _pause_s(n_try: int) -> float:
    """Return how long to wait after a try that SQS refused, with full jitter."""
    return random.uniform(0, min(5.0, 0.1 * 2**n_try))  # noqa: S311 - jitter, not a secret


def pack(
    messages: Iterable[Message], start: float, pause: Callable[[float], object] = time.sleep
) -> Iterator[tuple[str, list[Entry]]]:
    """Yield a queue's URL and a batch for it of at most 10 entries and 1 MiB, when its tasks are due.

    `start` is in Unix seconds. Within a queue the tasks keep their order.
    """
    open_: dict[str, _Batch] = {}
    for message in messages:
        due, now = start + message.offset_s, time.time()
        if due > now:
            yield from ((to, batch.entries) for to, batch in open_.items())
            open_ = {}
            pause(due - now)
        for to in [to for to, batch in open_.items() if time.monotonic() - batch.begun_at > MAX_HELD_S]:
            yield to, open_.pop(to).entries
        batch = open_.get(message.url)
        if batch and batch.size + len(message.head) + _TIME_BYTES > MAX_BODY_BYTES:
            yield message.url, batch.entries
            batch = None
        if batch is None:
            batch = open_[message.url] = _Batch()
        # Whoever took the batches above may have been long about it: the time is taken now.
        batch.add(message.entry(due if message.offset_s else time.time()))
        if len(batch.entries) == BATCH_SIZE:
            yield message.url, open_.pop(message.url).entries
    yield from ((to, batch.entries) for to, batch in open_.items())


class _Batch:
    """The entries of one request, and their bytes: bodies are ASCII."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.size = 0
        self.begun_at = time.monotonic()

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.size += len(entry["body"])


def _messages(stack: Stack, manifest: pd.DataFrame, run_id: str, passed_s: float) -> Iterator[Message]:
    """Return the messages for checked rows of the manifest, `passed_s` after their time; made as they are asked for.

    Groups and queues are checked for all of them at once. A manifest of an earlier version has no groups.
    """
    if "message_group" not in manifest:
        manifest = manifest.assign(message_group=None)
    for group in manifest["message_group"].dropna().unique():
        _ = group and routing.check_group(group)
    kinds = manifest[["task_type", "priority"]].drop_duplicates().itertuples(index=False)
    urls = {(kind, priority): stack.queue_for(kind, priority).url for kind, priority in kinds}
    return _made(manifest, run_id, passed_s, urls, _envelope(stack))


def _made(
    manifest: pd.DataFrame, run_id: str, passed_s: float, urls: Mapping[tuple[str, int], str], envelope: Envelope
) -> Iterator[Message]:
    for _, rows in _parts(manifest):
        columns = [rows[name].tolist() for name in ("task_id", "task_type", "priority", "data", "offset_s")]
        groups = rows["message_group"].astype("object").where(rows["message_group"].notna(), None).tolist()
        for task_id, kind, priority, data, offset_s, group in zip(*columns, groups, strict=True):
            yield Message(
                task_id,
                urls[kind, priority],
                envelope(task_id, group, default_group=kind),
                body_head(task_id, kind, data, priority, run_id),
                offset_s - passed_s,
            )


def body_head(task_id: str, kind: str, data: str, priority: int, run_id: str) -> str:
    """Return the body of a checked task, up to the time: what `Task.to_body` writes, but for spaces in `data`.

    That is JSON already. It is written anew where that may matter: SQS takes 1 MiB, and not every character.
    """
    if len(data) > MAX_COPIED or not data.isascii():
        data = json.dumps(json.loads(data), separators=(",", ":"))
    # An id's characters are such that JSON writes as they are.
    start = f'{{"task_id":"{task_id}","type":{_quoted(kind)},"data":{data}'
    return f'{start},"priority":{priority},"run_id":"{run_id}","enqueued_at":'


_quoted = cache(json.dumps)


def _check(manifest: pd.DataFrame, run_id: str) -> None:
    """Raise `BadInput` unless every row of the manifest is a task that can be sent."""
    timeless = manifest.loc[~np.isfinite(manifest["offset_s"]), "task_id"]
    if len(timeless):
        raise BadInput(
            f"Task {timeless.iloc[0]!r} cannot be sent: its offset_s is no number.",
            "Give each task of the manifest its arrival after the start of the run, in seconds; 0 in a burst.",
        )
    for first, rows in _parts(manifest):
        columns = [rows[name].tolist() for name in ("task_id", "task_type", "priority", "data")]
        for row, (task_id, kind, priority, data) in enumerate(zip(*columns, strict=True), first):
            try:
                Task(task_id=task_id, type=kind, data=_decode(data), priority=priority, run_id=run_id)
                is_plain = len(data) <= MAX_COPIED
            except (InvalidMessage, msgspec.DecodeError, TypeError, RecursionError):
                is_plain = False
            if not is_plain:
                _check_body(row, task_id, kind, priority, data, run_id)


def _check_body(row: int, task_id: str, kind: str, priority: int, data: str, run_id: str) -> None:
    """Raise `BadInput` unless a task can be sent: the slow way, which says why not."""
    try:
        task = Task(task_id=task_id, type=kind, data=json.loads(data), priority=priority, run_id=run_id)
        replace(task, enqueued_at=_WIDEST_TIME).to_body()
    except (InvalidMessage, ValueError, TypeError, RecursionError) as error:
        raise BadInput(f"Task {task_id!r} (row {row} of the manifest) cannot be sent: {error}.") from error


def _parts(frame: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield some rows at a time and the first's number: as Python objects all would take several times the memory."""
    for first in range(0, len(frame), sends.N_ROWS_AT_A_TIME):
        yield first, frame.iloc[first : first + sends.N_ROWS_AT_A_TIME]
