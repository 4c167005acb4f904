"""The status store: one worker at a time has a task, its attempts are counted, and what is final stays so."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from taskq_lib.aws.stack import Stack
from taskq_worker.contract import Outcome, Reason
from taskq_worker.partiql import MAX_STATEMENTS, N_TRIES
from taskq_worker.store import Claim, Result, StatusStore, Verdict
from tests.unit.events import claim, deliveries, task

pytestmark = pytest.mark.integration

Item = Callable[[str], dict[str, Any]]
Workers = Callable[..., StatusStore]


def take(store: StatusStore, *ids: str, lease_s: float = 60.0) -> list[Claim]:
    """Claim these tasks for `lease_s` seconds, suspects alone; below 0 the lease has run out already."""
    until = round(time.time() + lease_s, 3)
    claims = store.claim(deliveries(*(task(task_id) for task_id in ids)), until)
    return [store.claim_suspect(one, until) if one.verdict is Verdict.SUSPECT else one for one in claims]


def done(claimed: Claim, **changes: Any) -> Result:
    """Make the result of a claimed task, completed unless it is changed."""
    now = time.time()
    fields: dict[str, Any] = {"outcome": Outcome.COMPLETED, "started_at": now - 1, "finished_at": now, "result": "{}"}
    return Result(claim=claimed, **(fields | changes))


def failed(claimed: Claim, **changes: Any) -> Result:
    """Make the result of a claimed task that failed."""
    fields: dict[str, Any] = {"outcome": Outcome.FAILED, "result": None, "error_type": "Broken", "error": "it broke"}
    return done(claimed, **(fields | changes))


def test_a_fresh_task_is_claimed(worker: Workers, item: Item, run_id: str) -> None:
    """A task without an item is claimed as attempt 1, and the item says who has it, and until when."""
    until = round(time.time() + 60, 3)
    sent = task(f"{run_id}-a", type="IMAGE_RESIZE", priority=9, run_id=run_id, enqueued_at=1.8e9 + 0.125)
    [one] = worker("me").claim(deliveries(sent), until)
    assert (one.verdict, one.attempt, one.history) == (Verdict.CLAIMED, 1, ())
    found = item(f"{run_id}-a")
    assert found["updatedAt"].endswith("+00:00")
    assert abs(found["timestamp"] - time.time()) < 5
    assert found == {
        "taskId": f"{run_id}-a",
        "status": "PROCESSING",
        "updatedAt": found["updatedAt"],
        "timestamp": found["timestamp"],
        "taskType": "IMAGE_RESIZE",
        "priority": 9,
        "runId": run_id,
        "attempts": 1,
        "duplicates": 0,
        "enqueuedAt": 1.8e9 + 0.125,
        "sentAt": 1_800_000_000,
        "startedAt": found["timestamp"],
        "claimedBy": "me",
        "leaseUntil": until,
        "shard": found["shard"],
        "expiresAt": int(found["timestamp"]) + 30 * 86_400,
    }


def test_answers_come_in_order(worker: Workers, run_id: str) -> None:
    """Of many tasks, more than one request holds, each gets its own answer, the known ones among them."""
    ids = [f"{run_id}-{i:03d}" for i in range(2 * MAX_STATEMENTS + 7)]
    take(worker("before"), *ids[::3])
    claims = take(worker("me"), *ids)
    assert [one.delivery.task.task_id for one in claims] == ids
    assert [one.verdict for one in claims] == [Verdict.CLAIMED if i % 3 else Verdict.LEASED for i in range(len(ids))]


def test_a_live_lease_is_respected(worker: Workers, item: Item, run_id: str) -> None:
    """A task that another worker has is not touched; the answer says when that lease ends."""
    take(worker(), f"{run_id}-a", lease_s=50)
    before = item(f"{run_id}-a")
    [one] = take(worker("me"), f"{run_id}-a")
    assert (one.verdict, one.lease_until) == (Verdict.LEASED, before["leaseUntil"])
    assert item(f"{run_id}-a") == before


def test_a_task_that_vanished_is_not_claimed_with_its_batch(worker: Workers, item: Item, run_id: str) -> None:
    """A lease that ran out makes a suspect: claiming its batch leaves it as it is, so it uses no attempt there."""
    take(worker("vanished"), f"{run_id}-a", lease_s=-1)
    before = item(f"{run_id}-a")
    until = round(time.time() + 60, 3)
    fresh, suspect = worker("me").claim(deliveries(task(f"{run_id}-b"), task(f"{run_id}-a")), until)
    assert (fresh.verdict, suspect.verdict, suspect.attempt) == (Verdict.CLAIMED, Verdict.SUSPECT, 1)
    assert item(f"{run_id}-a") == before


def test_an_expired_lease_is_taken_over(worker: Workers, item: Item, run_id: str) -> None:
    """A lease that ran out is taken over as the next attempt; the one that vanished is written down as lost."""
    take(worker(), f"{run_id}-a", lease_s=-1)
    me = worker("me", log_entry={"requestId": "me"})
    [one] = take(me, f"{run_id}-a")
    assert (one.verdict, one.attempt) == (Verdict.CLAIMED, 2)
    assert me.record([done(one)]) == [True]
    found = item(f"{run_id}-a")
    assert (found["status"], found["attempts"]) == ("COMPLETED", 2)
    lost, completed = found["attemptLog"]
    assert lost == {"outcome": "lost"}
    assert (completed["outcome"], completed["requestId"]) == ("completed", "me")


def test_a_late_write_is_refused(worker: Workers, item: Item, run_id: str) -> None:
    """A worker that lost its lease cannot record any more, neither before nor after the next one has finished."""
    late, me = worker("late"), worker("me")
    [old] = take(late, f"{run_id}-a", lease_s=-1)
    [new] = take(me, f"{run_id}-a")
    assert late.record([done(old)]) == [False]
    assert item(f"{run_id}-a")["status"] == "PROCESSING"
    assert me.record([done(new, result='"mine"')]) == [True]
    assert late.record([failed(old, reason=Reason.NON_RETRYABLE)]) == [False]
    assert item(f"{run_id}-a")["result"] == '"mine"'


def test_the_budget_counts_starts(worker: Workers, run_id: str) -> None:
    """After three starts that all vanished there is no fourth: the task is exhausted at its last attempt."""
    verdicts = [take(worker(f"w-{i}"), f"{run_id}-a", lease_s=-1)[0] for i in range(4)]
    assert [(one.verdict, one.attempt) for one in verdicts] == [
        (Verdict.CLAIMED, 1), (Verdict.CLAIMED, 2), (Verdict.CLAIMED, 3), (Verdict.EXHAUSTED, 3),
    ]  # fmt: skip


def test_a_failed_attempt_releases_its_lease(worker: Workers, item: Item, run_id: str) -> None:
    """A failure that is not final says its error and frees the task at once; success then removes the error again."""
    [one] = take(worker("first"), f"{run_id}-a")
    worker("first").record([failed(one)])
    found = item(f"{run_id}-a")
    assert (found["status"], found["error"], found["errorType"]) == ("FAILED", "it broke", "Broken")
    assert found["leaseUntil"] == found["finishedAt"]
    assert "deadLettered" not in found
    [two] = take(worker("second"), f"{run_id}-a")
    assert (two.verdict, two.attempt, len(two.history)) == (Verdict.CLAIMED, 2, 1)
    worker("second").record([done(two)])
    found = item(f"{run_id}-a")
    assert not {"error", "errorType", "leaseUntil"} & found.keys()
    assert [entry["outcome"] for entry in found["attemptLog"]] == ["failed", "completed"]


@pytest.mark.parametrize("final", ["completed", "dead-lettered"])
def test_a_final_task_stays_final(worker: Workers, item: Item, run_id: str, final: str) -> None:
    """What was completed or dead-lettered is never claimed again, by anybody, at any time."""
    [one] = take(worker("first"), f"{run_id}-a")
    worker("first").record([done(one) if final == "completed" else failed(one, reason=Reason.NON_RETRYABLE)])
    before = item(f"{run_id}-a")
    assert [take(worker(f"w-{i}"), f"{run_id}-a")[0].verdict for i in range(3)] == [Verdict.FINISHED] * 3
    assert item(f"{run_id}-a") == before
    assert before.get("deadLettered", False) == (final == "dead-lettered")


def test_a_claim_that_was_not_started_is_given_back(worker: Workers, item: Item, run_id: str) -> None:
    """A claim that is released uses no attempt: the next worker's claim is the same attempt again."""
    take(worker("vanished"), f"{run_id}-b", lease_s=-1)
    claims = take(worker("first"), f"{run_id}-a", f"{run_id}-b")
    assert [one.attempt for one in claims] == [1, 2]
    worker("first").release(claims)
    assert [item(f"{run_id}-{name}")["attempts"] for name in "ab"] == [0, 1]
    again = take(worker("second"), f"{run_id}-a", f"{run_id}-b")
    assert [(one.verdict, one.attempt) for one in again] == [(Verdict.CLAIMED, 1), (Verdict.CLAIMED, 2)]


