"""Figures of how long tasks take: their distribution with its uncertainty, by group, by part and over time.

As in `taskq_lib.plots`, every function draws on the axes it is given or on a figure of its own, 8 inches wide, and a
frame with nothing to draw gives axes with a sentence that says why.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from numpy.typing import NDArray

from taskq_lib.analysis import group_key, require, seconds
from taskq_lib.analysis.censored import curve
from taskq_lib.analysis.decomposition import PARTS
from taskq_lib.analysis.intervals import band, needed, ranks
from taskq_lib.analysis.latency import DURATIONS, SHARES
from taskq_lib.analysis.latency import durations as durations_of
from taskq_lib.analysis.throughput import interval_s_for
from taskq_lib.plot_axes import (
    BLACK,
    BLUE,
    LOOKS,
    NUMBER,
    PERCENT,
    PINK,
    RED,
    SHADES,
    axes_or_new,
    days,
    head,
    head_panels,
    label,
    leave_room,
    nothing,
    panels,
    seconds_scale,
    time_axis,
)

#: More points than this hide each other; how many there are in each cell is drawn instead.
_MAX_POINTS = 2_000
#: More panels of one kind than this cannot be read; the largest groups are drawn, and the title says so.
_MAX_PANELS, _N_COLUMNS = 6, 3
#: Heights of a heat map.
_N_HEIGHTS = 40

_NO_LATENCY = "No latency to draw: no task has finished with a known start and end."
#: How a part is drawn in a stack of bars: hatched as well, for grey.
_HATCHES = {"queue_wait_s": "", "processing_s": "//", "retry_delay_s": "xx"}

Values = NDArray[np.float64]


def latency_ecdf(durations: pd.DataFrame, observed: pd.DataFrame | None = None, ax: Axes | None = None) -> Axes:
    """Draw for each duration the share of finished tasks that took at most so long, from `latency.durations`.

    The end-to-end latency has its 95 % band (`intervals.band`) and its median, p90 and p99 with their intervals, where
    the tasks carry them. With open tasks among `observed` (`censored.observed`) the band is that of the curve that
    counts them. A curve has 2,001 points, each exact: finer steps could not be seen.
    """
    require(durations, "durations", "is_final", *DURATIONS)
    ax = axes_or_new(ax, height=4.4)
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
    for name, values in known.items():
        text, colour, line = LOOKS[name]
        if values.size:
            ax.plot(*_steps(values, edge), line, color=colour, label=text, drawstyle="steps-post")
    n_open, whose = int((~final).sum()), "finished tasks"
    if observed is not None and observed["is_open"].any():
        whose = "tasks"
        _draw_censored(ax, observed, edge)
    else:
        x, share = _steps(total, edge)
        low, high = np.clip(share - band(len(total)), 0, 1), np.clip(share + band(len(total)), 0, 1)
        ax.fill_between(x, low, high, step="post", color=BLACK, alpha=0.12, linewidth=0, label="its 95 % band")
    _mark_percentiles(ax, total, edge)
    ax.set(ylim=(0, 1.02), ylabel=f"share of {whose}")
    ax.yaxis.set_major_formatter(PERCENT)
    note = f"; {n_open:,} not finished are missing" if n_open else ""
    return head(ax, f"Latency of finished tasks ({_count(total)}{note})", legend=True, columns=3)


def latency_panels(durations: pd.DataFrame) -> list[Axes]:
    """Draw the latency of each task type and each priority in a panel of its own, from `latency.durations`.

    Each has the share of its finished tasks that waited, and that took in all, at most so long; in grey stands that of
    all tasks. At most six panels a kind, of the groups with the most finished tasks. Returns the axes of the panels.
    """
    require(durations, "durations", "is_final", "task_type", "priority", *DURATIONS)
    is_known = durations["is_final"] & durations["end_to_end_s"].notna()
    finished = durations.loc[is_known, ["task_type", "priority", "queue_wait_s", "end_to_end_s"]]
    if finished.empty:
        return [nothing(axes_or_new(None), _NO_LATENCY)]
    chosen = {by: _largest_groups(finished, by, _MAX_PANELS) for by in ("task_type", "priority")}
    used = panels([len(groups) for groups, _note in chosen.values()], _N_COLUMNS, 1.35)
    whole = np.sort(finished["end_to_end_s"].to_numpy())
    edge = seconds_scale(used[0], "x", whole)
    used[0].set_xlabel("")
    used[0].minorticks_off()
    each = [(by, *one) for by, (groups, _note) in chosen.items() for one in groups]
    for ax, (by, group, is_of_group) in zip(used, each, strict=True):
        ax.plot(*_steps(whole, edge, 201), color="#BBBBBB", linewidth=3, label="all tasks, end to end")
        for name in ("queue_wait_s", "end_to_end_s"):
            text, colour, line = LOOKS[name]
            values = np.sort(finished[name].to_numpy()[is_of_group])
            values = values[: np.searchsorted(values, np.nan)]
            if values.size:
                ax.plot(*_steps(values, edge, 201), line, color=colour, label=text, drawstyle="steps-post")
        title = label(group) if by == "task_type" else f"priority {label(group)}"
        ax.set_title(f"{title} (n = {int(is_of_group.sum()):,})", loc="left", fontsize=9.5, fontweight="normal")
        ax.set_ylim(0, 1.02)
        ax.yaxis.set_major_formatter(PERCENT)
    notes = "".join(dict.fromkeys(note for _groups, note in chosen.values()))
    unit = "seconds (log; shorter ones at the edge)" if np.isfinite(edge) else "seconds"
    head_panels(used, f"Latency by task type and by priority{notes}", unit, "share of finished tasks")
    return used


def decomposition_bars(bands: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw what the faster and the slower tasks spend their time on, from `decomposition.by_band`.

    A bar a band, its parts as shares of its mean end-to-end latency; a part that is negative lies left of zero.
    """
    require(bands, "bands", "band", "n", "from_s", "to_s", *DURATIONS)
    ax = axes_or_new(ax, height=1.5 + 0.5 * max(len(bands), 2))
    if bands.empty:
        return nothing(ax, _NO_LATENCY)
    shares = bands[list(PARTS)].div(bands[list(PARTS)].abs().sum(axis=1).replace(0, np.nan), axis=0).fillna(0)
    y, ahead, behind = np.arange(len(bands)), np.zeros(len(bands)), np.zeros(len(bands))
    for part in PARTS:
        text, colour, _line = LOOKS[part]
        share = shares[part].to_numpy()
        left = np.where(share < 0, behind, ahead)
        ax.barh(y, share, 0.65, left, color=colour, hatch=_HATCHES[part], edgecolor="white", label=text)
        ahead, behind = ahead + np.maximum(share, 0), behind + np.minimum(share, 0)
    names = [f"{name} (n = {n:,})" for name, n in zip(bands["band"], bands["n"], strict=True)]
    ax.set_yticks(y, names)
    for place, mean in zip(y, bands["end_to_end_s"], strict=True):
        ax.annotate(f"mean {seconds(mean)}", (1.02, place), xycoords=("axes fraction", "data"), va="center")
    ax.set(ylim=(len(bands) - 0.5, -0.5), xlim=(min(0.0, behind.min()), 1), xlabel="share of the end-to-end latency")
    ax.xaxis.set_major_formatter(PERCENT)
    ax.grid(axis="y", visible=False)
    return head(ax, "Where the time goes, from the fastest tasks to the slowest", legend=True)


