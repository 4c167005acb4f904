"""A submitter that is killed, for real, in the middle of thousands of tasks: the same call again, and none is lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import pytest

from taskq_lib import PROJECT_ROOT
from taskq_lib.analysis import ledger
from taskq_lib.analysis.ledger import Ledger
from taskq_lib.aws import queues, sends, status, submit
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.frames import with_pending
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import RunExists
from taskq_lib.report import runs
from taskq_lib.report.runs import Run
from taskq_lib.workload import Workload, generate

pytestmark = pytest.mark.integration

N_TASKS = 3_000
#: The submitter is killed as soon as its journal names so many.
N_BEFORE = 800
#: Submits run `argv[1]` in the folder `argv[2]` to the stack `argv[3]` of the engine at `argv[4]`.
SUBMITTER = """
import boto3, sys
from taskq_lib.aws import stack, submit
from taskq_lib.aws.target import Target
from taskq_lib.report import runs
run = runs.find(sys.argv[1], sys.argv[2])
session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
target = Target(name="local", session=session, region="us-east-1", endpoint_url=sys.argv[4])
submit.send(stack.describe(target, sys.argv[3]), run.manifest, run.id, progress=False)
"""


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """A run whose submitter was killed once."""

    run: Run
    code: int  #: How the killed submitter ended
    refusal: str  #: What a second submitter was told while the first one sent
    files: set[str]  #: What the killed one left
    before: pd.DataFrame  #: What was acknowledged when it was dead
    sends: pd.DataFrame  #: What was acknowledged at the end
    tasks: pd.DataFrame
    account: Ledger


def begin(stack: Stack, run: Run) -> "subprocess.Popen[bytes]":
    """Start a submitter as a process of its own."""
    where = [run.id, str(run.folder.parent), stack.name, str(stack.target.endpoint_url)]
    variables = os.environ | {"PYTHONPATH": f"{PROJECT_ROOT}:{PROJECT_ROOT / 'lambda'}"}
    return subprocess.Popen([sys.executable, "-c", SUBMITTER, *where], env=variables)


def wait_for_journal(stack: Stack, run: Run, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the journal of a running submitter names enough tasks."""
    deadline = time.monotonic() + 60
    while len(sends.sent(stack, run.manifest)) < N_BEFORE:
        assert process.poll() is None, "the submitter ended before it could be killed"
        assert time.monotonic() < deadline, "the journal does not grow"
        time.sleep(0.01)


def wait_until_empty(stack: Stack) -> None:
    """Wait until the queue holds nothing any more: duplicates are delivered after their tasks are done."""
    deadline = time.monotonic() + 60
    while queues.counts(stack).n_unsettled:
        assert time.monotonic() < deadline, "the queue does not drain"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def own(target: Target) -> Iterator[Stack]:
    """A stack of its own, whose queue and counts nobody else disturbs."""
    made = stacks.deploy(target, "resume", {"RetryBaseSeconds": 0}, progress=lambda _status: None)
    yield made
    stacks.delete(made, delete_table=True, progress=lambda _status: None)


@pytest.fixture(scope="module")
def resumed(own: Stack, tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    """Submit, kill, submit again, and wait until every task is final."""
    run = runs.create("resumed", tmp_path_factory.mktemp("runs"))
    manifest = generate(Workload(n_tasks=N_TASKS, duration_median_s=0), run.id)
    runs.keep_manifest(run, manifest)
    process = begin(own, run)
    try:
        wait_for_journal(own, run, process)
        # Stopped, it still holds the run, and cannot end before the second one asks.
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(RunExists) as refused:
            submit.send(own, run.manifest, run.id, progress=False)
    finally:
        process.kill()
        code = process.wait()
    files, before = {path.name for path in run.folder.iterdir()}, sends.sent(own, run.manifest)
    found = submit.send(own, run.manifest, run.id, progress=False)
    status.wait(own, manifest["task_id"].tolist(), timeout_s=120, progress=False)
    wait_until_empty(own)
    tasks = with_pending(status.get(own, manifest["task_id"].tolist()).tasks, manifest, run.id, found)
    account = ledger.close(manifest, tasks, queues.dead_letters(own), queue_is_empty=True)
    return Resumed(
        run=run, code=code, refusal=str(refused.value), files=files, before=before, sends=found, tasks=tasks,
        account=account,
    )  # fmt: skip


def test_the_submitter_was_killed_in_the_middle(resumed: Resumed) -> None:
    """It died by SIGKILL with part of the tasks sent, its journal and nothing else says which, and its lock held."""
    assert resumed.code == -signal.SIGKILL
    assert N_BEFORE <= len(resumed.before) < N_TASKS
    assert resumed.files == {"results.json", "manifest.parquet", "sends.jsonl", "submit.lock"}


def test_a_second_submitter_was_refused(resumed: Resumed) -> None:
    """While the first process had the run, another one was told so."""
    assert "Run 'resumed' is in the hands of another process." in resumed.refusal


def test_every_task_is_completed(resumed: Resumed) -> None:
    """Every task of the manifest is completed at its first attempt, and the ledger closes with none lost."""
    assert resumed.account.closed
    assert (resumed.account.submitted, resumed.account.completed) == (N_TASKS, N_TASKS)
    assert set(resumed.tasks["n_attempts"]) == {1}
    submit.verify(resumed.run.load("manifest"), resumed.sends)


def test_what_was_acknowledged_was_not_sent_again(resumed: Resumed) -> None:
    """What the journal named keeps its message and its time; only what was in flight at the kill may be twice."""
    pd.testing.assert_frame_equal(resumed.sends.head(len(resumed.before)), resumed.before)
    assert resumed.account.duplicates <= submit.MAX_REQUESTS * submit.BATCH_SIZE
    # The function counts the second message of a task; none of those that the journal named had one.
    twice = resumed.tasks.loc[resumed.tasks["n_duplicates"] > 0, "task_id"]
    assert not twice.isin(resumed.before["task_id"]).any()


def test_the_table_has_the_time_of_the_first_message_of_a_task(resumed: Resumed) -> None:
    """A task's time of enqueueing is the acknowledged message's, unless an earlier one of its two came through."""
    sent_at = resumed.sends.set_index("task_id")["enqueued_at"]
    tasks = resumed.tasks.set_index("task_id")
    differing = tasks["enqueued_at"] != sent_at.reindex(tasks.index)
    assert (tasks.loc[differing, "n_duplicates"] > 0).all()
    assert (tasks["enqueued_at"] <= sent_at.reindex(tasks.index)).all()


def test_a_finished_run_sends_nothing(resumed: Resumed, own: Stack) -> None:
    """The same call once more returns the same record, and the queue stays empty."""
    again = submit.send(own, resumed.run.manifest, resumed.run.id, progress=False)
    pd.testing.assert_frame_equal(again, resumed.sends)
    assert {path.name for path in resumed.run.folder.iterdir()} == {"results.json", "manifest.parquet", "sends.parquet"}
    assert queues.counts(own).n_unsettled == 0
