"""Checks of who may do what: encryption, the queues' policies, the function's role."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from taskq_lib.analysis.findings import IAM, SQS_SECURITY, Check, Finding, Severity, is_open, texts
from taskq_lib.configuration import Configuration, Queue, Statement

#: What the function does, and why it needs it. A test holds that the template allows just these.
NEEDED = {
    "sqs:ReceiveMessage": "Lambda takes messages in its name",
    "sqs:DeleteMessage": "Lambda deletes what is settled",
    "sqs:GetQueueAttributes": "Lambda reads the queue's settings",
    "sqs:ChangeMessageVisibility": "retries wait",
    "sqs:SendMessage": "it dead-letters",
    "dynamodb:PartiQLInsert": "it claims tasks",
    "dynamodb:PartiQLUpdate": "it records outcomes",
    "logs:CreateLogStream": "it logs",
    "logs:PutLogEvents": "it logs",
}
_LAMBDA = "lambda.amazonaws.com"


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
    """No statement lets everybody in without a condition."""
    for queue in _queues(c):
        for statement in filter(is_open, queue.policy):
            yield Finding(
                severity=Severity.CRITICAL,
                check="queue_open",
                resource=queue.resource,
                measured=f"{statement.get('Sid', 'a statement')} allows everybody {_words(statement, 'Action')}",
                risk="Anybody with an AWS account can send tasks to it, or read and delete them.",
                mend="remove that statement from the queue's policy",
                source=SQS_SECURITY,
            )


def role_wildcard_action(c: Configuration) -> Iterator[Finding]:
    """The role names each action."""
    for statement in _allows(c):
        wide = [action for action in _actions(statement) if "*" in action or "?" in action]
        if wide or "NotAction" in statement:
            yield Finding(
                severity=Severity.CRITICAL,
                check="role_wildcard_action",
                resource="Role",
                measured=f"allows {', '.join(wide) or 'all but ' + _words(statement, 'NotAction')}",
                risk=f"A task's code may do all that it matches, not only the {len(NEEDED)} actions that are needed.",
                mend="set the role's policy back to the template's (taskq deploy with any change of it)",
                source=IAM,
            )


def role_wildcard_resource(c: Configuration) -> Iterator[Finding]:
    """The role names each resource."""
    for statement in _allows(c):
        wide = [name for name in texts(statement.get("Resource")) if "*" in name and not _is_ours(c, name)]
        if wide or "NotResource" in statement:
            yield Finding(
                severity=Severity.CRITICAL,
                check="role_wildcard_resource",
                resource="Role",
                measured=f"{_words(statement, 'Action')} on {', '.join(wide) or 'all but some resources'}",
                risk="A task's code reaches every queue, table or log of the account that it matches.",
                mend="set the role's policy back to the template's (taskq deploy with any change of it)",
                source=IAM,
            )


def role_other_resource(c: Configuration) -> Iterator[Finding]:
    """The role reaches the stack's own resources, and none besides."""
    for statement in _allows(c):
        others = [name for name in texts(statement.get("Resource")) if "*" not in name and not _is_ours(c, name)]
        if others:
            yield Finding(
                severity=Severity.WARNING,
                check="role_other_resource",
                resource="Role",
                measured=f"{_words(statement, 'Action')} on {', '.join(others)}",
                risk="A task's code reaches what is none of this stack's.",
                mend="remove that resource from the role's policy",
                source=IAM,
            )


def role_unneeded_action(c: Configuration) -> Iterator[Finding]:
    """The role allows what the function does, and no more."""
    found = [action for statement in _allows(c) for action in _actions(statement)]
    extra = sorted({action for action in found if "*" not in action and "?" not in action} - set(NEEDED))
    if extra:
        yield Finding(
            severity=Severity.WARNING,
            check="role_unneeded_action",
            resource="Role",
            measured=f"allows {', '.join(extra)}",
            risk=f"The function needs {len(NEEDED)} actions; a task's code may do {len(extra):,} more.",
            mend="remove those actions from the role's policy",
            source=IAM,
        )


