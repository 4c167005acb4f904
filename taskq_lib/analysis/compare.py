"""Is this run worse than that one, or than several: each figure's difference, how sure it is, and a verdict.

What a verdict promises:

- `pass`: no judged figure is worse by more than its margin. Of a run that is, it is said at most once in 20 times: each
  figure's 95 % bound on how much worse it may be lies within the margin. All must pass, so this needs no correction for
  their number (R. L. Berger, "Multiparameter Hypothesis Testing and Acceptance Sampling", Technometrics 24(4), 1982).
- `fail`: a figure is worse, and by what was measured beyond its margin. Of a run that is not worse it is said at most
  once in 20 times: the figure's interval lies wholly on the worse side of no difference, and all intervals together
  hold the truth 95 % of the time (Bonferroni). A figure that is worse by its margin itself is measured beyond it half
  of the time, however many tasks there are; one that is worse by twice as much nearly always, given enough of them.
- `not enough data`: neither can be said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from taskq_lib.analysis.compare_run import Floats, Measured, duration_of
from taskq_lib.errors import BadInput

PASS, FAIL, UNSURE, NO_BASELINE = "pass", "fail", "not enough data", "no baseline"

#: Of all intervals together, and of each bound.
CERTAINTY = 0.95

#: What a sentence tells: of a run that is worse so many figures, of one of which that cannot be said these.
_N_TOLD = 3
_TOLD = {"end-to-end latency p50", "end-to-end latency p99", "failure rate"}

#: What hundredths of a difference are, by the unit of the figures; of all others per cent of the baseline.
UNITS = {"share": "points"}

_COLUMNS = {
    "metric": "str",
    "unit": "str",
    "n": "int64",
    "ours": "float64",
    "baseline": "float64",
    "difference": "float64",
    "low": "float64",
    "high": "float64",
    "bound": "float64",
    "margin": "float64",
    "effect": "float64",
    "verdict": "str",
    "why": "str",
}


@dataclass(frozen=True, kw_only=True)
class Margins:
    """How much worse a figure may be."""

    slower: float = 0.05  #: Share by which p50 and p90 may be longer and goodput lower; of p99 twice as much
    failures: float = 0.01  #: By how much the failure rate may be higher; 0.01 is one percentage point

    def __post_init__(self) -> None:
        """Refuse what is no margin."""
        if not (0 < self.slower < 1 and 0 < self.failures < 1):
            raise BadInput(
                f"The margins {100 * self.slower:g} % and {100 * self.failures:g} points are not allowed.",
                "Give each more than 0 and less than 100.",
            )

    def of(self, metric: str) -> float:
        """Return the margin of a metric; NaN for one that is shown and not judged."""
        if metric.startswith("queue wait"):
            return math.nan
        if metric == "failure rate":
            return self.failures
        return 2 * self.slower if metric.endswith("p99") else self.slower


def compare(ours: Measured, baselines: Sequence[Measured], margins: Margins | None = None) -> pd.DataFrame:
    """Compare a run with one or several of a baseline: one row a metric, in the order of `Measured.metrics`.

    Columns: `metric`, `unit`, `n` (tasks of the smallest run), `ours`, `baseline` (geometric mean of several, of a
    failure rate the mean), `difference` (ours / baseline - 1, of a failure rate ours - baseline), its interval
    `low`..`high`, `bound` (how much worse it may be at most: the worse end of a 90 % interval), `margin`,
    `effect` (Cliff's delta: the share of pairs, one task of ours and one of the baseline, in which ours is worse, less
    the share in which it is better; of goodput, blocks instead of tasks; N. Cliff, Psychological Bulletin 114(3),
    1993), `verdict` and `why` (where a verdict is lacking; str). NaN where there is none.

    Queue waits are shown without a verdict: end to end contains them, and of a wait of milliseconds a relative
    difference says nothing. The intervals are those of Student's t on the standard errors of redrawn blocks, of the
    logarithms (of a failure rate itself). Where baseline runs differ among themselves by more than that explains, the
    excess is added, with as few degrees of freedom as there are runs less one (F. E. Satterthwaite, Biometrics 2,
    1946). Of a single baseline run nobody knows how much a run differs from the next one.

    Raises `BadInput` without a baseline.
    """
    if not baselines:
        raise BadInput("There is no baseline to compare with.")
    margins = margins or Margins()
    metrics = ours.metrics["metric"]
    n_judged = sum(not math.isnan(margins.of(metric)) for metric in metrics)
    rows = []
    for i, metric in enumerate(metrics):
        theirs = [one.metrics.iloc[i] for one in baselines]
        row = _difference(ours.metrics.iloc[i], theirs, n_judged)
        row |= {"margin": margins.of(metric), "effect": _effect(metric, ours, baselines)}
        rows.append(_judged(row))
    return pd.DataFrame(rows)[list(_COLUMNS)].astype(_COLUMNS)


def verdict(compared: pd.DataFrame) -> str:
    """Return the verdict on all judged metrics: `fail` where one fails, `pass` where all pass, else the third."""
    found = set(compared.loc[compared["margin"].notna(), "verdict"])
    return FAIL if FAIL in found else PASS if found == {PASS} else UNSURE


def in_words(compared: pd.DataFrame, baseline: str) -> str:
    """Say the verdict in a sentence or two for who did not look at the figures; `baseline` names what it is held to."""
    judged = compared[compared["margin"].notna()]
    overall = verdict(compared)
    if overall == PASS:
        return f"Not worse than {baseline}: no figure is worse by more than its margin ({CERTAINTY:.0%} sure)."
    # What failed is told before what was slow.
    rows = judged[judged["verdict"] == overall].to_dict("records")
    rows.sort(key=lambda row: row["metric"] != "failure rate")
    if overall == FAIL:
        told = "; ".join(f"{row['metric']} {change(row)}" for row in rows[:_N_TOLD])
        more = f"; and {len(rows) - _N_TOLD} more" if len(rows) > _N_TOLD else ""
        return f"Worse than {baseline} ({CERTAINTY:.0%} sure): {told}{more}."
    shown = [f"{row['metric']} {change(row)}" for row in judged.to_dict("records") if row["metric"] in _TOLD]
    first = judged[judged["verdict"] == UNSURE].iloc[0]
    return (
        f"Not enough data to say whether it is worse than {baseline}: {', '.join(shown)}. {len(rows)} of {len(judged)} "
        f"figures are open; for {first['metric']} {first['why']}."
    )


def change(row: dict[Any, Any]) -> str:
    """Write a row's difference and interval: per cent, of a failure rate percentage points."""
    values = (row["difference"], row["low"], row["high"])
    if math.isnan(row["difference"]):
        return "unknown"
    texts = [signed(value) for value in values if not math.isnan(value)]
    interval = f" ({texts[1]} to {texts[2]})" if len(texts) == 3 else ""
    return f"{texts[0]} {UNITS.get(row['unit'], '%')}{interval}"


