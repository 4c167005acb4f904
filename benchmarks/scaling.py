"""How rate and memory grow with the number of tasks or items and with the batch size, on log-log axes.

Submitting, reading and the function run against the null endpoint without latency, so that only the kit's own cost
shows; a straight line is a cost that grows in proportion, a bend is a knee. Reading and the function are measured at
all sizes in turn, three times, of which the median counts. Concurrency is a benchmark of its own.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from benchmarks import analysis, function, status, submit
from benchmarks.table import Row
from taskq_lib import PROJECT_ROOT
from taskq_lib.plot_axes import BLUE, ORANGE, style

FIGURES = ("scaling.png",)
SIZES = (1_000, 10_000, 100_000, 1_000_000)
BATCHES = (1, 2, 5, 10, 25, 100, 1_000)
N_ROUNDS = 3

Points = Sequence[tuple[float, float]]


def main() -> list[Row]:
    """Measure each at every size, draw them, and compare the rate at each size with the best rate of a smaller one."""
    style()
    figure, axes = plt.subplots(2, 3, figsize=(11, 6.2), layout="constrained")
    submitted = [(n, submit.rate(n, 0.0)) for n in SIZES]
    reads = [[status.rate(n) for n in SIZES] for _ in range(N_ROUNDS)]
    read = [
        (n, *(statistics.median(values) for values in zip(*found, strict=True)))
        for n, *found in zip(SIZES, *reads, strict=True)
    ]
    costs = [[function.cpu_us(size) for size in BATCHES] for _ in range(N_ROUNDS)]
    handled = [(size, 1e6 / statistics.median(us)) for size, *us in zip(BATCHES, *costs, strict=True)]
    analysed = [(n, *analysis.measure(n)) for n in SIZES]
    rates: dict[str, Points] = {
        "submitted": submitted,
        "read into frames": [(n, rate) for n, rate, _ in read],
        "handled": handled,
        "analysed": [(n, n / seconds) for n, seconds, _ in analysed],
    }
    memory: dict[str, Points] = {
        "read into frames": [(n, peak / 1e6) for n, _, peak in read],
        "analysed": [(n, peak / 1e6) for n, _, peak in analysed],
    }
    across = {"submitted": "tasks", "read into frames": "items", "handled": "batch size", "analysed": "tasks"}
    panels = iter(axes.flat)
    for name, points in rates.items():
        _draw(next(panels), name, points, across[name], "per second" if name != "handled" else "tasks per CPU second")
    for name, points in memory.items():
        _draw(next(panels), f"{name}: peak memory", points, across[name], "MB", ORANGE)
    figure.savefig(PROJECT_ROOT / "docs" / FIGURES[0], dpi=110)
    plt.close(figure)
    return [row for name, points in rates.items() for row in _against_smaller(name, points, across[name])]


def _against_smaller(name: str, points: Points, what: str) -> list[Row]:
    """Compare the rate at each size with that at the size before: below 1 by much, there is a knee between."""
    return [
        Row(
            work=f"{name}, {what} {large:,.0f}", unit="per second", ours=after, better="higher",
            peer=f"{what} {small:,.0f}", theirs=before,
        )
        for (small, before), (large, after) in itertools.pairwise(points)
    ]  # fmt: skip


def _draw(ax: Axes, title: str, points: Points, x: str, y: str, colour: str = BLUE) -> None:
    ax.loglog(*zip(*points, strict=True), "o-", color=colour)
    for n, value in points:
        ax.annotate(f"{value:,.0f}", (n, value), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    ax.yaxis.set_minor_formatter(NullFormatter())
    values = [value for _, value in points]
    # A decade at least, so that noise does not look like a slope.
    middle = (min(values) * max(values)) ** 0.5
    ax.set_ylim(min(min(values) / 1.5, middle / 3.2), max(max(values) * 2, middle * 3.2))
    ax.set(title=title, xlabel=x, ylabel=y)
