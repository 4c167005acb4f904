"""Figures of what happens when: how tasks flow through the queue, and what failed, with the events that explain it."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from taskq_lib.analysis import require, seconds
from taskq_lib.plot_axes import (
    BLACK,
    BLUE,
    GREEN,
    NUMBER,
    ORANGE,
    PERCENT,
    PINK,
    RED,
    axes_or_new,
    days,
    head,
    head_panels,
    label,
    nothing,
    panels,
    time_axis,
)

#: How each kind of event is marked; the line styles tell them apart in grey as well.
MARKS = {
    "deploy": (BLACK, "-"),
    "pause": (PINK, "--"),
    "resume": (PINK, ":"),
    "redrive": (BLUE, "-."),
    "breaker": (ORANGE, "--"),
}
#: More panels of one kind than this cannot be read; the groups with most attempts are drawn, and the title says so.
_MAX_PANELS, _N_COLUMNS = 6, 2
#: What fewer attempts than these say does not set the scale.
_FEW = 10
#: An event may lie outside the time that is drawn by so much of it and is drawn all the same.
_MARGIN = 0.1


def cumulative_flow(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how many tasks had come, begun and ended at each time, from `throughput.cumulative`.

    The height of a band is how many tasks are in that state, its breadth about how long they stay there.
    """
    require(frame, "frame", "at", "enqueued", "started", "final", "completed")
    ax = axes_or_new(ax)
    if frame.empty:
        return nothing(ax, "No flow to draw: nothing was sent or finished at a known time.")
    at = days(frame["at"])
    bands = [
        ("completed", "final", RED, "xx", "dead-lettered"),
        ("final", "started", ORANGE, "//", "in progress or retrying"),
        ("started", "enqueued", BLUE, "", "waiting"),
    ]
    ax.fill_between(at, frame["completed"], color=GREEN, alpha=0.35, linewidth=0, label="completed")
    for low, high, colour, hatch, text in bands:
        lower, upper = frame[low].to_numpy(), frame[high].to_numpy()
        above = upper >= lower
        ax.fill_between(
            at, lower, upper, where=above.tolist(), facecolor=colour, alpha=0.45, hatch=hatch, edgecolor="white",
            linewidth=0, label=text,
        )  # fmt: skip
    ax.plot(at, frame["enqueued"], color=BLACK, linewidth=1)
    ax.plot(at, frame["final"], color=BLACK, linewidth=1)
    last = frame.iloc[-1]
    ax.set(ylim=(0, 1.05 * max(1, frame[["enqueued", "final"]].to_numpy().max())), ylabel="tasks")
    ax.yaxis.set_major_formatter(NUMBER)
    time_axis(ax, at, "time")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    title = f"Cumulative flow (n = {last['enqueued']:,}); {last['enqueued'] - last['final']:,} open at the end"
    if (frame["final"] > frame["enqueued"]).any():
        title += "\n(where more have ended than have come, clocks disagree)"
    return head(ax, title, legend=True)


def failures_over_time(parts: Mapping[str, pd.DataFrame], marks: pd.DataFrame) -> list[Axes]:
    """Draw the share of attempts that failed over time, for each group of each part in a panel of its own.

    `parts` are frames of `failures.over_time` by what their groups are called ("" for all attempts, "priority", ...);
    `marks` (at, kind, what) are the events that are drawn as lines. The shade is the 95 % interval (Wilson) of each
    interval of time. At most six panels a part. Returns the axes of the panels.
    """
    require(marks, "marks", "at", "kind", "what")
    # Where there is one group alone, its panel would be that of all attempts.
    parts = {by: frame for by, frame in parts.items() if len(frame) and (not by or frame["group"].nunique() > 1)}
    if not parts:
        return [nothing(axes_or_new(None), "No failure rate to draw: no attempt has ended at a known time.")]
    each = [(by, *one) for by, frame in parts.items() for one in _largest(frame)]
    used = panels([len(each)], min(_N_COLUMNS, len(each)), 1.35)
    start = np.concatenate([days(frame["at"]) for frame in parts.values()])
    width_s = float(next(iter(parts.values()))["interval_s"].iloc[0])
    end = start.max() + width_s / 86_400
    first = min(frame["at"].iloc[0] for frame in parts.values())
    margin = _MARGIN * (end - start.min())
    at = days(marks["at"])
    seen = marks[(at >= start.min() - margin) & (at <= end + margin)]
    for ax, (by, group, frame) in zip(used, each, strict=True):
        _draw_rate(ax, frame, width_s)
        for kind, (colour, line) in MARKS.items():
            for when in days(seen.loc[seen["kind"] == kind, "at"]):
                ax.axvline(when, color=colour, linestyle=line, linewidth=1.3, label=kind)
        title = f"{f'{by} ' if by else ''}{label(group)} (n = {frame['n_ended'].sum():,})"
        ax.set_title(title, loc="left", fontsize=9.5, fontweight="normal")
    sure = [float(frame.loc[frame["n_ended"] >= _FEW, "high"].max()) for frame in parts.values()]
    highest = np.nanmax([0.0, *sure]) or 1.0
    used[0].set_ylim(0, min(1.0, max(0.05, 1.05 * highest)))
    used[0].yaxis.set_major_formatter(PERCENT)
    time_axis(used[0], np.concatenate([start, [end], days(seen["at"])]), "time", n_ticks=5)
    used[0].set_xlabel("")
    for ax in used:
        ax.xaxis.get_offset_text().set_visible(False)
    title, when = f"Failed attempts, in intervals of {seconds(width_s)}", f"time (UTC), {first:%Y-%m-%d}"
    head_panels(used, title, when, "share of ended attempts")
    return used


def _draw_rate(ax: Axes, frame: pd.DataFrame, width_s: float) -> None:
    """Draw the share of each interval as a step, where it is of ten or more, and its 95 % interval as a shade."""
    edges = np.append(days(frame["at"]), days(frame["at"])[-1] + width_s / 86_400)
    low, high, rate = (np.append(frame[name], frame[name].iloc[-1]) for name in ("low", "high", "failure_rate"))
    known: NDArray[np.bool_] = ~np.isnan(rate)
    ax.fill_between(
        edges, low, high, where=known.tolist(), step="post", color=RED, alpha=0.2, linewidth=0, label="95 % interval"
    )
    # A step ends where the next one begins, also where that one is not drawn.
    ax.stairs(frame["failure_rate"].where(frame["n_ended"] >= _FEW), edges, color=RED, linewidth=1.5, baseline=None)
    ax.plot([], [], color=RED, label=f"failed or lost, of {_FEW} or more")


def _largest(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the groups with the most ended attempts, in their own order."""
    sizes = frame.groupby("group", sort=False)["n_ended"].sum()
    kept = sizes.nlargest(_MAX_PANELS).index
    return [(str(name), rows) for name, rows in frame.groupby("group", sort=False) if name in kept]
