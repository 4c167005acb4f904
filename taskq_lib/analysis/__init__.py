"""What the frames of a run say: pure pandas, vectorised, no call to AWS.

Four frames come in, typed (no column of dtype object); every timestamp is `datetime64[us, UTC]`, NaT where not known:

- `manifest`, one row a submitted task, in the order of sending: `task_id`, `task_type`, `priority`.
- `tasks`, one row a task: the same, and `state` (one of `STATES`), `n_attempts`, `n_duplicates`, `reason`,
  `error_type`, `error`, `result`, `enqueued_at`, `sent_at`, `first_started_at`, `last_started_at`, `finished_at`,
  `updated_at`, `lease_until`, and `n_redrives` and `message_group`, which frames of an earlier version lack.
- `attempts`, one row an attempt: `task_id`, `attempt` (from 1), `received_at`, `started_at`, `finished_at`, `outcome`
  ("completed", "failed" or "lost"; missing while it runs), `error_type`, `error`.
- `dead`, one row a message in the dead-letter queue: `message_id`, `task_id`, `task_type`, `reason`, `error_type`,
  `error`, `first_at`, `last_at`, `sent_at`, `n_receives`.

The modules are `ledger` (is every task accounted for?), `latency`, `intervals` (how sure is a figure?), `censored`
(what do open tasks change?), `decomposition` (where does the time go?), `clocks` (what can times be trusted for?),
`service_levels` (are the objectives met?), `failures`, `signatures` (which errors are the same bug?), `order` (is it
kept within each message group?) and `throughput`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from taskq_lib.analysis.serials import serials_of
from taskq_lib.errors import BadInput
from taskq_worker.contract import State

#: Every state of a task, in the order of its life; the last two are final.
STATES = tuple(str(state) for state in State)
OPEN_STATES, FINAL_STATES = STATES[:-2], STATES[-2:]

#: What the tasks can be grouped by.
GROUPS = ("task_type", "priority", "message_group")

#: The label of what a frame leaves empty, so that no row drops out of a count.
NOT_STATED = "not stated"


def require(frame: pd.DataFrame, name: str, *columns: str) -> None:
    """Raise `BadInput` if `frame`, called `name` in the message, lacks one of `columns`."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise BadInput(
            f"The frame `{name}` has no column {', '.join(missing)}; it needs {', '.join(columns)}.",
            "Read the run again; the docstring of `taskq_lib.analysis` lists the columns of each frame.",
        )


def numbered(*texts: "pd.Series[str]") -> list[NDArray[np.int64]]:
    """Number the texts of several columns by one count: equal texts get the same number, of whichever column.

    Numbers are given from 0 on in the order of appearance, so those of a column without repeats that comes first are
    its rows' places. Joins go by these: an index of texts takes three times as long, and a Python string for each.
    """
    serials = serials_of([column.array for column in texts])
    if serials is None:
        codes = pd.factorize(pd.concat(texts, ignore_index=True), use_na_sentinel=False)[0].astype(np.int64, copy=False)
    else:
        first = np.empty(int(serials.max()) + 1, dtype=np.int64)
        first[serials[::-1]] = np.arange(len(serials))[::-1]  # of equal ones the first is written last, and stays
        codes = first[serials]
        del first, serials
        rank = np.cumsum(codes == np.arange(len(codes)))
        rank -= 1
        codes = rank[codes]
    return np.split(codes, np.cumsum([len(column) for column in texts])[:-1])


def ordered(*texts: "pd.Series[str]") -> list[NDArray[np.int64]]:
    """Number the texts of several columns by one count as `numbered` does, but in the order of the texts."""
    codes = serials_of([column.array for column in texts])
    if codes is None:
        codes = pd.factorize(pd.concat(texts, ignore_index=True), sort=True, use_na_sentinel=False)[0].astype(np.int64)
    return np.split(codes, np.cumsum([len(column) for column in texts])[:-1])


def places(ids: "pd.Series[str]", among: "pd.Series[str]") -> NDArray[np.int64]:
    """Say where each of `ids` first stands in `among`: the number of the row, -1 where it does not."""
    theirs, own = numbered(among, ids)
    first = np.full(max(theirs.max(initial=-1), own.max(initial=-1)) + 1, -1)
    first[theirs[::-1]] = np.arange(len(theirs))[::-1]
    return first[own]


def require_group(by: str | None) -> None:
    """Raise `BadInput` unless tasks can be grouped by this: one of `GROUPS`, or None for no groups."""
    if by is not None and by not in GROUPS:
        raise BadInput(f"Tasks cannot be grouped by {by!r}; allowed are {', '.join(GROUPS)} and None.")


def require_shares(q: Sequence[float]) -> None:
    """Raise `BadInput` unless these are percentiles: at least one number from 0 to 1."""
    if not q or not all(0 <= share <= 1 for share in q):
        raise BadInput(f"The percentiles q={q} are not allowed; give at least one number from 0 to 1, such as 0.99.")


def is_final(tasks: pd.DataFrame) -> "pd.Series[bool]":
    """Say for each row of `tasks` whether its state can no longer change."""
    return tasks["state"].isin(FINAL_STATES)


def group_key(frame: pd.DataFrame, by: str | None) -> pd.Series:
    """Name the group of each row: its `by` column as text, or one group "all" when `by` is None.

    Returns a category of strings in the order of the values. A missing value is the group "not stated", so that no
    task drops out of a count. Raises `BadInput` for a `by` that is not in `GROUPS` or no column of `frame`.
    """
    if by is None:
        codes = np.zeros(len(frame), dtype=np.int8)
        return pd.Series(pd.Categorical.from_codes(codes, pd.Index(["all"])), index=frame.index)
    require_group(by)
    require(frame, "tasks", by)
    key = frame[by].astype("category")
    # Not asked without need: it sorts all rows.
    if not np.bincount(key.cat.codes.to_numpy() + 1, minlength=len(key.cat.categories) + 1)[1:].all():
        key = key.cat.remove_unused_categories()
    key = key.cat.rename_categories(str)
    if key.isna().any() and NOT_STATED not in key.cat.categories:
        key = key.cat.add_categories([NOT_STATED])
    return key.fillna(NOT_STATED) if key.isna().any() else key


def in_seconds(took: "pd.Series[pd.Timedelta]") -> "pd.Series[float]":
    """Give time spans in seconds, rounded once: `dt.total_seconds` makes -2 microseconds -1.99999999995."""
    return took / pd.Timedelta(seconds=1)


def seconds(value: float) -> str:
    """Write a duration with three digits and its unit."""
    return f"{value:,.0f} s" if abs(value) >= 100 else f"{value:.3g} s"


def number(value: float) -> float | None:
    """Turn a statistic into what JSON can hold: a float, or None where there is none (NaN)."""
    return None if pd.isna(value) else float(value)
