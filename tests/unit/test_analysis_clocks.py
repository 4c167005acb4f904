"""What a run's clocks can be trusted for, where its time went, and whether it kept its objectives."""

import itertools
import json
import math
import time
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskq_lib.analysis import (
    censored,
    clocks,
    decomposition,
    failures,
    in_seconds,
    latency,
    service_levels,
    throughput,
)
from taskq_lib.aws.live import SAMPLE_COLUMNS
from taskq_lib.aws.submit import Message, pack
from taskq_lib.errors import BadInput
from taskq_lib.report.parameters import parse
from tests.unit.frames import Run, at, attempts_frame, dead_frame, manifest_frame, synthetic_run, tasks_frame

few = settings(max_examples=20, deadline=None)
#: Runs take a while to be made up.
of_runs = settings(max_examples=8, deadline=None)
READ_AT = at(1_000).to_pydatetime()


def done(enqueued: float, started: float, finished: float, **other: object) -> dict[str, object]:
    """Describe a completed task of one attempt by its times, in seconds; it was sent when it was enqueued."""
    times = {"enqueued_at": enqueued, "sent_at": enqueued, "first_started_at": started, "last_started_at": started}
    return {name: at(value) for name, value in times.items()} | {"finished_at": at(finished)} | other


def sampled(*rows: tuple[float, int]) -> pd.DataFrame:
    """Give samples: seconds, and how many tasks were completed by then."""
    columns: dict[str, list[object]] = {name: [pd.NA] * len(rows) for name in SAMPLE_COLUMNS}
    columns |= {"at": [at(when) for when, _n in rows], "n_completed": [n for _when, n in rows]}
    return pd.DataFrame(columns | {"n_dead_lettered": [0] * len(rows)}).astype(SAMPLE_COLUMNS)


@few
@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0.001, 5), st.floats(0.001, 5)), min_size=1, max_size=20),
    st.floats(-4_000, 4_000),
    st.floats(0.01, 3),
)
def test_the_bounds_hold_the_true_skew(rows: list[tuple[float, float, float]], skew: float, delay: float) -> None:
    """However far the function's clock is ahead, the truth lies within the bounds, and samples make them narrower."""
    tasks = tasks_frame(*(done(start, start + wait + skew, start + wait + work + skew) for start, wait, work in rows))
    ends = sorted(start + wait + work for start, wait, work in rows)
    seen = sampled(*((end + delay, sum(one <= end for one in ends)) for end in ends))
    loose, tight = (clocks.bounds(tasks, samples, READ_AT).iloc[0] for samples in (None, seen))
    for row in (loose, tight):
        assert row["at_least_s"] - 1e-5 <= skew <= row["at_most_s"] + 1e-5
    assert tight["at_least_s"] >= loose["at_least_s"]
    assert tight["at_least_s"] == pytest.approx(skew - delay, abs=1e-4)


def test_a_clock_an_hour_behind_is_told_and_nothing_is_cleaned() -> None:
    """Negative latencies are counted with the largest, and the sentence bounds by how much the clocks differ."""
    tasks = tasks_frame(done(3600, 1, 2), done(3600, 5, 6), done(0, 7, 8))
    durations = latency.durations(tasks)
    section = clocks.summary(durations, clocks.bounds(tasks, None, at(3700).to_pydatetime()))
    assert (section["n_negative"], section["largest_negative_s"]) == (2, -3599.0)
    assert str(section["says"]).startswith("2 of 3 tasks have a negative latency, down to -3,599 s.")
    assert "The function's clock is at least 3,599 s and at most 3,692 s behind the producer's." in str(section["says"])
    assert durations["queue_wait_s"].tolist() == [-3599.0, -3595.0, 7.0]
    assert json.loads(json.dumps(section, allow_nan=False)) == section


def test_a_run_that_does_not_say_when_it_was_read_is_bounded_on_one_side() -> None:
    """Of such a run the last change stands for the time of reading: no clock is taken to be right by that."""
    tasks = tasks_frame(done(0, 1, 2, updated_at=at(2)))
    row = clocks.bounds(tasks, None, at(2).to_pydatetime()).iloc[0]
    assert math.isnan(row["at_least_s"])
    assert row["says"] == "The function's clock is at most 1 s ahead of the producer's."


