"""Figures of a run: a frame from `taskq_lib.analysis` in, matplotlib axes out.

Every function draws on `ax` or, without one, on a figure of its own, 8 inches wide. A frame with nothing to draw gives
axes with a sentence that says why. Call `style` once before the first figure; `describe` gives a figure's alternative
text.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from taskq_lib.analysis import require, seconds
from taskq_lib.analysis.latency import DURATIONS
from taskq_lib.errors import BadInput
from taskq_lib.plot_axes import (
    BLACK,
    BLUE,
    GREEN,
    LOOKS,
    NUMBER,
    ORANGE,
    PERCENT,
    RED,
    axes_or_new,
    days,
    describe,
    group_axis,
    head,
    nothing,
    seconds_scale,
    style,
    time_axis,
)

__all__ = [
    "describe",
    "failure_rate",
    "latency_by_group",
    "outcome_by_attempt",
    "style",
    "throughput_with_backlog",
]

#: More groups than this cannot be read in one figure; the largest are drawn, and the title says so.
_MAX_GROUPS = 20

_NO_LATENCY = "No latency to draw: no task has finished with a known start and end."


def latency_by_group(percentiles: pd.DataFrame, duration: str = "end_to_end_s", ax: Axes | None = None) -> Axes:
    """Draw the median, p90 and p99 of a duration for each group, from `latency.percentiles` with `by`.

    Their intervals lie behind them as broad bars, where the frame has them.
    """
    require(percentiles, "percentiles", "group", "duration", "n", "p50", "p90", "p99")
    if duration not in DURATIONS:
        raise BadInput(f"There is no duration {duration!r}; allowed are {', '.join(DURATIONS)}.")
    shown, note = _largest(percentiles[percentiles["duration"] == duration], "n")
    ax = axes_or_new(ax, height=1.6 + 0.4 * max(len(shown), 3))
    if shown.empty:
        return nothing(ax, _NO_LATENCY)
    names = ["p50", "p90", "p99"]
    known = shown[names].to_numpy()[shown[names].notna().to_numpy()]
    if not known.size:
        return nothing(ax, "No percentile to draw: no group has finished tasks enough to carry one.")
    edge = seconds_scale(ax, "x", known)
    values, y = shown[names].clip(lower=edge), np.arange(len(shown))
    # A group of few tasks carries no p99, or no percentile at all.
    ax.hlines(y, values["p50"], values.max(axis=1), color="#999999", linewidth=2)
    for name, marker, colour in zip(names, "oD^", (BLUE, ORANGE, RED), strict=True):
        if f"{name}_low" in shown:
            low, high = (shown[f"{name}_{end}"].clip(lower=edge) for end in ("low", "high"))
            ax.hlines(y, low, high, color=colour, linewidth=7, alpha=0.3)
        ax.plot(values[name], y, marker, color=colour, label=name, markersize=7)
    group_axis(ax, shown["group"].tolist(), shown["n"].tolist())
    return head(ax, f"{LOOKS[duration][0].capitalize()} by group, with 95 % intervals{note}", legend=True)


def throughput_with_backlog(per_interval: pd.DataFrame, ax: tuple[Axes, Axes] | None = None) -> tuple[Axes, Axes]:
    """Draw the rates above and the backlog below, over the same time, from `throughput.per_interval`."""
    require(per_interval, "per_interval", "at", "interval_s", "offered", "throughput", "goodput", "backlog")
    if ax is None:
        ax = tuple(plt.subplots(2, 1, sharex=True, figsize=(8, 5.5), layout="constrained")[1])
    upper, lower = ax
    if per_interval.empty:
        why = "nothing was sent or finished at a known time."
        return nothing(upper, f"No rate to draw: {why}"), nothing(lower, f"No backlog to draw: {why}")
    width_s = float(per_interval["interval_s"].iloc[0])
    start = days(per_interval["at"])
    edges = np.append(start, start[-1] + width_s / 86_400)
    upper.stairs(per_interval["goodput"], edges, fill=True, color=GREEN, alpha=0.35, label="goodput (tasks)")
    upper.stairs(per_interval["throughput"], edges, color=BLUE, linewidth=1.5, label="throughput (attempts)")
    upper.stairs(per_interval["offered"], edges, color=BLACK, linestyle="--", label="offered load (tasks)")
    backlog = np.append(0, per_interval["backlog"])
    rates = per_interval[["offered", "throughput", "goodput"]].to_numpy()
    lower.fill_between(edges, backlog, color=RED, alpha=0.25)
    lower.plot(edges, backlog, color=RED)
    for panel, name, highest in ((upper, "per second", rates.max()), (lower, "tasks", backlog.max())):
        panel.set(ylabel=name, ylim=(0, 1.05 * highest or 1))
        panel.yaxis.set_major_formatter(NUMBER)
    lower.yaxis.set_major_locator(MaxNLocator(integer=True))
    time_axis(lower, edges, "time")
    head(lower, f"Backlog at the end of each interval; after the last one {backlog[-1]:,}")
    return head(upper, f"Load and throughput, in intervals of {seconds(width_s)}", legend=True), lower


def failure_rate(rates: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the share of dead-lettered tasks with its 95 % interval for each group, from `failures.rates`."""
    require(rates, "rates", "group", "n_final", "failure_rate", "low", "high")
    shown, note = _largest(rates, "n_final")
    ax = axes_or_new(ax, height=1.6 + 0.4 * max(len(shown), 3))
    if shown.empty:
        return nothing(ax, "No failure rate to draw: no task is final yet.")
    y = np.arange(len(shown))
    ax.hlines(y, shown["low"], shown["high"], color=RED, linewidth=2.5, alpha=0.5, label="95 % interval (Wilson)")
    ax.plot(shown["failure_rate"], y, "o", color=RED, markersize=8, label="share", clip_on=False)
    ax.set(xlim=(0, min(1.0, 1.08 * shown["high"].max())), xlabel="share of the final tasks")
    ax.xaxis.set_major_formatter(PERCENT)
    group_axis(ax, shown["group"].tolist(), shown["n_final"].tolist())
    return head(ax, f"Dead-lettered tasks by group{note}", legend=True)


