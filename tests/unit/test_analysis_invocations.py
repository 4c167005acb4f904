"""What the platform says of invocations, joined with what the table says of their attempts."""

from typing import Any

import pandas as pd
import pytest

from taskq_lib.analysis import invocations
from taskq_lib.aws import log_lines
from tests.unit.frames import at, attempts_frame


def reports(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return platform reports; what a row does not give is missing."""
    empty = log_lines.reports(log_lines.lines_frame([]))
    values = {name: [row.get(name) for row in rows] for name in empty.columns}
    return pd.DataFrame(values).astype({name: dtype for name, dtype in empty.dtypes.items() if name != "ended_at"})


#: Invocation a: two tasks, cold; b: one, warm; c: one, and no report of it.
ATTEMPTS = attempts_frame(
    {"request_id": "a", "started_at": at(0), "finished_at": at(1), "cold_start": True},
    {"request_id": "a", "started_at": at(0), "finished_at": at(3), "cold_start": True, "outcome": "failed"},
    {"request_id": "b", "started_at": at(5), "finished_at": at(6)},
    {"request_id": "c", "started_at": at(5), "outcome": "lost"},
)
REPORTS = reports(
    {"request_id": "b", "duration_s": 1.2, "memory_mb": 128, "max_memory_mb": 60},
    {"request_id": "a", "duration_s": 4.0, "memory_mb": 128, "max_memory_mb": 121, "init_s": 0.5},
    {"request_id": "another run's", "duration_s": 99.0, "memory_mb": 128, "max_memory_mb": 128},
)


def test_an_invocation_has_both_sides() -> None:
    """One row an invocation of these attempts, the slowest first, with its tasks, its report, and its longest task."""
    found = invocations.invocations(REPORTS, ATTEMPTS)
    assert found["request_id"].tolist() == ["a", "b", "c"]
    assert found["duration_s"].tolist()[:2] == [4.0, 1.2]
    assert found["n_tasks"].tolist() == [2, 1, 1]
    assert found["n_failed"].tolist() == [1, 0, 1]
    assert found["longest_task"].tolist() == ["task-1", "task-2", "task-3"]
    assert found["cold_start"].tolist() == [True, False, False]


def test_an_invocation_that_was_killed_is_seen() -> None:
    """One that ran out of memory or time has no attempt to its name, and is listed with what it used and its status."""
    full = {"memory_mb": 128, "max_memory_mb": 128}
    killed = reports(
        {"request_id": "k", "duration_s": 300.0, "status": "timeout", **full},
        {"request_id": "m", "duration_s": 2.0, "init_s": 1.0, "status": "error", **full},
        {"request_id": "another run's", "duration_s": 99.0, "status": "success", **full},
    )
    said = pd.concat([REPORTS[:2], killed], ignore_index=True)
    found = invocations.invocations(said, ATTEMPTS)
    assert found["request_id"].tolist() == ["k", "a", "m", "b", "c"]
    assert found["status"].tolist()[:3:2] == ["timeout", "error"]
    assert found["n_tasks"].tolist() == [0, 2, 0, 1, 1]
    assert found["n_failed"].tolist() == [0, 1, 0, 0, 1]
    assert found["longest_task"].isna().tolist() == [True, False, True, False, False]
    assert found["cold_start"].tolist() == [False, True, True, False, False]
    assert str(invocations.memory(found)["says"]).startswith("128 of 128 MB used at most, 0 % free; nearly full")
    assert invocations.invocations(killed, ATTEMPTS[:0])["request_id"].tolist() == ["k", "m"]


def test_cold_starts_are_counted_and_timed() -> None:
    """One of three invocations is cold, with the time the platform says, and its duration beside a warm one's."""
    found = invocations.cold_starts(invocations.invocations(REPORTS, ATTEMPTS))
    assert (found["n_invocations"], found["n_cold"]) == (3, 1)
    assert found["share"] == pytest.approx(1 / 3)
    assert (found["init_median_s"], found["cold_median_s"], found["warm_median_s"]) == (0.5, 4.0, 1.2)


def test_where_the_platform_is_silent_the_function_is_heard() -> None:
    """Without any report the function's own note tells the cold starts, and durations are not known."""
    found = invocations.cold_starts(invocations.invocations(reports(), ATTEMPTS))
    assert (found["n_invocations"], found["n_cold"]) == (3, 1)
    assert found["init_median_s"] is None
    assert found["cold_median_s"] is None


def test_a_report_that_says_how_long_it_took_to_start_is_a_cold_start() -> None:
    """The platform's word counts where the function noted nothing."""
    told = reports({"request_id": "b", "init_s": 0.4})
    assert invocations.cold_starts(invocations.invocations(told, ATTEMPTS))["n_cold"] == 2


def test_memory_is_that_of_the_fullest() -> None:
    """Head-room is what the fullest invocation left, and little of it brings advice; unmeasured is said."""
    found = invocations.memory(invocations.invocations(REPORTS, ATTEMPTS))
    assert (found["memory_mb"], found["used_mb"]) == (128, 121)
    assert str(found["says"]).startswith("121 of 128 MB used at most, 5 % free; nearly full")
    roomy = invocations.memory(invocations.invocations(REPORTS[:1], ATTEMPTS))
    assert roomy["says"] == "60 of 128 MB used at most, 53 % free"
    assert invocations.memory(invocations.invocations(reports(), ATTEMPTS))["says"] == "the platform did not measure it"


def logged(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return attempts of the log."""
    plain = {"outcome": "failed", "error_type": "E", "error": "x", "stack_trace": None}
    return pd.DataFrame([plain | {"task_id": f"t{i}", "logged_at": at(i)} | row for i, row in enumerate(rows)]).astype(
        {"stack_trace": "str", "error": "str", "error_type": "str", "task_id": "str"}
    )


TRACE = (
    'Traceback (most recent call last):\n  File "/a/b/c.py", line 1, in f\n    g()\n  File "/x/y/z.py", line 7, in g\n'
)


def test_stack_traces_are_grouped_by_what_they_have_in_common() -> None:
    """Failures of one bug are one row with where the newest was raised; completed attempts are none."""
    found = invocations.stack_traces(
        logged(
            {"error": "no answer to 17"},
            {"error": "no answer to 18", "stack_trace": TRACE},
            {"error_type": "Other", "stack_trace": "cut"},
            {"outcome": "completed"},
        )
    )
    assert found["signature"].tolist() == ["E: no answer to <n>", "Other: x"]
    assert found["n_attempts"].tolist() == [2, 1]
    assert found["raised_at"].tolist()[0] == "y/z.py:7 in g"
    assert found["raised_at"].isna().tolist() == [False, True]
    assert invocations.stack_traces(log_lines.attempts(log_lines.lines_frame([]))).empty


@pytest.mark.parametrize("trace", [None, "", "no trace", 'File "x", line 7', float("nan")])
def test_what_is_no_trace_was_raised_nowhere(trace: Any) -> None:
    """Text without a whole frame names no place."""
    assert invocations.raised_at(trace) is None
