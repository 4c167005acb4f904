"""The stack: deploy with a preview, describe, delete. Its names leave it through its Outputs only."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from botocore.exceptions import ClientError

from taskq_lib.aws import package, routing, tables, template
from taskq_lib.aws.routing import Queue
from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput, NotDone, StackFailed, StackNotFound
from taskq_worker.contract import PRIORITY_DEFAULT

DEFAULT_NAME = "taskq"
_NO_CHANGE = ("didn't contain changes", "No updates are to be performed")
_CAPABILITIES = ["CAPABILITY_IAM"]
DEADLINE_S = 900.0
#: SQS may answer for a deleted queue for up to a minute (SQS API reference, DeleteQueue).
QUEUE_GONE_S = 90.0


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A deployed stack as its Outputs describe it."""

    target: Target = field(repr=False)
    name: str
    status: str  #: CloudFormation's own word, such as CREATE_COMPLETE
    parameters: Mapping[str, str] = field(repr=False)
    outputs: Mapping[str, str] = field(repr=False)

    @property
    def queue_url(self) -> str:
        """Where tasks are sent."""
        return self.outputs["QueueUrl"]

    @property
    def queues(self) -> tuple[Queue, ...]:
        """The queue and, where the stack has one, the second queue for certain priorities or types."""
        return routing.queues_of(self.outputs)

    def queue_for(self, kind: str, priority: int = PRIORITY_DEFAULT) -> Queue:
        """Return the queue that a task of this type and priority is sent to: the second where it takes it."""
        first, *second = self.queues
        return next((queue for queue in second if routing.holds(queue.takes, kind, priority)), first)

    @property
    def is_fifo(self) -> bool:
        """Whether the queues keep the order within each message group; SQS itself asks for the ending."""
        return self.queue_url.endswith(".fifo")

    @property
    def dead_letter_queue_url(self) -> str:
        """Where tasks end that cannot be completed."""
        return self.outputs["DeadLetterQueueUrl"]

    @property
    def table(self) -> str:
        """The status table's name."""
        return self.outputs["TableName"]

    @property
    def time_index(self) -> str | None:
        """The index by time, or None where the stack has none."""
        return self.outputs.get("TimeIndexName")


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A change set that was made and not executed."""

    target: Target = field(repr=False)
    name: str
    kind: str  #: "create", "update" or "none"
    parameters: Mapping[str, str] = field(repr=False)  #: The complete set the stack would have
    changes: pd.DataFrame = field(repr=False)  #: action, resource, type, replacement (all str)
    change_set: str | None = field(repr=False, default=None)  #: Its ARN
    ended_replica: str = field(repr=False, default="")  #: The region whose replica of the table it would delete


def check_name(name: str) -> None:
    """Raise `BadInput` unless CloudFormation takes `name` for a stack."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,127}", name):
        raise BadInput(f"Stack name {name!r} is not allowed: letters, digits and -, a letter first, at most 128.")


def describe(target: Target, name: str = DEFAULT_NAME) -> Stack:
    """Return the deployed stack; raises `StackNotFound`, naming the stacks that there are."""
    found = _find(target, name)
    if found is None or found["StackStatus"] == "REVIEW_IN_PROGRESS":
        pages = target.client("cloudformation").get_paginator("describe_stacks").paginate()
        names = sorted(stack["StackName"] for page in pages for stack in page["Stacks"])
        there = f"there are {', '.join(names)}" if names else "there is none"
        raise StackNotFound(f"No stack {name!r} in {target.region} ({target.name}); {there}.")
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    if "QueueUrl" not in outputs:
        raise StackNotFound(
            f"Stack {name!r} in {target.region} has no queue among its outputs (status {found['StackStatus']}).",
            "It is not one of this kit's, or its deployment failed; `taskq deploy` repairs the latter.",
        )
    return Stack(target=target, name=name, status=found["StackStatus"], parameters=_parameters(found), outputs=outputs)


def preview(target: Target, name: str = DEFAULT_NAME, parameters: Mapping[str, object] | None = None) -> Preview:
    """Make a change set that would create or update the stack; values not given stay as they are deployed.

    Uploads the code (the change set names it). Raises `BadInput` before anything is sent, or `StackFailed`.
    """
    given = template.check(parameters or {})
    found = _find(target, name)
    deployed = _parameters(found) if found else {}
    values = template.effective(given, deployed)
    if wrong := template.contradictions({**values, "AWS::Region": target.region}):
        raise BadInput(" ".join(wrong))
    tables.check_regions(
        target, values["ReplicaRegion"], values["ExistingTableName"], time_index=values["TimeIndex"] == "true"
    )
    found = _clear_failed_create(target, name, found)
    # A stack in review is one that was only ever previewed.
    kind = "create" if found is None or found["StackStatus"] == "REVIEW_IN_PROGRESS" else "update"
    if kind == "update":
        _refuse_old_table(target, name)
    bucket, key = package.upload(target, name, package.build())
    change_set = _create_change_set(target, name, kind, template.with_code(bucket, key), values)
    changes = _changes(target, change_set)
    if changes is None:
        target.client("cloudformation").delete_change_set(ChangeSetName=change_set)
        return Preview(target=target, name=name, kind="none", parameters=values, changes=_frame([]))
    replica = deployed.get("ReplicaRegion", "")
    ended = replica if values["ReplicaRegion"] != replica else ""
    return Preview(
        target=target, name=name, kind=kind, parameters=values, changes=_frame(changes), change_set=change_set,
        ended_replica=ended,
    )  # fmt: skip


