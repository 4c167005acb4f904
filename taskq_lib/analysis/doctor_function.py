"""Checks of the function: what it runs on, its concurrency, its environment, its code."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from taskq_lib.analysis.doctor_queue import MAPPING_BOUND, PER_POLLER, wanted_concurrency
from taskq_lib.analysis.findings import (
    KIT,
    LAMBDA_CONCURRENCY,
    LAMBDA_RUNTIMES,
    LAMBDA_SCALING,
    Check,
    Finding,
    Severity,
    is_open,
    set_to,
    share,
    throttled_share,
)
from taskq_lib.configuration import Configuration

#: When AWS deprecates a runtime: no security patches from then on (Lambda guide, Runtimes; read 2026-07 to 2026-10).
RUNTIME_ENDS = {
    "python3.9": date(2025, 12, 15),
    "python3.10": date(2026, 10, 31),
    "python3.11": date(2027, 6, 30),
    "python3.12": date(2028, 10, 31),
    "python3.13": date(2029, 6, 30),
    "python3.14": date(2029, 6, 30),
}
#: What the template offers instead.
NEW_RUNTIME = "python3.14"
#: Time enough to try the next runtime.
END_IS_NEAR_DAYS = 180
#: Invocations that Lambda keeps unreserved in an account at least.
MIN_UNRESERVED = 100
#: Memory of a batch, MB, measured in this project's process (docs/decisions.md): Python with the SDK's two clients and
#: what the platform adds, and what a small task adds, its records parsed and claimed.
BASE_MB, TASK_MB = 60.0, 0.0092
#: Small tasks that fit into the 6 MB of one invocation's payload, and how much of the memory may be in use.
MAX_PAYLOAD_TASKS, MEMORY_SHARE = 6_000, 0.8

#: Variable of the function's environment -> parameter of the template that sets it.
PARAMETERS = {
    "TASKQ_MAX_ATTEMPTS": "MaxAttempts",
    "TASKQ_RETRY_BASE_S": "RetryBaseSeconds",
    "TASKQ_RETRY_FACTOR": "RetryFactor",
    "TASKQ_RETRY_CAP_S": "RetryCapSeconds",
    "TASKQ_BREAKER_FAILURE_PERCENT": "BreakerFailurePercent",
    "TASKQ_BREAKER_MINIMUM_TASKS": "BreakerMinimumTasks",
    "TASKQ_BREAKER_WINDOW_S": "BreakerWindowSeconds",
    "TASKQ_BREAKER_COOLDOWN_S": "BreakerCooldownSeconds",
    "TASKQ_TTL_DAYS": "StatusTtlDays",
    "TASKQ_METRICS": "Metrics",
}
#: Variable -> the stack's outputs that it names.
PLACES = {
    "TASKQ_TABLE": ("TableName",),
    "TASKQ_QUEUE_URLS": ("QueueUrl", "SecondQueueUrl"),
    "TASKQ_DEAD_LETTER_QUEUE_URL": ("DeadLetterQueueUrl",),
}
#: What a variable was called in an earlier template, whose function knew one queue.
_EARLIER = {"TASKQ_QUEUE_URLS": "TASKQ_QUEUE_URL"}


def runtime_end(c: Configuration) -> Iterator[Finding]:
    """A runtime past its end gets no patches; near it, the change should be tried."""
    if c.function is None or (end := RUNTIME_ENDS.get(c.function.runtime)) is None:
        return
    left = (end - c.read_at.date()).days
    if left <= END_IS_NEAR_DAYS:
        when = f"ended {-left:,} days ago" if left < 0 else f"ends in {left:,} days"
        yield Finding(
            severity=Severity.CRITICAL if left < 0 else Severity.WARNING,
            check="runtime_end",
            resource="Function",
            measured=f"{c.function.runtime}, {when}, on {end}",
            risk="AWS patches it no longer from then on, and later refuses to create or update functions on it.",
            mend=f"FunctionRuntime={NEW_RUNTIME}",
            source=LAMBDA_RUNTIMES,
        )


def runtime_unknown(c: Configuration) -> Iterator[Finding]:
    """A runtime that the table of dates does not have cannot be judged."""
    if c.function and c.function.runtime not in RUNTIME_ENDS:
        yield Finding(
            severity=Severity.INFO,
            check="runtime_unknown",
            resource="Function",
            measured=f"runtime {c.function.runtime or 'none: an image'}",
            risk="This kit neither tests it nor knows when its support ends.",
            mend=f"FunctionRuntime={NEW_RUNTIME}",
            source=LAMBDA_RUNTIMES,
        )


def function_not_ready(c: Configuration) -> Iterator[Finding]:
    """A function that is not active, or whose last update failed, runs nothing or the old code."""
    if c.function and (c.function.state in {"Inactive", "Failed"} or c.function.last_update == "Failed"):
        yield Finding(
            severity=Severity.CRITICAL,
            check="function_not_ready",
            resource="Function",
            measured=f"state {c.function.state}, last update {c.function.last_update}",
            risk="Lambda cannot run it, or runs what was deployed before.",
            mend="taskq deploy; the function's StateReason in the console names the cause",
            source="AWS Lambda guide, Function states",
        )


def reserved_zero(c: Configuration) -> Iterator[Finding]:
    """A reserved concurrency of 0 switches a function off."""
    if c.function and c.function.reserved_concurrency == 0:
        n = max((queue.max_receives or 0 for queue in c.queues), default=0)
        yield Finding(
            severity=Severity.CRITICAL,
            check="reserved_zero",
            resource="Function",
            measured="reserved concurrency 0",
            risk=f"Every invocation is throttled: each message is dead-lettered after {n:,} receives, untried.",
            mend="aws lambda delete-function-concurrency (the template's ReservedConcurrency=0 reserves none)",
            source=LAMBDA_CONCURRENCY,
        )


def concurrency_over_reserved(c: Configuration) -> Iterator[Finding]:
    """What the mappings try to run beyond the reserved concurrency is throttled, and uses up receives."""
    reserved = c.function.reserved_concurrency if c.function else None
    wanted = sum(wanted_concurrency(mapping) for mapping in c.mappings)
    if reserved and wanted > reserved:
        yield _throttled(c, "concurrency_over_reserved", (wanted, reserved), "reserved for the function")


def concurrency_over_account(c: Configuration) -> Iterator[Finding]:
    """So is what exceeds the concurrency that the account has left; a mapping without a bound takes what there is."""
    wanted = sum(wanted_concurrency(mapping) for mapping in c.mappings)
    bounded = all(mapping.maximum_concurrency or mapping.maximum_pollers for mapping in c.mappings)
    reserved = c.function.reserved_concurrency if c.function else None
    if c.account and bounded and reserved is None and wanted > c.account.unreserved:
        yield _throttled(c, "concurrency_over_account", (wanted, c.account.unreserved), "unreserved in the account")


def account_unreserved(c: Configuration) -> Iterator[Finding]:
    """A function without a reservation shares what is unreserved; AWS lets nobody reserve the last 100."""
    reserved = c.function.reserved_concurrency if c.function else None
    if c.account and reserved is None and c.account.unreserved < MIN_UNRESERVED:
        yield Finding(
            severity=Severity.WARNING,
            check="account_unreserved",
            resource="Account",
            measured=f"{c.account.unreserved:,} of {c.account.concurrency:,} concurrent invocations are unreserved",
            risk=(
                f"All functions without a reservation share {c.account.unreserved:,}; another busy one throttles "
                "this one, and each throttle uses up a receive."
            ),
            mend="ask AWS for a higher quota (Concurrent executions), or set ReservedConcurrency",
            source=LAMBDA_CONCURRENCY,
        )


def memory_for_batch(c: Configuration) -> Iterator[Finding]:
    """A full batch must fit into the function's memory."""
    if c.function is None:
        return
    batch = min(max((mapping.batch_size for mapping in c.mappings), default=0), MAX_PAYLOAD_TASKS)
    needed = BASE_MB + TASK_MB * batch
    if needed > MEMORY_SHARE * c.function.memory_mb:
        enough = next(mb for mb in (256, 512) if needed <= MEMORY_SHARE * mb)
        yield Finding(
            severity=Severity.WARNING,
            check="memory_for_batch",
            resource="Function",
            measured=f"{c.function.memory_mb:,} MB; a batch of {batch:,} small tasks needs about {needed:,.0f} MB",
            risk="Lambda kills an invocation that runs out of memory; its tasks come back and have used an attempt.",
            mend=f"FunctionMemoryMb={enough}",
            source=KIT,
        )


