"""Sending: batches within what SQS takes, nothing lost or reordered in them, and a record that survives a kill."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from taskq_lib.aws import sends, submit
from taskq_lib.aws.sends import sent
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.submit import N_TRIES, Entry, pack, send, send_one, verify
from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput, NotDone, RunExists, RunNotFound
from taskq_lib.lock import alone
from taskq_lib.workload import Workload, generate
from taskq_worker.contract import MAX_BODY_BYTES, Task, parse_body
from tests.unit.events import message, task

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


class Dynamodb:
    """Describes the status table."""

    def __init__(self, made_at: str) -> None:
        """Say that the table was made at this time (UTC)."""
        self.made_at = made_at

    def describe_table(self, **_table: str) -> dict[str, Any]:
        """Describe it."""
        return {"Table": {"CreationDateTime": pd.Timestamp(self.made_at, tz="UTC").to_pydatetime()}}


def stack(
    sqs: Any,
    queue_url: str = "https://queue",
    *,
    name: str = "s",
    mapping: str = "first",
    table: str = "t",
    made_at: str = "2020-01-01",
) -> Stack:
    """Make a stack whose queue is answered for by `sqs`, with a table that was made at `made_at`."""
    clients = {"sqs": sqs, "dynamodb": Dynamodb(made_at)}
    target = Target(name="aws", session=None, region="us-east-1", _clients=clients)
    outputs = {"QueueUrl": queue_url, "EventSourceMappingId": mapping, "TableName": table}
    return Stack(target=target, name=name, status="CREATE_COMPLETE", parameters={}, outputs=outputs)


def manifest(folder: Path, n_tasks: int, **fields: Any) -> Path:
    """Write the manifest of run `r`."""
    tasks = generate(Workload(n_tasks=n_tasks, **fields), "r")
    tasks.to_parquet(folder / "manifest.parquet", index=False)
    return folder / "manifest.parquet"


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let tries follow at once; returns how long each pause would have been."""
    pauses: list[float] = []
    pause_s = submit._pause_s

    def at_once(n_try: int) -> float:
        pauses.append(pause_s(n_try))
        return 0.0

    monkeypatch.setattr(submit, "_pause_s", at_once)
    return pauses


def packed(tasks: list[Task], offsets: list[float], start: float) -> Iterator[list[Entry]]:
    """Pack tasks for one queue; yields the batches."""
    for url, entries in pack(
        (message(one, "https://queue", at) for one, at in zip(tasks, offsets, strict=True)), start
    ):
        assert url == "https://queue"
        yield entries


@given(sizes=st.lists(st.integers(1, MAX_BODY_BYTES - 120) | st.integers(1, 50), max_size=25))
@settings(max_examples=30)
def test_batches_are_what_sqs_takes(sizes: list[int]) -> None:
    """No batch holds more than 10 entries or 1 MiB, none is empty, and all tasks are in them, once and in order."""
    tasks = [task(f"t-{i}", data={"to": "x" * size}) for i, size in enumerate(sizes)]
    batches = list(packed(tasks, [0.0] * len(tasks), 0.0))
    assert all(1 <= len(batch) <= 10 for batch in batches)
    assert all(sum(len(entry["body"]) for entry in batch) <= MAX_BODY_BYTES for batch in batches)
    entries = [entry for batch in batches for entry in batch]
    assert [entry["task_id"] for entry in entries] == [one.task_id for one in tasks]
    assert [parse_body(entry["body"]).data for entry in entries] == [one.data for one in tasks]


def test_small_tasks_fill_their_batches() -> None:
    """Tasks that are due go ten a batch."""
    tasks = [task(f"t-{i}") for i in range(25)]
    assert [len(batch) for batch in packed(tasks, [0.0] * 25, 0.0)] == [10, 10, 5]


def test_a_task_in_a_burst_is_enqueued_when_it_is_handed_over() -> None:
    """Without arrivals over time the enqueue time is the moment of packing, to the millisecond, in body and entry."""
    before = time.time()
    [[entry]] = packed([task("a")], [0.0], before)
    assert before - 0.001 <= entry["enqueued_at"] <= time.time() + 0.001
    assert parse_body(entry["body"]).enqueued_at == entry["enqueued_at"] == round(entry["enqueued_at"], 3)


