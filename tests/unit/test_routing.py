"""Where tasks go: the queue that takes them, their message group, and what keeps SQS from dropping one."""

import string
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from taskq_lib.aws import queues, redrive, routing, submit
from taskq_lib.aws.journal import Journal
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.submit import pack
from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput, StackNotFound
from taskq_lib.workload import Workload, generate
from taskq_worker.contract import parse_body
from tests.unit.events import message, task

SECOND = {"SecondQueueUrl": "https://second", "SecondEventSourceMappingId": "m2"}


def stack(sqs: Any = None, *, second: str = "", fifo: bool = False, **fields: Any) -> Stack:
    """Make a stack; `second` is the rule of its second queue, none where it is empty."""
    ending = ".fifo" if fifo else ""
    outputs = {"QueueUrl": f"https://queue{ending}", "DeadLetterQueueUrl": "https://dead", "EventSourceMappingId": "m"}
    outputs["TableName"] = "t"
    outputs |= {**SECOND, "SecondQueueTakes": second} if second else {}
    target = Target(name="aws", session=None, region="us-east-1", _clients={"sqs": sqs})
    plain: dict[str, Any] = {"status": "CREATE_COMPLETE", "parameters": {}, "outputs": outputs}
    return Stack(target=target, name="s", **plain | fields)


def test_a_stack_with_one_queue_sends_all_to_it() -> None:
    """Without a second queue, every type and priority goes to the one there is."""
    [queue] = stack().queues
    assert (queue.url, queue.name, queue.mapping_id, queue.takes) == ("https://queue", "queue", "m", "the rest")
    assert {stack().queue_for("SEND_EMAIL", priority) for priority in range(10)} == {queue}


@pytest.mark.parametrize(
    ("rule", "second"),
    [
        ("priority>=7", {("SEND_EMAIL", 7), ("SEND_EMAIL", 9), ("PROCESS_DATA", 7), ("PROCESS_DATA", 9)}),
        ("priority>=0", {(kind, p) for kind in ("SEND_EMAIL", "PROCESS_DATA") for p in (0, 6, 7, 9)}),
        ("type in SEND_EMAIL,IMAGE_RESIZE", {("SEND_EMAIL", p) for p in (0, 6, 7, 9)}),
        ("type in IMAGE_RESIZE, PROCESS_DATA", {("PROCESS_DATA", p) for p in (0, 6, 7, 9)}),
    ],
)
def test_a_second_queue_takes_what_its_rule_says(rule: str, second: set[tuple[str, int]]) -> None:
    """By priority or by type, a task goes to the second queue where its rule is true of it, else to the first."""
    live = stack(second=rule)
    tried = [(kind, priority) for kind in ("SEND_EMAIL", "PROCESS_DATA") for priority in (0, 6, 7, 9)]
    assert {one for one in tried if live.queue_for(*one).url == "https://second"} == second
    assert [queue.mapping_id for queue in live.queues] == ["m", "m2"]


@pytest.mark.parametrize("rule", ["", "size>7", "priority>=x", "type in "])
def test_a_rule_of_another_version_is_refused(rule: str) -> None:
    """A rule that is not known sends no task anywhere: the output is named, and that a deployment mends it."""
    live = stack(outputs={"QueueUrl": "https://queue", **SECOND, "SecondQueueTakes": rule})
    with pytest.raises(StackNotFound, match="output SecondQueueTakes is") as refused:
        live.queue_for("SEND_EMAIL", 5)
    assert "deploy it again" in str(refused.value.hint)


@given(group=st.text(max_size=140))
def test_a_group_is_what_sqs_takes(group: str) -> None:
    """Of any text just those pass that the SQS API reference allows: 1 to 128 ASCII letters, digits, punctuation."""
    allowed = 1 <= len(group) <= 128 and set(group) <= set(string.ascii_letters + string.digits + string.punctuation)
    try:
        assert routing.check_group(group) == group
    except BadInput:
        assert not allowed
    else:
        assert allowed


@pytest.mark.parametrize(
    ("given_group", "fifo", "parameters", "expected"),
    [
        (None, False, {}, {}),
        ("tenant", False, {}, {"MessageGroupId": "tenant"}),
        (None, True, {}, {"MessageGroupId": "SEND_EMAIL", "MessageDeduplicationId": "a"}),
        ("key", True, {"FifoDeduplication": "task"}, {"MessageGroupId": "key", "MessageDeduplicationId": "a"}),
        ("key", True, {"FifoDeduplication": "content"}, {"MessageGroupId": "key"}),
    ],
)
def test_what_sqs_is_told_beside_the_body(
    *, given_group: str | None, fifo: bool, parameters: dict[str, str], expected: dict[str, str]
) -> None:
    """A standard queue gets a group only if one is given; a FIFO queue one always, and the task id against doubles."""
    live = stack(fifo=fifo, parameters=parameters)
    assert live.is_fifo is fifo
    assert submit.address(live, task("a"), given_group).envelope == expected