def execute(planned: Preview, progress: Callable[[str], None] = print) -> Stack:
    """Execute a previewed change set and wait for it; `progress` is told each new status.

    No change is a success. A call that was interrupted may be made again: it goes on waiting, or finds it done.
    Raises `StackFailed` with the events that say why, `BadInput` where the stack has become another since.
    """
    target, name = planned.target, planned.name
    if planned.change_set is not None:
        since = time.time()
        is_new = _begin(target, planned.change_set)
        status = _settled(target, name, progress)
        if status not in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
            raise StackFailed(f"Stack {name!r} ended as {status}. {_reasons(target, name, since)}")
        if not is_new and (live := describe(target, name)).parameters != planned.parameters:
            raise BadInput(
                f"Stack {live.name!r} was changed since this was planned.", "Plan again; nothing was changed."
            )
    return describe(target, name)


def _begin(target: Target, change_set: str) -> bool:
    """Execute a change set; returns False where that was begun before. It is gone once it is done."""
    try:
        target.client("cloudformation").execute_change_set(ChangeSetName=change_set)
    except ClientError as error:
        if error.response["Error"]["Code"].removesuffix("Exception") in {"InvalidChangeSetStatus", "ChangeSetNotFound"}:
            return False
        raise
    return True


def discard(planned: Preview) -> None:
    """Delete a previewed change set, and the empty stack that a preview of a create leaves."""
    if planned.change_set is None:
        return
    planned.target.client("cloudformation").delete_change_set(ChangeSetName=planned.change_set)
    if planned.kind == "create":
        planned.target.client("cloudformation").delete_stack(StackName=planned.name)
        _settled(planned.target, planned.name, lambda _status: None)


def deploy(
    target: Target,
    name: str = DEFAULT_NAME,
    parameters: Mapping[str, object] | None = None,
    progress: Callable[[str], None] = print,
) -> Stack:
    """Create or update the stack and return it; a second call with the same sources and values changes nothing."""
    return execute(preview(target, name, parameters), progress)


def resources(stack: Stack) -> pd.DataFrame:
    """Return the stack's resources: resource, type, name, kept (all str; `kept` says what a teardown leaves)."""
    pages = stack.target.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack.name)
    rows = [
        {
            "resource": entry["LogicalResourceId"],
            "type": entry["ResourceType"],
            # A queue's is its URL, a topic's its ARN; both hold the account's number.
            "name": re.split("[/:]", entry.get("PhysicalResourceId", ""))[-1],
            "kept": "yes" if entry["LogicalResourceId"] == "Table" else "no",
        }
        for page in pages
        for entry in page["StackResourceSummaries"]
    ]
    return pd.DataFrame(rows, columns=["resource", "type", "name", "kept"], dtype="str")


def delete(stack: Stack, *, delete_table: bool = False, progress: Callable[[str], None] = print) -> None:
    """Delete the stack and its code and verify that it is gone; the status table stays unless `delete_table`.

    That deletes the table of this region; a replica elsewhere stays. Raises `BadInput` where the table is not the
    stack's own, `StackFailed` where CloudFormation could not delete it, `NotDone` where something is still there.
    """
    if delete_table and stack.parameters.get("ExistingTableName"):
        raise BadInput(
            f"Table {stack.table!r} belongs to another stack (ExistingTableName); nothing was deleted.",
            "Leave delete_table False; a replica goes with the ReplicaRegion of the stack that made it.",
        )
    target, since = stack.target, time.time()
    cloudformation = target.client("cloudformation")
    cloudformation.delete_stack(StackName=stack.name)
    status = _settled(target, stack.name, progress)
    if status != "DELETE_COMPLETE":
        raise StackFailed(f"Stack {stack.name!r} ended as {status}. {_reasons(target, stack.name, since)}")
    if delete_table:
        dynamodb = target.client("dynamodb")
        dynamodb.delete_table(TableName=stack.table)
        dynamodb.get_waiter("table_not_exists").wait(TableName=stack.table, WaiterConfig={"Delay": 2})
    package.remove(target, stack.name)
    verify_gone(stack)


def verify_gone(stack: Stack) -> None:
    """Raise `NotDone` where the stack or one of its queues is still there."""
    if _find(stack.target, stack.name) is not None:
        raise NotDone(f"Stack {stack.name!r} is still there.")
    end = time.monotonic() + QUEUE_GONE_S
    left = [*(queue.url for queue in stack.queues), stack.dead_letter_queue_url]
    for there in _polled(lambda: next((url for url in left if _queue_exists(stack, url)), None)):
        if there is None:
            return
        if time.monotonic() > end:
            raise NotDone(f"Queue {there} is still there after the stack was deleted.")