def test_the_time_of_a_batch_is_not_that_of_the_one_before() -> None:
    """A task that did not fit into a batch is enqueued when its own is packed, however long the one before took."""
    tasks = [task(f"t-{i}", data={"to": "x" * 700_000}) for i in range(2)]
    batches = packed(tasks, [0.0, 0.0], 0.0)
    next(batches)
    asked_at = time.time()
    [entry] = next(batches)
    assert entry["enqueued_at"] >= asked_at - 0.001


def test_tasks_are_sent_when_they_are_due() -> None:
    """With arrivals over time no batch leaves before its last task is due, and none waits for later tasks."""
    offsets = [0.05, 0.051, 0.6, 0.7]
    start = time.time()
    left = [(len(batch), time.time() - start) for batch in packed([task(f"t-{i}") for i in range(4)], offsets, start)]
    assert sum(size for size, _at in left) == 4
    latest = [offsets[sum(size for size, _at in left[: i + 1]) - 1] for i in range(len(left))]
    assert all(at >= due for (_size, at), due in zip(left, latest, strict=True))
    assert left[0][1] < 0.6


def test_a_late_submitter_does_not_hide_the_wait() -> None:
    """A task that is handed over late was enqueued when it was meant to arrive: its wait counts from then."""
    start = time.time() - 100
    [batch] = packed([task("a"), task("b")], [10.0, 20.5], start)
    assert [entry["enqueued_at"] for entry in batch] == [round(start + 10, 3), round(start + 20.5, 3)]


def test_every_task_of_the_manifest_is_sent(tmp_path: Path) -> None:
    """What is sent is what the manifest file says, and what was sent is returned and written beside it, typed."""
    path = manifest(tmp_path, 137, transient_share=0.2)
    sqs = Sqs(taken)
    found = send(stack(sqs), path, "r", progress=False)
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == DTYPES
    pd.testing.assert_frame_equal(found, pd.read_parquet(tmp_path / "sends.parquet"))
    assert set(found["n_tries"]) == {1}
    assert found["message_id"].tolist() == [f"m-{task_id}" for task_id in found["task_id"]]
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
    found = send(stack(sqs), manifest(tmp_path, 200), "r", progress=False).set_index("task_id")
    for batch in sqs.batches:
        for entry in batch:
            body = parse_body(entry["MessageBody"])
            exact = pd.Timestamp(round((body.enqueued_at or 0) * 1000), unit="ms", tz="UTC")
            assert found.loc[body.task_id, "enqueued_at"] == exact


def test_the_manifest_is_read_from_disk(tmp_path: Path) -> None:
    """A manifest that is not on disk is not sent: there would be nothing to account against."""
    sqs = Sqs(taken)
    with pytest.raises(FileNotFoundError):
        send(stack(sqs), tmp_path / "manifest.parquet", "r", progress=False)
    assert sqs.batches == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
TEXTS = (
    st.builds(
        lambda source: json.dumps({"record_count": 1, "source": source}), st.text(min_size=1, max_size=8) | VALUES
    )
    | st.builds(json.dumps, VALUES, indent=st.none() | st.just(1))
    | st.sampled_from(
        ['{"to":"a","to":"b"}', '{"to":"a"', '{"to":1e999}', '{"to":"\\ud800"}', "{} {}", '{"to":"\t"}', ""]
    )
    | st.builds(lambda pad: '{"to":' + " " * pad + '"ä"}', st.integers(0, 3) | st.just(MAX_BODY_BYTES))
    | st.builds(lambda n: json.dumps({"to": "x" * n}), st.integers(MAX_BODY_BYTES - 150, MAX_BODY_BYTES))
)


