"""Checks of the event source mappings: whether they take messages, all of them, and give back what failed."""

from __future__ import annotations

from collections.abc import Iterator

from taskq_lib.analysis.findings import (
    KIT,
    LAMBDA_ERRORS,
    LAMBDA_FILTER,
    LAMBDA_SQS,
    Check,
    Finding,
    Severity,
    set_to,
)
from taskq_lib.configuration import Configuration

#: A larger batch needs a window; a FIFO queue has none larger.
SMALL_BATCH = 10
_OFF = {"Disabled", "Disabling"}


def mapping_disabled(c: Configuration) -> Iterator[Finding]:
    """While a mapping is disabled tasks wait, and expire in the end."""
    retention = {queue.arn: queue.retention_s for queue in c.queues}
    for mapping in c.mappings:
        if mapping.state in _OFF:
            hours = retention.get(mapping.source_arn, 0) / 3600
            yield Finding(
                severity=Severity.CRITICAL,
                check="mapping_disabled",
                resource=mapping.resource,
                measured=f"state {mapping.state}",
                risk=f"No task is taken from the queue; SQS deletes each {hours:,.3g} h after it was sent.",
                mend="52_pause_resume with action resume",
                source=LAMBDA_SQS,
            )


def partial_response_off(c: Configuration) -> Iterator[Finding]:
    """Without the partial batch response one failed task sends the whole batch back."""
    for mapping in c.mappings:
        if "ReportBatchItemFailures" not in mapping.response_types:
            yield Finding(
                severity=Severity.CRITICAL,
                check="partial_response_off",
                resource=mapping.resource,
                measured=f"FunctionResponseTypes without ReportBatchItemFailures, batches of {mapping.batch_size:,}",
                risk=(
                    "Lambda takes every answer of the function for a success: it deletes the tasks that were to be "
                    f"tried again, up to {mapping.batch_size:,} a batch."
                ),
                mend="set FunctionResponseTypes of the mapping back to ReportBatchItemFailures",
                source=LAMBDA_ERRORS,
            )


def batch_without_window(c: Configuration) -> Iterator[Finding]:
    """Over 10 messages a batch needs a window of at least 1 s."""
    for mapping in c.mappings:
        if mapping.batch_size > SMALL_BATCH and not mapping.window_s:
            yield Finding(
                severity=Severity.WARNING,
                check="batch_without_window",
                resource=mapping.resource,
                measured=f"batches of {mapping.batch_size:,}, window 0 s",
                risk="Lambda refuses any change of the mapping, and gathers no more than 10 messages at once.",
                mend=f"BatchWindowSeconds=1, or {set_to(c, 'BatchSize', SMALL_BATCH)}",
                source=LAMBDA_SQS,
            )


def fifo_batch(c: Configuration) -> Iterator[Finding]:
    """A FIFO queue is read in batches of 10 at most, without a window."""
    fifo = {queue.arn for queue in c.queues if queue.is_fifo}
    for mapping in c.mappings:
        if mapping.source_arn in fifo and mapping.window_s:
            yield Finding(
                severity=Severity.WARNING,
                check="fifo_batch",
                resource=mapping.resource,
                measured=f"a window of {mapping.window_s:,} s on a FIFO queue",
                risk="Lambda has no window for a FIFO queue and refuses any change of the mapping.",
                mend=set_to(c, "BatchWindowSeconds", 0),
                source=LAMBDA_SQS,
            )


def filter_criteria(c: Configuration) -> Iterator[Finding]:
    """What a filter does not let through is deleted from the queue, not left in it."""
    for mapping in c.mappings:
        if mapping.n_filters:
            yield Finding(
                severity=Severity.CRITICAL,
                check="filter_criteria",
                resource=mapping.resource,
                measured=f"{mapping.n_filters:,} filters",
                risk="Lambda deletes every message that no filter matches: those tasks are lost without a trace.",
                mend="remove FilterCriteria from the mapping",
                source=LAMBDA_FILTER,
            )


def mapping_elsewhere(c: Configuration) -> Iterator[Finding]:
    """A mapping leads from a queue of the stack to its function."""
    arns = {queue.arn for queue in c.queues}
    for mapping in c.mappings:
        # An alias or a version stands behind the function's ARN.
        to_ours = c.function is None or f"{mapping.function_arn}:".startswith(f"{c.function.arn}:")
        from_ours = len(arns) < len(c.mappings) or mapping.source_arn in arns
        if not (to_ours and from_ours):
            yield Finding(
                severity=Severity.CRITICAL,
                check="mapping_elsewhere",
                resource=mapping.resource,
                measured=f"from {mapping.source_arn} to {mapping.function_arn}",
                risk="This stack's tasks are not taken, or are run by another function.",
                mend="set the mapping's function back, or deploy the stack again",
                source=KIT,
            )


def second_consumer(c: Configuration) -> Iterator[Finding]:
    """Whoever else reads a queue of the stack takes tasks away from it."""
    arns = {queue.arn: queue.resource for queue in c.queues}
    for mapping in c.other_mappings:
        if mapping.source_arn in arns and mapping.state not in _OFF:
            yield Finding(
                severity=Severity.CRITICAL,
                check="second_consumer",
                resource=arns[mapping.source_arn],
                measured=f"mapping {mapping.resource} reads it as well, for {mapping.function_arn}",
                risk="Each message goes to one of the two: about half of the tasks never reach this stack's function.",
                mend=f"aws lambda delete-event-source-mapping --uuid {mapping.resource}",
                source=KIT,
            )


def other_source(c: Configuration) -> Iterator[Finding]:
    """The function expects this stack's messages; another queue's are dead-lettered as invalid, or run twice."""
    arns = {queue.arn for queue in c.queues}
    for mapping in c.other_mappings:
        if mapping.source_arn not in arns and mapping.state not in _OFF:
            yield Finding(
                severity=Severity.WARNING,
                check="other_source",
                resource="Function",
                measured=f"mapping {mapping.resource} feeds it from {mapping.source_arn}",
                risk="Messages that this stack never sent use its function's concurrency and its dead-letter queue.",
                mend=f"aws lambda delete-event-source-mapping --uuid {mapping.resource}",
                source=KIT,
            )


CHECKS: tuple[Check, ...] = (
    mapping_disabled,
    partial_response_off,
    batch_without_window,
    fifo_batch,
    filter_criteria,
    mapping_elsewhere,
    second_consumer,
    other_source,
)
