"""Checks of the queues: time, receives, the dead-letter queue, and the queue's limits."""

from __future__ import annotations

from collections.abc import Iterator

from taskq_lib.analysis.findings import (
    DAY_S,
    KIT,
    LAMBDA_SQS,
    SQS_API,
    SQS_DEAD_LETTERS,
    SQS_QUOTAS,
    Check,
    Finding,
    Severity,
    set_to,
    share,
    throttled_share,
)
from taskq_lib.configuration import Configuration, EventSource, Queue
from taskq_worker.contract import MAX_BODY_BYTES, task_type, task_types

#: AWS advises this many function timeouts, and the batching window, as the visibility timeout.
ADVISED_TIMEOUTS = 6
#: AWS's advice for a queue that Lambda reads.
ADVISED_RECEIVES = 5
#: Messages a queue has in flight at most, standard or FIFO.
MAX_IN_FLIGHT = 120_000
#: Invocations that Lambda runs for one mapping at most where nothing bounds it.
MAPPING_BOUND = 1_250
#: Invocations that one provisioned poller keeps busy.
PER_POLLER = 10
#: A retention below this does not outlast a night's outage.
SHORT_RETENTION_S = DAY_S


def visibility_below_timeout(c: Configuration) -> Iterator[Finding]:
    """Lambda refuses a mapping whose function may run longer than a message stays hidden."""
    for queue, timeout_s, advised_s in _visibility(c):
        if queue.visibility_timeout_s < timeout_s:
            yield Finding(
                severity=Severity.CRITICAL,
                check="visibility_below_timeout",
                resource=queue.resource,
                measured=f"visibility timeout {queue.visibility_timeout_s:,} s, function timeout {timeout_s:,} s",
                risk=(
                    f"A batch that runs longer than {queue.visibility_timeout_s:,} s is delivered again while it still "
                    "runs, and Lambda refuses any change of the mapping."
                ),
                mend=set_to(c, "VisibilityTimeoutSeconds", advised_s),
                source=LAMBDA_SQS,
            )


def visibility_below_advised(c: Configuration) -> Iterator[Finding]:
    """AWS advises six function timeouts plus the batching window."""
    for queue, timeout_s, advised_s in _visibility(c):
        spare_s = queue.visibility_timeout_s - timeout_s
        if spare_s >= 0 and queue.visibility_timeout_s < advised_s:
            yield Finding(
                severity=Severity.WARNING,
                check="visibility_below_advised",
                resource=queue.resource,
                measured=(
                    f"visibility timeout {queue.visibility_timeout_s:,} s; "
                    f"{ADVISED_TIMEOUTS} x {timeout_s:,} s plus the window is {advised_s:,} s"
                ),
                risk=(
                    f"A batch that throttling holds up and that starts more than {spare_s:,} s after its receive is "
                    "delivered a second time while the first may still run."
                ),
                mend=set_to(c, "VisibilityTimeoutSeconds", advised_s),
                source=LAMBDA_SQS,
            )


def receive_limit_below_attempts(c: Configuration) -> Iterator[Finding]:
    """The receive limit is the net behind the attempt budget, and a receive may be no attempt."""
    name, budget = max(_budgets(c).items(), key=lambda one: one[1])
    for queue in c.queues:
        n = queue.max_receives
        if n is not None and n <= budget:
            yield Finding(
                severity=Severity.CRITICAL,
                check="receive_limit_below_attempts",
                resource=queue.resource,
                measured=f"{n:,} receives, attempt budget {budget:,} ({name})",
                risk=(
                    f"SQS takes a task away after {n:,} receives, before its {budget:,} attempts are used; "
                    f"one throttle or pause is enough to lose {max(1, budget - n + 1):,} of them."
                ),
                mend=set_to(c, "MaxReceiveCount", 100),
                source=KIT,
            )


def receive_limit_low(c: Configuration) -> Iterator[Finding]:
    """AWS advises five receives or more for a queue that Lambda reads: throttles use them up."""
    for queue in c.queues:
        n = queue.max_receives
        if n is not None and n < ADVISED_RECEIVES:
            lost = throttled_share(0.5, n)
            yield Finding(
                severity=Severity.WARNING,
                check="receive_limit_low",
                resource=queue.resource,
                measured=f"{n:,} receives; AWS advises {ADVISED_RECEIVES} or more",
                risk=(
                    f"Where half of all receives are throttled, 0.5^{n} = {share(lost)} of the messages are "
                    "dead-lettered by throttling alone, without one attempt."
                ),
                mend=set_to(c, "MaxReceiveCount", 100),
                source=LAMBDA_SQS,
            )


def dead_letter_retention(c: Configuration) -> Iterator[Finding]:
    """A move by SQS keeps the first enqueue time, so a dead letter has only what is left; FIFO starts anew."""
    dead = c.dead_letter_queue
    for queue in c.queues:
        if dead and not queue.is_fifo and dead.retention_s <= queue.retention_s:
            yield Finding(
                severity=Severity.CRITICAL,
                check="dead_letter_retention",
                resource=dead.resource,
                measured=f"dead letters kept {_days(dead.retention_s)}, {queue.resource} {_days(queue.retention_s)}",
                risk=(
                    f"A message that SQS moves after {_days(dead.retention_s)} is deleted at once: "
                    "nobody sees that it failed."
                ),
                mend=set_to(c, "DeadLetterRetentionSeconds", 1_209_600),
                source=SQS_DEAD_LETTERS,
            )


