"""Order within message groups: counted pair by pair it is the same, and what is no breach of it is not counted."""

import itertools
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib.analysis import order
from taskq_lib.errors import BadInput
from tests.unit.frames import at, manifest_frame, tasks_frame


def tasks(*rows: tuple[str | None, float | None, float | None], **more: Any) -> pd.DataFrame:
    """Make tasks task-0, task-1, ... of group, first start and finish in seconds, enqueued a second apart."""
    frame = tasks_frame(
        *(
            {
                "enqueued_at": at(i),
                "first_started_at": None if start is None else at(start),
                "finished_at": None if finish is None else at(finish),
            }
            for i, (_group, start, finish) in enumerate(rows)
        )
    )
    frame["message_group"] = pd.array([group for group, _start, _finish in rows], dtype="str")
    return frame.assign(**more)


def counted(frame: pd.DataFrame) -> dict[str, tuple[int, int, int]]:
    """Return n_overtaken, n_inversions and n_finish_inversions of each group."""
    rows = frame[["group", "n_overtaken", "n_inversions", "n_finish_inversions"]].itertuples(index=False)
    return {row[0]: tuple(row[1:]) for row in rows}


GROUPS = st.sampled_from(["a", "b", "c"])
ROWS = st.lists(st.tuples(GROUPS, st.integers(0, 12), st.integers(0, 12), st.integers(0, 12)), max_size=40)


@given(rows=ROWS)
def test_the_counts_are_those_of_all_pairs(rows: list[tuple[str, int, int, int]]) -> None:
    """Whatever the times, equal ones among them, each group's counts are what a look at every pair gives."""
    frame = tasks(*((group, float(start), float(finish)) for group, _sent, start, finish in rows))
    frame["enqueued_at"] = pd.to_datetime([at(sent) for _group, sent, _start, _finish in rows], utc=True).astype(
        frame["enqueued_at"].dtype
    )
    expected: dict[str, tuple[set[int], int, int]] = {group: (set(), 0, 0) for group, *_ in rows}
    for i, j in itertools.permutations(range(len(rows)), 2):
        if rows[i][0] == rows[j][0] and rows[i][1] < rows[j][1]:
            late, began = rows[i][2] > rows[j][2], expected[rows[i][0]]
            finish = began[2] + (rows[i][3] > rows[j][3])
            expected[rows[i][0]] = (began[0] | ({i} if late else set()), began[1] + late, finish)
    assert counted(order.by_group(frame)) == {name: (len(n[0]), n[1], n[2]) for name, n in expected.items()}


def test_order_that_is_kept_has_no_inversion() -> None:
    """Groups that run side by side keep their own order, whatever lies between them."""
    found = order.by_group(tasks(("a", 5, 6), ("b", 1, 2), ("a", 7, 8), ("b", 3, 4), (None, 0, 0)))
    assert counted(found) == {"a": (0, 0, 0), "b": (0, 0, 0)}
    assert order.in_words(found) == "Order was kept in each of 2 message groups (4 tasks)."


def test_one_late_task_is_one_that_was_overtaken() -> None:
    """The first of five that begins last was overtaken by four: one task, four pairs; the worst group comes first."""
    found = order.by_group(tasks(("b", 1, 1), ("a", 9, 9), ("a", 1, 1), ("a", 2, 2), ("a", 3, 3), ("a", 4, 4)))
    assert found["group"].tolist() == ["a", "b"]
    assert counted(found)["a"] == (1, 4, 4)
    assert order.in_words(found) == (
        "Order was kept in 1 of 2 message groups; 1 of 6 tasks were overtaken by a later one of their group."
    )
    assert order.summary(found)["n_groups_kept"] == 1


def test_the_manifest_says_the_order_of_sending() -> None:
    """Tasks of one batch have the same time; their order is then the manifest's, whatever the frame's own."""
    frame = tasks(("a", 3, 3), ("a", 2, 2), ("a", 1, 1)).assign(enqueued_at=at(0))
    assert counted(order.by_group(frame)) == {"a": (0, 0, 0)}
    assert counted(order.by_group(frame, manifest_frame("task-0", "task-1", "task-2"))) == {"a": (2, 3, 3)}
    assert counted(order.by_group(frame, manifest_frame("task-2", "task-1", "task-0"))) == {"a": (0, 0, 0)}


def test_a_group_in_two_queues_is_two() -> None:
    """Between two queues there is no order: whatever begins first there, no task of the other was overtaken."""
    frame = tasks(("a", 5, 6), ("a", 1, 2), ("a", 7, 8), ("a", 3, 4))
    assert counted(order.by_group(frame))["a"][1] == 3
    found = order.by_group(frame, queue=pd.Series(["slow", "fast", "slow", "fast"], dtype="str"))
    assert found[["group", "queue", "n_tasks", "n_inversions"]].to_numpy().tolist() == [
        ["a", "fast", 2, 0],
        ["a", "slow", 2, 0],
    ]


def test_what_has_no_place_in_the_order_is_not_counted() -> None:
    """A task that has not begun, is open, or was redriven is no breach of order at the side that it has none on."""
    frame = tasks(("a", None, None), ("a", 1, 9), ("a", 2, 3), n_redrives=pd.array([0, 1, 0], dtype="Int32"))
    [row] = order.by_group(frame).to_dict("records")
    assert (row["n_tasks"], row["n_started"], row["n_finished"]) == (3, 2, 1)
    assert (row["n_inversions"], row["n_finish_inversions"]) == (0, 0)


def test_no_groups_give_no_rows() -> None:
    """Tasks without groups, no tasks, and frames of an earlier version give an empty frame with its columns, typed."""
    frames = [tasks((None, 1, 1)), tasks(), tasks(("a", 1, 1)).drop(columns="message_group")]
    for found in map(order.by_group, frames):
        assert found.empty
        assert [str(dtype) for dtype in found.dtypes] == ["str", "str"] + 6 * ["int64"]
        assert order.in_words(found) == "No task has a message group, so there is no order to keep."
        assert order.summary(found)["n_groups"] == 0


def test_a_missing_column_is_named() -> None:
    """A frame that lacks a time is refused by the column's name."""
    with pytest.raises(BadInput, match="no column first_started_at"):
        order.by_group(tasks(("a", 1, 1)).drop(columns="first_started_at"))


def test_many_tasks_of_one_group_take_no_longer_than_they_must() -> None:
    """Two hundred thousand tasks in reverse order are counted within seconds; pair by pair it would be an hour."""
    n = 200_000
    frame = pd.DataFrame({"task_id": pd.array([f"t{i}" for i in range(n)], dtype="str")})
    backwards = pd.to_datetime(np.arange(n)[::-1], unit="s", utc=True).as_unit("us")
    frame = frame.assign(
        message_group="a", state="completed", enqueued_at=backwards[::-1], first_started_at=backwards,
        finished_at=backwards,
    )  # fmt: skip
    begun = time.perf_counter()
    [row] = order.by_group(frame).to_dict("records")
    assert time.perf_counter() - begun < 10
    assert (row["n_overtaken"], row["n_inversions"]) == (n - 1, n * (n - 1) // 2)
