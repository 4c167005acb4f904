"""The figures of latency, flow and failures over time: they show what they are given, whatever a run may hold."""

import itertools
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from taskq_lib import plots, plots_flow, plots_latency
from taskq_lib.analysis import censored, decomposition, failures, latency, seconds, throughput
from taskq_lib.errors import BadInput
from taskq_lib.report.marks import COLUMNS
from tests.unit.figures import png, texts
from tests.unit.frames import Run, at, attempts_frame, dead_frame, manifest_frame, synthetic_run, tasks_frame

pytestmark = pytest.mark.usefixtures("quiet_figures")

READ_AT = at(100_000).to_pydatetime()
NO_MARKS = pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
_BY = {"": None, "type": "task_type", "priority": "priority"}


def courses(run: Run) -> dict[str, pd.DataFrame]:
    """Give the failures over time of all attempts, of each type and of each priority."""
    return {name: failures.over_time(run.attempts, by) for name, by in _BY.items()}


def ecdf(run: Run) -> list[Axes]:
    """Draw the distribution, with the curve that counts open tasks where there are any."""
    return [plots_latency.latency_ecdf(latency.durations(run.tasks), censored.observed(run.tasks, READ_AT))]


#: Each figure from the frames of a run.
FIGURES: dict[str, Callable[[Run], list[Axes]]] = {
    "latency_ecdf": ecdf,
    "latency_panels": lambda run: plots_latency.latency_panels(latency.durations(run.tasks)),
    "decomposition_bars": lambda run: [
        plots_latency.decomposition_bars(decomposition.by_band(latency.durations(run.tasks)))
    ],
    "latency_over_time": lambda run: [plots_latency.latency_over_time(run.tasks)],
    "cumulative_flow": lambda run: [plots_flow.cumulative_flow(throughput.cumulative(run.tasks))],
    "failures_over_time": lambda run: plots_flow.failures_over_time(courses(run), NO_MARKS),
}

NOTHING = {
    "empty": Run(manifest_frame(), tasks_frame(), attempts_frame(), dead_frame()),
    "nothing known": Run(
        manifest_frame("a"), tasks_frame({"state": "pending"}), attempts_frame({"outcome": None}), dead_frame()
    ),
}


def skewed(ahead_s: float, *, one_type: bool = False) -> Run:
    """Give a run whose producer's clock is so much ahead of the function's."""
    run = synthetic_run(300, types=("SEND_EMAIL",) if one_type else ("SEND_EMAIL", "IMAGE_RESIZE"))
    run.tasks["enqueued_at"] += pd.Timedelta(seconds=ahead_s)
    return run


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(
    "run",
    [
        pytest.param(synthetic_run(1), id="one task"),
        pytest.param(synthetic_run(300, spread=2.5, open_share=0.1), id="heavy tails"),
        pytest.param(synthetic_run(300, failing=100), id="all failed"),
        pytest.param(synthetic_run(3_000), id="many"),
        pytest.param(skewed(3600), id="producer an hour ahead"),
        pytest.param(skewed(-3600, one_type=True), id="one type, producer an hour behind"),
    ],
)
def test_every_figure_draws_every_kind_of_run(name: str, run: Run) -> None:
    """From one task to thousands, each figure draws without a warning, and says in words what it shows."""
    axes = FIGURES[name](run)
    assert png(axes[0]).startswith(b"\x89PNG")
    assert all(ax.get_title(loc="left") for ax in axes)
    said = " ".join(plots.describe(ax) for ax in axes)
    assert "across: " in said
    assert "up: " in said or name == "decomposition_bars"


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("run", NOTHING.values(), ids=NOTHING)
def test_nothing_to_draw_is_said_in_a_sentence(name: str, run: Run) -> None:
    """Without data a figure is a sentence that says what is missing, not an exception and not an empty frame."""
    [ax] = FIGURES[name](run)
    png(ax)
    assert not ax.axison
    assert plots.describe(ax).startswith("No ")
    assert plots.describe(ax).endswith(".")


def test_all_open_tasks_flow_and_have_no_latency() -> None:
    """Where nothing has ended the flow is drawn, and the figures of latency say that there is none."""
    run = synthetic_run(40, open_share=1)
    assert "40 open at the end" in texts(FIGURES["cumulative_flow"](run)[0])
    for name in ("latency_ecdf", "latency_panels", "decomposition_bars", "latency_over_time"):
        [ax] = FIGURES[name](run)
        assert plots.describe(ax).startswith("No latency to draw")


