"""Read what a stack is set to now: from the services themselves, not from the template. Reads only.

Detecting drift is CloudFormation's own comparison; it changes nothing but what CloudFormation knows of the stack.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from taskq_lib.aws import described
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target, is_denied
from taskq_lib.configuration import (
    Alarm,
    Configuration,
    Drift,
    EventSource,
    Function,
    Missing,
    Queue,
    Statement,
    Table,
    Unreadable,
)

#: How long CloudFormation may take to compare; a stack of this size takes it seconds, at most a minute.
DRIFT_S = 180.0
_QUEUES = ("Queue", "SecondQueue")
_MAPPINGS = ("EventSourceMapping", "SecondEventSourceMapping")
_GONE = {"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "ResourceNotFoundException", "NoSuchEntity",
         "NotFound", "NotFoundException"}  # fmt: skip
_Read = TypeVar("_Read")
#: Asks one service for one resource: client, physical id.
_Ask = Callable[[Any, str], _Read]


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Reads one stack, and notes what is gone and what it may not see."""

    target: Target
    caller: str  #: ARN
    ids: Mapping[str, str]  #: Logical id -> physical id
    kinds: Mapping[str, str]  #: Logical id -> type
    missing: list[Missing] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)

    def read(self, service: str, resource: str, ask: _Ask[_Read]) -> _Read | None:
        """Return the answer of `ask`; None where the stack has no such resource, or it is gone or refused: noted."""
        if resource not in self.ids:
            return None
        try:
            return ask(self.target.client(service), self.ids[resource])
        except ClientError as error:
            if error.response["Error"].get("Code", "") in _GONE:
                self.missing.append(Missing(resource=resource, kind=self.kinds.get(resource, resource)))
            else:
                self._refused(service, resource, error)
            return None

    def all(self, service: str, names: tuple[str, ...], ask: Callable[[Any, str, str], _Read]) -> tuple[_Read, ...]:
        """Return the answers of those that are there; `ask` is given client, physical and logical id."""
        answers = (self.read(service, name, lambda c, i, name=name: ask(c, i, name)) for name in names)  # type: ignore[misc]
        return tuple(answer for answer in answers if answer is not None)

    def _refused(self, service: str, resource: str, error: ClientError) -> None:
        action = f"{service}:{error.operation_name}"
        said = error.response["Error"].get("Message") or str(error)
        denied = f"{self.caller} lacks the permission {action}."
        reason = denied if is_denied(error) else f"{action} is refused: {said}"
        self.unreadable.append(Unreadable(resource=resource, reason=reason))


def read(stack: Stack) -> Configuration:
    """Read the deployed configuration of a stack; takes seconds, on AWS up to a minute for the drift.

    What is gone is in `missing`, what may not be read in `unreadable`; the rest goes on. Raises what the AWS SDK raises
    where AWS does not answer at all, or the stack's resources may not be listed.
    """
    listed = list(_resources(stack))
    # A stack on another's table has none among its resources.
    table = {"Table": stack.outputs["TableName"]} if "TableName" in stack.outputs else {}
    reader = _Reader(
        target=stack.target,
        caller=stack.target.identity()["arn"],
        ids={"Stack": stack.name, "Account": "", **table, **_named(listed, "PhysicalResourceId")},
        kinds={"Table": "AWS::DynamoDB::Table", **_named(listed, "ResourceType")},
    )
    # Asked for first: CloudFormation compares while the rest is read.
    detection = reader.read("cloudformation", "Stack", _begin_drift)
    parts = _parts(reader)
    drifts = _drifts(reader, detection) if detection else ()
    return Configuration(
        stack_name=stack.name,
        stack_status=stack.status,
        region=stack.target.region,
        read_at=datetime.now(UTC),
        parameters=dict(stack.parameters),
        outputs=dict(stack.outputs),
        drifts=tuple(drifts),
        # A part that is read by several requests is gone, or denied, only once.
        missing=tuple(dict.fromkeys(reader.missing)),
        unreadable=tuple(dict.fromkeys(reader.unreadable)),
        **parts,
    )


def _parts(reader: _Reader) -> dict[str, Any]:
    queues = reader.all("sqs", _QUEUES, described.queue)
    function = reader.read("lambda", "Function", described.function)
    dead = reader.all("sqs", ("DeadLetterQueue",), described.queue)
    return {
        "queues": queues,
        "dead_letter_queue": dead[0] if dead else None,
        "function": function and _with_details(reader, function),
        "mappings": reader.all("lambda", _MAPPINGS, described.mapping),
        "other_mappings": tuple(_other_mappings(reader, queues)),
        "table": _table(reader),
        "role": reader.read("iam", "Role", described.role),
        "scheduler_role": reader.read("iam", "SchedulerRole", described.role),
        "log_group": reader.read("logs", "LogGroup", described.log_group),
        "alarms": _alarms(reader),
        "topic": reader.read("sns", "AlarmTopic", described.topic),
        "account": reader.read("lambda", "Account", described.account),
    }


def _named(listed: Iterable[Mapping[str, Any]], what: str) -> dict[str, str]:
    return {entry["LogicalResourceId"]: entry.get(what, "") for entry in listed}


def _resources(stack: Stack) -> Iterator[dict[str, Any]]:
    pages = stack.target.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack.name)
    for page in pages:
        yield from (entry for entry in page["StackResourceSummaries"] if entry["ResourceStatus"] != "DELETE_COMPLETE")


