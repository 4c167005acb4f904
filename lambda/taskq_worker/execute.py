"""Run claimed tasks side by side within the time that is left."""

from __future__ import annotations

import contextvars
import os
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

from taskq_worker.contract import Outcome, Reason, TaskContext, TaskError, budget, task_type
from taskq_worker.log import log, together
from taskq_worker.store import Claim, Result
from taskq_worker.text import cut, result_json

MAX_THREADS = 32
MAX_NAME_CHARS = 100
_executors: list[ThreadPoolExecutor] = []


class _Ended(NamedTuple):
    """How a task's code ended, and when (Unix seconds)."""

    at: float
    result: str | None = None  #: JSON
    error: BaseException | None = None


def run_claims(claims: Sequence[Claim], deadline: float, max_attempts: int) -> tuple[list[Result], list[Claim]]:
    """Run every claimed task until `deadline`, Unix seconds; returns the results and the claims that never started.

    A task that still runs at the deadline counts as failed: its thread cannot be ended, only left behind, where it
    goes on while the process lives, in later invocations too.
    """
    if not claims or time.time() >= deadline:
        return [], list(claims)
    executor = _executor()
    started: dict[int, float] = {}
    # Each begins with an empty context, as in a new thread: the threads are kept, and a copy of this one's would share
    # its decimal context, which is changed in place.
    futures = [
        executor.submit(contextvars.Context().run, _run, claim, index, started) for index, claim in enumerate(claims)
    ]
    if wait(futures, timeout=max(0.0, deadline - time.time())).not_done:
        # What still runs keeps its threads; the next batch has some of its own.
        executor.shutdown(wait=False, cancel_futures=True)
        _executors.clear()
    results, unstarted = [], []
    with together():
        for index, (claim, future) in enumerate(zip(claims, futures, strict=True)):
            if future.cancelled():
                unstarted.append(claim)
            else:
                results.append(_finish(claim, future, started.get(index, time.time()), max_attempts))
    return results, unstarted


def _executor() -> ThreadPoolExecutor:
    """Return the process's threads for tasks; kept, since to start one costs more than a short task takes."""
    if not _executors:
        _executors.append(ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="task"))
    return _executors[0]


def _run(claim: Claim, index: int, started: dict[int, float]) -> _Ended:
    """Run one task's code, whatever it does; says when it ended, which may be long before its batch does."""
    started[index] = time.time()
    task = claim.delivery.task
    context = TaskContext(task_id=task.task_id, attempt=claim.attempt)
    try:
        _simulate(claim)
        result = result_json(task_type(task.type).run(context, **task.arguments))
    except BaseException as error:  # noqa: BLE001 - whatever it raises fails this task alone
        return _Ended(time.time(), error=error)
    return _Ended(time.time(), result=result)


def _simulate(claim: Claim) -> None:
    simulate = claim.delivery.task.simulate
    time.sleep(simulate.seconds)
    if simulate.crashes(claim.attempt):
        # As running out of memory does: no clean-up, no answer. The claim is all that tells of this attempt.
        os._exit(1)
    if simulate.fails(claim.attempt):
        message = f"simulated failure of attempt {claim.attempt}"
        error = type(simulate.error, (TaskError,), {})
        raise error(message, retryable=simulate.retryable, retry_after_s=simulate.retry_after_s)


def _finish(claim: Claim, future: Future[_Ended], started_at: float, max_attempts: int) -> Result:
    late = TimeoutError("the task still ran when the function's time was up")
    ended = future.result() if future.done() else _Ended(time.time(), error=late)
    if ended.error is not None:
        return _failed(claim, ended.error, started_at, ended.at, max_attempts)
    done = Result(
        claim=claim, outcome=Outcome.COMPLETED, started_at=started_at, finished_at=ended.at, result=ended.result
    )
    _log_attempt(done)
    return done


def _failed(claim: Claim, error: BaseException, started_at: float, finished_at: float, max_attempts: int) -> Result:
    reason = None
    if not _said_by(error, "retryable", default=True):
        reason = Reason.NON_RETRYABLE
    elif claim.attempt >= budget(claim.delivery.task, max_attempts):
        reason = Reason.MAX_ATTEMPTS
    failed = Result(
        claim=claim,
        outcome=Outcome.FAILED,
        started_at=started_at,
        finished_at=finished_at,
        error_type=cut(type(error).__name__, MAX_NAME_CHARS),
        error=cut(_text_of(error)),
        reason=reason,
        retry_after_s=_seconds(_said_by(error, "retry_after_s", default=0.0)),
    )
    stack = "".join(traceback.format_exception(error))
    _log_attempt(failed, stackTrace=cut(stack, 8_000))
    return failed


def _said_by(error: BaseException, name: str, default: Any) -> Any:
    """Read an attribute of a task's own error, which may be anything, and whose code may do anything."""
    try:
        return getattr(error, name, default)
    except BaseException:  # noqa: BLE001 - as in `_text_of`
        return default


def _seconds(value: Any) -> float:
    """Read how long an error asks to wait; whatever a foreign error calls so, it must not fail the batch."""
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e9 else 0.0


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as second:  # noqa: BLE001 - whatever a task's own error does, it fails its task alone
        return f"an error without a text: {type(second).__name__} while reading it"


def _log_attempt(result: Result, **more: Any) -> None:
    task = result.claim.delivery.task
    log(
        "taskq.attempt",
        level="INFO" if result.outcome is Outcome.COMPLETED else "ERROR",
        taskId=task.task_id,
        runId=task.run_id,
        taskType=task.type,
        attempt=result.claim.attempt,
        outcome=result.outcome,
        processingS=round(result.finished_at - result.started_at, 3),
        receiveCount=result.claim.delivery.record.receive_count,
        errorType=result.error_type,
        error=result.error,
        reason=result.reason,
        **more,
    )
