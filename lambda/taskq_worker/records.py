"""The records of a Lambda event, parsed one by one: a bad one never takes its batch with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
        record = _record(raw)
        try:
            delivery = Delivery(record=record, task=parse_body(record.body))
        except InvalidMessage as error:
            invalid.append(Invalid(record=record, error=error))
            continue
        if delivery.task.task_id in first:
            twins.append(delivery)
        else:
            first[delivery.task.task_id] = delivery
    return list(first.values()), twins, invalid


def _record(raw: Mapping[str, Any]) -> Record:
    attributes = raw["attributes"]
    return Record(
        message_id=raw["messageId"],
        receipt_handle=raw["receiptHandle"],
        body=raw["body"],
        sent_at=int(attributes["SentTimestamp"]) / 1000,
        receive_count=int(attributes["ApproximateReceiveCount"]),
    )
