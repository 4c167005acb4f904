"""What a change would take away is told apart: kept and not read, deleted while it is empty, or refused whatever."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from taskq_lib.aws import queues, replacement, schedule
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.queues import Held
from taskq_lib.aws.stack import Preview, Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput

TARGET = Target(name="aws", session=None, region="us-east-1")
QUEUE, TABLE = "AWS::SQS::Queue", "AWS::DynamoDB::GlobalTable"


@pytest.fixture(autouse=True)
def deployed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A deployed stack; what it holds, and which change sets were discarded, is in what this returns."""
    outputs = {"QueueUrl": "https://queue/q", "SecondQueueUrl": "https://queue/second"}
    live = Stack(target=TARGET, name="s", status="", parameters={}, outputs=outputs)
    found: dict[str, Any] = {"https://queue/second": Held(0, 0, 0), "scheduled": 0, "discarded": []}
    monkeypatch.setattr(stacks, "describe", lambda *_: live)
    monkeypatch.setattr(stacks, "discard", found["discarded"].append)
    monkeypatch.setattr(queues, "held", lambda _stack, url: found[url])
    monkeypatch.setattr(schedule, "count", lambda _stack: found["scheduled"])
    return found


def change(resource: str, kind: str, action: str = "Modify", replaced: str = "", **more: Any) -> Preview:
    """Preview a change of one resource."""
    row = {"action": action, "resource": resource, "type": kind, "replacement": replaced}
    changes = pd.DataFrame([row], dtype="str")
    return Preview(target=TARGET, name="s", kind="update", parameters={}, changes=changes, **more)


@pytest.mark.parametrize(
    ("planned", "says"),
    [
        (change("Queue", QUEUE, replaced="True"), "Queue is no longer read, but kept with its content."),
        (change("SecondQueue", QUEUE, "Remove"), "SecondQueue is deleted; it is empty."),
        (change("Table", TABLE, replaced="True"), "Table is no longer read, but kept with its content."),
        (change("Table", TABLE, "Remove"), "Table is no longer read, but kept with its content."),
        (change("Table", "AWS::DynamoDB::Table", "Remove"), "Table is no longer read, but kept with its content."),
        (change("Role", "AWS::IAM::Role", ended_replica="eu-west-1"), "the table's replica in eu-west-1 is deleted."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_ends_is_named_with_what_becomes_of_it(planned: Preview, says: str, deployed: dict[str, Any]) -> None:
    """Each is refused unless it is allowed, and says whether it is kept or deleted; the change set is discarded."""
    with pytest.raises(BadInput, match="would replace or remove what holds tasks") as refused:
        replacement.refuse(planned, allowed=False)
    assert str(refused.value.args[0]).endswith(says)
    assert "set allow_replacement" in refused.value.hint
    assert deployed["discarded"] == [planned]
    replacement.refuse(planned, allowed=True)
    assert deployed["discarded"] == [planned]


@pytest.mark.parametrize("held", [Held(1, 0, 0), Held(0, 1, 0), Held(0, 0, 1)])
def test_a_queue_that_holds_messages_is_never_removed(held: Held, deployed: dict[str, Any]) -> None:
    """A removal deletes, so even where it is allowed no message may be there: visible, in flight or delayed."""
    deployed["https://queue/second"] = held
    planned = change("SecondQueue", QUEUE, "Remove")
    with pytest.raises(BadInput, match="removes SecondQueue, which is deleted with its 1 messages"):
        replacement.refuse(planned, allowed=True)
    assert deployed["discarded"] == [planned]


@pytest.mark.parametrize("ends", [{"replaced": "True"}, {"action": "Remove"}], ids=["replaced", "removed"])
def test_no_queue_ends_while_tasks_are_scheduled(ends: dict[str, str], deployed: dict[str, Any]) -> None:
    """A schedule keeps the queue that it was made for, so even where it is allowed none may be left."""
    deployed["scheduled"] = 2
    with pytest.raises(BadInput, match="ends SecondQueue, and 2 tasks are scheduled") as refused:
        replacement.refuse(change("SecondQueue", QUEUE, **ends), allowed=True)
    assert "cancel" in refused.value.hint
    replacement.refuse(change("Table", TABLE, replaced="True"), allowed=True)


def test_what_loses_nothing_passes(deployed: dict[str, Any]) -> None:
    """A change in place, an addition and a new stack need no leave, whatever is scheduled."""
    deployed["scheduled"] = 2
    for planned in (
        change("Queue", QUEUE, replaced="False"),
        change("SecondQueue", QUEUE, "Add"),
        change("LogGroup", "AWS::Logs::LogGroup", "Remove"),
        replace(change("Queue", QUEUE, replaced="True"), kind="create"),
    ):
        replacement.refuse(planned, allowed=False)
    assert deployed["discarded"] == []
