"""What the figures of `taskq_lib.plots` share: colours, titles, labels, and axes of seconds, of time and of groups."""

from collections.abc import Sequence
from datetime import UTC
from typing import Literal

import matplotlib.dates as mdates
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

# The palette of M. Okabe and K. Ito, "Color Universal Design" (2008): told apart with any colour vision.
BLACK, ORANGE, GREEN, BLUE, RED, PINK = "#000000", "#E69F00", "#009E73", "#0072B2", "#D55E00", "#CC79A7"

#: Numbers on an axis: thousands separated, never in powers of ten; and shares.
NUMBER = FuncFormatter(lambda value, _: f"{value:,.10g}")
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.3g} %")

#: A label from outside is cut to so many characters.
_MAX_LABEL = 40


def style() -> None:
    """Set matplotlib's defaults for all figures: colours safe for colour blindness, a quiet grid, report fonts."""
    plt.rcParams.update({"figure.dpi": 120, "savefig.dpi": 120, "legend.frameon": False})
    plt.rcParams.update({"font.size": 10.5, "axes.titlesize": 11.5, "axes.titleweight": "bold"})
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    plt.rcParams.update({"axes.grid": True, "axes.axisbelow": True, "grid.color": "#DDDDDD"})
    plt.rcParams.update({"axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, RED, PINK, BLACK])})


def describe(ax: Axes) -> str:
    """Say in a sentence, for a reader who cannot see the figure, what it shows on which axes, or why it is empty."""
    title = ax.get_title(loc="left").replace("\n", " ")
    if not title:
        return " ".join(text.get_text() for text in ax.texts)
    axes = [f"{name}: {label}" for name, label in (("across", ax.get_xlabel()), ("up", ax.get_ylabel())) if label]
    return "; ".join([title, *axes]) + "."


def axes_or_new(ax: Axes | None, height: float = 4.0) -> Axes:
    """Give `ax`, or the axes of a new figure of report width, 8 inches, and of `height` inches."""
    return ax if ax is not None else plt.subplots(figsize=(8, height), layout="constrained")[1]


def nothing(ax: Axes, sentence: str) -> Axes:
    """Say on otherwise empty axes why they are empty."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, sentence, transform=ax.transAxes, ha="center", va="center", wrap=True)
    return ax


def head(ax: Axes, title: str, *, legend: bool = False) -> Axes:
    """Set the title and, between it and the axes, where no data can be, the legend in one row."""
    if legend:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.1, borderpad=0.2, columnspacing=1.4)
    ax.set_title(title, loc="left", pad=26 if legend else 8)
    return ax


def label(text: str) -> str:
    """Make text from outside fit to be a label: one short line, without the `$` that would start a formula."""
    line = "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
    return (line if len(line) <= _MAX_LABEL else line[: _MAX_LABEL - 1] + "…").replace("$", r"\$")


def seconds(value: float) -> str:
    """Write a duration with three digits and its unit."""
    return f"{value:,.0f} s" if abs(value) >= 100 else f"{value:.3g} s"


def seconds_scale(ax: Axes, which: Literal["x", "y"], values: NDArray[np.float64]) -> float:
    """Scale and label an axis for these durations: logarithmic if they span nearly two decades, else linear from 0.

    Returns the smallest value that can be drawn; what is smaller has to be drawn there.
    """
    axis = ax.xaxis if which == "x" else ax.yaxis
    set_limits = ax.set_xlim if which == "x" else ax.set_ylim
    positive = values[values > 0]
    # A few tiny values must not stretch the axis over decades that are empty otherwise.
    highest = float(positive.max()) if positive.size else 0.0
    lowest = float(np.quantile(positive, 0.005, overwrite_input=True)) if positive.size else 0.0
    if positive.size and highest >= 50 * lowest:
        edge = lowest / 1.25
        ax.set(**{f"{which}scale": "log", f"{which}label": "seconds (log; shorter ones at the edge)"})
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest < 1000 * edge else (1,)))
        axis.set_minor_formatter(NullFormatter())
        set_limits(edge, highest * 1.25)
    else:
        edge = -np.inf
        ax.set(**{f"{which}label": "seconds"})
        set_limits(min(0.0, float(values.min())) * 1.05, max(0.0, float(values.max())) * 1.05 or 1)
    axis.set_major_formatter(NUMBER)
    return edge


def leave_room(ax: Axes, value: float) -> None:
    """Extend the horizontal axis until the label beside `value` fits."""
    scale = ax.xaxis.get_transform()
    left, right, here = scale.transform([*ax.get_xlim(), value])
    ax.set_xlim(right=float(scale.inverted().transform([max(right, left + (here - left) / 0.84)])[0]))


def days(times: "pd.Series[pd.Timestamp]") -> NDArray[np.float64]:
    """Give timestamps as matplotlib counts them by default: in days since 1970, UTC."""
    return np.asarray(times.dt.as_unit("us").astype("int64"), dtype=np.float64) / 86_400e6


def time_axis(ax: Axes, at: NDArray[np.float64], name: str) -> None:
    """Make the horizontal axis one of time (`at` in days) in UTC, whatever the machine's zone is."""
    locator = mdates.AutoDateLocator(tz=UTC, maxticks=9)  # type: ignore[no-untyped-call]
    ax.xaxis.set_major_locator(locator)
    formatter = mdates.ConciseDateFormatter(locator, tz=UTC)  # type: ignore[no-untyped-call]
    # Its own labels for seconds are "05", "10", which say nothing without the corner of the figure.
    formatter.formats[-1] = "%H:%M:%S.%f"
    formatter.offset_formats = ["", "%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%d", "%Y-%m-%d"]
    ax.xaxis.set_major_formatter(formatter)
    # A single instant gets a minute around it; matplotlib itself would show four years.
    margin = 0.02 * (at.max() - at.min()) or 30 / 86_400
    ax.set(xlabel=f"{name} (UTC)", xlim=(at.min() - margin, at.max() + margin))


def group_axis(ax: Axes, groups: Sequence[str], n: Sequence[int]) -> None:
    """Name the groups from the top down on the vertical axis, each with its number of tasks."""
    ax.set_yticks(range(len(groups)), [f"{label(name)} (n = {count:,})" for name, count in zip(groups, n, strict=True)])
    ax.set_ylim(len(groups) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
