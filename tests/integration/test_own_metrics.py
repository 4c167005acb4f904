"""The metrics that the function prints of whole batches on the engine."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from taskq_worker.contract import METRICS
from taskq_worker.store import StatusStore
from tests.integration.function import Function
from tests.unit.events import deliveries, lines, task
from tests.unit.test_metrics import hold_valid

pytestmark = pytest.mark.integration

Workers = Callable[..., StatusStore]


def values(printed: list[dict[str, Any]], name: str, kind: str | None = None) -> list[float]:
    """Return a metric's values in these lines, of all task types or of one."""
    chosen = [line for line in printed if kind is None or line.get("TaskType") == kind]
    return [value for line in chosen for value in line.get(name, [])]


def test_a_batch_is_told_by_its_metrics(function: Function, run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Failed tasks are as many as dead letters, attempts as many as ran, and no request is made for it."""
    delivered = function.send(
        *(task(f"{run_id}-{i}") for i in range(5)),
        task(f"{run_id}-final", simulate={"fail_attempts": -1, "retryable": False}),
        task(f"{run_id}-again", type="PROCESS_DATA", simulate={"fail_attempts": 1, "seconds": 0.2}),
        "{",
    )
    function.run(delivered, remaining_s=20)
    output = capsys.readouterr().out
    printed = lines(output, "taskq.metrics")
    for line in printed:
        hold_valid(line)
    assert [line.get("TaskType") for line in printed] == ["PROCESS_DATA", "SEND_EMAIL", None]
    assert sum(values(printed, "TaskFailed")) == len(function.dead_letters()) == 2
    assert (values(printed, "TaskFailed", "PROCESS_DATA"), len(values(printed, "AttemptFailed"))) == ([], 7)
    assert values(printed, "ProcessingTime", "PROCESS_DATA") == [pytest.approx(0.2, abs=0.1)]
    assert all(0 <= wait_s < 60 for wait_s in values(printed, "QueueWait"))
    [used] = values(printed, "TimeUsed")
    assert 0.2 / 20 * 100 <= used < 20
    assert set(values(printed, "BreakerOpen")) == {0}
    assert {name for line in printed for name in line.keys() & METRICS.keys()} == METRICS.keys()
    every = lines(output, "taskq.attempt") + printed
    assert len({line["requestId"] for line in every}) == 1


def test_metrics_can_be_switched_off(function: Function, run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without metrics the function prints none, and its other lines stay."""
    function.set(TASKQ_METRICS="false")
    function.run(function.send(task(f"{run_id}-a")))
    output = capsys.readouterr().out
    assert lines(output, "taskq.metrics") == []
    assert len(lines(output, "taskq.attempt")) == 1


def test_metrics_are_told_before_a_suspect_runs(
    function: Function, worker: Workers, run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What may end the process takes no metrics of its neighbours along; its own come after it."""
    suspect = task(f"{run_id}-suspect")
    worker("vanished").claim(deliveries(suspect), round(time.time() - 1, 3))
    function.run(function.send(suspect, task(f"{run_id}-other", type="PROCESS_DATA")))
    printed = [
        line for line in capsys.readouterr().out.splitlines() if "taskq.metrics" in line or "taskq.suspect" in line
    ]
    told = [
        next(kind for kind in ("suspect", "PROCESS_DATA", "SEND_EMAIL", "TimeUsed") if kind in line) for line in printed
    ]
    assert told == ["PROCESS_DATA", "SEND_EMAIL", "suspect", "SEND_EMAIL", "TimeUsed"]
