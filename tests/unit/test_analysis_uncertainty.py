"""How sure percentiles are, and what open tasks do to them: held to the reference libraries on generated data."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from taskq_lib.analysis import censored, intervals, latency
from tests.unit.frames import at, synthetic_run, tasks_frame

few = settings(max_examples=25, deadline=None)
#: The ends of a sample, and what floats cannot tell from them.
NO_SHARES = (0.0, 1.0, 2e-311)
shares = st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.07, *NO_SHARES]) | st.floats(0.01, 0.995)
#: Seconds that occur more than once, and whether the task is open then.
waits = st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=40)


def finished(took_s: "np.typing.NDArray[np.float64]") -> pd.DataFrame:
    """Give the durations of finished tasks that took so long in all."""
    columns = dict.fromkeys(latency.DURATIONS, took_s)
    return pd.DataFrame({**columns, "is_final": np.ones(len(took_s), dtype=bool)})


def waited(rows: list[tuple[int, bool]]) -> pd.DataFrame:
    """Give what was observed of tasks."""
    return pd.DataFrame(rows, columns=["took_s", "is_open"]).astype({"took_s": "float64", "is_open": "bool"})


@few
@given(st.integers(1, 5_000), shares)
def test_the_ranks_are_those_of_the_binomial(n: int, share: float) -> None:
    """They are scipy's binomial quantiles, hold the percentile with at least 95 %, and exist from `needed` on."""
    [low], [high] = intervals.ranks(np.array([n]), share)
    if n < intervals.needed(share) or share in NO_SHARES:
        assert (low, high) == (0, 0)
        return
    assert (low, high) == (stats.binom.ppf(0.025, n, share), stats.binom.ppf(0.975, n, share) + 1)
    assert 1 <= low < high <= n
    assert stats.binom.cdf(high - 1, n, share) - stats.binom.cdf(low - 1, n, share) >= 0.95


@given(shares)
def test_what_is_needed_is_the_least(share: float) -> None:
    """With one value fewer, the smallest and the largest would not bound the percentile with 95 % confidence."""
    n = intervals.needed(share)
    if share in NO_SHARES:
        assert n == 1
        return
    assert max(share, 1 - share) ** n <= 0.025 + 1e-12
    assert max(share, 1 - share) ** (n - 1) > 0.025 - 1e-12


def test_known_needs_are_said_in_words() -> None:
    """The numbers that the reports show, and their sentence."""
    assert [intervals.needed(share) for share in (0, 0.5, 0.9, 0.99, 0.999, 1)] == [1, 6, 36, 368, 3688, 1]
    assert intervals.why_not(0.99, 120) == "needs 368 tasks, there are 120"
    assert intervals.why_not(0.5, 1) == "needs 6 tasks, there is 1"
    assert intervals.why_not(0.99, 368) == ""


@pytest.mark.parametrize(("share", "n"), [(0.5, 50), (0.9, 100), (0.99, 500)])
def test_the_interval_covers_the_percentile(share: float, n: int) -> None:
    """Of 2,000 runs of independent tasks with a heavy tail, 95 % or more have the true percentile in its interval."""
    rng = np.random.default_rng(6)
    true = math.exp(2 * stats.norm.ppf(share))
    rows = np.sort(rng.lognormal(0, 2, (2_000, n)), axis=1)
    [low], [high] = intervals.ranks(np.array([n]), share)
    covered = (rows[:, low - 1] <= true) & (true <= rows[:, high - 1])
    # Its real confidence is 95 % or a little more; a simulation of so many wavers by half a percent.
    assert 0.945 <= covered.mean() <= 0.99


def test_the_band_covers_the_whole_curve() -> None:
    """Of 1,000 runs at least 95 % have the true distribution within their band everywhere."""
    rng, n = np.random.default_rng(7), 80
    rows = np.sort(rng.random((1_000, n)), axis=1)
    above = np.arange(1, n + 1) / n - rows
    below = rows - np.arange(n) / n
    assert (np.maximum(above, below).max(axis=1) <= intervals.band(n)).mean() >= 0.945
    assert intervals.band(0) == 1


@few
@given(st.integers(0, 2**32 - 1), st.sampled_from([400, 1_000, 5_000]), st.floats(0.1, 2.5))
def test_percentiles_agree_with_hdrhistogram(seed: int, n: int, sigma: float) -> None:
    """Ours lie between the values that HdrHistogram has on either side of the percentile, within its three digits."""
    took_ms = np.ceil(np.random.default_rng(seed).lognormal(5, sigma, n)).clip(1, 3_599_999).astype(np.int64)
    histogram = HdrHistogram(1, 3_600_000, 3)
    for value in took_ms.tolist():
        histogram.record_value(value)
    table = latency.percentiles(finished(took_ms / 1000)).set_index("duration").to_dict("index")["end_to_end_s"]
    for share in latency.SHARES:
        # Theirs is one of the values, ours may lie between it and the next.
        low = histogram.get_value_at_percentile(100 * (math.floor(share * (n - 1)) + 1) / n - 1e-9)
        high = histogram.get_value_at_percentile(100 * (math.ceil(share * (n - 1)) + 1) / n - 1e-9)
        assert low * 0.998 <= 1000 * table[f"p{100 * share:g}"] <= high * 1.002 + 1e-6