def environment_differs(c: Configuration) -> Iterator[Finding]:
    """The function obeys its environment, not the stack's parameters; they should say the same."""
    for variable, parameter in PARAMETERS.items():
        wanted = c.parameters.get(parameter)
        if c.function is None or wanted is None:
            continue
        found = c.function.environment.get(variable)
        # A variable that the deployed template did not set yet is the affair of a deployment.
        if found is not None and found != wanted:
            yield Finding(
                severity=Severity.WARNING,
                check="environment_differs",
                resource="Function",
                measured=f"{variable} is {found!r}, the stack's {parameter} is {wanted!r}",
                risk=f"The function works by {found!r}; who reads the stack's parameters expects {wanted!r}.",
                mend=set_to(c, parameter, wanted),
                source=KIT,
            )


def environment_elsewhere(c: Configuration) -> Iterator[Finding]:
    """The function must work on the stack's own queues and table; without a name of one it does not even begin."""
    found = c.function.environment if c.function else {}
    differing, gone = {}, []
    for variable, outputs in PLACES.items():
        there = [c.outputs[name] for name in outputs if name in c.outputs]
        name = _EARLIER.get(variable, variable) if variable not in found else variable
        wanted = ",".join(there if name == variable else there[:1])
        if c.function and wanted and name not in found:
            gone.append(variable)
        elif c.function and wanted and found[name] != wanted:
            differing[name] = f"{name} is {found[name]}, the stack's is {wanted}"
    for name, measured in differing.items():
        yield _elsewhere(
            measured,
            "The function reads or writes somewhere else: this stack's tasks get no status, and look lost.",
            name,
        )
    if gone:
        risk = "Every invocation fails before it takes a task: all come back until they are dead-lettered."
        yield _elsewhere(f"{', '.join(gone)} not set", risk, ", ".join(gone))


