"""When a backlog will be gone: an estimate with its range from the backlog's own course, and nothing where none holds.

**Model.** Over a short time a backlog B is a Brownian motion with drift: dB = r dt + s dW, where r is the difference of
the rates in and out, and s its noise. That is the diffusion approximation of a busy queue (D. L. Iglehart and W. Whitt,
"Multiple channel queues in heavy traffic I", Advances in Applied Probability 2(1), 1970); batches only enlarge s.

**Estimate.** Observed at times t_0..t_n with T = t_n - t_0, the changes d_i over the steps h_i are independent, normal,
with mean r h_i and variance s^2 h_i. Least squares weighted by 1/h_i gives

    r = (B_n - B_0) / T,        s^2 = sum((d_i - r h_i)^2 / h_i) / (n - 1),        var(r) = s^2 / T.

The steps are not those from sample to sample but at most 8 longer ones: capacity wavers for seconds at a time (a busy
machine, a slow dependency), and changes that are near in time are alike. Of long steps that is noise, and they know it:
the method of batch means (B. Schmeiser, "Batch size effects in the analysis of simulation output", Operations Research
30(3), 1982, which finds that more batches gain little).

Only the ends decide r: a line fitted through the points would take the noise for independent from point to point, which
it is not, since a backlog remembers, and so promise too much.

**Range.** The backlog after a further time u, less what is foreseen, B_n + r u, is normal with variance
s^2 u (the noise to come) + s^2 u^2 / T (what r is uncertain by). So (B(u) - B_n - r u) / (s sqrt(u + u^2 / T)) follows
Student's t with n - 1 degrees of freedom, and the times u at which an empty backlog lies within its 95 % are those with

    (B_n + r u)^2 <= c^2 (u + u^2 / T),        c = t(0.975, n - 1) s:

a quadratic, whose roots are the range (as in E. C. Fieller, "Some problems in interval estimation", Journal of the
Royal Statistical Society B 16(2), 1954). Where |r| <= c / sqrt(T) the range has no end: the backlog may as well grow.

It says when the backlog will be gone if arrivals and capacity stay as they were in the observed time. Tasks that wait
for a retry make the last of it slower than the bulk. Counts that SQS approximates make s, and so the range, larger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from taskq_lib.analysis import number, require

#: Fewer steps than these say nothing of the noise.
MIN_STEPS = 5
#: More steps than these would be too short to be independent of each other.
MAX_STEPS = 8
#: Older observations tell of arrivals and a capacity that may be gone, s; where this has too few, more are taken.
WINDOW_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Drain:
    """What is to be expected of a backlog; times in seconds from the last observation."""

    backlog: int
    rate_per_s: float | None  #: Its change a second, negative while it drains; None where too little was observed
    eta_s: float | None  #: When it is gone at that rate; None where it does not drain or nothing can be said
    low_s: float | None  #: The 95 % range of that; None where there is no `eta_s`
    high_s: float | None  #: None with `low_s` given: no end can be told
    says: str  #: The same in words


def estimate(observed: pd.DataFrame) -> Drain:
    """Estimate when a backlog is gone, from rows of `at` and `backlog` (any number, NA left out), in order of time.

    Only the last `WINDOW_S` seconds count or, where these are longer, `MAX_STEPS` + 1 median steps. Raises `BadInput`
    for a missing column.
    """
    require(observed, "observed", "at", "backlog")
    known = observed[observed["backlog"].notna()].drop_duplicates("at", keep="last")
    if known.empty:
        return _unknown(0, "nothing was observed")
    since_s = (known["at"] - known["at"].iloc[-1]).dt.total_seconds().to_numpy()
    step_s = float(np.median(np.diff(since_s))) if len(since_s) > 1 else 0.0
    inside = since_s >= -max(WINDOW_S, (MAX_STEPS + 1) * step_s)
    t, b = _blocks(since_s[inside]), _blocks(known["backlog"].to_numpy(dtype="float64")[inside])
    backlog = int(b[-1])
    if backlog == 0:
        return Drain(backlog=0, rate_per_s=None, eta_s=0.0, low_s=0.0, high_s=0.0, says="drained")
    if len(t) <= MIN_STEPS:
        return _unknown(backlog, f"no estimate yet: {len(t)} observations, {MIN_STEPS + 1} are needed")
    steps, changes, length = np.diff(t), np.diff(b), t[-1] - t[0]
    rate = float((b[-1] - b[0]) / length)
    noise = float(np.sum((changes - rate * steps) ** 2 / steps)) / (len(steps) - 1)
    low, high = _crossing(backlog, rate, _t975(len(steps) - 1) ** 2 * noise, length)
    eta = backlog / -rate if rate < 0 else None
    return Drain(
        backlog=backlog, rate_per_s=rate, eta_s=eta, low_s=low, high_s=high, says=_in_words(rate, eta, low, high)
    )


def foreseen(timeline: pd.DataFrame, shares: tuple[float, ...] = (0.25, 0.5, 0.75)) -> pd.DataFrame:
    """Hold what would have been foreseen against what came: one row a share of the time from the peak to the end.

    Observed is from the peak on, as by somebody who has sent a load and watches it go. `timeline` has `at`,
    `interval_s` and `backlog`, as `throughput.per_interval` gives them. Columns: `at`, `backlog`, `rate_per_s`,
    `eta_s`, `low_s`, `high_s`, `actual_s` (until the backlog was gone; NaN where it is not yet) and `says`.
    """
    require(timeline, "timeline", "at", "interval_s", "backlog")
    if timeline.empty or not timeline["backlog"].max():
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in _FORESEEN.items()})
    ends = timeline["at"] + pd.to_timedelta(timeline["interval_s"], unit="s")
    observed = pd.DataFrame({"at": ends, "backlog": timeline["backlog"]})
    peak = int(timeline["backlog"].to_numpy().argmax())
    empty = np.flatnonzero(timeline["backlog"].to_numpy()[peak:] == 0)
    last = peak + int(empty[0]) if empty.size else len(timeline) - 1
    rows = []
    for share in shares:
        here = peak + math.floor(share * (last - peak))
        drain = estimate(observed.iloc[peak : here + 1])
        actual = (ends.iloc[last] - ends.iloc[here]).total_seconds() if empty.size else math.nan
        found = {"at": ends.iloc[here], "actual_s": actual} | vars(drain)
        rows.append({name: found[name] for name in _FORESEEN})
    return pd.DataFrame(rows).astype(_FORESEEN)


def records(foreseen: pd.DataFrame) -> list[dict[str, float | int | str | None]]:
    """Give `results.json` the rows of `foreseen`: times as ISO 8601, None where there is none."""
    rows = foreseen.assign(at=foreseen["at"].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")).to_dict("records")
    return [{str(k): number(v) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


_FORESEEN = {
    "at": "datetime64[us, UTC]",
    "backlog": "int64",
    "rate_per_s": "float64",
    "eta_s": "float64",
    "low_s": "float64",
    "high_s": "float64",
    "actual_s": "float64",
    "says": "str",
}


def _blocks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values at the ends of at most `MAX_STEPS` equal steps."""
    if len(values) <= MAX_STEPS + 1:
        return values
    return values[np.round(np.linspace(0, len(values) - 1, MAX_STEPS + 1)).astype(np.int64)]


