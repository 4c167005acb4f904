"""Calls the `handler` it finds on its path with batches of no-op tasks; prints the CPU seconds of each batch as JSON.

Run by `benchmarks/function.py`, once a handler; imports nothing of the kit, which is what is measured.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import Any

N_WARM = 500  #: Tasks before the clock counts


@dataclass
class Context:
    """As much of a Lambda context as both handlers look at."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Return the default timeout's time, as if none of it were used."""
        return 30_000


def event(numbers: range) -> dict[str, Any]:
    """Make a batch of no-op tasks whose ids hold these numbers, as SQS and Lambda hand it over."""
    now = time.time()
    return {"Records": [_record(f"{number:08d}", now) for number in numbers]}


def _record(number: str, now: float) -> dict[str, Any]:
    body = {
        "task_id": f"run-20261124-{number}",
        "type": "SEND_EMAIL",
        "data": {"to": "someone@example.com"},
        "priority": 5,
        "run_id": "run-20261124",
        "enqueued_at": round(now, 3),
    }
    return {
        "messageId": f"059f36b4-87a3-44ab-83d2-{number:>012}",
        "receiptHandle": f"AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a{number}",
        "body": json.dumps(body, separators=(",", ":")),
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": str(round(now * 1000)),
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "ApproximateFirstReceiveTimestamp": str(round(now * 1000)),
        },
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:queue",
        "awsRegion": "us-east-1",
    }


def main(batch_size: int, n_batches: int) -> None:
    """Warm up, call the handler `n_batches` times, and print; making the events is not counted."""
    from handler import handler  # noqa: PLC0415 - whichever one the path holds

    n_warm, spent = -(-N_WARM // batch_size), []
    for number in range(n_warm + n_batches):
        batch = event(range(number * batch_size, (number + 1) * batch_size))
        context = Context(f"8b1c2f3a-0000-4000-8000-{number:012d}")
        begun = time.process_time()
        answer = handler(batch, context)
        spent.append(time.process_time() - begun)
        if answer != {"batchItemFailures": []}:
            raise SystemExit(f"the handler gave tasks back: {answer}")
    print(json.dumps(spent[n_warm:]))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
