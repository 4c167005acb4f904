"""The figures of a comparison show the numbers they are given, and never break on what runs may hold."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from benchmarks.queue_simulator import simulate
from taskq_lib import plot_axes, plots_compare
from taskq_lib.analysis import compare, history
from taskq_lib.analysis.compare_run import Measured, measure
from taskq_lib.errors import BadInput
from tests.unit.figures import png
from tests.unit.frames import tasks_frame

pytestmark = pytest.mark.usefixtures("quiet_figures")


@pytest.fixture(scope="module")
def pair() -> tuple[Measured, Measured]:
    """A run and one whose tasks take half as long again."""
    return measure(simulate(600, 1, slower=1.5)), measure(simulate(600, 2))


def drawn(ax: Axes) -> str:
    """Draw the figure for good, as a report does; returns the text for who cannot see it."""
    png(ax)
    return plot_axes.describe(ax)


def test_differences_stand_where_they_are(pair: tuple[Measured, Measured]) -> None:
    """Each judged figure that has an interval has one marker, at its difference, in the colour of its verdict."""
    compared = compare.compare(pair[0], [pair[1]])
    ax = plots_compare.differences(compared)
    assert "Differences, with intervals" in drawn(ax)
    rows = compared[compared["margin"].notna() & compared["low"].notna()]
    shown = {
        (round(float(x), 6), round(float(y)), line.get_label())
        for line in ax.lines
        if line.get_label() in {"pass", "fail", "not enough data"}
        for x, y in zip(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()), strict=True)
    }
    values = zip(rows["difference"].tolist(), rows["verdict"].tolist(), strict=True)
    assert shown == {(round(difference, 6), i, verdict) for i, (difference, verdict) in enumerate(values)}
    left, right = ax.get_xlim()
    assert all(left < x < right for x, _y, _verdict in shown)
    assert "fail" in {verdict for _x, _y, verdict in shown}
    assert [tick.get_text() for tick in ax.get_yticklabels()][-1] == "steady goodput, %"


def test_a_margin_is_on_the_worse_side(pair: tuple[Measured, Measured]) -> None:
    """Longer and more are worse, of goodput less: its mark is left of none, all others right of it."""
    ax = plots_compare.differences(compare.compare(pair[0], [pair[1]]))
    [marks] = [np.asarray(line.get_xdata(), dtype="float64") for line in ax.lines if line.get_label() == "margin"]
    assert (marks[:-1] > 0).all()
    assert marks[-1] == -0.05


def test_what_has_no_interval_is_not_drawn() -> None:
    """Runs of which nothing can be judged give a sentence instead of a figure."""
    few = measure(simulate(20, 1))
    assert (
        drawn(plots_compare.differences(compare.compare(few, [few]))) == "No difference to draw: none has an interval."
    )
    with pytest.raises(BadInput, match="no column"):
        plots_compare.differences(pd.DataFrame({"metric": ["a"]}))


def test_latencies_lie_over_each_other(pair: tuple[Measured, Measured]) -> None:
    """Ours and each baseline run are a curve; the legend has each side once."""
    ours, theirs = (one.samples["end_to_end_s"] for one in pair)
    ax = plots_compare.latencies(ours, [theirs, theirs])
    assert "End-to-end latency, ours and the baseline's" in drawn(ax)
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["baseline (2 runs)", "ours"]
    assert len(ax.lines) == 3
    np.testing.assert_allclose(np.asarray(ax.lines[-1].get_xdata(), dtype="float64"), ours)


def test_open_tasks_leave_a_curve_below_its_top() -> None:
    """A run of which half is open reaches half of the height; one of which all is open has no curve."""
    samples = np.append(np.linspace(1, 2, 50), np.full(50, np.inf))
    ax = plots_compare.latencies(samples, [samples[50:]])
    drawn(ax)
    [curve] = ax.lines
    assert float(np.asarray(curve.get_ydata(), dtype="float64").max()) == 0.5
    empty = measure(tasks_frame()).samples["end_to_end_s"]
    assert drawn(plots_compare.latencies(empty, [samples[50:]])).startswith("No latency to draw")


@pytest.mark.parametrize("n", [1, 10, 50])
def test_a_history_shows_each_run_and_each_change(n: int) -> None:
    """Four panels with a point a run, gaps left out, and a dashed line before the run that changed a figure."""
    p50 = np.where(np.arange(n) >= n // 2, 2.0, 1.0) + np.arange(n) % 2 / 1000
    runs = pd.DataFrame(
        {
            "run_id": [f"$r_{i}$" for i in range(n)],
            "at": pd.date_range("2026-11-01", periods=n, freq="D", tz="UTC"),
            **{name: np.full(n, np.nan) for name in history.FIGURES},
            "p50": p50,
        }
    )
    changes = history.changes(runs)
    panels = plots_compare.over_runs(runs, changes)
    assert len(panels) == 4
    assert "End-to-end latency p50" in drawn(panels[0])
    np.testing.assert_allclose(np.asarray(panels[0].lines[0].get_ydata(), dtype="float64"), p50)
    assert len(panels[0].lines) - 1 == len(changes) == (n >= 10)
