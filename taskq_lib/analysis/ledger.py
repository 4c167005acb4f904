"""Whether every task is accounted for: submitted = completed + dead-lettered + open + lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from taskq_lib.analysis import NOT_STATED, OPEN_STATES, STATES, numbered, require
from taskq_lib.errors import BadInput, LedgerOpen
from taskq_worker.contract import Reason

#: The fate of a task that was submitted, left no status and is in neither queue; no status item ever holds it.
LOST = "lost"

#: Every fate, and its code.
_FATES = (*STATES, LOST)
_CODES = {fate: code for code, fate in enumerate(_FATES)}

#: What is summed up of the statuses.
_COUNTED = {"n_duplicates", "n_attempts", "n_redrives"}

#: At most so many ids of a kind are written to `results.json`; the total stands beside them.
_MAX_IDS = 100

#: At most so many are named in an error or a table.
_MAX_NAMED = 10

#: Indents a line in HTML too, where plain spaces at its beginning are lost.
_INDENT = "\u2003"


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The account of a run. Each count is taken by itself, none is the remainder of the others."""

    submitted: int  #: Distinct tasks in the manifest; without a manifest, tasks seen in the status table
    completed: int  #: Tasks that ended well
    dead_lettered: int  #: Tasks given up, by the function or by the queue's redrive policy
    open: int  #: Tasks that are pending, processing or retrying
    lost: int  #: Tasks of the manifest without a status, while both queues are without them
    duplicates: int  #: Deliveries of tasks that were already finished; they changed nothing
    attempts: int  #: Starts of the submitted tasks; of a redriven one those since its last redrive
    max_attempts: int  #: The most that any task has
    redriven: int  #: Tasks that were sent back out of the dead-letter queue at least once
    unknown: int  #: Tasks in the status table that the manifest does not name; no part of `submitted`
    from_manifest: bool  #: Whether there was a manifest; without one a lost task leaves no trace to count
    by_state: Mapping[str, int]  #: Tasks by state, and "lost"; adds up to `submitted`
    by_reason: Mapping[str, int]  #: Dead-lettered tasks by reason; adds up to `dead_lettered`
    open_ids: tuple[str, ...]  #: Ids of the open tasks
    lost_ids: tuple[str, ...]  #: Ids of the lost tasks

    @property
    def mean_attempts(self) -> float:
        """Attempts per submitted task; 0 without tasks."""
        return self.attempts / max(1, self.submitted)

    @property
    def balanced(self) -> bool:
        """Every submitted task is on exactly one side of the account."""
        return self.submitted == self.completed + self.dead_lettered + self.open + self.lost

    @property
    def closed(self) -> bool:
        """The account balances, and every task is final: nothing is open, nothing is lost."""
        return self.balanced and self.open == 0 and self.lost == 0