def latency_over_time(tasks: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the end-to-end latency of finished tasks over the time they were enqueued at.

    Up to 2,000 tasks are points; of more a heat map says how many there are in each cell, and a line the median of each
    interval that carries one.
    """
    ax = axes_or_new(ax)
    took = durations_of(tasks)["end_to_end_s"]
    known = took.notna()
    took, enqueued_at, state = took[known], tasks["enqueued_at"][known], tasks["state"][known]
    if took.empty:
        return nothing(ax, _NO_LATENCY)
    title = f"End-to-end latency ({_count(took.to_numpy())})"
    edge = seconds_scale(ax, "y", took.to_numpy())
    took = took.clip(lower=edge)
    if len(took) <= _MAX_POINTS:
        looks = {"completed": ("completed", "o", BLUE), "dead_lettered": ("dead-lettered", "x", RED)}
        for name, (text, marker, colour) in looks.items():
            rows = state == name
            if rows.any():
                x = days(enqueued_at[rows])
                ax.scatter(x, took[rows], s=14, c=colour, marker=marker, label=text, rasterized=True)
    else:
        title += f", in intervals of {_draw_heat(ax, days(enqueued_at), took.to_numpy())}"
    time_axis(ax, days(enqueued_at), "enqueued at")
    return head(ax, title, legend=True)


def _draw_heat(ax: Axes, at: Values, took: Values) -> str:
    """Count the tasks in cells of time and latency and draw them in shades; return the length of an interval."""
    width_s = interval_s_for(float(at.max() - at.min()) * 86_400)
    column = ((at - at.min()) * 86_400 / width_s).astype(np.int64)
    scale = ax.yaxis.get_transform()
    low, high = scale.transform(np.array([max(took.min(), ax.get_ylim()[0]), ax.get_ylim()[1]]))
    row = np.clip((scale.transform(took) - low) / (high - low) * _N_HEIGHTS, 0, _N_HEIGHTS - 1).astype(np.int64)
    n = int(column.max()) + 1
    cells = np.bincount(column * _N_HEIGHTS + row, minlength=n * _N_HEIGHTS).reshape(n, _N_HEIGHTS).T
    heights = scale.inverted().transform(np.linspace(low, high, _N_HEIGHTS + 1))
    edges = at.min() + np.arange(n + 1) * width_s / 86_400
    most = max(2, int(cells.max()))
    drawn = ax.pcolormesh(
        edges, heights, np.ma.masked_equal(cells, 0), cmap=SHADES, norm=LogNorm(1, most), rasterized=True
    )
    bar = ax.figure.colorbar(drawn, ax=ax, pad=0.01, aspect=30)
    bar.set_label("tasks in a cell (log)")
    bar.ax.yaxis.set_major_formatter(NUMBER)
    # One after the other takes half as long as `lexsort`: of small numbers the second is a radix sort.
    order = np.argsort(took)
    order = order[np.argsort(column[order].astype(np.int16), kind="stable")]
    counts = np.bincount(column, minlength=n)
    middle = took[order][np.minimum(np.cumsum(counts) - counts + counts // 2, len(took) - 1)]
    middle[counts < needed(0.5)] = np.nan
    ax.plot((edges[:-1] + edges[1:]) / 2, middle, color=RED, linewidth=1.5, label="median of an interval")
    return seconds(width_s)


def _draw_censored(ax: Axes, observed: pd.DataFrame, edge: float) -> None:
    """Draw the curve that counts open tasks, with its pointwise interval; of many times, 2,001."""
    found = curve(observed)
    some = np.unique(np.linspace(0, len(found) - 1, 2001).astype(np.int64))
    x, share, low, high = (found[name].to_numpy()[some] for name in ("took_s", "share", "low", "high"))
    x = np.maximum(x, edge)
    ax.plot(x, share, color=PINK, drawstyle="steps-post", label="open tasks counted (Kaplan-Meier)")
    ax.fill_between(x, low, high, step="post", color=PINK, alpha=0.2, linewidth=0, label="its 95 % interval")


def _mark_percentiles(ax: Axes, total: Values, edge: float) -> None:
    """Mark the median, p90 and p99 of latencies in order, with their intervals, where the tasks carry them."""
    legible = {"fc": "white", "ec": "none", "alpha": 0.7, "pad": 0.5}
    for share, value in zip(SHARES, np.quantile(total, SHARES).tolist(), strict=True):
        [low], [high] = ranks(np.array([len(total)]), share)
        if low == 0:
            continue
        ends = np.maximum(total[[low - 1, high - 1]], edge)
        ax.hlines(share, *ends, color=BLACK, linewidth=4, alpha=0.5)
        ax.plot(max(value, edge), share, "o", color=BLACK, markersize=5)
        # End to end is the longest, so below and to the right of its curve there is room.
        text = f"p{100 * share:g} = {seconds(value)}"
        ax.annotate(text, (ends[1], share), (7, -3), textcoords="offset points", va="top", bbox=legible)
        leave_room(ax, ends[1])


def _largest_groups(frame: pd.DataFrame, by: str, most: int) -> tuple[list[tuple[str, NDArray[np.bool_]]], str]:
    """Return which rows are in each of the largest groups, in their own order, and a note where there are more."""
    key = group_key(frame, by)
    sizes = key.value_counts(sort=False)
    sizes = sizes[sizes > 0]
    kept = sizes.nlargest(most).index
    groups = [(str(name), (key == name).to_numpy()) for name in sizes.index if name in kept]
    return groups, f" (the {most} largest of {len(sizes)} groups)" if len(sizes) > most else ""


def _steps(values: Values, edge: float, n: int = 2001) -> tuple[Values, Values]:
    """Return the points of a curve of shares, of values in order: numpy's quantiles by "inverted_cdf"."""
    share = np.linspace(0, 1, n)
    place = np.maximum(np.ceil(len(values) * share - 1), 0).astype(np.int64)
    return np.maximum(values[place], edge), share


def _count(values: Values) -> str:
    """Count durations for a title; a negative one, a sign of skewed clocks, must not pass unseen."""
    n_negative = int((values < 0).sum())
    return f"n = {len(values):,}" + (f", {n_negative:,} of them negative" if n_negative else "")