def test_hosts_that_contradict_each_other_are_told() -> None:
    """Where a finish is seen before it happened, and a start comes before its task, no one skew explains both."""
    tasks = tasks_frame(done(10, 4, 5), done(0, 20, 30))
    row = clocks.bounds(tasks, None, at(28).to_pydatetime()).iloc[0]
    assert (row["at_least_s"], row["at_most_s"]) == (2.0, -6.0)
    assert str(row["says"]).startswith("The times contradict each other: two clocks among those of the producer, ")
    assert str(row["says"]).endswith(" hosts differ by at least 4 s.")


def test_a_redriven_task_bounds_nothing_by_its_second_sending() -> None:
    """SQS's time of a redriven task is that of the redrive, later than its start."""
    tasks = tasks_frame(done(0, 1, 2), done(0, 1, 60) | {"sent_at": at(50)}).assign(n_redrives=[0, 1])
    assert clocks.bounds(tasks, None, READ_AT)["at_most_s"].tolist() == [1.0, 1.0]
    assert clocks.lateness(tasks, manifest_frame("a").assign(offset_s=0.5))["n"].tolist() == [1]


def test_a_producer_that_falls_behind_hides_no_wait() -> None:
    """Tasks that are due before they can be sent carry the time that was meant: their latency has all of the wait."""
    begun = time.time() - 30
    heads = [Message(f"t-{i}", "queue", {}, '{"enqueued_at":', 2.0 * i + 0.5) for i in range(12)]
    entries = [entry for _url, batch in pack(heads, begun) for entry in batch]
    meant = [round(begun + 2.0 * i + 0.5, 3) for i in range(12)]
    assert [entry["enqueued_at"] for entry in entries] == meant
    assert all(entry["body"].endswith(f":{entry['enqueued_at']!r}}}") for entry in entries)
    started = pd.Timestamp(time.time(), unit="s", tz="UTC")
    rows = [
        {"enqueued_at": pd.Timestamp(one, unit="s", tz="UTC"), "sent_at": started, "first_started_at": started,
         "last_started_at": started, "finished_at": started} for one in meant
    ]  # fmt: skip
    tasks = tasks_frame(*rows)
    waits = latency.durations(tasks)["queue_wait_s"]
    assert waits.min() >= 7.4
    assert waits.max() >= 29.4
    paced = manifest_frame("t").assign(offset_s=0.5)
    late = clocks.lateness(tasks, paced).iloc[0]
    assert (late["n"], late["max"]) == (12, pytest.approx(waits.max()))
    assert math.isnan(late["p99"])
    assert clocks.start_in_words(paced).startswith("Open loop")


def test_the_start_of_the_clock_is_said() -> None:
    """A burst is a closed loop, a window knows only what its messages carry, and neither has a late producer."""
    burst, tasks = manifest_frame("a").assign(offset_s=0.0), tasks_frame(done(0, 1, 2))
    assert clocks.start_in_words(burst).startswith("Closed loop")
    assert clocks.start_in_words(None).startswith("Latency counts from the time that each message carries")
    assert clocks.lateness(tasks, burst).empty
    assert clocks.lateness(tasks, None).empty


