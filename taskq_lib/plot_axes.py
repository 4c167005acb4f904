"""What the figures of `taskq_lib.plots` share: colours, titles, labels, and axes of seconds, of time and of groups."""

import sys
from collections.abc import Sequence
from datetime import UTC
from typing import Literal

import matplotlib.dates as mdates
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

# The palette of M. Okabe and K. Ito, "Color Universal Design" (2008): told apart with any colour vision.
BLACK, ORANGE, GREEN, BLUE, RED, PINK = "#000000", "#E69F00", "#009E73", "#0072B2", "#D55E00", "#CC79A7"

#: Numbers on an axis: thousands separated, never in powers of ten; and shares.
NUMBER = FuncFormatter(lambda value, _: f"{value:,.10g}")
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.3g} %")

#: From few to many, in one hue: darker is more, in print and with any colour vision.
SHADES = LinearSegmentedColormap.from_list("shades", ["#E3EEF6", BLUE, "#00243B"])

#: How each duration is called and drawn; the line styles tell them apart in grey as well.
LOOKS = {
    "queue_wait_s": ("queue wait", BLUE, "--"),
    "processing_s": ("processing time", ORANGE, "-."),
    "retry_delay_s": ("retry delay", RED, ":"),
    "end_to_end_s": ("end-to-end latency", BLACK, "-"),
}

#: Inches above small multiples, for their title, and below them, for the scale, its label and the legend.
_ABOVE, _BELOW = 0.62, 0.88

#: A label from outside is cut to so many characters.
_MAX_LABEL = 40


def style() -> None:
    """Set matplotlib's defaults for all figures: colours safe for colour blindness, a quiet grid, report fonts."""
    plt.rcParams.update({"figure.dpi": 120, "savefig.dpi": 120, "legend.frameon": False})
    plt.rcParams.update({"font.size": 10.5, "axes.titlesize": 11.5, "axes.titleweight": "bold"})
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    plt.rcParams.update({"axes.grid": True, "axes.axisbelow": True, "grid.color": "#DDDDDD"})
    plt.rcParams.update({"axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, RED, PINK, BLACK])})
    _draw_once()


def _draw_once() -> None:
    """Let notebooks show figures as they are: to crop them, IPython would lay out and measure each a second time."""
    if "IPython" in sys.modules:
        from IPython import get_ipython  # noqa: PLC0415 - commands draw without it

        if (shell := get_ipython()) is not None:
            shell.config.InlineBackend.print_figure_kwargs = {"bbox_inches": None}


def describe(ax: Axes) -> str:
    """Say in a sentence, for a reader who cannot see the figure, what it shows on which axes, or why it is empty."""
    title = ax.get_title(loc="left").replace("\n", " ")
    if not title:
        return " ".join(text.get_text() for text in ax.texts)
    axes = [f"{name}: {label}" for name, label in (("across", ax.get_xlabel()), ("up", ax.get_ylabel())) if label]
    # What small multiples have in common is said once, before the first.
    figure = ax.get_figure(root=True)
    if figure is not None and figure.get_suptitle() and ax is figure.axes[0]:
        shared = figure.get_suptitle().replace("\n", " ")
        title = f"{shared}; across: {figure.get_supxlabel()}; up: {figure.get_supylabel()}. {title}"
    return "; ".join([title, *axes]) + "."


def axes_or_new(ax: Axes | None, height: float = 4.0) -> Axes:
    """Give `ax`, or the axes of a new figure of report width, 8 inches, and of `height` inches."""
    return ax if ax is not None else plt.subplots(figsize=(8, height), layout="constrained")[1]


def panels(counts: Sequence[int], columns: int, height: float) -> list[Axes]:
    """Give axes for small multiples, `columns` side by side and sharing both scales; each count begins a row.

    They are placed by hand: to lay out and measure a dozen axes takes matplotlib a second.
    """
    rows = [-(-count // columns) for count in counts]
    figure_height = _ABOVE + _BELOW + height * sum(rows)
    placed = {"left": 0.1, "right": 0.985, "wspace": 0.08, "hspace": 0.42}
    size = (8, figure_height)
    grid = plt.subplots(sum(rows), columns, sharex=True, sharey=True, squeeze=False, figsize=size, gridspec_kw=placed)[
        1
    ]
    used: list[Axes] = []
    for count, n_rows in zip(counts, rows, strict=True):
        cells, grid = grid[:n_rows].ravel().tolist(), grid[n_rows:]
        used += cells[:count]
        for ax in cells[count:]:
            ax.remove()
    return used


def head_panels(used: Sequence[Axes], title: str, x: str, y: str) -> None:
    """Set the title, the legend and the labels that small multiples share; of what one lacks another has the label."""
    figure = used[0].get_figure(root=True)
    if figure is None:
        raise ValueError("these axes were removed from their figure")
    named = dict(pair for ax in used for pair in zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    below = _BELOW + 0.22 * (-(-len(named) // 4) - 1)
    height = figure.get_figheight() - _BELOW + below
    figure.set_figheight(height)
    figure.subplots_adjust(top=1 - _ABOVE / height, bottom=below / height)
    figure.suptitle(title, x=0.01, y=1 - 0.08 / height, ha="left", va="top", fontweight="bold", fontsize=11.5)
    figure.supxlabel(x, y=(below - 0.55) / height, va="bottom", fontsize=10.5)
    figure.supylabel(y, x=0.005, fontsize=10.5)
    figure.legend(named.values(), named, loc="lower left", bbox_to_anchor=(0.005, 0), ncols=4, columnspacing=1.2)


def nothing(ax: Axes, sentence: str) -> Axes:
    """Say on otherwise empty axes why they are empty."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, sentence, transform=ax.transAxes, ha="center", va="center", wrap=True)
    return ax


def head(ax: Axes, title: str, *, legend: bool = False, columns: int = 4) -> Axes:
    """Set the title and, between it and the axes, where no data can be, the legend in rows of so many columns."""
    n_rows = 0
    if legend:
        n_rows = -(-len(ax.get_legend_handles_labels()[1]) // columns)
        beside = {"ncols": columns, "borderaxespad": 0.1, "borderpad": 0.2, "columnspacing": 1.4, "labelspacing": 0.3}
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), **beside)
    ax.set_title(title, loc="left", pad=8 + 18 * n_rows)
    return ax


def label(text: str) -> str:
    """Make text from outside fit to be a label: one short line, without the `$` that would start a formula."""
    line = "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
    return (line if len(line) <= _MAX_LABEL else line[: _MAX_LABEL - 1] + "…").replace("$", r"\$")


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


def time_axis(ax: Axes, at: NDArray[np.float64], name: str, n_ticks: int = 9) -> None:
    """Make the horizontal axis one of time (`at` in days) in UTC, whatever the machine's zone is."""
    locator = mdates.AutoDateLocator(tz=UTC, minticks=5 if n_ticks > 5 else 2, maxticks=n_ticks)  # type: ignore[no-untyped-call]
    # Its own steps leave two marks in nine minutes.
    locator.intervald |= {mdates.MINUTELY: [1, 2, 5, 10, 15, 30], mdates.SECONDLY: [1, 2, 5, 10, 15, 30]}
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