@pytest.fixture
def lost_answer(stack: Stack) -> Iterator[list[int]]:
    """Lose the first answer that the table gives, so that the SDK asks again; lists the tries of each request."""
    tries: list[int] = []

    def lose(attempts: int, **_: Any) -> float | None:
        tries.append(attempts)
        return 0.0 if len(tries) == 1 else None

    events = stack.target.client("dynamodb").meta.events
    events.register_first("needs-retry.dynamodb.BatchExecuteStatement", lose)
    yield tries
    events.unregister("needs-retry.dynamodb.BatchExecuteStatement", lose)


def test_a_claim_is_given_back_once(worker: Workers, item: Item, run_id: str, request: pytest.FixtureRequest) -> None:
    """Where the answer to a release is lost and the SDK asks again, the attempt is given back once and not twice."""
    take(worker("vanished"), f"{run_id}-b", lease_s=-1)
    claims = take(worker("first"), f"{run_id}-a", f"{run_id}-b")
    tries = request.getfixturevalue("lost_answer")
    worker("first").release(claims)
    assert tries == [1, 2]
    assert [item(f"{run_id}-{name}")["attempts"] for name in "ab"] == [0, 1]


def test_a_duplicate_is_counted_once(worker: Workers, item: Item, run_id: str, request: pytest.FixtureRequest) -> None:
    """Where the answer to a record is lost and the SDK asks again, twins in the batch are still counted once."""
    me = worker("me")
    [one] = take(me, f"{run_id}-a")
    tries = request.getfixturevalue("lost_answer")
    assert me.record([done(one, n_duplicates=2)]) == [True]
    assert tries[:2] == [1, 2]
    assert item(f"{run_id}-a")["duplicates"] == 2