# --- batches ------------------------------------------------------------------------------------------------------


@given(urgent=st.lists(st.booleans(), max_size=60))
def test_batches_are_of_one_queue_and_in_order(urgent: list[bool]) -> None:
    """However tasks of two queues follow each other, a batch of 10 at most is for one, and each queue's order stays."""
    tasks = [task(f"t-{i}") for i in range(len(urgent))]
    addresses = ["second" if one else "first" for one in urgent]
    sent: dict[str, list[str]] = {"first": [], "second": []}
    for url, entries in pack(map(message, tasks, addresses), 0.0):
        assert 1 <= len(entries) <= 10
        sent[url] += [entry["task_id"] for entry in entries]
    for url, which in (("second", True), ("first", False)):
        assert sent[url] == [f"t-{i}" for i, one in enumerate(urgent) if one is which]


def test_a_rare_task_is_not_held_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """One urgent task before thousands of others leaves within a moment, not when its batch is full at last."""
    monkeypatch.setattr(submit, "MAX_HELD_S", 0.02)
    addresses = ["second", *["first"] * 500]
    urls = []
    for url, _entries in pack((message(task(f"t-{i}"), to) for i, to in enumerate(addresses)), 0.0):
        urls.append(url)
        time.sleep(0.005)
    assert urls.index("second") < 10


# --- FIFO ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def sqs() -> Iterator[Any]:
    """An SQS in memory."""
    with mock_aws():
        yield boto3.client("sqs", region_name="us-east-1")


def fifo(sqs: Any, **fields: Any) -> Stack:
    """Make a FIFO stack whose queues are there."""
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    names = {"QueueUrl": "q.fifo", "SecondQueueUrl": "second.fifo", "DeadLetterQueueUrl": "dead.fifo"}
    urls = {key: sqs.create_queue(QueueName=n, Attributes=attributes)["QueueUrl"] for key, n in names.items()}
    urls["TableName"] = "t"
    return stack(sqs, outputs={**urls, "SecondQueueTakes": "priority>=7"}, **fields)


def received(sqs: Any, url: str) -> list[dict[str, Any]]:
    """Take everything from a queue."""
    found: list[dict[str, Any]] = []
    while some := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"]).get("Messages"):
        found += some
        for one in some:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
    return found


def submitted(live: Stack, folder: Path, **workload: Any) -> pd.DataFrame:
    """Send a workload as run `r`; returns its manifest."""
    manifest = generate(Workload(**workload), "r")
    manifest.to_parquet(folder / "manifest.parquet")
    assert len(submit.send(live, folder / "manifest.parquet", "r", progress=False)) == len(manifest)
    return manifest


@pytest.mark.parametrize("groups", ["", "a:1,b:2"])
def test_a_fifo_queue_holds_each_group_in_the_order_of_the_manifest(sqs: Any, tmp_path: Path, groups: str) -> None:
    """Each message is in its task's group, its type where none is given, and within a group as in the manifest."""
    live = fifo(sqs)
    manifest = submitted(live, tmp_path, n_tasks=80, groups=groups, priorities="2,8")
    key = manifest["message_group"].fillna(manifest["task_type"].astype("str"))
    for queue, which in zip(live.queues, (manifest["priority"] < 7, manifest["priority"] >= 7), strict=True):
        found: dict[str, list[str]] = {}
        for one in received(sqs, queue.url):
            task_id = parse_body(one["Body"]).task_id
            assert one["Attributes"]["MessageDeduplicationId"] == task_id
            found.setdefault(one["Attributes"]["MessageGroupId"], []).append(task_id)
        assert found == {str(name): rows.tolist() for name, rows in manifest[which].groupby(key)["task_id"]}


def test_a_manifest_of_an_earlier_version_is_sent(sqs: Any, tmp_path: Path) -> None:
    """A run that began before there were groups goes on: its tasks have none."""
    live = fifo(sqs)
    manifest = generate(Workload(n_tasks=5, mix="SEND_EMAIL", priorities="1"), "r").drop(columns="message_group")
    manifest.to_parquet(tmp_path / "manifest.parquet")
    submit.send(live, tmp_path / "manifest.parquet", "r", progress=False)
    assert {one["Attributes"]["MessageGroupId"] for one in received(sqs, live.queue_url)} == {"SEND_EMAIL"}


