"""Failures: rates with their uncertainty, errors by signature, what was done about them, and what nothing moves."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskq_lib.analysis import failures, signatures
from taskq_lib.aws.queues import DEAD_COLUMNS
from taskq_lib.errors import BadInput
from taskq_worker.contract import Reason
from tests.unit.frames import T0, at, attempts_frame, dead_frame, synthetic_run, tasks_frame


def times(rows: Sequence[Mapping[str, Any]], name: str) -> "pd.Series[pd.Timestamp]":
    """Make a column of times, missing where a row gives none."""
    return pd.Series([row.get(name) for row in rows], dtype="datetime64[us, UTC]")


def inventory(*rows: Mapping[str, Any]) -> pd.DataFrame:
    """Make an inventory of the dead-letter queue with all its columns; each message was sent at `T0`."""
    full = [{"message_id": f"message-{i}", "sent_at": T0, "n_receives": 1} | dict(row) for i, row in enumerate(rows)]
    plain = {name: dtype for name, dtype in DEAD_COLUMNS.items() if not name.endswith("_at")}
    frame = pd.DataFrame({name: pd.array([row.get(name) for row in full], dtype=plain[name]) for name in plain})
    return frame.assign(**{name: times(full, name) for name in DEAD_COLUMNS if name.endswith("_at")})


def leased(*rows: Mapping[str, Any]) -> pd.DataFrame:
    """Make a `tasks` frame that knows leases."""
    return tasks_frame(*rows).assign(lease_until=times(rows, "lease_until"))


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


def test_dead_letters_are_grouped_by_signature() -> None:
    """The same bug with other ids is one row, with its messages, tasks, times, types and its earliest example."""
    bug = {"error_type": "Timeout", "reason": "max_attempts", "task_type": "SEND_EMAIL"}
    dead = inventory(
        {"task_id": "run-12", "error": "no answer to run-12", "first_at": at(5), "last_at": at(9), **bug},
        {"task_id": "run-7", "error": "no answer to run-7", "first_at": at(2), "last_at": at(3), **bug},
        {"task_id": "run-7", "error": "no answer to run-7", "first_at": at(4), "last_at": at(6), **bug}
        | {"task_type": "IMAGE_RESIZE", "reason": "non_retryable"},
        {"task_id": "run-1", "reason": "receive_limit", "sent_at": at(1)},
        {"error_type": "InvalidMessage", "error": "the body is not JSON", "reason": "invalid"},
    )
    table = failures.by_signature(dead)
    columns = "signature_id signature reason n_messages n_tasks first_seen last_seen task_types example"
    assert table.columns.tolist() == columns.split()
    first, *others = table.to_dict("records")
    assert first == {
        "signature_id": signatures.signature_id(pd.Series(["Timeout: no answer to <n>"], dtype="str"))[0],
        "signature": "Timeout: no answer to <n>",
        "reason": "max_attempts, non_retryable",
        "n_messages": 3,
        "n_tasks": 2,
        "first_seen": at(2),
        "last_seen": at(9),
        "task_types": "IMAGE_RESIZE, SEND_EMAIL",
        "example": "run-7: no answer to run-7",
    }
    assert [(row["signature"], row["n_tasks"], row["task_types"], row["example"]) for row in others] == [
        ("InvalidMessage: the body is not JSON", 0, "", "message message-4: the body is not JSON"),
        ("receive_limit", 1, "", "run-1"),
    ]
    assert [row["first_seen"] for row in others] == [row["last_seen"] for row in others] == [T0, at(1)]


def test_failed_attempts_are_grouped_by_signature() -> None:
    """Attempts that failed or were lost have the signatures of their dead letters; the others are not counted."""
    attempts = attempts_frame(
        {"task_id": "a-1", "outcome": "failed", "error_type": "Timeout", "error": "late: a-1", "finished_at": at(9)},
        {"task_id": "a-1", "outcome": "failed", "error_type": "Timeout", "error": "late: a-2", "started_at": at(2)},
        {"task_id": "b-1", "outcome": "failed", "error_type": "Timeout", "started_at": at(1), "finished_at": at(4)},
        {"task_id": "b-1", "outcome": "lost", "started_at": at(5)},
        {"task_id": "c-1", "outcome": "failed", "finished_at": at(3)},
        {"task_id": "d-1", "outcome": "completed", "finished_at": at(4)},
        {"task_id": "e-1", "outcome": None, "started_at": at(4)},
    )
    table = failures.attempts_by_signature(attempts).set_index("signature")
    expected = {"Timeout: late: <n>": 2, "Timeout: <no text>": 1, "failed": 1, "lost": 1}
    assert table["n_attempts"].to_dict() == expected
    late = table.to_dict("index")["Timeout: late: <n>"]
    assert (late["n_tasks"], late["outcome"], late["example"]) == (1, "failed", "a-1: late: a-2")
    assert (late["first_seen"], late["last_seen"]) == (at(2), at(9))
    assert table["example"].to_dict()["lost"] == "b-1"
    assert table["last_seen"].to_dict()["lost"] == at(5)


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
    table = failures.by_reason(tasks, dead_frame({"reason": "receive_limit"}, {"reason": "invalid"}, {}))
    assert table[["reason", "n_tasks", "n_messages"]].to_numpy().tolist() == [
        ["invalid", 1, 1],
        ["not stated", 1, 1],
        ["receive_limit", 0, 1],
    ]
    assert table["meaning"].tolist() == [failures.MEANINGS[reason] for reason in table["reason"]]


def test_every_reason_has_a_meaning() -> None:
    """No reason reaches a reader without words for it; one that a newer function writes is shown without."""
    assert set(failures.MEANINGS) == {*Reason, "not stated"}
    assert failures.by_reason(tasks_frame(), dead_frame({"reason": "newer"}))["meaning"].isna().tolist() == [True]


def test_what_a_person_mended_is_no_retry() -> None:
    """A task that completed after a redrive is told from one that a retry completed."""
    tasks = tasks_frame({"task_id": "a"}, {"task_id": "b"}).assign(n_redrives=[1, 0])
    attempts = attempts_frame(*({"task_id": task_id, "outcome": "failed"} for task_id in ("a", "b")))
    found = failures.remedies(tasks, attempts)
    assert (found["of these completed by a retry"], found["of these completed after a redrive"]) == (1, 1)


def test_what_was_done_is_told_in_numbers() -> None:
    """Of the tasks that failed, those that a retry completed are told from those that were given up."""
    tasks = tasks_frame(
        {"task_id": "mended", "state": "completed"},
        {"task_id": "given up", "state": "dead_lettered"},
        {"task_id": "waiting", "state": "retrying"},
        {"task_id": "fine", "state": "completed"},
        {"task_id": "never tried", "state": "dead_lettered"},
    )
    bad = {"outcome": "failed"}
    attempts = attempts_frame(
        {"task_id": "mended", "attempt": 2, "started_at": at(5), "finished_at": at(6)},
        {"task_id": "mended", "attempt": 1, "started_at": at(0), "finished_at": at(1), **bad},
        {"task_id": "given up", "attempt": 1, "started_at": at(0), "finished_at": at(1), **bad},
        {"task_id": "given up", "attempt": 2, "started_at": at(3), "finished_at": at(4), **bad},
        # Redriven an hour later: no back-off.
        {"task_id": "given up", "attempt": 1, "started_at": at(3600), "finished_at": at(3601), **bad},
        {"task_id": "waiting", "attempt": 1, "started_at": at(0), "outcome": "lost"},
        {"task_id": "fine", "attempt": 1, "started_at": at(0), "finished_at": at(1)},
    )
    assert failures.remedies(tasks, attempts) == {
        "tasks with a failed attempt": 3,
        "of these completed by a retry": 1,
        "of these completed after a redrive": 0,
        "of these dead-lettered": 1,
        "of these still open": 1,
        "retries": 2,
        "median back-off before a retry, s": 3.0,
    }
    assert failures.remedies(tasks_frame(), attempts_frame())["median back-off before a retry, s"] is None


def test_the_safety_net_says_what_the_status_says() -> None:
    """What SQS moved by itself is told apart: never started, worker lost, still retrying, done, or no task at all."""
    tasks = leased(
        {"task_id": "pending", "state": "pending", "n_attempts": None},
        {"task_id": "given back", "state": "retrying", "n_attempts": 0},
        {"task_id": "vanished", "state": "processing", "lease_until": at(30)},
        {"task_id": "retrying", "state": "retrying", "n_attempts": 2, "error_type": "Timeout"},
        {"task_id": "done", "state": "completed"},
        {"task_id": "given up", "state": "dead_lettered", "finished_at": at(90)},
    )
    moved = [*tasks["task_id"], "no item", None]
    dead = inventory(
        *({"task_id": task_id, "reason": "receive_limit", "n_receives": 101} for task_id in moved),
        {"task_id": "given up", "reason": "max_attempts"},
    )
    table = failures.safety_net(tasks, dead)
    assert table.columns.tolist() == ["task_id", "message_id", "n_receives", "state", "n_attempts", "what"]
    assert table["message_id"].tolist() == [f"message-{i}" for i in range(8)]
    assert table["n_receives"].eq(101).all()
    said = dict(zip(table["task_id"].fillna("none"), table["what"], strict=True))
    assert said["pending"] == said["no item"] == said["given back"]
    assert said["pending"].startswith("never started")
    assert said["vanished"].startswith("its worker vanished")
    assert said["vanished"].endswith("its lease ran to 2026-11-24 02:00:30 UTC")
    assert said["retrying"].startswith("attempts are left")
    assert said["retrying"].endswith("its last error was Timeout")
    assert said["done"].startswith("completed all the same")
    assert said["given up"].startswith("given up by the function as well")
    assert said["none"] == "never reached the function, and its body names no task"
    state = dict(zip(table["task_id"].fillna("none"), table["state"].fillna("missing"), strict=True))
    assert (state["no item"], state["none"], state["vanished"]) == ("missing", "missing", "processing")


def test_a_redriven_letter_in_the_safety_net_is_no_second_death() -> None:
    """A letter that SQS moved before its ticket opened the task says so; a stale ticket is another matter."""
    tasks = leased(
        {"task_id": "waited", "state": "dead_lettered", "finished_at": at(90)},
        {"task_id": "died again", "state": "dead_lettered", "finished_at": at(91)},
    )
    dead = inventory(
        *({"task_id": id_, "reason": "receive_limit", "ticket_at": at(90)} for id_ in ("waited", "died again"))
    )
    first, second = failures.safety_net(tasks, dead)["what"]
    assert first == "redriven, and moved before its task was opened again; redrive it once more"
    assert second.startswith("given up by the function as well")


def test_nothing_came_through_the_safety_net() -> None:
    """A letter that the function sent is not listed, and the empty table has its columns and types."""
    table = failures.safety_net(leased({"task_id": "a"}), inventory({"task_id": "a", "reason": "max_attempts"}))
    assert table.empty
    assert table.dtypes.astype("str").to_dict() == {
        **dict.fromkeys(["task_id", "message_id", "state", "what"], "str"),
        **dict.fromkeys(["n_receives", "n_attempts"], "Int32"),
    }


@pytest.mark.parametrize(("queue_is_empty", "expected"), [(False, ["a", "b"]), (True, ["r", "a", "b"])])
def test_stuck_tasks_have_a_lease_that_ran_out(queue_is_empty: bool, expected: list[str]) -> None:  # noqa: FBT001
    """A task whose worker vanished is stuck; one that waits for a retry is so only if no message can bring it."""
    tasks = leased(
        {"task_id": "b", "state": "processing", "lease_until": at(50)},
        {"task_id": "a", "state": "processing", "lease_until": at(40)},
        {"task_id": "at work", "state": "processing", "lease_until": at(60)},
        {"task_id": "in dead", "state": "processing", "lease_until": at(10)},
        {"task_id": "r", "state": "retrying", "lease_until": at(20)},
        {"task_id": "p", "state": "pending"},
        {"task_id": "c", "state": "completed"},
        {"task_id": "d", "state": "dead_lettered"},
    )
    dead = inventory({"task_id": "in dead"}, {"task_id": None})
    table = failures.stuck(tasks, dead, at(60), queue_is_empty=queue_is_empty)
    assert table["task_id"].tolist() == expected
    assert table["overdue_s"].tolist()[-2:] == [20.0, 10.0]
    assert table.columns.tolist() == ["task_id", "task_type", "state", "n_attempts", "lease_until", "overdue_s"]


def test_a_time_without_a_zone_is_refused() -> None:
    """Leases end at a time in UTC; a time that may be another is not compared with them."""
    with pytest.raises(BadInput, match="without a time zone"):
        failures.stuck(leased({}), inventory(), datetime(2026, 11, 24), queue_is_empty=True)


@settings(max_examples=settings().max_examples // 5)
@given(st.integers(0, 200), st.sampled_from([0.0, 1.0, 100.0]), st.sampled_from([0.0, 0.3]))
def test_nothing_is_counted_twice_or_dropped(n: int, failing: float, open_share: float) -> None:
    """Over a whole run the tables add up to the frames they were made from."""
    run = synthetic_run(n, failing=failing, open_share=open_share)
    bad = run.attempts["outcome"].isin(["failed", "lost"]).sum()
    assert failures.attempts_by_signature(run.attempts)["n_attempts"].sum() == bad
    assert failures.remedies(run.tasks, run.attempts)["of these dead-lettered"] == len(run.dead)
    dead = inventory(*({str(name): value for name, value in row.items()} for row in run.dead.to_dict("records")))
    grouped = failures.by_signature(dead)
    assert grouped["n_messages"].sum() == grouped["n_tasks"].sum() == len(run.dead)
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
    assert failures.attempts_by_signature(attempts_frame()).empty
    assert failures.by_signature(inventory()).columns.tolist() == failures.by_signature(inventory({})).columns.tolist()
    assert failures.outcome_by_attempt(attempts_frame()).empty


def test_unknown_groups_and_missing_columns_are_refused() -> None:
    """A column that is no group, or is not there, is named in the error."""
    with pytest.raises(BadInput, match="cannot be grouped by 'error'"):
        failures.rates(tasks_frame({}), "error")
    with pytest.raises(BadInput, match="no column priority"):
        failures.rates(tasks_frame({}).drop(columns="priority"), "priority")
    with pytest.raises(BadInput, match="no column outcome"):
        failures.attempt_failure_rate(attempts_frame().drop(columns="outcome"))