@few
@given(waits)
def test_the_curve_is_that_of_kaplan_and_meier(rows: list[tuple[int, bool]]) -> None:
    """At each time of a finish the share left falls by those that finish, of those that were still there."""
    found = censored.curve(waited(rows))
    left, expected = 1.0, {}
    for time in sorted({took for took, _ in rows}):
        n_there = sum(took >= time for took, _ in rows)
        n_ended = sum(took == time and not is_open for took, is_open in rows)
        left *= 1 - n_ended / n_there
        expected[time] = 1 - left
    if all(is_open for _, is_open in rows):
        assert found.empty
        return
    assert found["share"].tolist() == pytest.approx([expected[int(time)] for time in found["took_s"]])
    assert ((found["low"] <= found["share"] + 1e-9) & (found["share"] <= found["high"] + 1e-9)).all()


@few
@given(waits)
def test_without_open_tasks_the_estimate_is_of_the_finished(rows: list[tuple[int, bool]]) -> None:
    """Then the percentile is the first value at which the share of tasks reaches it, as numpy's "inverted_cdf"."""
    took = [took for took, _ in rows]
    found = censored.percentiles(waited([(value, False) for value in took])).set_index("percentile")["estimate_s"]
    if len(took) < 6:
        assert np.isnan(found["p50"])
    else:
        assert found["p50"] == np.quantile(took, 0.5, method="inverted_cdf")


def test_open_tasks_raise_the_estimate_and_widen_it() -> None:
    """Tasks that have waited long count as long ones; what they leave open has no upper end, or no estimate."""
    rows = [(i, False) for i in range(50)] + [(100, True)] * 50
    estimates = censored.percentiles(waited(rows))
    found = estimates.set_index("percentile").to_dict("index")
    assert found["p50"]["estimate_s"] == 49
    assert found["p50"]["low_s"] < 49
    assert np.isnan(found["p50"]["high_s"])
    assert np.isnan(found["p90"]["estimate_s"])
    section = censored.summary(waited(rows), estimates)
    assert json.loads(json.dumps(section, allow_nan=False)) == section
    assert section is not None
    assert (section["n"], section["n_open"], section["p50"], section["p90"]) == (100, 50, 49.0, None)


def test_the_median_and_its_interval_are_those_of_a_textbook() -> None:
    """6-MP in leukemia (Freireich et al., Blood 21, 1963): a median of 23 weeks, from 13 on, without an upper end."""
    ended = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    lost = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    found = censored.percentiles(waited([(w, False) for w in ended] + [(w, True) for w in lost]), [0.5])
    assert found["estimate_s"].tolist() == [23.0]
    assert found["low_s"].tolist() == [13.0]
    assert np.isnan(found["high_s"]).all()


def test_the_estimate_of_censored_runs_covers_the_truth() -> None:
    """Looked at early, runs have the true median in their interval; finished tasks alone say a quarter less."""
    rng, n, hits, naive = np.random.default_rng(8), 80, 0, []
    for _ in range(400):
        took, seen = rng.exponential(1, n), rng.uniform(0, 2, n)
        is_open = took > seen
        row = censored.percentiles(pd.DataFrame({"took_s": np.minimum(took, seen), "is_open": is_open}), [0.5]).iloc[0]
        hits += bool(row["low_s"] <= math.log(2) and not row["high_s"] < math.log(2))
        naive.append(np.median(took[~is_open]))
    assert 0.92 <= hits / 400 <= 0.99
    assert np.mean(naive) < 0.75 * math.log(2)


def test_what_was_observed_of_tasks() -> None:
    """Final tasks took until they finished, open ones until they were read; what has no start or end is left out."""
    tasks = tasks_frame(
        {"state": "completed", "enqueued_at": at(0), "finished_at": at(4)},
        {"state": "retrying", "enqueued_at": at(1), "finished_at": at(2)},
        {"state": "pending", "enqueued_at": at(2)},
        {"state": "pending"},
        {"state": "completed", "enqueued_at": at(0)},
    )
    found = censored.observed(tasks, at(10).to_pydatetime())
    assert found["took_s"].tolist() == [4.0, 9.0, 8.0]
    assert found["is_open"].tolist() == [False, True, True]


def test_percentiles_are_written_with_their_interval_or_what_they_lack() -> None:
    """A table for people has one column a percentile: the value and its interval, or how many tasks it needs."""
    durations = latency.durations(synthetic_run(100).tasks)
    table = latency.percentiles(durations)
    words = latency.in_words(table).set_index("duration").loc["end_to_end_s"]
    row = table.set_index("duration").loc["end_to_end_s"]
    assert words["p50"] == f"{row['p50']:.3g} s ({row['p50_low']:.3g} s to {row['p50_high']:.3g} s)"
    assert words["p99"] == "needs 368 tasks, there are 100"
    assert not any("low" in str(name) or "high" in str(name) for name in words.index)


def test_a_million_tasks_are_estimated_in_seconds() -> None:
    """Percentiles, curve and estimates of a million tasks with open ones among them keep to the data."""
    rng, n = np.random.default_rng(9), 1_000_000
    took, seen = rng.exponential(1, n), rng.uniform(0, 20, n)
    rows = pd.DataFrame({"took_s": np.minimum(took, seen), "is_open": took > seen})
    found = censored.percentiles(rows).set_index("percentile")
    assert found.loc["p99", "estimate_s"] == pytest.approx(-math.log(0.01), rel=0.01)
    assert (found["low_s"] <= found["estimate_s"]).all()
    assert (found["estimate_s"] <= found["high_s"]).all()
    ours = latency.percentiles(finished(took)).set_index("duration").loc["end_to_end_s"]
    assert ours["p99_low"] <= -math.log(0.01) <= ours["p99_high"]
