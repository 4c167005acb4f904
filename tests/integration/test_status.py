"""Reading: by id whatever their number, by time without a scan, and waiting until nothing can change any more."""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from taskq_lib.aws import frames, queues, status, submit
from taskq_lib.aws.frames import ATTEMPT_COLUMNS, TASK_COLUMNS
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import NotDone
from taskq_worker.contract import Outcome
from taskq_worker.store import Result, StatusStore
from tests.unit.events import deliveries, task

pytestmark = pytest.mark.integration

Workers = Callable[..., StatusStore]


@pytest.fixture
def completed(worker: Workers, run_id: str) -> Callable[[int], list[str]]:
    """Let a test have the items of so many completed tasks; returns their ids."""

    def make(n: int) -> list[str]:
        ids = [f"{run_id}-{i:04d}" for i in range(n)]
        store = worker()
        claims = store.claim(deliveries(*(task(task_id, run_id=run_id) for task_id in ids)), time.time() + 60)
        now = time.time()
        results = [
            Result(claim=one, outcome=Outcome.COMPLETED, started_at=now - 1, finished_at=now, result="{}")
            for one in claims
        ]
        assert all(store.record(results))
        return ids

    return make


def assert_typed(found: status.Statuses) -> None:
    """Both frames have exactly their columns and dtypes, none of them objects."""
    for frame, columns in ((found.tasks, TASK_COLUMNS), (found.attempts, ATTEMPT_COLUMNS)):
        assert list(frame.columns) == list(columns)
        for name, (_key, dtype) in columns.items():
            assert frame[name].dtype == dtype, name
            assert frame[name].dtype != "object", name


def test_any_number_of_tasks_is_read_by_id(stack: Stack, completed: Callable[[int], list[str]]) -> None:
    """More ids than one request takes are read completely; an id without an item has no row."""
    ids = completed(250)
    found = status.get(stack, [*ids, "nobody-1", "nobody-2"])
    assert_typed(found)
    assert sorted(found.tasks["task_id"]) == ids
    assert sorted(found.attempts["task_id"]) == ids
    assert set(found.tasks["state"]) == {"completed"}


