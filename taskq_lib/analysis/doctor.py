"""The live check of a deployed stack: every check of every theme, from a configuration to findings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from taskq_lib.analysis import (
    doctor_function,
    doctor_mapping,
    doctor_monitoring,
    doctor_queue,
    doctor_role,
    doctor_security,
    doctor_table,
)
from taskq_lib.analysis.findings import CLOUDFORMATION, Check, Finding, Severity
from taskq_lib.configuration import Configuration

_WORDS = {
    "AWS::SQS::Queue": "Tasks have nowhere to go: they are refused at the send, or lost when they die.",
    "AWS::Lambda::Function": "No task runs; what is sent waits and expires.",
    "AWS::Lambda::EventSourceMapping": "Nothing takes tasks from the queue; they wait and expire.",
    "AWS::DynamoDB::Table": "No task can be claimed, and what the table knew is gone.",
    "AWS::DynamoDB::GlobalTable": "No task can be claimed, and what the table knew is gone.",
    "AWS::IAM::Role": "Lambda cannot run the function: its role is gone.",
    "AWS::Logs::LogGroup": "What the function says is lost, and with it the reason of every failure.",
    "AWS::CloudWatch::Alarm": "Nobody is told of what it watched.",
    "AWS::SNS::Topic": "No alarm reaches anybody.",
    "AWS::SNS::Subscription": "Who subscribed is told of no alarm any more.",
}

#: Twelve digits that stand alone, as in an ARN or a queue's URL; the end of a UUID does not.
_ACCOUNT = re.compile(r"(?<![\w-])\d{8}(\d{4})(?![\w-])", re.ASCII)
#: Without these no task is lost, and nobody is told.
_WATCHING = ("AWS::CloudWatch::", "AWS::SNS::", "AWS::Logs::MetricFilter")


def stack_failed(c: Configuration) -> Iterator[Finding]:
    """A stack that CloudFormation left half-done is not what its parameters say."""
    if "FAILED" in c.stack_status or "ROLLBACK" in c.stack_status:
        failed = "FAILED" in c.stack_status or c.stack_status == "ROLLBACK_COMPLETE"
        yield Finding(
            severity=Severity.CRITICAL if failed else Severity.WARNING,
            check="stack_failed",
            resource="Stack",
            measured=f"status {c.stack_status}",
            risk="Its last change did not take effect" + (", and parts of it may be missing." if failed else "."),
            mend="taskq deploy; its events name the resource and the reason",
            source="AWS CloudFormation guide, Stack status codes",
        )


def stack_changes(c: Configuration) -> Iterator[Finding]:
    """While a stack changes, what is read may be of before or after."""
    if c.stack_status.endswith("_IN_PROGRESS") and "ROLLBACK" not in c.stack_status:
        yield Finding(
            severity=Severity.INFO,
            check="stack_changes",
            resource="Stack",
            measured=f"status {c.stack_status}",
            risk="What was read may be of before the change or of after it.",
            mend="run the check again when the stack is at rest",
            source="AWS CloudFormation guide, Stack status codes",
        )


def resource_missing(c: Configuration) -> Iterator[Finding]:
    """Everything that the stack lists must be there."""
    for one in c.missing:
        yield Finding(
            severity=Severity.WARNING if one.kind.startswith(_WATCHING) else Severity.CRITICAL,
            check="resource_missing",
            resource=one.resource,
            measured="the stack lists it and it is gone",
            risk=_WORDS.get(one.kind, "What depends on it fails."),
            mend="change the stack so that CloudFormation makes it anew, or tear it down and deploy again",
            source=CLOUDFORMATION,
        )


def drift(c: Configuration) -> Iterator[Finding]:
    """A resource that somebody changed by hand is not what the next deployment believes it to be."""
    for one in c.drifts:
        shown = "; ".join(one.differences[:3]) or "changed"
        more = f"; {len(one.differences) - 3:,} more" if len(one.differences) > 3 else ""
        yield Finding(
            severity=Severity.WARNING,
            check="drift",
            resource=one.resource,
            measured=f"{shown}{more}",
            risk="CloudFormation believes the template: the next deployment may leave it so, or undo it unasked.",
            mend="set it back by hand, or by a change set with DeploymentMode REVERT_DRIFT; or deploy what is meant",
            source=CLOUDFORMATION,
        )


def unknown(c: Configuration) -> Iterator[Finding]:
    """What could not be read is not sound: it is not known."""
    for one in c.unreadable:
        yield Finding(
            severity=Severity.WARNING,
            check="unknown",
            resource=one.resource,
            measured=one.reason,
            risk="What depends on it was not checked.",
            mend="allow it, or run the check as somebody who may",
            source="AWS Service Authorization Reference",
        )


CHECKS: tuple[Check, ...] = (
    stack_failed,
    stack_changes,
    resource_missing,
    drift,
    unknown,
    *doctor_queue.CHECKS,
    *doctor_mapping.CHECKS,
    *doctor_function.CHECKS,
    *doctor_table.CHECKS,
    *doctor_security.CHECKS,
    *doctor_role.CHECKS,
    *doctor_monitoring.CHECKS,
)


def examine(configuration: Configuration) -> list[Finding]:
    """Return what every check finds, the worst first; nothing on a sound stack."""
    found = [finding for check in CHECKS for finding in check(configuration)]
    order = list(Severity)
    return sorted(found, key=lambda one: order.index(one.severity))


def masked(found: Sequence[Finding]) -> list[Finding]:
    """Return findings that can be shown in a report: of each account's number its last four digits."""

    def mask(text: str) -> str:
        return _ACCOUNT.sub(r"...\1", text)

    return [replace(one, measured=mask(one.measured), risk=mask(one.risk), mend=mask(one.mend)) for one in found]


def at_least(found: Sequence[Finding], threshold: Severity) -> list[Finding]:
    """Return the findings of this severity and worse."""
    order = list(Severity)
    return [one for one in found if order.index(one.severity) <= order.index(threshold)]


def summary(configuration: Configuration, found: Sequence[Finding]) -> str:
    """Return one sentence: how many checks there were, and what they found."""
    n = _counts(found)
    words = ", ".join(f"{n[str(one)]} {one}" for one in Severity) if found else "nothing found"
    return f"stack {configuration.stack_name}, {configuration.stack_status}: {len(CHECKS)} checks, {words}"


def record(configuration: Configuration, found: Sequence[Finding]) -> dict[str, Any]:
    """Return the result as one plain document: stack, region, read_at, n_checks, counts by severity, findings."""
    return {
        "stack": configuration.stack_name,
        "status": configuration.stack_status,
        "region": configuration.region,
        "read_at": configuration.read_at.isoformat(timespec="seconds"),
        "n_checks": len(CHECKS),
        "counts": _counts(found),
        "findings": [asdict(one) | {"severity": str(one.severity)} for one in found],
    }


def _counts(found: Sequence[Finding]) -> dict[str, int]:
    return {str(severity): sum(one.severity is severity for one in found) for severity in Severity}