def close(
    manifest: pd.DataFrame | None,
    tasks: pd.DataFrame,
    dead: pd.DataFrame,
    *,
    queue_is_empty: bool,
    dead_is_whole: bool = True,
) -> Ledger:
    """Account for every task of a run, or of a time window when `manifest` is None.

    Parameters: `manifest` (`task_id`; a repeated id is one task), `tasks` (`task_id`, `state`, `reason`, `n_attempts`,
    `n_duplicates`, and `n_redrives`, 0 where the column is missing), `dead` (`task_id`, `reason`), `queue_is_empty`:
    True only if no message is visible, in flight or delayed, and `dead_is_whole`: False if the dead-letter queue may
    hold a message that `dead` does not list.

    A task without a status is *pending*, hence open, while the queue may still hold it. If its message is in `dead`,
    the queue gave it up before it left a status: dead-lettered, for the reason written there or else "receive_limit".
    If it is in neither queue, it is lost, and open where that is not known for sure. A status that is there is
    believed: what is processing or retrying is open, unless the queue is empty and its message is in `dead`: then SQS
    moved it, and no attempt can follow.

    Raises `BadInput` for a missing column, a task on two rows, or a state that is not in `STATES`.
    """
    _check(manifest, tasks, dead)
    ids = (tasks if manifest is None else manifest)["task_id"]
    letters = dead[["task_id", "reason"]].dropna(subset=["task_id"])
    # Of a million tasks the ids are most of the work: they are numbered once, and the rest goes by the numbers.
    of_tasks, number, of_letters = numbered(tasks["task_id"], ids, letters["task_id"])
    _refuse_repeats(of_tasks)
    is_first = ~pd.Series(number).duplicated().to_numpy()
    ids, number = ids[is_first], number[is_first]
    place = np.where(number < len(tasks), number, -1)
    fate, given_up = _settle(
        tasks["state"], place, np.isin(number, of_letters), queue_is_empty=queue_is_empty, dead_is_whole=dead_is_whole
    )
    is_dead = fate == _CODES["dead_lettered"]
    # Of several messages of one task, the first that gives a reason speaks for it.
    written = letters["reason"].groupby(of_letters).first().reindex(number[is_dead])
    reason = pd.Series(tasks["reason"].array.take(place[is_dead], allow_fill=True)).fillna(pd.Series(written.array))
    reason = reason.mask(given_up[is_dead] & reason.isna(), str(Reason.RECEIVE_LIMIT)).fillna(NOT_STATED)
    kept = tasks if manifest is None else tasks[list(_COUNTED & set(tasks.columns))].iloc[place[place >= 0]]
    return _counted(kept, ids, fate, reason, n_tasks=len(tasks), from_manifest=manifest is not None)


def to_frame(ledger: Ledger) -> pd.DataFrame:
    """Lay the account out for a report: `entry` (str), `n` (int64) and `ids` (str), one row a line of the account.

    `ids` names the first ten tasks that are open or lost, separated by commas, and is "" elsewhere.
    """
    since = " since the last redrive" if ledger.redriven else ""
    lines = [
        ("submitted", ledger.submitted, ""),
        ("completed", ledger.completed, ""),
        ("dead-lettered", ledger.dead_lettered, ""),
        *((f"{_INDENT}dead-lettered: {reason}", n, "") for reason, n in ledger.by_reason.items()),
        ("still open", ledger.open, _named(ledger.open_ids)),
        (
            "lost" if ledger.from_manifest else "lost (cannot be seen without a manifest)",
            ledger.lost,
            _named(ledger.lost_ids),
        ),
        ("duplicate deliveries (no effect)", ledger.duplicates, ""),
        (f"attempts{since} ({ledger.mean_attempts:.2f} a task, at most {ledger.max_attempts})", ledger.attempts, ""),
        ("redriven tasks", ledger.redriven, ""),
        ("in the status table, not in the manifest", ledger.unknown, ""),
    ]
    return pd.DataFrame(lines, columns=["entry", "n", "ids"]).astype({"entry": "str", "n": "int64", "ids": "str"})


def to_dict(ledger: Ledger) -> dict[str, object]:
    """Give the account as JSON can hold it; of `open_ids` and `lost_ids` the first 100, with their `total`."""
    return {
        **{name: getattr(ledger, name) for name in ("submitted", "completed", "dead_lettered", "open", "lost")},
        **{name: getattr(ledger, name) for name in ("duplicates", "redriven", "unknown", "from_manifest")},
        **{name: getattr(ledger, name) for name in ("balanced", "closed")},
        "attempts": {"total": ledger.attempts, "mean": ledger.mean_attempts, "max": ledger.max_attempts},
        "by_state": dict(ledger.by_state),
        "by_reason": dict(ledger.by_reason),
        "open_ids": {"total": len(ledger.open_ids), "ids": list(ledger.open_ids[:_MAX_IDS])},
        "lost_ids": {"total": len(ledger.lost_ids), "ids": list(ledger.lost_ids[:_MAX_IDS])},
    }


