"""The control room: what a queue did, in five panels on one axis of time.

What CloudWatch published, where an endpoint does publish, is drawn over what was counted from the tasks themselves.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
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
    days,
    head,
    nothing,
    time_axis,
)

#: A run's samples are drawn as points while they can be told apart.
_MAX_POINTS = 60
#: A share of fewer attempts than these is drawn in grey: one failure of one is no outage.
_FEW = 10


def control_room(
    timeline: pd.DataFrame,
    samples: pd.DataFrame | None = None,
    metrics: pd.DataFrame | None = None,
    ax: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Draw backlog, age of the oldest, throughput, failures and concurrency, from `monitor.timeline`; the five axes.

    `samples` (at, n_visible, n_in_flight) are drawn into the first panel, and of `metrics` (metric, resource, at,
    value) the age of the queues' oldest message, the throttles and the function's concurrency into theirs, where there
    are any.
    """
    require(timeline, "timeline", "at", "interval_s", "backlog", "oldest_s", "failed_share", "invocations")
    if ax is None:
        heights = [1.5, 1, 1.3, 1, 1]
        ax = plt.subplots(5, 1, sharex=True, figsize=(8, 10), height_ratios=heights, layout="constrained")[1]
    panels = list(ax)
    if timeline.empty:
        return [nothing(panel, "No course to draw: nothing was sent or finished at a known time.") for panel in panels]
    start, width_s = days(timeline["at"]), float(timeline["interval_s"].iloc[0])
    edges = np.append(start, start[-1] + width_s / 86_400)
    for draw, panel in zip((_backlog, _age, _throughput, _failures, _concurrency), panels, strict=True):
        draw(panel, timeline, edges)
    if samples is not None and len(samples):
        _sampled(panels[0], samples)
    if metrics is not None and len(metrics):
        _published(panels, metrics)
    for panel, title in zip(panels, _titles(timeline, width_s), strict=True):
        head(panel, title, legend=True)
        panel.set_ylim(bottom=0)
        panel.set_ylim(top=max(panel.get_ylim()[1], 0.001))
    panels[3].set_ylim(0, _ceiling(timeline))
    time_axis(panels[-1], edges, "time")
    return panels


def _backlog(ax: Axes, timeline: pd.DataFrame, edges: NDArray[np.float64]) -> None:
    backlog = np.append(0, timeline["backlog"])
    ax.fill_between(edges, backlog, color=BLUE, alpha=0.2, linewidth=0)
    ax.plot(edges, backlog, color=BLUE, label="backlog")
    ax.plot(edges[1:], timeline["in_flight"], color=ORANGE, linestyle="--", label="being processed")
    _number_axis(ax, "tasks")


def _age(ax: Axes, timeline: pd.DataFrame, edges: NDArray[np.float64]) -> None:
    ax.plot(edges[1:], timeline["oldest_s"], color=RED, label="oldest task that has not started")
    _number_axis(ax, "seconds")


def _throughput(ax: Axes, timeline: pd.DataFrame, edges: NDArray[np.float64]) -> None:
    ax.stairs(timeline["throughput"], edges, fill=True, color=GREEN, alpha=0.35, label="finished (attempts)")
    ax.stairs(timeline["goodput"], edges, color=GREEN, linewidth=1.5, label="completed (tasks)")
    ax.stairs(timeline["offered"], edges, color=BLACK, linestyle="--", label="sent (tasks)")
    _number_axis(ax, "per second")


def _failures(ax: Axes, timeline: pd.DataFrame, edges: NDArray[np.float64]) -> None:
    share, few = timeline["failed_share"].fillna(0), timeline["n_ended"] < _FEW
    ax.stairs(share.mask(few, 0), edges, fill=True, color=RED, alpha=0.5, label="failed attempts")
    if share[few].any():
        text = f"of fewer than {_FEW} that ended"
        ax.stairs(share.where(few, 0), edges, fill=True, color="#DDDDDD", label=text)
    ax.set_ylabel("share of ended")
    ax.yaxis.set_major_formatter(PERCENT)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=4))


def _concurrency(ax: Axes, timeline: pd.DataFrame, edges: NDArray[np.float64]) -> None:
    ax.stairs(timeline["tasks_running"], edges, fill=True, color=ORANGE, alpha=0.3, label="tasks running")
    ax.stairs(timeline["invocations"], edges, color=BLUE, linewidth=1.5, label="invocations")
    _number_axis(ax, "mean at a time")


def _sampled(ax: Axes, samples: pd.DataFrame) -> None:
    """Draw the queue as SQS counted it."""
    at = days(samples["at"])
    mark = "." if len(samples) <= _MAX_POINTS else ""
    for name, colour, label in (("n_visible", BLACK, "visible (SQS)"), ("n_in_flight", PINK, "in flight (SQS)")):
        ax.plot(at, samples[name].astype("float64"), color=colour, marker=mark, linewidth=1, label=label)


def _published(panels: Sequence[Axes], metrics: pd.DataFrame) -> None:
    """Draw what CloudWatch published of the age of the oldest message, of throttles and of concurrency."""
    for name, resources, panel, label in (
        # A dead letter is days old, and nobody waits for it.
        ("ApproximateAgeOfOldestMessage", ("queue", "second queue"), panels[1], "oldest message (CloudWatch)"),
        ("ConcurrentExecutions", ("function",), panels[4], "concurrency (CloudWatch, maximum)"),
    ):
        rows = metrics[(metrics["metric"] == name) & metrics["resource"].isin(resources)]
        if len(rows):
            highest = rows.groupby("at", as_index=False)["value"].max()
            panel.plot(days(highest["at"]), highest["value"], "D", color=BLACK, markersize=4, label=label)
    throttled = metrics[(metrics["metric"] == "Throttles") & (metrics["value"] > 0)]
    if len(throttled):
        # Marks, since a count has no height on an axis of shares.
        label = f"throttles: {throttled['value'].sum():,.0f} (CloudWatch)"
        height, on_top = [0.93] * len(throttled), panels[3].get_xaxis_transform()
        panels[3].plot(days(throttled["at"]), height, "v", color=BLACK, markersize=5, label=label, transform=on_top)


def _titles(timeline: pd.DataFrame, width_s: float) -> list[str]:
    backlog, oldest = timeline["backlog"], timeline["oldest_s"].max()
    n_failed, n_ended = int(timeline["n_failed"].sum()), int(timeline["n_ended"].sum())
    return [
        f"Backlog: at most {backlog.max():,}, at the end {backlog.iloc[-1]:,}",
        f"Age: the oldest task waited {seconds(oldest)} for its start",
        f"Throughput, in intervals of {seconds(width_s)}",
        f"Failures: {n_failed:,} of {n_ended:,} attempts",
        f"Concurrency: at most {timeline['invocations'].max():,.3g} invocations at a time",
    ]


def _ceiling(timeline: pd.DataFrame) -> float:
    """Return a height for shares: a few percent must be seen, none must not look like many, and few count for less."""
    shares = timeline["failed_share"].where(timeline["n_ended"] >= _FEW).dropna()
    highest = shares.max() if len(shares) else timeline["failed_share"].fillna(0).max()
    return float(min(1.0, max(0.05, 1.25 * highest)))


def _number_axis(ax: Axes, label: str) -> None:
    ax.set_ylabel(label)
    ax.yaxis.set_major_formatter(NUMBER)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=4))
