"""Whether the tasks of a message group were done in the order in which they were sent."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from taskq_lib.analysis import is_final, places, require
from taskq_lib.analysis.inversions import inversions

_LOOKED_AT = (
    "task_id",
    "state",
    "message_group",
    "n_redrives",
    "enqueued_at",
    "first_started_at",
    "finished_at",
)
_COUNTS = ("n_tasks", "n_started", "n_overtaken", "n_inversions", "n_finished", "n_finish_inversions")


def by_group(
    tasks: pd.DataFrame, manifest: pd.DataFrame | None = None, queue: "pd.Series[str] | None" = None
) -> pd.DataFrame:
    """Hold the order of sending against that of starts and finishes: one row a message group, the worst first.

    `queue` names the queue of each task, on the index of `tasks`: SQS keeps order within one queue alone, so a group
    that has tasks in two is two groups here. Columns: `group`, `queue` (str, empty where none is named), and as int64

    - `n_tasks`: tasks of the group, and `n_started`: of these, with a known first start.
    - `n_overtaken`: started tasks that some task sent later began before: those i with min(b_j : s_j > s_i) < b_i,
      where s is the place in the order of sending and b the first start.
    - `n_inversions`: pairs that began in the other order, |{(i, j) : s_i < s_j and b_i > b_j}|; none of m (m - 1) / 2
      pairs where order is kept, about half of them where it is left to chance.
    - `n_finished`: tasks that are final and were never redriven, and `n_finish_inversions`: the same count of pairs
      with their last finish for b. A redrive comes behind its group by its nature, so it is no breach of order.

    The order of sending is that of `manifest`; without one that of `enqueued_at`, where equal times are in no order.
    Equal starts or finishes are in no order either. Tasks without a message group have no row, and a frame without
    that column gives none. It takes n log n steps. Raises `BadInput` for a missing column.
    """
    require(tasks, "tasks", "task_id", "state", "enqueued_at", "first_started_at", "finished_at")
    # Of the columns that are looked at: the texts of the others are most of a frame.
    looked_at = tasks[[name for name in _LOOKED_AT if name in tasks]]
    has_group = tasks["message_group"].notna() if "message_group" in tasks else np.zeros(len(tasks), dtype=bool)
    rows = looked_at if has_group.all() else looked_at[has_group]
    groups = rows["message_group"] if "message_group" in rows else pd.Series(dtype="str")
    codes, names = _groups_and_queues(groups, None if queue is None else queue[rows.index])
    sent = _us(rows["enqueued_at"]) if manifest is None else places(rows["task_id"], manifest["task_id"])
    known = rows["enqueued_at"].notna() if manifest is None else pd.Series(sent >= 0, index=rows.index)
    started = (known & rows["first_started_at"].notna()).to_numpy()
    never_redriven = rows["n_redrives"] == 0 if "n_redrives" in rows else True
    finished = (known & is_final(rows) & rows["finished_at"].notna() & never_redriven).to_numpy(dtype=bool)

    def count(which: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(codes[which], minlength=len(names)).astype("int64")

    of_starts = _inversions(codes, len(names), sent, _us(rows["first_started_at"]), started)
    of_ends = _inversions(codes, len(names), sent, _us(rows["finished_at"]), finished)
    columns = {
        "n_tasks": count(np.ones(len(rows), dtype=bool)),
        "n_started": count(started),
        "n_overtaken": of_starts[1],
        "n_inversions": of_starts[0],
        "n_finished": count(finished),
        "n_finish_inversions": of_ends[0],
    }
    found = names.assign(**columns)
    return found.sort_values(["n_overtaken", "n_tasks"], ascending=False, kind="stable", ignore_index=True)


def summary(groups: pd.DataFrame) -> dict[str, int]:
    """Give `results.json` its counts over all groups: those of `by_group`, `n_groups` and `n_groups_kept`."""
    kept = (groups["n_inversions"] == 0) & (groups["n_finish_inversions"] == 0)
    return {
        "n_groups": len(groups),
        "n_groups_kept": int(kept.sum()),
        **{name: int(groups[name].sum()) for name in _COUNTS},
    }


def in_words(groups: pd.DataFrame) -> str:
    """Say in one sentence whether order was kept, from `by_group`."""
    n = summary(groups)
    if not n["n_groups"]:
        return "No task has a message group, so there is no order to keep."
    if n["n_groups_kept"] == n["n_groups"]:
        return f"Order was kept in each of {n['n_groups']:,} message groups ({n['n_started']:,} tasks)."
    return (
        f"Order was kept in {n['n_groups_kept']:,} of {n['n_groups']:,} message groups; {n['n_overtaken']:,} of "
        f"{n['n_started']:,} tasks were overtaken by a later one of their group."
    )


def _groups_and_queues(
    groups: "pd.Series[str]", queue: "pd.Series[str] | None"
) -> tuple[NDArray[np.int16 | np.int64], pd.DataFrame]:
    """Number each pair of a group and a queue, in their order; returns the number of each row, and the pairs."""
    of_group, names = pd.factorize(groups.astype("str"), sort=True)
    in_queue = pd.Series("", index=groups.index, dtype="str") if queue is None else queue.astype("str")
    of_queue, queues = pd.factorize(in_queue, sort=True)
    pair = of_group * len(queues) + of_queue
    is_there = np.bincount(pair) > 0
    there = np.flatnonzero(is_there)
    found = pd.DataFrame({"group": names[there // max(1, len(queues))], "queue": queues[there % max(1, len(queues))]})
    # Numbers of two bytes are sorted by their digits, which takes a twentieth of the time.
    number = (np.cumsum(is_there) - 1).astype(np.int16 if len(there) < 2**15 else np.int64)
    return number[pair], found.astype("str")


def _inversions(
    group: NDArray[np.int16 | np.int64],
    n_groups: int,
    sent: NDArray[np.int64],
    done: NDArray[np.int64],
    which: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return of each group its inversions, and how many of its rows a later one overtook, among those in `which`."""
    in_order = np.flatnonzero(which)
    in_order = in_order[np.argsort(sent[in_order], kind="stable")]
    in_turn = sent[in_order]
    if (in_turn[1:] == in_turn[:-1]).any():  # what was sent at one time is in no order: as it was done
        in_order = in_order[np.lexsort((done[in_order], in_turn))]
    del in_turn
    in_order = in_order[np.argsort(group[in_order], kind="stable")]
    group, done = group[in_order], done[in_order]
    del in_order
    # The rank of `done` within the group, one group behind the other: so no pair of two groups is an inversion.
    by_done = np.argsort(done, kind="stable")
    by_done = by_done[np.argsort(group[by_done], kind="stable")]
    rank = np.empty(len(by_done), dtype=np.int32)
    rank[by_done] = np.arange(len(rank), dtype=np.int32)
    del by_done, done
    lowest_after = np.minimum.accumulate(rank[::-1])[::-1]
    n_overtaken = np.bincount(group[:-1][lowest_after[1:] < rank[:-1]], minlength=n_groups)
    return np.bincount(group, inversions(rank), minlength=n_groups).astype(np.int64), n_overtaken


def _us(times: "pd.Series[pd.Timestamp]") -> NDArray[np.int64]:
    """Give timestamps as whole microseconds since 1970; what NaT becomes is never looked at."""
    return np.asarray(times.dt.as_unit("us").astype("int64"), dtype=np.int64)