@of_runs
@given(st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_the_parts_of_each_band_add_up(n: int, seed: int) -> None:
    """Bands hold all finished tasks once, in order; their parts sum up to the whole; the last is the slowest 1 %."""
    durations = latency.durations(synthetic_run(n, seed=seed).tasks)
    bands = decomposition.by_band(durations)
    assert bands["n"].sum() == n
    assert bands["n"].iloc[-1] == max(1, n - round(0.99 * n))
    total = bands[list(decomposition.PARTS)].sum(axis=1)
    assert total.to_numpy() == pytest.approx(bands["end_to_end_s"].to_numpy())
    assert (bands["from_s"].to_numpy()[1:] >= bands["to_s"].to_numpy()[:-1]).all()
    slowest = np.sort(durations["end_to_end_s"].to_numpy())[-int(bands["n"].iloc[-1]) :]
    assert bands["end_to_end_s"].iloc[-1] == pytest.approx(slowest.mean())


def test_the_slowest_are_explained_in_a_sentence() -> None:
    """The largest part comes first; a negative one is named as what it is."""
    rows = [done(0, 1, 1.5)] * 199 + [done(0, 8, 10)]
    found = decomposition.slowest(decomposition.by_band(latency.durations(tasks_frame(*rows, done(0, 6, 10)))))
    assert found is not None
    parts = "70 % queue wait, 30 % processing, 0 % retry delay"
    assert found["says"] == f"The slowest 1 % (2 tasks) took 10 s on average: {parts}."
    one = decomposition.slowest(decomposition.by_band(latency.durations(tasks_frame(done(5, 3, 9)))))
    assert one is not None
    assert "queue wait -2 s; a negative part means that clocks disagree." in str(one["says"])
    assert json.loads(json.dumps([found, one], allow_nan=False)) == [found, one]


def test_attempts_are_taken_apart() -> None:
    """Hand-over, processing, and the gap to the next attempt of the same task; none leads across a redrive."""
    rows: list[dict[str, object]] = [
        {"task_id": "b", "attempt": 2, "received_at": at(19), "started_at": at(20), "finished_at": at(24)},
        {"task_id": "a", "attempt": 1, "received_at": at(0), "started_at": at(1), "finished_at": at(3)},
        {"task_id": "b", "attempt": 1, "received_at": at(5), "started_at": at(5), "finished_at": at(12)},
        {"task_id": "b", "attempt": 1, "received_at": at(90), "started_at": at(95), "finished_at": at(96)},
        {"task_id": "c", "attempt": 1, "received_at": at(5), "started_at": at(6), "finished_at": None},
        {"task_id": "c", "attempt": 2, "received_at": at(30), "started_at": at(31), "finished_at": at(32)},
    ]
    attempts = attempts_frame(*rows).assign(redrive=pd.array([0, 0, 0, 1, 0, 0], dtype="Int32"))
    table = decomposition.by_attempt(attempts).set_index(["attempt", "part"])
    assert table["n"].to_dict() == {
        (1, "handover_s"): 4, (1, "processing_s"): 3, (1, "gap_s"): 1, (2, "handover_s"): 2, (2, "processing_s"): 2,
    }  # fmt: skip
    assert table["max"].tolist() == [5.0, 7.0, 8.0, 1.0, 4.0]
    assert table["p50"].isna().all()
    assert decomposition.by_attempt(attempts_frame()).empty


@of_runs
@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_gaps_and_attempts_make_up_the_latency(n: int, seed: int) -> None:
    """Queue wait, all processing and all gaps of a task add up to its end-to-end latency."""
    run = synthetic_run(n, seed=seed)
    attempts = run.attempts.assign(gap=decomposition._gaps(run.attempts).to_numpy())
    spent = in_seconds(attempts["gap"].fillna(pd.Timedelta(0)) + attempts["finished_at"] - attempts["started_at"])
    durations = latency.durations(run.tasks).set_index("task_id")
    whole = spent.groupby(attempts["task_id"]).sum(min_count=1) + durations["queue_wait_s"]
    known = attempts.groupby("task_id")["outcome"].agg(lambda outcomes: bool((outcomes != "lost").all()))
    wanted = durations["end_to_end_s"]
    assert whole[known[known].index].to_numpy() == pytest.approx(wanted[known[known].index].to_numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", []),
        ("IMAGE_RESIZE:99%:30s, all:95%:5min", [("IMAGE_RESIZE", 0.99, 30.0), ("all", 0.95, 300.0)]),
        ("SEND_EMAIL:99.9%:250ms,SEND_EMAIL:50%:1h", [("SEND_EMAIL", 0.999, 0.25), ("SEND_EMAIL", 0.5, 3600.0)]),
    ],
)
def test_objectives_are_read(text: str, read: list[tuple[str, float, float]]) -> None:
    """A type or all, a share and a time with their units; a type may have several."""
    found = service_levels.read(text)
    assert [(one.task_type, round(one.share, 9), one.within_s) for one in found] == read
    assert parse({"objectives": text}, ["objectives"]) == {"objectives": text}


