"""End-to-end latency where tasks are still open: a survival curve counts them for as long as they have waited so far.

A task that is open has taken at least until it was read. Its latency is right-censored there: leaving it out, as
percentiles of finished tasks do, takes long ones for short. The curve is the estimate of E. L. Kaplan and P. Meier,
"Nonparametric Estimation from Incomplete Observations", JASA 53(282), 1958, as `scipy.stats.ecdf` computes it.

It takes the open tasks for like the finished ones, only looked at too early. While a backlog grows those that came
last will take longer than the first did, and then this estimate is too low as well, though less so.
"""

import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import pandas as pd

from taskq_lib.analysis import in_seconds, is_final, number, require, require_shares
from taskq_lib.analysis.intervals import needed
from taskq_lib.analysis.latency import SHARES


def observed(tasks: pd.DataFrame, read_at: datetime) -> pd.DataFrame:
    """Say how long each task has taken until it was final or, while it is open, until it was read at `read_at`.

    Columns: `took_s` (float64) and `is_open` (bool); a row for each task with a known start and end. Raises `BadInput`
    for a missing column.
    """
    require(tasks, "tasks", "state", "enqueued_at", "finished_at")
    is_open = ~is_final(tasks)
    until = tasks["finished_at"].mask(is_open, pd.Timestamp(read_at))
    took_s = in_seconds(until - tasks["enqueued_at"])
    found = pd.DataFrame({"took_s": took_s, "is_open": is_open})
    return found[found["took_s"].notna()].reset_index(drop=True)


def curve(observed: pd.DataFrame) -> pd.DataFrame:
    """Estimate which share of all tasks is final within a time, from `observed`: one row for each time that occurs.

    Columns: `took_s`, `share` (0..1) and its pointwise 95 % interval `low`..`high` (float64): Greenwood's variance
    after a log(-log) transformation, which stays within 0..1 and holds for few tasks. Where it is not defined, before
    the first task that ended and where none is left at risk, it is 0..1. Without any finished task there is no row.
    """
    from scipy import stats  # noqa: PLC0415 - half a second, for the runs alone in which something is open

    took_s, is_open = observed["took_s"].to_numpy(dtype="float64"), observed["is_open"].to_numpy(dtype=bool)
    if is_open.all():
        return pd.DataFrame({name: np.zeros(0) for name in ("took_s", "share", "low", "high")})
    found = stats.ecdf(stats.CensoredData(uncensored=took_s[~is_open], right=took_s[is_open]))
    with warnings.catch_warnings():
        # It warns of the ends, where its interval is not defined.
        warnings.simplefilter("ignore", RuntimeWarning)
        bounds = found.cdf.confidence_interval(0.95, method="log-log")
    return pd.DataFrame(
        {
            "took_s": found.cdf.quantiles,
            "share": found.cdf.probabilities,
            "low": np.nan_to_num(bounds.low.probabilities, nan=0.0),
            "high": np.nan_to_num(bounds.high.probabilities, nan=1.0),
        }
    )


def percentiles(observed: pd.DataFrame, q: Sequence[float] = SHARES) -> pd.DataFrame:
    """Estimate the percentiles of the end-to-end latency of all tasks: one row for each of `q`.

    Columns: `percentile` (str, "p50"), `estimate_s`, `low_s`, `high_s` (float64, seconds): the first time at which the
    curve reaches the share, and those at which the ends of its interval do (R. Brookmeyer and J. Crowley, "A Confidence
    Interval for the Median Survival Time", Biometrics 38(1), 1982). NaN where the curve or the end does not get so far,
    since too many tasks are open, and where the tasks are too few (`intervals.needed`).
    """
    require_shares(q)
    found = curve(observed)
    rows = []
    for share in q:
        reached = {name: _first(found, name, share) for name in ("share", "high", "low")}
        if len(observed) < needed(share) or np.isnan(reached["share"]):
            reached = dict.fromkeys(reached, np.nan)
        # Where more tasks may be final, the percentile may be lower.
        rows.append((f"p{100 * share:g}", reached["share"], reached["high"], reached["low"]))
    return pd.DataFrame(rows, columns=["percentile", "estimate_s", "low_s", "high_s"]).astype({"percentile": "str"})


def summary(observed: pd.DataFrame | None, estimates: pd.DataFrame | None) -> dict[str, object] | None:
    """Give `results.json` its "censored", from `observed` and its `percentiles`; None without them, or an open task.

    `n`, `n_open`, each percentile (seconds, or None) and `intervals`, of each its two ends (None where there is none).
    """
    if observed is None or estimates is None or not observed["is_open"].any():
        return None
    rows: list[Mapping[str, float]] = estimates.set_index("percentile").to_dict("records")  # type: ignore[assignment]
    names = estimates["percentile"].tolist()
    return {
        "n": len(observed),
        "n_open": int(observed["is_open"].sum()),
        **{name: number(row["estimate_s"]) for name, row in zip(names, rows, strict=True)},
        "intervals": {
            name: [number(row["low_s"]), number(row["high_s"])] for name, row in zip(names, rows, strict=True)
        },
    }


def _first(curve: pd.DataFrame, name: str, share: float) -> float:
    """Return the first time at which a column of the curve, which rises, reaches a share; NaN where it does not."""
    reached = np.maximum.accumulate(curve[name].to_numpy()) >= share - 1e-12
    return float(curve["took_s"].to_numpy()[reached.argmax()]) if reached.any() else float("nan")
