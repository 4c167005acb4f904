"""The batch loop on real queues and a real table: every record ends here or comes again, and nothing is raised."""

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib.workload import Workload, generate
from taskq_worker import batch, contract, execute
from taskq_worker.contract import Outcome, Retry, Task, register
from taskq_worker.retry import backoff
from taskq_worker.settings import Settings
from taskq_worker.store import Result, StatusStore, Verdict
from tests.integration.function import Function
from tests.unit.events import deliveries, event, lines, task

pytestmark = pytest.mark.integration

Item = Callable[[str], dict[str, Any]]
Workers = Callable[..., StatusStore]

PERMANENT = {"fail_attempts": -1, "error": "CorruptInput"}


def names(delivered: dict[str, Any]) -> list[str]:
    """Return the message ids of an event, sorted."""
    return sorted(record["messageId"] for record in delivered["Records"])


def size(found: dict[str, Any]) -> int:
    """Return an item's size in bytes by DynamoDB's rules: names, values, and 3 + 1 for each list, map and member."""

    def of(value: Any) -> int:
        if isinstance(value, bool):
            return 1
        if isinstance(value, int | float):
            return len(f"{value:.17g}".replace(".", "").lstrip("0")) // 2 + 2
        if isinstance(value, str):
            return len(value.encode())
        if isinstance(value, dict):
            return 3 + sum(len(name) + of(member) + 1 for name, member in value.items())
        return 3 + sum(of(member) + 1 for member in value)

    return sum(len(name.encode()) + of(value) for name, value in found.items())


def test_a_fresh_batch_takes_two_requests(function: Function, item: Item, run_id: str) -> None:
    """Ten new tasks are claimed in one request and recorded in one more; nothing else is asked of any service."""
    delivered = function.send(*(task(f"{run_id}-{i}") for i in range(10)))
    assert function.run(delivered) == []
    assert [operation for operation, _ in function.calls] == ["BatchExecuteStatement"] * 2
    assert {item(f"{run_id}-{i}")["status"] for i in range(10)} == {"COMPLETED"}


def test_a_completed_item_tells_the_whole_story(function: Function, item: Item, run_id: str) -> None:
    """The item of a completed task holds what was sent, when, by whom it was done and with which result."""
    before = time.time()
    sent = task(f"{run_id}-a", priority=9, run_id=run_id, enqueued_at=1.8e9 + 0.5, simulate={"seconds": 0.1})
    assert function.run(function.send(sent), aws_request_id="request") == []
    found = item(f"{run_id}-a")
    [entry] = found["attemptLog"]
    assert before - 1 < found["sentAt"] <= entry["received"] <= found["startedAt"] <= entry["started"]
    assert entry["finished"] - entry["started"] >= 0.099  # both are rounded to milliseconds
    assert entry == {
        "received": entry["received"],
        "requestId": "request",
        "coldStart": True,
        "started": entry["started"],
        "finished": found["finishedAt"],
        "outcome": "completed",
    }
    assert json.loads(found.pop("result"))["message"] == "sent"
    assert found == {
        "taskId": f"{run_id}-a",
        "status": "COMPLETED",
        "updatedAt": found["updatedAt"],
        "timestamp": found["finishedAt"],
        "taskType": "SEND_EMAIL",
        "priority": 9,
        "runId": run_id,
        "attempts": 1,
        "duplicates": 0,
        "enqueuedAt": 1.8e9 + 0.5,
        "sentAt": found["sentAt"],
        "startedAt": found["startedAt"],
        "finishedAt": found["finishedAt"],
        "claimedBy": "request",
        "shard": contract.shard_of(f"{run_id}-a"),
        "expiresAt": pytest.approx(found["finishedAt"] + 30 * 86_400, abs=60),
        "attemptLog": [entry],
    }


def test_usual_items_stay_within_one_write_unit(function: Function, item: Item, run_id: str) -> None:
    """The items of a workload with its failures, each at its last write, are under 1 KB: a write costs one unit."""
    tasks = generate(Workload(n_tasks=40, duration_median_s=0.001, transient_share=0.3, permanent_share=0.3), run_id)
    fields: dict[str, Any] = {"run_id": run_id, "enqueued_at": 1_800_000_000.123}
    sent = [
        Task(
            task_id=row["task_id"],
            type=row["task_type"],
            priority=row["priority"],
            data=json.loads(row["data"]),
            **fields,
        )
        for row in tasks.to_dict("records")
    ]
    for one in sent:
        function.put(one, group="a-tenant-of-a-fair-queue")
    delivered = function.receive()
    for attempt in range(3):
        function.run(delivered, aws_request_id=f"{attempt}{uuid.uuid4()}")
        delivered = function.receive()
    assert delivered == {"Records": []}
    assert {item(one.task_id)["messageGroup"] for one in sent} == {"a-tenant-of-a-fair-queue"}
    sizes = [size(item(one.task_id)) for one in sent]
    assert 400 < min(sizes) < max(sizes) < 1_024


