"""What the model of the bill predicts from a run's frames is what the run really asked for, counted as it ran.

The function runs in the test's own process; each of its requests, the submitter's and the mapping's, which the test
plays, is seen as it leaves. Write units are compared with what the engine says of the same change of the same item.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taskq_lib.analysis import requests, usage, writes
from taskq_lib.analysis.claims import classify
from taskq_lib.aws import status, submit
from taskq_lib.aws.stack import Stack
from taskq_lib.report import cost
from taskq_worker import batch
from taskq_worker.contract import Task
from taskq_worker.store import StatusStore
from tests.integration.function import Function
from tests.unit.events import deliveries, task

pytestmark = pytest.mark.integration

Code = Callable[[Callable[[], Any]], None]
Workers = Callable[..., StatusStore]
Item = dict[str, Any]


#: Lines of the log whose bytes are billed by our own doing.
EVENTS = ("taskq.attempt", "taskq.metrics")


class Meter:
    """Counts requests and, of each statement that the function sends, what it did to its item."""

    def __init__(self, stack: Stack, function: Function) -> None:
        """Begin to count."""
        self.dynamodb, self.table = stack.target.client("dynamodb"), stack.table
        self.sqs = Counter[tuple[str, str]]()
        self.of_function = function
        #: INSERT or UPDATE, the code of its refusal, the item before and after
        self.statements: list[tuple[str, str | None, Item | None, Item | None]] = []
        self._before: list[Item | None] = []
        self._events = function.sqs.meta.events
        self._events.register("before-call.sqs", self._note, unique_id="meter")
        own = batch.client("dynamodb").meta.events
        own.register("before-parameter-build.dynamodb.BatchExecuteStatement", self._look)
        own.register("after-call.dynamodb.BatchExecuteStatement", self._judge)

    def stop(self) -> None:
        """Leave the client that all tests share."""
        self._events.unregister("before-call.sqs", unique_id="meter")

    def read(self, task_id: str) -> Item | None:
        """Return an item in DynamoDB's own form."""
        found = self.dynamodb.get_item(TableName=self.table, Key={"taskId": {"S": task_id}}, ConsistentRead=True)
        item: Item | None = found.get("Item")
        return item

    def counted(self) -> dict[tuple[str, str], int]:
        """Return the requests by who sent them and their operation."""
        of_function = Counter((requests.FUNCTION, name) for name, _ in self.of_function.calls)
        return dict(of_function + self.sqs)

    def _note(self, model: Any, **_: Any) -> None:
        # What else goes through the client that all share are the test's own requests.
        self.sqs[requests.PRODUCER, model.name] += model.name == "SendMessageBatch"

    def _look(self, params: dict[str, Any], **_: Any) -> None:
        self._asked = params["Statements"]
        self._before = [self.read(named(one)) for one in self._asked]

    def _judge(self, parsed: dict[str, Any], **_: Any) -> None:
        for one, before, answer in zip(self._asked, self._before, parsed["Responses"], strict=True):
            refused = answer.get("Error", {}).get("Code")
            self.statements.append((one["Statement"].split()[0], refused, before, self.read(named(one))))


def named(statement: Item) -> str:
    """Return the id of the item that a statement names."""
    before, _, _ = statement["Statement"].partition('"taskId" = ?')
    place = before.count("?") if statement["Statement"].startswith("UPDATE") else 0
    name: str = statement["Parameters"][place]["S"]
    return name


class Mapping:
    """What hands the queue's messages to the function and deletes what it has done, as the mapping does."""

    def __init__(self, function: Function, meter: Meter) -> None:
        """Take from the function's queue."""
        self.function, self.sqs, self.queue, self.counts = function, function.sqs, function.queue, meter.sqs

    def drain(self, size: int = 10) -> None:
        """Run batches of `size` until nothing is left."""
        while self.once(size):
            pass

    def once(self, size: int = 10) -> int:
        """Run one batch; returns how many messages were in it."""
        found = self.take(size)
        if found:
            again = self.function.run({"Records": [record(message, self.function.source) for message in found]})
            done = [one for one in found if one["MessageId"] not in again]
            entries = [{"Id": str(i), "ReceiptHandle": one["ReceiptHandle"]} for i, one in enumerate(done)]
            if entries:
                self.counts[requests.MAPPING, "DeleteMessageBatch"] += 1
                self.sqs.delete_message_batch(QueueUrl=self.queue, Entries=entries)
        return len(found)

    def take(self, size: int, **options: Any) -> list[Item]:
        """Receive up to `size` messages; a request that brings none is not one of the run's."""
        found: list[Item] = self.sqs.receive_message(
            QueueUrl=self.queue,
            MaxNumberOfMessages=size,
            MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
            MessageAttributeNames=["All"],
            **options,
        ).get("Messages", [])
        self.counts[requests.MAPPING, "ReceiveMessage"] += bool(found)
        return found


