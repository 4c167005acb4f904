"""The function on FIFO queues: within a message group nothing starts before all that is ahead of it is final."""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskq_worker import batch, execute
from taskq_worker.breaker import View
from taskq_worker.contract import BreakerState, Task, parse_body
from taskq_worker.records import Invalid, parse_record
from taskq_worker.store import Claim, StatusStore, Verdict
from tests.integration.function import Function
from tests.unit.events import deliveries, lines, task

pytestmark = pytest.mark.integration

Item = Callable[[str], dict[str, Any] | None]
Workers = Callable[..., StatusStore]

FAILS = {"fail_attempts": 1}
FINAL = {"fail_attempts": -1, "retryable": False}


def send(fifo: Function, *sent: tuple[str | Task, str]) -> dict[str, Any]:
    """Send these messages, each to its group, and receive all that SQS hands out."""
    for body, group in sent:
        fifo.put(body, group)
    return fifo.receive()


def work(fifo: Function, delivered: dict[str, Any], **context: Any) -> list[str]:
    """Run the function and delete what it does not name, as Lambda does: until then SQS hands out no more of it."""
    again = fifo.run(delivered, **context)
    for record in delivered["Records"]:
        if record["messageId"] not in again:
            fifo.sqs.delete_message(QueueUrl=fifo.queue, ReceiptHandle=record["receiptHandle"])
    return again


def bodies_of(delivered: dict[str, Any], ids: list[str]) -> list[str]:
    """Return the bodies of the records with these message ids, in the event's order."""
    return [record["body"] for record in delivered["Records"] if record["messageId"] in ids]


def ended(found: dict[str, Any] | None) -> bool:
    """Whether an item is final."""
    return found is not None and (found["status"] == "COMPLETED" or bool(found.get("deadLettered")))


def starts(fifo: Function) -> list[str]:
    """Have every start of a task noted; returns the list of their ids, as it grows."""
    noted: list[str] = []
    run = execute._run

    def note(claim: Claim, *others: Any) -> Any:
        noted.append(claim.delivery.task.task_id)
        return run(claim, *others)

    fifo.patch.setattr(execute, "_run", note)
    return noted


def test_groups_side_by_side_take_two_requests(fifo: Function, item: Item, run_id: str) -> None:
    """Ten tasks of ten groups are claimed in one request and recorded in one more, as on a standard queue."""
    sent = [task(f"{run_id}-{i}") for i in range(10)]
    assert fifo.run(send(fifo, *((one, f"g{i}") for i, one in enumerate(sent)))) == []
    assert [operation for operation, _ in fifo.calls] == ["BatchExecuteStatement"] * 2
    assert {(item(one.task_id) or {})["messageGroup"] for one in sent} == {f"g{i}" for i in range(10)}


def test_a_group_takes_two_requests_a_place(fifo: Function, item: Item, run_id: str) -> None:
    """Tasks of one group start in their order, each when the one ahead is recorded: two requests a task."""
    started, sent = starts(fifo), [task(f"{run_id}-{i}") for i in range(4)]
    assert fifo.run(send(fifo, *((one, "g") for one in sent))) == []
    assert started == [one.task_id for one in sent]
    assert [operation for operation, _ in fifo.calls] == ["BatchExecuteStatement"] * 8
    found = [item(one.task_id) or {} for one in sent]
    assert all(a["finishedAt"] <= b["startedAt"] for a, b in pairwise(found))