def verify(ledger: Ledger) -> None:
    """Raise `LedgerOpen`, naming ids, unless every submitted task is final and accounted for."""
    if ledger.closed:
        return
    named = _named((*ledger.lost_ids, *ledger.open_ids))
    raise LedgerOpen(
        f"The ledger is open: of {ledger.submitted:,} tasks {ledger.open:,} are still open and {ledger.lost:,} lost; "
        f"the first are {named}.",
        "50_failures says what is known of each; 30_status, run again, reads them afresh.",
    )


def _named(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_MAX_NAMED])


def _check(manifest: pd.DataFrame | None, tasks: pd.DataFrame, dead: pd.DataFrame) -> None:
    """Refuse frames that would make a count wrong."""
    if manifest is not None:
        require(manifest, "manifest", "task_id")
    require(tasks, "tasks", "task_id", "state", "reason", "n_attempts", "n_duplicates")
    require(dead, "dead", "task_id", "reason")
    if not tasks["state"].isin(STATES).all():
        raise BadInput(f"The frame `tasks` holds a state that is none of {', '.join(STATES)}.", "Read the run again.")


def _refuse_repeats(of_tasks: NDArray[np.int64]) -> None:
    """Refuse tasks of which one is on two rows: their numbers, given as they appear, are then not 0, 1, 2, ..."""
    if not np.array_equal(of_tasks, np.arange(len(of_tasks))):
        raise BadInput(
            "The frame `tasks` holds a task on two rows; it must hold one row a task.", "Read the run again."
        )


def _settle(
    state: "pd.Series[str]",
    place: NDArray[np.int64],
    in_dead: NDArray[np.bool_],
    *,
    queue_is_empty: bool,
    dead_is_whole: bool,
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Decide the fate of each task, a code of `_FATES`, and say which of them its dead letter decides.

    `place` is the row of `state` that holds the task's status, -1 where there is none: then it is pending.
    """
    status = pd.Categorical(state, categories=_FATES).codes
    fate = np.append(status, status.dtype.type(_CODES["pending"]))[place]
    without_status = fate == _CODES["pending"]
    is_open = np.isin(fate, [_CODES[name] for name in OPEN_STATES])
    # With an empty queue nothing can bring an open task back; its dead letter is where it ended, whatever its status.
    given_up = in_dead & (is_open if queue_is_empty else without_status)
    fate[given_up] = _CODES["dead_lettered"]
    if queue_is_empty and dead_is_whole:
        fate[without_status & ~in_dead] = _CODES[LOST]
    return fate, given_up


def _counted(
    kept: pd.DataFrame,
    ids: "pd.Series[str]",
    fate: NDArray[np.int8],
    reason: "pd.Series[str]",
    *,
    n_tasks: int,
    from_manifest: bool,
) -> Ledger:
    """Count the tasks `ids` by their fates; `kept` are the statuses of those that have one, `reason` is of the dead."""
    by_state = dict(zip(_FATES, np.bincount(fate, minlength=len(_FATES)).tolist(), strict=True))
    is_open = np.isin(fate, [_CODES[name] for name in OPEN_STATES])
    return Ledger(
        submitted=len(fate),
        completed=by_state["completed"],
        dead_lettered=by_state["dead_lettered"],
        open=sum(by_state[state] for state in OPEN_STATES),
        lost=by_state[LOST],
        duplicates=int(kept["n_duplicates"].sum()),
        attempts=int(kept["n_attempts"].sum()),
        max_attempts=int(kept["n_attempts"].fillna(0).max()) if len(kept) else 0,
        redriven=int((kept["n_redrives"] > 0).sum()) if "n_redrives" in kept else 0,
        unknown=n_tasks - len(kept),
        from_manifest=from_manifest,
        by_state=by_state,
        by_reason={str(name): int(n) for name, n in reason.value_counts().items()},
        open_ids=tuple(ids[is_open]),
        lost_ids=tuple(ids[fate == _CODES[LOST]]),
    )