def _crossing(backlog: float, rate: float, c2: float, length: float) -> tuple[float | None, float | None]:
    """Solve (backlog + rate u)^2 = c2 (u + u^2 / length) for the times u > 0; None where there is no such end."""
    if rate >= 0:
        return None, None
    a, half_b = rate**2 - c2 / length, backlog * rate - c2 / 2
    # half_b^2 - a backlog^2, written so that nothing cancels.
    root = math.sqrt(c2 * (c2 / 4 - backlog * rate + backlog**2 / length))
    return backlog**2 / (root - half_b), (root - half_b) / a if a > 0 else None


def _t975(df: int) -> float:
    """Return the 0.975 quantile of Student's t, by Abramowitz and Stegun 26.7.5; within 0.1 % from 4 degrees on."""
    z = NormalDist().inv_cdf(0.975)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / df**k for k, term in enumerate(terms, start=1)))


def _unknown(backlog: int, says: str) -> Drain:
    return Drain(backlog=backlog, rate_per_s=None, eta_s=None, low_s=None, high_s=None, says=says)


def _in_words(rate: float, eta: float | None, low: float | None, high: float | None) -> str:
    if eta is None:
        grows = f"grows by {rate:,.3g}/s" if rate > 0 else "keeps its size"
        return f"does not drain: it {grows}"
    if high is None:
        return f"may not drain: in about {eta:,.3g} s by {-rate:,.3g}/s, not before {low:,.3g} s, no end can be told"
    return f"drains in about {eta:,.3g} s ({low:,.3g} to {high:,.3g} s), by {-rate:,.3g}/s"