def outcome_by_attempt(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how the first, second, ... attempts ended, from `failures.outcome_by_attempt`."""
    require(frame, "frame", "attempt", "outcome", "n")
    ax = axes_or_new(ax)
    if frame.empty:
        return nothing(ax, "No outcome to draw: no attempt has ended.")
    table = frame.astype({"outcome": "str"}).pivot_table("n", "attempt", "outcome", "sum", fill_value=0)
    x, total = table.index.to_numpy(dtype="int64"), table.sum(axis=1)
    bottom = np.zeros(len(table))
    for outcome, colour, hatch in (("completed", GREEN, ""), ("failed", RED, "//"), ("lost", BLACK, "xx")):
        if outcome in table:
            ax.bar(x, table[outcome], 0.7, bottom, color=colour, hatch=hatch, edgecolor="white", label=outcome)
            bottom += table[outcome].to_numpy()
    if len(table) <= 10:
        for attempt, n in zip(x, total, strict=True):
            ax.annotate(f"{n:,}", (attempt, n), (0, 3), textcoords="offset points", ha="center")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.yaxis.set_major_formatter(NUMBER)
    ax.grid(axis="x", visible=False)
    ax.set(xlabel="number of the attempt", ylabel="attempts", xlim=(x.min() - 0.6, x.max() + 0.6))
    ax.set_ylim(0, 1.1 * total.max())
    return head(ax, f"How attempts ended (n = {total.sum():,})", legend=True)


def _largest(rows: pd.DataFrame, n: str) -> tuple[pd.DataFrame, str]:
    """Take the groups that have tasks, the 20 largest by column `n`, and a note for the title if there are more."""
    rows = rows[rows[n] > 0]
    note = f"\n(the {_MAX_GROUPS} largest of {len(rows)} groups)" if len(rows) > _MAX_GROUPS else ""
    return rows.nlargest(_MAX_GROUPS, n).sort_index(), note
