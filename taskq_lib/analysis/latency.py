"""How long tasks wait, run and take in all: from raw timestamps, with the number of tasks behind every figure."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from taskq_lib.analysis import group_key, in_seconds, is_final, number, require, require_shares, seconds
from taskq_lib.analysis.intervals import carried, ranks, why_not

#: The durations of a task, in seconds; their meaning is in `durations`.
DURATIONS = ("queue_wait_s", "processing_s", "retry_delay_s", "end_to_end_s")

#: The percentiles that are given unless others are asked for.
SHARES = (0.5, 0.9, 0.99)

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
            "queue_wait_s": in_seconds(queue_wait),
            "processing_s": in_seconds(processing),
            "retry_delay_s": in_seconds(end_to_end - queue_wait - processing),
            "end_to_end_s": in_seconds(end_to_end),
        },
        copy=False,
    )


def percentiles(durations: pd.DataFrame, by: str | None = None, q: Sequence[float] = SHARES) -> pd.DataFrame:
    """Give the percentiles of the *finished* tasks: one row for each group and duration.

    Columns: `group` (str; "all" when `by` is None), `duration` (str, one of `DURATIONS`), `n` (finished tasks whose
    duration is known), for each of `q` the percentile ("p50", "p99.9", ...) and the ends of its 95 % interval
    ("p50_low", "p50_high"), `max` (float64, in seconds), `n_negative` (of `n`, durations below 0: clock skew) and
    `n_censored` (tasks of the group that are not final yet). Long tasks finish last, so while `n_censored` > 0 every
    percentile is biased low; `censored` takes the open tasks into account.

    Percentiles interpolate linearly between the two nearest order statistics: numpy's method "linear", type 7 in
    Hyndman and Fan, "Sample Quantiles in Statistical Packages", The American Statistician 50(4), 1996. A percentile
    that `n` tasks cannot carry (`intervals.needed`) is NaN, with its interval; `max` is NaN when `n` is 0.

    The ends of an interval are order statistics (`intervals.ranks`), so that nothing is assumed of the distribution.
    But the tasks are taken as independent, and those of one run are not: a burst or a slow minute makes neighbours
    alike. The interval is that of a run without such ties; two runs are compared by blocks of time instead.

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
    return carried(pd.DataFrame(table).astype({"group": "str", "duration": "str", "n_censored": "int64"}), q)


def in_words(table: pd.DataFrame, q: Sequence[float] = SHARES) -> pd.DataFrame:
    """Write a table of `percentiles` for people: each percentile as "1.2 s (1.1 s to 1.4 s)", or what it lacks.

    Each is a column of texts, and its interval none of its own; the other columns stay.
    """
    written = table.drop(columns=[f"p{100 * share:g}_{end}" for share in q for end in ("low", "high")])
    for share in q:
        name = f"p{100 * share:g}"
        columns = (table[column] for column in (name, f"{name}_low", f"{name}_high", "n"))
        texts = [
            why_not(share, n) if pd.isna(value) else f"{seconds(value)} ({seconds(low)} to {seconds(high)})"
            for value, low, high, n in zip(*columns, strict=True)
        ]
        written[name] = pd.array(texts, dtype="str")
    return written


def summary(table: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Give `results.json` its latencies, from `percentiles` of all tasks together.

    For each duration `n`, `p50`, `p90`, `p99`, `max` (seconds, or None), `n_negative` and `n_censored`; `intervals`
    (of each percentile its two ends, or None) and, for a percentile that is None, the reason in `why_not`.
    """
    return {str(row["duration"]): _summed(row) for row in table.to_dict("records")}


def _summed(row: Mapping[Hashable, Any]) -> dict[str, object]:
    names = {f"p{100 * share:g}": share for share in SHARES}
    lacking = {name: why_not(share, int(row["n"])) for name, share in names.items()}
    return {
        "n": int(row["n"]),
        **{name: number(row[name]) for name in (*names, "max")},
        **{name: int(row[name]) for name in ("n_negative", "n_censored")},
        "intervals": {
            name: None if lacking[name] else [float(row[f"{name}_low"]), float(row[f"{name}_high"])] for name in names
        },
        "why_not": {name: why for name, why in lacking.items() if why},
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
        name = f"p{100 * share:g}"
        columns[name] = np.where(between == 0, low, low + (high - low) * between)
        for end, rank in zip(("low", "high"), ranks(n, share), strict=True):
            columns[f"{name}_{end}"] = np.where(rank > 0, at(rank - 1), np.nan)
    return columns | {"max": at(n - 1), "n_negative": n_negative}
