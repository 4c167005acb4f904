"""The function's own metrics: valid lines of the embedded metric format that say what the batch did."""

import json
import math
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_worker.contract import METRIC_NAMESPACE, METRICS, Outcome, Reason
from taskq_worker.metrics import Tally
from taskq_worker.metrics import lines as members_of
from taskq_worker.store import Result, Verdict
from tests.unit.events import claim, lines, task

#: The units that CloudWatch knows of those that we use (API reference, MetricDatum).
UNITS = {"Seconds", "Count", "Percent"}


def ended(name: str = "a", *, start: float = 1.8e9 + 5, takes: float = 2.0, **fields: Any) -> Result:
    """Make an attempt that completed; its message was sent at 1.8e9, Unix seconds."""
    plain: dict[str, Any] = {"claim": claim(task(name)), "outcome": Outcome.COMPLETED}
    return Result(**(plain | {"started_at": start, "finished_at": start + takes} | fields))


def failed(*, reason: Reason | None, **fields: Any) -> Result:
    """Make an attempt that failed, for good where it has a reason."""
    return ended(outcome=Outcome.FAILED, reason=reason, error_type="E", error="e", **fields)


def tally(*results: Result, **fields: Any) -> Tally:
    """Collect results that were recorded; the invocation has used a quarter of its 40 s."""
    now = time.time()
    kinds = {result.claim.delivery.task.type for result in results}
    plain: dict[str, Any] = {"stack": "s", "began_at": now - 10, "ends_at": now + 30, "kinds": kinds}
    return Tally(results=[(result, True) for result in results], **(plain | fields))


def reported(capsys: pytest.CaptureFixture[str], one: Tally, **options: Any) -> dict[str | None, dict[str, Any]]:
    """Report, hold that each line is valid, and return the lines' members by task type."""
    capsys.readouterr()
    one.report(lambda kind: kind == "IMAGE_RESIZE", **options)
    printed = lines(capsys.readouterr().out, "taskq.metrics")
    for line in printed:
        hold_valid(line)
    return {line.get("TaskType"): {name: line[name] for name in METRICS if name in line} for line in printed}


def hold_valid(line: dict[str, Any]) -> None:
    """Hold a line against the specification of the embedded metric format, and against our own contract."""
    assert line.keys() >= {"_aws", "Stack"}
    assert line["_aws"].keys() == {"Timestamp", "CloudWatchMetrics"}
    # Milliseconds; CloudWatch takes what is at most two weeks old and two hours ahead.
    assert isinstance(line["_aws"]["Timestamp"], int)
    assert abs(line["_aws"]["Timestamp"] / 1000 - time.time()) < 7_200
    for directive in line["_aws"]["CloudWatchMetrics"]:
        assert directive.keys() == {"Namespace", "Dimensions", "Metrics"}
        assert directive["Namespace"] == METRIC_NAMESPACE
        for names in directive["Dimensions"]:
            assert 1 <= len(names) <= 30
            assert all(isinstance(line[name], str) and 1 <= len(line[name]) <= 1_024 for name in names)
        assert 1 <= len(directive["Metrics"]) <= 100
        for metric in directive["Metrics"]:
            assert metric.keys() == {"Name", "Unit"}
            assert (METRICS[metric["Name"]], metric["Unit"] in UNITS) == (metric["Unit"], True)
            values = line[metric["Name"]]
            assert 1 <= len(values) <= 100
            assert all(isinstance(value, int | float) and math.isfinite(value) for value in values)
    named = {metric["Name"] for directive in line["_aws"]["CloudWatchMetrics"] for metric in directive["Metrics"]}
    assert named == line.keys() & METRICS.keys()
    # CloudWatch takes no longer a line as one event, 1 MiB since 2025, and 256 KiB before.
    assert len(json.dumps(line)) < 256 * 1024


def test_a_line_a_type_and_one_for_the_invocation(capsys: pytest.CaptureFixture[str]) -> None:
    """Tasks and attempts are told by type, with 0 for good and 1 for bad; the time used stands alone."""
    picture = claim(task("p", type="IMAGE_RESIZE"))
    one = tally(ended(), failed(reason=Reason.NON_RETRYABLE), ended(claim=picture, takes=0.25), n_invalid=2)
    found = reported(capsys, one)
    mail = {"TaskFailed": [0, 1], "AttemptFailed": [0, 1], "ProcessingTime": [2.0, 2.0], "QueueWait": [5.0, 5.0]}
    assert found["SEND_EMAIL"] == mail | {"BreakerOpen": [0]}
    assert (found["IMAGE_RESIZE"]["ProcessingTime"], found["IMAGE_RESIZE"]["BreakerOpen"]) == ([0.25], [1])
    assert found[None].keys() == {"TaskFailed", "TimeUsed"}
    assert found[None]["TaskFailed"] == [1, 1]
    assert found[None]["TimeUsed"] == [pytest.approx(25, abs=1)]


