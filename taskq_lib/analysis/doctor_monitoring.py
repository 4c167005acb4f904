"""Checks of what is watched: logs, alarms, who is told."""

from __future__ import annotations

from collections.abc import Iterator

from taskq_lib.analysis.findings import ALARMS, KIT, LOGS, Check, Finding, Severity, set_to
from taskq_lib.configuration import Configuration


def log_retention_never(c: Configuration) -> Iterator[Finding]:
    """CloudWatch keeps logs for ever unless it is told otherwise."""
    if c.log_group and c.log_group.retention_days is None:
        yield Finding(
            severity=Severity.WARNING,
            check="log_retention_never",
            resource="LogGroup",
            measured="kept for ever",
            risk="Logs pile up at $0.03 per GB and month, and what tasks said of people is never deleted.",
            mend=set_to(c, "LogRetentionDays", c.parameters.get("LogRetentionDays", "14")),
            source=LOGS,
        )


def logs_elsewhere(c: Configuration) -> Iterator[Finding]:
    """The function writes to the stack's log group, and as JSON, so that its lines can be read by their fields."""
    wanted = c.outputs.get("LogGroupName")
    if c.function and wanted and (c.function.log_group != wanted or c.function.log_format != "JSON"):
        yield Finding(
            severity=Severity.WARNING,
            check="logs_elsewhere",
            resource="Function",
            measured=f"logs as {c.function.log_format} to {c.function.log_group}, not as JSON to {wanted}",
            risk="The notebooks find no attempts in the stack's log group, and no metric of the function's is read.",
            mend="set the function's LoggingConfig back to the template's",
            source=KIT,
        )


def alarms_missing(c: Configuration) -> Iterator[Finding]:
    """A stack whose template has alarms should have them on."""
    if c.parameters.get("Alarms") == "false":
        yield Finding(
            severity=Severity.WARNING,
            check="alarms_missing",
            resource="Stack",
            measured="no alarms: Alarms is false",
            risk="Dead letters, a stuck queue and throttles are seen only by who looks.",
            mend="Alarms=true",
            source=ALARMS,
        )


def task_alarms_missing(c: Configuration) -> Iterator[Finding]:
    """The alarms on what becomes of tasks look at the function's own metrics."""
    if c.parameters.get("Alarms") == "true" and c.parameters.get("Metrics") == "false":
        yield Finding(
            severity=Severity.INFO,
            check="task_alarms_missing",
            resource="Stack",
            measured="Metrics is false, so the stack has no alarm on its tasks' failures, time or breakers",
            risk="A rising failure rate or an open breaker is seen only by who looks.",
            mend="Metrics=true",
            source=KIT,
        )


def alarm_without_action(c: Configuration) -> Iterator[Finding]:
    """An alarm must tell somebody; a topic that is gone is nobody."""
    for alarm in c.alarms or ():
        if not set(alarm.actions) - set(alarm.gone_actions):
            gone = f"{', '.join(alarm.gone_actions)}, which does not exist"
            yield Finding(
                severity=Severity.WARNING,
                check="alarm_without_action",
                resource=alarm.resource,
                measured=f"tells {gone}" if alarm.gone_actions else "no action on ALARM",
                risk="It turns red in the console and tells nobody.",
                mend="set its AlarmActions back to the stack's topic",
                source=ALARMS,
            )


def alarm_elsewhere(c: Configuration) -> Iterator[Finding]:
    """Whoever subscribes to the stack's topic expects to hear of its alarms; another topic may be meant."""
    topic = c.outputs.get("TopicArn")
    for alarm in c.alarms or ():
        others = [action for action in alarm.actions if action not in alarm.gone_actions]
        if topic and others and topic not in alarm.actions:
            yield Finding(
                severity=Severity.INFO,
                check="alarm_elsewhere",
                resource=alarm.resource,
                measured=f"tells {', '.join(others)}, the stack's topic is {topic}",
                risk="Who subscribed to the stack's topic is not told of it.",
                mend="set its AlarmActions back to the stack's topic, unless the other is meant",
                source=KIT,
            )


def alarm_actions_disabled(c: Configuration) -> Iterator[Finding]:
    """Its actions must be on."""
    for alarm in c.alarms or ():
        if alarm.actions and not alarm.are_actions_enabled:
            yield Finding(
                severity=Severity.WARNING,
                check="alarm_actions_disabled",
                resource=alarm.resource,
                measured=f"{len(alarm.actions):,} actions, disabled",
                risk="It turns red in the console and tells nobody.",
                mend="aws cloudwatch enable-alarm-actions with its name",
                source="AWS CloudWatch API, EnableAlarmActions",
            )


def alarm_rings(c: Configuration) -> Iterator[Finding]:
    """An alarm that is red now says more than this check."""
    for alarm in c.alarms or ():
        if alarm.state == "ALARM":
            yield Finding(
                severity=Severity.INFO,
                check="alarm_rings",
                resource=alarm.resource,
                measured=f"in ALARM: {alarm.reason or 'no reason given'}",
                risk="What it watches is out of bounds now.",
                mend="its description names the notebook that helps",
                source=ALARMS,
            )


def topic_without_subscription(c: Configuration) -> Iterator[Finding]:
    """A topic that nobody listens to tells nobody."""
    if c.topic and not c.topic.n_confirmed:
        waiting = f", {c.topic.n_pending:,} not confirmed yet" if c.topic.n_pending else ""
        yield Finding(
            severity=Severity.INFO,
            check="topic_without_subscription",
            resource="AlarmTopic",
            measured=f"no subscription that is confirmed{waiting}",
            risk="Alarms are sent and nobody receives them.",
            mend="follow the link in the e-mail from AWS" if c.topic.n_pending else "AlarmEmail, with an address",
            source="AWS SNS API, GetTopicAttributes",
        )


CHECKS: tuple[Check, ...] = (
    log_retention_never,
    logs_elsewhere,
    alarms_missing,
    task_alarms_missing,
    alarm_without_action,
    alarm_elsewhere,
    alarm_actions_disabled,
    alarm_rings,
    topic_without_subscription,
)
