"""SQS events as Lambda hands them over, and what the batch loop makes of them: plain factories with plain defaults."""

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from taskq_lib.aws.submit import Message, body_head
from taskq_worker.contract import Task
from taskq_worker.records import Delivery, parse_records
from taskq_worker.store import Claim, Verdict

_NUMBERS = itertools.count(1)
#: The ARN of the queue that made-up records come from.
SOURCE = "arn:aws:sqs:us-east-1:123456789012:queue"


@dataclass(kw_only=True)
class Context:
    """A Lambda context; its time runs from the moment it is made."""

    aws_request_id: str = field(default_factory=lambda: f"request-{next(_NUMBERS)}")
    remaining_s: float = 30.0
    made_at: float = field(default_factory=time.time)

    def get_remaining_time_in_millis(self) -> int:
        """Return what is left of `remaining_s`."""
        return round((self.made_at + self.remaining_s - time.time()) * 1000)


def task(task_id: str, *, type: str = "SEND_EMAIL", simulate: dict[str, Any] | None = None, **fields: Any) -> Task:  # noqa: A002 - the contract's own name
    """Make a task; its data is what its type needs, unless `data` is given."""
    needed: dict[str, dict[str, Any]] = {
        "SEND_EMAIL": {"to": "someone@example.com"},
        "IMAGE_RESIZE": {"filename": "photo.jpg"},
        "PROCESS_DATA": {"record_count": 10},
    }
    data = fields.pop("data", needed.get(type, {})) | ({"simulate": simulate} if simulate else {})
    return Task(task_id=task_id, type=type, data=data, **fields)


def message(task: Task, url: str = "https://queue", offset_s: float = 0.0) -> Message:
    """Make a message of a task, ready to be packed."""
    head = body_head(task.task_id, task.type, json.dumps(task.data), task.priority, task.run_id or "run")
    return Message(task.task_id, url, {}, head, offset_s)


def record(
    body: str, *, message_id: str | None = None, receives: int = 1, sent_at: float = 1.8e9, group: str | None = None
) -> dict[str, Any]:
    """Make one SQS record of a Lambda event; `sent_at` in Unix seconds, `group` as a message group has it."""
    number = next(_NUMBERS)
    order = {"MessageGroupId": group} if group else {}
    return {
        "messageId": message_id or f"message-{number}",
        "receiptHandle": f"handle-{number}",
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": str(receives),
            "SentTimestamp": str(round(sent_at * 1000)),
            "SenderId": "AIDASOMEBODY",
            "ApproximateFirstReceiveTimestamp": str(round(sent_at * 1000)),
            **order,
        },
        "messageAttributes": {},
        "md5OfBody": "",
        "eventSource": "aws:sqs",
        "eventSourceARN": SOURCE,
        "awsRegion": "us-east-1",
    }


def event(*bodies: str | Task) -> dict[str, Any]:
    """Make a Lambda event of one record a body."""
    return {"Records": [record(body.to_body() if isinstance(body, Task) else body) for body in bodies]}


def deliveries(*tasks: Task) -> list[Delivery]:
    """Deliver tasks of distinct ids."""
    return parse_records(event(*tasks))[0]


def claim(one: Task, *, attempt: int = 1, history: Sequence[dict[str, Any]] = ()) -> Claim:
    """Claim a task as attempt number `attempt`."""
    [delivery] = deliveries(one)
    return Claim(delivery=delivery, verdict=Verdict.CLAIMED, attempt=attempt, history=history)


def ids(response: dict[str, Any]) -> list[str]:
    """Return the message ids that a partial batch response names, sorted."""
    return sorted(failure["itemIdentifier"] for failure in response["batchItemFailures"])


def lines(output: str, name: str) -> list[dict[str, Any]]:
    """Return the log lines of the event `name` in what was printed."""
    entries = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [entry for entry in entries if entry["event"] == name]
