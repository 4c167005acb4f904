"""Sending: batches within what SQS takes, nothing lost or reordered in them, and a record of what was sent."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from taskq_lib.aws.stack import Stack
from taskq_lib.aws.submit import N_TRIES, pack, send, send_one, verify
from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput, NotDone
from taskq_lib.workload import Workload, generate
from taskq_worker.contract import MAX_BODY_BYTES, parse_body
from tests.unit.events import task

DTYPES = {"task_id": "str", "message_id": "str", "enqueued_at": "datetime64[us, UTC]", "n_tries": "Int32"}

Answer = Callable[[list[dict[str, Any]]], dict[str, Any]]


class Sqs:
    """Takes batches, several at a time, and answers as it is told."""

    def __init__(self, answer: Answer) -> None:
        """Answer each batch with `answer(entries)`."""
        self.answer = answer
        self.batches: list[list[dict[str, Any]]] = []
        self.lock = threading.Lock()

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's own names
        """Take one batch."""
        assert QueueUrl == "https://queue"
        with self.lock:
            self.batches.append(Entries)
            return self.answer(Entries)


def taken(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Take every entry; its message id is made from its task's."""
    successful = [{"Id": e["Id"], "MessageId": "m-" + parse_body(e["MessageBody"]).task_id} for e in entries]
    return {"Successful": successful}


def refused(entries: list[dict[str, Any]], *, sender_fault: bool) -> dict[str, Any]:
    """Refuse every entry."""
    failed = [
        {"Id": e["Id"], "SenderFault": sender_fault, "Code": "SomeCode", "Message": "the reason"} for e in entries
    ]
    return {"Failed": failed}


def stack(sqs: Any, queue_url: str = "https://queue") -> Stack:
    """Make a stack whose queue is answered for by `sqs`."""
    target = Target(name="aws", session=None, region="us-east-1", _clients={"sqs": sqs})
    return Stack(target=target, name="s", status="CREATE_COMPLETE", parameters={}, outputs={"QueueUrl": queue_url})


def manifest(folder: Path, n_tasks: int, **fields: Any) -> Path:
    """Write the manifest of run `r`."""
    tasks = generate(Workload(n_tasks=n_tasks, **fields), "r")
    tasks.to_parquet(folder / "manifest.parquet", index=False)
    return folder / "manifest.parquet"


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let tries follow at once; returns how long each pause would have been."""
    pauses: list[float] = []
    monkeypatch.setattr("taskq_lib.aws.submit.time.sleep", pauses.append)
    return pauses


@given(sizes=st.lists(st.integers(1, MAX_BODY_BYTES - 120) | st.integers(1, 50), max_size=25))
@settings(max_examples=30)
def test_batches_are_what_sqs_takes(sizes: list[int]) -> None:
    """No batch holds more than 10 entries or 1 MiB, none is empty, and all tasks are in them, once and in order."""
    tasks = [task(f"t-{i}", data={"to": "x" * size}) for i, size in enumerate(sizes)]
    batches = list(pack(tasks, [0.0] * len(tasks), 0.0))
    assert all(1 <= len(batch) <= 10 for batch in batches)
    assert all(sum(len(entry["body"]) for entry in batch) <= MAX_BODY_BYTES for batch in batches)
    entries = [entry for batch in batches for entry in batch]
    assert [entry["task_id"] for entry in entries] == [one.task_id for one in tasks]
    assert [parse_body(entry["body"]).data for entry in entries] == [one.data for one in tasks]


def test_small_tasks_fill_their_batches() -> None:
    """Tasks that are due go ten a batch."""
    tasks = [task(f"t-{i}") for i in range(25)]
    assert [len(batch) for batch in pack(tasks, [0.0] * 25, 0.0)] == [10, 10, 5]


def test_a_task_in_a_burst_is_enqueued_when_it_is_handed_over() -> None:
    """Without arrivals over time the enqueue time is the moment of packing, to the millisecond, in body and entry."""
    before = time.time()
    [[entry]] = pack([task("a")], [0.0], before)
    assert before - 0.001 <= entry["enqueued_at"] <= time.time() + 0.001
    assert parse_body(entry["body"]).enqueued_at == entry["enqueued_at"] == round(entry["enqueued_at"], 3)


def test_tasks_are_sent_when_they_are_due() -> None:
    """With arrivals over time no batch leaves before its last task is due, and none waits for later tasks."""
    offsets = [0.05, 0.051, 0.6, 0.7]
    start = time.time()
    left = [(len(batch), time.time() - start) for batch in pack([task(f"t-{i}") for i in range(4)], offsets, start)]
    assert sum(size for size, _at in left) == 4
    latest = [offsets[sum(size for size, _at in left[: i + 1]) - 1] for i in range(len(left))]
    assert all(at >= due for (_size, at), due in zip(left, latest, strict=True))
    assert left[0][1] < 0.6


def test_a_late_submitter_does_not_hide_the_wait() -> None:
    """A task that is handed over late was enqueued when it was meant to arrive: its wait counts from then."""
    start = time.time() - 100
    [batch] = pack([task("a"), task("b")], [10.0, 20.5], start)
    assert [entry["enqueued_at"] for entry in batch] == [round(start + 10, 3), round(start + 20.5, 3)]


def test_every_task_of_the_manifest_is_sent(tmp_path: Path) -> None:
    """What is sent is what the manifest file says, and what was sent is returned and written beside it, typed."""
    path = manifest(tmp_path, 137, transient_share=0.2)
    sqs = Sqs(taken)
    sends = send(stack(sqs), path, "r", progress=False)
    assert {name: str(dtype) for name, dtype in sends.dtypes.items()} == DTYPES
    pd.testing.assert_frame_equal(sends, pd.read_parquet(tmp_path / "sends.parquet"))
    assert set(sends["n_tries"]) == {1}
    assert sends["message_id"].tolist() == [f"m-{task_id}" for task_id in sends["task_id"]]
    bodies = [parse_body(entry["MessageBody"]) for batch in sqs.batches for entry in batch]
    sent = pd.DataFrame([vars(body) for body in bodies]).set_index("task_id").sort_index()
    expected = pd.read_parquet(path).set_index("task_id").sort_index()
    assert sent.index.tolist() == expected.index.tolist()
    assert sent["type"].tolist() == expected["task_type"].tolist()
    assert sent["priority"].tolist() == expected["priority"].tolist()
    assert sent["data"].tolist() == [json.loads(data) for data in expected["data"]]
    assert set(sent["run_id"]) == {"r"}


def test_enqueue_times_are_kept_to_the_millisecond(tmp_path: Path) -> None:
    """The time in the record of sends is, to the last digit, the one in the message's body."""
    sqs = Sqs(taken)
    sends = send(stack(sqs), manifest(tmp_path, 200), "r", progress=False).set_index("task_id")
    for batch in sqs.batches:
        for entry in batch:
            body = parse_body(entry["MessageBody"])
            exact = pd.Timestamp(round((body.enqueued_at or 0) * 1000), unit="ms", tz="UTC")
            assert sends.loc[body.task_id, "enqueued_at"] == exact


