"""Two queues on the engine: each task goes to the one that takes it, and what acts on the queue acts on both."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taskq_lib.analysis import ledger
from taskq_lib.aws import control, queues, redrive, replacement, sends, status, submit
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.journal import Journal
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput, NotDone
from taskq_lib.workload import Workload, generate
from tests.unit.events import task

pytestmark = pytest.mark.integration

QUICK = {"RetryBaseSeconds": 0, "FunctionTimeoutSeconds": 10, "VisibilityTimeoutSeconds": 30}


def deployed(target: Target, name: str, **parameters: object) -> Iterator[Stack]:
    """Deploy a stack of this module's own, and delete it at the end."""
    live = stacks.deploy(target, name, QUICK | parameters, progress=lambda _status: None)
    yield live
    stacks.delete(live, delete_table=True, progress=lambda _status: None)


@pytest.fixture(scope="module")
def urgent(target: Target) -> Iterator[Stack]:
    """A stack whose second queue takes priority 7 and above; its first queue has two places in the function."""
    yield from deployed(target, "urgent", SecondQueueFor="priority", MaximumConcurrency=2)


@pytest.fixture(scope="module")
def typed(target: Target) -> Iterator[Stack]:
    """A stack whose second queue takes two types."""
    yield from deployed(
        target, "typed", SecondQueueFor="type", SecondQueueTypes="SEND_EMAIL,PROCESS_DATA", MaximumConcurrency=2
    )


