"""A FIFO stack on the engine: order is kept within each message group, through retries, dead letters and redrives."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taskq_lib.analysis import ledger, order
from taskq_lib.aws import control, queues, redrive, status, submit
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.frames import with_pending
from taskq_lib.aws.journal import Journal
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput
from taskq_lib.workload import Workload, generate
from tests.unit.events import task

pytestmark = pytest.mark.integration

QUICK = {"RetryBaseSeconds": 0, "FunctionTimeoutSeconds": 10, "VisibilityTimeoutSeconds": 30}
#: Fails for good at its first attempt.
NEVER = {"fail_attempts": -1, "retryable": False}


def deployed(target: Target, name: str, **parameters: object) -> Iterator[Stack]:
    """Deploy a FIFO stack of this module's own, and delete it at the end."""
    values = QUICK | {"FifoQueue": "true", "BreakerFailurePercent": 0} | parameters
    live = stacks.deploy(target, name, values, progress=lambda _status: None)
    yield live
    stacks.delete(live, delete_table=True, progress=lambda _status: None)


@pytest.fixture(scope="module")
def fifo_stack(target: Target) -> Iterator[Stack]:
    """A FIFO stack that deduplicates by task id."""
    yield from deployed(target, "fifo")


@pytest.fixture(scope="module")
def two_queues(target: Target) -> Iterator[Stack]:
    """A FIFO stack with a second queue for the urgent, which deduplicates by content."""
    yield from deployed(target, "fifo-two", SecondQueueFor="priority", FifoDeduplication="content")