class Counting:
    """Counts how many requests are in flight at the same time."""

    def __init__(self) -> None:
        """Begin with none."""
        self.lock, self.n, self.most = threading.Lock(), 0, 0

    def send_message_batch(self, *, Entries: list[dict[str, Any]], **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's own name
        """Take one batch, in 2 ms."""
        with self.lock:
            self.n += 1
            self.most = max(self.most, self.n)
        time.sleep(0.002)
        with self.lock:
            self.n -= 1
        return {"Successful": [{"Id": e["Id"], "MessageId": parse_body(e["MessageBody"]).task_id} for e in Entries]}


def test_to_a_fifo_queue_one_request_is_made_at_a_time(tmp_path: Path) -> None:
    """Requests side by side might arrive in another order, so a FIFO stack gets them one by one, others do not."""
    one, many = Counting(), Counting()
    submitted(stack(one, fifo=True), tmp_path, n_tasks=400)
    (tmp_path / "standard").mkdir()
    submitted(stack(many), tmp_path / "standard", n_tasks=400)
    assert one.most == 1
    assert many.most > 1


@pytest.mark.parametrize(("parameter", "n_left"), [("task", 1), ("content", 2)])
def test_what_a_fifo_queue_drops(sqs: Any, parameter: str, n_left: int) -> None:
    """Sent twice, a task is dropped by its id; by content it is not, since its enqueue time is in the body."""
    live = fifo(sqs, parameters={"FifoDeduplication": parameter})
    for enqueued_at in (1.8e9, 1.8e9 + 1):
        submit.send_one(live, task("a", enqueued_at=enqueued_at), "g")
        submit.send_one(live, task("b", enqueued_at=1.8e9), "g")
    found = [parse_body(one["Body"]).task_id for one in received(sqs, live.queue_url)]
    assert Counter(found) == {"a": n_left, "b": 1}


def dead_letter(sqs: Any, live: Stack, task_id: str, group: str, **fields: Any) -> str:
    """Put a dead letter as the function leaves it; returns its message id."""
    ticket = {"reason": "max_attempts", "lastAt": "2026-11-24T00:00:00.000+00:00", "messageGroup": group}
    answer = sqs.send_message(
        QueueUrl=live.dead_letter_queue_url,
        MessageBody=task(task_id, **fields).to_body(),
        MessageGroupId=f"letter-{task_id}",
        MessageAttributes={name: {"DataType": "String", "StringValue": text} for name, text in ticket.items()},
    )
    message_id: str = answer["MessageId"]
    return message_id


def test_a_redriven_task_is_not_taken_for_its_first_message(sqs: Any) -> None:
    """Redriven within 5 minutes of its sending, a task is in its queue again, in its own group, with its ticket."""
    live = fifo(sqs)
    for task_id, priority in (("a", 5), ("b", 9)):
        submit.send_one(live, task(task_id, priority=priority), "tenant")
    assert len(received(sqs, live.queues[0].url) + received(sqs, live.queues[1].url)) == 2
    letters = [dead_letter(sqs, live, "a", "tenant"), dead_letter(sqs, live, "b", "tenant", priority=9)]
    assert len(queues.dead_letters(live)) == 2
    log = Journal()
    assert redrive.move(live, log, letters, {}, 0.0, progress=False) == {}
    assert set(log.states.values()) == {"deleted"}
    for queue, letter, task_id in zip(live.queues, letters, ("a", "b"), strict=True):
        [message] = received(sqs, queue.url)
        assert parse_body(message["Body"]).task_id == task_id
        assert message["Attributes"]["MessageGroupId"] == "tenant"
        assert message["Attributes"]["MessageDeduplicationId"] == letter


def test_the_tenant_of_a_fair_queue_is_kept(sqs: Any) -> None:
    """A dead letter of a standard queue goes back with the group it had, and without one where it had none."""
    urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("QueueUrl", "DeadLetterQueueUrl")}
    live = stack(sqs, outputs=urls)
    ids = [
        sqs.send_message(QueueUrl=urls["DeadLetterQueueUrl"], MessageBody=task(name).to_body(), **more)["MessageId"]
        for name, more in (("a", {"MessageGroupId": "tenant"}), ("b", {}))
    ]
    assert redrive.move(live, Journal(), ids, {}, 0.0, progress=False) == {}
    found = {
        parse_body(m["Body"]).task_id: m["Attributes"].get("MessageGroupId") for m in received(sqs, live.queue_url)
    }
    assert found == {"a": "tenant", "b": None}
