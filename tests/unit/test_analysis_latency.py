"""Latency: durations from raw timestamps, and percentiles that say what they stand on."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib.analysis import latency
from taskq_lib.errors import BadInput
from tests.unit.frames import at, synthetic_run, tasks_frame

#: Seconds between two events of a task: whole microseconds, and negative where clocks disagree.
gaps = st.integers(-(10**9), 10**12).map(lambda us: us / 1e6)


def task(enqueued: float, first: float, last: float, finished: float, **other: object) -> dict[str, object]:
    """Describe a task by its times, in seconds."""
    times = {"enqueued_at": enqueued, "first_started_at": first, "last_started_at": last, "finished_at": finished}
    return {name: at(value) for name, value in times.items()} | other


def test_durations_follow_their_definitions() -> None:
    """A task of two attempts is split into queue wait, processing of the last attempt, and the remainder."""
    row = latency.durations(tasks_frame(task(0, 2, 10, 13))).iloc[0]
    assert [row[name] for name in latency.DURATIONS] == [2.0, 3.0, 8.0, 13.0]
    assert row["is_final"]


@given(gaps, gaps)
def test_a_single_attempt_has_no_retry_delay(wait: float, work: float) -> None:
    """The parts are exact, so the retry delay of a single attempt is 0, not a rounding remainder."""
    tasks = tasks_frame(task(0, wait, wait, 0) | {"finished_at": at(wait) + (at(work) - at(0))})
    row = latency.durations(tasks).iloc[0]
    assert row["retry_delay_s"] == 0
    assert row["queue_wait_s"] == pytest.approx(wait, abs=1e-9)
    assert row["processing_s"] == pytest.approx(work, abs=1e-9)


def test_what_is_not_known_is_missing() -> None:
    """Open tasks have no end-to-end latency, a running attempt no processing time; one missing time spoils its own."""
    tasks = tasks_frame(
        task(0, 1, 5, 3, state="processing"),
        task(0, 1, 5, 7, state="retrying"),
        {"state": "pending", "enqueued_at": at(0)},
        {"state": "dead_lettered", "enqueued_at": at(0), "finished_at": at(4)},
        task(0, 1, 1, 2) | {"enqueued_at": None},
    )
    known = latency.durations(tasks)[list(latency.DURATIONS)].notna()
    assert known.to_numpy().tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [False, False, False, False],
        [False, False, False, True],
        [False, True, False, False],
    ]


@given(st.lists(st.tuples(gaps, st.sampled_from(["A", "B"]), st.booleans()), max_size=60))
def test_percentiles_are_numpys_and_stay_within_the_data(rows: list[tuple[float, str, bool]]) -> None:
    """Per group the percentiles are numpy's, rise with q, lie within the data, and count what they leave out."""
    tasks = tasks_frame(
        *(
            task(0, took, took, took, task_type=kind, state="completed" if final else "retrying")
            for took, kind, final in rows
        )
    )
    table = latency.percentiles(latency.durations(tasks), "task_type").set_index(["duration", "group"]).to_dict("index")
    for kind in {kind for _, kind, _ in rows}:
        finished = [took for took, name, final in rows if name == kind and final]
        row = table["end_to_end_s", kind]
        assert row["n"] == len(finished)
        assert row["n_negative"] == sum(took < 0 for took in finished)
        assert row["n_censored"] == sum(name == kind and not final for _, name, final in rows)
        enough = [name for name, least in (("p50", 6), ("p90", 36), ("p99", 368)) if len(finished) >= least]
        assert all(math.isnan(row[name]) for name in ("p50", "p90", "p99") if name not in enough)
        if finished:
            # One unit in the last place is left to the interpolation.
            slack = 1e-12 * max(abs(took) for took in finished)
            assert row["max"] == max(finished)
            for name in enough:
                low, value, high = row[f"{name}_low"], row[name], row[f"{name}_high"]
                assert min(finished) <= low <= value + slack <= high + 2 * slack <= max(finished) + 2 * slack
                assert {low, high} <= set(finished)
                assert value == pytest.approx(np.quantile(finished, float(name[1:]) / 100), rel=1e-9, abs=slack)
        else:
            assert math.isnan(row["max"])


