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
from numpy.typing import NDArray

from taskq_lib.analysis import require
from taskq_lib.analysis.latency import DURATIONS
from taskq_lib.analysis.latency import durations as durations_of
from taskq_lib.analysis.throughput import interval_s_for
from taskq_lib.errors import BadInput
from taskq_lib.plot_axes import (
    BLACK,
    BLUE,
    GREEN,
    NUMBER,
    ORANGE,
    PERCENT,
    RED,
    axes_or_new,
    days,
    describe,
    group_axis,
    head,
    leave_room,
    nothing,
    seconds,
    seconds_scale,
    style,
    time_axis,
)

__all__ = [
    "describe",
    "failure_rate",
    "latency_by_group",
    "latency_ecdf",
    "latency_over_time",
    "outcome_by_attempt",
    "style",
    "throughput_with_backlog",
]

#: How each duration is called and drawn; the line styles tell them apart in grey as well.
_LOOKS = {
    "queue_wait_s": ("queue wait", BLUE, "--"),
    "processing_s": ("processing time", ORANGE, "-."),
    "retry_delay_s": ("retry delay", RED, ":"),
    "end_to_end_s": ("end-to-end latency", BLACK, "-"),
}

#: More points than this hide each other; percentiles in intervals of time are drawn instead.
_MAX_POINTS = 2_000

#: More groups than this cannot be read in one figure; the largest are drawn, and the title says so.
_MAX_GROUPS = 20

_NO_LATENCY = "No latency to draw: no task has finished with a known start and end."


