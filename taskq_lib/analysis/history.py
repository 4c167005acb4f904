"""A figure over many runs, and since when it is another one.

A change point is a split of the runs, in order of time, at which the ranks before and after differ most (by the
standardised Wilcoxon rank sum), where no more than one in eighty random orders of the same runs has such a split: a
permutation test of the largest, so that trying every split is allowed for (after A. N. Pettitt, "A Non-Parametric
Approach to the Change-Point Problem", Applied Statistics 28(2), 1979). Each side is then searched again.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from taskq_lib.analysis import require

#: What of a run is followed, and how it is called.
FIGURES = {
    "p50": "end-to-end latency p50",
    "p99": "end-to-end latency p99",
    "failure_rate": "failure rate",
    "completed_per_s": "completed per second",
}

#: With fewer runs, chance makes such a split too often for any to be told.
MIN_RUNS = 10

#: In all figures together, so many histories without a change show one; 0.05 of four figures.
_CERTAIN = 0.05 / len(FIGURES)
_MIN_SIDE = 3
_ORDERS = 1_999

Floats = NDArray[np.float64]


def changes(runs: pd.DataFrame) -> pd.DataFrame:
    """Find the change points of each figure over `runs`, one row a run in order of time.

    `runs` has `run_id` (str), `at` and any of `FIGURES` (float64; NaN is left out). Columns: `figure`, `run_id` and
    `at` (of the first run after the change), `before` and `after` (medians between the change points beside it) and
    `p` (float64: share of random orders that have such a split). Empty with fewer than `MIN_RUNS` runs. Raises
    `BadInput` for a missing column.
    """
    require(runs, "runs", "run_id", "at")
    rows = []
    for figure in [name for name in FIGURES if name in runs]:
        known = runs[runs[figure].notna()]
        values = known[figure].to_numpy(dtype="float64")
        found = _splits(values, 0)
        edges = [0, *(at for at, _ in found), len(values)]
        for i, (at, p) in enumerate(found):
            before, after = np.median(values[edges[i] : at]), np.median(values[at : edges[i + 2]])
            first = known.iloc[at]
            rows.append((figure, first["run_id"], first["at"], float(before), float(after), p))
    return pd.DataFrame(rows, columns=["figure", "run_id", "at", "before", "after", "p"])


def in_words(found: pd.DataFrame) -> list[str]:
    """Say each change point in a sentence; failure rates in per cent, all else with its change."""
    sentences = []
    for row in found.to_dict("records"):
        before, after = row["before"], row["after"]
        if row["figure"] == "failure_rate":
            told = f"from {before:.2%} to {after:.2%}"
        else:
            told = f"from {before:.3g} to {after:.3g}" + (f" ({after / before - 1:+.0%})" if before else "")
        sentences.append(f"The {FIGURES[row['figure']]} changed with run {row['run_id']}: {told}.")
    return sentences


def _splits(values: Floats, offset: int) -> list[tuple[int, float]]:
    """Return the places of the change points, in order, each with its p; of the first run after it."""
    if len(values) < MIN_RUNS:
        return []
    ranks = np.asarray(pd.Series(values).rank(), dtype=np.float64)
    random = np.random.default_rng(len(values))
    orders = random.permuted(np.tile(ranks, (_ORDERS, 1)), axis=1)
    score = _scores(ranks[None])
    largest = float(score.max())
    p = (1 + int((_scores(orders).max(axis=1) >= largest - 1e-9).sum())) / (1 + _ORDERS)
    if p > _CERTAIN:
        return []
    at = int(score[0].argmax()) + _MIN_SIDE
    return [*_splits(values[:at], offset), (offset + at, p), *_splits(values[at:], offset + at)]


def _scores(ranks: Floats) -> Floats:
    """Return the absolute standardised rank sum of each split that leaves three runs on both sides; 0 where all tie."""
    n = ranks.shape[1]
    before = np.arange(_MIN_SIDE, n - _MIN_SIDE + 1)
    sums = np.cumsum(ranks, axis=1)[:, before - 1]
    spread = ranks.var(axis=1, ddof=1, keepdims=True) * before * (n - before) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.abs(sums - before * (n + 1) / 2) / np.sqrt(spread)
    return np.where(np.isfinite(scores), scores, 0.0)