def no_redrive_policy(c: Configuration) -> Iterator[Finding]:
    """Without a redrive policy a message that nobody can settle comes back until it expires."""
    for queue in c.queues:
        if queue.redrive_to is None:
            n = queue.retention_s // max(1, queue.visibility_timeout_s)
            yield Finding(
                severity=Severity.CRITICAL,
                check="no_redrive_policy",
                resource=queue.resource,
                measured="no redrive policy",
                risk=(
                    f"A message that kills its worker comes back up to {n:,} times within the retention of "
                    f"{_days(queue.retention_s)}, and then it is deleted."
                ),
                mend=f"{set_to(c, 'MaxReceiveCount', 100)} (with the dead-letter queue as its target)",
                source=SQS_DEAD_LETTERS,
            )


def redrive_elsewhere(c: Configuration) -> Iterator[Finding]:
    """The dead letters must go where 50_failures and 51_redrive look for them."""
    ours = c.outputs.get("DeadLetterQueueArn")
    for queue in c.queues:
        if queue.redrive_to is not None and ours and queue.redrive_to != ours:
            yield Finding(
                severity=Severity.CRITICAL,
                check="redrive_elsewhere",
                resource=queue.resource,
                measured=f"dead letters go to {queue.redrive_to}, the stack's queue is {ours}",
                risk="What SQS gives up on goes to a queue that no notebook of this kit reads; its tasks look lost.",
                mend="set the redrive policy's deadLetterTargetArn back to the stack's DeadLetterQueueArn",
                source=KIT,
            )


def redrive_refused(c: Configuration) -> Iterator[Finding]:
    """A dead-letter queue may refuse to be one: RedriveAllowPolicy."""
    dead = c.dead_letter_queue
    for queue in c.queues if dead else ():
        if dead and (
            dead.redrive_permission == "denyAll"
            or (dead.redrive_permission == "byQueue" and queue.arn not in dead.redrive_sources)
        ):
            yield Finding(
                severity=Severity.CRITICAL,
                check="redrive_refused",
                resource=dead.resource,
                measured=f"redrive permission {dead.redrive_permission}, without {queue.resource}",
                risk=f"SQS cannot move the poison messages of {queue.resource}; they come back until they expire.",
                mend="set RedriveAllowPolicy of the dead-letter queue back to allowAll",
                source=SQS_API,
            )


def retention_below_retries(c: Configuration) -> Iterator[Finding]:
    """A task must not expire while it waits for its retries."""
    for queue in c.queues:
        waits_s = _number(c, "RETRY_CAP_S", 300) * _number(c, "MAX_ATTEMPTS", 3)
        if queue.retention_s <= waits_s:
            yield Finding(
                severity=Severity.CRITICAL,
                check="retention_below_retries",
                resource=queue.resource,
                measured=f"messages kept {queue.retention_s:,} s, retries may wait {waits_s:,} s",
                risk="SQS deletes a task while it waits for its retry: it ends in no queue and never becomes final.",
                mend=set_to(c, "MessageRetentionSeconds", 345_600),
                source=KIT,
            )


def retention_short(c: Configuration) -> Iterator[Finding]:
    """A queue should outlast an outage that nobody sees before the morning."""
    for queue in c.queues:
        if queue.retention_s < SHORT_RETENTION_S:
            yield Finding(
                severity=Severity.WARNING,
                check="retention_short",
                resource=queue.resource,
                measured=f"messages kept {queue.retention_s / 3600:,.1f} h",
                risk=f"An outage or pause of {queue.retention_s / 3600:,.1f} h deletes tasks that nobody tried.",
                mend=set_to(c, "MessageRetentionSeconds", 345_600),
                source=SQS_API,
            )


def in_flight_limit(c: Configuration) -> Iterator[Finding]:
    """Over its limit in flight a queue answers long polls with nothing, silently."""
    arns = {queue.arn: queue.resource for queue in c.queues}
    for mapping in c.mappings:
        n = concurrency(c, mapping)
        if n * mapping.batch_size > MAX_IN_FLIGHT:
            batch = MAX_IN_FLIGHT // n
            yield Finding(
                severity=Severity.WARNING,
                check="in_flight_limit",
                resource=arns.get(mapping.source_arn, mapping.resource),
                measured=(
                    f"{n:,} invocations x {mapping.batch_size:,} messages = {n * mapping.batch_size:,} in flight, "
                    f"limit {MAX_IN_FLIGHT:,}"
                ),
                risk=(
                    f"Only {MAX_IN_FLIGHT / mapping.batch_size:,.0f} of {n:,} invocations get a full batch; the other "
                    "polls come back empty without an error."
                ),
                mend=f"BatchSize={batch} or MaximumConcurrency={MAX_IN_FLIGHT // mapping.batch_size}",
                source=SQS_QUOTAS,
            )


