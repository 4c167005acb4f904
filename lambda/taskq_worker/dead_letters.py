"""Send messages to the dead-letter queue, each with the reason attached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from taskq_worker.contract import MAX_BODY_BYTES, InvalidMessage, Outcome, Reason
from taskq_worker.log import log
from taskq_worker.records import Invalid, Record
from taskq_worker.retry import MAX_ENTRIES
from taskq_worker.store import Result
from taskq_worker.text import cut


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
            "error": self.error or "-",
            "taskId": self.task_id,
            "firstAt": _iso(self.first_at),
            "lastAt": _iso(self.last_at),
            "messageGroup": self.record.message_group,
        }
        attributes = {name: _string(text) for name, text in texts.items() if text}
        return attributes | {"attempts": {"DataType": "Number", "StringValue": str(self.attempts)}}

    @property
    def fitting_attributes(self) -> dict[str, dict[str, str]]:
        """As many attributes as fit beside the body: all, else the ticket of a redrive alone, or none.

        The status item has the rest.
        """
        left = MAX_BODY_BYTES - self._n_body
        ticket = {n: text for n, text in self.attributes.items() if n in {"reason", "lastAt", "messageGroup"}}
        return next((some for some in (self.attributes, ticket) if _size(some) <= left), {})

    @property
    def size(self) -> int:
        """Bytes that count against the limit of a request: the body, and the attributes by name, type and value."""
        return self._n_body + _size(self.attributes)

    @property
    def _n_body(self) -> int:
        return len(self.record.body.encode("utf-8", "replace"))


def send(client: Any, queue_url: str, letters: Sequence[DeadLetter]) -> set[str]:
    """Send the letters, bodies unchanged; returns the message ids (of the source queue) that have arrived."""
    arrived: set[str] = set()
    for batch in _batches(letters):
        entries = [
            {"Id": str(i), "MessageBody": letter.record.body, "MessageAttributes": letter.fitting_attributes}
            | _order(letter, is_fifo=queue_url.endswith(".fifo"))
            for i, letter in enumerate(batch)
        ]
        try:
            response = client.send_message_batch(QueueUrl=queue_url, Entries=entries)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            # The messages stay in the source queue and come again.
            log("taskq.dead_letter_failed", level="ERROR", error=str(error), nMessages=len(batch))
            continue
        arrived |= {batch[int(done["Id"])].record.message_id for done in response.get("Successful", [])}
        for failed in response.get("Failed", []):
            log("taskq.dead_letter_failed", level="ERROR", error=failed.get("Message"), code=failed.get("Code"))
    return arrived


def _order(letter: DeadLetter, *, is_fifo: bool) -> dict[str, str]:
    """Return what a FIFO queue asks for besides: a group, which is the message itself, and a deduplication id.

    In the task's own group, which goes as an attribute, SQS would hand out ten letters at most until those are deleted:
    no inventory could list the others. The id names the death, by message and time: what is sent once more because its
    answer was lost is dropped by SQS, and a task that dies again within the 5 minutes of deduplication is not. A later
    letter of the same message counts as well: a redrive by the earlier one would not open the task.
    """
    if not is_fifo:
        return {}
    message_id = letter.record.message_id
    return {"MessageGroupId": message_id, "MessageDeduplicationId": f"{message_id}-{round(letter.last_at * 1000)}"}


def _string(text: str) -> dict[str, str]:
    """Return an attribute; what SQS refuses in one becomes a space, and the log and the status item have it whole."""
    return {"DataType": "String", "StringValue": "".join(c if c.isprintable() else " " for c in text)}


def _size(attributes: Mapping[str, Mapping[str, str]]) -> int:
    return sum(len(name) + len(a["DataType"]) + len(a["StringValue"].encode()) for name, a in attributes.items())


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

    A letter that is too long with its attributes goes alone, with what fits of them.
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
