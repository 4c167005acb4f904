"""What the engine's log, samples and metrics say of a run of 200 tasks, held against the status table."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from botocore.exceptions import ClientError

from taskq_lib.analysis import drain, invocations, monitor
from taskq_lib.aws import embedded, live, logs, metrics, status, submit
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.commands import watch
from taskq_lib.report import runs, samples
from taskq_lib.workload import Workload, generate
from taskq_worker.contract import State

pytestmark = pytest.mark.integration

N_TASKS = 200


class Run:
    """One run of 200 tasks that was waited for, and its log."""

    def __init__(self, stack: Stack, root: Path) -> None:
        """Submit it, wait for its end while samples are kept, and read it."""
        self.stack, self.begun_at = stack, datetime.now(UTC)
        self.run = runs.create("watched", root)
        workload = Workload(n_tasks=N_TASKS, seed=5, duration_median_s=0.05, transient_share=0.2, permanent_share=0.1)
        manifest = generate(workload, "watched")
        self.run.save("manifest", manifest)
        submit.send(stack, self.run.manifest, "watched", progress=False)
        self.waited = samples.wait(stack, self.run, 120)
        self.ended_at = datetime.now(UTC)
        found = status.get(stack, manifest["task_id"].tolist())
        self.tasks, self.attempts = found.tasks, found.attempts
        self.log = logs.read(stack, self.begun_at, self.ended_at)


@pytest.fixture(scope="module")
def watched(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The run, on a stack of its own whose retries come at once."""
    own = stacks.deploy(target, "monitor", {"RetryBaseSeconds": 0}, progress=lambda _status: None)
    yield Run(own, tmp_path_factory.mktemp("monitor"))
    stacks.delete(own, delete_table=True, progress=lambda _status: None)


def test_the_attempts_of_the_log_are_those_of_the_table(watched: Run) -> None:
    """Each attempt of the table has its line in the log, with outcome, error, duration and request id, and no other."""
    keys = ["task_id", "attempt"]
    table, log = (frame.sort_values(keys).reset_index(drop=True) for frame in (watched.attempts, watched.log.attempts))
    assert len(table) == len(log) > N_TASKS
    for column in (*keys, "run_id", "request_id"):
        assert table[column].tolist() == log[column].tolist(), column
    for column in ("outcome", "error_type", "error", "task_type"):
        assert table[column].astype("str").tolist() == log[column].astype("str").tolist(), column
    took = (table["finished_at"] - table["started_at"]).dt.total_seconds()
    assert (took - log["processing_s"]).abs().max() <= 0.002
    assert log["stack_trace"].notna().tolist() == (log["outcome"] == "failed").tolist()


