"""How much is sent, done and waiting, over time."""

import math
from bisect import bisect_left

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from taskq_lib.analysis import is_final, require
from taskq_lib.errors import BadInput

#: Interval lengths to choose from, in microseconds: 1-2-5 steps from a millisecond upwards.
_LADDER_US: list[int] = [step * 10**power for power in range(3, 18) for step in (1, 2, 5)]

#: Finer or coarser says nothing about a queue; a day is also the coarsest step of AWS's own metrics.
_MIN_INTERVAL_S, _MAX_INTERVAL_S = 0.001, 86_400

#: More rows than any figure or table can show; a wrong clock could otherwise ask for millions.
_MAX_INTERVALS = 100_000

_COLUMNS = {
    "at": "datetime64[us, UTC]",
    "interval_s": "float64",
    "offered": "float64",
    "throughput": "float64",
    "goodput": "float64",
    "backlog": "int64",
}


def per_interval(tasks: pd.DataFrame, attempts: pd.DataFrame, interval_s: float | None = None) -> pd.DataFrame:
    """Count what happened in each interval of time, from the first event to the last; empty frames give no rows.

    Columns: `at` (start of the interval, a multiple of its length), `interval_s` (its length, the same on every row),
    `offered` (tasks sent/s), `throughput` (attempts finished/s), `goodput` (distinct tasks completed/s; float64) and
    `backlog` (int64: tasks enqueued and not yet final at the interval's end). A rate times `interval_s` is a whole
    count, and these add up to all the events with a known time. `_events` says which times are taken.

    `interval_s` must be 0.001 to 86,400 s. Without it, the shortest length of the ladder 1, 2, 5, 10, ... is taken
    that gives about 100 intervals at most: 40 to 102 of them, fewer only if all happened within 40 ms.

    Raises `BadInput` for a missing column, an interval that is not allowed, or more than 100,000 intervals.
    """
    events = _events(tasks, attempts)
    known = [at for at in events.values() if at.size]
    if not known:
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in _COLUMNS.items()})
    first, last = int(min(at.min() for at in known)), int(max(at.max() for at in known))
    width = _width_us(last - first, interval_s)
    start = first // width * width
    n = (last - start) // width + 1
    if n > _MAX_INTERVALS:
        raise BadInput(
            f"Intervals of {interval_s} s would be {n:,} rows; allowed are {_MAX_INTERVALS:,}.", "Choose longer ones."
        )
    count = {name: np.bincount((at - start) // width, minlength=n) for name, at in events.items()}
    rate = 1e6 / width
    columns = {
        "at": pd.to_datetime(start + width * np.arange(n), unit="us", utc=True),
        "interval_s": width / 1e6,
        "offered": count["sent"] * rate,
        "throughput": count["finished"] * rate,
        "goodput": count["completed"] * rate,
        "backlog": np.cumsum(count["entered"] - count["left"]),
    }
    return pd.DataFrame(columns).astype(_COLUMNS)


def cumulative(tasks: pd.DataFrame) -> pd.DataFrame:
    """Count what has come, begun and ended by the end of each interval of time: the cumulative flow of tasks.

    Columns: `at` (an instant; the first row is the first interval's start), `enqueued`, `started`, `final`, `completed`
    (int64: tasks for which this has happened by then). What is between `enqueued` and `started` waits, what is between
    `started` and `final` is processed or waits for its retry. A final task that was never started counts as started
    when it ended. Times that are not known are not counted; without any there is no row. The interval is chosen as in
    `per_interval`. Raises `BadInput` for a missing column.
    """
    require(tasks, "tasks", "state", "enqueued_at", "sent_at", "first_started_at", "finished_at", "updated_at")
    final = is_final(tasks)
    ended = tasks["finished_at"].fillna(tasks["updated_at"]).where(final)
    events = {
        "enqueued": tasks["enqueued_at"].fillna(tasks["sent_at"]),
        "started": tasks["first_started_at"].fillna(ended),
        "final": ended,
        "completed": ended.where(tasks["state"] == "completed"),
    }
    known = {name: _us(times.dropna()) for name, times in events.items()}
    there = [times for times in known.values() if times.size]
    if not there:
        return pd.DataFrame({"at": pd.Series(dtype=_COLUMNS["at"]), **dict.fromkeys(events, pd.Series(dtype="int64"))})
    first, last = int(min(times.min() for times in there)), int(max(times.max() for times in there))
    width = _width_us(last - first, None)
    start = first // width * width
    n = (last - start) // width + 1
    counts = {name: np.bincount((times - start) // width, minlength=n) for name, times in known.items()}
    at = pd.to_datetime(start + width * np.arange(n + 1), unit="us", utc=True)
    columns = {name: np.append(0, np.cumsum(count)) for name, count in counts.items()}
    return pd.DataFrame({"at": at, **columns}).astype({"at": _COLUMNS["at"]} | dict.fromkeys(columns, "int64"))


def summary(tasks: pd.DataFrame, attempts: pd.DataFrame) -> dict[str, float | int | None]:
    """Give `results.json` its throughput.

    `window_s` (first event to last; None if there is none), `offered_per_s`, `attempts_per_s`, `completed_per_s` (means
    over that window, None if it has no length; `per_interval` shows the course) and `max_backlog` (at any instant).
    """
    events = _events(tasks, attempts)
    known = [at for at in events.values() if at.size]
    window_s = float(max(at.max() for at in known) - min(at.min() for at in known)) / 1e6 if known else None
    names = {"offered_per_s": "sent", "attempts_per_s": "finished", "completed_per_s": "completed"}
    means = {name: len(events[event]) / window_s if window_s else None for name, event in names.items()}
    return {"window_s": window_s, **means, "max_backlog": _max_backlog(events["entered"], events["left"])}


def interval_s_for(span_s: float) -> float:
    """Choose a length for intervals over `span_s` seconds, as `per_interval` does."""
    return _width_us(round(span_s * 1e6), None) / 1e6


def _events(tasks: pd.DataFrame, attempts: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
    """Collect the known times of each kind of event, in microseconds since 1970.

    A task enters the backlog when it is enqueued (or else sent) and leaves it when its last attempt finishes or, if it
    was given up without one, when its status was last written. A final task that lacks one of the two is kept out of
    the backlog, so that what remains at the end is what is open.
    """
    require(tasks, "tasks", "state", "enqueued_at", "sent_at", "finished_at", "updated_at")
    require(attempts, "attempts", "finished_at")
    final = is_final(tasks)
    entered = tasks["enqueued_at"].fillna(tasks["sent_at"])
    left = tasks["finished_at"].fillna(tasks["updated_at"]).where(final)
    placed = entered.notna() & (left.notna() | ~final)
    arrivals, departures = _us(entered[placed & final]), _us(left[placed & final])
    return {
        "sent": _us(tasks["sent_at"].dropna()),
        "finished": _us(attempts["finished_at"].dropna()),
        "completed": _us(left[tasks["state"] == "completed"].dropna()),
        "entered": _us(entered[placed]),
        # Skewed clocks must not make a backlog negative; `latency.percentiles` counts them.
        "left": np.maximum(arrivals, departures),
    }


def _us(times: "pd.Series[pd.Timestamp]") -> NDArray[np.int64]:
    """Give timestamps, none of them NaT, as whole microseconds since 1970."""
    return np.asarray(times.dt.as_unit("us").astype("int64"), dtype=np.int64)


def _width_us(span_us: int, interval_s: float | None) -> int:
    """Give the length of an interval in microseconds: the one asked for, or one that suits a span."""
    if interval_s is None:
        return _LADDER_US[min(bisect_left(_LADDER_US, span_us / 100), len(_LADDER_US) - 1)]
    if not (math.isfinite(interval_s) and _MIN_INTERVAL_S <= interval_s <= _MAX_INTERVAL_S):
        raise BadInput(
            f"An interval of {interval_s} s is not allowed; give {_MIN_INTERVAL_S} to {_MAX_INTERVAL_S:,} s."
        )
    return round(interval_s * 1e6)


def _max_backlog(entered: NDArray[np.int64], left: NDArray[np.int64]) -> int:
    """Find the most tasks that were in the backlog at one instant; a task counts at both its ends."""
    entered = np.sort(entered)
    # The backlog only grows at an arrival, so the peak is at one of them; of equal arrivals the last counts all.
    waiting = np.arange(1, len(entered) + 1) - np.searchsorted(np.sort(left), entered, side="left")
    return int(np.max(waiting, initial=0))