def test_the_ecdf_is_exact_and_marks_percentiles() -> None:
    """The curve passes through the data, and the labelled percentiles are those of the latency module."""
    run = synthetic_run(500, open_share=0.1)
    durations = latency.durations(run.tasks)
    ax = plots_latency.latency_ecdf(durations)
    took = np.sort(durations["end_to_end_s"].dropna().to_numpy())
    curve = next(line for line in ax.lines if line.get_label() == "end-to-end latency")
    assert set(np.asarray(curve.get_xdata()).tolist()) == set(took.tolist())
    assert ax.get_xscale() == "log"
    table = latency.percentiles(durations).set_index("duration").to_dict("index")["end_to_end_s"]
    for name in ("p50", "p90", "p99"):
        assert f"{name} = {seconds(table[name])}" in texts(ax)
    assert "n = 450; 50 not finished are missing" in texts(ax)


def test_open_tasks_draw_a_second_curve_below_the_first() -> None:
    """The curve that counts open tasks never lies above that of the finished ones, and has an interval of its own."""
    run = synthetic_run(500, open_share=0.2)
    ended = run.tasks["finished_at"].max().to_pydatetime()
    waited = censored.observed(run.tasks, ended)
    ax = plots_latency.latency_ecdf(latency.durations(run.tasks), waited)
    lines = {str(line.get_label()): line for line in ax.lines}
    counted = lines["open tasks counted (Kaplan-Meier)"]
    took = np.sort(latency.durations(run.tasks)["end_to_end_s"].dropna().to_numpy())
    x, share = (np.asarray(values, dtype=float) for values in (counted.get_xdata(), counted.get_ydata()))
    assert (share <= np.searchsorted(took, x + 1e-9, side="right") / len(took) + 1e-9).all()
    assert "its 95 % interval" in ax.get_legend_handles_labels()[1]
    png(ax)


def test_percentile_labels_do_not_overlap() -> None:
    """The three labels stand apart and inside the axes, whether latencies are spread or all the same."""
    same = tasks_frame(*({name: at(0 if name == "enqueued_at" else 3) for name in latency._TIMES} for _ in range(400)))
    for tasks in (same, synthetic_run(500).tasks, synthetic_run(500, spread=2.5).tasks):
        ax = plots_latency.latency_ecdf(latency.durations(tasks))
        png(ax)
        boxes = [text.get_window_extent() for text in ax.texts]
        assert len(boxes) == 3
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        assert max(box.x1 for box in boxes) <= ax.get_window_extent().x1


def test_percentiles_that_too_few_tasks_carry_are_not_marked() -> None:
    """Of forty tasks a p99 would be an invention; of five even the median."""
    for n, marked in ((5, []), (40, ["p50", "p90"])):
        ax = plots_latency.latency_ecdf(latency.durations(synthetic_run(n).tasks))
        assert [text.get_text().split(" ")[0] for text in ax.texts] == marked


def test_negative_latencies_are_told() -> None:
    """On a logarithmic axis a negative latency lies on the edge; the title counts it."""
    tasks = synthetic_run(500).tasks
    tasks.loc[tasks.index < 7, "enqueued_at"] += pd.Timedelta(minutes=5)
    for ax in (plots_latency.latency_ecdf(latency.durations(tasks)), plots_latency.latency_over_time(tasks)):
        assert "n = 500, 7 of them negative" in texts(ax)
        png(ax)


def test_narrow_spans_are_drawn_linearly_from_zero() -> None:
    """Latencies of one order of magnitude keep an honest axis that starts at 0."""
    rows = [{name: at(0 if name == "enqueued_at" else 3 + i) for name in latency._TIMES} for i in range(5)]
    ax = plots_latency.latency_over_time(tasks_frame(*rows))
    assert ax.get_yscale() == "linear"
    assert ax.get_ylim()[0] == 0


