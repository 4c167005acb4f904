"""The queues: how much is in them, and what lies in the dead-letter queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
from botocore.exceptions import BotoCoreError, ClientError

from taskq_lib.aws.frames import TIME
from taskq_lib.aws.stack import Stack
from taskq_lib.errors import BadInput
from taskq_worker.contract import InvalidMessage, parse_body

_COUNTS = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
#: The system attribute that SQS sets on what it moves to the dead-letter queue itself, and on nothing else.
_MOVED = "DeadLetterQueueSourceArn"
#: How long an inventory hides a dead letter at most, should it be killed before it shows them again.
PEEK_S = 600
#: Requests at a time that show letters again; who interrupts a walk does not wait long for them.
N_THREADS = 8
#: A dead letter's body is shown up to here, with a mark that says how long it is.
MAX_BODY_CHARS = 2_000

#: dead: column -> dtype. What the function attached says of the death from `reason` to `last_at`, unless SQS itself
#: moved the message since; `ticket_at` is the death that a redrive of it takes back: `lastAt`, whoever moved it.
DEAD_COLUMNS = {
    "message_id": "str",
    "task_id": "str",
    "run_id": "str",
    "task_type": "str",
    "reason": "str",
    "error_type": "str",
    "error": "str",
    "n_attempts": "Int32",
    "first_at": TIME,
    "last_at": TIME,
    "ticket_at": TIME,
    "sent_at": TIME,
    "n_receives": "Int32",
    "body": "str",
}


class Held(NamedTuple):
    """Messages in one queue, by their condition."""

    n_visible: int
    n_in_flight: int
    n_delayed: int


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Messages in the queues; approximate on AWS, where they settle within about a minute."""

    by_queue: Mapping[str, Held]  #: Name of a queue -> what is in it; the first, then the second where there is one
    n_dead: int  #: In the dead-letter queue, in any condition
    n_dead_hidden: int  #: Of these, the ones that some reader has hidden just now

    @property
    def n_visible(self) -> int:
        """Messages that wait for the function, in all queues but the dead-letter queue."""
        return sum(held.n_visible for held in self.by_queue.values())

    @property
    def n_in_flight(self) -> int:
        """Messages that the function was handed, or that wait for a retry, likewise."""
        return sum(held.n_in_flight for held in self.by_queue.values())

    @property
    def n_delayed(self) -> int:
        """Messages that were sent with a delay which is not over, likewise."""
        return sum(held.n_delayed for held in self.by_queue.values())

    @property
    def n_unsettled(self) -> int:
        """Messages of these queues, in any condition: what may still become an attempt."""
        return self.n_visible + self.n_in_flight + self.n_delayed

    def facts(self) -> dict[str, int]:
        """Return the counts under the words that people use, and of two queues how many each of them holds."""
        facts = {
            "visible": self.n_visible,
            "in flight": self.n_in_flight,
            "delayed": self.n_delayed,
            "dead letters": self.n_dead,
        }
        each = {f"all in {name}": sum(held) for name, held in self.by_queue.items()}
        return facts | (each if len(each) > 1 else {})


def counts(stack: Stack) -> Counts:
    """Count the messages of the queues for tasks and of the dead-letter queue."""
    by_queue = {queue.name: held(stack, queue.url) for queue in stack.queues}
    dead = held(stack, stack.dead_letter_queue_url)
    return Counts(by_queue=by_queue, n_dead=sum(dead), n_dead_hidden=dead.n_in_flight)


def refuse_messages(found: Counts, n_scheduled: int = 0, *, allowed: bool) -> None:
    """Raise `BadInput` where a teardown would destroy messages or scheduled tasks, and that was not allowed."""
    if found.n_unsettled + found.n_dead + n_scheduled and not allowed:
        holds = "queue holds" if len(found.by_queue) == 1 else "queues hold"
        scheduled = f", and {n_scheduled:,} tasks are scheduled" if n_scheduled else ""
        raise BadInput(
            f"The {holds} {found.n_unsettled:,} messages and the dead-letter queue {found.n_dead:,}{scheduled}; "
            "a teardown destroys them.",
            "Let the queue drain, look at the dead letters (50_failures), cancel what is scheduled (taskq cancel ID), "
            "or set discard_messages to True (--discard-messages).",
        )


def dead_letters(
    stack: Stack, limit: int = 10_000, judge: Callable[[Mapping[str, Any]], str | None] | None = None
) -> pd.DataFrame:
    """Take the inventory of the dead-letter queue: at most `limit` messages, none removed, all shown again at the end.

    It takes at most half of `PEEK_S` seconds, and sees nothing that another reader hides: it is whole where it lists as
    many as `counts` found before.
    Returns one row a message with the columns of `DEAD_COLUMNS`; `reason` is `receive_limit` where SQS says that it
    moved the message itself, or where the function attached none: it never failed in the handler.
    `judge` is given each message as SQS returns it, whole; what it says is one more column, `fault` (str).
    """
    columns = DEAD_COLUMNS | ({"fault": "str"} if judge else {})
    with shown_again(stack) as handles:
        rows = [_row(message) | ({"fault": judge(message)} if judge else {}) for message in walk(stack, handles, limit)]
    frame = pd.DataFrame({name: [row[name] for row in rows] for name in columns})
    for name, dtype in columns.items():
        if dtype == TIME:
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601", errors="coerce")
        elif dtype == "Int32":
            frame[name] = pd.to_numeric(frame[name], errors="coerce")
    return frame.astype(columns)