def test_a_log_that_is_filtered_says_the_same(watched: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """FilterLogEvents finds the same attempts and reports as Logs Insights."""
    assert watched.log.how == "Logs Insights"
    monkeypatch.setattr(logs, "_insights", refused)
    filtered = logs.read(watched.stack, watched.begun_at, watched.ended_at)
    assert filtered.how == "FilterLogEvents"
    for name in ("attempts", "reports"):
        whole, again = getattr(watched.log, name), getattr(filtered, name)
        assert sorted(whole["request_id"]) == sorted(again["request_id"])


def refused(*_: Any) -> Any:
    """Stand for an endpoint that has no Logs Insights."""
    error = {"Error": {"Code": "UnknownOperationException"}}
    raise ClientError(error, "StartQuery")


def test_each_invocation_has_its_report(watched: Run) -> None:
    """Every request id of the table has a platform report; the engine says nothing of how long a cold start took.

    Its memory is that of a worker: a Python process with the AWS SDK loaded.
    """
    found = invocations.invocations(watched.log.reports, watched.attempts)
    assert set(found["request_id"]) == set(watched.attempts["request_id"])
    assert found["duration_s"].notna().all()
    assert found["n_tasks"].sum() == len(watched.attempts)
    assert (found["duration_s"] >= found["longest_s"] - 0.05).all()
    assert found["init_s"].isna().all()
    cold = invocations.cold_starts(found)
    assert 1 <= int(cold["n_cold"] or 0) < len(found)
    assert found["memory_mb"].tolist() == [128] * len(found)
    assert found["max_memory_mb"].between(20, 500).all()


def test_stack_traces_lead_to_the_code(watched: Run) -> None:
    """Failed attempts of the log are grouped by signature, and their traces end in the function's own code."""
    found = invocations.stack_traces(watched.log.attempts)
    assert found["n_attempts"].sum() == (watched.attempts["outcome"] == "failed").sum() > 0
    assert found["raised_at"].str.contains(r"taskq_worker/execute\.py:\d+ in _simulate").all()


def test_the_functions_own_metrics_are_counted_from_its_log(watched: Run) -> None:
    """The engine makes no metrics of the log's lines; counted from them, they say what the table says."""
    wanted = metrics.queries(watched.stack)
    published = metrics.read(watched.stack, wanted, watched.begun_at, watched.ended_at)
    assert published.empty
    assert metrics.missing(wanted, published)["says"].str.startswith("published none in this window: ").all()
    found = embedded.metrics(watched.log.lines)
    stack = found[found["resource"] == watched.stack.name]
    sums = stack.groupby(["metric", "statistic"])["value"].sum()
    assert sums["TaskFailed", "Sum"] == (watched.tasks["state"] == "dead_lettered").sum()
    assert sums["TaskFailed", "SampleCount"] == len(watched.tasks) == N_TASKS
    assert sums["AttemptFailed", "Sum"] == (watched.attempts["outcome"] != "completed").sum()
    assert sums["AttemptFailed", "SampleCount"] == sums["ProcessingTime", "SampleCount"] == len(watched.attempts)
    assert sums["QueueWait", "SampleCount"] == N_TASKS


def test_what_is_published_is_read(watched: Run) -> None:
    """A metric that somebody puts there is found with its value, by the query that the kit asks with."""
    wanted = metrics.queries(watched.stack)
    query = next(one for one in wanted if (one.metric, one.statistic) == ("BreakerOpen", "Sum"))
    dimensions = [{"Name": name, "Value": value} for name, value in query.dimensions.items()]
    datum = {"MetricName": query.metric, "Value": 1, "Dimensions": dimensions, "Timestamp": watched.begun_at}
    watched.stack.target.client("cloudwatch").put_metric_data(Namespace=query.namespace, MetricData=[datum, datum])
    found = metrics.read(watched.stack, [query], watched.begun_at, watched.ended_at)
    assert found[["metric", "value"]].to_dict("records") == [{"metric": "BreakerOpen", "value": 2.0}]


def test_samples_were_kept_while_it_was_waited_for(watched: Run) -> None:
    """The last sample has every task final and nothing in the queue, and their number only grew."""
    assert watched.waited.why == "all final"
    found = samples.load(watched.run)
    assert found["at"].between(watched.begun_at, watched.ended_at).all()
    last = found.iloc[-1]
    final = watched.tasks["state"].value_counts()
    assert (last["n_completed"], last["n_dead_lettered"]) == (final["completed"], final["dead_lettered"])
    assert (last["n_pending"], last["n_processing"], last["n_retrying"]) == (0, 0, 0)
    known = found[found["n_completed"].notna()]
    assert (known[[f"n_{state}" for state in State]].sum(axis=1) == N_TASKS).all()
    assert known["n_completed"].is_monotonic_increasing


def test_the_course_ends_with_an_empty_backlog(watched: Run) -> None:
    """The timeline of a run that ended has all its attempts, and nothing is left."""
    course = monitor.timeline(watched.tasks, watched.attempts)
    assert course["n_ended"].sum() == len(watched.attempts)
    assert course["backlog"].iloc[-1] == 0
    assert len(drain.foreseen(course)) == 3


def test_a_watch_sees_a_backlog_drain(watched: Run) -> None:
    """Of 150 tasks that are sent meanwhile the watch counts each that becomes final, and ends when none is left."""
    manifest = generate(Workload(n_tasks=150, seed=9, duration_median_s=0.05, permanent_share=0.1), "seen")
    watched.run.save("seen", manifest)
    submit.send(watched.stack, watched.run.folder / "seen.parquet", "seen", progress=False)
    seen: list[Any] = []
    began = live.watch(watched.stack, every_s=0.3)
    code = watch.follow(began, 90, lambda sample, expected, rate: seen.append((sample, expected, rate)))
    assert code == 0
    sample, expected, _rate = seen[-1]
    assert (expected.says, sample["n_visible"], sample["n_in_flight"]) == ("drained", 0, 0)
    counted = [row["n_completed"] + row["n_dead_lettered"] for row, _expected, _rate in seen]
    assert counted == sorted(counted)
    # Those that ended before the watch began are not among them.
    table = status.get(watched.stack, manifest["task_id"].tolist()).tasks
    late = (table["updated_at"] > pd.Timestamp(seen[0][0]["at"])).sum()
    assert 0 < late <= counted[-1] <= 150
