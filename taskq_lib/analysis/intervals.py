"""How sure a share is that was counted, and a percentile that was measured; from how many tasks on there is one."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: What may lie beyond either end of a two-sided 95 % interval.
_TAIL = 0.025

#: Standard normal quantile of a two-sided 95 % interval, 1.96.
_Z = NormalDist().inv_cdf(1 - _TAIL)


def wilson(n_hits: "pd.Series[int]", n: "pd.Series[int]") -> pd.DataFrame:
    """Give `failure_rate` and its 95 % Wilson interval `low`..`high` for `n_hits` out of `n`; NaN where `n` is 0."""
    known = n.where(n > 0).astype("float64")
    rate = n_hits / known
    centre = (rate + _Z**2 / (2 * known)) / (1 + _Z**2 / known)
    half = _Z * np.sqrt(rate * (1 - rate) / known + _Z**2 / (4 * known**2)) / (1 + _Z**2 / known)
    # At rates of 0 and 1 the interval touches the rate; rounding must not push it past.
    return pd.DataFrame(
        {"failure_rate": rate, "low": (centre - half).clip(0, rate), "high": (centre + half).clip(rate, 1)}
    )


def needed(share: float) -> int:
    """Say how many values carry a percentile: the fewest whose smallest and largest bound it with 95 % confidence.

    All of n independent values lie below the percentile with probability share ** n, and above it with
    (1 - share) ** n; neither may exceed 2.5 %. That is 6 values for the median, 36 for p90, 368 for p99, 3,688 for
    p99.9. Shares of 0 and 1, or nearer to them than floats can say, are the ends of the sample, and need one value.
    """
    rarest = max(share, 1 - share)
    return 1 if rarest == 1 else math.ceil(math.log(_TAIL) / math.log(rarest))


def ranks(n: NDArray[np.int64], share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Say which of `n` ordered values bound a percentile with 95 % confidence: two ranks from 1 on, 0 where none do.

    How many of n independent values lie below the percentile is binomial, whatever their distribution; the ranks cut at
    most 2.5 % off either end of it. See H. A. David and H. N. Nagaraja, "Order Statistics", 3rd ed., 2003, section 7.1.
    A percentile of 0 or 1, and one that `n` values do not carry (`needed`), has none.
    """
    if needed(share) == 1:
        return np.zeros_like(n), np.zeros_like(n)
    enough = n >= needed(share)
    known = np.where(enough, n, needed(share))
    low, high = _quantile(_TAIL, known, share), _quantile(1 - _TAIL, known, share) + 1
    return np.where(enough, low, 0), np.where(enough, high, 0)


def band(n: int) -> float:
    """Say how far a whole curve of shares, counted from `n` values, may be off anywhere, with 95 % confidence.

    P. Massart, "The Tight Constant in the Dvoretzky-Kiefer-Wolfowitz Inequality", Annals of Probability 18(3), 1990.
    """
    return math.sqrt(math.log(1 / _TAIL) / (2 * n)) if n else 1.0


def carried(table: pd.DataFrame, q: Sequence[float]) -> pd.DataFrame:
    """Blank the percentiles that too few values cannot carry: in the columns "p50", ... where column `n` is too low."""
    names = {f"p{100 * share:g}": needed(share) for share in q}
    return table.assign(**{name: table[name].where(table["n"] >= least) for name, least in names.items()})


def why_not(share: float, n: int) -> str:
    """Say in words why `n` values do not carry a percentile; empty where they do."""
    return "" if n >= needed(share) else f"needs {needed(share):,} tasks, there {'is' if n == 1 else 'are'} {n:,}"


def _quantile(p: float, n: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Return the binomial quantile as `scipy.stats.binom.ppf` does: the least k of which P(B <= k) reaches `p`."""
    # Of scipy.special alone, and here: scipy.stats would cost each notebook half a second.
    from scipy.special import bdtr, bdtrik  # noqa: PLC0415

    found = np.ceil(bdtrik(p, n, share))
    below = np.maximum(found - 1, 0)
    return np.asarray(np.where(bdtr(below, n, share) >= p, below, found), dtype=np.int64)
