"""The control room: five panels on one axis of time, that show what they are given and say what there is none of."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from taskq_lib import plots, plots_monitor
from taskq_lib.analysis import monitor
from taskq_lib.aws import live, metrics
from taskq_lib.errors import BadInput
from tests.unit.figures import png
from tests.unit.frames import Run, at, attempts_frame, synthetic_run, tasks_frame

pytestmark = pytest.mark.usefixtures("quiet_figures")


def course(run: Run) -> pd.DataFrame:
    """Return the course of a run."""
    return monitor.timeline(run.tasks, run.attempts)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(synthetic_run(1), id="one task"),
        pytest.param(synthetic_run(300, failing=100), id="all failed"),
        pytest.param(synthetic_run(300, failing=0), id="none failed"),
        pytest.param(synthetic_run(3_000, open_share=0.1), id="many"),
    ],
)
def test_five_panels_share_one_axis_of_time(run: Run) -> None:
    """From one task to thousands, five panels with titles and units have the same horizontal limits, from 0 upwards."""
    panels = plots_monitor.control_room(course(run))
    assert png(panels[0]).startswith(b"\x89PNG")
    assert [panel.get_title(loc="left").partition(":")[0].partition(",")[0] for panel in panels] == [
        "Backlog",
        "Age",
        "Throughput",
        "Failures",
        "Concurrency",
    ]
    assert len({panel.get_xlim() for panel in panels}) == 1
    assert all(panel.get_ylabel() for panel in panels)
    assert all(panel.get_ylim()[0] == 0 < panel.get_ylim()[1] for panel in panels)
    assert panels[-1].get_xlabel() == "time (UTC)"


def test_the_panels_show_the_course() -> None:
    """The curves are the columns of the course, and the titles its heights."""
    found = course(synthetic_run(500))
    backlog, age, *_rest = plots_monitor.control_room(found)
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in [*backlog.lines, *age.lines]}
    assert lines["backlog"].tolist() == [0, *found["backlog"]]
    assert lines["being processed"].tolist() == found["in_flight"].tolist()
    assert lines["oldest task that has not started"].tolist() == found["oldest_s"].tolist()
    assert f"at most {found['backlog'].max():,}" in backlog.get_title(loc="left")


def test_a_share_of_few_is_grey() -> None:
    """One failure of one attempt is no column in red as high as an outage."""
    attempts = attempts_frame({"started_at": at(0), "finished_at": at(1), "outcome": "failed", "request_id": "a"})
    tasks = tasks_frame({"state": "dead_lettered", "enqueued_at": at(0), "finished_at": at(1), "updated_at": at(1)})
    failures = plots_monitor.control_room(monitor.timeline(tasks, attempts, 1.0))[3]
    assert failures.get_legend_handles_labels()[1] == ["failed attempts", "of fewer than 10 that ended"]
    red, grey = (patch.get_data().values for patch in failures.patches)  # type: ignore[attr-defined]
    assert (max(red), max(grey)) == (0, 1)


def test_what_sqs_and_cloudwatch_counted_is_drawn_over_it() -> None:
    """Samples and published metrics are in the panels that they belong to."""
    found = course(synthetic_run(200))
    plain = dict.fromkeys(live.SAMPLE_COLUMNS)
    samples = live.frame([plain | {"at": at(i), "n_visible": 5 * i, "n_in_flight": i} for i in range(4)])
    panels = plots_monitor.control_room(
        found,
        samples,
        published(
            ("ApproximateAgeOfOldestMessage", "queue", 1, 7.0),
            ("ConcurrentExecutions", "function", 1, 9.0),
        ),
    )
    png(panels[0])
    drawn = curves(panels)
    assert drawn["visible (SQS)"] == [0, 5, 10, 15]
    assert drawn["in flight (SQS)"] == [0, 1, 2, 3]
    assert drawn["oldest message (CloudWatch)"] == [7]
    assert drawn["concurrency (CloudWatch, maximum)"] == [9]


def published(*points: tuple[str, str, float, float]) -> pd.DataFrame:
    """Return data points of CloudWatch: metric, resource, second and value."""
    same = {"namespace": "AWS/X", "statistic": "Maximum", "period_s": 60, "unit": "Count"}
    names = ("metric", "resource", "at", "value")
    return metrics.frame([same | dict(zip(names, (m, of, at(s), value), strict=True)) for m, of, s, value in points])


def curves(panels: list[Axes]) -> dict[object, list[float]]:
    """Return what is drawn as lines or marks, by its label."""
    return {line.get_label(): np.asarray(line.get_ydata()).tolist() for panel in panels for line in panel.lines}


def test_a_dead_letter_is_not_the_oldest_message() -> None:
    """The age is that of the queues alone: a letter is days old, and nobody waits for it."""
    points = [("queue", 1, 7.0), ("second queue", 1, 8.0), ("dead-letter queue", 1, 86_400.0), ("queue", 61, 5.0)]
    ages = published(*[("ApproximateAgeOfOldestMessage", *point) for point in points])
    panels = plots_monitor.control_room(course(synthetic_run(200)), metrics=ages)
    assert curves(panels)["oldest message (CloudWatch)"] == [8, 5]
    letters = ages[ages["resource"] == "dead-letter queue"]
    panels = plots_monitor.control_room(course(synthetic_run(200)), metrics=letters)
    assert "oldest message (CloudWatch)" not in curves(panels)


def test_throttles_are_marked_among_the_failures() -> None:
    """Periods in which Lambda refused to run the function are marked, with how often in all; the others are not."""
    throttles = published(("Throttles", "function", 1, 3.0), ("Throttles", "function", 61, 0.0))
    panels = plots_monitor.control_room(course(synthetic_run(200)), metrics=throttles)
    png(panels[0])
    [label] = [name for name in curves(panels[3:4]) if "throttles" in str(name)]
    assert label == "throttles: 3 (CloudWatch)"
    assert len(curves(panels)[label]) == 1
    quiet = plots_monitor.control_room(course(synthetic_run(200)), metrics=throttles[1:])
    assert not [name for name in curves(quiet) if "throttles" in str(name)]


def test_without_a_course_each_panel_says_so() -> None:
    """Without any known time every panel is a sentence; a frame of another kind is refused."""
    for panel in plots_monitor.control_room(
        course(Run(pd.DataFrame(), tasks_frame(), attempts_frame(), pd.DataFrame()))
    ):
        png(panel)
        assert not panel.axison
        assert plots.describe(panel).startswith("No course to draw")
    with pytest.raises(BadInput, match="no column"):
        plots_monitor.control_room(tasks_frame())


def test_it_draws_on_the_axes_it_is_given() -> None:
    """With `ax` no new figure is opened."""
    given = list(plt.subplots(5, 1)[1])
    assert plots_monitor.control_room(course(synthetic_run(20)), ax=given) == given
    assert len(plt.get_fignums()) == 1
