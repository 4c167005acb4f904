"""Throughput: counts per interval that add up, and a backlog kept like a ledger."""

import json
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib.analysis import is_final, throughput
from taskq_lib.errors import BadInput
from tests.unit.frames import at, attempts_frame, synthetic_run, tasks_frame

#: An event in seconds, with the microseconds at which intervals begin and end; or one that is not known.
moments = st.one_of(st.none(), st.integers(0, 120).map(float), st.integers(0, 10**8).map(lambda us: us / 1e6))
rows = st.tuples(
    st.sampled_from(["pending", "processing", "retrying", "completed", "dead_lettered"]), moments, moments, moments
)


def frame(tasks: list[tuple[str, float | None, float | None, float | None]]) -> pd.DataFrame:
    """Make tasks of (state, enqueued, sent, finished)."""
    return tasks_frame(
        *(
            {"state": state}
            | {
                name: at(value)
                for name, value in zip(("enqueued_at", "sent_at", "finished_at"), times, strict=True)
                if value is not None
            }
            for state, *times in tasks
        )
    )


@given(st.lists(rows, max_size=30), st.lists(moments, max_size=30), st.sampled_from([None, 0.5, 1, 7, 60]))
def test_counts_are_conserved(
    task_rows: list[tuple[str, float | None, float | None, float | None]],
    finishes: list[float | None],
    interval_s: float | None,
) -> None:
    """Every known event is in one interval; they start on round times, and the backlog ends with the open tasks."""
    tasks = frame(task_rows)
    attempts = attempts_frame(*({"finished_at": None if end is None else at(end)} for end in finishes))
    table = throughput.per_interval(tasks, attempts, interval_s)
    counts = table[["offered", "throughput", "goodput"]].mul(table["interval_s"], axis=0).sum()
    final = is_final(tasks)
    completed = tasks["finished_at"].notna() & (tasks["state"] == "completed")
    expected = [tasks["sent_at"].notna().sum(), attempts["finished_at"].notna().sum(), completed.sum()]
    assert counts.tolist() == pytest.approx(expected)
    if len(table):
        assert (table["at"].astype("int64") % round(table["interval_s"].iloc[0] * 1e6) == 0).all()
        n_open = (~final & (tasks["enqueued_at"].notna() | tasks["sent_at"].notna())).sum()
        assert table["backlog"].iloc[-1] == n_open
        assert table["backlog"].min() >= 0
        assert table["backlog"].max() <= (throughput.summary(tasks, attempts)["max_backlog"] or 0)
    else:
        assert counts.sum() == 0


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=20))
def test_the_highest_backlog_is_that_of_the_worst_instant(spans: list[tuple[int, int]]) -> None:
    """The peak equals a count instant by instant, in which a task is there from its first to its last moment."""
    ends = [max(start, end) for start, end in spans]
    tasks = frame([("completed", float(start), None, float(end)) for start, end in spans])
    peak = max((sum(s <= t <= e for (s, _), e in zip(spans, ends, strict=True)) for t in range(21)), default=0)
    assert throughput.summary(tasks, attempts_frame())["max_backlog"] == peak


@given(st.integers(40_000, 10**15))
def test_the_chosen_interval_gives_a_readable_number_of_them(span_us: int) -> None:
    """From 40 ms to decades, 30 to 120 intervals of a 1-2-5 length are chosen."""
    tasks = tasks_frame({"sent_at": at(0)}, {"sent_at": at(0) + pd.Timedelta(microseconds=span_us)})
    table = throughput.per_interval(tasks, attempts_frame())
    assert 30 <= len(table) <= 120
    first_digit = f"{table['interval_s'].iloc[0]:e}".rstrip("0123456789").rstrip("e+-")
    assert float(first_digit) in (1, 2, 5)