def test_only_the_holder_gives_back(worker: Workers, item: Item, run_id: str) -> None:
    """A worker that lost its lease cannot release the next one's claim."""
    old = take(worker("late"), f"{run_id}-a", lease_s=-1)
    take(worker("me"), f"{run_id}-a")
    before = item(f"{run_id}-a")
    worker("late").release(old)
    assert item(f"{run_id}-a") == before


def test_further_deliveries_are_counted(worker: Workers, item: Item, run_id: str) -> None:
    """Duplicates of the same batch and of later ones add up, and change nothing else."""
    me = worker("me")
    [one] = take(me, f"{run_id}-a")
    me.record([done(one, n_duplicates=2)])
    before = item(f"{run_id}-a")
    assert before["duplicates"] == 2
    worker().note([], [f"{run_id}-a", f"{run_id}-unknown"])
    assert item(f"{run_id}-a") == before | {"duplicates": 3}
    assert item(f"{run_id}-unknown") is None


def test_an_invalid_message_is_noted_once(worker: Workers, item: Item, run_id: str) -> None:
    """An invalid message that named a task leaves a final item without attempts; it never changes one that is there."""
    worker().note([(f"{run_id}-a", run_id, "data is missing"), (f"{run_id}-b", None, "no type")], [])
    found = item(f"{run_id}-a")
    assert {name: found[name] for name in ("status", "deadLettered", "reason", "errorType", "error", "attempts")} == {
        "status": "FAILED",
        "deadLettered": True,
        "reason": "invalid",
        "errorType": "InvalidMessage",
        "error": "data is missing",
        "attempts": 0,
    }
    assert found["runId"] == run_id
    assert "runId" not in item(f"{run_id}-b")
    worker().note([(f"{run_id}-a", run_id, "another reason")], [])
    assert item(f"{run_id}-a") == found


def test_items_without_expiry(worker: Workers, item: Item, run_id: str) -> None:
    """With a time to live of 0 days items never expire."""
    me = worker("me", ttl_days=0)
    [one] = take(me, f"{run_id}-a")
    me.record([done(one)])
    assert "expiresAt" not in item(f"{run_id}-a")


@pytest.mark.parametrize("text", ["", "\x00\x07", "ä 📦 漢", "'; DROP", '"?"', "x" * 500])
def test_any_text_is_stored_as_it_is(worker: Workers, item: Item, run_id: str, text: str) -> None:
    """Errors and results of any characters come back unchanged: every value is a parameter of its statement."""
    me = worker("me")
    [one] = take(me, f"{run_id}-a")
    assert me.record([failed(one, error=text)]) == [True]
    assert item(f"{run_id}-a")["error"] == text


