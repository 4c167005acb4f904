"""Failures: rates with their uncertainty, and errors by kind."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskq_lib.analysis import failures
from taskq_lib.errors import BadInput
from tests.unit.frames import at, attempts_frame, dead_frame, synthetic_run, tasks_frame


def test_only_final_tasks_are_in_the_rate() -> None:
    """Open tasks neither raise nor lower the failure rate, and a group of open tasks has none."""
    tasks = tasks_frame(
        {"task_type": "A", "state": "dead_lettered"},
        *({"task_type": "A", "state": "completed"} for _ in range(3)),
        {"task_type": "A", "state": "retrying"},
        {"task_type": "B", "state": "processing"},
    )
    table = failures.rates(tasks).set_index("group")
    assert table.loc[["A"], ["n_final", "n_dead_lettered", "failure_rate"]].to_numpy().tolist() == [[4, 1, 0.25]]
    assert table.loc["B", "n_final"] == 0
    assert table.loc["B", ["failure_rate", "low", "high"]].isna().all()


@pytest.mark.parametrize(
    ("n_dead", "n", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17, 1998, table I, score method; the last is the third one mirrored.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_the_interval_is_wilsons(n_dead: int, n: int, low: float, high: float) -> None:
    """The 95 % interval agrees with published values, at the ends of the range as well."""
    states = ["dead_lettered"] * n_dead + ["completed"] * (n - n_dead)
    row = failures.rates(tasks_frame(*({"state": state} for state in states))).iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("state", ["completed", "dead_lettered"])
def test_the_interval_ends_exactly_at_the_ends(state: str) -> None:
    """Where no task failed, or every one, rounding pushes the interval neither past the rate nor short of it."""
    table = failures.rates(tasks_frame(*({"task_type": str(n), "state": state} for n in range(60) for _ in range(n))))
    end = table["low"] if state == "completed" else table["high"]
    assert end.tolist() == table["failure_rate"].tolist()


@given(st.lists(st.sampled_from(["completed", "dead_lettered"]), min_size=1, max_size=200))
def test_the_interval_holds_the_rate(states: list[str]) -> None:
    """The interval lies within 0..1, holds the observed rate, and solves Wilson's equation at its ends."""
    row = failures.rates(tasks_frame(*({"state": state} for state in states)), by=None).iloc[0]
    rate, n = row["failure_rate"], len(states)
    assert rate == pytest.approx(states.count("dead_lettered") / n)
    assert 0 <= row["low"] <= rate <= row["high"] <= 1
    for end in (row["low"], row["high"]):
        if 0 < end < 1:
            assert abs(rate - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), rel=1e-5)


def test_attempts_fail_or_are_lost() -> None:
    """The rate of attempts counts failed and lost ones among those that ended, and is missing if none did."""
    attempts = attempts_frame(*({"outcome": outcome} for outcome in ("completed", "failed", "lost", "completed", None)))
    assert failures.attempt_failure_rate(attempts) == 0.5
    assert math.isnan(failures.attempt_failure_rate(attempts_frame({"outcome": None})))


def test_errors_are_listed_by_kind() -> None:
    """Each kind of error has its attempts, tasks, first and last time, and the earliest message as an example."""
    attempts = attempts_frame(
        {"task_id": "a", "outcome": "failed", "error_type": "Timeout", "error": "later", "finished_at": at(9)},
        {"task_id": "a", "outcome": "failed", "error_type": "Timeout", "error": "first", "finished_at": at(2)},
        {"task_id": "b", "outcome": "failed", "error_type": "Timeout", "finished_at": at(1)},
        {"task_id": "b", "outcome": "lost", "started_at": at(5)},
        {"task_id": "c", "outcome": "failed", "finished_at": at(3)},
        {"task_id": "d", "outcome": "completed", "finished_at": at(4)},
        {"task_id": "e", "outcome": None, "started_at": at(4)},
    )
    table = failures.by_error(attempts).set_index("error_type")
    assert table["n_attempts"].to_dict() == {"Timeout": 3, "failed": 1, "lost": 1}
    timeout = table.to_dict("index")["Timeout"]
    assert timeout == {"n_attempts": 3, "n_tasks": 2, "first_at": at(1), "last_at": at(9), "example": "first"}
    assert table.loc["lost", "first_at"] == at(5)
    assert table["example"].isna().tolist() == [False, True, True]