def latency_ecdf(durations: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw for each duration the share of finished tasks that took at most so long, from `latency.durations`.

    The median, p90 and p99 of the end-to-end latency are marked where at least one task lies beyond them. A curve has
    2,001 points, each exact: finer steps could not be seen.
    """
    require(durations, "durations", "is_final", *DURATIONS)
    ax = axes_or_new(ax)
    final = durations["is_final"].to_numpy(dtype=bool)
    parts = [durations.loc[final, name].dropna().to_numpy(dtype="float64") for name in DURATIONS]
    whole = np.concatenate(parts)
    known = dict(zip(DURATIONS, np.split(whole, np.cumsum([len(part) for part in parts])[:-1]), strict=True))
    del parts
    for values in known.values():
        values.sort()
    total = known["end_to_end_s"]
    if not total.size:
        return nothing(ax, _NO_LATENCY)
    edge = seconds_scale(ax, "x", whole)
    share = np.linspace(0, 1, 2001)
    for name, values in known.items():
        text, colour, line = _LOOKS[name]
        if values.size:
            # As numpy's quantiles by "inverted_cdf", which would sort again.
            place = np.maximum(np.ceil(len(values) * share - 1), 0).astype(np.int64)
            ax.plot(np.maximum(values[place], edge), share, line, color=colour, label=text, drawstyle="steps-post")
    marked = (0.5, 0.9, 0.99)
    for q, value in zip(marked, np.quantile(total, marked).tolist(), strict=True):
        if len(total) * (1 - q) >= 1:
            mark = (max(value, edge), q)
            ax.plot(*mark, "o", color=BLACK, markersize=5)
            # End to end is the longest, so below and to the right of its curve there is room.
            ax.annotate(f"p{100 * q:g} = {seconds(value)}", mark, (7, -3), textcoords="offset points", va="top")
            leave_room(ax, mark[0])
    ax.set(ylim=(0, 1.02), ylabel="share of finished tasks")
    ax.yaxis.set_major_formatter(PERCENT)
    n_open = int((~final).sum())
    note = f"; {n_open:,} not finished are missing" if n_open else ""
    return head(ax, f"Latency of finished tasks ({_count(total)}{note})", legend=True)


def latency_by_group(percentiles: pd.DataFrame, duration: str = "end_to_end_s", ax: Axes | None = None) -> Axes:
    """Draw the median, p90 and p99 of a duration for each group, from `latency.percentiles` with `by`."""
    require(percentiles, "percentiles", "group", "duration", "n", "p50", "p90", "p99")
    if duration not in DURATIONS:
        raise BadInput(f"There is no duration {duration!r}; allowed are {', '.join(DURATIONS)}.")
    shown, note = _largest(percentiles[percentiles["duration"] == duration], "n")
    ax = axes_or_new(ax, height=1.6 + 0.4 * max(len(shown), 3))
    if shown.empty:
        return nothing(ax, _NO_LATENCY)
    names = ["p50", "p90", "p99"]
    edge = seconds_scale(ax, "x", shown[names].to_numpy().ravel())
    values, y = shown[names].clip(lower=edge), np.arange(len(shown))
    ax.hlines(y, values["p50"], values["p99"], color="#999999", linewidth=2)
    for name, marker, colour in zip(names, "oD^", (BLUE, ORANGE, RED), strict=True):
        ax.plot(values[name], y, marker, color=colour, label=name, markersize=8)
    group_axis(ax, shown["group"].tolist(), shown["n"].tolist())
    return head(ax, f"{_LOOKS[duration][0].capitalize()} by group{note}", legend=True)


def latency_over_time(tasks: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the end-to-end latency of finished tasks over the time they were enqueued at.

    Up to 2,000 tasks are points; of more, the median, p90 and maximum in equal intervals are drawn, with a gap where
    none was enqueued.
    """
    ax = axes_or_new(ax)
    took = durations_of(tasks)["end_to_end_s"]
    known = took.notna()
    took, enqueued_at, state = took[known], tasks["enqueued_at"][known], tasks["state"][known]
    if took.empty:
        return nothing(ax, _NO_LATENCY)
    title = f"End-to-end latency ({_count(took.to_numpy())})"
    took = took.clip(lower=seconds_scale(ax, "y", took.to_numpy()))
    if len(took) <= _MAX_POINTS:
        looks = {"completed": ("completed", "o", BLUE), "dead_lettered": ("dead-lettered", "x", RED)}
        for name, (text, marker, colour) in looks.items():
            rows = state == name
            if rows.any():
                x = days(enqueued_at[rows])
                ax.scatter(x, took[rows], s=14, c=colour, marker=marker, label=text, rasterized=True)
    else:
        title += f", in intervals of {_draw_intervals(ax, enqueued_at, took)}"
    time_axis(ax, days(enqueued_at), "enqueued at")
    return head(ax, title, legend=True)


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


def _count(values: NDArray[np.float64]) -> str:
    """Count durations for a title; a negative one, a sign of skewed clocks, must not pass unseen."""
    n_negative = int((values < 0).sum())
    return f"n = {len(values):,}" + (f", {n_negative:,} of them negative" if n_negative else "")


def _draw_intervals(ax: Axes, enqueued_at: "pd.Series[pd.Timestamp]", took: "pd.Series[float]") -> str:
    """Draw the median, p90 and maximum of `took` in equal intervals of time; return their length in words."""
    since_s = (enqueued_at - enqueued_at.min()).dt.total_seconds()
    width_s = interval_s_for(since_s.max())
    number = (since_s // width_s).astype("int64")
    grouped = took.groupby(number)
    table = pd.DataFrame({"median": grouped.median(), "p90": grouped.quantile(0.9), "max": grouped.max()})
    table = table.reindex(range(number.max() + 1))
    middle = days(enqueued_at).min() + (table.index.to_numpy() + 0.5) * width_s / 86_400
    ax.fill_between(middle, table["median"], table["p90"], color=BLUE, alpha=0.15, linewidth=0)
    ax.plot(middle, table["max"], ".", color="#888888", label="maximum")
    ax.plot(middle, table["p90"], ".-", color=ORANGE, label="p90")
    ax.plot(middle, table["median"], ".-", color=BLUE, label="median")
    return seconds(width_s)
