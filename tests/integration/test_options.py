"""The options of the template on the engine: each is deployed as it is given, and acts as far as the engine goes."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest

from taskq_lib.aws import control, queues, status, submit
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from tests.unit.events import task

pytestmark = pytest.mark.integration

BASE = {"RetryBaseSeconds": 0, "FunctionTimeoutSeconds": 10, "VisibilityTimeoutSeconds": 30, "BreakerFailurePercent": 0}
#: So many batches of a mapping the engine runs at a time where nothing bounds it.
ENGINE_CONCURRENCY = 5
UNBOUND = {"MaximumConcurrency": 0, "ReservedConcurrency": 0, "MinimumPollers": 0, "MaximumPollers": 0}

Deploy = Callable[..., Stack]


@pytest.fixture(scope="module")
def deploy(target: Target) -> Iterator[Deploy]:
    """Let a test deploy a stack with an option; all are deleted at the end."""
    live: dict[str, Stack] = {}

    def make(name: str, **parameters: Any) -> Stack:
        live[name] = stacks.deploy(target, name, BASE | parameters, progress=lambda _status: None)
        control.wait_enabled(live[name])
        return live[name]

    yield make
    for stack in live.values():
        stacks.delete(stack, delete_table=True, progress=lambda _status: None)


@pytest.fixture(scope="module")
def one_by_one(deploy: Deploy) -> Deploy:
    """Let a test set what bounds the concurrency of a stack whose batches hold one task; the rest is unbounded."""
    return lambda **parameters: deploy("bounded", BatchSize=1, **(UNBOUND | parameters))


def mapping(stack: Stack, output: str = "EventSourceMappingId") -> dict[str, Any]:
    """Return a mapping as Lambda describes it."""
    found: dict[str, Any] = stack.target.client("lambda").get_event_source_mapping(UUID=stack.outputs[output])
    return found


def function(stack: Stack) -> dict[str, Any]:
    """Return the function as Lambda describes it."""
    name = stack.outputs["FunctionName"]
    found: dict[str, Any] = stack.target.client("lambda").get_function_configuration(FunctionName=name)
    return found


def reserved(stack: Stack) -> int | None:
    """Return the function's reserved concurrency; None where it has none."""
    client = stack.target.client("lambda")
    found: int | None = client.get_function_concurrency(FunctionName=stack.outputs["FunctionName"]).get(
        "ReservedConcurrentExecutions"
    )
    return found


def attributes(stack: Stack, output: str) -> dict[str, str]:
    """Return the attributes of a queue as SQS says them."""
    found: dict[str, str] = stack.target.client("sqs").get_queue_attributes(
        QueueUrl=stack.outputs[output], AttributeNames=["All"]
    )["Attributes"]
    return found


def attempts(stack: Stack, run_id: str, n_tasks: int, seconds: float = 0.0) -> pd.DataFrame:
    """Put a backlog of tasks on a queue that is paused, let it go, and return its attempts; all complete."""
    control.pause(stack, 30)
    ids = [f"{run_id}-{number}" for number in range(n_tasks)]
    for task_id in ids:
        submit.send_one(stack, task(task_id, simulate={"seconds": seconds}))
    while queues.counts(stack).n_visible < n_tasks:
        time.sleep(0.05)
    control.resume(stack, 30)
    assert status.wait(stack, ids, timeout_s=60, progress=False).why == "all final"
    found = status.get(stack, ids)
    assert set(zip(found.tasks["state"], found.tasks["n_attempts"], strict=True)) == {("completed", 1)}
    return found.attempts


def second_in_preview(stack: Stack, **parameters: Any) -> set[str]:
    """Return what a previewed change would do with what belongs to the second queue; the first stays as it is."""
    planned = stacks.preview(stack.target, stack.name, parameters)
    stacks.discard(planned)
    changes = planned.changes.set_index("resource")["action"]
    assert "Queue" not in changes
    found = {str(action) for resource, action in changes.items() if str(resource).startswith("Second")}
    assert {"SecondQueue", "SecondQueuePolicy", "SecondEventSourceMapping"} <= set(changes.index)
    return found


def most_at_a_time(attempts: pd.DataFrame) -> int:
    """Return how many attempts ran at the same time at most."""
    changes = pd.concat(
        [pd.Series(1, index=attempts["started_at"]), pd.Series(-1, index=attempts["finished_at"])]
    ).sort_index(kind="stable")
    return int(changes.groupby(level=0).sum().cumsum().max())


def test_batch_and_function_are_as_they_are_given(deploy: Deploy, run_id: str) -> None:
    """Batch size, window, memory, architecture and runtime are those of the parameters; whole batches are handled.

    The engine runs the function with its own Python on its own processor, whatever runtime and architecture say, and
    does not wait for the window.
    """
    stack = deploy(
        "sized", BatchSize=25, BatchWindowSeconds=1, FunctionMemoryMb=512, FunctionArchitecture="arm64",
        FunctionRuntime="python3.14",
    )  # fmt: skip
    assert (mapping(stack)["BatchSize"], mapping(stack)["MaximumBatchingWindowInSeconds"]) == (25, 1)
    found = function(stack)
    assert (found["MemorySize"], found["Architectures"], found["Runtime"]) == (512, ["arm64"], "python3.14")
    batches = attempts(stack, run_id, 60).groupby("request_id").size()
    assert (batches.max(), batches.sum()) == (25, 60)


