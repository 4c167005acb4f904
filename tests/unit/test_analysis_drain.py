"""When a backlog will be gone: the formula against simulation, and honest words where nothing can be said."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskq_lib.analysis import drain
from taskq_lib.errors import BadInput
from tests.unit.frames import at


def observed(backlogs: Sequence[float], step_s: float = 1.0) -> pd.DataFrame:
    """Return a backlog that was observed at equal steps."""
    times = pd.to_datetime([at(step_s * i) for i in range(len(backlogs))]).as_unit("us")
    return pd.DataFrame({"at": times, "backlog": backlogs})


def test_a_steady_backlog_is_gone_when_its_rate_says() -> None:
    """Without noise the range is the estimate itself: 500 tasks at 100 a second are gone in 5 seconds."""
    found = drain.estimate(observed([1000, 900, 800, 700, 600, 500]))
    assert (found.backlog, found.rate_per_s) == (500, -100)
    assert found.eta_s == pytest.approx(5)
    assert [found.low_s, found.high_s] == pytest.approx([5, 5])
    assert found.says == "drains in about 5 s (5 to 5 s), by 100/s"


def test_the_range_is_where_students_t_says() -> None:
    """Both ends of the range solve the equation of the docstring, with t of 7 degrees of freedom."""
    backlogs = [1000, 930, 790, 720, 600, 530, 390, 300, 210]
    found = drain.estimate(observed(backlogs))
    changes = np.diff(backlogs)
    rate, s2, length = changes.mean(), changes.var(ddof=1), len(changes)
    for u in (found.low_s, found.high_s):
        assert u is not None
        z = (backlogs[-1] + rate * u) / math.sqrt(s2 * (u + u**2 / length))
        assert abs(z) == pytest.approx(2.3646, rel=2e-3)
    assert found.low_s is not None
    assert found.eta_s is not None
    assert found.high_s is not None
    assert found.low_s < found.eta_s < found.high_s


@pytest.mark.parametrize(
    ("arrivals", "services", "batch", "backlog", "for_s"),
    [(0, 50, 1, 3_000, 10), (0, 50, 10, 3_000, 10), (20, 50, 10, 2_000, 20), (45, 50, 10, 800, 30)],
)
def test_the_range_holds_in_nineteen_of_twenty_queues(
    arrivals: float, services: float, batch: int, backlog: int, for_s: int
) -> None:
    """Of 200 simulated queues, single or in batches, with arrivals or without, at least nine in ten empty within it."""
    rng = np.random.default_rng(7)
    held, told = 0, 0
    for _ in range(200):
        steps = rng.poisson(arrivals, 2_000) - batch * rng.poisson(services / batch, 2_000)
        course = backlog + np.concatenate([[0], np.cumsum(steps)])
        found = drain.estimate(observed(course[: for_s + 1].tolist()))
        if not (course > 0).all() and course[: for_s + 1].min() > 0:
            told += 1
            gone = int(np.argmax(course <= 0)) - for_s
            # It was gone within the second before it was seen to be.
            held += (found.low_s or 0) <= gone and gone - 1 <= (found.high_s or math.inf)
    assert told > 150
    assert held / told >= 0.9


@pytest.mark.parametrize(
    ("backlogs", "says"),
    [
        ([100, 110, 120, 130, 140, 150], "does not drain: it grows by 10/s"),
        ([100, 110, 100, 110, 100, 110, 100], "does not drain: it keeps its size"),
        ([100, 100, 100], "no estimate yet: 3 observations, 6 are needed"),
        ([], "nothing was observed"),
        ([50, 20, 0], "drained"),
    ],
)
def test_it_promises_nothing_that_it_cannot_know(backlogs: list[float], says: str) -> None:
    """A backlog that grows or stands, or that was hardly observed, gets no time; an empty one is drained."""
    found = drain.estimate(observed(backlogs))
    assert found.says == says
    assert found.eta_s == (0.0 if says == "drained" else None)


def test_a_rate_that_may_be_chance_has_no_end() -> None:
    """A backlog that goes up and down more than it goes down gets an earliest time and no latest."""
    found = drain.estimate(observed([1000, 1200, 900, 1150, 950, 1100, 980]))
    assert found.low_s is not None
    assert found.high_s is None
    assert found.says.startswith("may not drain: in about ")
    assert found.says.endswith("no end can be told")


def test_what_is_old_does_not_count() -> None:
    """An hour of growth does not hide that the backlog drains now."""
    growth, fall = [10.0 * i for i in range(100)], [1_000 - 10.0 * i for i in range(1, 70)]
    assert drain.estimate(observed(growth + fall)).rate_per_s == pytest.approx(-10)


@pytest.mark.parametrize("step_s", [13.0, 20.0, 60.0])
def test_slow_observations_get_an_estimate(step_s: float) -> None:
    """However far apart the observations are, the window holds enough of them, and no more than are needed."""
    growth, fall = [100.0 * i for i in range(20)], [1_900 - 100.0 * i for i in range(1, 12)]
    found = drain.estimate(observed(growth + fall, step_s))
    assert found.rate_per_s == pytest.approx(-100 / step_s)
    assert found.eta_s == pytest.approx(found.backlog / 100 * step_s)
    timeline = observed([*range(0, 1_000, 100), *range(1_000, -1, -50)], step_s).assign(interval_s=step_s)
    assert drain.foreseen(timeline)["eta_s"].tolist()[1:] == pytest.approx([10 * step_s, 5 * step_s])


def test_counts_that_were_not_read_are_left_out() -> None:
    """A missing count is no backlog of zero."""
    frame = observed([1000, 900, 800, 700, 600, 500, 400])
    frame["backlog"] = frame["backlog"].astype("Int64").where(frame.index != 3)
    assert drain.estimate(frame).eta_s == pytest.approx(4)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 10**6), max_size=30), st.floats(0.01, 100))
def test_any_course_gives_an_estimate_in_order(backlogs: list[int], step_s: float) -> None:
    """Whatever was observed, a range that is given holds its estimate, and words say the rest."""
    found = drain.estimate(observed(backlogs, step_s))
    assert found.says
    if found.eta_s is not None and found.low_s is not None:
        assert 0 <= found.low_s <= found.eta_s * (1 + 1e-9)
        assert found.high_s is None or found.eta_s <= found.high_s * (1 + 1e-9)


def test_what_was_foreseen_is_held_against_what_came() -> None:
    """Along a steady drain every forecast is the time that was left, and the last row is nearest the end."""
    backlog = [*range(0, 1_000, 100), *range(1_000, -1, -50), 0, 0]
    timeline = observed(backlog).assign(interval_s=1.0)
    found = drain.foreseen(timeline)
    assert found["actual_s"].tolist() == [15, 10, 5]
    assert found["eta_s"].tolist()[1:] == pytest.approx([10, 5])
    assert found["backlog"].tolist() == [750, 500, 250]
    assert drain.records(found)[1]["says"] == "drains in about 10 s (10 to 10 s), by 50/s"
    assert drain.records(found)[0]["at"] == "2026-11-24T02:00:16.000000Z"


def test_a_backlog_that_never_ends_has_no_end_to_compare_with() -> None:
    """While tasks are open, what came is not known; without any backlog there is nothing to foresee."""
    open_ = observed([10, 50, 40, 30, 30, 30, 30]).assign(interval_s=1.0)
    assert drain.foreseen(open_)["actual_s"].isna().all()
    assert drain.foreseen(observed([0, 0]).assign(interval_s=1.0)).empty
    with pytest.raises(BadInput, match="no column"):
        drain.estimate(pd.DataFrame({"at": []}))