def test_a_task_to_be_retried_stops_its_group_alone(fifo: Function, item: Item, run_id: str) -> None:
    """What stands behind it is given back untouched, to come when it does; the other group goes on."""
    fifo.set(TASKQ_RETRY_BASE_S="0")
    bad, behind, last = (task(f"{run_id}-{i}", simulate=FAILS if i == 0 else None) for i in range(3))
    others = [task(f"{run_id}-other-{i}") for i in range(3)]
    delivered = send(fifo, (bad, "a"), (behind, "a"), *((one, "b") for one in others), (last, "a"))
    assert bodies_of(delivered, fifo.run(delivered)) == [one.to_body() for one in (bad, behind, last)]
    assert item(behind.task_id) is item(last.task_id) is None
    assert {(item(one.task_id) or {})["status"] for one in others} == {"COMPLETED"}
    [request] = fifo.requests("ChangeMessageVisibilityBatch")
    assert [entry["VisibilityTimeout"] for entry in request["Entries"]] == [0, 0, 0]

    started, again = starts(fifo), fifo.receive()
    assert fifo.run(again) == []
    assert started == [one.task_id for one in (bad, behind, last)]
    assert [(item(one.task_id) or {})["attempts"] for one in (bad, behind, last)] == [2, 1, 1]


def test_what_stands_behind_waits_as_long(fifo: Function, run_id: str) -> None:
    """A retry that asks for time delays its whole group by it."""
    bad = task(f"{run_id}-bad", simulate=FAILS | {"retry_after_s": 40})
    fifo.run(send(fifo, (bad, "a"), (task(f"{run_id}-behind"), "a")))
    [request] = fifo.requests("ChangeMessageVisibilityBatch")
    assert [entry["VisibilityTimeout"] for entry in request["Entries"]] == [40, 40]


def test_what_is_dead_lettered_does_not_stop_its_group(fifo: Function, item: Item, run_id: str) -> None:
    """A task that failed for good, an invalid message and a duplicate are final: those behind them run."""
    done, dead, last = (
        task(f"{run_id}-{name}", simulate=FINAL if name == "dead" else None) for name in ["done", "dead", "last"]
    )
    work(fifo, send(fifo, (done, "g")))
    assert fifo.run(send(fifo, (done, "g"), (dead, "g"), ("{", "g"), (last, "g"))) == []
    assert [(item(one.task_id) or {})["status"] for one in (done, dead, last)] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert (item(done.task_id) or {})["duplicates"] == 1
    assert fifo.dead_letters().keys() == {dead.to_body(), "{"}


def test_what_cannot_be_dead_lettered_stops_its_group(fifo: Function, item: Item, run_id: str) -> None:
    """Without a dead-letter queue a failed task and an invalid message are not final, so nothing passes them."""
    fifo.set(TASKQ_DEAD_LETTER_QUEUE_URL=fifo.dead.replace("dead-", "gone-"))
    bad, behind = task(f"{run_id}-bad", simulate=FINAL), task(f"{run_id}-behind")
    after = task(f"{run_id}-after")
    delivered = send(fifo, (bad, "a"), (behind, "a"), ("{", "b"), (after, "b"))
    assert len(fifo.run(delivered)) == 4
    assert item(behind.task_id) is item(after.task_id) is None


def test_what_another_worker_holds_stops_its_group(fifo: Function, worker: Workers, item: Item, run_id: str) -> None:
    """A task that is leased elsewhere comes again when the lease ends, and its group with it."""
    leased, behind = task(f"{run_id}-leased"), task(f"{run_id}-behind")
    worker("busy").claim(deliveries(leased), round(time.time() + 60, 3))
    assert len(fifo.run(send(fifo, (leased, "g"), (behind, "g")))) == 2
    assert item(behind.task_id) is None
    [request] = fifo.requests("ChangeMessageVisibilityBatch")
    assert {60 <= entry["VisibilityTimeout"] <= 62 for entry in request["Entries"]} == {True}


def test_a_record_that_is_refused_stops_its_group(
    fifo: Function, item: Item, code: Callable[[Callable[[], Any]], None], worker: Workers, run_id: str
) -> None:
    """Where another worker has taken the task over meanwhile, it is not final by us, and nothing passes it."""

    def lose_it() -> dict[str, Any]:
        other = worker("other")
        assert other.release([Claim(delivery=deliveries(slow)[0], verdict=Verdict.CLAIMED)]) == []
        table = other.sql
        table.execute([table.update({"claimedBy": "other"}, [], 'WHERE "taskId" = ?', [slow.task_id])])
        return {}

    code(lose_it)
    slow, behind = task(f"{run_id}-slow", type="OWN"), task(f"{run_id}-behind")
    assert len(fifo.run(send(fifo, (slow, "g"), (behind, "g")))) == 2
    assert item(behind.task_id) is None


