"""Checks of the two roles, the function's and that of the schedules: what they may do, and who may be them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from taskq_lib.analysis.findings import (
    IAM,
    KIT,
    Check,
    Finding,
    Severity,
    conditions,
    is_of_plain,
    texts,
    words,
)
from taskq_lib.configuration import Configuration, Role, Statement

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
#: And what a schedule does; what cannot be sent goes to the dead-letter queue.
NEEDED_TO_SCHEDULE = {"sqs:SendMessage": "it sends a task that is due"}
_BACK = "set the role's policy back to the template's (taskq deploy with any change of it)"


@dataclass(frozen=True, kw_only=True)
class _Held:
    """A role, and what it is held against."""

    resource: str  #: Logical id
    role: Role
    who: str  #: Works as the role
    service: str  #: Alone may be the role
    needed: Mapping[str, str]  #: Action -> why
    places: Mapping[str, tuple[str, ...]]  #: Action -> ARNs it is needed on; none where they are not known


def role_wildcard_action(c: Configuration) -> Iterator[Finding]:
    """A role names each action."""
    for held, statement in _allowed(c):
        wide = [action for action in _actions(statement) if "*" in action or "?" in action]
        if wide or "NotAction" in statement:
            yield Finding(
                severity=Severity.CRITICAL,
                check="role_wildcard_action",
                resource=held.resource,
                measured=f"allows {', '.join(wide) or 'all but ' + words(statement, 'NotAction')}",
                risk=f"{held.who} may do all that it matches, not only the {len(held.needed)} actions that are needed.",
                mend=_BACK,
                source=IAM,
            )


def role_wildcard_resource(c: Configuration) -> Iterator[Finding]:
    """A role names each resource."""
    for held, statement in _allowed(c):
        wide = [name for name in texts(statement.get("Resource")) if _is_wide(name) and name not in _ours(c)]
        if wide or "NotResource" in statement:
            yield Finding(
                severity=Severity.CRITICAL,
                check="role_wildcard_resource",
                resource=held.resource,
                measured=f"{words(statement, 'Action')} on {', '.join(wide) or 'all but some resources'}",
                risk=f"{held.who} reaches every queue, table or log of the account that it matches.",
                mend=_BACK,
                source=IAM,
            )


def role_other_resource(c: Configuration) -> Iterator[Finding]:
    """A role reaches the stack's own resources, and none besides."""
    for held, statement in _allowed(c):
        others = [name for name in texts(statement.get("Resource")) if not _is_wide(name) and name not in _ours(c)]
        if others:
            yield Finding(
                severity=Severity.WARNING,
                check="role_other_resource",
                resource=held.resource,
                measured=f"{words(statement, 'Action')} on {', '.join(others)}",
                risk=f"{held.who} reaches what is none of this stack's.",
                mend="remove that resource from the role's policy",
                source=IAM,
            )


def role_unneeded_action(c: Configuration) -> Iterator[Finding]:
    """A role allows what is done as it, and no more."""
    for held in _roles(c):
        found = [action for statement in _of(held, "Allow") for action in _actions(statement)]
        extra = sorted({action for action in found if not _is_wide(action)} - set(held.needed))
        if extra:
            yield Finding(
                severity=Severity.WARNING,
                check="role_unneeded_action",
                resource=held.resource,
                measured=f"allows {', '.join(extra)}",
                risk=f"{held.who} may do {len(extra):,} more than the {len(held.needed)} actions that are needed.",
                mend="remove those actions from the role's policy",
                source=IAM,
            )


def role_missing_action(c: Configuration) -> Iterator[Finding]:
    """What is done must be allowed, on each resource that it is done to, and denied on none."""
    for held in _roles(c):
        allowed = _of(held, "Allow")
        # What a demand for TLS denies is nothing that AWS's own SDK sends.
        denied = [statement for statement in _of(held, "Deny") if not is_of_plain(statement)]
        lacking: dict[str, list[str]] = {"does not allow": [], "denies": []}
        for need in held.needed:
            for place in held.places[need] or (None,):
                words_of = need if place is None else f"{need} on {place.split(':', 5)[-1]}"
                if any(_covers(statement, need, place) for statement in denied):
                    lacking["denies"].append(words_of)
                # What a managed policy allows is not read.
                elif not held.role.attached and not any(_covers(one, need, place) for one in allowed):
                    lacking["does not allow"].append(words_of)
        found = [f"{how} {', '.join(names)}" for how, names in lacking.items() if names]
        if found:
            first = next(name for names in lacking.values() for name in names).partition(" ")[0]
            yield Finding(
                severity=Severity.CRITICAL,
                check="role_missing_action",
                resource=held.resource,
                measured="; ".join(found),
                risk=f"What is done as this role fails where {held.needed[first]}.",
                mend=_BACK,
                source=KIT,
            )


def role_attached_policy(c: Configuration) -> Iterator[Finding]:
    """The template attaches no managed policy."""
    for held in _roles(c):
        for arn in held.role.attached:
            name = arn.rpartition("/")[2]
            wide = name in {"AdministratorAccess", "PowerUserAccess"} or name.endswith("FullAccess")
            n = len(held.needed)
            yield Finding(
                severity=Severity.CRITICAL if wide else Severity.WARNING,
                check="role_attached_policy",
                resource=held.resource,
                measured=f"{name} is attached",
                risk=f"{held.who} may do all that {name} allows, not only the {n} actions that are needed.",
                mend=f"aws iam detach-role-policy with {arn}",
                source=IAM,
            )