def test_maximum_concurrency_is_kept_to(one_by_one: Deploy, run_id: str) -> None:
    """No more batches of a mapping run at a time than its maximum concurrency says, and as many do."""
    stack = one_by_one(MaximumConcurrency=2)
    assert mapping(stack)["ScalingConfig"] == {"MaximumConcurrency": 2}
    assert most_at_a_time(attempts(stack, run_id, 12, seconds=0.3)) == 2


def test_reserved_concurrency_bounds_the_function(one_by_one: Deploy, run_id: str) -> None:
    """No more invocations run at a time than are reserved.

    The engine starts no more; AWS would throttle what the mapping starts beyond.
    """
    stack = one_by_one(ReservedConcurrency=1)
    assert reserved(stack) == 1
    assert most_at_a_time(attempts(stack, run_id, 6, seconds=0.3)) == 1


def test_a_bound_can_be_taken_back(one_by_one: Deploy, run_id: str) -> None:
    """An update to 0 removes maximum and reserved concurrency, and more runs at a time than they allowed."""
    bounded = one_by_one(MaximumConcurrency=2, ReservedConcurrency=2)
    assert (mapping(bounded)["ScalingConfig"], reserved(bounded)) == ({"MaximumConcurrency": 2}, 2)
    stack = one_by_one()
    assert (mapping(stack).get("ScalingConfig"), reserved(stack)) == (None, None)
    most = most_at_a_time(attempts(stack, run_id, 20, seconds=0.3))
    assert 2 < most <= ENGINE_CONCURRENCY


def test_pollers_are_as_they_are_given(one_by_one: Deploy, run_id: str) -> None:
    """The mapping has the pollers of the parameters and handles its tasks; the engine's poller does not act on them."""
    stack = one_by_one(MinimumPollers=2, MaximumPollers=20)
    assert mapping(stack)["ProvisionedPollerConfig"] == {"MinimumPollers": 2, "MaximumPollers": 20}
    assert most_at_a_time(attempts(stack, run_id, 12, seconds=0.2)) <= ENGINE_CONCURRENCY
    assert "ProvisionedPollerConfig" not in mapping(one_by_one())


def test_a_fifo_stack_with_two_queues_is_as_it_is_given(deploy: Deploy) -> None:
    """All queues are FIFO with high throughput and one dead-letter queue; each has a mapping of its own concurrency."""
    stack = deploy(
        "fifo", FifoQueue="true", SecondQueueFor="type", SecondQueueTypes="SEND_EMAIL,PROCESS_DATA",
        MaximumConcurrency=4, SecondQueueMaximumConcurrency=2, ReservedConcurrency=6,
    )  # fmt: skip
    for output in ("QueueUrl", "SecondQueueUrl", "DeadLetterQueueUrl"):
        found = attributes(stack, output)
        assert stack.outputs[output].endswith(".fifo")
        names = ("FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit")
        assert [found[name] for name in names] == ["true", "true", "messageGroup", "perMessageGroupId"]
        if output != "DeadLetterQueueUrl":
            redrive = json.loads(found["RedrivePolicy"])["deadLetterTargetArn"]
            assert redrive == stack.outputs["DeadLetterQueueArn"]
    first, second = mapping(stack), mapping(stack, "SecondEventSourceMappingId")
    assert (first["EventSourceArn"], second["EventSourceArn"]) == (
        stack.outputs["QueueArn"], stack.outputs["SecondQueueArn"],
    )  # fmt: skip
    assert first["FunctionArn"] == second["FunctionArn"]
    assert [one["ScalingConfig"]["MaximumConcurrency"] for one in (first, second)] == [4, 2]
    assert stack.outputs["SecondQueueTakes"] == "type in SEND_EMAIL,PROCESS_DATA"
    urls = function(stack)["Environment"]["Variables"]["TASKQ_QUEUE_URLS"]
    assert urls == f"{stack.queue_url},{stack.outputs['SecondQueueUrl']}"


def test_a_second_queue_comes_and_goes(deploy: Deploy, run_id: str) -> None:
    """An update adds a second queue for urgent tasks and another removes it, as previewed; the first queue stays."""
    before = deploy("second")
    assert not [name for name in before.outputs if name.startswith("Second")]
    assert second_in_preview(before, SecondQueueFor="priority") == {"Add"}
    stack = deploy("second", SecondQueueFor="priority", UrgentPriority=8)
    assert second_in_preview(stack, SecondQueueFor="none") == {"Remove"}
    assert stack.outputs["SecondQueueTakes"] == "priority>=8"
    assert "FifoQueue" not in attributes(stack, "SecondQueueUrl")
    assert stack.queue_url == before.queue_url
    assert attempts(stack, run_id, 3)["task_id"].nunique() == 3
    after = deploy("second", SecondQueueFor="none")
    assert (after.outputs, after.queue_url) == (before.outputs, before.queue_url)