def record(message: Item, source: str) -> Item:
    """Return a message as Lambda hands it over."""
    attributes = message.get("MessageAttributes", {}).items()
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "eventSourceARN": source,
        "messageAttributes": {
            name: {"stringValue": value.get("StringValue"), "dataType": value["DataType"]} for name, value in attributes
        },
    }


@pytest.fixture
def meter(stack: Stack, function: Function) -> Iterator[Meter]:
    """Counts what this test's function asks for."""
    made = Meter(stack, function)
    yield made
    made.stop()


def manifest_of(tasks: list[Task]) -> pd.DataFrame:
    """Return tasks as a manifest."""
    frame = pd.DataFrame(
        {
            "task_id": [one.task_id for one in tasks],
            "task_type": pd.Categorical([one.type for one in tasks]),
            "priority": pd.array([one.priority for one in tasks], dtype="Int8"),
            "data": [json.dumps(one.data, separators=(",", ":")) for one in tasks],
            "offset_s": 0.0,
        }
    )
    return frame.astype({"task_id": "str", "data": "str"})


def submitted(stack: Stack, function: Function, tasks: list[Task], folder: Path, run_id: str) -> pd.DataFrame:
    """Send tasks by the kit's own submitter to the function's queue; returns what SQS acknowledged."""
    manifest = folder / "manifest.parquet"
    manifest_of(tasks).to_parquet(manifest)
    there = replace(stack, outputs={**stack.outputs, "QueueUrl": function.queue})
    return submit.send(there, manifest, run_id, progress=False)


def the_run(run_id: str) -> list[Task]:
    """Return tasks of all fates: completed, failed once, failed for good, with errors and bodies long and short."""
    kinds: list[tuple[str, int, Item]] = [
        ("ok", 23, {}),
        ("transient", 6, {"fail_attempts": 1}),
        ("permanent", 4, {"fail_attempts": -1}),
        ("hopeless", 3, {"fail_attempts": -1, "retryable": False, "error": "CorruptInput"}),
    ]
    tasks = [
        task(f"{run_id}-{name}-{i}", simulate=simulate, run_id=run_id) for name, n, simulate in kinds for i in range(n)
    ]
    tasks += [Task(task_id=f"{run_id}-own-{i}", type="OWN", data={}, run_id=run_id) for i in range(3)]
    return [*tasks, task(f"{run_id}-big", data={"to": "e" * 200_000}, run_id=run_id)]


def predicted(found: status.Statuses, sends: pd.DataFrame, tasks: list[Task], run_id: str) -> pd.DataFrame:
    """Return the requests that the model makes of what the run left."""
    bodies = cost.body_bytes(manifest_of(tasks), run_id)
    batches = requests.of_batches(found.tasks, classify(found.tasks, found.attempts), bodies)
    return requests.of_run(batches, sends, bodies, is_burst=True)


def by_operation(frame: pd.DataFrame) -> dict[tuple[str, str], int]:
    """Return the number of requests by who sent them and their operation."""
    return {(by, what): int(n) for by, what, n in frame[["by", "operation", "n"]].itertuples(index=False) if n}