def test_a_suspect_keeps_its_place(fifo: Function, worker: Workers, item: Item, run_id: str) -> None:
    """It runs when all else is done, alone, and nothing of its group runs in that batch; then the group goes on."""
    suspect, behind, last = (task(f"{run_id}-{i}") for i in range(3))
    others = [task(f"{run_id}-other-{i}") for i in range(3)]
    worker("vanished").claim(deliveries(suspect), round(time.time() - 1, 3))
    started = starts(fifo)
    delivered = send(fifo, (suspect, "a"), (behind, "a"), *((one, "b") for one in others), (last, "a"))
    assert bodies_of(delivered, work(fifo, delivered)) == [behind.to_body(), last.to_body()]
    assert started == [*(one.task_id for one in others), suspect.task_id]
    assert item(behind.task_id) is None
    assert fifo.run(fifo.receive()) == []
    assert started[4:] == [behind.task_id, last.task_id]


def test_a_batch_without_time_is_given_back(fifo: Function, item: Item, run_id: str) -> None:
    """At the deadline what has not had its turn is given back, unclaimed; the second task is not started late."""
    fifo_sent = [task(f"{run_id}-{i}", simulate={"seconds": 0.4}) for i in range(4)]
    delivered = send(fifo, *((one, "g") for one in fifo_sent))
    again = fifo.run(delivered, remaining_s=batch.MARGIN_S + 0.6)
    assert len(again) == 3
    assert [(item(one.task_id) or {}).get("attempts") for one in fifo_sent] == [1, 1, None, None]
    assert item(fifo_sent[1].task_id)["errorType"] == "TimeoutError"  # type: ignore[index]


def test_two_messages_of_one_task_keep_their_places(fifo: Function, item: Item, run_id: str) -> None:
    """The second message of a task ends where the task is final; else its group, whichever it is, stops there."""
    good, bad = task(f"{run_id}-good"), task(f"{run_id}-bad", simulate=FAILS)
    behind, last = task(f"{run_id}-behind"), task(f"{run_id}-last")
    delivered = send(fifo, (good, "a"), (bad, "b"), (good, "c"), (last, "c"), (good, "a"), (bad, "d"), (behind, "d"))
    assert bodies_of(delivered, fifo.run(delivered)) == [bad.to_body(), bad.to_body(), behind.to_body()]
    assert (item(good.task_id) or {})["duplicates"] == 2
    assert ((item(good.task_id) or {})["attempts"], (item(bad.task_id) or {})["attempts"]) == (1, 1)
    assert item(behind.task_id) is None
    assert (item(last.task_id) or {})["status"] == "COMPLETED"


def test_a_redriven_task_that_dies_again_at_once_is_a_dead_letter_again(
    fifo: Function, item: Item, run_id: str
) -> None:
    """Dead letters keep their group, and SQS takes no second death for the first, within five minutes or not."""
    bad = task(f"{run_id}-bad", simulate=FINAL)
    assert work(fifo, send(fifo, (bad, "tenant"))) == []
    for n_redrives in (1, 2):
        fifo.redrive()
        again = fifo.receive()
        assert [record["attributes"]["MessageGroupId"] for record in again["Records"]] == ["tenant"]
        assert work(fifo, again) == []
        assert (item(bad.task_id) or {})["redrives"] == n_redrives
    assert fifo.dead_letters().keys() == {bad.to_body()}