def signed(value: float) -> str:
    """Write a difference in hundredths, with its sign."""
    if value > 100:
        return "over +10,000"
    return f"{100 * value:+,.0f}" if abs(value) >= 1 else f"{100 * value:+.3g}"


def _difference(ours: pd.Series, theirs: list[pd.Series], n_judged: int) -> dict[str, Any]:
    """Return a metric's row up to its bound, with what is needed to judge it."""
    # Loaded where it is needed: the quantile of Student's t for any degrees of freedom.
    from scipy.special import stdtrit  # noqa: PLC0415

    is_share = ours["unit"] == "share"
    runs = pd.DataFrame([ours, *theirs])
    values = runs["value"].to_numpy(dtype="float64")
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = values if is_share else np.log(np.where(values > 0, values, np.nan))
    d = float(scaled[0] - scaled[1:].mean())
    variance, df, excess = _variance(scaled[1:], runs["se"].to_numpy("float64"), runs["df"].to_numpy("float64"))
    quantiles = [1 - (1 - CERTAINTY) / n_judged / 2, CERTAINTY]
    half, one_sided = [float(stdtrit(df, q)) * math.sqrt(variance) if df > 0 else math.nan for q in quantiles]
    ends = [d, d - half, d + half, d + _sign(ours["metric"]) * one_sided]
    difference, low, high, bound = ends if is_share else [math.expm1(min(end, 700)) for end in ends]
    why = [f"{name}: {why}" for name, why in zip(_named(len(theirs)), runs["why"], strict=True) if why]
    return {
        "metric": ours["metric"], "unit": ours["unit"], "n": int(runs["n"].min()), "ours": values[0],
        "baseline": float(values[1:].mean()) if is_share else math.exp(float(scaled[1:].mean())),
        "difference": difference, "low": low, "high": high, "bound": bound, "why": "; ".join(why[:2]), "excess": excess,
    }  # fmt: skip


