"""A status table that answers `Query`: items as the function writes them, in pages of about a megabyte."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from taskq_worker.attributes import to_attribute
from taskq_worker.contract import N_SHARDS, Task
from taskq_worker.items import expiry, ms, new_item, stamp
from taskq_worker.records import Delivery, Record

ITEMS_A_PAGE = 1_250
#: Stands in each id for the number of its page, so that a page is written once and sent many times.
_PAGE = b"page-----"
_AT = 1_800_000_000.0
_REQUEST_ID = "6d1f3c52-9a54-4be8-8b0e-{:012d}"
_TYPES = (
    ("SEND_EMAIL", {"to": "somebody@example.com"}, {"message": "Email sent to somebody@example.com"}),
    ("IMAGE_RESIZE", {"filename": "photo.png"}, {"message": "Resized photo.png", "width": 800, "height": 600}),
    ("PROCESS_DATA", {"record_count": 1000}, {"message": "Processed 1000 records", "record_count": 1000}),
)


def respond(operation: str, body: bytes) -> bytes:
    """Answer a query of one shard; the table's name says how many items it has in all, as in `taskq-100000`."""
    assert operation == "Query", operation  # noqa: S101
    asked = json.loads(body)
    [shard] = [int(value["N"]) for value in asked["ExpressionAttributeValues"].values() if len(value["N"]) == 1]
    n_items = int(asked["TableName"].rpartition("-")[2]) // N_SHARDS
    page = int(asked.get("ExclusiveStartKey", {"taskId": {"S": "0"}})["taskId"]["S"])
    left = n_items - page * ITEMS_A_PAGE
    items = _page(shard)[: max(left, 0)]
    key = {"taskId": {"S": str(page + 1)}, "shard": {"N": str(shard)}, "timestamp": {"N": str(_AT)}}
    last = b',"LastEvaluatedKey":' + json.dumps(key).encode() if left > ITEMS_A_PAGE else b""
    content = b",".join(items).replace(_PAGE, b"page%05d" % page)
    return b'{"Count":%d,"Items":[%s],"ScannedCount":%d%s}' % (len(items), content, len(items), last)


@cache
def _page(shard: int) -> list[bytes]:
    items = (_item(shard, i) for i in range(ITEMS_A_PAGE))
    return [json.dumps({name: to_attribute(value) for name, value in item.items()}, separators=(",", ":")).encode()
            for item in items]  # fmt: skip


def _item(shard: int, i: int) -> dict[str, Any]:
    """Return a task's final item: of a hundred, 90 are completed at once, 8 at the second attempt, 2 dead-lettered."""
    kind, data, result = _TYPES[i % len(_TYPES)]
    task_id = f"run-20261124-{_PAGE.decode()}-{shard}-{i:06d}"
    task = Task(task_id=task_id, type=kind, data=data, priority=i % 10, run_id="run-20261124", enqueued_at=_AT + i / 7)
    record = Record(message_id="m", receipt_handle="h", body="", sent_at=ms(_AT + i / 7 + 0.01), receive_count=1)
    started = task.enqueued_at + 1.25 if task.enqueued_at is not None else 0.0
    n_failed = 3 if i % 100 < 2 else int(i % 100 < 10)
    outcomes = ["failed"] * n_failed + ["completed"] * (n_failed < 3)
    log = [_entry(i, started + 20 * n, outcome) for n, outcome in enumerate(outcomes)]
    item = new_item(Delivery(record=record, task=task), _REQUEST_ID.format(i), started, started + 300)
    del item["leaseUntil"]
    finished = log[-1]["finished"]
    item |= {**expiry(_AT, 30), **stamp(finished), "shard": shard, "finishedAt": finished}
    item |= {"attempts": len(log), "attemptLog": log}
    if n_failed == 3:
        error = {name: log[-1][name] for name in ("errorType", "error")}
        return item | error | {"status": "FAILED", "deadLettered": True, "reason": "max_attempts"}
    return item | {"status": "COMPLETED", "result": json.dumps(result | {"id": f"{i:032x}"})}


def _entry(i: int, started: float, outcome: str) -> dict[str, Any]:
    error = {"errorType": "TimeoutError", "error": "no answer from the mail server"} if outcome == "failed" else {}
    times = {"received": ms(started - 0.03), "started": ms(started), "finished": ms(started + 0.2)}
    return {"requestId": _REQUEST_ID.format(i), **times, "outcome": outcome, **error}
