"""Comparing runs: what a verdict promises holds, and what a run may hold breaks nothing."""

import math
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.compare import outcomes
from benchmarks.queue_simulator import simulate
from taskq_lib.analysis import compare
from taskq_lib.analysis.compare import FAIL, PASS, UNSURE, Margins
from taskq_lib.analysis.compare_run import Measured, measure
from taskq_lib.errors import BadInput
from tests.unit.frames import at, synthetic_run, tasks_frame

JUDGED = [
    *(f"{name} {p}" for name in ("end-to-end latency", "processing time") for p in ("p50", "p90", "p99")),
    "failure rate",
    "steady goodput",
]


def of(ours: Measured, *theirs: Measured, **margins: float) -> Any:
    """Compare; returns the frame, by metric."""
    return compare.compare(ours, theirs, Margins(**margins)).set_index("metric", drop=False)


def scaled(tasks: pd.DataFrame, factor: int) -> pd.DataFrame:
    """Stretch all of a run's times."""
    times = tasks.select_dtypes("datetimetz").columns
    first = tasks["enqueued_at"].min()
    return tasks.assign(**{name: first + (tasks[name] - first) * factor for name in times})


def ending(tasks: pd.DataFrame, share: float, state: str) -> pd.DataFrame:
    """Let every so many-th task end in this state; one that is open has no end."""
    chosen = np.arange(len(tasks)) % round(1 / share) == 0
    found = tasks.assign(state=tasks["state"].astype("str").mask(chosen, state))
    if state == "processing":
        found["finished_at"] = found["finished_at"].mask(chosen)
    return found


@pytest.fixture(scope="module")
def base() -> Measured:
    """A run of 2,000 tasks at a steady pace."""
    return measure(simulate(2_000, 1))


def test_identical_runs_are_seldom_called_worse() -> None:
    """Of 60 simulated pairs that differ by chance, at most 5 % of each kind of arrivals are called worse."""
    for arrivals in ("paced", "burst", "waves"):
        assert outcomes(500, arrivals, 20)[FAIL] <= 1


def test_a_slow_down_is_found() -> None:
    """Tasks that take 10 % longer are found among 10,000, whichever way they come."""
    for arrivals in ("paced", "burst"):
        assert outcomes(10_000, arrivals, 4, slower=1.1) == {FAIL: 4}


def test_a_run_of_enough_equal_tasks_passes() -> None:
    """Without slow periods and with enough tasks, an identical run passes, and says so in a sentence."""
    random = np.random.default_rng(0)
    runs = []
    for _ in range(2):
        start, took = np.arange(20_000) / 100, random.normal(0.2, 0.005, 20_000)
        rows = [{"enqueued_at": at(s), "first_started_at": at(s), "last_started_at": at(s), "finished_at": at(s + t)}
                for s, t in zip(start[:600].tolist(), took[:600].tolist(), strict=True)]  # fmt: skip
        runs.append(measure(tasks_frame(*rows)))
    found = of(*runs, failures=0.02)
    assert compare.verdict(found) == PASS
    assert set(found.loc[JUDGED, "verdict"]) == {PASS}
    assert compare.in_words(found, "run b") == (
        "Not worse than run b: no figure is worse by more than its margin (95% sure)."
    )


@pytest.mark.parametrize("arrivals", ["paced", "burst", "waves"])
def test_a_run_is_not_worse_than_itself(arrivals: Any) -> None:
    """Of identical frames every difference is 0 and lies within its interval, the effect is none, nothing fails."""
    run = measure(simulate(600, 3, arrivals))
    found = of(run, run).loc[JUDGED]
    assert (found["difference"] == 0).all()
    assert (found["effect"] == 0).all()
    assert ((found["low"] <= 0) & (found["high"] >= 0)).all()
    assert FAIL not in set(found["verdict"])


@given(seed=st.integers(0, 10**6), n=st.integers(200, 700), slower=st.floats(0.5, 2))
@settings(max_examples=8, deadline=None)
def test_swapping_the_runs_flips_the_sign(seed: int, n: int, slower: float) -> None:
    """What one run is worse by, the other is better by, with the same certainty: of ratios, the inverse."""
    a, b = measure(simulate(n, seed, slower=slower)), measure(simulate(n, seed + 1))
    there, back = of(a, b), of(b, a)
    for metric in JUDGED:
        is_share = metric == "failure rate"
        for one, other in (("difference", "difference"), ("low", "high"), ("high", "low")):
            x, y = there.loc[metric, one], back.loc[metric, other]
            assert (x == pytest.approx(-y) if is_share else 1 + x == pytest.approx(1 / (1 + y))) or math.isnan(x)
        assert there.loc[metric, "effect"] == pytest.approx(-back.loc[metric, "effect"], nan_ok=True)