def delivery_delay(c: Configuration) -> Iterator[Finding]:
    """The template sets no delay; one on the queue holds up every task."""
    for queue in c.queues:
        if queue.delay_s:
            yield Finding(
                severity=Severity.WARNING,
                check="delivery_delay",
                resource=queue.resource,
                measured=f"every message is delayed by {queue.delay_s:,} s",
                risk=f"No task starts earlier than {queue.delay_s:,} s after it was sent, the urgent ones included.",
                mend="set DelaySeconds of the queue back to 0",
                source=SQS_API,
            )


def message_size(c: Configuration) -> Iterator[Finding]:
    """The kit accepts tasks up to SQS's own limit; a smaller one on a queue refuses them at the send."""
    for queue in (*c.queues, *([c.dead_letter_queue] if c.dead_letter_queue else [])):
        if queue.max_message_bytes < MAX_BODY_BYTES:
            yield Finding(
                severity=Severity.WARNING,
                check="message_size",
                resource=queue.resource,
                measured=f"messages up to {queue.max_message_bytes:,} bytes, the kit accepts {MAX_BODY_BYTES:,}",
                risk="SQS refuses a larger task at the send, or a large dead letter when the function writes it.",
                mend=f"set MaximumMessageSize of the queue to {MAX_BODY_BYTES}",
                source=SQS_API,
            )


def fifo_mismatch(c: Configuration) -> Iterator[Finding]:
    """A queue and its dead-letter queue must be of one kind, the one that the stack's parameter names."""
    wanted = c.parameters.get("FifoQueue", "false") == "true"
    for queue in (*c.queues, *([c.dead_letter_queue] if c.dead_letter_queue else [])):
        if queue.is_fifo != wanted:
            kind, other = ("FIFO", "standard") if queue.is_fifo else ("standard", "FIFO")
            yield Finding(
                severity=Severity.CRITICAL,
                check="fifo_mismatch",
                resource=queue.resource,
                measured=f"a {kind} queue in a stack whose FifoQueue is {str(wanted).lower()}",
                risk=f"Tasks are sent, and dead letters moved, as to a {other} queue; SQS refuses both.",
                mend=f"FifoQueue={str(queue.is_fifo).lower()}, or deploy into a new stack",
                source=SQS_DEAD_LETTERS,
            )


def fifo_deduplication(c: Configuration) -> Iterator[Finding]:
    """EventBridge Scheduler can send to a FIFO queue only where that deduplicates by content."""
    for queue in c.queues:
        if queue.is_fifo and not queue.deduplicates_by_content:
            yield Finding(
                severity=Severity.CRITICAL,
                check="fifo_deduplication",
                resource=queue.resource,
                measured="no deduplication by content",
                risk="Every task of a schedule is refused, since EventBridge Scheduler gives no deduplication id.",
                mend="set ContentBasedDeduplication of the queue back to true",
                source=SQS_API,
            )


def concurrency(c: Configuration, mapping: EventSource) -> int:
    """Return how many invocations of the function a mapping may run at the same time, at most."""
    bounds = [wanted_concurrency(mapping)]
    if c.function and c.function.reserved_concurrency is not None:
        bounds.append(c.function.reserved_concurrency)
    if c.account:
        bounds.append(c.account.concurrency)
    return max(1, min(bounds))


def wanted_concurrency(mapping: EventSource) -> int:
    """Return how many invocations a mapping tries to run at the same time, at most."""
    if mapping.maximum_pollers:
        return mapping.maximum_pollers * PER_POLLER
    return mapping.maximum_concurrency or MAPPING_BOUND


def _visibility(c: Configuration) -> Iterator[tuple[Queue, int, int]]:
    """Yield each queue with the function's timeout and what AWS advises for the queue's visibility timeout."""
    windows = {mapping.source_arn: mapping.window_s for mapping in c.mappings}
    for queue in c.queues if c.function else ():
        timeout_s = c.function.timeout_s if c.function else 0
        yield queue, timeout_s, ADVISED_TIMEOUTS * timeout_s + windows.get(queue.arn, 0)


def _budgets(c: Configuration) -> dict[str, int]:
    budgets = {"MaxAttempts": _number(c, "MAX_ATTEMPTS", 3)}
    return budgets | {kind: task_type(kind).retry.max_attempts or 0 for kind in task_types()}


def _number(c: Configuration, name: str, otherwise: int) -> int:
    """Return a number of the function's environment; what cannot be read as one is the check `environment`'s affair."""
    text = c.function.environment.get(f"TASKQ_{name}", "") if c.function else ""
    return int(text) if text.isascii() and text.isdigit() else otherwise


def _days(seconds: int) -> str:
    return f"{seconds / DAY_S:,.3g} days"


CHECKS: tuple[Check, ...] = (
    visibility_below_timeout,
    visibility_below_advised,
    receive_limit_below_attempts,
    receive_limit_low,
    dead_letter_retention,
    no_redrive_policy,
    redrive_elsewhere,
    redrive_refused,
    retention_below_retries,
    retention_short,
    in_flight_limit,
    delivery_delay,
    message_size,
    fifo_mismatch,
    fifo_deduplication,
)
