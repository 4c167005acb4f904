"""Status items as frames: every column has its type, every task its row and its state, and no time is rounded."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib.analysis import STATES
from taskq_lib.aws import status
from taskq_lib.aws.frames import (
    ATTEMPT_COLUMNS,
    TASK_COLUMNS,
    attempts_frame,
    read_items,
    tasks_frame,
    with_pending,
)
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput
from taskq_lib.workload import Workload, generate
from taskq_worker.attributes import to_attribute
from taskq_worker.contract import WORKER_LOST

NOW = datetime(2026, 11, 24, tzinfo=UTC)

_TIMES = st.floats(0, 4_102_444_799).map(lambda seconds: round(seconds, 3))
_ENTRIES = st.fixed_dictionaries(
    {"outcome": st.sampled_from(["completed", "failed", "lost"])},
    optional={
        "received": _TIMES,
        "started": _TIMES,
        "finished": _TIMES,
        "requestId": st.text(max_size=5),
        "coldStart": st.just(value=True),
        "errorType": st.text(max_size=5),
        "error": st.text(max_size=5),
    },
)


_STATES: dict[str, dict[str, Any]] = {
    "processing": {"status": "PROCESSING"},
    "completed": {"status": "COMPLETED"},
    "retrying": {"status": "FAILED"},
    "dead_lettered": {"status": "FAILED", "deadLettered": True},
}
_ITEMS = st.builds(
    lambda task_id, fields, state, log, n_unlogged: {
        "taskId": task_id,
        **fields,
        **_STATES[state],
        **({"attemptLog": log} if log else {}),
        "attempts": len(log) + n_unlogged + (state == "processing"),
        "duplicates": 0,
    },
    task_id=st.text(min_size=1, max_size=8),
    fields=st.fixed_dictionaries(
        {"timestamp": _TIMES},
        optional={
            "runId": st.text(max_size=5),
            "taskType": st.sampled_from(["SEND_EMAIL", "REMOVED_TYPE"]),
            "priority": st.integers(0, 9),
            "result": st.text(max_size=5),
            "reason": st.sampled_from(["max_attempts", "invalid"]),
            "errorType": st.text(max_size=5),
            "error": st.text(max_size=5),
            "enqueuedAt": _TIMES,
            "sentAt": _TIMES,
            "startedAt": _TIMES,
            "finishedAt": _TIMES,
            "leaseUntil": _TIMES,
        },
    ),
    state=st.sampled_from(sorted(_STATES)),
    log=st.lists(_ENTRIES, max_size=4),
    n_unlogged=st.integers(0, 2),
)


def assert_typed(frame: pd.DataFrame, columns: dict[str, tuple[str | None, Any]]) -> None:
    """Each column is there, in order, with its own dtype; none is a column of objects."""
    assert list(frame.columns) == list(columns)
    for name, (_key, dtype) in columns.items():
        assert frame[name].dtype == dtype, name
        assert frame[name].dtype != "object", name


def exact(seconds: float | None) -> Any:
    """Turn Unix seconds with milliseconds into a timestamp without rounding."""
    return pd.NaT if seconds is None else pd.Timestamp(round(seconds * 1000), unit="ms", tz="UTC")


def item(task_id: str, **fields: Any) -> dict[str, Any]:
    """Make a status item of a completed task with one attempt; `None` leaves a field out."""
    plain: dict[str, Any] = {
        "taskId": task_id,
        "status": "COMPLETED",
        "timestamp": 1_800_000_000.25,
        "attempts": 1,
        "duplicates": 0,
        "attemptLog": [{"started": 1_800_000_000.0, "finished": 1_800_000_000.25, "outcome": "completed"}],
    }
    return {name: value for name, value in (plain | fields).items() if value is not None}


@given(items=st.lists(_ITEMS, max_size=6))
def test_columns_have_their_types(items: Sequence[dict[str, Any]]) -> None:
    """Whatever the items hold or lack, also for no items at all, both frames have exactly their columns and dtypes."""
    tasks, attempts = tasks_frame(items), attempts_frame(items)
    assert_typed(tasks, TASK_COLUMNS)
    assert_typed(attempts, ATTEMPT_COLUMNS)
    assert len(tasks) == len(items)
    assert len(attempts) == sum(len(one.get("attemptLog", [])) for one in items)


@given(items=st.lists(_ITEMS, max_size=6))
def test_values_are_the_items_own(items: Sequence[dict[str, Any]]) -> None:
    """Values and times are those of the items, to the millisecond; what an item lacks is missing."""
    tasks = tasks_frame(read_items({name: to_attribute(value) for name, value in one.items()} for one in items))
    for column, (attribute, dtype) in TASK_COLUMNS.items():
        if attribute is None:
            continue
        expected = [one.get(attribute) for one in items]
        if str(dtype).startswith("datetime"):
            expected = [exact(value) for value in expected]
        found = [None if pd.isna(value) else value for value in tasks[column].tolist()]
        assert found == [None if pd.isna(value) else value for value in expected], column


@pytest.mark.parametrize(("state", "fields"), _STATES.items())
def test_the_state_is_read_from_the_item(state: str, fields: dict[str, Any]) -> None:
    """The state that a reader sees follows from status and `deadLettered`."""
    assert tasks_frame([item("a", **fields)])["state"].tolist() == [state]


def test_states_are_those_of_the_analysis() -> None:
    """The states are ordered as a task lives, and are the same that the analysis knows."""
    assert tasks_frame([])["state"].cat.ordered
    assert tuple(tasks_frame([])["state"].cat.categories) == STATES


def test_attempts_are_numbered_from_one() -> None:
    """Each entry of the log is a row, numbered as it was counted, with the task's own columns beside it."""
    log = [
        {"received": 1.8e9, "started": 1.8e9, "finished": 1.8e9 + 1, "outcome": "failed", "errorType": "E",
         "requestId": "r1", "coldStart": True},
        {"outcome": "lost"},
        {"started": 1.8e9 + 9, "finished": 1.8e9 + 10, "outcome": "completed", "requestId": "r3"},
    ]  # fmt: skip
    attempts = attempts_frame([item("a", attempts=3, attemptLog=log, runId="r", taskType="SEND_EMAIL", priority=9)])
    assert attempts["attempt"].tolist() == [1, 2, 3]
    assert attempts["outcome"].tolist() == ["failed", "lost", "completed"]
    assert attempts["started_at"].tolist() == [exact(1.8e9), pd.NaT, exact(1.8e9 + 9)]
    assert attempts["cold_start"].tolist() == [True, False, False]
    assert attempts["request_id"].fillna("-").tolist() == ["r1", "-", "r3"]
    assert attempts[["task_id", "run_id", "task_type", "priority"]].drop_duplicates().to_numpy().tolist() == [
        ["a", "r", "SEND_EMAIL", 9]
    ]


