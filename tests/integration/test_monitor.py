"""What the engine's log, samples and metrics say of a run of 200 tasks, held against the status table."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taskq_lib.analysis import drain, invocations, monitor
from taskq_lib.aws import live, logs, metrics, status, submit
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.frames import attempts_frame
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.commands import watch
from taskq_lib.report import runs, samples
from taskq_lib.workload import Workload, generate

pytestmark = pytest.mark.integration

N_TASKS = 200


class Run:
    """One run of 200 tasks that was waited for, and its log."""

    def __init__(self, stack: Stack, root: Path) -> None:
        """Submit it, wait for its end while samples are kept, and read it."""
        self.stack, self.begun_at = stack, datetime.now(UTC)
        self.run = runs.create("watched", root)
        # A run id that is another's beginning must not mix the two.
        manifest = generate(
            Workload(n_tasks=N_TASKS, seed=5, duration_median_s=0.05, transient_share=0.2, permanent_share=0.1), "watched"
        )
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
    """FilterLogEvents finds the same attempts and reports as Logs Insights, whole though its answers are cut."""
    assert watched.log.how == "Logs Insights"
    monkeypatch.setattr(logs, "_QUERY", "no query")
    monkeypatch.setattr(logs, "_insights", refused)
    monkeypatch.setattr(logs, "LIMIT", 10_000)
    filtered = logs.read(watched.stack, watched.begun_at, watched.ended_at)
    assert filtered.how == "FilterLogEvents"
    for name in ("attempts", "reports"):
        whole, again = (getattr(log, name).sort_values("request_id").reset_index(drop=True) for log in (watched.log, filtered))
        assert len(whole) == len(again)
        assert sorted(whole["request_id"]) == sorted(again["request_id"])


def refused(*_: Any) -> Any:
    """Stand for an endpoint that has no Logs Insights."""
    error = {"Error": {"Code": "UnknownOperationException"}}
    raise logs.ClientError(error, "StartQuery")
