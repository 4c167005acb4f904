"""How each attempt of a run was claimed and how it ended: what its requests and write units are counted from."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from taskq_lib.analysis import ordered, require
from taskq_lib.errors import BadInput

#: How an attempt was claimed. A first one is an INSERT; the others find an item, so that their INSERT is refused.
FIRST, RETRY, SUSPECT, REDRIVEN = "first", "retry", "suspect", "redriven"


def classify(tasks: pd.DataFrame, attempts: pd.DataFrame) -> pd.DataFrame:
    """Return one row an attempt that has ended, in the order of its task's log, joined with its task.

    Columns: those of `attempts`; those that only `tasks` has (missing where a task is not there); `task` (int64: the
    row of `tasks`, -1 for none), `n` (from 0: its place among its task's attempts), `claimed_as` ("first", "retry",
    "suspect": the attempt before it vanished, or "redriven"; category), `is_dead` (it dead-lettered its task),
    `is_last` (of its task), `batch` (what its invocation is named by: its request id; one that vanished left none, and
    has a name of its own). Raises `BadInput` for a missing column or a task on two rows.
    """
    require(tasks, "tasks", "task_id", "state", "n_attempts", "n_duplicates", "result", "reason")
    require(attempts, "attempts", "task_id", "attempt", "received_at", "finished_at", "outcome", "request_id")
    ended = np.flatnonzero(attempts["outcome"].notna())
    redrive = _whole(attempts["redrive"])[ended] if "redrive" in attempts else np.zeros(len(ended), dtype=np.int64)
    of_tasks, of_attempts = ordered(tasks["task_id"], attempts["task_id"])
    attempt, number = _whole(attempts["attempt"])[ended], of_attempts[ended]
    in_order = np.lexsort((attempt, redrive, number))
    redrive, attempt, number = redrive[in_order], attempt[in_order], number[in_order]
    rows = attempts.iloc[ended[in_order]].reset_index(drop=True).assign(redrive=redrive)
    is_last = np.append(number[1:] != number[:-1], np.ones(min(1, len(number)), dtype=bool))
    begins = np.flatnonzero(np.roll(is_last, 1))
    rows["n"] = np.arange(len(rows)) - np.repeat(begins, np.diff(np.append(begins, len(rows))))
    rows["is_last"] = is_last
    # The last attempt before a redrive is one that dead-lettered its task as well.
    ends = is_last | (redrive != np.roll(redrive, -1))
    after_lost = ~np.roll(ends, 1) & rows["outcome"].shift().eq("lost").to_numpy()
    code = np.select([(attempt == 1) & (redrive == 0), attempt == 1, after_lost], [0, 3, 2], 1).astype(np.int8)
    rows["claimed_as"] = pd.Categorical.from_codes(code, pd.Index([FIRST, RETRY, SUSPECT, REDRIVEN]))
    rows["task"] = _row_of(of_tasks, number)
    others = tasks[[name for name in tasks if name not in rows]].reset_index(drop=True)
    rows = rows.join(others.reindex(rows["task"]).reset_index(drop=True))
    final = ~is_last | rows["state"].eq("dead_lettered").to_numpy()
    rows["is_dead"] = ends & final & rows["outcome"].ne("completed").to_numpy()
    lost = np.flatnonzero(rows["request_id"].isna())
    rows["batch"] = rows["request_id"]
    rows.loc[lost, "batch"] = [f"lost-{row}" for row in lost]
    return rows


def _row_of(of_tasks: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row of the task of each `number`, -1 where there is none."""
    row = np.full(1 + max(of_tasks.max(initial=-1), number.max(initial=-1)), -1)
    row[of_tasks] = np.arange(len(of_tasks))
    if not np.array_equal(row[of_tasks], np.arange(len(of_tasks))):
        raise BadInput("The frame `tasks` holds a task on two rows.", "Read the run again.")
    return np.asarray(row[number], dtype=np.int64)


def _whole(numbers: "pd.Series[int]") -> NDArray[np.int64]:
    return np.asarray(numbers.to_numpy(dtype="int64"), dtype=np.int64)
