"""The records of a Lambda event, parsed one by one: a bad one never takes its batch with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taskq_worker.contract import InvalidMessage, Task, parse_body


@dataclass(frozen=True, kw_only=True)
class Record:
    """One SQS message as Lambda hands it over."""

    message_id: str  #: What `batchItemFailures` names
    receipt_handle: str
    body: str
    sent_at: float  #: Unix seconds by SQS's clock; after a redrive, of the redrive
    receive_count: int  #: Counts throttles and pauses as well, so it is not a count of attempts
    message_group: str | None = None  #: What a FIFO queue orders by; on a standard queue the tenant (fair queues)
    died_at: float | None = None  #: Of a redriven dead letter: when its task failed for good, Unix seconds


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A record that holds a task."""

    record: Record
    task: Task

    @property
    def sent_at(self) -> float:
        """When SQS took the message, Unix seconds."""
        return self.record.sent_at


@dataclass(frozen=True, kw_only=True)
class Invalid:
    """A record that holds none, and why."""

    record: Record
    error: InvalidMessage


def parse_records(event: Mapping[str, Any]) -> tuple[list[Delivery], list[Delivery], list[Invalid]]:
    """Split the event's records into deliveries of distinct tasks, further deliveries of those, and invalid records."""
    first: dict[str, Delivery] = {}
    twins: list[Delivery] = []
    invalid: list[Invalid] = []
    records: Sequence[Mapping[str, Any]] = event["Records"]
    for raw in records:
        delivery = parse_record(raw)
        if isinstance(delivery, Invalid):
            invalid.append(delivery)
            continue
        known = first.setdefault(delivery.task.task_id, delivery)
        if known is delivery:
            continue
        # Of several, the latest dead letter counts: a redrive must not be taken for the twin of a stale message.
        if (delivery.record.died_at or 0) > (known.record.died_at or 0):
            first[delivery.task.task_id], delivery = delivery, known
        twins.append(delivery)
    return list(first.values()), twins, invalid


def parse_record(raw: Mapping[str, Any]) -> Delivery | Invalid:
    """Read one record of an event."""
    record = _record(raw)
    try:
        return Delivery(record=record, task=parse_body(record.body))
    except InvalidMessage as error:
        return Invalid(record=record, error=error)


def _record(raw: Mapping[str, Any]) -> Record:
    attributes = raw["attributes"]
    return Record(
        message_id=raw["messageId"],
        receipt_handle=raw["receiptHandle"],
        body=raw["body"],
        sent_at=int(attributes["SentTimestamp"]) / 1000,
        receive_count=int(attributes["ApproximateReceiveCount"]),
        message_group=attributes.get("MessageGroupId"),
        died_at=_died_at(raw.get("messageAttributes") or {}),
    )


def _died_at(attributes: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Read what the function attached to a dead letter; a redrive, by whatever tool, hands it back unchanged."""
    if "reason" not in attributes:
        return None
    try:
        return datetime.fromisoformat(attributes["lastAt"]["stringValue"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        # Attributes of somebody else, which mean nothing here.
        return None