@contextmanager
def shown_again(stack: Stack) -> Iterator[dict[str, str]]:
    """Give a dict, message id -> receipt handle, for dead letters that a walk hides.

    What is in it when the block ends, however it ends, is shown again; who deletes a message takes it out.
    """
    handles: dict[str, str] = {}
    try:
        yield handles
    finally:
        _show_again(stack.target.client("sqs"), stack.dead_letter_queue_url, list(handles.values()))


def walk(
    stack: Stack, handles: dict[str, str], limit: int = 1_000_000, hide_s: int = PEEK_S
) -> Iterator[dict[str, Any]]:
    """Yield each message of the dead-letter queue once, as SQS returns it, at most `limit`; `handles` are kept current.

    Each is hidden for `hide_s`, and the walk ends after half of that: what was hidden first must not show again before
    the end, or the walk would not end.
    """
    sqs, url = stack.target.client("sqs"), stack.dead_letter_queue_url
    seen: set[str] = set()
    n_empty, end = 0, time.monotonic() + hide_s / 2
    # SQS answers from a sample of its hosts: one empty answer does not mean an empty queue.
    while len(seen) < limit and n_empty < 2 and time.monotonic() < end:
        answer = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=min(10, limit - len(seen)),
            VisibilityTimeout=hide_s,
            WaitTimeSeconds=1,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount", "MessageGroupId", _MOVED],
        ).get("Messages", [])
        handles |= {message["MessageId"]: message["ReceiptHandle"] for message in answer}
        fresh = [message for message in answer if message["MessageId"] not in seen]
        seen |= {message["MessageId"] for message in fresh}
        n_empty = 0 if fresh else n_empty + 1
        yield from fresh


def retention_s(stack: Stack) -> int:
    """Return how long a message that nobody takes is kept, in seconds: of two queues, in the one that keeps it less."""
    ask = stack.target.client("sqs").get_queue_attributes
    answers = [ask(QueueUrl=queue.url, AttributeNames=["MessageRetentionPeriod"]) for queue in stack.queues]
    return min(int(answer["Attributes"]["MessageRetentionPeriod"]) for answer in answers)


def held(stack: Stack, url: str) -> Held:
    """Count the messages of one queue; approximate on AWS, where the count settles within about a minute."""
    answer = stack.target.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=_COUNTS)["Attributes"]
    return Held(*(int(answer[name]) for name in _COUNTS))


def _show_again(sqs: Any, url: str, handles: Sequence[str]) -> None:
    def show(start: int) -> None:
        entries = [
            {"Id": str(i), "ReceiptHandle": handle, "VisibilityTimeout": 0}
            for i, handle in enumerate(handles[start : start + 10])
        ]
        # An entry that fails (its time was up) is visible already. Those of a request that fails show again by
        # themselves after the hiding time; the rest must not wait so long, nor must the error that brought us here.
        with suppress(BotoCoreError, ClientError):
            sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)

    with ThreadPoolExecutor(N_THREADS) as pool:
        list(pool.map(show, range(0, len(handles), 10)))


def _beginning(body: str) -> str:
    return body if len(body) <= MAX_BODY_CHARS else f"{body[:MAX_BODY_CHARS]}... [cut, {len(body):,} characters]"


def group_of(message: Mapping[str, Any]) -> str | None:
    """Return the message group of a dead letter's task; None where it had none.

    The function attaches it, since on a FIFO queue each of its letters is a group of its own: of one group SQS would
    hand out the first letters only until those are gone. What SQS itself moved is in its own group still.
    """
    attached = message.get("MessageAttributes", {}).get("messageGroup", {}).get("StringValue")
    group: str | None = attached or message.get("Attributes", {}).get("MessageGroupId")
    return group


def _attached(message: dict[str, Any]) -> dict[str, str]:
    """Return what the function attached; nothing of a message that came another way, whatever its attributes say."""
    texts = {name: value.get("StringValue", "") for name, value in message.get("MessageAttributes", {}).items()}
    return texts if "reason" in texts else {}


def _row(message: dict[str, Any]) -> dict[str, Any]:
    ticket, system = _attached(message), message["Attributes"]
    # SQS keeps the attributes when it moves a message: of a redriven letter they tell an earlier death.
    attached = {} if _MOVED in system else ticket
    try:
        task = parse_body(message["Body"])
        named = {"task_id": task.task_id, "run_id": task.run_id, "task_type": task.type}
    except InvalidMessage as error:
        named = {"task_id": error.task_id, "run_id": error.run_id, "task_type": None}
    sent_at = pd.Timestamp(int(system["SentTimestamp"]), unit="ms", tz="UTC").isoformat()
    return {
        **named,
        "message_id": message["MessageId"],
        "reason": attached.get("reason", "receive_limit"),
        "error_type": attached.get("errorType"),
        "error": attached.get("error"),
        "n_attempts": attached.get("attempts"),
        "first_at": attached.get("firstAt"),
        "last_at": attached.get("lastAt"),
        "ticket_at": ticket.get("lastAt"),
        "sent_at": sent_at,
        "n_receives": int(system["ApproximateReceiveCount"]),
        # Ten thousand bodies of 1 MiB would not fit; a reader wants the beginning.
        "body": _beginning(message["Body"]),
    }