def test_each_metric_is_there_for_the_stack_and_for_the_type(capsys: pytest.CaptureFixture[str]) -> None:
    """A type's line has both sets of dimensions, that of the invocation only the stack."""
    tally(ended()).report(lambda _kind: False)
    of_type, own = lines(capsys.readouterr().out, "taskq.metrics")
    dimensions = [line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] for line in (of_type, own)]
    assert dimensions == [[["Stack"], ["Stack", "TaskType"]], [["Stack"]]]
    assert (of_type["Stack"], of_type["TaskType"]) == ("s", "SEND_EMAIL")


def test_a_task_counts_once_it_is_final(capsys: pytest.CaptureFixture[str]) -> None:
    """A failure to be retried, and an end that the table refused, are attempts and no tasks that ended."""
    one = tally(failed(reason=None))
    one.results.append((ended(), False))
    found = reported(capsys, one)["SEND_EMAIL"]
    assert found["AttemptFailed"] == [1, 0]
    assert "TaskFailed" not in found


def test_a_vanished_attempt_is_no_attempt_of_this_invocation(capsys: pytest.CaptureFixture[str]) -> None:
    """A task that is given up since its worker vanished counts as failed, and nobody saw its last attempt."""
    gone = replace(claim(task("a"), attempt=3), verdict=Verdict.EXHAUSTED)
    found = reported(capsys, tally(failed(reason=Reason.MAX_ATTEMPTS, claim=gone)))["SEND_EMAIL"]
    assert found == {"TaskFailed": [1], "BreakerOpen": [0]}


def test_the_queue_wait_is_that_of_first_attempts(capsys: pytest.CaptureFixture[str]) -> None:
    """It runs from when the producer enqueued the task, else from when SQS took it; retries and redrives have none."""
    enqueued = claim(task("a", enqueued_at=1.8e9 - 10))
    redriven = replace(claim(task("b")), redrive=1)
    one = tally(ended(claim=enqueued), ended(), ended(claim=claim(task("c"), attempt=2)), ended(claim=redriven))
    assert reported(capsys, one)["SEND_EMAIL"]["QueueWait"] == [15.0, 5.0]


def test_a_type_that_is_only_held_back_has_its_breaker_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The state of a breaker is told for every type of the batch, whether a task of it ran or not."""
    assert reported(capsys, tally(kinds={"IMAGE_RESIZE"}))["IMAGE_RESIZE"] == {"BreakerOpen": [1]}


def test_what_was_reported_is_not_reported_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Before suspects run all is reported but the time used; the last report has what came after."""
    one = tally(ended(), n_invalid=1)
    assert reported(capsys, one, at_end=False).keys() == {"SEND_EMAIL", None}
    assert reported(capsys, one) == {None: {"TimeUsed": [pytest.approx(25, abs=1)]}}


@given(st.dictionaries(st.sampled_from(sorted(METRICS)), st.lists(st.floats(-1e9, 1e9), max_size=350), min_size=1))
def test_long_batches_take_several_lines(values: dict[str, list[float]]) -> None:
    """However many values there are, each is in one line, in order, and no array is longer than the format allows."""
    now = time.time()
    made = list(members_of("s", values, now, "SEND_EMAIL"))
    for line in made:
        hold_valid(line)
    assert len(made) == math.ceil(max(map(len, values.values())) / 100)
    assert {name: [one for line in made for one in line.get(name, [])] for name in values} == values


def test_a_report_never_raises(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever goes wrong while metrics are made is a line in the log, and the batch goes on."""

    def break_down(kind: str) -> bool:
        raise RuntimeError(kind)

    tally(ended()).report(break_down)
    now = time.time()
    tally(ended(), began_at=now, ends_at=now).report(lambda _kind: False)
    errors = [line["error"] for line in lines(capsys.readouterr().out, "taskq.metrics_failed")]
    assert errors == ["RuntimeError('SEND_EMAIL')", "ZeroDivisionError('float division by zero')"]
