"""When records come again: the back-off of a failed attempt, and the request that sets all delays of a batch."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from taskq_worker.contract import Task, task_type
from taskq_worker.log import log
from taskq_worker.records import Record
from taskq_worker.settings import Settings

#: SQS takes no more entries in one request.
MAX_ENTRIES = 10
#: A message can be hidden for 12 h from its receive on (SQS guide, visibility timeout), and SQS refuses what would be
#: longer. The receive was before: by the batching window and what the function has run, which an hour covers.
MAX_DELAY_S = 43_200 - 3_600


@dataclass(frozen=True, kw_only=True)
class Returned:
    """A record that comes again, and when."""

    record: Record
    delay_s: float | None = None  #: None leaves it to the queue's visibility timeout


def backoff(settings: Settings, task: Task, attempt: int) -> float:
    """Exponential back-off with full jitter: uniform between 0 and base x factor^(attempt - 1), at most the cap.

    After "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    retry = task_type(task.type).retry.over(settings.retry)
    base, factor, cap = retry.base_s or 0.0, retry.factor or 1.0, retry.cap_s or 0.0
    return random.uniform(0, min(cap, base * factor ** (attempt - 1)))  # noqa: S311 - jitter, not a secret


def delay(client: Any, queue_url: str, returned: Iterable[Returned]) -> None:
    """Set when the returned records come again, ten a request; where it fails, the queue's own timeout holds."""
    timed = [one for one in returned if one.delay_s is not None]
    for start in range(0, len(timed), MAX_ENTRIES):
        entries = [
            {
                "Id": str(i),
                "ReceiptHandle": one.record.receipt_handle,
                # Upwards: a retry that was told "not before" must not come before.
                "VisibilityTimeout": min(max(0, math.ceil(one.delay_s or 0)), MAX_DELAY_S),
            }
            for i, one in enumerate(timed[start : start + MAX_ENTRIES])
        ]
        try:
            response = client.change_message_visibility_batch(QueueUrl=queue_url, Entries=entries)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            log("taskq.delay_failed", level="WARNING", error=str(error), nMessages=len(entries))
            continue
        for failed in response.get("Failed", []):
            log("taskq.delay_failed", level="WARNING", error=failed.get("Message"), code=failed.get("Code"))