class Flaky:
    """A client of which some statements fail at first."""

    def __init__(self, *codes: str) -> None:
        """Answer the first statement of each request with the next of `codes`, with success once they are used up."""
        self.codes = list(codes)
        self.sizes: list[int] = []

    def batch_execute_statement(self, *, Statements: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's own name
        """Answer one request."""
        self.sizes.append(len(Statements))
        first: list[dict[str, Any]] = [{"Error": {"Code": self.codes.pop(0)}}] if self.codes else [{}]
        return {"Responses": first + [{}] * (len(Statements) - 1)}


@pytest.mark.parametrize("code", ["ThrottlingError", "InternalServerError", "TransactionConflict"])
def test_a_passing_error_is_tried_again(worker: Workers, code: str) -> None:
    """A statement that was throttled or in conflict is sent again, without those that went through."""
    client = Flaky(code, code)
    claims = take(worker(client=client), "a", "b", "c")
    assert [one.verdict for one in claims] == [Verdict.CLAIMED] * 3
    assert client.sizes == [3, 1, 1]


@pytest.mark.parametrize(("code", "n_requests"), [("ThrottlingError", N_TRIES), ("ValidationError", 1)])
def test_a_store_that_does_not_take_it_is_unavailable(worker: Workers, code: str, n_requests: int) -> None:
    """A statement that keeps failing leaves its task unclaimed, its outcome unrecorded; its neighbours go through."""
    client = Flaky(*[code] * n_requests)
    claims = take(worker(client=client), "a", "b")
    assert [one.verdict for one in claims] == [Verdict.UNAVAILABLE, Verdict.CLAIMED]
    assert len(client.sizes) == n_requests
    client = Flaky(*[code] * n_requests)
    assert worker(client=client).record([done(claim(task("a"))), done(claim(task("b")))]) == [False, True]


def test_a_request_that_fails_raises_nothing(worker: Workers, capsys: pytest.CaptureFixture[str]) -> None:
    """A request that is refused as a whole leaves every task unclaimed, and is logged."""

    class Refusing(Flaky):
        def batch_execute_statement(self, **_: Any) -> dict[str, Any]:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "BatchExecuteStatement")

    claims = take(worker(client=Refusing()), "a", "b")
    assert [one.verdict for one in claims] == [Verdict.UNAVAILABLE] * 2
    assert '"event": "taskq.store_failed"' in capsys.readouterr().out


@pytest.mark.parametrize("response", [{}, {"Responses": []}, {"Responses": [{}]}], ids=["empty", "none", "too few"])
def test_a_response_that_is_not_one_leaves_all_unclaimed(worker: Workers, response: dict[str, Any]) -> None:
    """An endpoint that answers without an answer for each statement is as good as one that does not answer."""

    class Mute(Flaky):
        def batch_execute_statement(self, **_: Any) -> dict[str, Any]:
            return response

    claims = take(worker(client=Mute()), "a", "b")
    assert [one.verdict for one in claims] == [Verdict.UNAVAILABLE] * 2


@pytest.mark.parametrize(
    "answer",
    [
        {"Error": {"Code": "ConditionalCheckFailed"}},
        {"TableName": "t"},
        {"Error": {"Code": "ConditionalCheckFailed", "Item": {"taskId": {"S": "a"}}}},
    ],
    ids=["gone", "no item", "foreign item"],
)
def test_an_answer_that_says_too_little_harms_no_neighbour(worker: Workers, answer: dict[str, Any]) -> None:
    """An item that is gone, not handed over or somebody else's raises nothing; the batch's other claims stand."""

    class Terse(Flaky):
        def batch_execute_statement(self, Statements: list[dict[str, Any]], **_: Any) -> dict[str, Any]:  # noqa: N803
            if Statements[0]["Statement"].startswith("INSERT"):
                return {"Responses": [{"Error": {"Code": "DuplicateItem"}}, {"TableName": "t"}]}
            return {"Responses": [answer]}

    first, second = worker(client=Terse()).claim(deliveries(task("a"), task("b")), time.time() + 60)
    assert first.verdict in {Verdict.UNAVAILABLE, Verdict.SUSPECT}
    assert second.verdict is Verdict.CLAIMED