def engine_units(stack: Stack, meter: Meter) -> tuple[int, int]:
    """Return the write units of the table and the index that the engine charges for the same changes of items.

    It charges a flat unit for a statement of PartiQL, so each change is made again by PutItem, in a table alike.
    """
    client, table = stack.target.client("dynamodb"), f"again-{id(meter)}"
    keys = [{"AttributeName": "shard", "KeyType": "HASH"}, {"AttributeName": "timestamp", "KeyType": "RANGE"}]
    client.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "taskId", "KeyType": "HASH"}],
        AttributeDefinitions=[
            {"AttributeName": "taskId", "AttributeType": "S"},
            {"AttributeName": "shard", "AttributeType": "N"},
            {"AttributeName": "timestamp", "AttributeType": "N"},
        ],
        GlobalSecondaryIndexes=[{"IndexName": "by-time", "KeySchema": keys, "Projection": {"ProjectionType": "ALL"}}],
    )
    of_table = of_index = 0
    for _what, refused, before, after in meter.statements:
        for image in (before, after):
            if image is not None:
                put = client.put_item(TableName=table, Item=image, ReturnConsumedCapacity="INDEXES")["ConsumedCapacity"]
        # A refused statement is charged for the item that is there: as if it were written once more.
        of_table += round(put["Table"]["CapacityUnits"])
        of_index += (
            0 if refused else sum(round(one["CapacityUnits"]) for one in put.get("GlobalSecondaryIndexes", {}).values())
        )
        client.delete_item(TableName=table, Key={"taskId": (after or before or {})["taskId"]})
    client.delete_table(TableName=table)
    return of_table, of_index


Whole = tuple[status.Statuses, pd.DataFrame, list[Task]]


@pytest.fixture
def whole(  # noqa: PLR0917 - fixtures
    stack: Stack, function: Function, meter: Meter, code: Code, worker: Workers, run_id: str, tmp_path: Path
) -> Whole:
    """A run with every fate: retries, dead letters, duplicates, workers that vanish, an invalid message, a redrive."""
    code(lambda: {"text": "x" * 1500})
    tasks, mapping = the_run(run_id), Mapping(function, meter)
    sends = submitted(stack, function, tasks, tmp_path, run_id)
    mapping.drain()
    # Workers that vanish: after the first attempt of one task, and after every attempt of another.
    gone = [task(f"{run_id}-gone-{i}", run_id=run_id) for i in range(2)]
    more = submitted(stack, function, gone, made(tmp_path / "gone"), run_id)
    for one, n_lost in zip(gone, (1, 3), strict=True):
        for n in range(n_lost):
            mapping.take(10, VisibilityTimeout=0)
            vanish(worker(f"{one.task_id}-{n}", client=batch.client("dynamodb")), one)
    mapping.drain(1)
    # Duplicates of final tasks, an invalid message that names a task, and one letter that is redriven.
    for one in (*tasks[:3], tasks[25]):
        function.sqs.send_message(QueueUrl=function.queue, MessageBody=one.to_body())
    function.sqs.send_message(QueueUrl=function.queue, MessageBody=f'{{"task_id": "{run_id}-invalid"}}')
    mapping.drain(1)
    redrive_one(function, f"{run_id}-hopeless-0")
    mapping.drain(1)
    ids = [one.task_id for one in [*tasks, *gone]] + [f"{run_id}-invalid"]
    return status.get(stack, ids), pd.concat([sends, more], ignore_index=True), [*tasks, *gone]


def made(folder: Path) -> Path:
    """Return a folder that is there."""
    folder.mkdir()
    return folder


def vanish(store: StatusStore, one: Task) -> None:
    """Claim a task as a worker does whose process ends before it has said anything; its lease is over at once."""
    [claim] = store.claim(deliveries(one), time.time() - 1)
    if claim.verdict == "suspect":
        claim = store.claim_suspect(claim, time.time() - 1)
    assert claim.verdict == "claimed"


def redrive_one(function: Function, task_id: str) -> None:
    """Send one dead letter back with its attributes, through a client that nobody counts."""
    for message in function._take(function.dead, MessageAttributeNames=["All"]):
        if task_id in message["Body"]:
            function.sqs.send_message(
                QueueUrl=function.queue, MessageBody=message["Body"], MessageAttributes=message["MessageAttributes"]
            )


def test_requests_are_those_that_were_counted(whole: Whole, meter: Meter, run_id: str) -> None:
    """Of each operation the model predicts from the frames as many requests as were really sent."""
    found, sends, tasks = whole
    assert by_operation(predicted(found, sends, tasks, run_id)) == meter.counted()
    assert len(meter.counted()) == 6


