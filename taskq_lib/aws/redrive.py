"""Move chosen dead letters back to their queues: sent, then deleted, every step in a journal before the next."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from taskq_lib import attended
from taskq_lib.aws import queues, routing
from taskq_lib.aws.journal import Journal
from taskq_lib.aws.stack import Stack
from taskq_lib.errors import NotDone
from taskq_lib.merge_patch import Patch, edited
from taskq_worker.contract import MAX_BODY_BYTES, InvalidMessage, parse_body

BATCH_SIZE = 10  # SQS's batch requests take no more
MAX_HIDE_S = 43_200  # SQS hides a message no longer
#: How long SQS's counts may lag behind on AWS, where they settle within about a minute.
SETTLE_S = 90.0
#: The slowest walk that is planned for, messages a second, where no rate bounds it.
SLOWEST_PER_S = 20.0


def move(
    stack: Stack, journal: Journal, wanted: Collection[str], patch: Patch, rate_per_s: float, *, progress: bool = True
) -> dict[str, str]:
    """Send the dead letters `wanted` (message ids) with their attributes, and delete them.

    Each goes to the queue that its task belongs to, as edited, and keeps its message group. On a FIFO queue its
    deduplication id is the dead letter's own message id: new for each death, so that SQS does not take it for the
    message that died, and the same for a letter that is sent a second time.

    The attributes are the ticket that lets the function open a task again. What the journal knows as sent is only
    deleted. All others that the walk meets are shown again at the end, however it ends. `rate_per_s` 0 sets no bound.

    Returns why entries failed, by message id; those are still in the dead-letter queue. Those that are not there at
    all are marked absent. Raises `NotDone` where the time was too short, or where some may only be hidden.
    """
    open_ = {one for one in wanted if journal.state(one) in {"planned", "sent"}}
    begun, n_before, n_met = time.monotonic(), queues.counts(stack).n_dead, 0
    hide_s = _hide_s(len(open_), n_before, rate_per_s)
    with (
        queues.shown_again(stack) as handles,
        attended.bar(len(open_), "message", "redrive", progress=progress) as bar,
    ):
        mover = _Mover(stack, journal, patch, rate_per_s, handles)
        missing = set(open_)
        for message in queues.walk(stack, handles, hide_s=hide_s) if open_ else ():
            n_met += 1
            if message["MessageId"] in missing:
                missing.remove(message["MessageId"])
                mover.take(message)
                bar.update(mover.n_deleted - bar.n)
            if not missing:
                break
        mover.flush()
        bar.update(mover.n_deleted - bar.n)
    if missing:
        if time.monotonic() - begun >= hide_s / 2:
            raise NotDone(
                f"The time for one walk was up before {len(missing):,} messages were met.",
                "Run it again with the same parameters: it goes on where it stopped; a higher rate_per_s helps.",
            )
        _refuse_unmet(stack, len(missing), n_met, n_before, mover.n_deleted)
        _settle(journal, missing)
    return mover.failed


def fault(message: Mapping[str, Any], patch: Patch) -> str | None:
    """Return why a message cannot be redriven with this edit; None where it can."""
    try:
        body = edited(message["Body"], patch)
    except InvalidMessage as error:
        return str(error)
    n_bytes = size(_entry(message, body))
    if n_bytes > MAX_BODY_BYTES:
        return f"with its attributes it has {n_bytes:,} bytes, at most {MAX_BODY_BYTES:,} (1 MiB) are allowed"
    return None


def size(entry: Mapping[str, Any]) -> int:
    """Return the bytes of an entry that count against SQS's 1 MiB: body, and attributes by name, type and value."""
    n_bytes = len(entry["MessageBody"].encode("utf-8", "replace"))
    for name, attribute in entry["MessageAttributes"].items():
        value = attribute.get("BinaryValue", b"") or attribute.get("StringValue", "").encode()
        n_bytes += len(name) + len(attribute["DataType"]) + len(value)
    return n_bytes


def _entry(message: Mapping[str, Any], body: str) -> dict[str, Any]:
    return {"MessageBody": body, "MessageAttributes": message.get("MessageAttributes", {})}


