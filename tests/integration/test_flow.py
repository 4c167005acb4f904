"""From a workload to a closed ledger: what is submitted is completed or dead-lettered, and every number is typed."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taskq_lib.analysis import ledger
from taskq_lib.aws import queues, status, submit
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.frames import ATTEMPT_COLUMNS, TASK_COLUMNS, with_pending
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.workload import Workload, generate
from tests.unit.events import task

pytestmark = pytest.mark.integration

Item = Callable[[str], dict[str, Any] | None]


class Run:
    """One run of 60 tasks, from the manifest to what was found at its end."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        """Submit the run and wait for its end."""
        workload = Workload(
            n_tasks=60,
            seed=3,
            duration_median_s=0.02,
            transient_share=0.2,
            permanent_share=0.15,
            arrival_rate_per_s=100,
        )
        self.manifest = generate(workload, "flow")
        self.manifest.to_parquet(folder / "manifest.parquet", index=False)
        self.sends = submit.send(stack, folder / "manifest.parquet", "flow", progress=False)
        self.waited = status.wait(stack, self.manifest["task_id"].tolist(), timeout_s=60, progress=False)
        found = status.get(stack, self.manifest["task_id"].tolist())
        self.tasks = with_pending(found.tasks, self.manifest, "flow", self.sends).set_index("task_id").sort_index()
        self.attempts = found.attempts
        self.dead = queues.dead_letters(stack)
        self.counts = queues.counts(stack)
        answer = stack.target.client("sqs").get_queue_attributes(
            QueueUrl=stack.dead_letter_queue_url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        self.n_dead_visible = int(answer["Attributes"]["ApproximateNumberOfMessages"])
        simulate = pd.DataFrame([json.loads(data)["simulate"] for data in self.manifest["data"]])
        self.fate = simulate.set_axis(self.manifest["task_id"].tolist()).sort_index()

    def ids(self, fail_attempts: int | None) -> list[str]:
        """Return the ids of the tasks that were told to fail so many attempts."""
        told = self.fate["fail_attempts"]
        return self.fate.index[told.isna() if fail_attempts is None else told == fail_attempts].tolist()


@pytest.fixture(scope="module")
def flow(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The run, on a stack of its own whose retries come at once."""
    own = stacks.deploy(target, "flow", {"RetryBaseSeconds": 0}, progress=lambda _status: None)
    yield Run(own, tmp_path_factory.mktemp("flow"))
    stacks.delete(own, delete_table=True, progress=lambda _status: None)


def test_the_ledger_closes(flow: Run) -> None:
    """Every task that was submitted is completed or dead-lettered; none is open, lost or counted twice."""
    assert (flow.waited.n_final, flow.waited.n_open, flow.waited.why) == (60, 0, "all final")
    submit.verify(flow.manifest, flow.sends)
    account = ledger.close(flow.manifest, flow.tasks.reset_index(), flow.dead, queue_is_empty=True)
    assert account.closed
    assert account.balanced
    assert account.submitted == account.completed + account.dead_lettered == 60
    assert (account.open, account.lost, account.duplicates, account.unknown) == (0, 0, 0, 0)
    assert account.dead_lettered == len(flow.ids(-1))


def test_each_kind_of_task_ends_as_it_was_told(flow: Run) -> None:
    """Plain tasks complete at once, transient failures at attempt 2; permanent ones are dead-lettered for why."""
    plain, transient = flow.tasks.loc[flow.ids(None)], flow.tasks.loc[flow.ids(1)]
    assert len(plain) > 20
    assert set(zip(plain["state"], plain["n_attempts"], strict=True)) == {("completed", 1)}
    assert len(transient) > 5
    assert set(zip(transient["state"], transient["n_attempts"], strict=True)) == {("completed", 2)}
    retryable = flow.fate.loc[flow.ids(-1), "retryable"].isna()
    permanent = flow.tasks.loc[flow.ids(-1)]
    assert set(retryable) == {True, False}
    assert set(permanent["state"]) == {"dead_lettered"}
    ends = permanent[["reason", "n_attempts"]].apply(tuple, axis=1)
    assert set(ends[retryable]) == {("max_attempts", 3)}
    assert set(ends[~retryable]) == {("non_retryable", 1)}
    assert permanent["error_type"].tolist() == flow.fate.loc[permanent.index, "error"].tolist()


def test_the_dead_letter_queue_says_the_same(flow: Run) -> None:
    """Each dead-lettered task is in the dead-letter queue once, with reason, error and attempts as in the table."""
    dead = flow.dead.set_index("task_id").sort_index()
    table = flow.tasks.loc[flow.ids(-1)].sort_index()
    assert dead.index.tolist() == table.index.tolist()
    for column in ("reason", "error_type", "error", "n_attempts", "run_id"):
        assert dead[column].tolist() == table[column].tolist(), column
    assert dead["task_type"].tolist() == table["task_type"].tolist()
    assert dead["first_at"].tolist() == table["first_started_at"].tolist()
    assert dead["last_at"].tolist() == table["finished_at"].tolist()


def test_an_inventory_leaves_all_dead_letters_visible(flow: Run) -> None:
    """After the inventory every dead letter is there and visible; the queue itself is empty."""
    assert flow.counts.n_unsettled == 0
    assert flow.n_dead_visible == flow.counts.n_dead == len(flow.dead) == len(flow.ids(-1))