def _with_details(reader: _Reader, function: Function) -> Function:
    """Add what Lambda answers in requests of their own; what it refuses stays at its default, and is noted."""

    def policy(client: Any, name: str) -> tuple[Statement, ...]:
        try:
            return described.statements(client.get_policy(FunctionName=name)["Policy"])
        except client.exceptions.ResourceNotFoundException:
            return ()

    def reserved(client: Any, name: str) -> int | None:
        found = client.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")
        return None if found is None else int(found)

    found = reader.read("lambda", "Function", policy)
    concurrency = reader.read("lambda", "Function", reserved)
    return replace(function, policy=found or (), reserved_concurrency=concurrency)


def _other_mappings(reader: _Reader, queues: tuple[Queue, ...]) -> Iterator[EventSource]:
    """Yield the mappings that the stack does not know: from its queues, or to its function."""

    def listed(client: Any, by: Mapping[str, str]) -> list[dict[str, Any]]:
        pages = client.get_paginator("list_event_source_mappings").paginate(**by)
        return [entry for page in pages for entry in page["EventSourceMappings"]]

    asked = [("Function", {"FunctionName": reader.ids.get("Function", "")})]
    asked += [(queue.resource, {"EventSourceArn": queue.arn}) for queue in queues]
    known = {reader.ids.get(name) for name in _MAPPINGS}
    for resource, by in asked:
        for entry in reader.read("lambda", resource, lambda client, _id, by=by: listed(client, by)) or ():  # type: ignore[misc]
            if entry["UUID"] not in known:
                known.add(entry["UUID"])
                yield described.as_mapping(entry, entry["UUID"])


def _table(reader: _Reader) -> Table | None:
    def backups(client: Any, name: str) -> bool:
        found = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        return bool(found["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] in described.ON)

    def expiry(client: Any, name: str) -> str:
        found = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        return str(found.get("AttributeName", "")) if found["TimeToLiveStatus"] in described.ON else ""

    table = reader.read("dynamodb", "Table", described.table)
    if table is None:
        return None
    attribute = reader.read("dynamodb", "Table", expiry)
    return replace(
        table,
        is_restorable=reader.read("dynamodb", "Table", backups),
        ttl_attribute=attribute or None,
        is_ttl_known=attribute is not None,
    )


def _alarms(reader: _Reader) -> tuple[Alarm, ...] | None:
    names = {reader.ids[name]: name for name, kind in reader.kinds.items() if kind == "AWS::CloudWatch::Alarm"}
    if not names:
        return ()

    def described(client: Any, _id: str) -> list[dict[str, Any]]:
        return list(client.describe_alarms(AlarmNames=list(names), MaxRecords=100)["MetricAlarms"])

    found = reader.read("cloudwatch", next(iter(names.values())), described)
    if found is None:
        return None
    there = {entry["AlarmName"] for entry in found}
    lacking = [resource for name, resource in names.items() if name not in there]
    reader.missing.extend(Missing(resource=resource, kind="AWS::CloudWatch::Alarm") for resource in lacking)
    told = {action for entry in found for action in entry.get("AlarmActions", [])}
    # The stack's own topic is one of its resources, and read as such.
    gone = _gone(reader.target, told - {reader.ids.get("AlarmTopic", "")})
    return tuple(
        Alarm(
            resource=names[entry["AlarmName"]],
            state=entry.get("StateValue", ""),
            actions=tuple(entry.get("AlarmActions", [])),
            gone_actions=tuple(action for action in entry.get("AlarmActions", []) if action in gone),
            are_actions_enabled=bool(entry.get("ActionsEnabled", True)),
            reason=entry.get("StateReason", ""),
        )
        for entry in found
    )


def _gone(target: Target, actions: Iterable[str]) -> set[str]:
    """Return those topics that SNS says are not there; one that may not be read is taken to be there."""

    def is_gone(arn: str) -> bool:
        try:
            described.topic(target.client("sns"), arn)
        except ClientError as error:
            return error.response["Error"].get("Code", "") in _GONE
        return False

    return {action for action in actions if action.split(":")[2:3] == ["sns"] and is_gone(action)}


def _begin_drift(client: Any, name: str) -> str:
    return str(client.detect_stack_drift(StackName=name)["StackDriftDetectionId"])


def _drifts(reader: _Reader, detection: str) -> list[Drift]:
    """Wait for CloudFormation's comparison and return what it found changed; what it found deleted is missing."""

    def settled(client: Any, _name: str) -> dict[str, Any]:
        end, pause_s = time.monotonic() + DRIFT_S, 0.1
        while True:
            answer = client.describe_stack_drift_detection_status(StackDriftDetectionId=detection)
            if answer["DetectionStatus"] != "DETECTION_IN_PROGRESS" or time.monotonic() > end:
                return dict(answer)
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 4.0)

    answer = reader.read("cloudformation", "Stack", settled)
    if answer is None:
        return []
    if answer["DetectionStatus"] != "DETECTION_COMPLETE":
        said = answer.get("DetectionStatusReason", "")
        reason = f"CloudFormation did not finish its comparison: {said or answer['DetectionStatus']}."
        reader.unreadable.append(Unreadable(resource="Stack", reason=reason))
    rows = reader.read("cloudformation", "Stack", _drifted) or []
    known = {entry.resource for entry in reader.missing}
    deleted = [row for row in rows if row["StackResourceDriftStatus"] == "DELETED"]
    reader.missing.extend(
        Missing(resource=row["LogicalResourceId"], kind=row["ResourceType"])
        for row in deleted
        if row["LogicalResourceId"] not in known
    )
    found = (described.as_drift(row) for row in rows if row not in deleted)
    return [one for one in found if one is not None]


def _drifted(client: Any, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    more: dict[str, str] = {}
    while True:
        answer = client.describe_stack_resource_drifts(
            StackName=name, StackResourceDriftStatusFilters=["MODIFIED", "DELETED"], **more
        )
        rows += answer["StackResourceDrifts"]
        if not answer.get("NextToken"):
            return rows
        more = {"NextToken": answer["NextToken"]}