def _named(n: int) -> list[str]:
    return ["ours", *(["baseline"] if n == 1 else [f"baseline {i + 1}" for i in range(n)])]


def _variance(theirs: Floats, se: Floats, df: Floats) -> tuple[float, float, float]:
    """Return the variance of ours less the baseline's mean, its degrees of freedom, and the share between runs."""
    k = len(theirs)
    within = np.append(se[0] ** 2, se[1:] ** 2 / k**2)
    # What the runs of the baseline differ by, beyond chance within each; ours differs from the next one as much.
    beyond = max(0.0, float(theirs.var(ddof=1) - (se[1:] ** 2).mean())) * (1 + 1 / k) if k > 1 else 0.0
    parts, dfs = np.append(within, beyond), np.append(df, max(k - 1, 1))
    variance = float(parts.sum())
    if not variance > 0:
        return variance, float(dfs.min()) if variance == 0 else math.nan, 0.0
    return variance, variance**2 / float((parts**2 / dfs).sum()), beyond / variance


def _judged(row: dict[str, Any]) -> dict[str, Any]:
    """Add the verdict, and why there is none."""
    sign, margin = _sign(row["metric"]), row["margin"]
    if math.isnan(margin):
        return row | {"verdict": "", "why": "shown, not judged"}
    worse, bound = sign * row["difference"], sign * row["bound"]
    best = min(sign * row["low"], sign * row["high"])
    if best > 0 and worse > margin:
        return row | {"verdict": FAIL}
    if bound <= margin:
        return row | {"verdict": PASS}
    too_far, room = (worse - best, worse) if worse > margin else (bound - worse, margin - worse)
    return row | {"verdict": UNSURE, "why": row["why"] or _needed(row, too_far / room if room else math.inf)}


def _needed(row: dict[str, Any], reach: float) -> str:
    """Say what would make a verdict of an interval that reaches so many times too far; it shrinks as 1 / sqrt(n)."""
    if row["excess"] > 0.5:
        return "the baseline runs differ too much among themselves; more of them would tell"
    n = row["n"] * reach**2
    return f"about {float(f'{n:.1g}'):,.0f} tasks a run would tell" if n < 1e8 else "it is too close to the margin"


def _sign(metric: str) -> int:
    """Return 1 where more is worse, -1 where less is."""
    return -1 if metric == "steady goodput" else 1


def _effect(metric: str, ours: Measured, baselines: Sequence[Measured]) -> float:
    """Return Cliff's delta, positive where ours is worse; the mean over the baseline's runs."""
    key = duration_of(metric)
    found = [_cliff(ours.samples[key], one.samples[key]) for one in baselines]
    return _sign(metric) * float(np.mean(found))


def _cliff(a: Floats, b: Floats) -> float:
    if not len(a) or not len(b):
        return math.nan
    above, below = np.searchsorted(b, a, "left").sum(), len(a) * len(b) - np.searchsorted(b, a, "right").sum()
    return float(above - below) / (len(a) * len(b))
