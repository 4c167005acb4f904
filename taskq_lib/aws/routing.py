"""Where a task goes: which of the stack's queues, and the message group and deduplication id that SQS is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from taskq_lib.errors import BadInput, StackNotFound

#: What the first queue takes: every task that no other queue does.
THE_REST = "the rest"
#: What SQS takes as MessageGroupId (SQS API reference, SendMessage).
_GROUP = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}")


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A queue that tasks are sent to, and the mapping that hands its messages to the function."""

    url: str
    arn: str | None
    mapping_id: str  #: Of its event source mapping
    takes: str  #: Which tasks are sent to it: "priority>=7", "type in A,B", or "the rest"

    @property
    def name(self) -> str:
        """The name that SQS knows it by."""
        return self.url.rpartition("/")[2]


def queues_of(outputs: Mapping[str, str]) -> tuple[Queue, ...]:
    """Return the queue that a stack's outputs name and, where they name one, the second queue."""
    first = Queue(
        url=outputs["QueueUrl"],
        arn=outputs.get("QueueArn"),
        mapping_id=outputs.get("EventSourceMappingId", ""),
        takes=THE_REST,
    )
    if "SecondQueueUrl" not in outputs:
        return (first,)
    second = Queue(
        url=outputs["SecondQueueUrl"],
        arn=outputs.get("SecondQueueArn"),
        mapping_id=outputs.get("SecondEventSourceMappingId", ""),
        takes=outputs.get("SecondQueueTakes", ""),
    )
    return (first, second)


def holds(rule: str, kind: str, priority: int) -> bool:
    """Whether the rule of a second queue is true of a task; raises `StackNotFound` for one that is not known."""
    if found := re.fullmatch(r"priority>=(\d)", rule):
        return priority >= int(found[1])
    if found := re.fullmatch(r"type in (.+)", rule):
        return kind in {name.strip() for name in found[1].split(",")}
    raise StackNotFound(
        f"Which tasks go to the second queue is not known: the stack's output SecondQueueTakes is {rule!r}.",
        "Another version of this kit deployed it: deploy it again with this one.",
    )


def check_group(group: str) -> str:
    """Return a message group; raises `BadInput` unless SQS takes it: 1 to 128 letters, digits or punctuation."""
    if not _GROUP.fullmatch(group):
        raise BadInput(
            f"Message group {group[:140]!r} is not allowed: 1 to 128 ASCII letters, digits or punctuation, no space."
        )
    return group


def envelope(
    task_id: str, group: str | None, *, default_group: str, is_fifo: bool, by_content: bool = False
) -> dict[str, str]:
    """Return what `SendMessage` takes beside the body: MessageGroupId and MessageDeduplicationId, where they apply.

    A FIFO queue needs a group, `default_group` where none is given; a standard queue takes one as the tenant of a fair
    queue. A FIFO queue drops for 5 minutes what comes with the same deduplication id in the same group: the task id,
    or with `by_content` the SHA-256 of the body, which SQS makes where no id is sent.
    """
    if not is_fifo:
        return {"MessageGroupId": group} if group else {}
    ids = {"MessageGroupId": group or default_group}
    return ids if by_content else ids | {"MessageDeduplicationId": task_id}
