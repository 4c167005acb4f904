"""Figures over many runs: a change is found where there is one, and seldom where there is none."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskq_lib.analysis import history
from taskq_lib.errors import BadInput


def runs(**figures: object) -> pd.DataFrame:
    """Make a history, a run a day."""
    n = len(next(iter(figures.values())))  # type: ignore[arg-type]
    at = pd.date_range("2026-11-01", periods=n, freq="D", tz="UTC")
    return pd.DataFrame({"run_id": [f"r{i}" for i in range(n)], "at": at, **figures})


def test_a_step_is_found_where_it_is() -> None:
    """A latency that rises by a fifth with run 18 of 30 changed with that run; the failure rate did not."""
    random = np.random.default_rng(1)
    p50 = random.normal(1, 0.02, 30) * np.where(np.arange(30) >= 18, 1.2, 1.0)
    found = history.changes(runs(p50=p50, failure_rate=random.normal(0.01, 0.002, 30)))
    [row] = found.to_dict("records")
    assert (row["figure"], row["run_id"]) == ("p50", "r18")
    assert row["after"] / row["before"] == pytest.approx(1.2, abs=0.03)
    [sentence] = history.in_words(found)
    assert sentence.startswith("The end-to-end latency p50 changed with run r18: from ")


def test_two_steps_are_two_changes() -> None:
    """A figure that falls and later rises has two change points, each with the medians beside it."""
    levels = np.repeat([0.04, 0.01, 0.03], 12)
    found = history.changes(runs(failure_rate=levels + np.tile([0, 0.001, -0.001], 12)))
    assert found["run_id"].tolist() == ["r12", "r24"]
    assert found["before"].tolist() == [0.04, 0.01]
    assert found["after"].tolist() == [0.01, 0.03]
    assert "from 4.00% to 1.00%" in history.in_words(found)[0]


def test_chance_seldom_looks_like_a_change() -> None:
    """Of 40 histories of four figures without a change at most four show one; the level is one in twenty."""
    random = np.random.default_rng(2)
    shown = 0
    for _ in range(40):
        shown += len(history.changes(runs(**{name: random.lognormal(0, 1, 15) for name in history.FIGURES}))) > 0
    assert shown <= 4


def test_too_few_runs_show_nothing() -> None:
    """With nine runs no step, however large, is called a change."""
    assert history.changes(runs(p50=np.repeat([1.0, 9.0], [4, 5]))).empty
    assert history.changes(runs(p50=np.repeat([1.0, 9.0], [5, 5])))["run_id"].tolist() == ["r5"]


@given(st.lists(st.floats(allow_infinity=False), max_size=30))
@settings(max_examples=30, deadline=None)
def test_any_history_is_read(values: list[float]) -> None:
    """Gaps, ties and values of any size are no obstacle; a change point is one of the runs, in their order."""
    past = runs(p99=np.array(values, dtype="float64"))
    with np.errstate(over="ignore"):
        found = history.changes(past)
    assert found["run_id"].isin(past["run_id"]).all()
    assert found["at"].is_monotonic_increasing
    assert len(history.in_words(found)) == len(found)


def test_a_history_needs_its_columns() -> None:
    """Runs without an id are refused in a sentence."""
    with pytest.raises(BadInput, match="no column run_id"):
        history.changes(pd.DataFrame({"at": []}))