@given(kind=st.sampled_from(["SEND_EMAIL", "PROCESS_DATA", "OTHER"]), data=TEXTS, priority=st.integers(-1, 10))
def test_a_body_is_what_the_contract_writes(kind: str, data: str, priority: int) -> None:
    """Of any row the message's body says what `Task.to_body` writes, and a row of which that writes none is refused."""
    row = pd.DataFrame({"task_id": ["a"], "task_type": [kind], "priority": [priority], "data": [data]})
    row["offset_s"] = 0.0
    try:
        fields = {"type": kind, "data": json.loads(data), "priority": priority}
        expected = Task(task_id="a", run_id="r", enqueued_at=4_102_444_799.999, **fields).to_body()
    except ValueError:
        with pytest.raises(BadInput, match=r"^Task 'a' \(row 0 of the manifest\) cannot be sent: "):
            submit._check(row, "r")
        return
    submit._check(row, "r")
    head = submit.body_head("a", kind, data, priority, "r")
    body = submit.Message("a", "https://queue", {}, head, 0.0).entry(4_102_444_799.999)["body"]
    assert body.isascii()
    assert len(body) <= MAX_BODY_BYTES
    assert json.dumps(json.loads(body), separators=(",", ":")) == expected


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("data", '{"speed": 1}', r" \(row 20 of the manifest\) cannot be sent: data\."),
        ("data", None, r" \(row 20 of the manifest\) cannot be sent: "),
        ("data", "[" * 30_000 + "]" * 30_000, r" \(row 20 of the manifest\) cannot be sent: "),
        ("offset_s", float("nan"), " cannot be sent: its offset_s is no number"),
        ("offset_s", float("inf"), " cannot be sent: its offset_s is no number"),
    ],
    ids=["unknown field", "no data", "nested too deep", "no time", "infinite time"],
)
def test_a_task_that_breaks_the_contract_stops_the_run_before_it_begins(
    tmp_path: Path, column: str, value: Any, says: str
) -> None:
    """One row that the function would refuse is named with its reason, and nothing at all is sent."""
    path = manifest(tmp_path, 25)
    tasks = pd.read_parquet(path)
    tasks.loc[20, column] = value
    tasks.to_parquet(path)
    sqs = Sqs(taken)
    with pytest.raises(BadInput, match=rf"^Task 'r-0000020'{says}"):
        send(stack(sqs), path, "r", progress=False)
    assert sqs.batches == []


def test_entries_that_sqs_fails_are_sent_again(tmp_path: Path, no_pauses: list[float]) -> None:
    """Entries that SQS refuses by its own fault are sent again, alone, until they are taken; the tries are counted."""
    seen: set[str] = set()

    def flaky(entries: list[dict[str, Any]]) -> dict[str, Any]:
        new = [entry for entry in entries if entry["MessageBody"] not in seen][::2]
        seen.update(entry["MessageBody"] for entry in new)
        return taken([e for e in entries if e not in new]) | refused(new, sender_fault=False)

    found = send(stack(Sqs(flaky)), manifest(tmp_path, 30), "r", progress=False)
    assert found["task_id"].is_unique
    assert len(found) == 30
    assert found["n_tries"].max() > 1
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

    def __init__(self, n_served: int, sigma: float) -> None:
        """Serve `n_served` batches side by side, each in 5 ms at the median, with a log-normal spread."""
        self.served = threading.Semaphore(n_served)
        self.sigma, self.random = sigma, random.Random(0)  # noqa: S311 - a network, not a secret
        self.lock = threading.Lock()
        self.n_in_flight: list[int] = [0]

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: ARG002, N803 - boto3's own names
        """Take one batch."""
        with self.lock:
            self.n_in_flight.append(self.n_in_flight[-1] + 1)
        with self.served:
            time.sleep(0.005 * self.random.lognormvariate(0, self.sigma))
        with self.lock:
            self.n_in_flight.append(self.n_in_flight[-1] - 1)
        return taken(Entries)


@pytest.mark.parametrize(
    ("n_served", "sigma", "low", "high"),
    [(1, 0.0, 1, 16), (64, 0.0, 8, 64), (64, 0.5, 8, 64)],
    ids=["one at a time", "side by side", "on a network that varies"],
)
def test_requests_in_flight_follow_the_endpoint(
    tmp_path: Path, n_served: int, sigma: float, low: int, high: int
) -> None:
    """An endpoint that answers side by side gets as many requests at a time; one that does not is not flooded."""
    endpoint = Endpoint(n_served, sigma)
    found = send(stack(endpoint), manifest(tmp_path, 2_000), "r", progress=False)
    assert len(found) == 2_000
    assert low <= max(endpoint.n_in_flight) <= high


