"""How sure a share is that was counted."""

from statistics import NormalDist

import numpy as np
import pandas as pd

#: Standard normal quantile of a two-sided 95 % interval, 1.96.
_Z = NormalDist().inv_cdf(0.975)


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
