"""The figures of one run that runs are compared by, and how far off each may be by chance.

Tasks of one run are not independent: a burst makes every wait as long as the one before it and a little more, and a
slow minute slows all that runs in it. So the tasks are put in the order in which they finished and cut into blocks, and
blocks are redrawn instead of tasks (H. R. Kuensch, "The Jackknife and the Bootstrap for General Stationary
Observations", Annals of Statistics 17(3), 1989). Two ways, of which each figure takes the surer one:

- *blocks*: whole blocks are redrawn, for what only varies around a level.
- *trend*: for what adds up (waits in a backlog), each block keeps its level; redrawn are how long each block took to
  be finished, whose sums move the levels, and what remains within the blocks.

What still hangs together from block to block makes fewer blocks of them: n (1 - r) / (1 + r), with the correlation r
of neighbours (as for a first-order autoregression), corrected for its bias.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from taskq_lib.analysis import is_final, require
from taskq_lib.analysis.latency import durations

Floats = NDArray[np.float64]

#: A run of fewer tasks is not cut into blocks.
MIN_TASKS = 200
#: So many tasks, at least, must lie beyond a percentile.
MIN_BEYOND = 5

_SHARES = (0.5, 0.9, 0.99)
_NAMES = {"end_to_end_s": "end-to-end latency", "processing_s": "processing time", "queue_wait_s": "queue wait"}
_MAX_BLOCKS, _TASKS_A_BLOCK = 30, 20
#: Each block is known by so many of its values, equally spaced; a sample by at most so many.
_POINTS, _SAMPLE = 40, 10_001
_REDRAWS = 300
#: Fewer blocks than this say nothing about chance.
_MIN_EFFECTIVE = 3.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run, measured."""

    #: One row a figure: `metric` (str), `unit` ("s", "1/s" or "share"), `n` (tasks it rests on), `value` (float64, NaN
    #: where there is none), `se` (standard error: of the logarithm, of a share of itself) and its degrees of freedom
    #: `df`; NaN both where chance cannot be told), `why` (str: the reason then, else empty).
    metrics: pd.DataFrame
    n_tasks: int
    n_open: int
    #: What effect sizes are taken of: sorted values by duration, of the failure rate zeros and ones, of goodput the
    #: rates of blocks. At most 10,001 of each, equally spaced in rank.
    samples: dict[str, Floats] = field(repr=False)


def measure(tasks: pd.DataFrame) -> Measured:
    """Measure a run for comparisons.

    Percentiles (p50, p90, p99; linear between order statistics) are of final tasks; one that is still open counts as
    longer than all of them in the end-to-end latency, so that what does not finish cannot make a run look fast. The
    failure rate is dead-lettered among final tasks. Steady goodput is tasks completed a second between the 5th and the
    95th hundredth of the completions: without the first and last, which a cold start or one late retry decides.
    The same frame always gives the same figures. Raises `BadInput` for a missing column.
    """
    require(tasks, "tasks", "state", "finished_at", "updated_at")
    took, final = durations(tasks), is_final(tasks).to_numpy(dtype=bool)
    ended_at, begun_at = tasks["finished_at"].fillna(tasks["updated_at"]).where(final), tasks["enqueued_at"].min()
    ended = _seconds(ended_at, begun_at)
    order = np.argsort(ended, kind="stable")  # what has no end is last
    ended, is_open, state = ended[order], ~final[order], tasks["state"].to_numpy()[order]
    rows: list[dict[str, Any]] = []
    samples: dict[str, Floats] = {}
    for name, called in _NAMES.items():
        values = took[name].to_numpy(dtype="float64")[order]
        if name == "end_to_end_s":
            values = np.where(is_open, np.inf, values)
        known = ~np.isnan(values) & (np.isinf(values) | ~is_open)
        found, samples[name] = _percentiles(values[known], ended[known], adds_up=name != "processing_s")
        rows += [{"metric": f"{called} {one.pop('p')}", "unit": "s", **one} for one in found]
    dead = (state == "dead_lettered")[~is_open].astype(np.float64)
    rows.append({"metric": "failure rate", "unit": "share", **_failures(dead)})
    goodput, samples["steady goodput"] = _goodput(ended[state == "completed"])
    rows.append({"metric": "steady goodput", "unit": "1/s", **goodput})
    samples["failure rate"] = thinned(np.sort(dead))
    return Measured(metrics=pd.DataFrame(rows), n_tasks=len(tasks), n_open=int(is_open.sum()), samples=samples)