def test_no_records_need_no_request(function: Function) -> None:
    """An event without records asks nothing of any service."""
    assert function.run({"Records": []}) == []
    assert function.calls == []


def test_a_large_batch_is_split(function: Function, item: Item, run_id: str) -> None:
    """A batch beyond what one request takes is claimed, recorded and delayed in as few requests as there must be."""
    delivered = function.send(*(task(f"{run_id}-{i}", simulate={"fail_attempts": 1}) for i in range(60)))
    assert len(function.run(delivered)) == 60
    assert len(function.requests("BatchExecuteStatement")) == 2 * 3
    assert len(function.requests("ChangeMessageVisibilityBatch")) == 6
    assert function.run(function.receive()) == []
    assert {item(f"{run_id}-{i}")["attempts"] for i in range(60)} == {2}


def test_a_transient_failure_is_retried(function: Function, item: Item, run_id: str) -> None:
    """A task that fails once comes again by itself, completes as attempt 2, and both attempts are written down."""
    good, bad = task(f"{run_id}-good"), task(f"{run_id}-bad", simulate={"fail_attempts": 1})
    returned = function.run(function.send(good, bad))
    assert len(returned) == 1
    assert (item(bad.task_id)["status"], item(bad.task_id)["attempts"]) == ("FAILED", 1)
    again = function.receive()
    assert names(again) == returned
    assert again["Records"][0]["attributes"]["ApproximateReceiveCount"] == "2"
    assert function.run(again) == []
    found = item(bad.task_id)
    assert (found["status"], found["attempts"], found["duplicates"]) == ("COMPLETED", 2, 0)
    assert [entry["outcome"] for entry in found["attemptLog"]] == ["failed", "completed"]
    assert function.dead_letters() == {}


def test_only_the_first_invocation_is_a_cold_start(function: Function, item: Item, run_id: str) -> None:
    """The log of an attempt says of the first batch of a process, and of no other, that it was a cold start."""
    function.run(function.send(task(f"{run_id}-a", simulate={"fail_attempts": 1})))
    function.run(function.receive())
    assert [entry.get("coldStart") for entry in item(f"{run_id}-a")["attemptLog"]] == [True, None]


@pytest.mark.parametrize(
    ("simulate", "reason", "n_attempts"),
    [(PERMANENT, "max_attempts", 3), (PERMANENT | {"retryable": False}, "non_retryable", 1)],
    ids=["max_attempts", "non_retryable"],
)
def test_a_permanent_failure_is_dead_lettered(
    function: Function, item: Item, run_id: str, simulate: dict[str, Any], reason: str, n_attempts: int
) -> None:
    """A task that cannot be completed ends in the dead-letter queue with its reason, and final in the table."""
    sent = task(f"{run_id}-a", simulate=simulate)
    delivered = function.send(sent)
    for _ in range(n_attempts - 1):
        assert len(function.run(delivered)) == 1
        assert function.dead_letters() == {}
        delivered = function.receive()
    assert function.run(delivered) == []
    letter = function.dead_letters()[sent.to_body()]
    assert (letter["reason"], letter["errorType"], letter["attempts"]) == (reason, "CorruptInput", str(n_attempts))
    found = item(sent.task_id)
    assert (found["status"], found["deadLettered"], found["reason"]) == ("FAILED", True, reason)
    assert (found["attempts"], len(found["attemptLog"])) == (n_attempts, n_attempts)
    assert "leaseUntil" not in found


def test_a_completed_duplicate_is_a_counted_no_op(
    function: Function, item: Item, run_id: str, code: Callable[[Callable[[], Any]], None]
) -> None:
    """A task that is delivered again after it was completed is not run again: one more duplicate, nothing else."""
    runs: list[int] = []
    code(lambda: runs.append(1))
    sent = task(f"{run_id}-a", type="OWN")
    assert function.run(function.send(sent)) == []
    before = item(sent.task_id)
    assert function.run(function.send(sent)) == []
    assert runs == [1]
    assert item(sent.task_id) == before | {"duplicates": 1}