def test_outcomes_are_counted_by_attempt() -> None:
    """First, second, ... attempts are counted by how they ended, without those that still run."""
    rows = [(1, "failed"), (1, "failed"), (2, "completed"), (2, "lost"), (3, None)]
    table = failures.outcome_by_attempt(attempts_frame(*({"attempt": n, "outcome": outcome} for n, outcome in rows)))
    assert table.to_numpy().tolist() == [[1, "failed", 2], [2, "completed", 1], [2, "lost", 1]]


def test_reasons_are_counted_in_tasks_and_in_messages() -> None:
    """Tasks and dead-letter messages are counted side by side, so that a message without a task shows."""
    tasks = tasks_frame(
        {"state": "dead_lettered", "reason": "invalid"},
        {"state": "dead_lettered"},
        {"state": "completed", "reason": "invalid"},
    )
    table = failures.by_reason(tasks, dead_frame({"reason": "invalid"}, {"reason": "receive_limit"}, {}))
    assert table.set_index("reason").to_dict("index") == {
        "invalid": {"n_tasks": 1, "n_messages": 1},
        "not stated": {"n_tasks": 1, "n_messages": 1},
        "receive_limit": {"n_tasks": 0, "n_messages": 1},
    }


@settings(max_examples=30)
@given(st.integers(0, 200), st.sampled_from([0.0, 1.0, 100.0]), st.sampled_from([0.0, 0.3]))
def test_nothing_is_counted_twice_or_dropped(n: int, failing: float, open_share: float) -> None:
    """Over a whole run the tables add up to the frames they were made from."""
    run = synthetic_run(n, failing=failing, open_share=open_share)
    bad = run.attempts["outcome"].isin(["failed", "lost"]).sum()
    assert failures.by_error(run.attempts)["n_attempts"].sum() == bad
    assert failures.outcome_by_attempt(run.attempts)["n"].sum() == len(run.attempts)
    for by in (None, "task_type", "priority"):
        table = failures.rates(run.tasks, by)
        assert table["n_dead_lettered"].sum() == len(run.dead)
        assert table["n_final"].sum() == n - round(n * open_share)


def test_the_summary_is_json_without_nan() -> None:
    """`results.json` gets the rates of tasks and attempts, by type too, and None where nothing has ended."""
    full = failures.summary(synthetic_run(100, failing=100, types=("SEND_EMAIL",)).tasks, attempts_frame({}))
    assert full == {"tasks": 1.0, "attempts": 0.0, "by_type": {"SEND_EMAIL": 1.0}}
    empty = failures.summary(tasks_frame({"state": "pending"}), attempts_frame())
    assert empty == {"tasks": None, "attempts": None, "by_type": {"SEND_EMAIL": None}}
    assert json.loads(json.dumps([full, empty], allow_nan=False)) == [full, empty]


def test_empty_frames_give_empty_tables() -> None:
    """A run without tasks or attempts has tables without rows."""
    assert failures.rates(tasks_frame()).empty
    assert failures.by_error(attempts_frame()).empty
    assert failures.outcome_by_attempt(attempts_frame()).empty


def test_unknown_groups_and_missing_columns_are_refused() -> None:
    """A column that is no group, or is not there, is named in the error."""
    with pytest.raises(BadInput, match="cannot be grouped by 'error'"):
        failures.rates(tasks_frame({}), "error")
    with pytest.raises(BadInput, match="no column priority"):
        failures.rates(tasks_frame({}).drop(columns="priority"), "priority")
    with pytest.raises(BadInput, match="no column outcome"):
        failures.attempt_failure_rate(attempts_frame().drop(columns="outcome"))