def test_a_running_attempt_is_counted_and_not_logged() -> None:
    """While attempt 3 runs, the two that are logged keep their numbers; the last start is the last logged one."""
    log = [{"started": 1.8e9, "outcome": "failed"}, {"started": 1.8e9 + 5, "outcome": "failed"}]
    running = [item("a", status="PROCESSING", attempts=3, attemptLog=log, startedAt=1.8e9)]
    assert attempts_frame(running)["attempt"].tolist() == [1, 2]
    assert tasks_frame(running)["last_started_at"].tolist() == [exact(1.8e9 + 5)]


def test_a_log_that_was_cut_keeps_its_numbers() -> None:
    """Of a log that holds the last attempts only, the numbers count back from the item's count."""
    log = [{"started": 1.8e9 + i, "outcome": "failed"} for i in range(3)]
    assert attempts_frame([item("a", attempts=7, attemptLog=log)])["attempt"].tolist() == [5, 6, 7]


def test_attempts_are_counted_anew_after_a_redrive() -> None:
    """The attempts of each life of a task are numbered from 1; the first start is that of the first life."""
    log = [
        {"started": 1_800_000_000.0, "finished": 1_800_000_001.0, "outcome": "failed"},
        {"outcome": "lost", "redrive": 1},
        {"started": 1_800_000_100.0, "finished": 1_800_000_101.0, "outcome": "completed", "redrive": 1},
    ]
    redriven = [item("a", attempts=2, redrives=1, attemptLog=log)]
    attempts = attempts_frame(redriven)
    assert attempts[["redrive", "attempt"]].to_numpy().tolist() == [[0, 1], [1, 1], [1, 2]]
    [row] = tasks_frame(redriven).to_dict("records")
    assert (row["n_redrives"], row["n_attempts"]) == (1, 2)
    assert (row["first_started_at"], row["last_started_at"]) == (exact(1_800_000_000.0), exact(1_800_000_100.0))