def test_the_manifest_is_read_from_disk(tmp_path: Path) -> None:
    """A manifest that is not on disk is not sent: there would be nothing to account against."""
    sqs = Sqs(taken)
    with pytest.raises(FileNotFoundError):
        send(stack(sqs), tmp_path / "manifest.parquet", "r", progress=False)
    assert sqs.batches == []


def test_a_task_that_breaks_the_contract_stops_the_run_before_it_begins(tmp_path: Path) -> None:
    """One row that the function would refuse is named with its reason, and nothing at all is sent."""
    path = manifest(tmp_path, 25)
    tasks = pd.read_parquet(path)
    tasks.loc[20, "data"] = '{"speed": 1}'
    tasks.to_parquet(path)
    sqs = Sqs(taken)
    with pytest.raises(BadInput, match=r"^Task 'r-0000020' \(row 20 of the manifest\) cannot be sent: data\."):
        send(stack(sqs), path, "r", progress=False)
    assert sqs.batches == []


def test_entries_that_sqs_fails_are_sent_again(tmp_path: Path, no_pauses: list[float]) -> None:
    """Entries that SQS refuses by its own fault are sent again, alone, until they are taken; the tries are counted."""
    seen: set[str] = set()

    def flaky(entries: list[dict[str, Any]]) -> dict[str, Any]:
        new = [entry for entry in entries if entry["MessageBody"] not in seen][::2]
        seen.update(entry["MessageBody"] for entry in new)
        return taken([e for e in entries if e not in new]) | refused(new, sender_fault=False)

    sends = send(stack(Sqs(flaky)), manifest(tmp_path, 30), "r", progress=False)
    assert sends["task_id"].is_unique
    assert len(sends) == 30
    assert sends["n_tries"].max() > 1
    assert no_pauses
    assert all(0 <= pause <= 5 for pause in no_pauses)


def test_entries_that_are_never_taken_are_given_up(tmp_path: Path, no_pauses: list[float]) -> None:
    """An entry that SQS keeps refusing is given up after its tries, and named; what was sent is on disk."""

    def one_bad(entries: list[dict[str, Any]]) -> dict[str, Any]:
        bad = [e for e in entries if parse_body(e["MessageBody"]).task_id == "r-0000007"]
        return taken([e for e in entries if e not in bad]) | refused(bad, sender_fault=False)

    sqs = Sqs(one_bad)
    with pytest.raises(NotDone, match=r"^1 messages were still refused after 8 tries, the first for task r-0000007\."):
        send(stack(sqs), manifest(tmp_path, 20), "r", progress=False)
    assert len(sqs.batches) == N_TRIES + 1
    assert len(no_pauses) <= N_TRIES
    assert len(pd.read_parquet(tmp_path / "sends.parquet")) == 19