def test_progress_is_shown_where_it_is_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bar counts tasks, on standard error; without it nothing is printed."""
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    send(stack(Sqs(taken)), manifest(quiet, 12), "r", progress=False)
    assert capsys.readouterr() == ("", "")
    send(stack(Sqs(taken)), manifest(tmp_path, 12), "r")
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
    found = send(stack(Sqs(taken)), tmp_path / "manifest.parquet", "r", progress=False)
    verify(tasks, found)
    with pytest.raises(NotDone, match="2 tasks were not acknowledged, the first is r-0000003"):
        verify(tasks, found[~found["task_id"].isin(["r-0000003", "r-0000004"])])
    with pytest.raises(NotDone, match=r"acknowledged twice, .*\n  -> sends.parquet in the run.s folder lists them"):
        verify(tasks, pd.concat([found, found.tail(1)]))
    with pytest.raises(NotDone, match="under one message id"):
        verify(tasks, found.assign(message_id="m"))


# --- broken off and resumed ---------------------------------------------------------------------------------------

Row = tuple[str, str, float, int]
TIMES = st.integers(0, 4_102_444_799_999).map(lambda ms: ms / 1000)
ROWS = st.tuples(st.from_regex(r"[A-Za-z0-9_.:-]{1,20}", fullmatch=True), st.uuids().map(str), TIMES, st.integers(1, 8))


def broken_off(path: Path, n_batches: int, **fields: Any) -> tuple[bytes, list[str]]:
    """Submit a manifest until `n_batches` were taken; returns the journal, and the tasks that were taken."""
    sqs = Sqs(taken)

    def interrupt(entries: list[dict[str, Any]]) -> dict[str, Any]:
        if len(sqs.batches) > n_batches:
            raise KeyboardInterrupt
        return taken(entries)

    sqs.answer = interrupt
    with pytest.raises(KeyboardInterrupt):
        send(stack(sqs, **fields), path, "r", progress=False)
    return (path.parent / "sends.jsonl").read_bytes(), ids_of(sqs.batches[:n_batches])


def ids_of(batches: list[list[dict[str, Any]]]) -> list[str]:
    """Return the ids of the tasks in batches."""
    return [parse_body(entry["MessageBody"]).task_id for batch in batches for entry in batch]


@given(requests=st.lists(st.lists(ROWS, max_size=10), max_size=8), data=st.data())
def test_a_torn_journal_names_a_prefix_of_what_was_sent(
    requests: list[list[Row]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Cut anywhere, the journal is read without an error, as the requests whose lines are whole, and as no others."""
    lines = [sends.line(sends.origin_of(stack(None))), *(sends.line(rows) for rows in requests)]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    folder = tmp_path_factory.mktemp("cut")
    (folder / "sends.jsonl").write_bytes(whole[:cut])
    found = sent(stack(None), folder / "manifest.parquet")
    ends = [sum(len(line) for line in lines[: i + 1]) for i in range(len(lines))]
    n_whole = sum(end <= cut for end in ends[1:])
    expected = [row for rows in requests[:n_whole] for row in rows]
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == DTYPES
    assert found["task_id"].tolist() == [row[0] for row in expected]
    assert found["message_id"].tolist() == [row[1] for row in expected]
    assert [at.timestamp() for at in found["enqueued_at"]] == [row[2] for row in expected]
    assert found["n_tries"].tolist() == [row[3] for row in expected]


def test_what_was_acknowledged_is_in_the_journal_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a request is made, every task of the requests before it can be read by another process already."""
    monkeypatch.setattr(submit, "MAX_REQUESTS", 1)
    path = manifest(tmp_path, 100)
    known: list[int] = []

    def look(entries: list[dict[str, Any]]) -> dict[str, Any]:
        known.append(len(sent(stack(None), path)))
        return taken(entries)

    send(stack(Sqs(look)), path, "r", progress=False)
    assert known == list(range(0, 100, 10))


@given(cut=st.integers(0, 10_000))
@settings(max_examples=25)
def test_a_killed_submit_sends_the_rest(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Wherever the journal breaks off, the same call sends exactly the tasks it does not name, and the record is whole.

    What was acknowledged keeps its message id and the time it was enqueued.
    """
    folder = tmp_path_factory.mktemp("run")
    path = manifest(folder, 95)
    journal, _ = broken_off(path, 4)
    (folder / "sends.jsonl").write_bytes(journal[:cut])
    (folder / "sends.parquet").unlink()
    earlier, sqs = sent(stack(None), path), Sqs(taken)
    found = send(stack(sqs), path, "r", progress=False)
    tasks = pd.read_parquet(path)
    verify(tasks, found)
    assert sorted(ids_of(sqs.batches)) == sorted(set(tasks["task_id"]) - set(earlier["task_id"]))
    pd.testing.assert_frame_equal(found.head(len(earlier)), earlier)
    pd.testing.assert_frame_equal(found, pd.read_parquet(folder / "sends.parquet"))
    assert {file.name for file in folder.iterdir()} == {"manifest.parquet", "sends.parquet"}


