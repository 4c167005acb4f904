"""Tasks run side by side within the time left; whatever one of them does, every task of the batch gets its outcome."""

import decimal
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest

from taskq_worker import contract, execute
from taskq_worker.contract import Outcome, Reason, Retry, TaskContext, TaskError, register
from taskq_worker.execute import run_claims
from taskq_worker.store import Claim, Result
from taskq_worker.text import MAX_ERROR_CHARS, MAX_RESULT_CHARS
from tests.unit.events import claim, lines, task

MAX_ATTEMPTS = 3


def run(*claims: Claim, within_s: float = 5.0) -> list[Result]:
    """Run the claims and return their results; none may be left unstarted."""
    results, unstarted = run_claims(claims, time.time() + within_s, MAX_ATTEMPTS)
    assert unstarted == []
    return results


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Let a test say what tasks of the type OWN do."""
    monkeypatch.setattr(contract, "_TYPES", dict(contract._TYPES))

    def say(what: Callable[[], Any]) -> None:
        @register("OWN")
        def own(context: TaskContext) -> Any:  # noqa: ARG001 - every task type takes one
            return what()

    return say


def own(task_id: str = "own", attempt: int = 1) -> Claim:
    """Claim a task of the type OWN."""
    return claim(task(task_id, type="OWN"), attempt=attempt)


def test_no_claims_give_no_results() -> None:
    """A batch in which nothing was claimed runs nothing."""
    assert run_claims([], time.time() + 5, MAX_ATTEMPTS) == ([], [])


def test_results_are_those_of_the_task_types() -> None:
    """Each documented type answers with its confirmation, and resize dimensions, message id and record count."""
    resize, mail, data = run(
        claim(task("a", type="IMAGE_RESIZE", data={"filename": "x.jpg", "width": 10})),
        claim(task("b", type="SEND_EMAIL")),
        claim(task("c", type="PROCESS_DATA")),
    )
    read = [json.loads(result.result or "") for result in (resize, mail, data)]
    assert read == [
        {"message": "a: resized", "filename": "x.jpg", "width": 10, "height": 600},
        {"message": "sent", "to": "someone@example.com", "message_id": "b@taskq"},
        {"message": "c: processed", "record_count": 10, "source": "inline"},
    ]
    assert {result.outcome for result in (resize, mail, data)} == {Outcome.COMPLETED}


def test_tasks_run_side_by_side() -> None:
    """Ten tasks of 0.2 s take far less than the 2 s they would take one after another, and each is timed by itself."""
    begin = time.time()
    results = run(*(claim(task(f"t-{i}", simulate={"seconds": 0.2})) for i in range(10)))
    assert time.time() - begin < 1.0
    assert {result.outcome for result in results} == {Outcome.COMPLETED}
    assert all(0.2 <= result.finished_at - result.started_at < 0.9 for result in results)


def test_an_attempt_ends_when_its_own_code_does() -> None:
    """A task that fails at once beside a slow one is recorded as failed then, not at the end of the batch."""
    quick, slow = run(claim(task("a", simulate={"fail_attempts": 1})), claim(task("b", simulate={"seconds": 0.5})))
    assert quick.finished_at - quick.started_at < 0.3
    assert slow.finished_at - slow.started_at >= 0.5


def test_results_keep_the_order_of_the_claims() -> None:
    """Results come in the order of the claims, however long each task takes."""
    claims = [claim(task(f"t-{i}", simulate={"seconds": 0.1 - i / 50})) for i in range(5)]
    assert [result.claim for result in run(*claims)] == claims


def test_an_overrun_fails_at_the_deadline() -> None:
    """A task that still runs at the deadline counts as failed by TimeoutError; its neighbours keep their outcome."""
    begin = time.time()
    slow, quick = run(claim(task("slow", simulate={"seconds": 1.5})), claim(task("quick")), within_s=0.3)
    assert 0.3 <= time.time() - begin < 1.0
    assert (slow.outcome, slow.error_type, slow.reason) == (Outcome.FAILED, "TimeoutError", None)
    assert slow.error == "the task still ran when the function's time was up"
    assert quick.outcome is Outcome.COMPLETED


def test_what_could_not_start_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that found no thread before the deadline has no outcome: its claim comes back."""
    monkeypatch.setattr(execute, "MAX_THREADS", 2)
    monkeypatch.setattr(execute, "_executors", [])
    claims = [claim(task(f"t-{i}", simulate={"seconds": 0.6})) for i in range(5)]
    results, unstarted = run_claims(claims, time.time() + 0.2, MAX_ATTEMPTS)
    assert [result.claim for result in results] == claims[:2]
    assert unstarted == claims[2:]


