"""The figure of a bill: what a million tasks cost in each setup, by who is paid for what."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from taskq_lib.analysis import require
from taskq_lib.plot_axes import BLACK, BLUE, GREEN, ORANGE, PINK, RED, axes_or_new, head, label, nothing

#: Groups of items by how these begin, in the order in which they are stacked, with colour and hatching.
_GROUPS = {
    "DynamoDB: write": ("DynamoDB writes", BLUE, ""),
    "DynamoDB": ("DynamoDB reads and storage", "#56B4E9", "//"),
    "SQS": ("SQS", ORANGE, ""),
    "Lambda": ("Lambda", GREEN, ""),
    "Logs": ("logs", PINK, "//"),
    "CloudWatch": ("metrics, alarms, dashboard", RED, ".."),
}
_USD = FuncFormatter(lambda value, _: f"\\${value:,.3g}")


def cost_by_alternative(alternatives: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Stack the items of a million tasks for each `alternative`, from `bill.priced` frames put together.

    The bars show the least; a line goes to the most where an assumption leaves a range.
    """
    require(alternatives, "alternatives", "alternative", "item", "usd_per_million", "usd_per_million_high")
    names = list(alternatives["alternative"].unique())
    ax = axes_or_new(ax, height=1.7 + 0.38 * max(len(names), 3))
    if not names:
        return nothing(ax, "No cost to draw: no task was priced.")
    group = alternatives["item"].map(_group_of)
    least = alternatives.pivot_table(
        index="alternative", columns=group, values="usd_per_million", aggfunc="sum", observed=True
    ).reindex(index=names)
    sums = alternatives.groupby("alternative", observed=True)[["usd_per_million", "usd_per_million_high"]].sum()
    low, high = (sums[name].reindex(names).to_numpy() for name in ("usd_per_million", "usd_per_million_high"))
    y, left = np.arange(len(names)), np.zeros(len(names))
    for text, colour, hatch in _GROUPS.values():
        if text in least.columns and (widths := least[text].fillna(0).to_numpy()).any():
            ax.barh(y, widths, left=left, color=colour, hatch=hatch, edgecolor="white", height=0.7, label=text)
            left = left + widths
    ax.hlines(y, low, high, color=BLACK, linewidth=2)
    for at, (from_, to) in enumerate(zip(low, high, strict=True)):
        texts = dict.fromkeys((f"\\${from_:,.2f}", f"\\${to:,.2f}"))
        ax.annotate(" to ".join(texts), (to, at), (6, 0), textcoords="offset points", va="center")
    ax.set(xlim=(0, float(high.max()) * 1.28 or 1), ylim=(len(names) - 0.5, -0.5))
    ax.set_yticks(y, [label(name) for name in names])
    ax.set_xlabel("US dollars for a million tasks, before free tiers")
    ax.xaxis.set_major_formatter(_USD)
    ax.grid(axis="y", visible=False)
    head(ax, "What a million tasks cost, as it is and with one thing changed", legend=False)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.22, 1), ncols=3, borderaxespad=0.1, columnspacing=1.2)
    ax.set_title(ax.get_title(loc="left"), loc="left", pad=46, x=-0.22)
    return ax


def _group_of(item: str) -> str:
    return next(text for start, (text, _colour, _hatch) in _GROUPS.items() if item.startswith(start))
