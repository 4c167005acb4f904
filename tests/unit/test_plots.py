"""The figures: they show the numbers they are given, and never break on what a run may hold."""

from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes

from taskq_lib import plot_axes, plots
from taskq_lib.analysis import failures, latency, throughput
from taskq_lib.errors import BadInput
from tests.unit.figures import png, texts
from tests.unit.frames import Run, attempts_frame, dead_frame, manifest_frame, synthetic_run, tasks_frame

pytestmark = pytest.mark.usefixtures("quiet_figures")

#: Each figure from the frames of a run.
FIGURES: dict[str, Callable[[Run], Any]] = {
    "latency_by_group": lambda run: plots.latency_by_group(
        latency.percentiles(latency.durations(run.tasks), "task_type")
    ),
    "throughput_with_backlog": lambda run: plots.throughput_with_backlog(
        throughput.per_interval(run.tasks, run.attempts)
    ),
    "failure_rate": lambda run: plots.failure_rate(failures.rates(run.tasks)),
    "outcome_by_attempt": lambda run: plots.outcome_by_attempt(failures.outcome_by_attempt(run.attempts)),
}

#: Text that fonts can draw, with all that matplotlib could take for a formula.
wild_text = st.text(st.sampled_from("$\\^_{}%&~#<>'\"\n\t\r\x00 aé…")) | st.just("$\\frac{1}$" * 20)


def panels(drawn: Axes | tuple[Axes, Axes]) -> list[Axes]:
    """Give the axes of a figure as a list."""
    return list(drawn) if isinstance(drawn, tuple) else [drawn]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(
    "run",
    [
        pytest.param(synthetic_run(1), id="one task"),
        pytest.param(synthetic_run(40), id="few tasks"),
        pytest.param(synthetic_run(300, spread=2.5, open_share=0.1), id="heavy tails"),
        pytest.param(synthetic_run(300, types=("SEND_EMAIL",)), id="one type"),
        pytest.param(synthetic_run(300, failing=100), id="all failed"),
        pytest.param(synthetic_run(3_000), id="many"),
    ],
)
def test_every_figure_draws_every_kind_of_run(name: str, run: Run) -> None:
    """From one task to thousands, each figure draws without a warning, and says in words what it shows."""
    for ax in panels(FIGURES[name](run)):
        assert png(ax).startswith(b"\x89PNG")
        if name == "latency_by_group" and len(run.tasks) < 6:
            assert plots.describe(ax).startswith("No percentile to draw")
            continue
        assert ax.get_title(loc="left")
        assert ax.get_xlabel() or ax.get_ylabel()
        assert plots.describe(ax).startswith(ax.get_title(loc="left"))


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(
    "run",
    [
        pytest.param(Run(manifest_frame(), tasks_frame(), attempts_frame(), dead_frame()), id="empty"),
        pytest.param(
            Run(
                manifest_frame("a"), tasks_frame({"state": "pending"}), attempts_frame({"outcome": None}), dead_frame()
            ),
            id="nothing known",
        ),
    ],
)
def test_nothing_to_draw_is_said_in_a_sentence(name: str, run: Run) -> None:
    """Without data a figure is a sentence that says what is missing, not an exception and not an empty frame."""
    for ax in panels(FIGURES[name](run)):
        png(ax)
        assert not ax.axison
        assert plots.describe(ax).startswith("No ")
        assert plots.describe(ax).endswith(".")


@pytest.mark.parametrize("name", FIGURES)
def test_figures_draw_on_the_axes_they_are_given(name: str) -> None:
    """With `ax` no new figure is opened, and the same axes come back."""
    run, given_axes = synthetic_run(50), plt.subplots(2, 1)[1]
    frames = {
        "latency_by_group": latency.percentiles(latency.durations(run.tasks), "task_type"),
        "throughput_with_backlog": throughput.per_interval(run.tasks, run.attempts),
        "failure_rate": failures.rates(run.tasks),
        "outcome_by_attempt": failures.outcome_by_attempt(run.attempts),
    }
    ax = tuple(given_axes) if name == "throughput_with_backlog" else given_axes[0]
    assert getattr(plots, name)(frames[name], ax=ax) == ax
    assert len(plt.get_fignums()) == 1


