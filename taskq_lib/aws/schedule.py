"""Tasks that start later: SQS delays a message up to 15 minutes, EventBridge Scheduler sends it at any later time."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from taskq_lib import due
from taskq_lib.aws import routing, status, submit
from taskq_lib.aws.frames import TIME
from taskq_lib.aws.stack import Stack
from taskq_lib.errors import BadInput, NotDone
from taskq_worker.contract import InvalidMessage, Task, parse_body

#: SQS delays a message no longer (SQS API reference, SendMessage DelaySeconds).
MAX_DELAY_S = 900
#: A schedule whose queue cannot be reached is tried again, at most so (the API's own bounds): late is better than lost.
_RETRY = {"MaximumEventAgeInSeconds": 86_400, "MaximumRetryAttempts": 185}
#: EventBridge Scheduler sends within the minute that begins at the due time (its user guide, schedule types).
PRECISION_S = 60
N_THREADS = 8
_NAME = re.compile(r"[0-9a-zA-Z_.-]{1,64}")
_HASHED = "sha-"

#: pending: column -> dtype
PENDING_COLUMNS = {"task_id": "str", "task_type": "str", "due_at": TIME}


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where a task waits until it is due."""

    due_at: datetime  #: UTC, whole seconds
    message_id: str | None  #: SQS's, where the message waits in the queue; None where EventBridge Scheduler holds it


def at(stack: Stack, task: Task, when: datetime, group: str | None = None) -> Placed:
    """Send `task` so that it starts at `when`, rounded up to a whole second, and not before.

    Up to `MAX_DELAY_S` from now the message waits in the queue. Beyond that, and on a FIFO queue, where no single
    message can be delayed, a one-time schedule holds it: only such a task can be cancelled. Its `enqueued_at` is the
    due time, so that queue wait is measured from there. `group` is the message group, on FIFO the task type by default.

    Raises `BadInput` where the time is naive, past or over a year ahead, the task breaks the contract, is scheduled
    already, or the stack has no schedule group.
    """
    if group is not None:
        routing.check_group(group)
    now = datetime.now(UTC)
    due_s = math.ceil(due.check(when, now).timestamp())
    delay_s = max(1, math.ceil(due_s - now.timestamp()))
    if delay_s > MAX_DELAY_S or stack.is_fifo:
        return _schedule(stack, task, due_s, group)
    url, envelope = submit.address(stack, task, group)
    answer = stack.target.client("sqs").send_message(
        QueueUrl=url, MessageBody=_body(task, due_s), DelaySeconds=delay_s, **envelope
    )
    return Placed(due_at=datetime.fromtimestamp(due_s, UTC), message_id=answer["MessageId"])


def pending(stack: Stack) -> pd.DataFrame:
    """Return the tasks that a schedule holds, the next one first, with the columns of `PENDING_COLUMNS`.

    One request a task (the list names no contents). What SQS delays is not among them: it is in the queue. A schedule
    of the group that this kit did not make has no task id, or no due time.
    """
    names = list(_names(stack))
    with ThreadPoolExecutor(N_THREADS) as pool:
        found = [_row(one) for one in pool.map(lambda name: _get(stack, name), names) if one]
    frame = pd.DataFrame(found, columns=list(PENDING_COLUMNS)).astype(PENDING_COLUMNS)
    return frame.sort_values(["due_at", "task_id"], ignore_index=True)


def count(stack: Stack) -> int:
    """Count the tasks that a schedule holds, which go with the stack; 0 where it has no schedule group."""
    return sum(1 for _ in _names(stack))


def due_at(stack: Stack, task_id: str) -> datetime | None:
    """Return when the task is due that a schedule holds (UTC); None where none does."""
    found = _get(stack, schedule_name(task_id)) if _group(stack) else None
    return _due(found) if found else None


def cancel(stack: Stack, task_id: str) -> datetime:
    """Delete the task's schedule, so that it is never sent; returns when it would have been due (UTC).

    Raises `NotDone` where there is nothing to cancel, saying whether it was sent, or where the due time has passed:
    its message may have been sent within the same moment.
    """
    was_due = due_at(stack, task_id)
    if was_due is None or not _delete(stack, schedule_name(task_id)):
        raise _not_scheduled(stack, task_id)
    if was_due <= datetime.now(UTC):
        raise NotDone(
            f"Task {task_id!r} was due at {was_due.isoformat()}: its schedule is deleted, but it may have been sent.",
            f"`taskq status {task_id}` says whether it runs.",
        )
    return was_due


def schedule_name(task_id: str) -> str:
    """Return the name of a task's schedule: the id where the API allows it, else a hash of it; no two ids share one."""
    if _NAME.fullmatch(task_id) and not task_id.startswith(_HASHED):
        return task_id
    return _HASHED + hashlib.sha256(task_id.encode()).hexdigest()[: 64 - len(_HASHED)]