def test_twins_of_a_batch_run_once(function: Function, item: Item, run_id: str) -> None:
    """Of two deliveries of one task in the same batch one is worked on, the other is counted."""
    twin, other = task(f"{run_id}-a"), task(f"{run_id}-b")
    assert function.run(function.send(twin, other, twin, twin)) == []
    found = item(twin.task_id)
    assert (found["status"], found["attempts"], found["duplicates"]) == ("COMPLETED", 1, 2)
    assert item(other.task_id)["duplicates"] == 0


def test_twins_of_a_finished_task_are_all_counted(function: Function, item: Item, run_id: str) -> None:
    """Of a completed task that is delivered three times in one batch, three duplicates are counted."""
    sent = task(f"{run_id}-a")
    assert function.run(function.send(sent)) == []
    assert function.run(function.send(sent, sent, sent)) == []
    assert item(sent.task_id)["duplicates"] == 3


def test_twins_of_a_leased_task_are_counted(function: Function, item: Item, worker: Workers, run_id: str) -> None:
    """Of a task that another worker holds one message comes again, and the others are counted."""
    sent = task(f"{run_id}-a")
    worker("other").claim(deliveries(sent), round(time.time() + 60, 3))
    assert len(function.run(function.send(sent, sent, sent))) == 1
    assert item(sent.task_id)["duplicates"] == 2


def test_a_live_lease_is_left_alone(function: Function, item: Item, worker: Workers, run_id: str) -> None:
    """A task that another worker has is given back untouched, to come again once that lease has ended."""
    worker().claim(deliveries(task(f"{run_id}-a")), round(time.time() + 100, 3))
    before = item(f"{run_id}-a")
    delivered = function.send(task(f"{run_id}-a"), task(f"{run_id}-b"))
    assert len(function.run(delivered)) == 1
    [request] = function.requests("ChangeMessageVisibilityBatch")
    assert [99 <= entry["VisibilityTimeout"] <= 101 for entry in request["Entries"]] == [True]
    assert item(f"{run_id}-a") == before
    assert item(f"{run_id}-b")["status"] == "COMPLETED"
    assert function.receive() == {"Records": []}


def test_an_expired_lease_is_taken_over(function: Function, item: Item, worker: Workers, run_id: str) -> None:
    """A task whose worker vanished is completed as attempt 2, and the vanished attempt is in its log."""
    worker().claim(deliveries(task(f"{run_id}-a")), round(time.time() - 1, 3))
    assert function.run(function.send(task(f"{run_id}-a"))) == []
    found = item(f"{run_id}-a")
    assert (found["status"], found["attempts"]) == ("COMPLETED", 2)
    assert [entry["outcome"] for entry in found["attemptLog"]] == ["lost", "completed"]


def test_an_exhausted_lease_is_dead_lettered(function: Function, item: Item, worker: Workers, run_id: str) -> None:
    """A task whose workers vanished three times is not started a fourth: it is dead-lettered, its attempts lost."""
    sent = task(f"{run_id}-a")
    past = round(time.time() - 1, 3)
    [last] = worker("vanished-0").claim(deliveries(sent), past)
    for i in (1, 2):
        last = worker(f"vanished-{i}").claim_suspect(last, past)
    assert function.run(function.send(sent)) == []
    letter = function.dead_letters()[sent.to_body()]
    assert (letter["reason"], letter["errorType"], letter["attempts"]) == ("max_attempts", "WorkerLost", "3")
    found = item(sent.task_id)
    assert (found["status"], found["deadLettered"], found["attempts"]) == ("FAILED", True, 3)
    assert [entry["outcome"] for entry in found["attemptLog"]] == ["lost"] * 3
    assert "leaseUntil" not in found


def test_what_vanished_beside_others_is_tried_alone_before_it_is_given_up(
    function: Function, item: Item, worker: Workers, run_id: str
) -> None:
    """A task whose last attempt of the budget vanished in a batch may be a neighbour's victim: it gets one alone."""
    victim = task(f"{run_id}-victim", simulate={"fail_attempts": 2})
    delivered = function.send(victim)
    function.run(delivered)
    function.run(delivered)
    worker("vanished").claim(deliveries(victim), round(time.time() - 1, 3))
    assert item(victim.task_id)["attempts"] == 3
    assert function.run(delivered) == []
    found = item(victim.task_id)
    assert (found["status"], found["attempts"]) == ("COMPLETED", 4)
    assert [entry["outcome"] for entry in found["attemptLog"]] == ["failed", "failed", "lost", "completed"]