@pytest.mark.parametrize(
    "text",
    ["all", "all:99:30s", "all:99%:30", "all:100%:1s", "all:0%:1s", "all:9%:0s", "FLY:9%:1s", "*:9%:1s", "all:9%:-1s",
     "all:99%:30s,", "all:٩٩%:1s", "all:nan%:1s", "all:99%:1e3s"],
)  # fmt: skip
def test_an_objective_without_its_form_is_refused(text: str) -> None:
    """One sentence names the part that is wrong, before anything runs; the hint says how to write it."""
    with pytest.raises(BadInput, match="objectives has a part that is not allowed") as refused:
        parse({"objectives": text}, ["objectives"])
    assert "TYPE:SHARE%:TIME" in str(refused.value.hint)


def levels(tasks: pd.DataFrame, text: str, read_at: datetime = READ_AT) -> dict[str, object]:
    """Give the one row of what became of an objective."""
    [row] = service_levels.summary(service_levels.attained(tasks, service_levels.read(text), read_at))
    return row


def test_what_attains_an_objective_and_what_does_not() -> None:
    """Completed in time attains it; late, dead or open and older misses it; open and younger is not decided."""
    tasks = tasks_frame(
        done(0, 1, 10),
        done(0, 1, 10.001),
        done(0, 1, 2, state="dead_lettered"),
        {"state": "pending", "enqueued_at": at(985)},
        {"state": "processing", "enqueued_at": at(995)},
        {"state": "pending"},
        {"state": "completed"},
        done(0, 1, 3, task_type="IMAGE_RESIZE"),
    )
    row = levels(tasks, "SEND_EMAIL:50%:10s")
    assert (row["n"], row["n_missed"], row["attained"], row["budget_used"]) == (4, 3, 0.25, 1.5)
    assert levels(tasks, "all:50%:10s")["n"] == 5
    assert levels(tasks, "PROCESS_DATA:50%:10s") | {"n": 0, "n_missed": 0, "attained": None, "burn": None} == levels(
        tasks, "PROCESS_DATA:50%:10s"
    )


def test_the_verdict_needs_data_enough() -> None:
    """Ten good tasks prove no 99 %; a thousand do, and a thousand with thirty late ones disprove it."""
    good, late = done(0, 1, 2), done(0, 1, 50)
    assert levels(tasks_frame(*[good] * 10), "all:99%:10s")["verdict"] == "not enough data"
    assert levels(tasks_frame(*[good] * 1_000), "all:99%:10s")["verdict"] == "met"
    row = levels(tasks_frame(*[good] * 970, *[late] * 30), "all:99%:10s")
    assert (row["verdict"], row["budget_used"]) == ("missed", pytest.approx(3))
    assert levels(tasks_frame(), "all:99%:10s")["verdict"] == "not enough data"


def test_the_burn_is_that_of_the_last_tasks() -> None:
    """Where the misses came at the end the budget burns faster than over all, by the tasks' time of enqueueing."""
    rows = [done(i, i + 1, i + (60 if i >= 95 else 2)) for i in range(100)]
    for order in (rows, rows[::-1]):
        row = levels(tasks_frame(*order), "all:90%:10s")
        assert (row["budget_used"], row["burn"]) == (pytest.approx(0.5), pytest.approx(2.5))
    assert (
        service_levels.in_words(
            service_levels.attained(tasks_frame(*rows), service_levels.read("all:90%:10s,all:99.9%:1s"), READ_AT)
        )
        == "2 objectives: 0 met, 1 missed, 1 not enough data"
    )