def test_what_hangs_takes_no_place_of_later_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that were left behind in all threads keep none from the next batch; threads that are free are kept."""
    monkeypatch.setattr(execute, "MAX_THREADS", 2)
    monkeypatch.setattr(execute, "_executors", [])
    run_claims([claim(task(f"slow-{i}", simulate={"seconds": 1.0})) for i in range(2)], time.time() + 0.1, MAX_ATTEMPTS)
    for turn in range(3):
        results = run(*(claim(task(f"t-{turn}-{i}")) for i in range(5)), within_s=0.8)
        assert [result.outcome for result in results] == [Outcome.COMPLETED] * 5
    assert len(execute._executors) == 1


def test_nothing_starts_once_the_deadline_has_passed() -> None:
    """Where the claims alone took up the time, no attempt is used up: every claim comes back unstarted."""
    claims = [claim(task(f"t-{i}", simulate={"seconds": 0.2})) for i in range(3)]
    assert run_claims(claims, time.time() - 1, MAX_ATTEMPTS) == ([], claims)


@pytest.mark.parametrize(
    ("attempt", "simulate", "reason"),
    [
        (1, {"fail_attempts": -1}, None),
        (2, {"fail_attempts": -1}, None),
        (3, {"fail_attempts": -1}, Reason.MAX_ATTEMPTS),
        (1, {"fail_attempts": -1, "retryable": False}, Reason.NON_RETRYABLE),
        (3, {"fail_attempts": -1, "retryable": False}, Reason.NON_RETRYABLE),
    ],
)
def test_a_failure_is_final_by_its_reason(attempt: int, simulate: dict[str, Any], reason: Reason | None) -> None:
    """A failure is final at the last attempt of the budget, or at once where retrying cannot help; else it is not."""
    [result] = run(claim(task("a", simulate={**simulate, "error": "CorruptInput"}), attempt=attempt))
    assert (result.outcome, result.reason, result.error_type) == (Outcome.FAILED, reason, "CorruptInput")
    assert result.error == f"simulated failure of attempt {attempt}"


def test_a_task_type_may_have_a_budget_of_its_own(code: Callable[[Callable[[], Any]], None]) -> None:
    """A type that says how many attempts its tasks have is final at that one, whatever the template says."""
    code(dict)

    @register("PATIENT", retry=Retry(max_attempts=5))
    def patient(context: TaskContext) -> dict[str, Any]:
        raise TaskError(f"attempt {context.attempt}")

    for attempt, reason in [(3, None), (4, None), (5, Reason.MAX_ATTEMPTS)]:
        [result] = run(claim(task("a", type="PATIENT", data={}), attempt=attempt))
        assert result.reason is reason


@pytest.mark.parametrize(
    ("asked", "waits_s"), [(30, 30.0), (0.5, 0.5), (-1, 0.0), (float("nan"), 0.0), ("soon", 0.0), (None, 0.0)]
)
def test_an_error_may_ask_to_be_left_alone(
    asked: Any, waits_s: float, code: Callable[[Callable[[], Any]], None]
) -> None:
    """An error says how long to wait; what a foreign error calls by that name and is no duration does no harm."""
    error = RuntimeError("busy")
    error.retry_after_s = asked  # type: ignore[attr-defined]

    def fail() -> None:
        raise error

    code(fail)
    [result] = run(own())
    assert (result.retry_after_s, result.reason) == (waits_s, None)


def test_a_simulated_error_may_ask_to_be_left_alone() -> None:
    """`simulate.retry_after_s` is what the failing attempts ask for."""
    [result] = run(claim(task("a", simulate={"fail_attempts": 1, "retry_after_s": 7})))
    assert result.retry_after_s == 7.0


def test_a_transient_failure_completes_at_its_second_attempt() -> None:
    """A task told to fail once completes when it is run as attempt two."""
    [result] = run(claim(task("a", simulate={"fail_attempts": 1}), attempt=2))
    assert result.outcome is Outcome.COMPLETED


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), MemoryError("full")], ids=repr)
def test_no_exception_takes_the_batch(error: BaseException, code: Callable[[Callable[[], Any]], None]) -> None:
    """A task that exits, or is hit by what is not an `Exception`, fails alone."""

    def fail() -> None:
        raise error

    code(fail)
    bad, good = run(own(), claim(task("good")))
    assert (bad.outcome, bad.error_type) == (Outcome.FAILED, type(error).__name__)
    assert good.outcome is Outcome.COMPLETED


class Mute(Exception):
    """An error that cannot even say what it is."""

    def __str__(self) -> str:
        raise ValueError("no text")


def test_an_error_without_a_text_fails_its_task_alone(code: Callable[[Callable[[], Any]], None]) -> None:
    """An error whose own text cannot be made fails its task under its name, and no other."""

    def fail() -> None:
        raise Mute

    code(fail)
    bad, good = run(own(), claim(task("good")))
    assert (bad.outcome, bad.error_type) == (Outcome.FAILED, "Mute")
    assert good.outcome is Outcome.COMPLETED


@pytest.mark.parametrize("result", [object(), {1: {2}}, b"bytes"], ids=["object", "set", "bytes"])
def test_a_result_that_is_no_json_fails_the_task(result: Any, code: Callable[[Callable[[], Any]], None]) -> None:
    """A task whose result cannot be written as JSON has failed, with an error that says so."""
    code(lambda: result)
    [failed] = run(own())
    assert (failed.outcome, failed.error_type) == (Outcome.FAILED, "TypeError")
    assert "not JSON serializable" in (failed.error or "")


def test_long_texts_are_cut_with_a_mark(code: Callable[[Callable[[], Any]], None]) -> None:
    """A long error and a long result are cut, and say how long they were."""

    def fail() -> None:
        raise ValueError("x" * 10_000)

    code(fail)
    [failed] = run(own())
    assert failed.error == "x" * MAX_ERROR_CHARS + "... [cut, 10,000 characters]"
    code(lambda: "y" * 10_000)
    [done] = run(own())
    assert json.loads(done.result or "") == {"cut": True, "n_chars": 10_002, "head": '"' + "y" * (MAX_RESULT_CHARS - 1)}


def test_an_error_with_any_character_can_be_stored(code: Callable[[Callable[[], Any]], None]) -> None:
    """A lone surrogate in an error's text is replaced, since no service takes it; the rest stays readable."""

    def fail() -> None:
        raise ValueError("before \ud800 after")

    code(fail)
    [failed] = run(own())
    assert (failed.error or "").encode()
    assert failed.error == "before ? after"