def test_what_vanished_alone_is_given_up(worker: Workers, run_id: str) -> None:
    """The extra attempt is one: a task that vanishes in it as well is dead-lettered."""
    sent, past = task(f"{run_id}-a"), round(time.time() - 1, 3)
    one = worker("w-1", max_attempts=1).claim(deliveries(sent), past)[0]
    one = worker("w-2", max_attempts=1).claim(deliveries(sent), past)[0]
    assert one.verdict is Verdict.SUSPECT
    assert worker("w-2", max_attempts=1).claim_suspect(one, past).attempt == 2
    assert worker("w-3", max_attempts=1).claim(deliveries(sent), past)[0].verdict is Verdict.EXHAUSTED


def test_a_suspect_runs_last_and_alone(
    function: Function, item: Item, worker: Workers, run_id: str, code: Callable[[Callable[[], Any]], None]
) -> None:
    """What vanished before runs when all else is done, so that it can take nothing with it: no outcome, no letter."""
    seen: list[Any] = []

    def look() -> None:
        seen.append((item(neighbour.task_id)["status"], [*function.dead_letters()]))
        seen.append([name for name, _ in function.calls].count("ChangeMessageVisibilityBatch"))

    code(look)
    suspect, neighbour = task(f"{run_id}-a", type="OWN"), task(f"{run_id}-b")
    retried = task(f"{run_id}-c", simulate={"fail_attempts": 1})
    worker("vanished").claim(deliveries(suspect), round(time.time() - 1, 3))
    assert len(function.run(function.send(suspect, neighbour, retried, "{"))) == 1
    assert seen == [("COMPLETED", ["{"]), 1]
    assert (item(suspect.task_id)["status"], item(suspect.task_id)["attempts"]) == ("COMPLETED", 2)