@of_runs
@given(st.integers(0, 120), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_the_flow_counts_every_task_once(n: int, open_share: float, seed: int) -> None:
    """Nothing falls, nothing is more than what came before it, and the end is what the states say."""
    run = (
        synthetic_run(n, seed=seed, open_share=open_share)
        if n
        else Run(manifest_frame(), tasks_frame(), attempts_frame(), dead_frame())
    )
    table = throughput.cumulative(run.tasks)
    if not n:
        assert table.empty
        return
    names = ["enqueued", "started", "final", "completed"]
    assert (table[names].diff().dropna() >= 0).all(axis=None)
    assert all((table[first] >= table[second]).all() for first, second in itertools.pairwise(names))
    state = run.tasks["state"]
    final = state.isin(["completed", "dead_lettered"]).sum()
    assert table[names].iloc[-1].tolist() == [
        n, run.tasks["first_started_at"].notna().sum(), final, (state == "completed").sum()
    ]  # fmt: skip
    assert table[names].iloc[0].tolist() == [0, 0, 0, 0]


@of_runs
@given(st.integers(1, 200), st.sampled_from([None, "task_type", "priority"]), st.integers(0, 2**32 - 1))
def test_failures_over_time_count_every_ended_attempt(n: int, by: str | None, seed: int) -> None:
    """Over its intervals a group has its ended attempts and its failures, each once, within their interval."""
    attempts = synthetic_run(n, seed=seed).attempts
    table = failures.over_time(attempts, by)
    bad = attempts["outcome"] != "completed"
    assert (table["n_ended"].sum(), table["n_failed"].sum()) == (len(attempts), bad.sum())
    if by:
        sums = table.groupby("group")["n_failed"].sum()
        assert sums.to_dict() == bad.groupby(attempts[by].astype("str")).sum().to_dict()
    known = table[table["n_ended"] > 0]
    assert known["failure_rate"].to_numpy() == pytest.approx((known["n_failed"] / known["n_ended"]).to_numpy())
    assert ((known["low"] <= known["failure_rate"]) & (known["failure_rate"] <= known["high"])).all()
    assert table.groupby("group").size().nunique() == 1


BAD = {
    "empty": Run(manifest_frame(), tasks_frame(), attempts_frame(), dead_frame()),
    "nothing known": Run(
        manifest_frame("a"), tasks_frame({"state": "pending"}), attempts_frame({"outcome": None}), dead_frame()
    ),
    "one task": synthetic_run(1),
    "all failed": synthetic_run(60, failing=100),
    "all open": synthetic_run(60, open_share=1),
    "one type": synthetic_run(60, types=("SEND_EMAIL",)),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("skew_s", [0, 3600, -3600])
def test_every_kind_of_run_has_its_sections(name: str, skew_s: float) -> None:
    """Whatever a run holds, an hour between its clocks included, each section is found and is JSON without NaN."""
    run = BAD[name]
    tasks = run.tasks.assign(enqueued_at=run.tasks["enqueued_at"] + pd.Timedelta(seconds=skew_s))
    durations, waited = latency.durations(tasks), censored.observed(tasks, READ_AT)
    n_open = int((~durations["is_final"]).sum())
    skew = clocks.summary(durations, clocks.bounds(tasks, None, READ_AT))
    level = service_levels.attained(tasks, service_levels.read("all:99%:30s"), READ_AT)
    sections = {
        "latency": latency.summary(latency.percentiles(latency.durations(tasks))),
        "censored": censored.summary(waited, censored.percentiles(waited) if n_open else None),
        "slowest": decomposition.slowest(decomposition.by_band(durations)),
        "clocks": skew,
        "objectives": service_levels.summary(level),
    }
    assert json.loads(json.dumps(sections, allow_nan=False)) == sections
    measured = durations.loc[durations["is_final"], "end_to_end_s"].notna().any()
    assert (sections["slowest"] is not None) == measured
    assert (sections["censored"] is None) == (not waited["is_open"].any())
    n_negative = int((durations[["queue_wait_s", "end_to_end_s"]].min(axis=1) < 0).sum())
    assert skew["n_negative"] == n_negative
    assert (n_negative > 0) == (skew_s > 0 and bool(durations["queue_wait_s"].notna().any()))
    decomposition.by_attempt(run.attempts)
    failures.over_time(run.attempts, "priority")
    throughput.cumulative(tasks)
