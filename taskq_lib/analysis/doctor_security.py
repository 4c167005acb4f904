"""Checks of who may do what: encryption, and the queues' policies."""

from __future__ import annotations

from collections.abc import Iterator

from taskq_lib.analysis.findings import (
    SQS_SECURITY,
    Check,
    Finding,
    Severity,
    is_of_all,
    is_of_plain,
    is_open,
    texts,
    words,
)
from taskq_lib.configuration import Configuration, Queue, Statement


def queue_not_encrypted(c: Configuration) -> Iterator[Finding]:
    """Messages lie encrypted, by SQS's own key or one of KMS."""
    for queue in _queues(c):
        if not queue.is_encrypted:
            yield Finding(
                severity=Severity.WARNING,
                check="queue_not_encrypted",
                resource=queue.resource,
                measured="neither SqsManagedSseEnabled nor a KMS key",
                risk="What tasks carry, such as e-mail addresses, lies in the queue unencrypted.",
                mend="set SqsManagedSseEnabled of the queue back to true",
                source=SQS_SECURITY,
            )


def tls_not_demanded(c: Configuration) -> Iterator[Finding]:
    """A queue's policy denies whatever comes without TLS."""
    for queue in _queues(c):
        if not any(_denies_plain(statement) for statement in queue.policy):
            yield Finding(
                severity=Severity.WARNING,
                check="tls_not_demanded",
                resource=queue.resource,
                measured="no statement denies requests without TLS (aws:SecureTransport)",
                risk="A client that is set to http sends tasks in the clear, and SQS takes them.",
                mend="set the queue's policy back to the template's statement TlsOnly",
                source=SQS_SECURITY,
            )


def queue_open(c: Configuration) -> Iterator[Finding]:
    """No statement lets everybody in, on no other condition than TLS."""
    for queue in _queues(c):
        for statement in filter(is_open, queue.policy):
            yield Finding(
                severity=Severity.CRITICAL,
                check="queue_open",
                resource=queue.resource,
                measured=f"{statement.get('Sid', 'a statement')} allows everybody {words(statement, 'Action')}",
                risk="Anybody with an AWS account can send tasks to it, or read and delete them.",
                mend="remove that statement from the queue's policy",
                source=SQS_SECURITY,
            )


def _queues(c: Configuration) -> tuple[Queue, ...]:
    return (*c.queues, *([c.dead_letter_queue] if c.dead_letter_queue else []))


def _denies_plain(statement: Statement) -> bool:
    """Whether a statement denies everybody everything that comes without TLS."""
    everything = {action.lower() for action in texts(statement.get("Action"))} & {"*", "sqs:*"}
    return is_of_plain(statement) and statement.get("Effect") == "Deny" and is_of_all(statement) and bool(everything)


CHECKS: tuple[Check, ...] = (
    queue_not_encrypted,
    tls_not_demanded,
    queue_open,
)