def test_an_interrupted_submit_sends_nothing_twice(tmp_path: Path) -> None:
    """After Ctrl-C, where no answer is lost, each task is taken once over both calls."""
    path = manifest(tmp_path, 300)
    _, first = broken_off(path, 12)
    sqs = Sqs(taken)
    found = send(stack(sqs), path, "r", progress=False)
    second = ids_of(sqs.batches)
    assert len(first) == 120
    assert sorted(first + second) == sorted(found["task_id"]) == pd.read_parquet(path)["task_id"].tolist()


def test_a_finished_submit_sends_nothing(tmp_path: Path) -> None:
    """Called again, a submit that was finished returns its record, sends nothing and leaves every file as it is."""
    path = manifest(tmp_path, 40)
    first = send(stack(Sqs(taken)), path, "r", progress=False)
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    sqs = Sqs(taken)
    pd.testing.assert_frame_equal(send(stack(sqs), path, "r", progress=False), first)
    assert sqs.batches == []
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


def test_a_kill_before_the_record_is_written_costs_nothing(tmp_path: Path) -> None:
    """Where the journal names every task and the record was not written, it is written, and nothing is sent."""
    path = manifest(tmp_path, 40)
    first = send(stack(Sqs(taken)), path, "r", progress=False)
    sends.begin(tmp_path / "sends.jsonl", sent(stack(None), path)).close()
    (tmp_path / "sends.parquet").unlink()
    sqs = Sqs(taken)
    pd.testing.assert_frame_equal(send(stack(sqs), path, "r", progress=False), first)
    assert sqs.batches == []
    assert {file.name for file in tmp_path.iterdir()} == {"manifest.parquet", "sends.parquet"}


def test_what_was_given_up_is_sent_by_the_same_call(tmp_path: Path, no_pauses: list[float]) -> None:
    """The hint of a submit that failed is to run the same again, and that sends the entries that were refused."""
    path = manifest(tmp_path, 20)
    with pytest.raises(NotDone, match=r"Run the same again with the same run id"):
        send(stack(Sqs(lambda entries: refused(entries, sender_fault=False))), path, "r", progress=False)
    verify(pd.read_parquet(path), send(stack(Sqs(taken)), path, "r", progress=False))
    assert no_pauses