def test_an_open_breaker_holds_the_group(
    fifo: Function, item: Item, run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an open breaker holds back stops its group, tasks of other types behind it included; other groups run."""
    fifo.set(TASKQ_BREAKER_FAILURE_PERCENT="50", TASKQ_BREAKER_MINIMUM_TASKS="1")
    kind = "IMAGE_RESIZE"
    now = time.time()
    batch._memory.views[kind] = View(
        state=BreakerState.OPEN, seen_at=now, window=0, n=1, failed=1, probe_at=now + 50, transitions=[]
    )
    held, behind, other = task(f"{run_id}-held", type=kind), task(f"{run_id}-behind"), task(f"{run_id}-other")
    assert len(fifo.run(send(fifo, (held, "a"), (behind, "a"), (other, "b")))) == 2
    assert item(held.task_id) is item(behind.task_id) is None
    assert (item(other.task_id) or {})["status"] == "COMPLETED"
    assert lines(capsys.readouterr().out, "taskq.held_back")[0]["nTasks"] == 1


KINDS = ["completes", "fails", "final", "invalid", "leased", "suspect", "done", "twin"]


def prepare(worker: Workers, kind: str, name: str, sent: list[str]) -> str:
    """Bring a task into the state that its kind says; returns its message's body."""
    if kind == "invalid":
        return f'{{"task_id": "{name}"}}'
    valid = [body for body in sent if '"type"' in body]
    if kind == "twin" and valid:
        return valid[len(name) % len(valid)]
    one = task(name, simulate={"fails": FAILS, "final": FINAL}.get(kind))
    if kind in {"leased", "suspect"}:
        worker("other").claim(deliveries(one), round(time.time() + (60 if kind == "leased" else -1), 3))
    if kind == "done":
        store = worker("other")
        results, _ = execute.run_claims(store.claim(deliveries(one), time.time() + 60), time.time() + 60, 3)
        assert store.record(results) == [True]
    return one.to_body()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from("abc")), min_size=1, max_size=10),
    can_bury=st.booleans(),
)
def test_nothing_overtakes_in_its_group(
    fifo: Function, worker: Workers, item: Item, plan: list[tuple[str, str]], *, can_bury: bool
) -> None:
    """Whatever the tasks of a batch do, one starts only when all ahead of it in its group are final.

    And what is given back is the end of its group, of which no task was started but the first.
    """
    stamp = f"h{time.time_ns()}"
    sent: list[str] = []
    for number, (kind, _) in enumerate(plan):
        sent.append(prepare(worker, kind, f"{stamp}-{number}", sent))
    with pytest.MonkeyPatch.context() as patch:
        gone = fifo.dead.replace("dead-", "gone-")
        patch.setenv("TASKQ_DEAD_LETTER_QUEUE_URL", fifo.dead if can_bury else gone)
        hold_order(fifo, item, patch, [(body, group) for body, (_, group) in zip(sent, plan, strict=True)])
    fifo.sqs.purge_queue(QueueUrl=fifo.queue)


def hold_order(fifo: Function, item: Item, patch: pytest.MonkeyPatch, sent: list[tuple[str, str]]) -> None:
    """Run a batch and hold what is said above."""
    run, ahead = execute._run, dict[str, list[str]]()
    started, wrong = list[str](), list[str]()

    def check(claim: Claim, *others: Any) -> Any:
        started.append(claim.delivery.task.task_id)
        wrong.extend(one for one in ahead[claim.delivery.record.message_id] if not ended(item(one)))
        return run(claim, *others)

    patch.setattr(execute, "_run", check)
    delivered = send(fifo, *sent)
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in delivered["Records"]:
        before = groups.setdefault(record["attributes"]["MessageGroupId"], [])
        parsed = [parse_record(one) for one in before]
        ahead[record["messageId"]] = [one.task.task_id for one in parsed if not isinstance(one, Invalid)]
        before.append(record)
    again = set(fifo.run(delivered))
    assert not wrong
    assert len(started) == len(set(started))
    for records in groups.values():
        returned = [record["messageId"] in again for record in records]
        assert returned == sorted(returned)
        for record in records[returned.index(True) + 1 :] if any(returned) else []:
            twins = sum(body == record["body"] for body, _ in sent)
            if '"type"' in record["body"] and twins == 1:
                assert parse_body(record["body"]).task_id not in started
    for record in delivered["Records"]:
        if record["messageId"] not in again and '"type"' in record["body"]:
            assert ended(item(parse_body(record["body"]).task_id))