def test_rates_and_backlog_by_hand() -> None:
    """Three tasks over four seconds give the rates and backlogs that can be counted on the fingers."""
    tasks = frame([("completed", 0, 0, 1.5), ("dead_lettered", 0.5, 0.5, 3), ("processing", 1, 1, None)])
    attempts = attempts_frame({"finished_at": at(1.5)}, {"finished_at": at(2.5)}, {"finished_at": at(3)}, {})
    table = throughput.per_interval(tasks, attempts, 1)
    assert table["at"].tolist() == [at(0), at(1), at(2), at(3)]
    assert table["offered"].tolist() == [2, 1, 0, 0]
    assert table["throughput"].tolist() == [0, 1, 1, 1]
    assert table["goodput"].tolist() == [0, 1, 0, 0]
    assert table["backlog"].tolist() == [2, 2, 2, 1]
    summary = {"window_s": 3.0, "offered_per_s": 1.0, "attempts_per_s": 1.0, "completed_per_s": 1 / 3, "max_backlog": 3}
    assert throughput.summary(tasks, attempts) == summary


def test_a_rejected_task_leaves_the_backlog_when_its_status_is_written() -> None:
    """A task that was given up without an attempt has no finish; its last status ends its wait."""
    tasks = tasks_frame({"state": "dead_lettered", "enqueued_at": at(0), "updated_at": at(2)}, {"sent_at": at(4)})
    assert throughput.per_interval(tasks, attempts_frame(), 1)["backlog"].tolist() == [1, 1, 0, 0, 0]


def test_a_final_task_without_an_end_is_in_no_backlog() -> None:
    """A task that is final at an unknown time cannot be said to wait, neither at the peak nor at the end."""
    tasks = tasks_frame({"state": "completed", "enqueued_at": at(0)}, {"state": "pending", "sent_at": at(0)})
    assert throughput.summary(tasks, attempts_frame())["max_backlog"] == 1
    assert throughput.per_interval(tasks, attempts_frame())["backlog"].tolist() == [1]


@pytest.mark.parametrize("tasks", [tasks_frame(), tasks_frame({}), tasks_frame({"state": "pending"}, {})])
def test_without_any_known_time_there_are_no_intervals(tasks: pd.DataFrame) -> None:
    """Empty frames, or frames without a time, give an empty, typed table and a summary of Nones."""
    table = throughput.per_interval(tasks, attempts_frame())
    assert table.empty
    assert (
        table.dtypes.to_dict()
        == throughput.per_interval(frame([("pending", 0, 0, None)]), attempts_frame()).dtypes.to_dict()
    )
    nones = dict.fromkeys(["window_s", "offered_per_s", "attempts_per_s", "completed_per_s"])
    assert throughput.summary(tasks, attempts_frame()) == nones | {"max_backlog": 0}


def test_a_single_instant_has_no_rate() -> None:
    """One event has a window of no length, over which no mean is made up."""
    summary = throughput.summary(frame([("pending", 0, 0, None)]), attempts_frame())
    assert (summary["window_s"], summary["offered_per_s"], summary["max_backlog"]) == (0.0, None, 1)


def test_the_summary_is_json_and_agrees_with_the_intervals() -> None:
    """Over a whole run the means are the interval counts over the window."""
    run = synthetic_run(500)
    summary = throughput.summary(run.tasks, run.attempts)
    table = throughput.per_interval(run.tasks, run.attempts)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    offered = (table["offered"] * table["interval_s"]).sum() / (summary["window_s"] or math.nan)
    assert summary["offered_per_s"] == pytest.approx(offered)


@pytest.mark.parametrize("interval_s", [0, -1, 0.0001, 90_000, math.nan, math.inf])
def test_intervals_that_make_no_sense_are_refused(interval_s: float) -> None:
    """The length of an interval must be 0.001 s to a day."""
    with pytest.raises(BadInput, match="not allowed"):
        throughput.per_interval(frame([("pending", 0, 0, None)]), attempts_frame(), interval_s)


def test_too_many_intervals_are_refused() -> None:
    """A short interval over a long window is refused before it fills the memory."""
    with pytest.raises(BadInput, match="allowed are 100,000"):
        throughput.per_interval(frame([("completed", 0, 0, 200_000)]), attempts_frame(), 1)


def test_missing_columns_are_refused() -> None:
    """A frame without the times that are counted is refused by name."""
    with pytest.raises(BadInput, match="`attempts` has no column finished_at"):
        throughput.per_interval(tasks_frame(), attempts_frame().drop(columns="finished_at"))
