"""Send tasks, each to its queue: packed by count and bytes, requests side by side; what was sent survives a kill."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple, TypedDict

import pandas as pd
from tqdm import tqdm

from taskq_lib.aws import routing, sends
from taskq_lib.aws.stack import Stack
from taskq_lib.errors import BadInput, NotDone
from taskq_lib.lock import alone
from taskq_worker.contract import MAX_BODY_BYTES, InvalidMessage, Task

BATCH_SIZE = 10  # SQS SendMessageBatch takes no more
#: One request takes about 20 ms on AWS and a client's threads share one core: more of them gain little.
MAX_REQUESTS = 16
N_TRIES = 8
#: A batch waits no longer to be filled while tasks for the other queue are packed.
MAX_HELD_S = 0.1

_AGAIN = "Run the same again with the same run id: it sends what is missing, and nothing twice that was acknowledged."

#: The widest number that a body can hold as enqueued_at, for checking sizes before the time is known.
_WIDEST_TIME = 4_102_444_799.999


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


def address(stack: Stack, task: Task, group: str | None = None) -> Address:
    """Say where a task is sent: the queue that takes its priority or type, and its message group.

    On a FIFO stack the group is the task's type where none is given, and the deduplication id its task id, unless the
    stack's FifoDeduplication is `content`: then SQS makes it from the body. That holds `enqueued_at`, so a task that
    is submitted again differs and is not dropped; only the same request, sent again by the AWS SDK, is.
    """
    by_content = stack.parameters.get("FifoDeduplication") == "content"
    envelope = routing.envelope(
        task.task_id, group, default_group=task.type, is_fifo=stack.is_fifo, by_content=by_content
    )
    return Address(stack.queue_for(task.type, task.priority).url, envelope)


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
    manifested = pd.read_parquet(manifest)
    tasks = _tasks(manifested, run_id)
    journal = manifest.with_name(sends.JOURNAL)
    with alone(manifest.with_name("submit.lock")):
        earlier = sends.sent(stack, manifest)
        known = set(earlier["task_id"])
        rows = zip(tasks, _addresses(stack, manifested, tasks), manifested["offset_s"], strict=True)
        rest = [one for one in rows if one[0].task_id not in known]
        if not rest and not journal.exists():
            return earlier
        passed_s = rest[0][2] if rest and known else 0.0
        bar = tqdm(total=len(tasks), initial=len(known), unit="task", desc="submit", disable=not progress)
        with sends.begin(journal, earlier) as sink:
            try:
                batches = pack(
                    [task for task, _, _ in rest],
                    [offset - passed_s for _, _, offset in rest],
                    time.time(),
                    [to for _, to, _ in rest],
                )
                _Sender(stack, sink, bar).run(batches)
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
    """The requests in flight and what has come of them."""

    def __init__(self, stack: Stack, journal: IO[bytes], bar: tqdm[Any]) -> None:
        self.limit = _Limit(1 if stack.is_fifo else MAX_REQUESTS)
        self.sqs = stack.target.client("sqs")
        self.journal = journal
        self.bar = bar

    def run(self, batches: Iterator[tuple[str, list[Entry]]]) -> None:
        """Send all batches, as `pack` makes them; whatever happens, the requests in flight are awaited and counted."""
        in_flight: set[Future[int]] = set()
        with self.bar, ThreadPoolExecutor(MAX_REQUESTS, thread_name_prefix="submit") as pool:
            try:
                for url, entries in batches:
                    in_flight.add(pool.submit(self._request, url, entries))
                    while len(in_flight) >= self.limit.n_requests:
                        in_flight = self._collect(in_flight)
            finally:
                while in_flight:
                    in_flight = self._collect(in_flight)

    def _collect(self, in_flight: set[Future[int]]) -> set[Future[int]]:
        done, rest = wait(in_flight, return_when=FIRST_COMPLETED)
        for future in done:
            self.bar.update(future.result())
        return rest

    def _request(self, url: str, entries: list[Entry]) -> int:
        """Send one batch; entries that SQS refuses for its own reasons are sent again, alone or with each other."""
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
            if not open_:
                return len(entries)
            time.sleep(random.uniform(0, min(5.0, 0.1 * 2**n_try)))  # noqa: S311 - jitter, not a secret
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


class _Limit:
    """How many requests to keep in flight: as many as the endpoint serves side by side, and no more.

    Requests beyond that wait in the endpoint and slow down whoever else uses it, the function above all. Answers that
    take much longer than the quickest one show it (after TCP Vegas, Brakmo and Peterson, 1995): the limit shrinks by
    their ratio, and a little is added so that it can grow again.
    """

    #: Answers on a network vary by about this factor without anything waiting.
    TOLERANCE = 2.0

    def __init__(self, most: int) -> None:
        self.quickest_s = float("inf")
        self.most = most
        self.limit = min(2.0, most)

    @property
    def n_requests(self) -> int:
        return int(self.limit)

    def learn(self, took_s: float) -> None:
        """Take one more answer's time into account; called by all threads, where a lost update does no harm."""
        self.quickest_s = min(self.quickest_s, took_s)
        served = self.limit * min(1.0, self.TOLERANCE * self.quickest_s / max(took_s, 1e-6)) + 1.0
        self.limit = min(max(1.0, 0.9 * self.limit + 0.1 * served), self.most)