def submitted(live: Stack, folder: Path, run_id: str, **workload: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Send a workload; returns its manifest and what SQS acknowledged."""
    manifest = generate(Workload(**workload), run_id)
    manifest.to_parquet(folder / "manifest.parquet", index=False)
    return manifest, submit.send(live, folder / "manifest.parquet", run_id, progress=False)


def read(live: Stack, ids: list[str]) -> pd.DataFrame:
    """Wait for the tasks and return them; all must be final within a minute."""
    assert status.wait(live, ids, timeout_s=60, progress=False).why == "all final"
    return status.get(live, ids).tasks


def drained(live: Stack) -> None:
    """Wait until no message is left in the queues."""
    end = time.monotonic() + 30
    while queues.counts(live).n_unsettled:
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(("name", "groups"), [("fifo_stack", ""), ("two_queues", "a:5,b:3,c:1")])
def test_order_is_kept_in_each_group(
    request: pytest.FixtureRequest, tmp_path: Path, run_id: str, name: str, groups: str
) -> None:
    """With retries and final failures among them, no task starts or ends before one of its group that was sent earlier.

    It holds for groups by type and by key, for both deduplications, and in each of two queues; the ledger closes.
    """
    live: Stack = request.getfixturevalue(name)
    manifest, acknowledged = submitted(
        live, tmp_path, run_id, n_tasks=150, groups=groups, duration_median_s=0.005, transient_share=0.1,
        permanent_share=0.1,
    )  # fmt: skip
    submit.verify(manifest, acknowledged)
    tasks = read(live, manifest["task_id"].tolist())
    drained(live)
    expected = manifest.set_index("task_id")["message_group"].fillna(manifest.set_index("task_id")["task_type"])
    assert tasks["message_group"].tolist() == expected[tasks["task_id"]].astype("str").tolist()
    urls = [live.queue_for(str(kind), p).url for kind, p in zip(tasks["task_type"], tasks["priority"], strict=True)]
    found = order.by_group(tasks, manifest, pd.Series(urls, index=tasks.index, dtype="str"))
    assert set(found["queue"]) == {queue.url for queue in live.queues}
    assert order.summary(found)["n_groups_kept"] == len(found)
    assert found["n_finished"].sum() == len(tasks)
    assert set(tasks.loc[tasks["state"] == "completed", "n_attempts"]) == {1, 2}
    account = ledger.close(manifest, tasks, queues.dead_letters(live), queue_is_empty=True)
    assert (account.closed, account.lost, account.dead_lettered > 0) == (True, 0, True)


def test_a_failing_task_stops_its_group_alone(fifo_stack: Stack, run_id: str) -> None:
    """Behind a task that waits for its retry its group waits untouched, while another group goes on to its end."""
    bad = task(f"{run_id}-bad", simulate={"fail_attempts": 1, "retry_after_s": 4})
    behind, others = task(f"{run_id}-behind"), [task(f"{run_id}-other-{i}") for i in range(15)]
    for one in (bad, behind):
        submit.send_one(fifo_stack, one, "stopped")
    for one in others:
        submit.send_one(fifo_stack, one, "goes-on")
    tasks = read(fifo_stack, [bad.task_id, behind.task_id, *(one.task_id for one in others)]).set_index("task_id")
    first, second = tasks.loc[bad.task_id], tasks.loc[behind.task_id]
    assert (first["n_attempts"], second["n_attempts"]) == (2, 1)
    assert second["first_started_at"] >= first["finished_at"]
    assert (first["finished_at"] - first["first_started_at"]).total_seconds() >= 4
    ends = tasks.loc[[one.task_id for one in others], "finished_at"]
    assert (ends < first["finished_at"]).all()


def test_every_dead_letter_of_one_group_is_found_and_redriven(fifo_stack: Stack, run_id: str) -> None:
    """Thirty dead letters of one group are all listed, and redriven at once they run again, in their group.

    SQS hands out no more of a group while ten of it are hidden, and it drops within 5 minutes what it takes for the
    same message: neither may happen to dead letters.
    """
    ids = [f"{run_id}-{i:02d}" for i in range(30)]
    for task_id in ids:
        submit.send_one(fifo_stack, task(task_id, simulate=NEVER), "tenant")
    assert set(read(fifo_stack, ids)["state"]) == {"dead_lettered"}
    for n_redrives, (patch, ends_as) in enumerate(
        [({}, "dead_lettered"), ({"data": {"simulate": None}}, "completed")], start=1
    ):
        drained(fifo_stack)
        letters = queues.dead_letters(fifo_stack)
        letters = letters[letters["task_id"].isin(ids)]
        assert sorted(letters["task_id"]) == ids
        log = Journal()
        assert redrive.move(fifo_stack, log, letters["message_id"].tolist(), patch, 0, progress=False) == {}
        assert set(log.states.values()) == {"deleted"}
        drained(fifo_stack)
        tasks = read(fifo_stack, ids)
        assert set(zip(tasks["state"], tasks["n_redrives"], strict=True)) == {(ends_as, n_redrives)}
        assert set(tasks["message_group"]) == {"tenant"}


def test_a_task_that_is_sent_twice_is_dropped_by_its_id(fifo_stack: Stack, two_queues: Stack, run_id: str) -> None:
    """By task id SQS drops the second message; by content it does not, and the function counts it as a duplicate."""
    for live, n_duplicates in ((fifo_stack, 0), (two_queues, 1)):
        for number in range(2):
            submit.send_one(live, task(f"{run_id}-twice", enqueued_at=1.8e9 + number), "g")
        read(live, [f"{run_id}-twice"])
        drained(live)
        [row] = status.get(live, [f"{run_id}-twice"]).tasks.to_dict("records")
        assert (row["state"], row["n_attempts"], row["n_duplicates"]) == ("completed", 1, n_duplicates)


def test_a_pause_and_a_teardown_are_of_both_fifo_queues(two_queues: Stack, run_id: str) -> None:
    """What is sent during a pause waits in both queues, stops a teardown, and is done in order after a resume."""
    control.pause(two_queues, 30)
    ids = [f"{run_id}-{i}" for i in range(8)]
    for number, task_id in enumerate(ids):
        submit.send_one(two_queues, task(task_id, priority=9 if number % 2 else 1), "g")
    counts = queues.counts(two_queues)
    assert [sum(held) for held in counts.by_queue.values()] == [4, 4]
    with pytest.raises(BadInput, match="The queues hold 8 messages"):
        queues.refuse_messages(counts, allowed=False)
    assert control.verify_paused(two_queues, 30).n_visible == 8
    control.resume(two_queues, 30)
    control.verify_resumed(two_queues, 30)
    tasks = read(two_queues, ids).set_index("task_id").loc[ids]
    for rows in (tasks[::2], tasks[1::2]):
        assert rows["first_started_at"].is_monotonic_increasing


def test_a_tenant_of_a_fair_queue_is_known_by_its_group(stack: Stack, tmp_path: Path, run_id: str) -> None:
    """On a standard queue the message group comes with the task to its status, and none where none was given."""
    manifest, acknowledged = submitted(stack, tmp_path, run_id, n_tasks=40, groups="big:9,small:1")
    submit.send_one(stack, task(f"{run_id}-alone"))
    tasks = read(stack, [*manifest["task_id"], f"{run_id}-alone"]).set_index("task_id")
    assert tasks.loc[manifest["task_id"], "message_group"].tolist() == manifest["message_group"].tolist()
    assert tasks["message_group"].isna().sum() == 1
    pending = with_pending(tasks.reset_index().head(0), manifest, run_id, acknowledged)
    assert pending["message_group"].tolist() == manifest["message_group"].tolist()