def role_trust(c: Configuration) -> Iterator[Finding]:
    """One service alone may be a role."""
    for held in _roles(c):
        for statement in held.role.trust:
            others = [name for name in _principals(statement) if name != held.service]
            if statement.get("Effect") == "Allow" and others:
                yield Finding(
                    severity=Severity.CRITICAL,
                    check="role_trust",
                    resource=held.resource,
                    measured=f"may be assumed by {', '.join(others)}",
                    risk=f"Somebody besides {held.service} can do to this stack's tasks what the role may.",
                    mend=f"set the role's trust policy back to {held.service} alone",
                    source=IAM,
                )


def role_trust_group(c: Configuration) -> Iterator[Finding]:
    """The service may be the schedules' role for the schedules of the stack's own group alone."""
    group = _arn(c, "scheduler", f"schedule-group/{c.outputs.get('ScheduleGroupName', '')}")
    for held in _roles(c):
        if held.role is not c.scheduler_role or not group:
            continue
        for statement in held.role.trust:
            is_of_service = statement.get("Effect") == "Allow" and held.service in _principals(statement)
            bound = [
                name
                for operator, key, values in conditions(statement)
                for name in values
                if key == "aws:sourcearn" and "not" not in operator
            ]
            if is_of_service and bound != [group]:
                yield Finding(
                    severity=Severity.WARNING,
                    check="role_trust_group",
                    resource=held.resource,
                    measured=f"is bound to {', '.join(bound) or 'no schedule group'}, the stack's is {group}",
                    risk="Schedules of other groups can send tasks as this role, or those of this stack's cannot.",
                    mend="set aws:SourceArn in the role's trust policy back to the schedule group",
                    source=IAM,
                )


def _roles(c: Configuration) -> Iterator[_Held]:
    queues = tuple(c.outputs[name] for name in ("QueueArn", "SecondQueueArn") if c.outputs.get(name))
    dead = tuple(c.outputs[name] for name in ("DeadLetterQueueArn",) if c.outputs.get(name))
    if c.role:
        by_service = {
            "sqs": queues,
            "dynamodb": tuple(filter(None, [_table(c)])),
            "logs": tuple(filter(None, [_streams(c)])),
        }
        places = {need: by_service[need.partition(":")[0]] for need in NEEDED} | {"sqs:SendMessage": dead}
        who, service = "A task's code", "lambda.amazonaws.com"
        yield _Held(resource="Role", role=c.role, who=who, service=service, needed=NEEDED, places=places)
    if c.scheduler_role:
        yield _Held(
            resource="SchedulerRole",
            role=c.scheduler_role,
            who="A schedule",
            service="scheduler.amazonaws.com",
            needed=NEEDED_TO_SCHEDULE,
            places=dict.fromkeys(NEEDED_TO_SCHEDULE, (*queues, *dead)),
        )


def _of(held: _Held, effect: str) -> list[Statement]:
    return [statement for statement in held.role.inline if statement.get("Effect") == effect]


def _allowed(c: Configuration) -> Iterator[tuple[_Held, Statement]]:
    for held in _roles(c):
        yield from ((held, statement) for statement in _of(held, "Allow"))


def _actions(statement: Statement) -> list[str]:
    return texts(statement.get("Action"))


def _principals(statement: Statement) -> list[str]:
    principal = statement.get("Principal")
    groups = principal.values() if isinstance(principal, Mapping) else [principal]
    return [name for group in groups for name in texts(group)]


def _is_wide(name: str) -> bool:
    return "*" in name or "?" in name


def _covers(statement: Statement, action: str, place: str | None) -> bool:
    """Whether a statement is of an action on a resource; of any resource where none is known."""
    is_of_action = _is_named(statement, "Action", action.lower())
    return is_of_action and (place is None or _is_named(statement, "Resource", place))


def _is_named(statement: Statement, what: str, name: str) -> bool:
    """Whether a statement's actions or resources, or all but those that it names, match a name as IAM matches."""
    is_but = f"Not{what}" in statement
    patterns = texts(statement.get(f"Not{what}" if is_but else what))
    found = any(_matches(one.lower() if what == "Action" else one, name) for one in patterns)
    return found is not is_but


def _matches(pattern: str, name: str) -> bool:
    parts = ({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in pattern)
    return re.fullmatch("".join(parts), name, re.DOTALL) is not None


def _ours(c: Configuration) -> set[str]:
    """Return the ARNs that the policies of the stack's roles name; of the log group that of its streams."""
    names = ("QueueArn", "SecondQueueArn", "DeadLetterQueueArn")
    return {name for name in [*(c.outputs.get(one) for one in names), _table(c), _streams(c)] if name}


def _table(c: Configuration) -> str:
    return _arn(c, "dynamodb", f"table/{c.outputs['TableName']}") if c.outputs.get("TableName") else ""


def _streams(c: Configuration) -> str:
    return _arn(c, "logs", f"log-group:{c.outputs['LogGroupName']}:*") if c.outputs.get("LogGroupName") else ""


def _arn(c: Configuration, service: str, name: str) -> str:
    """Return the ARN of a resource in the stack's account and region; "" where no output says which account."""
    parts = c.outputs.get("QueueArn", "").split(":")
    return f"arn:{parts[1]}:{service}:{parts[3]}:{parts[4]}:{name}" if len(parts) == 6 else ""


CHECKS: tuple[Check, ...] = (
    role_wildcard_action,
    role_wildcard_resource,
    role_other_resource,
    role_unneeded_action,
    role_missing_action,
    role_attached_policy,
    role_trust,
    role_trust_group,
)