@settings(
    max_examples=settings().max_examples // 5,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(st.lists(wild_text, min_size=1, max_size=4, unique=True))
def test_text_from_outside_cannot_break_a_label(names: list[str]) -> None:
    """Formulas, control characters and endless names in a task type are drawn as short, plain text."""
    tasks = tasks_frame(*({"task_type": name, "state": "completed"} for name in names))
    ax = plots.failure_rate(failures.rates(tasks))
    png(ax)
    plt.close("all")


def test_labels_are_cut_and_plain() -> None:
    """A label is one line of at most 40 characters, its dollars escaped after the cut."""
    assert plot_axes.label("pay $5\n or \x00 $6") == r"pay \$5 or ? \$6"
    assert plot_axes.label("x" * 40) == "x" * 40
    assert plot_axes.label("$" * 41) == r"\$" * 39 + "…"


def test_the_time_axis_is_utc_whatever_the_setting() -> None:
    """Hours on the axis are UTC even where matplotlib is set to another zone, and the axis says so."""
    with mpl.rc_context({"timezone": "Asia/Tokyo"}):
        _, lower = FIGURES["throughput_with_backlog"](synthetic_run(20_000))
        png(lower)
        assert "02:00" in texts(lower)
    assert "UTC" in lower.get_xlabel()


def test_the_backlog_panel_shows_the_backlog() -> None:
    """The lower panel starts at nothing, follows the column and shares the time axis of the upper one."""
    run = synthetic_run(500, open_share=0.1)
    table = throughput.per_interval(run.tasks, run.attempts)
    upper, lower = plots.throughput_with_backlog(table)
    assert np.asarray(lower.lines[0].get_ydata()).tolist() == [0, *table["backlog"]]
    assert lower.get_title(loc="left").endswith("after the last one 50")
    assert upper.get_xlim() == lower.get_xlim()
    assert upper.get_ylim()[0] == lower.get_ylim()[0] == 0


def test_failure_rates_start_at_zero_and_name_their_numbers() -> None:
    """Each group has its point and its number of tasks, on an axis that starts at 0."""
    rates = failures.rates(synthetic_run(400, failing=100).tasks)
    ax = plots.failure_rate(rates)
    assert np.asarray(ax.lines[0].get_xdata()).tolist() == [1.0, 1.0, 1.0]
    assert ax.get_xlim() == (0, 1)
    assert f"IMAGE_RESIZE (n = {rates['n_final'][0]:,})" in texts(ax)


def test_too_many_groups_are_cut_openly() -> None:
    """Of many groups the largest are drawn, and the title says how many there are."""
    tasks = synthetic_run(2_000, types=tuple(f"TYPE_{i:02}" for i in range(34))).tasks
    for ax in (
        plots.failure_rate(failures.rates(tasks)),
        plots.latency_by_group(latency.percentiles(latency.durations(tasks), "task_type"), "queue_wait_s"),
    ):
        assert "20 largest of 34" in texts(ax)
        assert len(ax.get_yticklabels()) == 20


def test_outcome_bars_add_up() -> None:
    """The stacked bars hold every ended attempt, each outcome in its colour."""
    run = synthetic_run(600)
    ax = plots.outcome_by_attempt(failures.outcome_by_attempt(run.attempts))
    bars = [bar for bar in ax.patches if isinstance(bar, mpl.patches.Rectangle)]
    assert sum(bar.get_height() for bar in bars) == len(run.attempts)
    top = max(bar.get_y() + bar.get_height() for bar in bars)
    assert top == (run.attempts["attempt"] == 1).sum()
    assert ax.get_legend_handles_labels()[1] == ["completed", "failed", "lost"]


def test_wrong_frames_and_durations_are_refused() -> None:
    """A frame of another kind, or a duration that does not exist, is refused in words."""
    with pytest.raises(BadInput, match="no column"):
        plots.failure_rate(tasks_frame())
    with pytest.raises(BadInput, match="no duration 'speed'"):
        plots.latency_by_group(latency.percentiles(latency.durations(tasks_frame())), "speed")
