"""Everything that moves, on one axis of time: backlog, age, throughput, failures and concurrency."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from taskq_lib.analysis import require
from taskq_lib.analysis.throughput import per_interval

_ADDED = {
    "oldest_s": "float64",
    "in_flight": "int64",
    "n_ended": "int64",
    "n_failed": "int64",
    "failed_share": "float64",
    "tasks_running": "float64",
    "invocations": "float64",
}


def timeline(tasks: pd.DataFrame, attempts: pd.DataFrame, interval_s: float | None = None) -> pd.DataFrame:
    """Return what happened in each interval of time: the rows and columns of `throughput.per_interval`, and more.

    - `oldest_s`: how long the oldest task has waited that has not started, at the interval's end; 0 where none waits
      (SQS's own age of the oldest message counts retries as well, until their third receive);
    - `in_flight` (int64): attempts whose batch was received and which have not finished, at the interval's end;
    - `n_ended`, `n_failed` (int64) and `failed_share`: attempts that ended within it, of these the failed, and their
      share (NaN where none ended). A lost attempt has no known end;
    - `tasks_running` and `invocations`: how many tasks ran, and how many invocations were open, in the interval's mean.

    Raises `BadInput` as `throughput.per_interval` does.
    """
    require(attempts, "attempts", "received_at", "started_at", "outcome", "request_id")
    require(tasks, "tasks", "first_started_at")
    table = per_interval(tasks, attempts, interval_s)
    if table.empty:
        return table.assign(**{name: pd.Series(dtype=dtype) for name, dtype in _ADDED.items()})
    start = table["at"].astype("int64").to_numpy(dtype=np.float64) / 1e6
    edges = np.append(start, start[-1] + table["interval_s"].iloc[0])
    ended = attempts[attempts["finished_at"].notna()]
    counted = np.histogram(_s(ended["finished_at"]), edges)[0]
    failed = np.histogram(_s(ended.loc[(ended["outcome"] != "completed").fillna(value=False), "finished_at"]), edges)[0]
    with np.errstate(invalid="ignore"):
        share = failed / np.where(counted, counted, np.nan)
    batches = ended.groupby("request_id").agg(received_at=("received_at", "min"), finished_at=("finished_at", "max"))
    columns = {
        "oldest_s": _oldest(tasks, edges[1:]),
        "in_flight": _open_at(ended, "received_at", edges[1:]),
        "n_ended": counted,
        "n_failed": failed,
        "failed_share": share,
        "tasks_running": _mean_open(ended, "started_at", edges),
        "invocations": _mean_open(batches, "received_at", edges),
    }
    return table.assign(**columns).astype(_ADDED)


def summary(timeline: pd.DataFrame) -> dict[str, float | int | None]:
    """Give `results.json` the heights of the control room; None where nothing is known.

    `max_backlog` and `max_oldest_s` (at the ends of intervals), `max_in_flight`, `max_throughput_per_s` (attempts, mean
    of an interval), `max_invocations` and `mean_invocations`, and `interval_s`.
    """
    if timeline.empty:
        return dict.fromkeys(_SUMMED)
    found: dict[str, float | int | None] = {
        name: getattr(timeline[column], how)().item() for name, (column, how) in _SUMMED.items()
    }
    return found


_SUMMED = {
    "interval_s": ("interval_s", "max"),
    "max_backlog": ("backlog", "max"),
    "max_oldest_s": ("oldest_s", "max"),
    "max_in_flight": ("in_flight", "max"),
    "max_throughput_per_s": ("throughput", "max"),
    "max_invocations": ("invocations", "max"),
    "mean_invocations": ("invocations", "mean"),
}


def _oldest(tasks: pd.DataFrame, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Say how long, at each instant, the oldest task has waited that has not started."""
    entered = tasks["enqueued_at"].fillna(tasks["sent_at"])
    # A task that ended without a start (a malformed message, what SQS moved) waited until its end.
    left = tasks["first_started_at"].fillna(tasks["finished_at"]).fillna(tasks["updated_at"])
    known = entered.notna()
    if not known.any():
        return np.zeros(len(at))
    order = np.argsort(_s(entered[known]), kind="stable")
    since = _s(entered[known])[order]
    until = left[known].astype("datetime64[us, UTC]")
    ends = np.where(until.isna(), np.inf, until.astype("int64").to_numpy(dtype=np.float64) / 1e6)[order]
    # The first task, in the order of entering, that leaves after an instant is where the running latest end passes it.
    first = np.searchsorted(np.maximum.accumulate(ends), at, side="right")
    age = np.maximum(0.0, at - since[np.minimum(first, len(since) - 1)])
    return np.asarray(np.where(first < len(since), age, 0.0), dtype=np.float64)


def _open_at(rows: pd.DataFrame, begin: str, at: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count the rows that have begun and not finished at each instant."""
    begun, ended = _spans(rows, begin)
    before = [np.searchsorted(np.sort(times), at, side="right") for times in (begun, ended)]
    return np.asarray(before[0] - before[1], dtype=np.int64)


def _mean_open(rows: pd.DataFrame, begin: str, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean number of rows that are open, within each interval."""
    begun, ended = _spans(rows, begin)
    open_s = np.diff(_elapsed(begun, edges) - _elapsed(ended, edges))
    return np.asarray(open_s / np.diff(edges), dtype=np.float64)


def _spans(rows: pd.DataFrame, begin: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows = rows[rows[begin].notna() & rows["finished_at"].notna()]
    begun = _s(rows[begin])
    # Skewed clocks must not make a count negative.
    return begun, np.maximum(begun, _s(rows["finished_at"]))


def _elapsed(since: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over `since`, for each instant, the time that has passed since then."""
    since = np.sort(since)
    n = np.searchsorted(since, at, side="right")
    # Relative to the first instant: sums of Unix seconds would lose the microseconds.
    zero = at[0]
    elapsed = n * (at - zero) - np.append(0.0, np.cumsum(since - zero))[n]
    return np.asarray(elapsed, dtype=np.float64)


def _s(times: "pd.Series[pd.Timestamp]") -> NDArray[np.float64]:
    """Give timestamps, none of them NaT, as Unix seconds."""
    return np.asarray(times.dt.as_unit("us").astype("int64"), dtype=np.float64) / 1e6