def _elsewhere(measured: str, risk: str, variables: str) -> Finding:
    return Finding(
        severity=Severity.CRITICAL,
        check="environment_elsewhere",
        resource="Function",
        measured=measured,
        risk=risk,
        mend=f"set {variables} back to the stack's outputs",
        source=KIT,
    )


def role_replaced(c: Configuration) -> Iterator[Finding]:
    """The function must be the role that the stack made, the one that is checked."""
    if c.function and c.role and c.function.role_arn != c.role.arn:
        yield Finding(
            severity=Severity.WARNING,
            check="role_replaced",
            resource="Function",
            measured=f"role {c.function.role_arn}, the stack's is {c.role.arn}",
            risk="The function may do what that role may, which this check does not see.",
            mend="set the function's role back to the stack's",
            source=KIT,
        )


def function_policy_open(c: Configuration) -> Iterator[Finding]:
    """Nobody but the account's own identities should invoke the function."""
    from_outside = [statement for statement in (c.function.policy if c.function else ()) if is_open(statement)]
    for statement in from_outside:
        yield Finding(
            severity=Severity.CRITICAL,
            check="function_policy_open",
            resource="Function",
            measured=f"statement {statement.get('Sid', 'without id')} lets everybody invoke it",
            risk="Anybody with an AWS account can hand it a batch that never was in the queue.",
            mend="aws lambda remove-permission with that statement id",
            source="AWS Lambda guide, Resource-based policies",
        )


def code_differs(c: Configuration) -> Iterator[Finding]:
    """The deployed code should be that of the checkout that judges it."""
    changed = c.function.changed_files if c.function else ()
    if changed:
        yield Finding(
            severity=Severity.WARNING,
            check="code_differs",
            resource="Function",
            measured=f"{len(changed):,} files differ from this checkout: {', '.join(changed[:3])}",
            risk="What the function does is not what lambda/ says, so neither are the notebooks' words about it.",
            mend="taskq deploy, or check out the commit that was deployed",
            source=KIT,
        )
    elif changed is None:
        yield Finding(
            severity=Severity.INFO,
            check="code_differs",
            resource="Function",
            measured="its code is another zip than this checkout's and could not be downloaded",
            risk="Whether what runs is what lambda/ says is not known.",
            mend="taskq deploy",
            source=KIT,
        )


def _throttled(c: Configuration, check: str, counts: tuple[int, int], whose: str) -> Finding:
    wanted, allowed = counts
    p, each = (wanted - allowed) / wanted, allowed // max(1, len(c.mappings))
    # Lambda takes pollers or a maximum concurrency, not both.
    polled = any(mapping.maximum_pollers for mapping in c.mappings)
    n = min((queue.max_receives for queue in c.queues if queue.max_receives), default=None)
    lost = (
        f"; {p:.2g}^{n}, {share(throttled_share(p, n))}, of the messages are dead-lettered by that alone" if n else ""
    )
    unset = any(not (mapping.maximum_concurrency or mapping.maximum_pollers) for mapping in c.mappings)
    bound = f", {MAPPING_BOUND:,} a mapping that has no MaximumConcurrency" if unset else ""
    return Finding(
        severity=Severity.WARNING,
        check=check,
        resource="Function",
        measured=f"the mappings run up to {wanted:,} invocations{bound}; {allowed:,} are {whose}",
        risk=f"With a backlog {share(p)} of the receives are throttled{lost}.",
        mend=f"MaximumPollers={max(2, each // PER_POLLER)}" if polled else f"MaximumConcurrency={max(2, each)}",
        source=LAMBDA_SCALING,
    )


CHECKS: tuple[Check, ...] = (
    runtime_end,
    runtime_unknown,
    function_not_ready,
    reserved_zero,
    concurrency_over_reserved,
    concurrency_over_account,
    account_unreserved,
    memory_for_batch,
    environment_differs,
    environment_elsewhere,
    role_replaced,
    function_policy_open,
    code_differs,
)