def test_what_was_submitted_is_kept(flow: Run) -> None:
    """Types, priorities and the run are in the table as they were in the manifest, and a result for what completed."""
    expected = flow.manifest.set_index("task_id").sort_index()
    assert flow.tasks["task_type"].astype("str").tolist() == expected["task_type"].astype("str").tolist()
    assert flow.tasks["priority"].tolist() == expected["priority"].tolist()
    assert set(flow.tasks["run_id"]) == {"flow"}
    completed = flow.tasks["state"] == "completed"
    assert flow.tasks["result"].notna().tolist() == completed.tolist()
    assert all("message" in json.loads(result) for result in flow.tasks.loc[completed, "result"])


def test_frames_are_typed(flow: Run) -> None:
    """Every column has exactly its dtype, and none holds objects."""
    tasks = flow.tasks.reset_index()
    assert {name: str(tasks[name].dtype) for name in tasks} == {n: str(d) for n, (_, d) in TASK_COLUMNS.items()}
    assert {n: str(flow.attempts[n].dtype) for n in flow.attempts} == {
        n: str(d) for n, (_, d) in ATTEMPT_COLUMNS.items()
    }
    assert {name: str(flow.dead[name].dtype) for name in flow.dead} == queues.DEAD_COLUMNS
    assert "object" not in {str(dtype) for frame in (tasks, flow.attempts, flow.dead) for dtype in frame.dtypes}


def test_times_are_in_order(flow: Run) -> None:
    """Each task was enqueued, sent, started and finished, in that order; its enqueue time is that of its sending."""
    sends = flow.sends.set_index("task_id").sort_index()
    # The record of sends and the table have it from the same number.
    assert flow.tasks["enqueued_at"].tolist() == sends["enqueued_at"].tolist()
    slack = pd.Timedelta(milliseconds=2)  # SQS and the function round differently
    assert (flow.tasks["enqueued_at"] <= flow.tasks["sent_at"] + slack).all()
    assert (flow.tasks["sent_at"] <= flow.tasks["first_started_at"] + slack).all()
    assert (flow.tasks["first_started_at"] <= flow.tasks["last_started_at"]).all()
    assert (flow.tasks["last_started_at"] <= flow.tasks["finished_at"]).all()
    told_s = flow.fate["seconds"]
    took_s = (flow.tasks["finished_at"] - flow.tasks["last_started_at"]).dt.total_seconds()
    assert (took_s >= told_s - 0.002).all()


def test_every_attempt_is_a_row(flow: Run) -> None:
    """The attempts of a task are as many as it counts, numbered from 1, and only the last may have completed."""
    by_task = flow.attempts.groupby("task_id")
    assert by_task.size().sort_index().tolist() == flow.tasks["n_attempts"].tolist()
    assert all(numbers.tolist() == list(range(1, len(numbers) + 1)) for _, numbers in by_task["attempt"])
    last = by_task["outcome"].last().sort_index()
    assert ((last == "completed") == (flow.tasks["state"] == "completed")).all()
    assert set(flow.attempts["outcome"]) == {"completed", "failed"}
    failed = flow.attempts[flow.attempts["outcome"] == "failed"]
    assert failed["error"].str.startswith("simulated failure of attempt ").all()
    assert flow.attempts["request_id"].notna().all()
    assert flow.attempts["cold_start"].any()


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait up to 20 s until `holds()`."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.1)


def test_a_malformed_message_ends_in_the_dead_letter_queue(stack: Stack, run_id: str) -> None:
    """A message that holds no task is found among the dead letters as invalid, while the tasks around it complete."""
    sqs = stack.target.client("sqs")
    bodies = [task(f"{run_id}-a").to_body(), f"{run_id} is no JSON", task(f"{run_id}-b").to_body()]
    entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(bodies)]
    sqs.send_message_batch(QueueUrl=stack.queue_url, Entries=entries)
    waited = status.wait(stack, [f"{run_id}-a", f"{run_id}-b"], timeout_s=20, progress=False)
    assert waited.why == "all final"
    assert set(status.get(stack, [f"{run_id}-a", f"{run_id}-b"]).tasks["state"]) == {"completed"}
    wait_until(lambda: queues.counts(stack).n_unsettled == 0, "the queue is empty")
    dead = queues.dead_letters(stack).set_index("body").loc[bodies[1]]
    assert (dead["reason"], dead["error_type"], dead["n_attempts"]) == ("invalid", "InvalidMessage", 0)
    assert dead["error"].startswith("the body is not JSON")


def test_a_task_that_takes_too_long_is_dead_lettered(stack: Stack, item: Item, run_id: str) -> None:
    """A task that always outlasts the function's time fails each attempt by TimeoutError and ends with its budget."""
    submit.send_one(stack, task(f"{run_id}-slow", simulate={"seconds": 60}))
    waited = status.wait(stack, [f"{run_id}-slow"], timeout_s=40, progress=False)
    assert waited.why == "all final"
    found = item(f"{run_id}-slow")
    assert found is not None
    assert (found["reason"], found["errorType"], found["attempts"]) == ("max_attempts", "TimeoutError", 3)
    assert [entry["outcome"] for entry in found["attemptLog"]] == ["failed"] * 3