@pytest.mark.parametrize(
    "other",
    [
        {"name": "other"},
        {"queue_url": "https://queue/210987654321/q"},
        {"name": "other", "mapping": "second"},
    ],
    ids=["stack", "account", "stack made anew"],
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_run_belongs_to_one_stack(other: dict[str, str], finished: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    """A run that was submitted to one stack, in part or as a whole, is not sent to another one."""
    path, sqs = manifest(tmp_path, 40), Sqs(taken)
    if finished:
        send(stack(sqs), path, "r", progress=False)
    else:
        broken_off(path, 2)
    sqs.batches.clear()
    with pytest.raises(RunExists, match=r"was submitted to stack s in us-east-1 \(aws\), .*; this is stack "):
        send(stack(sqs, **other), path, "r", progress=False)
    assert sqs.batches == []


@pytest.mark.parametrize("finished", [True, False])
def test_a_stack_made_anew_has_none_of_the_messages(finished: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    """Where the stack was deleted and made again since, its queue holds nothing of the run, and all is sent again."""
    path, sqs = manifest(tmp_path, 40), Sqs(taken)
    if finished:
        send(stack(sqs), path, "r", progress=False)
    else:
        broken_off(path, 2)
    sqs.batches.clear()
    anew = stack(sqs, mapping="second", made_at="2100-01-01")
    assert sent(anew, path).empty
    with pytest.raises(RunNotFound, match="was submitted to a stack that is gone; 's' was made anew since"):
        sends.refuse_gone(anew, path)
    sends.refuse_gone(stack(sqs), path)
    found = send(anew, path, "r", progress=False)
    tasks = pd.read_parquet(path)
    verify(tasks, found)
    assert sorted(ids_of(sqs.batches)) == tasks["task_id"].tolist()
    assert len(sent(anew, path)) == 40


def test_other_queues_on_the_same_table_know_of_the_run(tmp_path: Path) -> None:
    """After a change to FIFO, or without the second queue, the mapping is another and the run can be read still."""
    path, sqs = manifest(tmp_path, 40), Sqs(taken)
    send(stack(sqs), path, "r", progress=False)
    sends.refuse_gone(stack(sqs, mapping="second"), path)
    for mapping in ("first", "second"):
        with pytest.raises(RunNotFound, match="was submitted to a stack that is gone"):
            sends.refuse_gone(stack(sqs, mapping=mapping, table="another"), path)


def test_a_journal_that_names_no_table_is_judged_by_its_mapping(tmp_path: Path) -> None:
    """A run of an earlier version is read with the mapping that it was sent to, and refused with another."""
    path, sqs = manifest(tmp_path, 40), Sqs(taken)
    found = send(stack(sqs), path, "r", progress=False)
    del found.attrs["origin"]["table"]
    found.to_parquet(tmp_path / "sends.parquet")
    sends.refuse_gone(stack(sqs), path)
    with pytest.raises(RunNotFound, match="was submitted to a stack that is gone"):
        sends.refuse_gone(stack(sqs, mapping="second"), path)
    assert len(sent(stack(sqs), path)) == 40


def test_a_run_of_which_nothing_was_sent_may_be_read(tmp_path: Path) -> None:
    """A run that was killed before its first message belongs to no stack yet, so no stack is the wrong one."""
    sends.refuse_gone(stack(None), manifest(tmp_path, 4))


def test_arrivals_go_on_at_once_and_keep_their_distance(tmp_path: Path) -> None:
    """Resumed, the first missing task does not wait for its old time, and the next ones follow it as planned."""
    path = manifest(tmp_path, 6)
    tasks = pd.read_parquet(path)
    tasks["offset_s"] = [0.0, 0.01, 100.0, 100.2, 100.3, 100.6]
    tasks.to_parquet(path)
    origin = sent(stack(None), path)
    known = sends.frame([(task_id, f"m-{task_id}", 1.7e9, 1) for task_id in tasks["task_id"][:2]])
    known.attrs = origin.attrs
    sends.begin(tmp_path / "sends.jsonl", known).close()
    began = pd.Timestamp.now("UTC")
    found = send(stack(Sqs(taken)), path, "r", progress=False).set_index("task_id").sort_index()["enqueued_at"]
    waits = (found.iloc[2:] - began).dt.total_seconds()
    assert 0 <= waits.iloc[0] + 0.001 < 5
    assert (waits - waits.iloc[0]).tolist() == pytest.approx([0, 0.2, 0.3, 0.6], abs=0.05)
    assert set(found.iloc[:2]) == {pd.Timestamp(1.7e9, unit="s", tz="UTC")}


def test_two_submitters_do_not_both_send(tmp_path: Path) -> None:
    """While one submits a run, another one is refused and sends nothing; the first goes on to its end."""
    path, entered, leave = manifest(tmp_path, 40), threading.Event(), threading.Event()

    def hold(entries: list[dict[str, Any]]) -> dict[str, Any]:
        entered.set()
        assert leave.wait(20)
        return taken(entries)

    first, second = Sqs(hold), Sqs(taken)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(send, stack(first), path, "r", progress=False)
        assert entered.wait(20)
        try:
            with pytest.raises(RunExists, match=r"is in the hands of another process\.\n.*goes on"):
                send(stack(second), path, "r", progress=False)
        finally:
            leave.set()
        verify(pd.read_parquet(path), running.result())
    assert second.batches == []


def test_one_holds_a_lock_at_a_time(tmp_path: Path) -> None:
    """Of many that take and leave a lock, never two hold it at once, and the last one leaves no file."""
    inside, most, n_held = [0], [0], [0]

    def contend(_: int) -> None:
        for _attempt in range(300):
            try:
                with alone(tmp_path / "lock"):
                    inside[0] += 1
                    most[0], n_held[0] = max(most[0], inside[0]), n_held[0] + 1
                    time.sleep(0)
                    inside[0] -= 1
            except RunExists:
                continue

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(contend, range(8)))
    assert most == [1]
    assert n_held[0] > 8
    assert list(tmp_path.iterdir()) == []


def test_the_lock_file_of_a_killed_process_holds_nobody(tmp_path: Path) -> None:
    """A lock file that is there, and that no process holds, is taken and removed; so after an error in between."""
    (tmp_path / "lock").touch()
    with pytest.raises(ZeroDivisionError), alone(tmp_path / "lock"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