def test_what_is_recorded_is_read_the_fast_way(
    stack: Stack, completed: Callable[[int], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the function writes fits what items are decoded into: nothing of it is left to the SDK's parser."""
    ids = completed(20)
    monkeypatch.delattr(frames, "read_items")
    assert len(status.get(stack, ids).tasks) == 20
    assert status.wait(stack, ids, timeout_s=10, progress=False).n_final == 20


def test_a_repeated_id_has_one_row(stack: Stack, completed: Callable[[int], list[str]]) -> None:
    """However often, and wherever in the list, an id is asked for, its task has one row."""
    ids = completed(150)
    found = status.get(stack, [ids[0], *ids, ids[0]])
    assert sorted(found.tasks["task_id"]) == ids


def test_no_ids_give_empty_frames(stack: Stack) -> None:
    """Asking for nothing gives frames without rows, typed as ever."""
    found = status.get(stack, [])
    assert_typed(found)
    assert found.tasks.empty
    assert found.attempts.empty


def test_a_window_reads_what_changed_in_it(stack: Stack, completed: Callable[[int], list[str]], run_id: str) -> None:
    """The tasks of all shards whose last change lies in the window are read, both ends included, and no others."""
    since = datetime.now(UTC)
    ids = completed(120)
    until = datetime.now(UTC)
    found = status.window(stack, since - timedelta(seconds=0.001), until)
    assert_typed(found)
    mine = found.tasks[found.tasks["run_id"] == run_id]
    assert sorted(mine["task_id"]) == ids
    changed = mine["updated_at"].iloc[0]
    exact = status.window(stack, changed.to_pydatetime(), changed.to_pydatetime()).tasks
    assert set(exact["updated_at"]) == {changed}
    assert len(exact) == (found.tasks["updated_at"] == changed).sum()
    day = timedelta(days=1)
    assert status.window(stack, since - 2 * day, since - day).tasks.empty
    assert run_id in set(status.window(stack, since - day).tasks["run_id"])


def test_a_wait_ends_when_all_are_final(stack: Stack, completed: Callable[[int], list[str]]) -> None:
    """Where every task is final already the wait is over at once."""
    ids = completed(120)
    waited = status.wait(stack, ids, timeout_s=30, progress=False)
    assert (waited.n_final, waited.n_open, waited.why) == (120, 0, "all final")
    assert waited.waited_s < 5


def test_a_wait_ends_at_its_deadline(stack: Stack, completed: Callable[[int], list[str]]) -> None:
    """A task that stays open is not an error of the wait: it ends at the deadline and says how many are open."""
    ids = completed(3)
    waited = status.wait(stack, [*ids, "nobody"], timeout_s=0.6, progress=False)
    assert (waited.n_final, waited.n_open, waited.why) == (3, 1, "deadline")
    assert 0.6 <= waited.waited_s < 3


def test_a_wait_gives_up_on_an_empty_queue(
    stack: Stack, completed: Callable[[int], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is left in the queue that could become an attempt, the wait does not sit out its deadline."""
    monkeypatch.setattr(status, "IDLE_S", 0.2)
    waited = status.wait(stack, [*completed(3), "nobody"], timeout_s=60, progress=False)
    assert (waited.n_open, waited.why) == (1, "queue empty")
    assert waited.waited_s < 10


def test_a_wait_sees_a_task_through(stack: Stack, run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A task that is still running when the wait begins is waited for, and the bar shows it."""
    submit.send_one(stack, task(f"{run_id}-a", simulate={"seconds": 0.8}))
    waited = status.wait(stack, [f"{run_id}-a"], timeout_s=20)
    assert (waited.n_final, waited.n_open, waited.why) == (1, 0, "all final")
    assert "1/1" in capsys.readouterr().err


class Throttled:
    """A table that leaves keys unread."""

    def __init__(self, n_answers: int) -> None:
        """Read one key of each request, and after `n_answers` requests all of them."""
        self.n_answers = n_answers

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - boto3's own name
        """Answer one request."""
        [(table, request)] = RequestItems.items()
        self.n_answers -= 1
        read = request["Keys"] if self.n_answers < 0 else request["Keys"][:1]
        left = request["Keys"][len(read) :]
        items = [{**key, "status": {"S": "COMPLETED"}, "attempts": {"N": "1"}} for key in read]
        answer: dict[str, Any] = {"Responses": {table: items}}
        return answer | ({"UnprocessedKeys": {table: {**request, "Keys": left}}} if left else {})


def throttled(n_answers: int) -> Stack:
    """Make a stack whose table is throttled for so many answers."""
    target = Target(name="aws", session=None, region="us-east-1", _clients={"dynamodb": Throttled(n_answers)})
    return Stack(target=target, name="s", status="CREATE_COMPLETE", parameters={}, outputs={"TableName": "t"})


def test_keys_that_were_left_unread_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that a throttled table left out are asked for until they are read, ever more slowly, and none is lost."""
    pauses: list[float] = []
    monkeypatch.setattr("taskq_lib.aws.status.time.sleep", pauses.append)
    found = status.get(throttled(3), [f"t-{i}" for i in range(9)])
    assert sorted(found.tasks["task_id"]) == [f"t-{i}" for i in range(9)]
    assert len(pauses) == 3
    assert pauses == sorted(pauses)


def test_a_table_that_stays_throttled_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where keys stay unread, that is an error with the cause and what to do: a part is never taken for the whole."""
    monkeypatch.setattr("taskq_lib.aws.status.time.sleep", lambda _s: None)
    with pytest.raises(NotDone, match=r"^Table t left keys unread after 10 tries: it is throttled\."):
        status.get(throttled(99), [f"t-{i}" for i in range(50)])


@pytest.fixture
def dead(stack: Stack) -> Iterator[Stack]:
    """The stack with a dead-letter queue of the test's own."""
    sqs = stack.target.client("sqs")
    url = sqs.create_queue(QueueName=f"dead-{uuid.uuid4().hex}")["QueueUrl"]
    yield replace(stack, outputs={**stack.outputs, "DeadLetterQueueUrl": url})
    sqs.delete_queue(QueueUrl=url)


def test_no_dead_letters_are_an_empty_frame(dead: Stack) -> None:
    """An empty dead-letter queue gives a frame without rows, typed as ever."""
    found = queues.dead_letters(dead)
    assert found.empty
    assert {name: str(found[name].dtype) for name in found} == queues.DEAD_COLUMNS


def test_a_dead_letter_of_any_kind_is_listed(dead: Stack) -> None:
    """A message that SQS itself moved, with its sender's own attributes of any type, is listed like the rest."""
    sqs, url = dead.target.client("sqs"), dead.dead_letter_queue_url
    own: dict[str, Any] = {
        "trace": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        "attempts": {"DataType": "String", "StringValue": "many"},
        "firstAt": {"DataType": "String", "StringValue": "yesterday"},
    }
    body = task("a", run_id="r").to_body()
    sqs.send_message(QueueUrl=url, MessageBody="no JSON")
    sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=own)
    found = queues.dead_letters(dead).set_index("body")
    assert set(found["reason"]) == {"receive_limit"}
    assert found.loc[[body], ["task_id", "run_id", "task_type"]].to_numpy().tolist() == [["a", "r", "SEND_EMAIL"]]
    assert found["n_attempts"].isna().all()
    assert found["first_at"].isna().all()
    assert (found["sent_at"] > pd.Timestamp.now("UTC") - pd.Timedelta(minutes=1)).all()


def test_an_inventory_removes_nothing(dead: Stack) -> None:
    """Taking the inventory, in full or limited, leaves every dead letter where it was and visible again."""
    for i in range(23):
        dead.target.client("sqs").send_message(QueueUrl=dead.dead_letter_queue_url, MessageBody=f"{i}")
    assert len(queues.dead_letters(dead, limit=15)) == 15
    for _ in range(2):
        found = queues.dead_letters(dead)
        assert sorted(found["body"], key=int) == [f"{i}" for i in range(23)]
        assert found["message_id"].is_unique