def test_latency_over_time_is_a_heat_map_when_there_are_many() -> None:
    """Few tasks are points by outcome; of many each is in one cell, and the line is the median of its interval."""
    few = plots_latency.latency_over_time(synthetic_run(800).tasks)
    assert sum(len(np.asarray(dots.get_offsets())) for dots in few.collections) == 800
    tasks = synthetic_run(3_000).tasks
    many = plots_latency.latency_over_time(tasks)
    [cells] = many.collections
    assert np.ma.filled(np.ma.asarray(cells.get_array()), 0).sum() == 3_000
    [line] = many.lines
    took, since = latency.durations(tasks)["end_to_end_s"], tasks["enqueued_at"] - tasks["enqueued_at"].min()
    width_s = throughput.interval_s_for(since.dt.total_seconds().max())
    medians = took.groupby((since.dt.total_seconds() // width_s).astype(int)).quantile(0.5, interpolation="higher")
    drawn = np.asarray(line.get_ydata(), dtype=float)
    assert len(drawn) == len(medians)
    assert np.nanmax(np.abs(drawn[:-1] - medians.to_numpy()[:-1])) == 0


def test_parts_of_a_bar_add_up() -> None:
    """The parts of a band, negative ones left of zero, fill its bar."""
    for ahead_s in (0, 2):
        run = skewed(ahead_s)
        bands = decomposition.by_band(latency.durations(run.tasks))
        ax = plots_latency.decomposition_bars(bands)
        widths = np.array([bar.get_width() for bar in ax.patches if isinstance(bar, mpl.patches.Rectangle)])
        assert np.abs(widths.reshape(3, -1)).sum(axis=0) == pytest.approx(np.ones(len(bands)))
        assert (ax.get_xlim()[0] < 0) == (ahead_s > 0)


def test_each_type_and_priority_has_a_panel() -> None:
    """Small multiples name their groups, share their scales, and cut too many openly."""
    run = synthetic_run(600)
    used = plots_latency.latency_panels(latency.durations(run.tasks))
    assert [ax.get_title(loc="left").split(" (")[0] for ax in used[:3]] == [
        "IMAGE_RESIZE",
        "PROCESS_DATA",
        "SEND_EMAIL",
    ]
    assert len(used) == 3 + 6
    assert len({ax.get_xlim() for ax in used}) == len({ax.get_ylim() for ax in used}) == 1
    assert "6 largest of 10" in plots.describe(used[0])


def test_events_are_marked_in_every_panel() -> None:
    """An event within the time that is drawn is a line in each panel, in its kind's own style; one far off is none."""
    run = synthetic_run(600)
    marks = pd.DataFrame(
        {"at": [at(2), at(5), at(90_000)], "kind": ["deploy", "breaker", "redrive"], "what": ["a", "b", "c"]}
    ).astype(COLUMNS)
    used = plots_flow.failures_over_time(courses(run), marks)
    assert len(used) == 1 + 3 + 6
    for ax in used:
        lines = {str(line.get_label()): line for line in ax.lines}
        assert {"deploy", "breaker"} <= set(lines)
        assert "redrive" not in lines
        assert lines["deploy"].get_linestyle() != lines["breaker"].get_linestyle()
    png(used[0])


def test_one_type_has_no_panel_of_its_own() -> None:
    """Where all attempts are of one type, its panel would repeat that of all."""
    run = synthetic_run(200, types=("SEND_EMAIL",))
    titles = [ax.get_title(loc="left") for ax in plots_flow.failures_over_time(courses(run), NO_MARKS)]
    assert titles[0].startswith("all")
    assert not any(title.startswith("type") for title in titles)


def test_the_flow_shows_what_is_open() -> None:
    """The bands end at what had come, begun and ended; the title counts what is open."""
    run = synthetic_run(500, open_share=0.1)
    ax = plots_flow.cumulative_flow(throughput.cumulative(run.tasks))
    assert ax.get_title(loc="left") == "Cumulative flow (n = 500); 50 open at the end"
    assert "clocks disagree" in texts(plots_flow.cumulative_flow(throughput.cumulative(skewed(3600).tasks)))
    assert [float(np.asarray(line.get_ydata())[-1]) for line in ax.lines] == [500, 450]
    assert ax.get_legend_handles_labels()[1][0] == "completed"


def test_wrong_frames_are_refused() -> None:
    """A frame of another kind is refused in words."""
    with pytest.raises(BadInput, match="no column"):
        plots_latency.latency_ecdf(tasks_frame())
    with pytest.raises(BadInput, match="no column"):
        plots_flow.failures_over_time({}, tasks_frame())
