"""How long tasks wait, run and take in all: from raw timestamps, with the number of tasks behind every figure."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from taskq_lib.analysis import group_key, is_final, number, require, require_shares

#: The durations of a task, in seconds; their meaning is in `durations`.
DURATIONS = ("queue_wait_s", "processing_s", "retry_delay_s", "end_to_end_s")

_TIMES = ("enqueued_at", "first_started_at", "last_started_at", "finished_at")


def durations(tasks: pd.DataFrame) -> pd.DataFrame:
    """Measure each task: one row a task, on the index of `tasks`.

    Columns: `task_id`, `task_type`, `priority`, `message_group` where `tasks` has it, `is_final` (bool), and in seconds
    (float64, NaN where not known):

    - `queue_wait_s`: enqueued -> first start.
    - `processing_s`: start -> finish of the last attempt; not known while an attempt runs.
    - `end_to_end_s`: enqueued -> last finish; final tasks only.
    - `retry_delay_s`: what remains of end to end; 0 for a task of one attempt.

    The arithmetic is done on whole microseconds, so the parts add up and no rounding noise needs cleaning. A negative
    duration is therefore real: the clocks of producer and function disagree. It is kept, and `percentiles` counts it.
    Raises `BadInput` for a missing column.
    """
    require(tasks, "tasks", "task_id", "task_type", "priority", "state", *_TIMES)
    final = is_final(tasks)
    queue_wait = tasks["first_started_at"] - tasks["enqueued_at"]
    # While an attempt runs, `finished_at` still belongs to the one before it.
    processing = (tasks["finished_at"] - tasks["last_started_at"]).where(tasks["state"] != "processing")
    end_to_end = (tasks["finished_at"] - tasks["enqueued_at"]).where(final)
    return pd.DataFrame(
        {
            "task_id": tasks["task_id"],
            "task_type": tasks["task_type"],
            "priority": tasks["priority"],
            **{name: tasks[name] for name in ("message_group",) if name in tasks},
            "is_final": final,
            "queue_wait_s": _seconds(queue_wait),
            "processing_s": _seconds(processing),
            "retry_delay_s": _seconds(end_to_end - queue_wait - processing),
            "end_to_end_s": _seconds(end_to_end),
        },
        copy=False,
    )


def percentiles(durations: pd.DataFrame, by: str | None = None, q: Sequence[float] = (0.5, 0.9, 0.99)) -> pd.DataFrame:
    """Give the percentiles of the *finished* tasks: one row for each group and duration.

    Columns: `group` (str; "all" when `by` is None), `duration` (str, one of `DURATIONS`), `n` (finished tasks whose
    duration is known), one column for each of `q` ("p50", "p99.9", ...) and `max` (float64, in seconds, NaN when `n` is
    0), `n_negative` (of `n`, durations below 0: clock skew) and `n_censored` (tasks of the group that are not final
    yet). Long tasks finish last, so while `n_censored` > 0 every percentile is biased low.

    Percentiles interpolate linearly between the two nearest order statistics: numpy's method "linear", type 7 in
    Hyndman and Fan, "Sample Quantiles in Statistical Packages", The American Statistician 50(4), 1996.

    Raises `BadInput` for a missing column, an unknown `by`, or a `q` outside 0..1.
    """
    require(durations, "durations", "is_final", *DURATIONS)
    require_shares(q)
    key = group_key(durations, by)
    groups, codes = key.cat.categories, key.cat.codes.to_numpy()
    final = durations["is_final"].to_numpy(dtype=bool)
    finished = codes[final]
    # Side by side once for all durations; of small codes this is a radix sort.
    rows = np.flatnonzero(final)[np.argsort(finished, kind="stable")] if len(groups) > 1 else np.flatnonzero(final)
    n_of = np.bincount(finished, minlength=len(groups))
    found = [_of_groups(durations[name].to_numpy(dtype="float64")[rows], n_of, q) for name in DURATIONS]
    table = {"group": groups.repeat(len(DURATIONS)), "duration": np.tile(DURATIONS, len(groups))}
    table |= {name: np.stack([one[name] for one in found], axis=1).ravel() for name in found[0]}
    table["n_censored"] = np.bincount(codes[~final], minlength=len(groups)).repeat(len(DURATIONS))
    return pd.DataFrame(table).astype({"group": "str", "duration": "str", "n_censored": "int64"})


def summary(tasks: pd.DataFrame) -> dict[str, dict[str, float | int | None]]:
    """Give `results.json` its latencies, as defined in `percentiles`.

    For each duration `n`, `p50`, `p90`, `p99`, `max` (seconds, or None when `n` is 0), `n_negative` and `n_censored`.
    """
    counts = ("n", "n_negative", "n_censored")
    table = percentiles(durations(tasks)).set_index("duration").drop(columns="group")
    return {
        duration: {str(name): int(value) if name in counts else number(value) for name, value in row.items()}
        for duration, row in zip(table.index, table.to_dict("records"), strict=True)
    }


def _of_groups(
    values: NDArray[np.float64], n_of: NDArray[np.int64], q: Sequence[float]
) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
    """Return the columns of `percentiles`, by group, from values of which `n_of` belong to each; sorts them in place.

    One sort serves every percentile. Their arithmetic is that of pandas' `DataFrameGroupBy.quantile`, to the last bit.
    """
    ends = np.cumsum(n_of)
    starts = ends - n_of
    n, n_negative = np.empty_like(n_of), np.empty_like(n_of)
    for i, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        values[start:end].sort()  # NaN last
        n_negative[i], n[i] = np.searchsorted(values[start:end], (0.0, np.nan))

    if not values.size:
        values = np.array([np.nan])

    def at(place: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.where(n > 0, values[np.where(n > 0, starts + np.clip(place, 0, n - 1), 0)], np.nan)

    columns: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {"n": n}
    for share in q:
        exact = share * (n - 1)
        below = np.trunc(exact).astype(np.int64)
        low, high = at(below), at(below + 1)
        between = exact % 1
        columns[f"p{100 * share:g}"] = np.where(between == 0, low, low + (high - low) * between)
    return columns | {"max": at(n - 1), "n_negative": n_negative}


def _seconds(took: "pd.Series[pd.Timedelta]") -> "pd.Series[float]":
    """Give time spans in seconds, rounded once: `dt.total_seconds` makes -2 microseconds -1.99999999995."""
    return took / pd.Timedelta(seconds=1)