def test_all_tasks_are_one_group_and_q_names_the_columns() -> None:
    """Without `by` there is one group, and each asked percentile has a column named for it."""
    durations = latency.durations(tasks_frame(*(task(0, i, i, i) for i in range(101))))
    table = latency.percentiles(durations, q=(0, 0.07, 0.955)).set_index("duration")
    assert table["group"].unique().tolist() == ["all"]
    row = table.loc["end_to_end_s"]
    assert [row["p0"], row["p7"], row["p95.5"]] == pytest.approx([0, 7, 95.5])


def test_groups_keep_the_order_of_their_values_and_lose_nobody() -> None:
    """Priorities are ordered as numbers, and tasks without one are a group of their own."""
    tasks = tasks_frame(*(task(0, 1, 1, 2, priority=priority) for priority in (9, None, 0, 9)))
    table = latency.percentiles(latency.durations(tasks), "priority")
    counts = table[table["duration"] == "end_to_end_s"].set_index("group")["n"]
    assert list(counts.items()) == [("0", 1), ("9", 2), ("not stated", 1)]


def test_a_group_of_open_tasks_is_shown() -> None:
    """A group in which nothing has finished keeps its row, so that it is not overlooked."""
    tasks = tasks_frame(task(0, 1, 1, 2, task_type="done"), {"state": "pending", "task_type": "stuck"})
    table = latency.percentiles(latency.durations(tasks), "task_type")
    stuck = table[table["group"] == "stuck"]
    assert stuck["n"].tolist() == [0, 0, 0, 0]
    assert stuck["n_censored"].tolist() == [1, 1, 1, 1]


def test_the_summary_is_json_without_nan() -> None:
    """`results.json` gets floats where tasks have finished, None where none has, and the counts either way."""
    full = latency.summary(latency.percentiles(latency.durations(synthetic_run(300, open_share=0.1).tasks)))
    empty = latency.summary(latency.percentiles(latency.durations(tasks_frame({"state": "pending"}))))
    assert json.loads(json.dumps([full, empty], allow_nan=False)) == [full, empty]
    assert list(full) == list(latency.DURATIONS)
    assert (full["end_to_end_s"]["n"], full["end_to_end_s"]["n_censored"]) == (270, 30)
    expected = {"n": 0, "p50": None, "p90": None, "p99": None, "max": None, "n_negative": 0, "n_censored": 1}
    nothing = {"p50": None, "p90": None, "p99": None}
    why = {name: f"needs {least} tasks, there are 0" for name, least in (("p50", 6), ("p90", 36), ("p99", 368))}
    assert empty["end_to_end_s"] == expected | {"intervals": nothing, "why_not": why}
    assert full["end_to_end_s"]["why_not"] == {"p99": "needs 368 tasks, there are 270"}


def test_skewed_clocks_are_counted_and_not_cleaned() -> None:
    """A start before the enqueueing shows as a negative wait and is counted."""
    tasks = tasks_frame(*[task(5, 3, 3, 9)] * 4, *[task(0, 1, 1, 2)] * 4)
    summary = latency.summary(latency.percentiles(latency.durations(tasks)))
    assert (summary["queue_wait_s"]["n_negative"], summary["queue_wait_s"]["p50"]) == (4, -0.5)


def test_empty_frames_give_empty_tables() -> None:
    """No task at all is no error: the durations have no row, and all groups together have a row of zero tasks."""
    durations = latency.durations(tasks_frame())
    assert len(durations) == 0
    assert latency.percentiles(durations)["n"].tolist() == [0, 0, 0, 0]
    assert latency.percentiles(durations, "task_type").empty


@pytest.mark.parametrize("q", [(), (1.01,), (-0.1,), (math.nan,)])
def test_percentiles_outside_the_range_are_refused(q: tuple[float, ...]) -> None:
    """A percentile is asked for as a share from 0 to 1."""
    with pytest.raises(BadInput, match="0 to 1"):
        latency.percentiles(latency.durations(tasks_frame({})), q=q)


def test_unknown_groups_and_missing_columns_are_refused() -> None:
    """A column that is no group, or is not there, is named in the error."""
    with pytest.raises(BadInput, match="cannot be grouped by 'colour'"):
        latency.percentiles(latency.durations(tasks_frame({})), "colour")
    with pytest.raises(BadInput, match="no column finished_at"):
        latency.durations(tasks_frame({}).drop(columns="finished_at"))