def duration_of(metric: str) -> str:
    """Return the key in `Measured.samples` of a metric: the duration of its percentile, else its own name."""
    return next((key for key, name in _NAMES.items() if metric.startswith(name)), metric)


def thinned(values: Floats) -> Floats:
    """Return sorted values, of many only 10,001, equally spaced in rank."""
    if len(values) <= _SAMPLE:
        return values
    return values[np.linspace(0, len(values) - 1, _SAMPLE).astype(np.int64)]


def _percentiles(values: Floats, ended: Floats, *, adds_up: bool) -> tuple[list[dict[str, Any]], Floats]:
    """Measure the percentiles of values in the order of their ends, in seconds; of open tasks both are infinite."""
    n, whole = len(values), np.sort(values)
    chances = [_of_blocks(values)] if n >= MIN_TASKS else []
    if chances and adds_up:
        chances.append(_of_trend(values, ended))
    rows = []
    for k, share in enumerate(_SHARES):
        value, needed = _quantile(whole, share), math.ceil(MIN_BEYOND / (1 - share))
        best = min(((se[k], df) for se, df in chances), key=_width, default=(math.nan, math.nan))
        why = ""
        if n < max(MIN_TASKS, needed):
            why = f"needs {max(MIN_TASKS, needed):,} tasks, there are {n:,}"
        elif math.isinf(value):
            why = "more tasks than that are not final"
        elif value <= 0:
            why = "it is not above 0, so there is no ratio"
        elif math.isnan(_width(best)) or math.isinf(_width(best)):
            why = "the run moves as one piece; more baseline runs or a longer run would tell"
        value = math.nan if math.isinf(value) else value
        se, df = best if not why else (math.nan, math.nan)
        rows.append({"p": f"p{100 * share:g}", "n": n, "value": value, "se": se, "df": df, "why": why})
    return rows, thinned(whole)


def _of_blocks(values: Floats) -> tuple[Floats, float]:
    """Return the standard errors of the logarithms of the percentiles by redrawn blocks, and their degrees of freedom.

    NaN where a percentile of the redrawn values is not above 0 or not finite.
    """
    points = _points(values)
    ranks = np.searchsorted(np.sort(points, axis=None), points).astype(np.float64)
    effective = _effective(ranks.mean(axis=1))
    drawn = np.random.default_rng(0).integers(len(points), size=(_REDRAWS, len(points)))
    return _log_errors(points[drawn]) * _inflation(len(points), effective), effective - 1


def _of_trend(values: Floats, ended: Floats) -> tuple[Floats, float]:
    """The same where values add up: levels moved by redrawn sums of how long each block took, the rest redrawn."""
    points = _points(values)
    ends = np.array([block.max() for block in np.array_split(ended, len(points))])
    if not np.isfinite(ends).all():
        return np.full(len(_SHARES), np.nan), math.nan
    took = np.diff(ends, prepend=0.0)
    effective = _effective(took)
    random = np.random.default_rng(1)
    drawn = random.integers(len(points), size=(2, _REDRAWS, len(points)))
    moved = np.cumsum((took - took.mean())[drawn[0]], axis=1) * _inflation(len(took), effective)
    level = np.median(points, axis=1)
    redrawn = (points - level[:, None])[drawn[1]] + (level + moved)[:, :, None]
    positive = values[values > 0]
    return _log_errors(np.maximum(redrawn, positive.min() if positive.size else 0.0)), effective - 1


def _failures(dead: Floats) -> dict[str, Any]:
    """Measure the failure rate of zeros and ones in the order of the tasks' ends.

    Its standard error is that of the blocks, but no less than that of independent tasks with one more failure and one
    more success: where nothing failed, the next run's failures are still possible (A. Agresti and B. Caffo, The
    American Statistician 54(4), 2000).
    """
    n = len(dead)
    value = float(dead.mean()) if n else math.nan
    if n < MIN_TASKS:
        return _unsure(n, value, f"needs {MIN_TASKS:,} final tasks, there are {n:,}")
    rates = np.array([block.mean() for block in np.array_split(dead, _n_blocks(n))])
    effective = _effective(rates)
    if effective < _MIN_EFFECTIVE:
        return _unsure(n, value, "failures came in too few pieces to tell chance from change")
    p = (dead.sum() + 1) / (n + 2)
    se = max(float(rates.std(ddof=1)) / math.sqrt(effective), math.sqrt(p * (1 - p) / (n + 2)))
    return {"n": n, "value": value, "se": se, "df": effective - 1, "why": ""}