def test_statements_are_those_that_were_counted(whole: Whole, meter: Meter) -> None:
    """Each kind of statement is predicted as often as the function has sent it."""
    written = writes.statements(whole[0].tasks, classify(whole[0].tasks, whole[0].attempts))
    kinds = {
        "insert": "INSERT",
        "insert refused": "INSERT DuplicateItem",
        "update refused": "UPDATE ConditionalCheckFailed",
    }
    expected = Counter(kinds.get(name, "UPDATE") for name in written["statement"].tolist())
    assert Counter(f"{what} {refused or ''}".strip() for what, refused, _, _ in meter.statements) == expected


def test_write_units_are_those_that_the_engine_charges(whole: Whole, meter: Meter, stack: Stack) -> None:
    """Table and index take as many write units as the engine charges for the same changes of the same items."""
    written = writes.statements(whole[0].tasks, classify(whole[0].tasks, whole[0].attempts))
    units = int(written["table_units"].sum()), int(written["index_units"].sum())
    assert units == engine_units(stack, meter)
    assert units[0] > len(written)


def test_a_second_message_in_the_same_batch_is_never_underestimated(
    stack: Stack, function: Function, meter: Meter, run_id: str, tmp_path: Path
) -> None:
    """A duplicate is taken to come alone; beside its twin it costs less, so that the model is an upper bound."""
    tasks, mapping = [task(f"{run_id}-{i}", run_id=run_id) for i in range(3)], Mapping(function, meter)
    sends = submitted(stack, function, tasks, tmp_path, run_id)
    function.sqs.send_message(QueueUrl=function.queue, MessageBody=tasks[0].to_body())
    mapping.drain()
    found = status.get(stack, [one.task_id for one in tasks])
    assert found.tasks["n_duplicates"].sum() == 1
    expected, counted = by_operation(predicted(found, sends, tasks, run_id)), meter.counted()
    assert counted[requests.FUNCTION, "BatchExecuteStatement"] == 2
    assert all(expected[key] >= n for key, n in counted.items())


def test_reports_to_the_breakers_keep_to_their_bounds(
    stack: Stack, function: Function, meter: Meter, run_id: str, tmp_path: Path
) -> None:
    """What batches report to the breakers lies within the least and the most that the model allows for."""
    function.set(TASKQ_BREAKER_FAILURE_PERCENT="90")
    tasks = [
        task(f"{run_id}-{kind}-{i}", type=kind, run_id=run_id, simulate={"fail_attempts": int(i % 5 == 0)})
        for kind in ("SEND_EMAIL", "PROCESS_DATA")
        for i in range(30)
    ]
    sends, mapping = submitted(stack, function, tasks, tmp_path, run_id), Mapping(function, meter)
    mapping.drain()
    found = status.get(stack, [one.task_id for one in tasks])
    mine = {one.task_id for one in tasks}
    n_reports = sum(
        (after or before or {}).get("taskId", {}).get("S") not in mine for _, _, before, after in meter.statements
    )
    low, high = usage.of_run(*found, sends, cost.body_bytes(manifest_of(tasks), run_id)).breaker_units
    assert 2 <= low <= n_reports <= high
    # They travel with the claims: not one request more.
    assert by_operation(predicted(found, sends, tasks, run_id)) == meter.counted()


def test_log_bytes_are_near_those_that_were_written(
    capsys: pytest.CaptureFixture[str], whole: Whole, run_id: str
) -> None:
    """The bytes of attempts' and metrics' lines are estimates: within a quarter of what the function has printed."""
    found, sends, tasks = whole
    printed = capsys.readouterr().out.splitlines()
    counted = {event: [len(line.encode()) + 26 for line in printed if f'"{event}"' in line] for event in EVENTS}
    work = usage.of_run(*found, sends, cost.body_bytes(manifest_of(tasks), run_id))
    n_attempts, n_metrics = (len(counted[event]) for event in EVENTS)
    # Those that vanished have printed nothing.
    assert n_attempts == work.n_attempts - 4
    assert work.line_bytes == pytest.approx(sum(counted["taskq.attempt"]), rel=0.25)
    metrics = usage.METRICS_LINE_BYTES * n_metrics + usage.METRICS_ATTEMPT_BYTES * n_attempts
    assert metrics == pytest.approx(sum(counted["taskq.metrics"]), rel=0.25)
