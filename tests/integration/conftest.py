"""One engine of the tests' own and one stack on it, for the whole session; every test works under its own task ids."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskq_lib.aws import stack as stacks
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target, connect
from taskq_lib.local import engine
from taskq_worker import contract
from taskq_worker.attributes import from_attributes
from taskq_worker.contract import TaskContext, register
from taskq_worker.store import StatusStore
from tests.integration.function import Function


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """An engine that no other session shares; only its start and its end see its folder, other tests have their own."""
    folder = str(tmp_path_factory.mktemp("engine"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKQ_STATE_DIR", folder)
        engine.start()
        found = connect("local")
    yield found
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKQ_STATE_DIR", folder)
        engine.stop()


@pytest.fixture(scope="session")
def stack(target: Target) -> Stack:
    """The stack as it is deployed, but for retries that come at once and a short time for a batch."""
    parameters = {"RetryBaseSeconds": 0, "FunctionTimeoutSeconds": 5, "VisibilityTimeoutSeconds": 30}
    # The tests fail many tasks of one type on purpose; what the breakers do has a stack of its own.
    parameters["BreakerFailurePercent"] = 0
    return stacks.deploy(target, "session", parameters)


@pytest.fixture
def run_id() -> str:
    """What the ids of a test's tasks begin with."""
    return f"r{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def item(stack: Stack) -> Callable[[str], dict[str, Any] | None]:
    """Let a test read a status item as it is at this moment."""

    def read(task_id: str) -> dict[str, Any] | None:
        answer = stack.target.client("dynamodb").get_item(
            TableName=stack.table, Key={"taskId": {"S": task_id}}, ConsistentRead=True
        )
        return from_attributes(answer["Item"]) if "Item" in answer else None

    return read


@pytest.fixture(scope="session")
def worker(stack: Stack) -> Callable[..., StatusStore]:
    """Let a test see the status table as another invocation of the function does."""

    def make(request_id: str = "another", **fields: Any) -> StatusStore:
        plain: dict[str, Any] = {"max_attempts": 3, "ttl_days": 30, "client": stack.target.client("dynamodb")}
        return StatusStore(table=stack.table, request_id=request_id, **(plain | fields))

    return make


@pytest.fixture
def function(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Function]:
    """The function of this test."""
    made = Function(stack, monkeypatch)
    yield made
    for queue in (made.queue, made.dead):
        made.sqs.delete_queue(QueueUrl=queue)


@pytest.fixture
def fifo(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Function]:
    """The function of this test, on FIFO queues."""
    made = Function(stack, monkeypatch, is_fifo=True)
    yield made
    for queue in (made.queue, made.dead):
        made.sqs.delete_queue(QueueUrl=queue)


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Let a test say what tasks of the type OWN do."""
    monkeypatch.setattr(contract, "_TYPES", dict(contract._TYPES))

    def say(what: Callable[[], Any]) -> None:
        @register("OWN")
        def own(context: TaskContext) -> Any:  # noqa: ARG001 - every task type takes one
            return what()

    return say
