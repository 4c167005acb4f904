"""Send messages to the dead-letter queue, each with the reason attached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from taskq_worker.contract import MAX_BODY_BYTES, InvalidMessage, Outcome, Reason
from taskq_worker.log import log
from taskq_worker.records import Invalid, Record
from taskq_worker.store import Result
from taskq_worker.text import cut

MAX_ENTRIES = 10


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A message on its way to the dead-letter queue."""

    record: Record
    reason: Reason
    error_type: str
    error: str
    attempts: int
    task_id: str | None
    first_at: float  #: Unix seconds: when the task was first started, or sent where it never was
    last_at: float  #: Unix seconds: when the last attempt ended

    @classmethod
    def of_result(cls, result: Result) -> DeadLetter:
        """Make the dead letter of a failed attempt that is the last one."""
        claim = result.claim
        return cls(
            record=claim.delivery.record,
            reason=result.reason or Reason.MAX_ATTEMPTS,
            error_type=result.error_type or "Unknown",
            error=result.error or "",
            attempts=claim.attempt,
            task_id=claim.delivery.task.task_id,
            first_at=_first_at(result),
            last_at=result.finished_at,
        )

    @classmethod
    def of_invalid(cls, invalid: Invalid, now: float) -> DeadLetter:
        """Make the dead letter of a message that holds no task."""
        return cls(
            record=invalid.record,
            reason=Reason.INVALID,
            error_type=InvalidMessage.__name__,
            error=cut(str(invalid.error)),
            attempts=0,
            task_id=invalid.error.task_id,
            first_at=invalid.record.sent_at,
            last_at=now,
        )

    @property
    def attributes(self) -> dict[str, dict[str, str]]:
        """The message attributes; at most 10 are allowed (SQS guide, message quotas)."""
        texts = {
            "reason": self.reason,
            "errorType": self.error_type,
            # SQS refuses control characters in attributes; the full text is in the log and the status item.
            "error": "".join(c if c.isprintable() else " " for c in self.error) or "-",
            "taskId": self.task_id,
            "firstAt": _iso(self.first_at),
            "lastAt": _iso(self.last_at),
        }
        attributes = {name: {"DataType": "String", "StringValue": str(text)} for name, text in texts.items() if text}
        return attributes | {"attempts": {"DataType": "Number", "StringValue": str(self.attempts)}}

    @property
    def fitting_attributes(self) -> dict[str, dict[str, str]]:
        """The attributes, or none where body and attributes are over 1 MiB together: the status item has the reason."""
        return self.attributes if self.size <= MAX_BODY_BYTES else {}

    @property
    def size(self) -> int:
        """Bytes that count against the limit of a request: the body, and the attributes by name, type and value."""
        attributes = sum(
            len(n) + len(a["DataType"]) + len(a["StringValue"].encode()) for n, a in self.attributes.items()
        )
        return len(self.record.body.encode("utf-8", "replace")) + attributes


def send(client: Any, queue_url: str, letters: Sequence[DeadLetter]) -> set[str]:
    """Send the letters, bodies unchanged; returns the message ids (of the source queue) that have arrived."""
    arrived: set[str] = set()
    for batch in _batches(letters):
        entries = [
            {"Id": str(i), "MessageBody": letter.record.body, "MessageAttributes": letter.fitting_attributes}
            for i, letter in enumerate(batch)
        ]
        try:
            response = client.send_message_batch(QueueUrl=queue_url, Entries=entries)
        except (BotoCoreError, ClientError) as error:
            # The messages stay in the source queue and come again.
            log("taskq.dead_letter_failed", level="ERROR", error=str(error), nMessages=len(batch))
            continue
        arrived |= {batch[int(done["Id"])].record.message_id for done in response.get("Successful", [])}
        for failed in response.get("Failed", []):
            log("taskq.dead_letter_failed", level="ERROR", error=failed.get("Message"), code=failed.get("Code"))
    return arrived


def _first_at(result: Result) -> float:
    """Return when the task was first started; where that attempt vanished, when it was first claimed."""
    claim = result.claim
    lost_now = result.outcome is Outcome.LOST or claim.attempt > 1
    vanished = "started" not in claim.history[0] if claim.history else lost_now
    if vanished and claim.first_claimed_at is not None:
        return claim.first_claimed_at
    starts: list[float] = [entry["started"] for entry in claim.history if "started" in entry]
    return min([*starts, result.started_at])


def _batches(letters: Sequence[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """Pack by count and by bytes: a whole batch is at most 1 MiB as well.

    A letter that is too long with its attributes goes alone, and without them.
    """
    batch: list[DeadLetter] = []
    size = 0
    for letter in letters:
        if batch and (len(batch) == MAX_ENTRIES or size + letter.size > MAX_BODY_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(letter)
        size += letter.size
    if batch:
        yield batch


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(round(seconds, 3), UTC).isoformat(timespec="milliseconds")