@given(seed=st.integers(0, 10**6), factor=st.integers(2, 50))
@settings(max_examples=6, deadline=None)
def test_the_unit_of_time_does_not_matter(seed: int, factor: int) -> None:
    """Stretching the times of both runs changes no difference, no interval and no verdict."""
    a, b = simulate(400, seed, slower=1.2), simulate(400, seed + 1)
    plain = of(measure(a), measure(b)).loc[JUDGED]
    stretched = of(measure(scaled(a, factor)), measure(scaled(b, factor))).loc[JUDGED]
    columns = ["difference", "low", "high", "bound", "effect"]
    np.testing.assert_allclose(stretched[columns].to_numpy(), plain[columns].to_numpy(), rtol=1e-5, atol=1e-7)
    assert list(stretched["verdict"]) == list(plain["verdict"])


def test_the_figures_are_those_of_the_frame(base: Measured) -> None:
    """Percentiles are numpy's, the failure rate is that of final tasks, goodput that of the middle completions."""
    tasks = simulate(2_000, 1)
    figures = base.metrics.set_index("metric")["value"]
    took = (tasks["finished_at"] - tasks["enqueued_at"]).dt.total_seconds()
    for share in (0.5, 0.9, 0.99):
        assert figures[f"end-to-end latency p{100 * share:g}"] == pytest.approx(np.quantile(took, share))
    assert figures["failure rate"] == (tasks["state"] == "dead_lettered").mean()
    ends = tasks.loc[tasks["state"] == "completed", "finished_at"].sort_values()
    middle = ends.iloc[int(0.05 * len(ends)) : math.ceil(0.95 * len(ends))]
    span = (middle.iloc[-1] - middle.iloc[0]).total_seconds()
    assert figures["steady goodput"] == pytest.approx((len(middle) - 1) / span)


def test_more_failures_fail(base: Measured) -> None:
    """A failure rate of 10 % against 1 % fails, by nine points, and the effect is the difference itself."""
    row = of(measure(ending(simulate(2_000, 2), 0.1, "dead_lettered")), base).loc["failure rate"]
    assert row["verdict"] == FAIL
    assert row["difference"] == pytest.approx(row["effect"]) == pytest.approx(0.095, abs=0.02)


def test_less_goodput_is_worse() -> None:
    """Of a burst whose tasks take twice as long half as many are done a second: less is worse."""
    ours, theirs = measure(simulate(2_000, 1, "burst", slower=2)), measure(simulate(2_000, 2, "burst"))
    row = of(ours, theirs).loc["steady goodput"]
    assert row["verdict"] == FAIL
    assert row["difference"] == pytest.approx(-0.5, abs=0.05)
    assert row["bound"] < row["difference"]
    assert row["effect"] > 0.9
    assert of(theirs, ours).loc["steady goodput", "verdict"] == PASS


def test_where_nothing_failed_failures_are_still_possible() -> None:
    """Two runs of 200 tasks without a failure are not sure to be within a point; two of 2,000 are."""
    few, many = (measure(ending(simulate(n, 1), 1, "completed")) for n in (200, 2_000))
    assert of(few, few).loc["failure rate", "verdict"] == UNSURE
    assert of(many, many).loc["failure rate", "verdict"] == PASS


def test_open_tasks_do_not_make_a_run_look_fast(base: Measured) -> None:
    """Open tasks count as slower than all: with 2 % of them p50 is judged, and p99 is not known."""
    run = measure(ending(simulate(2_000, 2), 0.02, "processing"))
    found = of(run, base)
    assert run.n_open == 40
    assert found.loc["end-to-end latency p50", "verdict"] != ""
    row = found.loc["end-to-end latency p99"]
    assert row["verdict"] == UNSURE
    assert row["why"] == "ours: more tasks than that are not final"
    assert compare.verdict(found) != PASS