def test_a_late_write_is_refused(
    function: Function,
    item: Item,
    worker: Workers,
    run_id: str,
    code: Callable[[Callable[[], Any]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A worker whose lease ran out while its task ran records nothing over the next one's claim; its record returns."""

    def lose_the_lease() -> None:
        later = worker("next")
        later.client.update_item(
            TableName=later.table,
            Key={"taskId": {"S": sent.task_id}},
            UpdateExpression="SET leaseUntil = :past",
            ExpressionAttributeValues={":past": {"N": "1"}},
        )
        until = round(time.time() + 60, 3)
        [suspect] = later.claim(deliveries(sent), until)
        later.claim_suspect(suspect, until)

    code(lose_the_lease)
    sent = task(f"{run_id}-a", type="OWN")
    delivered = function.send(sent)
    assert function.run(delivered) == names(delivered)
    found = item(sent.task_id)
    assert (found["status"], found["claimedBy"], found["attempts"]) == ("PROCESSING", "next", 2)
    assert [line["taskId"] for line in lines(capsys.readouterr().out, "taskq.record_refused")] == [sent.task_id]


def test_a_running_task_says_so(
    function: Function, item: Item, run_id: str, code: Callable[[Callable[[], Any]], None]
) -> None:
    """While a task runs, its item is PROCESSING, leased until the function is killed at the latest."""
    seen: list[dict[str, Any]] = []
    code(lambda: seen.append(item(f"{run_id}-a")))
    ends_at = time.time() + 30
    assert function.run(function.send(task(f"{run_id}-a", type="OWN")), remaining_s=30.0) == []
    [found] = seen
    assert (found["status"], found["attempts"]) == ("PROCESSING", 1)
    assert found["leaseUntil"] == pytest.approx(ends_at, abs=1)


def test_an_invalid_record_is_alone(function: Function, item: Item, run_id: str) -> None:
    """A message that holds no task is dead-lettered with its reason, unchanged; its batch completes."""
    nameless, named = "{", json.dumps({"task_id": f"{run_id}-x", "run_id": run_id, "type": "FLY", "data": {}})
    assert function.run(function.send(task(f"{run_id}-a"), nameless, named)) == []
    letters = function.dead_letters()
    assert letters.keys() == {nameless, named}
    assert (letters[nameless]["reason"], letters[nameless]["attempts"]) == ("invalid", "0")
    assert letters[nameless]["error"].startswith("the body is not JSON")
    assert "taskId" not in letters[nameless]
    assert letters[named]["taskId"] == f"{run_id}-x"
    assert item(f"{run_id}-a")["status"] == "COMPLETED"
    found = item(f"{run_id}-x")
    assert (found["status"], found["deadLettered"], found["reason"]) == ("FAILED", True, "invalid")
    assert found["error"] == "unknown task type 'FLY'; known are IMAGE_RESIZE, PROCESS_DATA, SEND_EMAIL"
    assert found["runId"] == run_id


def test_an_invalid_message_cannot_undo_a_task(function: Function, item: Item, run_id: str) -> None:
    """An invalid message that names a completed task is dead-lettered and leaves the task's item as it is."""
    function.run(function.send(task(f"{run_id}-a")))
    before = item(f"{run_id}-a")
    assert function.run(function.send(json.dumps({"task_id": f"{run_id}-a"}))) == []
    assert item(f"{run_id}-a") == before
    assert len(function.dead_letters()) == 1


def test_nothing_is_final_before_its_dead_letter_has_arrived(function: Function, item: Item, run_id: str) -> None:
    """Where the dead-letter queue cannot be reached, the record returns and its task stays open; later it is buried."""
    function.set(TASKQ_DEAD_LETTER_QUEUE_URL=function.dead + "-gone", TASKQ_MAX_ATTEMPTS="1")
    bad = task(f"{run_id}-bad", simulate=PERMANENT)
    delivered = function.send(task(f"{run_id}-good"), bad, "{")
    returned = function.run(delivered)
    assert len(returned) == 2
    found = item(bad.task_id)
    assert (found["status"], found["errorType"]) == ("FAILED", "CorruptInput")
    assert not {"deadLettered", "reason"} & found.keys()
    assert item(f"{run_id}-good")["status"] == "COMPLETED"

    function.set(TASKQ_DEAD_LETTER_QUEUE_URL=function.dead)
    again = {"Records": [record for record in delivered["Records"] if record["messageId"] in returned]}
    assert function.run(again) == []
    letters = function.dead_letters()
    assert letters.keys() == {bad.to_body(), "{"}
    assert letters[bad.to_body()]["errorType"] == "CorruptInput"
    found = item(bad.task_id)
    assert (found["deadLettered"], found["reason"], found["attempts"]) == (True, "max_attempts", 1)
    assert [entry["outcome"] for entry in found["attemptLog"]] == ["failed"]


def test_a_store_that_cannot_be_reached_returns_the_batch(
    function: Function, item: Item, run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the table cannot be reached, no task is run, every record comes again, and nothing is raised."""
    function.patch.setattr(batch, "_CONFIG", Config(retries={"total_max_attempts": 1}))
    function.set(AWS_ENDPOINT_URL_DYNAMODB="http://127.0.0.1:9")
    function.forget()
    delivered = function.send(*(task(f"{run_id}-{i}") for i in range(10)))
    assert function.run(delivered) == names(delivered)
    assert item(f"{run_id}-0") is None
    output = capsys.readouterr().out
    assert lines(output, "taskq.attempt") == []
    assert "127.0.0.1:9" in lines(output, "taskq.store_failed")[0]["error"]


@pytest.mark.parametrize("lost", [1, 2, 3], ids=["claim", "claim of a retry", "record"])
def test_a_lost_answer_is_recognised(function: Function, item: Item, run_id: str, lost: int) -> None:
    """Where an answer of the table is lost and the SDK asks again, the claim and the record are known as our own."""
    retried = task(f"{run_id}-retried", simulate={"fail_attempts": 1})
    function.run(function.send(retried))
    delivered = function.receive()
    delivered["Records"] += function.send(*(task(f"{run_id}-{i}") for i in range(9)))["Records"]
    tries = function.lose_answer(lost)
    assert function.run(delivered) == []
    assert (tries.count(1), tries.count(2)) == (3, 1)
    assert {item(f"{run_id}-{i}")["attempts"] for i in range(9)} == {1}
    found = [item(task_id) for task_id in [retried.task_id, *(f"{run_id}-{i}" for i in range(9))]]
    assert {one["status"] for one in found} == {"COMPLETED"}
    assert {one["duplicates"] for one in found} == {0}
    assert found[0]["attempts"] == 2


def test_a_claim_whose_answer_is_lost_uses_no_attempt(function: Function, item: Item, run_id: str) -> None:
    """A claim that took effect, and of which no answer ever came, is given back at the end of its batch."""
    sent = task(f"{run_id}-a")
    for _ in range(4):
        function.forget()
        function.lose_answers(1)
        assert len(function.run(function.send(sent))) == 1
        function.sqs.purge_queue(QueueUrl=function.queue)
        assert (item(sent.task_id)["status"], item(sent.task_id)["attempts"]) == ("FAILED", 0)
    function.forget()
    assert function.run(function.send(sent)) == []
    assert (item(sent.task_id)["status"], item(sent.task_id)["attempts"]) == ("COMPLETED", 1)


def test_what_could_not_start_uses_no_attempt(function: Function, item: Item, run_id: str) -> None:
    """A task that found no time in its batch comes again at once, as the attempt that it was."""
    function.patch.setattr(execute, "MAX_THREADS", 2)
    sent = [task(f"{run_id}-{i}", simulate={"seconds": 0.7}) for i in range(4)]
    delivered = function.send(*sent)
    assert len(function.run(delivered, remaining_s=batch.MARGIN_S + 0.3)) == 4
    assert [item(one.task_id)["attempts"] for one in sent] == [1, 1, 0, 0]
    assert [item(one.task_id)["status"] for one in sent] == ["FAILED"] * 4
    assert [item(one.task_id).get("errorType") for one in sent] == ["TimeoutError", "TimeoutError", None, None]
    function.patch.setattr(execute, "MAX_THREADS", 4)
    assert function.run(function.receive()) == []
    assert [item(one.task_id)["attempts"] for one in sent] == [2, 2, 1, 1]
    assert {item(one.task_id)["status"] for one in sent} == {"COMPLETED"}
    assert [len(item(one.task_id)["attemptLog"]) for one in sent] == [2, 2, 1, 1]


def test_a_suspect_that_another_worker_tried_meanwhile_comes_again(
    function: Function, worker: Workers, code: Callable[[Callable[[], Any]], None], item: Item, run_id: str
) -> None:
    """Where another worker has had a suspect and failed before its turn came, its message is not taken for done."""
    suspect = task(f"{run_id}-suspect")
    worker("vanished").claim(deliveries(suspect), round(time.time() - 1, 3))

    def try_it_meanwhile() -> dict[str, Any]:
        other = worker("other")
        [found] = other.claim(deliveries(suspect), round(time.time() + 9, 3))
        claim = other.claim_suspect(found, round(time.time() + 9, 3))
        now = time.time()
        assert other.record([Result(claim=claim, outcome=Outcome.FAILED, started_at=now, finished_at=now)]) == [True]
        return {}

    code(try_it_meanwhile)
    delivered = function.send(suspect, task(f"{run_id}-own", type="OWN"))
    [suspects_own, _] = [record["messageId"] for record in delivered["Records"]]
    assert function.run(delivered) == [suspects_own]
    assert function.run(function.receive()) == []
    assert (item(suspect.task_id)["status"], item(suspect.task_id)["attempts"]) == ("COMPLETED", 3)


def test_a_message_that_is_gone_does_not_stop_the_rest(function: Function, run_id: str) -> None:
    """A receipt handle that SQS no longer knows is reported in the log; the response is still complete."""
    delivered = event(*(task(f"{run_id}-{i}", simulate={"fail_attempts": 1}) for i in range(3)))
    for record in delivered["Records"]:
        record["eventSourceARN"] = function.source
    assert function.run(delivered) == names(delivered)


def settings_of(**environment: str) -> Settings:
    """Read settings from an environment that says what these tests need."""
    plain = {
        "TABLE": "t",
        "QUEUE_URLS": "q",
        "DEAD_LETTER_QUEUE_URL": "d",
        "MAX_ATTEMPTS": "20",
        "TTL_DAYS": "0",
        "STACK": "s",
    }
    plain |= {
        "METRICS": "true",
        "RETRY_BASE_S": "2",
        "RETRY_FACTOR": "2",
        "RETRY_CAP_S": "300",
        "BREAKER_FAILURE_PERCENT": "0",
    }
    plain |= {"BREAKER_MINIMUM_TASKS": "20", "BREAKER_WINDOW_S": "60", "BREAKER_COOLDOWN_S": "30"}
    return Settings.from_environment({f"TASKQ_{name}": value for name, value in (plain | environment).items()})


@given(base=st.integers(0, 900), factor=st.integers(1, 10), cap=st.integers(0, 43_200), attempt=st.integers(1, 21))
def test_the_back_off_has_its_bounds(base: int, factor: int, cap: int, attempt: int) -> None:
    """A wait lies between 0 and base x factor^(attempt - 1), and is never longer than the cap."""
    chosen = settings_of(RETRY_BASE_S=str(base), RETRY_FACTOR=str(factor), RETRY_CAP_S=str(cap))
    wait_s = backoff(chosen, task("a"), attempt)
    assert 0 <= wait_s <= min(cap, base * factor ** (attempt - 1))


def test_the_back_off_is_full_jitter() -> None:
    """Waits spread evenly over the whole range, so that tasks that failed together do not come again together."""
    waits = sorted(backoff(settings_of(RETRY_BASE_S="8"), task("a"), 3) for _ in range(2_000))
    assert waits[0] < 1
    assert waits[-1] > 31
    assert waits[1_000] == pytest.approx(16, abs=2)


def test_a_task_type_may_have_a_back_off_of_its_own(code: Callable[[Callable[[], Any]], None]) -> None:
    """What a type says of its retries counts for its tasks alone, and the template's parameters for the rest."""
    code(dict)
    register("PATIENT", retry=Retry(base_s=1_000, factor=1, cap_s=2_000))(lambda _context: {})
    waits = [backoff(settings_of(), task("a", type="PATIENT", data={}), 5) for _ in range(200)]
    assert 700 < max(waits) <= 1_000
    assert max(backoff(settings_of(), task("a"), 1) for _ in range(200)) <= 2


def test_a_retry_waits_as_long_as_its_error_asked(function: Function, run_id: str) -> None:
    """An error that said "not before" delays its task by that and the back-off, in the batch's one request."""
    function.set(TASKQ_RETRY_BASE_S="2")
    asked = [0, 30, 600, 0.2]
    tasks = [
        task(f"{run_id}-{i}", simulate={"fail_attempts": 1, "retry_after_s": seconds})
        for i, seconds in enumerate(asked)
    ]
    function.run(function.send(*tasks))
    [request] = function.requests("ChangeMessageVisibilityBatch")
    for seconds, entry in zip(asked, request["Entries"], strict=True):
        assert seconds <= entry["VisibilityTimeout"] <= seconds + 3


def test_not_before_holds_however_the_message_comes_back(function: Function, item: Item, run_id: str) -> None:
    """A task that asked to be left alone is not started before then, even where its message was not hidden so long."""
    sent = task(f"{run_id}-a", simulate={"fail_attempts": 1, "retry_after_s": 600})
    delivered = function.send(sent)
    function.run(delivered)
    function.calls.clear()
    assert len(function.run(delivered)) == 1
    assert item(sent.task_id)["attempts"] == 1
    [request] = function.requests("ChangeMessageVisibilityBatch")
    assert 590 <= request["Entries"][0]["VisibilityTimeout"] <= 602


def test_no_delay_is_longer_than_sqs_takes(function: Function, run_id: str) -> None:
    """SQS hides a message 12 h from its receive on, and refuses more; what is asked for stays an hour below."""
    function.set(TASKQ_RETRY_BASE_S="43200", TASKQ_RETRY_CAP_S="43200")
    tasks = [task(f"{run_id}-{i}", simulate={"fail_attempts": 1, "retry_after_s": 900}) for i in range(10)]
    function.run(function.send(*tasks))
    [request] = function.requests("ChangeMessageVisibilityBatch")
    assert max(entry["VisibilityTimeout"] for entry in request["Entries"]) <= 11 * 3_600


def test_a_retry_is_delayed_by_the_back_off(function: Function, run_id: str) -> None:
    """A failed task comes again after its back-off: its message stays hidden for as long as was drawn."""
    function.set(TASKQ_RETRY_BASE_S="900", TASKQ_RETRY_CAP_S="40")
    function.patch.setattr("taskq_worker.retry.random.uniform", lambda _low, high: high)
    function.run(function.send(task(f"{run_id}-a", simulate={"fail_attempts": 1})))
    [request] = function.requests("ChangeMessageVisibilityBatch")
    assert [entry["VisibilityTimeout"] for entry in request["Entries"]] == [40]
    assert function.receive() == {"Records": []}
