"""How each attempt of a run was claimed and how it ended: what its requests and write units are counted from."""

import numpy as np
import pandas as pd

from taskq_lib.analysis import require

#: How an attempt was claimed. A first one is an INSERT; the others find an item, so that their INSERT is refused.
FIRST, RETRY, SUSPECT, REDRIVEN = "first", "retry", "suspect", "redriven"


def classify(tasks: pd.DataFrame, attempts: pd.DataFrame) -> pd.DataFrame:
    """Return one row an attempt that has ended, in the order of its task's log, joined with its task.

    Columns: those of `attempts`; of `tasks` (missing where a task is not there) those with the ending `_task` where
    both have them; `n` (from 0: its place among its task's attempts), `claimed_as` ("first", "retry", "suspect":
    the attempt before it vanished, or "redriven"), `is_dead` (it dead-lettered its task), `is_last` (of its task),
    `batch` (what its invocation is named by: its request id; one that vanished left none, and has a name of its own).
    Raises `BadInput` for a missing column.
    """
    require(tasks, "tasks", "task_id", "state", "n_attempts", "n_duplicates", "result", "reason")
    require(attempts, "attempts", "task_id", "attempt", "received_at", "finished_at", "outcome", "request_id")
    rows = attempts[attempts["outcome"].notna()].reset_index(drop=True)
    if "redrive" not in rows.columns:
        rows["redrive"] = 0
    rows = rows.sort_values(["task_id", "redrive", "attempt"], kind="stable", ignore_index=True)
    same = rows["task_id"].eq(rows["task_id"].shift()) & rows["redrive"].eq(rows["redrive"].shift())
    after_lost = same & rows["outcome"].shift().eq("lost").to_numpy()
    rows["n"] = rows.groupby("task_id", sort=False).cumcount()
    rows["is_last"] = ~rows["task_id"].duplicated(keep="last")
    is_first = rows["attempt"].eq(1).to_numpy(dtype=bool)
    redriven = rows["redrive"].gt(0).to_numpy(dtype=bool)
    rows["claimed_as"] = np.select([is_first & ~redriven, is_first, after_lost], [FIRST, REDRIVEN, SUSPECT], RETRY)
    rows["claimed_as"] = rows["claimed_as"].astype("str")
    rows = rows.merge(tasks, on="task_id", how="left", suffixes=("", "_task"), validate="many_to_one")
    # The last attempt before a redrive is one that dead-lettered its task as well.
    ends = rows["task_id"].ne(rows["task_id"].shift(-1)) | rows["redrive"].ne(rows["redrive"].shift(-1))
    final = ~rows["is_last"] | rows["state"].eq("dead_lettered").to_numpy()
    rows["is_dead"] = (ends & final & rows["outcome"].ne("completed").to_numpy()).astype(bool)
    lost = rows["request_id"].isna()
    rows["batch"] = rows["request_id"].where(~lost, "lost-" + rows.index.astype("str"))
    return rows
