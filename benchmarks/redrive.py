"""How fast dead letters are redriven on the engine, against a script that moves one message at a time.

The same messages, three rounds of both in turn, the best of each.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.table import Row
from taskq_lib.aws import control, journal, queues, redrive, stack
from taskq_lib.aws.target import connect
from taskq_lib.local import engine
from taskq_worker.contract import Task

N_MESSAGES, N_ROUNDS = 1_000, 3
TICKET = {
    "reason": {"DataType": "String", "StringValue": "max_attempts"},
    "lastAt": {"DataType": "String", "StringValue": "2026-11-24T02:00:00.000+00:00"},
}


def main() -> list[Row]:
    """Compare messages a second."""
    kit, peer = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TASKQ_STATE_DIR"] = folder
        with engine.running():
            live = stack.deploy(connect("local"), progress=lambda _status: None)
            # The function would compete for the engine with what is measured.
            control.pause(live, 60)
            # The first of each warms up.
            for number in range(1 + N_ROUNDS):
                log = Path(folder) / f"redrive-{number}.jsonl"
                kit.append(rate(live, N_MESSAGES, lambda log=log: moved(live, log)))  # type: ignore[misc]
                peer.append(rate(live, N_MESSAGES, lambda: one_by_one(live)))
    return [
        Row(work=f"redrive of {N_MESSAGES:,} dead letters", unit="messages/s", ours=max(kit[1:]),
            peer="receive, send, delete, one by one", theirs=max(peer[1:]), better="higher",
            why="with the inventory that a plan needs, and a journal that survives a kill; the peer has neither"),
    ]  # fmt: skip


def rate(live: stack.Stack, n_messages: int, work: Callable[[], None]) -> float:
    """Fill the dead-letter queue, and return how many messages a second `work` moves out of it into the queue."""
    sqs = live.target.client("sqs")
    sqs.purge_queue(QueueUrl=live.queue_url)
    bodies = [Task(task_id=f"t{i}", type="SEND_EMAIL", data={"to": "a@example.com"}).to_body() for i in range(10)]
    entries = [{"Id": str(i), "MessageBody": body, "MessageAttributes": TICKET} for i, body in enumerate(bodies)]
    for _ in range(n_messages // len(entries)):
        sqs.send_message_batch(QueueUrl=live.dead_letter_queue_url, Entries=entries)
    begun = time.monotonic()
    work()
    took_s = time.monotonic() - begun
    found = queues.counts(live)
    if (found.n_unsettled, found.n_dead) != (n_messages, 0):
        raise SystemExit(f"{found.n_unsettled:,} of {n_messages:,} messages were moved, {found.n_dead:,} were left")
    return n_messages / took_s


def moved(live: stack.Stack, path: Path) -> None:
    """Move all, with the inventory that a plan needs, and a journal."""
    wanted = queues.dead_letters(live)["message_id"].tolist()
    with journal.append(path) as log:
        redrive.move(live, log, wanted, {}, 0.0, progress=False)


def one_by_one(live: stack.Stack) -> None:
    """Move all as a short script does: receive one, send one, delete one."""
    sqs = live.target.client("sqs")
    while messages := sqs.receive_message(
        QueueUrl=live.dead_letter_queue_url, MessageAttributeNames=["All"], VisibilityTimeout=600
    ).get("Messages"):
        [message] = messages
        sqs.send_message(
            QueueUrl=live.queue_url, MessageBody=message["Body"], MessageAttributes=message["MessageAttributes"]
        )
        sqs.delete_message(QueueUrl=live.dead_letter_queue_url, ReceiptHandle=message["ReceiptHandle"])