def test_an_attempt_that_vanished_has_the_error_of_those_that_do() -> None:
    """A lost attempt, which left no error, is named as in its dead letter: one signature for all."""
    log = [{"outcome": "lost"}, {"outcome": "lost", "errorType": "WorkerLost", "error": "gone"}]
    attempts = attempts_frame([item("a", attempts=2, attemptLog=log)])
    assert attempts["error_type"].tolist() == ["WorkerLost", "WorkerLost"]
    assert attempts["error"].tolist() == [WORKER_LOST[1], "gone"]


def test_an_attempt_that_was_given_back_is_not_counted() -> None:
    """An item whose only claim was released has no attempt and no row of one."""
    released = [item("a", status="PROCESSING", attempts=0, attemptLog=None, startedAt=1.8e9)]
    assert attempts_frame(released).empty
    assert tasks_frame(released)["n_attempts"].tolist() == [0]


def test_a_type_that_is_no_longer_known_is_kept() -> None:
    """An item of a task type that was removed from the code since keeps its type."""
    assert tasks_frame([item("a", taskType="REMOVED_TYPE")])["task_type"].tolist() == ["REMOVED_TYPE"]


def test_a_task_without_an_item_is_pending() -> None:
    """Tasks of the manifest that have no item get a row, with what the manifest and the record of sends know."""
    manifest = generate(Workload(n_tasks=4), "r")
    found = tasks_frame([item(manifest["task_id"][1], runId="r", taskType=manifest["task_type"][1], priority=5)])
    sends = pd.DataFrame({"task_id": manifest["task_id"], "enqueued_at": exact(1.8e9)})
    tasks = with_pending(found, manifest, "r", sends)
    assert_typed(tasks, TASK_COLUMNS)
    assert sorted(tasks["task_id"]) == sorted(manifest["task_id"])
    pending = tasks[tasks["state"] == "pending"].set_index("task_id")
    expected = manifest.set_index("task_id").drop(manifest["task_id"][1])
    assert pending["task_type"].tolist() == expected["task_type"].tolist()
    assert pending["priority"].tolist() == expected["priority"].tolist()
    assert set(pending["run_id"]) == {"r"}
    assert set(pending["enqueued_at"]) == {exact(1.8e9)}
    assert pending["n_attempts"].isna().all()


def test_all_tasks_may_be_pending() -> None:
    """Before the first item is there, every task is pending, without the record of sends as well."""
    manifest = generate(Workload(n_tasks=3), "r")
    tasks = with_pending(tasks_frame([]), manifest, "r")
    assert_typed(tasks, TASK_COLUMNS)
    assert tasks["state"].tolist() == ["pending"] * 3
    assert tasks["enqueued_at"].isna().all()


def test_a_frame_without_gaps_is_left_as_it_is() -> None:
    """Where every task has an item, nothing is added."""
    manifest = generate(Workload(n_tasks=2), "r")
    found = tasks_frame([item(task_id) for task_id in manifest["task_id"]])
    pd.testing.assert_frame_equal(with_pending(found, manifest, "r"), found)


def stack(**outputs: str) -> Stack:
    """Make a stack that cannot be asked anything."""
    target = Target(name="aws", session=None, region="us-east-1")
    return Stack(target=target, name="s", status="CREATE_COMPLETE", parameters={}, outputs=outputs)


@pytest.mark.parametrize(
    ("since", "until"),
    [
        (NOW.replace(tzinfo=None), NOW),
        (NOW, NOW.replace(tzinfo=None)),
        (NOW, NOW - timedelta(seconds=1)),
        (datetime(2100, 1, 1, tzinfo=UTC), None),
    ],
    ids=["naive since", "naive until", "backwards", "in the future"],
)
def test_a_window_needs_two_times_in_order(since: datetime, until: datetime | None) -> None:
    """A window with a naive datetime, or whose end lies before its begin, is refused before anything is asked."""
    with pytest.raises(BadInput, match="needs two datetimes with a time zone, the earlier one first"):
        status.window(stack(TimeIndexName="by-time"), since, until)


def test_a_window_needs_the_index() -> None:
    """Without the index by time a window is refused, since a scan is never made unasked, with what to do."""
    with pytest.raises(BadInput, match=r"(?s)^Stack 's' has no index by time \(TimeIndex=false\).*TimeIndex=true"):
        status.window(stack(), NOW)