def test_the_senders_own_fault_is_not_repeated(tmp_path: Path, no_pauses: list[float]) -> None:
    """What SQS calls the sender's fault is not tried again: the task, the code and the reason are named."""
    sqs = Sqs(lambda entries: refused(entries, sender_fault=True))
    with pytest.raises(NotDone, match=r"^SQS refuses 3 messages, the first as SomeCode: the reason \(task r-0000000\)"):
        send(stack(sqs), manifest(tmp_path, 3), "r", progress=False)
    assert len(sqs.batches) == 1
    assert no_pauses == []
    assert {n: str(t) for n, t in pd.read_parquet(tmp_path / "sends.parquet").dtypes.items()} == DTYPES


def test_an_interruption_leaves_the_record_of_what_was_sent(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a run ends it, and every message that was taken until then is on disk."""
    path, sqs = manifest(tmp_path, 1_000), Sqs(taken)

    def interrupt(entries: list[dict[str, Any]]) -> dict[str, Any]:
        if len(sqs.batches) == 40:
            raise KeyboardInterrupt
        return taken(entries)

    sqs.answer = interrupt
    with pytest.raises(KeyboardInterrupt):
        send(stack(sqs), path, "r", progress=False)
    recorded = pd.read_parquet(tmp_path / "sends.parquet")
    assert len(recorded) == 10 * (len(sqs.batches) - 1)
    assert 390 <= len(recorded) < 1_000
    assert recorded["task_id"].is_unique


class Endpoint:
    """Takes its time for each batch, and so many batches side by side; notes how many were asked for at a time."""

    def __init__(self, n_served: int) -> None:
        """Serve `n_served` batches side by side, each in 5 ms."""
        self.served = threading.Semaphore(n_served)
        self.lock = threading.Lock()
        self.n_in_flight: list[int] = [0]

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: ARG002, N803 - boto3's own names
        """Take one batch."""
        with self.lock:
            self.n_in_flight.append(self.n_in_flight[-1] + 1)
        with self.served:
            time.sleep(0.005)
        with self.lock:
            self.n_in_flight.append(self.n_in_flight[-1] - 1)
        return taken(Entries)


@pytest.mark.parametrize(("n_served", "low", "high"), [(1, 1, 5), (64, 8, 16)], ids=["one at a time", "side by side"])
def test_requests_in_flight_follow_the_endpoint(tmp_path: Path, n_served: int, low: int, high: int) -> None:
    """An endpoint that answers side by side gets up to 16 requests at a time; one that does not is not flooded."""
    endpoint = Endpoint(n_served)
    sends = send(stack(endpoint), manifest(tmp_path, 2_000), "r", progress=False)
    assert len(sends) == 2_000
    assert low <= max(endpoint.n_in_flight) <= high


def test_progress_is_shown_where_it_is_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bar counts tasks, on standard error; without it nothing is printed."""
    path = manifest(tmp_path, 12)
    send(stack(Sqs(taken)), path, "r", progress=False)
    assert capsys.readouterr() == ("", "")
    send(stack(Sqs(taken)), path, "r")
    assert "12/12" in capsys.readouterr().err


def test_one_task_is_sent_by_itself() -> None:
    """A single task goes as one message, whose id is the one that SQS gave it."""
    with mock_aws():
        sqs = boto3.client("sqs", region_name="us-east-1")
        url = sqs.create_queue(QueueName="q")["QueueUrl"]
        message_id = send_one(stack(sqs, url), task("a", priority=9, enqueued_at=1.8e9))
        [message] = sqs.receive_message(QueueUrl=url)["Messages"]
    assert message["MessageId"] == message_id
    assert parse_body(message["Body"]) == task("a", priority=9, enqueued_at=1.8e9)


def test_one_task_that_is_too_large_is_refused() -> None:
    """A single task that cannot be a message is refused before anything is sent."""
    with pytest.raises(BadInput, match=r"^The task cannot be sent: the message has 1,2.* bytes"):
        send_one(stack(Sqs(taken)), task("a", data={"to": "x" * 1_200_000}))


def test_an_account_of_sends_must_be_complete(tmp_path: Path) -> None:
    """The check after a submit holds for a complete record, and names what is missing, twice, or under one id."""
    tasks = pd.read_parquet(manifest(tmp_path, 5))
    sends = send(stack(Sqs(taken)), tmp_path / "manifest.parquet", "r", progress=False)
    verify(tasks, sends)
    with pytest.raises(NotDone, match="2 tasks were not acknowledged, the first is r-0000003"):
        verify(tasks, sends[~sends["task_id"].isin(["r-0000003", "r-0000004"])])
    with pytest.raises(NotDone, match="acknowledged twice"):
        verify(tasks, pd.concat([sends, sends.tail(1)]))
    with pytest.raises(NotDone, match="under one message id"):
        verify(tasks, sends.assign(message_id="m"))
