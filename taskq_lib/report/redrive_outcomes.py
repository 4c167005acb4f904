"""What became of the tasks that a redrive sent: awaited, counted by what had failed, and verified."""

from __future__ import annotations

import time

import pandas as pd

from taskq_lib.aws import queues, status
from taskq_lib.aws.stack import Stack
from taskq_lib.errors import NotDone
from taskq_worker.contract import State

OUTCOMES = ("completed", "dead-lettered again", "still open")


def now(live: Stack, rows: pd.DataFrame) -> pd.DataFrame:
    """Read the tasks of a plan's rows again: state (str), and whether it has changed since the plan (bool)."""
    tasks = status.get(live, rows["task_id"].tolist()).tasks[["task_id", "state", "updated_at"]]
    found = rows[["task_id", "updated_at"]].merge(tasks, on="task_id", how="left", suffixes=("_then", ""))
    changed = found["updated_at"].notna() & ~(found["updated_at"] == found["updated_at_then"])
    return pd.DataFrame({"state": found["state"].astype("str"), "changed": changed}).set_index(rows.index)


def awaited(live: Stack, rows: pd.DataFrame, timeout_s: float) -> pd.DataFrame:
    """Ask for the tasks of a plan's rows until all are final, the time is up, or nothing is left that could run.

    Returns task_id, signature_id, signature, outcome (str, one of `OUTCOMES`), one row each.
    """
    outcome = pd.Series("still open", index=rows.index, dtype="str")
    start = busy_at = time.monotonic()
    while (open_ := rows[outcome == "still open"]).size:
        asked_at = time.monotonic()
        found = now(live, open_)
        outcome[found.index[found["state"] == State.COMPLETED]] = "completed"
        outcome[found.index[(found["state"] == State.DEAD_LETTERED) & found["changed"]]] = "dead-lettered again"
        if queues.counts(live).n_unsettled:
            busy_at = time.monotonic()
        left_s = timeout_s - (time.monotonic() - start)
        if left_s <= 0 or time.monotonic() - busy_at > status.IDLE_S:
            break
        # At most a quarter of the time is spent asking; the table has work to do.
        time.sleep(min(max(0.5, 3 * (time.monotonic() - asked_at)), 10.0, left_s))
    return rows[["task_id", "signature_id", "signature"]].assign(outcome=outcome).reset_index(drop=True)


def counted(found: pd.DataFrame) -> dict[str, int]:
    """Count outcomes, each of `OUTCOMES`."""
    return {outcome: int((found["outcome"] == outcome).sum()) for outcome in OUTCOMES}


def by_signature(found: pd.DataFrame) -> pd.DataFrame:
    """Count outcomes: one row a signature (signature_id, signature), one column each of `OUTCOMES` (int)."""
    counts = found.groupby(["signature_id", "signature", "outcome"]).size().unstack(fill_value=0)
    return counts.reindex(columns=list(OUTCOMES), fill_value=0).rename_axis(columns=None).reset_index()


def verify(found: pd.DataFrame) -> None:
    """Raise `NotDone` where tasks are still open; one that was dead-lettered again is an answer, not an error."""
    open_ = found.loc[found["outcome"] == "still open", "task_id"]
    if len(open_):
        raise NotDone(
            f"{len(open_):,} redriven tasks are still open, the first is {open_.iloc[0]}.",
            "`taskq status ID` shows one; a paused mapping (52_pause_resume) leaves them in the queue.",
        )
