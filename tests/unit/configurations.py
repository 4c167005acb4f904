"""A sound stack as the doctor sees it, with all options on, and how to spoil it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from taskq_lib.analysis.doctor_role import NEEDED, NEEDED_TO_SCHEDULE
from taskq_lib.configuration import (
    Account,
    Alarm,
    Configuration,
    EventSource,
    Function,
    LogGroup,
    Queue,
    Role,
    Table,
    Topic,
)

SQS, LAMBDA = "arn:aws:sqs:eu-central-1:123456789012", "arn:aws:lambda:eu-central-1:123456789012"
ACCOUNT = "123456789012"
SCHEDULER_ROLE = "arn:aws:iam::123456789012:role/sound-scheduler"
GROUP = "arn:aws:scheduler:eu-central-1:123456789012:schedule-group/later"
ROLE = "arn:aws:iam::123456789012:role/sound-role"
TOPIC = "arn:aws:sns:eu-central-1:123456789012:alarms"
TABLE = "arn:aws:dynamodb:eu-central-1:123456789012:table/status"
PARTS = {
    "sqs:SendMessage": f"{SQS}:dead",
    "dynamodb": TABLE,
    "logs": "arn:aws:logs:eu-central-1:123456789012:log-group:/task/queue:*",
    "sqs": [f"{SQS}:tasks", f"{SQS}:urgent"],
}
OUTPUTS = {
    "QueueUrl": "https://sqs/tasks",
    "QueueArn": f"{SQS}:tasks",
    "SecondQueueUrl": "https://sqs/urgent",
    "SecondQueueArn": f"{SQS}:urgent",
    "DeadLetterQueueUrl": "https://sqs/dead",
    "DeadLetterQueueArn": f"{SQS}:dead",
    "TableName": "status",
    "LogGroupName": "/task/queue",
    "FunctionName": "worker",
    "TopicArn": TOPIC,
    "ScheduleGroupName": "later",
    "SchedulerRoleArn": SCHEDULER_ROLE,
}
PARAMETERS = {
    "VisibilityTimeoutSeconds": "1800",
    "MaxReceiveCount": "100",
    "MaxAttempts": "3",
    "RetryCapSeconds": "300",
    "StatusTtlDays": "30",
    "TimeIndex": "true",
    "PointInTimeRecovery": "true",
    "Alarms": "true",
    "FifoQueue": "false",
    "ReplicaRegion": "eu-west-1",
}
ENVIRONMENT = {
    "TASKQ_TABLE": "status",
    "TASKQ_QUEUE_URLS": "https://sqs/tasks,https://sqs/urgent",
    "TASKQ_DEAD_LETTER_QUEUE_URL": "https://sqs/dead",
    "TASKQ_MAX_ATTEMPTS": "3",
    "TASKQ_RETRY_CAP_S": "300",
    "TASKQ_TTL_DAYS": "30",
}
TLS_ONLY = {
    "Sid": "TlsOnly",
    "Effect": "Deny",
    "Principal": "*",
    "Action": "sqs:*",
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}
SCHEDULER = {
    "Effect": "Allow",
    "Principal": {"Service": "scheduler.amazonaws.com"},
    "Action": "sts:AssumeRole",
    "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT, "aws:SourceArn": GROUP}},
}

Change = Callable[[Configuration], Configuration]


def resource_of(action: str) -> Any:
    """Return what the role allows an action on."""
    return PARTS.get(action, PARTS[action.partition(":")[0]])


def sound() -> Configuration:
    """Return a stack on which nothing is to be found."""
    fields: dict[str, Any] = {"retention_s": 345_600, "visibility_timeout_s": 1800, "policy": (TLS_ONLY,)}
    fields |= {"redrive_to": f"{SQS}:dead", "max_receives": 100}
    arn = f"{LAMBDA}:function:worker"
    mapped: dict[str, Any] = {"function_arn": arn, "response_types": ("ReportBatchItemFailures",)}
    return Configuration(
        stack_name="sound",
        stack_status="UPDATE_COMPLETE",
        region="eu-central-1",
        read_at=datetime(2026, 11, 24, tzinfo=UTC),
        parameters=PARAMETERS,
        outputs=OUTPUTS,
        queues=(
            Queue(resource="Queue", arn=f"{SQS}:tasks", **fields),
            Queue(resource="SecondQueue", arn=f"{SQS}:urgent", **fields),
        ),
        dead_letter_queue=Queue(
            resource="DeadLetterQueue", arn=f"{SQS}:dead", retention_s=1_209_600, policy=(TLS_ONLY,)
        ),
        function=Function(
            name="worker", arn=arn, role_arn=ROLE, timeout_s=300, environment=ENVIRONMENT, log_format="JSON",
            log_group="/task/queue",
        ),
        mappings=(
            EventSource(resource="EventSourceMapping", source_arn=f"{SQS}:tasks", **mapped),
            EventSource(resource="SecondEventSourceMapping", source_arn=f"{SQS}:urgent", **mapped),
        ),
        table=Table(
            name="status", ttl_attribute="expiresAt", indexes={"by-time": "ACTIVE"}, replica_regions=("eu-west-1",)
        ),
        role=Role(
            arn=ROLE,
            inline=tuple({"Effect": "Allow", "Action": a, "Resource": resource_of(a)} for a in NEEDED),
            trust=({"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},),
        ),
        scheduler_role=Role(
            arn=SCHEDULER_ROLE,
            inline=tuple(
                {"Effect": "Allow", "Action": a, "Resource": [f"{SQS}:tasks", f"{SQS}:urgent", f"{SQS}:dead"]}
                for a in NEEDED_TO_SCHEDULE
            ),
            trust=(SCHEDULER,),
        ),
        log_group=LogGroup(name="/task/queue", retention_days=14),
        alarms=(Alarm(resource="DeadLetterAlarm", actions=(TOPIC,)), Alarm(resource="AgeAlarm", actions=(TOPIC,))),
        topic=Topic(arn=TOPIC, n_confirmed=1),
        account=Account(concurrency=1_000, unreserved=1_000),
    )  # fmt: skip


def setting(part: str, place: int | None = None, **values: Any) -> Change:
    """Return a change of fields of one part; of the part at `place` where there are several."""

    def change(before: Configuration) -> Configuration:
        found = getattr(before, part)
        if place is None:
            return replace(before, **{part: replace(found, **values)})
        changed: dict[str, Any] = {part: tuple(replace(f, **values) if i == place else f for i, f in enumerate(found))}
        return replace(before, **changed)

    return change


def parameters(**values: str) -> Change:
    """Return a change of the stack's parameters."""
    return lambda before: replace(before, parameters={**before.parameters, **values})


def environment(**values: str) -> Change:
    """Return a change of the function's environment."""
    return setting("function", environment={**ENVIRONMENT, **values})


def allowing(**statement: Any) -> Change:
    """Return a change that adds a statement to the role."""

    def change(before: Configuration) -> Configuration:
        role = before.role
        assert role is not None
        return replace(before, role=replace(role, inline=(*role.inline, {"Effect": "Allow", **statement})))

    return change


def all_of(*changes: Change) -> Change:
    """Return these changes, one after the other."""

    def change(before: Configuration) -> Configuration:
        for one in changes:
            before = one(before)
        return before

    return change