def pack(
    tasks: Sequence[Task], offsets: Sequence[float], start: float, addresses: Sequence[Address]
) -> Iterator[tuple[str, list[Entry]]]:
    """Yield a queue's URL and a batch for it of at most 10 entries and 1 MiB, when its tasks are due.

    `start` is in Unix seconds. Within a queue the tasks keep their order.
    """
    open_: dict[str, _Batch] = {}
    for task, offset, (url, envelope) in zip(tasks, offsets, addresses, strict=True):
        due = start + offset
        if due > time.time():
            yield from ((to, batch.entries) for to, batch in open_.items())
            open_ = {}
            time.sleep(max(0.0, due - time.time()))
        for to in [to for to, batch in open_.items() if time.monotonic() - batch.begun_at > MAX_HELD_S]:
            yield to, open_.pop(to).entries
        entry = _entry(task, due if offset else time.time(), envelope)
        batch = open_.setdefault(url, _Batch())
        if not batch.has_room(entry):
            yield url, batch.entries
            batch = open_[url] = _Batch()
        batch.add(entry)
    yield from ((to, batch.entries) for to, batch in open_.items())


class _Batch:
    """The entries of one request, and their bytes: bodies are ASCII."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.size = 0
        self.begun_at = time.monotonic()

    def has_room(self, entry: Entry) -> bool:
        return not self.entries or (len(self.entries) < BATCH_SIZE and self.size + len(entry["body"]) <= MAX_BODY_BYTES)

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.size += len(entry["body"])


def _entry(task: Task, enqueued_at: float, envelope: Mapping[str, str]) -> Entry:
    enqueued_at = round(enqueued_at, 3)
    body = replace(task, enqueued_at=enqueued_at).to_body()
    return {"task_id": task.task_id, "enqueued_at": enqueued_at, "body": body, "envelope": envelope}


def _addresses(stack: Stack, manifest: pd.DataFrame, tasks: Sequence[Task]) -> list[Address]:
    """Say where each task is sent, all before the first is; a manifest of an earlier version has no groups."""
    if "message_group" not in manifest:
        return [address(stack, task) for task in tasks]
    groups = manifest["message_group"].astype("object").where(manifest["message_group"].notna(), None)
    return [
        address(stack, task, group and routing.check_group(group)) for task, group in zip(tasks, groups, strict=True)
    ]


def _tasks(manifest: pd.DataFrame, run_id: str) -> list[Task]:
    """Read the manifest's rows as tasks; all are checked before the first is sent."""
    rows = zip(
        manifest["task_id"].tolist(), manifest["task_type"].tolist(), manifest["priority"].tolist(),
        manifest["data"].tolist(), strict=True,
    )  # fmt: skip
    tasks = []
    for index, (task_id, kind, priority, data) in enumerate(rows):
        try:
            task = Task(task_id=task_id, type=kind, data=json.loads(data), priority=priority, run_id=run_id)
            replace(task, enqueued_at=_WIDEST_TIME).to_body()
        except (InvalidMessage, ValueError) as error:
            raise BadInput(f"Task {task_id!r} (row {index} of the manifest) cannot be sent: {error}.") from error
        tasks.append(task)
    return tasks
