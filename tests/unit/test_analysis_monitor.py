"""The course of a run on one axis of time: each column by its definition, counted by hand and by brute force."""

import numpy as np
import pandas as pd
import pytest

from taskq_lib.analysis import monitor
from tests.unit.frames import Run, at, attempts_frame, synthetic_run, tasks_frame


def two_tasks() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two tasks in one invocation, of which the second fails and is tried again."""
    tasks = tasks_frame(
        {"enqueued_at": at(0), "sent_at": at(0), "first_started_at": at(2), "finished_at": at(3), "updated_at": at(3)},
        {"enqueued_at": at(1), "sent_at": at(1), "first_started_at": at(2), "finished_at": at(7), "updated_at": at(7)},
    )
    attempts = attempts_frame(
        {"received_at": at(2), "started_at": at(2), "finished_at": at(3), "request_id": "a"},
        {"received_at": at(2), "started_at": at(2), "finished_at": at(4), "request_id": "a", "outcome": "failed"},
        {"received_at": at(6), "started_at": at(6.5), "finished_at": at(7), "request_id": "b"},
    )
    return tasks, attempts


def test_each_column_is_what_it_says() -> None:
    """Age, in flight, failures and concurrency of a course that can be counted by hand."""
    found = monitor.timeline(*two_tasks(), interval_s=1.0)
    assert found["oldest_s"].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert found["in_flight"].tolist() == [0, 2, 1, 0, 0, 1, 0, 0]
    assert found["n_ended"].tolist() == [0, 0, 0, 1, 1, 0, 0, 1]
    assert found["n_failed"].tolist() == [0, 0, 0, 0, 1, 0, 0, 0]
    assert found["failed_share"].dropna().tolist() == [0, 1, 0]
    assert found["tasks_running"].tolist() == pytest.approx([0, 0, 2, 1, 0, 0, 0.5, 0])
    assert found["invocations"].tolist() == pytest.approx([0, 0, 1, 1, 0, 0, 1, 0])
    heights = monitor.summary(found)
    assert (heights["max_backlog"], heights["max_in_flight"], heights["max_oldest_s"]) == (2, 2, 1)


def test_the_age_is_that_of_the_oldest() -> None:
    """On a synthetic run each age is the one found by looking at every task."""
    run = synthetic_run(300, open_share=0.1)
    found = monitor.timeline(run.tasks, run.attempts)
    ends = found["at"] + pd.to_timedelta(found["interval_s"], unit="s")
    for end, age in zip(ends, found["oldest_s"], strict=True):
        entered = run.tasks["enqueued_at"]
        waiting = (entered <= end) & ~(run.tasks["first_started_at"] <= end)
        expected = (end - entered[waiting].min()).total_seconds() if waiting.any() else 0.0
        assert age == pytest.approx(expected, abs=1e-5)


def test_nothing_that_ran_is_lost_in_the_means() -> None:
    """The means times their intervals add up to the time that all attempts, and all invocations, took."""
    run = synthetic_run(500)
    # Each attempt is an invocation of its own here.
    attempts = run.attempts.assign(request_id=run.attempts.index.astype("str"))
    found = monitor.timeline(run.tasks, attempts)
    ended = attempts[attempts["finished_at"].notna()]
    took = (ended["finished_at"] - ended["started_at"]).dt.total_seconds().sum()
    assert (found["tasks_running"] * found["interval_s"]).sum() == pytest.approx(took, rel=1e-5)
    assert (found["invocations"] * found["interval_s"]).sum() == pytest.approx(took, rel=1e-5)
    assert found["n_ended"].sum() == len(ended)
    assert found["n_failed"].sum() == (ended["outcome"] != "completed").sum()
    assert (found[["oldest_s", "tasks_running", "invocations"]] >= -1e-9).all().all()
    assert (found["in_flight"] >= 0).all()


@pytest.mark.parametrize(
    "run",
    [
        Run(pd.DataFrame(), tasks_frame(), attempts_frame(), pd.DataFrame()),
        Run(pd.DataFrame(), tasks_frame({"state": "pending"}), attempts_frame({"outcome": None}), pd.DataFrame()),
    ],
    ids=["empty", "nothing known"],
)
def test_where_nothing_is_known_there_is_no_course(run: Run) -> None:
    """Without any time there is no row, the columns are there, and the heights are None."""
    found = monitor.timeline(run.tasks, run.attempts)
    assert found.empty
    assert {"backlog", "oldest_s", "failed_share", "invocations"} <= set(found.columns)
    assert set(monitor.summary(found).values()) == {None}


def test_a_task_that_was_sent_and_never_started_ages() -> None:
    """While nothing starts, the age grows by a second a second."""
    tasks = tasks_frame(
        {"state": "pending", "enqueued_at": at(0), "sent_at": at(0)},
        {"state": "pending", "enqueued_at": at(5), "sent_at": at(5)},
    )
    found = monitor.timeline(tasks, attempts_frame({"outcome": None}), interval_s=1.0)
    assert np.diff(found["oldest_s"]).tolist() == pytest.approx([1] * 5)
    assert found["failed_share"].isna().all()