def submitted(live: Stack, folder: Path, run_id: str, **workload: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Send a workload; returns its manifest and what SQS acknowledged."""
    manifest = generate(Workload(**workload), run_id)
    manifest.to_parquet(folder / "manifest.parquet", index=False)
    return manifest, submit.send(live, folder / "manifest.parquet", run_id, progress=False)


def held(live: Stack) -> list[int]:
    """Return how many messages are in the first queue and in the second."""
    return [sum(one) for one in queues.counts(live).by_queue.values()]


def read(live: Stack, ids: list[str]) -> pd.DataFrame:
    """Wait for the tasks and return them; all must be final within a minute."""
    assert status.wait(live, ids, timeout_s=60, progress=False).why == "all final"
    return status.get(live, ids).tasks


def test_each_task_goes_to_the_queue_that_takes_its_priority(urgent: Stack, tmp_path: Path, run_id: str) -> None:
    """Of a paused stack each queue holds its own tasks, and after a resume of both all of them complete."""
    assert control.pause(urgent, 30) == "The mappings of both queues are Disabled."
    manifest, acknowledged = submitted(urgent, tmp_path, run_id, n_tasks=60, priorities="2:2,6:1,7:1,9:1")
    submit.verify(manifest, acknowledged)
    n_urgent = int((manifest["priority"] >= 7).sum())
    assert 0 < n_urgent < 60
    assert held(urgent) == [60 - n_urgent, n_urgent]
    assert queues.counts(urgent).facts()[f"all in {urgent.queues[1].name}"] == n_urgent
    assert control.verify_paused(urgent, 30).n_visible == 60
    assert control.resume(urgent, 30) == "The mappings of both queues are Enabled."
    control.verify_resumed(urgent, 30)
    tasks = read(urgent, manifest["task_id"].tolist())
    assert ledger.close(manifest, tasks, queues.dead_letters(urgent), queue_is_empty=True).completed == 60


def test_urgent_tasks_overtake_a_backlog(target: Target, tmp_path: Path, run_id: str) -> None:
    """Sent behind a backlog of 5,000 others, urgent tasks are done while most of those have not begun."""
    parameters = QUICK | {"SecondQueueFor": "priority", "MaximumConcurrency": 2}
    own = stacks.deploy(target, "overtaken", parameters, progress=lambda _status: None)
    control.pause(own, 30)
    (tmp_path / "normal").mkdir()
    submitted(own, tmp_path / "normal", f"{run_id}n", n_tasks=5_000, priorities="5", duration_median_s=0.001)
    fast, _ = submitted(own, tmp_path, f"{run_id}u", n_tasks=40, priorities="9", duration_median_s=0.001)
    assert held(own) == [5_000, 40]
    control.resume(own, 30)
    assert set(read(own, fast["task_id"].tolist())["state"]) == {"completed"}
    assert held(own)[0] > 2_500
    # Nobody waits for the rest: what is left goes with the stack.
    stacks.delete(own, delete_table=True, progress=lambda _status: None)


def test_each_task_goes_to_the_queue_that_takes_its_type(typed: Stack, tmp_path: Path, run_id: str) -> None:
    """The two types that the second queue is for go there whatever their priority, the third to the first queue."""
    control.pause(typed, 30)
    manifest, _ = submitted(typed, tmp_path, run_id, n_tasks=60)
    n_second = int(manifest["task_type"].isin(["SEND_EMAIL", "PROCESS_DATA"]).sum())
    assert held(typed) == [60 - n_second, n_second]
    assert {typed.queue_for(kind, priority).url for kind in ("SEND_EMAIL", "PROCESS_DATA") for priority in (0, 9)} == {
        typed.outputs["SecondQueueUrl"]
    }
    control.resume(typed, 30)
    assert set(read(typed, manifest["task_id"].tolist())["state"]) == {"completed"}


def test_a_retry_goes_on_in_its_own_queue(typed: Stack, run_id: str) -> None:
    """Tasks of both queues that fail once complete at their second attempt: each is given back to its own queue."""
    fails = {"fail_attempts": 1, "error": "DependencyTimeout"}
    submit.send_one(typed, task(f"{run_id}-mail", simulate=fails))
    submit.send_one(typed, task(f"{run_id}-image", type="IMAGE_RESIZE", simulate=fails))
    tasks = read(typed, [f"{run_id}-mail", f"{run_id}-image"])
    assert set(zip(tasks["state"], tasks["n_attempts"], strict=True)) == {("completed", 2)}


def test_a_redrive_goes_to_the_queue_of_its_task(urgent: Stack, run_id: str) -> None:
    """Dead letters of both queues lie in one, and each goes back to its own; one that an edit makes urgent to that."""
    never = {"fail_attempts": -1, "retryable": False}
    ids = [f"{run_id}-{name}" for name in ("urgent", "normal", "raised")]
    for task_id, priority in zip(ids, (9, 2, 3), strict=True):
        submit.send_one(urgent, task(task_id, priority=priority, simulate=never))
    assert set(read(urgent, ids)["state"]) == {"dead_lettered"}
    control.pause(urgent, 30)
    letters = queues.dead_letters(urgent).set_index("task_id").loc[ids, "message_id"]
    edits: list[tuple[list[str], dict[str, Any]]] = [
        (ids[:2], {"data": {"simulate": None}}),
        (ids[2:], {"data": {"simulate": None}, "priority": 8}),
    ]
    for some, patch in edits:
        assert redrive.move(urgent, Journal(), letters.loc[some].tolist(), patch, 0, progress=False) == {}
    assert held(urgent) == [1, 2]
    control.resume(urgent, 30)
    end = time.monotonic() + 30
    while queues.counts(urgent).n_unsettled:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert set(read(urgent, ids)["state"]) == {"completed"}


def test_a_verification_sees_either_mapping(urgent: Stack, run_id: str) -> None:
    """While one of two mappings is in another state, neither a pause nor a resume is verified, and both are named."""
    client = urgent.target.client("lambda")
    client.update_event_source_mapping(UUID=urgent.queues[1].mapping_id, Enabled=False)
    assert control.state(urgent) == "Enabled and Disabled"
    for verify in (control.verify_paused, control.verify_resumed):
        with pytest.raises(NotDone, match="is Enabled and Disabled, not"):
            verify(urgent, 5)
    with pytest.raises(NotDone, match="is Enabled and Disabled: tasks wait") as refused:
        control.wait_enabled(urgent)
    assert all(queue.mapping_id in refused.value.hint for queue in urgent.queues)
    submit.send_one(urgent, task(f"{run_id}-urgent", priority=9))
    control.resume(urgent, 30)
    assert control.state(urgent) == "Enabled"
    assert set(read(urgent, [f"{run_id}-urgent"])["state"]) == {"completed"}


def test_a_teardown_counts_and_deletes_both(target: Target, run_id: str) -> None:
    """Messages in the second queue alone stop a teardown, and after it neither queue is there."""
    own = stacks.deploy(target, "torn", QUICK | {"SecondQueueFor": "priority"}, progress=lambda _status: None)
    control.pause(own, 30)
    submit.send_one(own, task(f"{run_id}-urgent", priority=7))
    with pytest.raises(BadInput, match="The queues hold 1 messages and the dead-letter queue 0"):
        queues.refuse_messages(queues.counts(own), allowed=False)
    stacks.delete(own, delete_table=True, progress=lambda _status: None)
    there = target.client("sqs").list_queues().get("QueueUrls", [])
    assert {own.dead_letter_queue_url, *(queue.url for queue in own.queues)}.isdisjoint(there)


def test_a_second_queue_that_is_made_anew_has_lost_its_messages_alone(
    target: Target, tmp_path: Path, run_id: str
) -> None:
    """After the second queue was removed, a run that goes on sends again what was in that one, and nothing else."""
    own = stacks.deploy(target, "changed", QUICK | {"SecondQueueFor": "priority"}, progress=lambda _status: None)
    control.pause(own, 30)
    manifest, _ = submitted(own, tmp_path, run_id, n_tasks=30)
    n_urgent = int((manifest["priority"] >= 7).sum())
    for allowed in (False, True):
        planned = stacks.preview(target, "changed", {"SecondQueueFor": "none"})
        with pytest.raises(BadInput, match=f"removes SecondQueue, which is deleted with its {n_urgent} messages"):
            replacement.refuse(planned, allowed=allowed)
        left = target.client("cloudformation").list_change_sets(StackName="changed")["Summaries"]
        assert planned.change_set not in [one["ChangeSetId"] for one in left]
    one = stacks.deploy(target, "changed", {"SecondQueueFor": "none"}, progress=lambda _status: None)
    assert len(one.queues) == 1
    known = sends.sent(one, tmp_path / "manifest.parquet")
    assert set(known["task_id"]) == set(manifest.loc[manifest["priority"] < 7, "task_id"])
    submit.verify(manifest, submit.send(one, tmp_path / "manifest.parquet", run_id, progress=False))
    assert held(one) == [30]
    assert n_urgent > 0
    stacks.delete(one, delete_table=True, progress=lambda _status: None)