def _schedule(stack: Stack, task: Task, due_s: int, group: str | None = None) -> Placed:
    """Make the one-time schedule that sends `task` at `due_s` (Unix seconds)."""
    due_time = datetime.fromtimestamp(due_s, UTC)
    target: dict[str, Any] = {
        "Arn": stack.queue_for(task.type, task.priority).arn,
        "RoleArn": stack.outputs.get("SchedulerRoleArn"),
        # The API's model bounds it below only; the body itself has at most 1 MiB.
        "Input": _body(task, due_s),
        "RetryPolicy": _RETRY,
    }
    # It can be told a message group and no deduplication id: FIFO queues make that from the body.
    if (message_group := submit.address(stack, task, group).envelope.get("MessageGroupId")) is not None:
        target["SqsParameters"] = {"MessageGroupId": message_group}
    if not stack.is_fifo:
        # Only a standard queue can take what could not be delivered (user guide, configuring a dead-letter queue).
        target["DeadLetterConfig"] = {"Arn": stack.outputs["DeadLetterQueueArn"]}
    scheduler = stack.target.client("scheduler")
    try:
        scheduler.create_schedule(
            Name=schedule_name(task.task_id),
            GroupName=_needed_group(stack),
            ScheduleExpression=f"at({due_time:%Y-%m-%dT%H:%M:%S})",
            ScheduleExpressionTimezone="UTC",
            FlexibleTimeWindow={"Mode": "OFF"},
            ActionAfterCompletion="DELETE",
            Target=target,
        )
    except scheduler.exceptions.ConflictException as error:
        raise BadInput(
            f"Task {task.task_id!r} is scheduled already, for {due_at(stack, task.task_id)}.",
            f"`taskq cancel {task.task_id}` takes that back; or choose another id.",
        ) from error
    except scheduler.exceptions.ValidationException as error:
        raise BadInput(f"EventBridge Scheduler refuses task {task.task_id!r}: {error}.") from error
    return Placed(due_at=due_time, message_id=None)


def _body(task: Task, due_s: int) -> str:
    try:
        return replace(task, enqueued_at=float(due_s)).to_body()
    except InvalidMessage as error:
        raise BadInput(f"The task cannot be sent: {error}.") from error


def _group(stack: Stack) -> str | None:
    return stack.outputs.get("ScheduleGroupName")


def _needed_group(stack: Stack) -> str:
    group = _group(stack)
    if group is None:
        raise BadInput(
            f"Stack {stack.name!r} has no schedule group: it was deployed before the template had one.",
            f"Deploy it again (`taskq deploy --stack-name {stack.name}`); nothing was sent.",
        )
    return group


def _names(stack: Stack) -> Iterator[str]:
    if group := _group(stack):
        pages = stack.target.client("scheduler").get_paginator("list_schedules").paginate(GroupName=group)
        yield from (one["Name"] for page in pages for one in page["Schedules"])


def _get(stack: Stack, name: str) -> dict[str, Any] | None:
    """Return a schedule; None where it is gone, as after it has sent its message."""
    scheduler = stack.target.client("scheduler")
    try:
        found: dict[str, Any] = scheduler.get_schedule(GroupName=_group(stack), Name=name)
    except scheduler.exceptions.ResourceNotFoundException:
        return None
    return found


def _delete(stack: Stack, name: str) -> bool:
    scheduler = stack.target.client("scheduler")
    try:
        scheduler.delete_schedule(GroupName=_group(stack), Name=name)
    except scheduler.exceptions.ResourceNotFoundException:
        return False
    return True


def _due(found: dict[str, Any]) -> datetime | None:
    try:
        return datetime.strptime(found["ScheduleExpression"], "at(%Y-%m-%dT%H:%M:%S)").replace(tzinfo=UTC)
    except ValueError:
        return None


def _row(found: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"task_id": None, "task_type": None, "due_at": _due(found)}
    with suppress(InvalidMessage):
        task = parse_body(found["Target"].get("Input", ""))
        row |= {"task_id": task.task_id, "task_type": task.type}
    return row


def _not_scheduled(stack: Stack, task_id: str) -> NotDone:
    tasks = status.get(stack, [task_id]).tasks
    if len(tasks):
        return NotDone(
            f"Task {task_id!r} is not scheduled: it was sent, and is {tasks['state'].iloc[0]}.",
            "What was sent cannot be taken back; a task that is done again does no harm.",
        )
    return NotDone(
        f"Task {task_id!r} is not scheduled: it never was, or it was sent and waits in the queue, or it was cancelled.",
        f"What is due within {MAX_DELAY_S // 60} minutes waits in the queue itself, where it cannot be cancelled.",
    )