def test_no_task_sees_what_another_set_in_its_context(
    code: Callable[[Callable[[], Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Context variables and decimal settings of a task end with it, though its thread runs tasks of later batches."""
    monkeypatch.setattr(execute, "_executors", [ThreadPoolExecutor(1)])
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    precision = decimal.getcontext().prec

    def look() -> list[Any]:
        seen = [tenant.get(), decimal.getcontext().prec]
        tenant.set("somebody")
        decimal.getcontext().prec = 3
        return seen

    code(look)
    results = [*run(own("a"), own("b")), *run(own("c"))]
    assert [json.loads(result.result or "") for result in results] == [["nobody", precision]] * 3


def test_the_lines_of_a_batch_are_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tasks a batch has, standard output is written to once, with a whole line for each."""
    written: list[str] = []
    monkeypatch.setattr(sys.stdout, "write", written.append)
    run(*(claim(task(f"t-{i}")) for i in range(5)))
    [text] = written
    assert [line["taskId"] for line in lines(text, "taskq.attempt")] == [f"t-{i}" for i in range(5)]
    assert text.endswith("}\n")


def test_each_attempt_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """One line an attempt says which task, attempt and outcome it was, how long it took and, if it failed, where."""
    run(
        claim(task("good", run_id="r", simulate={"seconds": 0.05})),
        claim(task("bad", run_id="r", simulate={"fail_attempts": -1, "retryable": False}), attempt=2),
    )
    good, bad = lines(capsys.readouterr().out, "taskq.attempt")
    assert good["processingS"] >= 0.05
    same = {"event": "taskq.attempt", "runId": "r", "taskType": "SEND_EMAIL", "receiveCount": 1}
    assert good == {
        **same, "level": "INFO", "time": good["time"], "taskId": "good", "attempt": 1, "outcome": "completed",
        "processingS": good["processingS"],
    }  # fmt: skip
    assert bad["stackTrace"].endswith("SimulatedError: simulated failure of attempt 2\n")
    assert bad == {
        **same, "level": "ERROR", "time": bad["time"], "taskId": "bad", "attempt": 2, "outcome": "failed",
        "processingS": bad["processingS"], "errorType": "SimulatedError", "error": "simulated failure of attempt 2",
        "reason": "non_retryable", "stackTrace": bad["stackTrace"],
    }  # fmt: skip
