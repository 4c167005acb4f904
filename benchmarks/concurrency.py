"""How the rate of a drain grows with the batches at a time and with their size, for no-op tasks and tasks of 100 ms.

Each point is a stack of its own; the tasks of a batch run side by side, so that the ceiling of 100 ms tasks is ten a
second for each place in a batch. No-op tasks show what the engine and this machine do at most.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from benchmarks.drain import TASK_S, delete, deploy, drained, rate, running_engine
from benchmarks.table import Row
from taskq_lib import PROJECT_ROOT
from taskq_lib.plot_axes import BLACK, BLUE, NUMBER, ORANGE, head, style

FIGURES = ("concurrency.png",)
CONCURRENCIES, BATCH_SIZES = (2, 3, 5, 10), (1, 2, 5, 10, 100)
#: What is held while the other grows.
CONCURRENCY, BATCH_SIZE = 5, 10
N_NO_OP, TIMED_S = 1_500, 6


def main() -> list[Row]:
    """Measure both and draw them; about three minutes."""
    with running_engine():
        found = {
            (concurrency, batch_size): rates(concurrency, batch_size)
            for concurrency, batch_size in dict.fromkeys(
                [(one, BATCH_SIZE) for one in CONCURRENCIES] + [(CONCURRENCY, one) for one in BATCH_SIZES]
            )
        }
    draw(found)
    return [
        row("batches at a time", [found[one, BATCH_SIZE] for one in CONCURRENCIES], CONCURRENCIES),
        row("tasks a batch", [found[CONCURRENCY, one] for one in BATCH_SIZES[:-1]], BATCH_SIZES[:-1]),
    ]


def rates(concurrency: int, batch_size: int) -> tuple[float, float]:
    """Drain both kinds of tasks; returns tasks a second, no-op and of 100 ms, each from first start to last finish."""
    parameters = {"MaximumConcurrency": concurrency, "BatchSize": batch_size}
    live = deploy(f"c{concurrency}b{batch_size}", {**parameters, "BatchWindowSeconds": int(batch_size > 10)})
    # All of them at work once, so that none starts cold within what is measured.
    drained(live, 10 * concurrency, "warm", TASK_S)
    n_timed = min(2_000, round(TIMED_S * concurrency * batch_size / TASK_S))
    found = tuple(
        rate(drained(live, n_tasks, name, task_s), "first_started_at")
        for name, n_tasks, task_s in (("no-op", N_NO_OP, 0.0), ("timed", n_timed, TASK_S))
    )
    delete(live)
    return found[0], found[1]


def row(what: str, found: Sequence[tuple[float, float]], sizes: Sequence[int]) -> Row:
    """Compare the growth of the rate of 100 ms tasks with that of `sizes`."""
    return Row(
        work=f"tasks of 100 ms, {sizes[0]} to {sizes[-1]} {what}", unit="tasks/s", ours=found[-1][1],
        peer="in proportion", theirs=found[0][1] * sizes[-1] / sizes[0], better="higher",
        why=f"No-op tasks: {found[0][0]:,.0f} to {found[-1][0]:,.0f}/s, which bounds it on this machine.",
    )  # fmt: skip


def draw(found: dict[tuple[int, int], tuple[float, float]]) -> None:
    """Draw the rates against either, both axes logarithmic, beside the ceiling of the 100 ms tasks."""
    style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4), sharey=True, layout="constrained")
    panel(left, [(one, found[one, BATCH_SIZE], one * BATCH_SIZE) for one in CONCURRENCIES])
    head(left, f"Batches of {BATCH_SIZE}", legend=True)
    left.set(xlabel="batches at a time (MaximumConcurrency)", ylabel="tasks a second")
    panel(right, [(one, found[CONCURRENCY, one], CONCURRENCY * one) for one in BATCH_SIZES])
    right.set_title(f"{CONCURRENCY} batches at a time", loc="left", pad=26)
    right.set_xlabel("tasks a batch (BatchSize)")
    figure.savefig(PROJECT_ROOT / "docs" / FIGURES[0])
    plt.close(figure)


def panel(ax: Axes, points: Sequence[tuple[int, tuple[float, float], int]]) -> None:
    """Draw one of them: value, rates and places of each point."""
    values = [value for value, _, _ in points]
    ax.loglog(values, [places / TASK_S for _, _, places in points], color=BLACK, ls=":", label="ceiling")
    ax.loglog(values, [both[1] for _, both, _ in points], color=BLUE, marker="o", label="100 ms")
    ax.loglog(values, [both[0] for _, both, _ in points], color=ORANGE, marker="s", ls="--", label="no-op")
    ax.set_xticks(values)
    ax.xaxis.set_minor_locator(NullLocator())
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(NUMBER)