def _goodput(completed: Floats) -> tuple[dict[str, Any], Floats]:
    """Measure the rate of these sorted times, and give the rates of blocks."""
    n = len(completed)
    middle = completed[math.floor(0.05 * n) : math.ceil(0.95 * n)]
    span = float(middle[-1] - middle[0]) if len(middle) > 1 else 0.0
    if span <= 0:
        return _unsure(n, math.nan, "fewer than two tasks were completed at different times"), np.empty(0)
    value = (len(middle) - 1) / span
    if n < MIN_TASKS:
        return _unsure(n, value, f"needs {MIN_TASKS:,} completed tasks, there are {n:,}"), np.empty(0)
    edges = np.linspace(0, len(middle) - 1, _n_blocks(n) + 1).astype(np.int64)
    # What was recorded within a microsecond has a rate all the same.
    a_task = np.maximum(np.diff(middle[edges]), 1e-6) / np.diff(edges)
    rates, effective = np.sort(1 / a_task), _effective(a_task)
    if effective < _MIN_EFFECTIVE:
        return _unsure(n, value, "the rate moves as one piece; a longer run would tell"), rates
    drawn = np.random.default_rng(2).integers(len(a_task), size=(_REDRAWS, len(a_task)))
    se = float(np.log(a_task[drawn].mean(axis=1)).std(ddof=1)) * _inflation(len(a_task), effective)
    return {"n": n, "value": value, "se": se, "df": effective - 1, "why": ""}, rates


def _unsure(n: int, value: float, why: str) -> dict[str, Any]:
    return {"n": n, "value": value, "se": math.nan, "df": math.nan, "why": why}


def _n_blocks(n: int) -> int:
    return min(_MAX_BLOCKS, n // _TASKS_A_BLOCK)


def _points(values: Floats) -> Floats:
    """Cut values into blocks and give so many order statistics of each: a row a block."""
    rows = []
    for block in np.array_split(values, _n_blocks(len(values))):
        at = ((np.arange(_POINTS) + 0.5) / _POINTS * len(block)).astype(np.int64)
        rows.append(np.sort(block)[at])
    return np.array(rows)


def _effective(blocks: Floats) -> float:
    """Return how many independent blocks these are worth, at most as many as there are; 0 for one piece."""
    n, centred = len(blocks), blocks - blocks.mean()
    square = float(centred @ centred)
    if not square > 0:
        return float(n)
    r = float(centred[1:] @ centred[:-1]) / square
    # Seen from the blocks' own mean it is too low by about (1 + 4 r) / n: F. H. C. Marriott and J. A. Pope, Biometrika
    # 41, 1954.
    r = min(max((n * r + 1) / (n - 4), 0.0), 1.0)
    return n * (1 - r) / (1 + r)


def _inflation(n: int, effective: float) -> float:
    """Return by what a standard error of redrawn blocks is too small; infinite where they are too few."""
    return math.sqrt(n / effective * n / (n - 1)) if effective >= _MIN_EFFECTIVE else math.inf


def _log_errors(redrawn: Floats) -> Floats:
    """Return for each percentile the standard deviation of its logarithm over the redraws, the first axis."""
    flat = redrawn.reshape(len(redrawn), -1)
    places = [math.ceil(share * flat.shape[1]) - 1 for share in _SHARES]
    found = np.partition(flat, places, axis=1)[:, places]
    good = np.isfinite(found).all(axis=0) & (found > 0).all(axis=0)
    errors = np.full(len(_SHARES), np.nan)
    errors[good] = np.log(found[:, good]).std(axis=0, ddof=1)
    return errors


def _width(chance: tuple[float, float]) -> float:
    """Return how wide an interval gets, to choose by; infinite where there is none."""
    # Loaded where it is needed: the quantile of Student's t for any degrees of freedom.
    from scipy.special import stdtrit  # noqa: PLC0415

    se, df = chance
    return float(se * stdtrit(df, 0.995)) if df > 0 and not math.isnan(se) else math.inf


def _quantile(whole: Floats, share: float) -> float:
    """Return the percentile of sorted values, linear between the two nearest; infinite where one of them is."""
    if not len(whole):
        return math.nan
    exact = share * (len(whole) - 1)
    low, high = whole[math.floor(exact)], whole[math.ceil(exact)]
    return float(low) if low == high else float(low + (high - low) * (exact - math.floor(exact)))


def _seconds(times: pd.Series[pd.Timestamp], origin: pd.Timestamp) -> Floats:
    """Give timestamps in seconds after `origin`, or after the first of them; infinite where not known."""
    origin = times.min() if pd.isna(origin) else origin
    return np.asarray(((times - origin) / pd.Timedelta(seconds=1)).fillna(math.inf), dtype=np.float64)