def _addressed(stack: Stack, message: Mapping[str, Any], entry: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the URL of the queue that a dead letter goes to, and its entry with the message group it had."""
    task, group = parse_body(entry["MessageBody"]), queues.group_of(message)
    envelope = routing.envelope(message["MessageId"], group, default_group=task.type, is_fifo=stack.is_fifo)
    return stack.queue_for(task.type, task.priority).url, entry | envelope


def _hide_s(n_wanted: int, n_dead: int, rate_per_s: float) -> int:
    """Return how long to hide messages; a walk may take half of it."""
    walk_s = max(n_wanted, n_dead) / SLOWEST_PER_S + (n_wanted / rate_per_s if rate_per_s else 0)
    return min(MAX_HIDE_S, queues.PEEK_S + round(2 * walk_s))


def _refuse_unmet(stack: Stack, n_missing: int, n_met: int, n_before: int, n_deleted: int) -> None:
    """Raise `NotDone` where messages that a walk did not meet may be there all the same: hidden, or not handed out."""
    end = time.monotonic() + SETTLE_S
    # On AWS the count goes on for a while to call hidden what this walk and the inventory before it have shown again.
    while (now := queues.counts(stack)).n_dead_hidden and time.monotonic() < end:
        time.sleep(1)
    if now.n_dead_hidden:
        raise NotDone(
            f"{n_missing:,} messages were not met, and {now.n_dead_hidden:,} dead letters are hidden by some reader: "
            "an inventory, a consumer, or a redrive that was killed.",
            "Run it again with the same parameters once they show again: 10 minutes after an inventory, else as long "
            "as the reader hides them.",
        )
    # Either count may lag, and letters come meanwhile; one of them that was met in full is enough.
    n_there = min(n_before, n_deleted + now.n_dead)
    if n_met < n_there:
        raise NotDone(
            f"{n_missing:,} messages were not met, and the walk met {n_met:,} of about {n_there:,} dead letters.",
            "Run it again with the same parameters in a minute. Where more than 100,000 wait, SQS does not hand out "
            "all at a time: redrive those that can be met first.",
        )


def _settle(journal: Journal, missing: Collection[str]) -> None:
    """Note that messages are gone, since a whole walk did not meet them."""
    # What was sent and is not there any more was deleted; only the answer that said so was lost.
    for event, state in (("deleted", "sent"), ("absent", "planned")):
        if ids := sorted(one for one in missing if journal.state(one) == state):
            journal.write(event, ids)


class _Mover:
    """The batch that is being filled, and what has come of those before."""

    def __init__(
        self, stack: Stack, journal: Journal, patch: Patch, rate_per_s: float, handles: dict[str, str]
    ) -> None:
        self.sqs = stack.target.client("sqs")
        self.stack, self.journal, self.patch = stack, journal, patch
        self.rate_per_s, self.handles = rate_per_s, handles
        # A request goes out at once: with more than a second's worth in it, a low rate would come in bursts.
        self.n_at_once = min(BATCH_SIZE, max(1, int(rate_per_s))) if rate_per_s else BATCH_SIZE
        self.batch: dict[str, tuple[str, dict[str, Any]]] = {}  # message id -> the queue's URL, and what it is sent
        self.sent: list[str] = []
        self.failed: dict[str, str] = {}
        self.n_deleted = 0
        self.due = time.monotonic()

    def take(self, message: Mapping[str, Any]) -> None:
        """Take one message; a batch that is full goes first."""
        message_id = message["MessageId"]
        if self.journal.state(message_id) == "sent":
            self.sent.append(message_id)
        else:
            entry = _entry(message, edited(message["Body"], self.patch))
            if sum(size(one) for _url, one in self.batch.values()) + size(entry) > MAX_BODY_BYTES:
                self.flush()
            self.batch[message_id] = _addressed(self.stack, message, entry)
        if len(self.batch) == self.n_at_once or len(self.sent) == BATCH_SIZE:
            self.flush()

    def flush(self) -> None:
        """Send and delete what was taken; bodies are not kept longer than this."""
        sent = self.sent + self._send()
        self.sent = []
        for start in range(0, len(sent), BATCH_SIZE):
            self._delete(sent[start : start + BATCH_SIZE])

    def _send(self) -> list[str]:
        batch, self.batch = self.batch, {}
        if not batch:
            return []
        self._pace(len(batch))
        urls = dict.fromkeys(url for url, _entry in batch.values())
        return [
            one for to in urls for one in self._request(to, {id_: e for id_, (url, e) in batch.items() if url == to})
        ]

    def _request(self, url: str, batch: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Send a batch to one queue; returns the ids of the dead letters that SQS acknowledged."""
        ids, entries = list(batch), [{"Id": str(i), **entry} for i, entry in enumerate(batch.values())]
        self.journal.write("sending", ids)
        answer = self.sqs.send_message_batch(QueueUrl=url, Entries=entries)
        sent = {ids[int(one["Id"])]: one["MessageId"] for one in answer.get("Successful", [])}
        failed = {ids[int(one["Id"])]: _why("not sent", one) for one in answer.get("Failed", [])}
        if sent:
            self.journal.write("sent", sent)
        if failed:
            self.journal.write("failed", failed)
        self.failed |= failed
        return list(sent)

    def _delete(self, ids: Sequence[str]) -> None:
        entries = [{"Id": str(i), "ReceiptHandle": self.handles[one]} for i, one in enumerate(ids)]
        answer = self.sqs.delete_message_batch(QueueUrl=self.stack.dead_letter_queue_url, Entries=entries)
        deleted = [ids[int(one["Id"])] for one in answer.get("Successful", [])]
        if deleted:
            self.journal.write("deleted", deleted)
        for one in deleted:
            del self.handles[one]
        self.failed |= {ids[int(one["Id"])]: _why("sent, not deleted", one) for one in answer.get("Failed", [])}
        self.n_deleted += len(deleted)

    def _pace(self, n: int) -> None:
        """Wait until the rate allows `n` more."""
        time.sleep(max(0.0, self.due - time.monotonic()))
        self.due = max(self.due, time.monotonic()) + (n / self.rate_per_s if self.rate_per_s else 0.0)


def _why(what: str, failed: Mapping[str, Any]) -> str:
    return f"{what}: {failed.get('Code')}: {failed.get('Message')}"