def _find(target: Target, name: str) -> dict[str, Any] | None:
    check_name(name)
    try:
        found: dict[str, Any] = target.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return None if found["StackStatus"] == "DELETE_COMPLETE" else found


def _refuse_old_table(target: Target, name: str) -> None:
    """Raise `BadInput` where a version before the global table deployed the stack: no update changes a type."""
    pages = target.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=name)
    for entry in (entry for page in pages for entry in page["StackResourceSummaries"]):
        if (entry["LogicalResourceId"], entry["ResourceType"]) == ("Table", "AWS::DynamoDB::Table"):
            raise BadInput(
                f"Stack {name!r} cannot be updated: an earlier version made its status table as AWS::DynamoDB::Table, "
                "and CloudFormation changes no resource's type.",
                f"`taskq teardown --stack-name {name} --yes` keeps the table, and `taskq deploy --stack-name {name} "
                f"-p ExistingTableName {entry.get('PhysicalResourceId', 'TABLE')}` uses it again; let the queue drain "
                "before. Nothing was changed.",
            )


def _parameters(found: Mapping[str, Any]) -> dict[str, str]:
    return {entry["ParameterKey"]: entry["ParameterValue"] for entry in found.get("Parameters", [])}


def _clear_failed_create(target: Target, name: str, found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Delete what a failed create left: such a stack is empty and cannot be updated."""
    if found and found["StackStatus"] in {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED"}:
        target.client("cloudformation").delete_stack(StackName=name)
        _settled(target, name, lambda _status: None)
        return None
    return found


def _create_change_set(target: Target, name: str, kind: str, body: str, values: Mapping[str, str]) -> str:
    try:
        answer = target.client("cloudformation").create_change_set(
            StackName=name,
            ChangeSetName=f"taskq-{uuid.uuid4().hex[:12]}",
            ChangeSetType=kind.upper(),
            TemplateBody=body,
            Parameters=[{"ParameterKey": n, "ParameterValue": v} for n, v in values.items()],
            Capabilities=_CAPABILITIES,
        )
    except ClientError as error:
        if error.response["Error"].get("Code") != "ValidationError":
            raise
        raise StackFailed(f"CloudFormation refuses the change: {error.response['Error'].get('Message')}") from error
    return str(answer["Id"])


def _changes(target: Target, change_set: str) -> list[dict[str, str]] | None:
    """Wait for a change set and return its rows; None where it holds no change."""
    for answer in _polled(lambda: target.client("cloudformation").describe_change_set(ChangeSetName=change_set)):
        if answer["Status"] == "FAILED":
            reason = answer.get("StatusReason", "")
            if any(text in reason for text in _NO_CHANGE):
                return None
            raise StackFailed(f"CloudFormation refuses the change: {reason}")
        if answer["Status"] == "CREATE_COMPLETE":
            changes = [change["ResourceChange"] for change in answer["Changes"]]
            return [
                {
                    "action": change["Action"],
                    "resource": change["LogicalResourceId"],
                    "type": change["ResourceType"],
                    "replacement": change.get("Replacement", ""),
                }
                for change in changes
            ]
    raise NotDone(f"The change set was not ready within {DEADLINE_S:.0f} s.", "Look at it in the console.")


def _frame(rows: list[dict[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["action", "resource", "type", "replacement"], dtype="str")


def _settled(target: Target, name: str, progress: Callable[[str], None]) -> str:
    """Wait until the stack is at rest; returns its status, DELETE_COMPLETE once it is gone."""
    told = ""
    for found in _polled(lambda: _find(target, name)):
        status = str(found["StackStatus"]) if found else "DELETE_COMPLETE"
        if status != told:
            progress(f"{name}: {status}")
            told = status
        if not status.endswith("_IN_PROGRESS") or status == "REVIEW_IN_PROGRESS":
            return status
    raise NotDone(
        f"Stack {name!r} is still {told} after {DEADLINE_S:.0f} s; CloudFormation goes on by itself.",
        "Run the same command again to wait on.",
    )


def _polled(ask: Callable[[], Any]) -> Any:
    """Yield answers until the deadline, at growing intervals: at once on an engine, gently on AWS."""
    pause_s, end = 0.1, time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        yield ask()
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 4.0)


def _reasons(target: Target, name: str, since: float) -> str:
    """Return what the failed events since `since` (Unix seconds) say, the first cause first."""
    pages = target.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=name)
    events = [
        event
        for page in pages
        for event in page["StackEvents"]
        if event["ResourceStatus"].endswith("FAILED") and event["Timestamp"].timestamp() >= since - 5
    ]
    texts = [
        f"{e['LogicalResourceId']}: {e.get('ResourceStatusReason', e['ResourceStatus'])}" for e in reversed(events)
    ]
    return " | ".join(texts[:5]) or "Its events name no reason."


def _queue_exists(stack: Stack, url: str) -> bool:
    sqs = stack.target.client("sqs")
    try:
        sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    except sqs.exceptions.QueueDoesNotExist:
        return False
    return True
