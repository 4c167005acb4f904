"""The figures of a comparison: differences with how sure they are, both latencies, and a figure over many runs."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from taskq_lib.analysis import require
from taskq_lib.analysis.compare import FAIL, PASS, UNSURE
from taskq_lib.analysis.history import FIGURES
from taskq_lib.plot_axes import (
    BLACK,
    BLUE,
    GREEN,
    NUMBER,
    ORANGE,
    PERCENT,
    RED,
    axes_or_new,
    head,
    label,
    nothing,
    seconds_scale,
)

_GREY = "#666666"
#: How each verdict is drawn: colour and marker.
_LOOKS = {PASS: (GREEN, "o"), FAIL: (RED, "s"), UNSURE: (_GREY, "D")}
#: The axis reaches to every difference, and to the ends of intervals no farther than this: they say little there.
_MAX_REACH = 0.6
_SIGNED = FuncFormatter(lambda value, _: f"{100 * value:+.3g}" if value else "0")
_UNITS = {"failure_rate": "share", "completed_per_s": "per second"}


def differences(compared: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the judged differences of `compare.compare` that have an interval, with it, the bound and the margin."""
    require(compared, "compared", "metric", "unit", "difference", "low", "high", "bound", "margin", "verdict")
    rows = compared[compared["margin"].notna() & compared["low"].notna()]
    ax = axes_or_new(ax, height=1.5 + 0.36 * max(len(rows), 3))
    if rows.empty:
        return nothing(ax, "No difference to draw: none has an interval.")
    y = np.arange(len(rows))
    ends = rows[["difference", "low", "high", "margin"]].abs().to_numpy()
    reach = max(min(float(np.nanmax(ends)) * 1.08, _MAX_REACH), float(rows["difference"].abs().max()) * 1.15)
    sign = np.where(rows["metric"] == "steady goodput", -1, 1)
    for verdict, (colour, marker) in _LOOKS.items():
        of = (rows["verdict"] == verdict).to_numpy()
        if of.any():
            shown = rows[of]
            ax.hlines(y[of], shown["low"], shown["high"], color=colour, linewidth=1.2)
            ax.hlines(y[of], shown["difference"], shown["bound"], color=colour, linewidth=4)
            ax.plot(shown["difference"], y[of], marker, color=colour, markersize=8, label=verdict)
    ax.plot(sign * rows["margin"], y, "|", color=BLACK, markersize=15, markeredgewidth=2, label="margin")
    ax.axvline(0, color=BLACK, linewidth=1)
    names = [f"{row.metric}{', points' if row.unit == 'share' else ', %'}" for row in rows.itertuples()]
    ax.set_yticks(y, names)
    ax.set(
        xlim=(-reach, reach),
        ylim=(len(rows) - 0.5, -0.5),
        xlabel="ours against the baseline; thin: interval, thick: as bad as it may be",
    )
    ax.xaxis.set_major_formatter(_SIGNED)
    ax.grid(axis="y", visible=False)
    return head(ax, "Differences, with intervals that all hold together (95 %)", legend=True)


def latencies(ours: NDArray[np.float64], theirs: Sequence[NDArray[np.float64]], ax: Axes | None = None) -> Axes:
    """Draw the end-to-end latency of a run over that of each baseline run, from sorted `Measured.samples`, seconds."""
    ax = axes_or_new(ax, height=3.4)
    finite = [values[np.isfinite(values)] for values in (*theirs, ours)]
    if not any(values.size for values in finite):
        return nothing(ax, "No latency to draw: no task has finished with a known start and end.")
    edge = seconds_scale(ax, "x", np.concatenate(finite))
    for i, (values, whole) in enumerate(zip(finite, (*theirs, ours), strict=True)):
        if values.size:
            # Of all tasks: what is not finished is missing at the top.
            share = np.arange(1, len(values) + 1) / len(whole)
            is_ours = i == len(theirs)
            looks = {"color": BLUE, "linewidth": 2.2} if is_ours else {"color": ORANGE, "linestyle": "--"}
            named = (
                "ours" if is_ours else "" if i else f"baseline ({len(theirs)} runs)" if len(theirs) > 1 else "baseline"
            )
            ax.plot(np.maximum(values, edge), share, drawstyle="steps-post", label=named or None, **looks)
    ax.set(ylim=(0, 1.02), ylabel="share of tasks")
    ax.yaxis.set_major_formatter(PERCENT)
    return head(ax, "End-to-end latency, ours and the baseline's", legend=True)


def over_runs(runs: pd.DataFrame, changes: pd.DataFrame, ax: Sequence[Axes] | None = None) -> list[Axes]:
    """Draw each figure of `history.FIGURES` over runs, in order of time, with its change points and medians between."""
    require(runs, "runs", "run_id", "at", *FIGURES)
    require(changes, "changes", "figure", "run_id")
    panels = (
        list(ax)
        if ax is not None
        else list(plt.subplots(len(FIGURES), 1, sharex=True, figsize=(8, 6), layout="constrained")[1])
    )
    places = np.arange(len(runs))
    for panel, (name, called) in zip(panels, FIGURES.items(), strict=True):
        values = runs[name].to_numpy(dtype="float64")
        panel.plot(places, values, "o", color=BLUE, markersize=4)
        starts = np.flatnonzero(runs["run_id"].isin(changes.loc[changes["figure"] == name, "run_id"])).tolist()
        for start, end in zip([0, *starts], [*starts, len(runs)], strict=True):
            known = values[start:end][~np.isnan(values[start:end])]
            if known.size:
                panel.hlines(np.median(known), start - 0.5, end - 0.5, color=BLACK, linewidth=1.2)
        for start in starts:
            panel.axvline(start - 0.5, color=RED, linestyle="--", linewidth=1.5)
        panel.set(ylim=(0, 1.1 * float(np.nanmax(values, initial=0)) or 1), ylabel=_UNITS.get(name, "seconds"))
        panel.yaxis.set_major_formatter(PERCENT if name == "failure_rate" else NUMBER)
        panel.yaxis.set_major_locator(MaxNLocator(4))
        head(panel, called.capitalize())
    shown = np.unique(np.linspace(0, len(runs) - 1, 4).astype(int))
    days = [label(f"{at:%m-%d %H:%M}") for at in runs["at"].iloc[shown]]
    panels[-1].set_xticks(shown, days)
    panels[-1].set(xlabel="runs in order, begun at (UTC); line: median, dashed: change")
    return panels
