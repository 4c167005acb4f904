"""Status items as they are first written, and the attributes that every write sets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from taskq_worker.contract import Reason, Status, shard_of
from taskq_worker.records import Delivery


def new_item(delivery: Delivery, request_id: str, now: float, lease_until: float) -> dict[str, Any]:
    """Return the item of a task that is claimed for its first attempt."""
    task = delivery.task
    item = {
        "taskId": task.task_id,
        "status": Status.PROCESSING,
        **stamp(now),
        "taskType": task.type,
        "priority": task.priority,
        "runId": task.run_id,
        "attempts": 1,
        "duplicates": 0,
        "enqueuedAt": task.enqueued_at,
        "sentAt": delivery.sent_at,
        "messageGroup": delivery.record.message_group,
        "startedAt": ms(now),
        "claimedBy": request_id,
        "leaseUntil": lease_until,
        "shard": shard_of(task.task_id),
    }
    return {name: value for name, value in item.items() if value is not None}


def invalid_item(task_id: str, run_id: str | None, error: str, now: float) -> dict[str, Any]:
    """Return the item of an id that only an invalid message has named."""
    item = {
        "taskId": task_id,
        "status": Status.FAILED,
        **stamp(now),
        "runId": run_id,
        "attempts": 0,
        "duplicates": 0,
        "deadLettered": True,
        "reason": Reason.INVALID,
        "errorType": "InvalidMessage",
        "error": error,
        "finishedAt": ms(now),
        "shard": shard_of(task_id),
    }
    return {name: value for name, value in item.items() if value is not None}


def stamp(now: float) -> dict[str, Any]:
    """Return when the item changed, for people and for sorting."""
    now = ms(now)
    return {"updatedAt": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"), "timestamp": now}


def expiry(now: float, ttl_days: int) -> dict[str, int]:
    """Return when the item expires; nothing where it never does."""
    return {"expiresAt": int(now) + ttl_days * 86_400} if ttl_days else {}


def ms(seconds: float) -> float:
    """Round to milliseconds, the precision of every time that is stored."""
    return round(seconds, 3)