def role_missing_action(c: Configuration) -> Iterator[Finding]:
    """What the function does must be allowed."""
    if c.role is None or c.role.attached or any("NotAction" in statement for statement in _allows(c)):
        return
    found = [action for statement in _allows(c) for action in _actions(statement)]
    lacking = [need for need in NEEDED if not any(fnmatchcase(need.lower(), action.lower()) for action in found)]
    if lacking:
        yield Finding(
            severity=Severity.CRITICAL,
            check="role_missing_action",
            resource="Role",
            measured=f"does not allow {', '.join(lacking)}",
            risk=f"The function fails where {NEEDED[lacking[0]]}.",
            mend="set the role's policy back to the template's (taskq deploy with any change of it)",
            source="cloudformation.yaml of this kit, Role",
        )


def role_attached_policy(c: Configuration) -> Iterator[Finding]:
    """The template attaches no managed policy."""
    for arn in c.role.attached if c.role else ():
        name = arn.rpartition("/")[2]
        wide = name in {"AdministratorAccess", "PowerUserAccess"} or name.endswith("FullAccess")
        yield Finding(
            severity=Severity.CRITICAL if wide else Severity.WARNING,
            check="role_attached_policy",
            resource="Role",
            measured=f"{name} is attached",
            risk=f"A task's code may do all that {name} allows, not only the {len(NEEDED)} actions that are needed.",
            mend=f"aws iam detach-role-policy with {arn}",
            source=IAM,
        )


def role_trust(c: Configuration) -> Iterator[Finding]:
    """Lambda alone may be the role."""
    for statement in c.role.trust if c.role else ():
        principal = statement.get("Principal")
        groups = principal.values() if isinstance(principal, dict) else [principal]
        others = [name for group in groups for name in texts(group) if name != _LAMBDA]
        if statement.get("Effect") == "Allow" and others:
            yield Finding(
                severity=Severity.CRITICAL,
                check="role_trust",
                resource="Role",
                measured=f"may be assumed by {', '.join(others)}",
                risk="Somebody besides Lambda can take the function's messages and write the status of tasks.",
                mend=f"set the role's trust policy back to {_LAMBDA} alone",
                source=IAM,
            )


def _queues(c: Configuration) -> tuple[Queue, ...]:
    return (*c.queues, *([c.dead_letter_queue] if c.dead_letter_queue else []))


def _allows(c: Configuration) -> list[Statement]:
    return [statement for statement in (c.role.inline if c.role else ()) if statement.get("Effect") == "Allow"]


def _actions(statement: Statement) -> list[str]:
    return texts(statement.get("Action"))


def _words(statement: Statement, name: str) -> str:
    return ", ".join(texts(statement.get(name))) or "nothing"


def _is_ours(c: Configuration, name: str) -> bool:
    """Whether an ARN of a policy is a resource of the stack, or what belongs to one, such as its log streams."""
    named = {key: c.outputs[key] for key in c.outputs if key.endswith("Arn")}
    ours = [value for value in named.values() if value]
    ours += [f":table/{c.outputs['TableName']}"] if c.outputs.get("TableName") else []
    ours += [f":log-group:{c.outputs['LogGroupName']}"] if c.outputs.get("LogGroupName") else []
    account = name.partition(own)[0] if (own := next((one for one in ours if one in name), "")) else name
    return bool(own) and "*" not in account


def _denies_plain(statement: Statement) -> bool:
    if statement.get("Effect") != "Deny":
        return False
    conditions: Any = statement.get("Condition")
    held = conditions.values() if isinstance(conditions, dict) else ()
    pairs = [pair for one in held if isinstance(one, dict) for pair in one.items()]
    return any(str(key).lower() == "aws:securetransport" and "false" in str(value).lower() for key, value in pairs)


CHECKS: tuple[Check, ...] = (
    queue_not_encrypted,
    tls_not_demanded,
    queue_open,
    role_wildcard_action,
    role_wildcard_resource,
    role_other_resource,
    role_unneeded_action,
    role_missing_action,
    role_attached_policy,
    role_trust,
)
