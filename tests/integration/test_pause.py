"""Pause and resume on the engine: nothing is taken while the queue is paused, and no attempt is used up by it."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest

from taskq_lib.aws import control, queues, status, submit
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import NotDone
from tests.unit.events import task

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def own(target: Target) -> Iterator[Stack]:
    """A stack of this module's own, whose mapping no other test needs."""
    parameters = {"RetryBaseSeconds": 0, "FunctionTimeoutSeconds": 10, "VisibilityTimeoutSeconds": 30}
    live = stacks.deploy(target, "pause", parameters, progress=lambda _status: None)
    yield live
    stacks.delete(live, delete_table=True, progress=lambda _status: None)


@pytest.fixture(autouse=True)
def _running(own: Stack) -> None:
    """Each test begins with a mapping that is enabled."""
    control.resume(own, 30)


def test_a_pause_keeps_what_comes_and_a_resume_does_it(own: Stack, run_id: str) -> None:
    """What is sent during a pause waits untouched and is done afterwards, each at its first attempt."""
    assert control.pause(own, 30) == "The mapping is Disabled."
    assert control.verify_paused(own, 30).n_in_flight == 0
    ids = [f"{run_id}-{i}" for i in range(12)]
    for task_id in ids:
        submit.send_one(own, task(task_id))
    time.sleep(2)
    assert queues.counts(own).n_visible == 12
    assert status.get(own, ids).tasks.empty
    assert control.resume(own, 30) == "The mapping is Enabled."
    control.verify_resumed(own, 30)
    assert status.wait(own, ids, timeout_s=30, progress=False).why == "all final"
    tasks = status.get(own, ids).tasks
    assert set(zip(tasks["state"], tasks["n_attempts"], strict=True)) == {("completed", 1)}


def test_what_is_in_flight_finishes(own: Stack, run_id: str) -> None:
    """A task that runs when the queue is paused ends as if nothing had been, and the pause is verified only then."""
    submit.send_one(own, task(f"{run_id}-slow", simulate={"seconds": 4}))
    while queues.counts(own).n_in_flight == 0:
        time.sleep(0.05)
    control.pause(own, 30)
    assert queues.counts(own).n_in_flight == 1
    with pytest.raises(NotDone, match=r"1 messages are still in flight after 0\.1 s.*") as refused:
        control.verify_paused(own, 0.1)
    assert "or they wait for a retry, an open circuit breaker" in str(refused.value)
    assert "update-event-source-mapping" in refused.value.hint
    assert control.verify_paused(own, 30).n_unsettled == 0
    [state] = status.get(own, [f"{run_id}-slow"]).tasks["state"]
    assert state == "completed"


def test_a_retry_that_waits_is_in_flight(own: Stack) -> None:
    """A message that was given back with a delay is in flight until then, and a pause is verified only after that."""
    sqs = own.target.client("sqs")
    control.pause(own, 30)
    sqs.send_message(QueueUrl=own.queue_url, MessageBody="waits")
    [message] = sqs.receive_message(QueueUrl=own.queue_url)["Messages"]
    sqs.change_message_visibility(QueueUrl=own.queue_url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=3)
    assert queues.counts(own).n_in_flight == 1
    begun = time.monotonic()
    assert control.verify_paused(own, 30).n_visible == 1
    assert time.monotonic() - begun >= control.STEADY_S
    sqs.purge_queue(QueueUrl=own.queue_url)


def test_the_same_again_changes_nothing(own: Stack) -> None:
    """Pausing what is paused, or resuming what runs, is no error and says that nothing was changed."""
    assert control.resume(own, 30) == "The mapping was Enabled already; nothing was changed."
    control.pause(own, 30)
    assert control.pause(own, 30) == "The mapping was Disabled already; nothing was changed."
    assert control.state(own) == "Disabled"


def test_a_verification_sees_the_other_state(own: Stack) -> None:
    """Neither check holds for a mapping in the other state; each says how to go on."""
    with pytest.raises(NotDone, match=r"'pause' is Enabled, not Disabled"):
        control.verify_paused(own, 5)
    control.pause(own, 30)
    with pytest.raises(NotDone, match=r"'pause' is Disabled, not Enabled"):
        control.verify_resumed(own, 5)


def test_the_flow_is_measured(own: Stack, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the queue is paused its growth is what arrives, and the retention is the queue's own."""
    monkeypatch.setattr(control, "GROWTH_S", 2.0)
    control.pause(own, 30)
    before = queues.counts(own).n_unsettled

    def arrive_and_sleep(seconds: float, sleep: object = time.sleep) -> None:
        for i in range(10):
            submit.send_one(own, task(f"{run_id}-{i}"))
        assert callable(sleep)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", arrive_and_sleep)
    found = control.flow(own)
    monkeypatch.undo()
    assert 3 < found.growth_per_s <= 5
    assert found.counts.n_unsettled == before + 10
    assert found.retention_h == 96


class Slow:
    """Lambda as it is on AWS: a change takes its time, and while it does another one is refused."""

    exceptions = boto3.client("lambda", region_name="us-east-1").exceptions

    def __init__(self, *states: str, refusals: int = 0) -> None:
        """Tell these states, the last one for good, and refuse the first changes."""
        self.states, self.refusals = list(states), refusals
        self.asked: list[bool] = []

    def get_event_source_mapping(self, **_: Any) -> dict[str, str]:
        """Tell the next state."""
        return {"State": self.states.pop(0) if len(self.states) > 1 else self.states[0]}

    def update_event_source_mapping(self, *, Enabled: bool, **_: Any) -> None:  # noqa: N803 - boto3's own name
        """Take a change, or refuse it."""
        self.asked.append(Enabled)
        if len(self.asked) <= self.refusals:
            raise self.exceptions.ResourceInUseException({"Error": {"Code": "ResourceInUseException"}}, "Update")


@pytest.mark.parametrize(
    ("states", "refusals", "n_asked"),
    [
        (["Enabled", "Disabling", "Disabling", "Disabled"], 0, 1),
        (["Disabling", "Disabled"], 0, 0),
        (["Enabling", "Enabled", "Disabling", "Disabled"], 1, 2),
    ],
)
def test_a_mapping_that_takes_its_time_is_waited_for(
    own: Stack, states: list[str], refusals: int, n_asked: int
) -> None:
    """A pause asks once, again only where the mapping was busy, not at all where it is on its way; then it waits."""
    slow = Slow(*states, refusals=refusals)
    live = replace(own, target=replace(own.target, _clients={"lambda": slow}))
    assert control.pause(live, 10) == "The mapping is Disabled."
    assert slow.asked == [False] * n_asked


def test_a_mapping_that_does_not_get_there_is_given_up(own: Stack) -> None:
    """After the time that was given, the state is named, with both ways on."""
    live = replace(own, target=replace(own.target, _clients={"lambda": Slow("Disabled", "Enabling")}))
    with pytest.raises(NotDone, match=r"'pause' is Enabling, not Enabled, after 0\.5 s") as refused:
        control.resume(live, 0.5)
    assert "--no-enabled" in refused.value.hint