@pytest.mark.parametrize(
    "tasks",
    [
        pytest.param(tasks_frame(), id="empty"),
        pytest.param(tasks_frame({}), id="one without times"),
        pytest.param(synthetic_run(1).tasks, id="one"),
        pytest.param(synthetic_run(50).tasks, id="few"),
        pytest.param(synthetic_run(300, types=("SEND_EMAIL",)).tasks, id="one type"),
        pytest.param(synthetic_run(600, failing=100).tasks, id="all failed"),
        pytest.param(synthetic_run(600, open_share=1.0).tasks, id="all open"),
        pytest.param(scaled(simulate(600, 1), -1), id="clocks disagree"),
        pytest.param(simulate(600, 1).assign(finished_at=at(9)), id="all at one instant"),
    ],
)
def test_any_run_can_be_compared(tasks: pd.DataFrame, base: Measured) -> None:
    """Whatever a run holds, each figure gets a verdict, or one sentence why not; none passes by default."""
    run = measure(tasks)
    for found in (of(run, base), of(base, run), of(base, run, base)):
        judged = found.loc[JUDGED]
        assert judged["verdict"].isin([PASS, FAIL, UNSURE]).all()
        assert (judged.loc[judged["verdict"] == UNSURE, "why"] != "").all()
        assert (judged.loc[judged["difference"].isna(), "verdict"] == UNSURE).all()
        assert compare.verdict(found) in {FAIL, UNSURE}
        assert compare.in_words(found, "run b")


def test_a_run_of_all_failures_fails(base: Measured) -> None:
    """Where everything is dead-lettered the verdict is fail, though no goodput is there to compare."""
    found = of(measure(synthetic_run(600, failing=100).tasks), base)
    assert compare.verdict(found) == FAIL
    assert found.loc["steady goodput", "verdict"] == UNSURE
    assert "failure rate +" in compare.in_words(found, "run b")


def test_too_few_tasks_say_how_many_are_needed() -> None:
    """A run of 300 tasks has no judged p99, and says how many tasks one needs."""
    run = measure(simulate(300, 1))
    found = of(run, run)
    assert found.loc["processing time p99", "why"] == (
        "ours: needs 500 tasks, there are 300; baseline: needs 500 tasks, there are 300"
    )
    assert "needs" not in str(found.loc["processing time p50", "why"])


def test_a_frame_of_an_earlier_version_is_enough(base: Measured) -> None:
    """Message groups, redrives and offsets, which earlier versions lack, are not needed; a time that is, is named."""
    tasks = simulate(2_000, 1)
    assert not {"n_redrives", "message_group", "offset_s"} & set(tasks)
    pd.testing.assert_frame_equal(measure(tasks.assign(n_redrives=0, message_group=None)).metrics, base.metrics)
    with pytest.raises(BadInput, match="no column first_started_at"):
        measure(tasks.drop(columns="first_started_at"))


def test_runs_that_differ_among_themselves_widen_the_interval() -> None:
    """A baseline of runs 10 % apart is less sure than one of runs alike, and says that more runs would tell."""
    ours, *alike = (measure(simulate(2_000, seed)) for seed in range(4))
    apart = [measure(simulate(2_000, seed, slower=slower)) for seed, slower in ((1, 0.8), (2, 1.0), (3, 1.25))]
    sure, unsure = (of(ours, *runs).loc["processing time p50"] for runs in (alike, apart))
    assert unsure["high"] - unsure["low"] > 2 * (sure["high"] - sure["low"])
    assert unsure["why"] == "the baseline runs differ too much among themselves; more of them would tell"


@given(slower=st.floats(allow_nan=True), failures=st.floats(allow_nan=True))
@example(slower=0.05, failures=0.01)
def test_margins_are_shares(slower: float, failures: float) -> None:
    """A margin is more than none and less than all; anything else is refused in a sentence."""
    if 0 < slower < 1 and 0 < failures < 1:
        assert Margins(slower=slower, failures=failures).of("processing time p99") == 2 * slower
    else:
        with pytest.raises(BadInput, match=r"The margins .* are not allowed"):
            Margins(slower=slower, failures=failures)


def test_without_a_baseline_there_is_nothing_to_compare(base: Measured) -> None:
    """Comparing with no run is refused."""
    with pytest.raises(BadInput, match="no baseline"):
        compare.compare(base, [])


def test_a_million_tasks_take_seconds() -> None:
    """Measuring a million tasks takes under ten seconds of CPU."""
    tasks = pd.concat([simulate(20_000, 1)] * 50, ignore_index=True)
    begun = time.process_time()
    run = measure(tasks)
    of(run, run)
    assert run.n_tasks == 1_000_000
    assert time.process_time() - begun < 10
