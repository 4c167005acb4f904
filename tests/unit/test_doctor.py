"""The doctor finds each thing that is wrong, and only that; on a sound stack it finds nothing."""

import re
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib.analysis import doctor, doctor_function
from taskq_lib.analysis.doctor_role import NEEDED, NEEDED_TO_SCHEDULE
from taskq_lib.analysis.findings import Finding, Severity, frame, share, throttled_share
from taskq_lib.aws import template
from taskq_lib.configuration import (
    Account,
    Alarm,
    Configuration,
    Drift,
    EventSource,
    Function,
    LogGroup,
    Missing,
    Queue,
    Role,
    Table,
    Topic,
    Unreadable,
)
from tests.unit import plain
from tests.unit.configurations import (
    ENVIRONMENT,
    GROUP,
    LAMBDA,
    OUTPUTS,
    ROLE,
    SCHEDULER,
    SQS,
    TABLE,
    TLS_ONLY,
    TOPIC,
    Change,
    all_of,
    allowing,
    environment,
    parameters,
    setting,
    sound,
)

OPEN = {"Sid": "Everybody", "Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sqs:SendMessage"}
OTHER = EventSource(resource="uuid-1", source_arn=f"{SQS}:tasks", function_arn=f"{LAMBDA}:function:other")
FIFO = all_of(
    parameters(FifoQueue="true"),
    *(setting("queues", i, is_fifo=True, deduplicates_by_content=True) for i in (0, 1)),
    setting("dead_letter_queue", is_fifo=True, deduplicates_by_content=True),
)


def without(action: str) -> Change:
    """Take an action from the role."""

    def change(before: Configuration) -> Configuration:
        assert before.role is not None
        kept = tuple(statement for statement in before.role.inline if statement["Action"] != action)
        return replace(before, role=replace(before.role, inline=kept))

    return change


def on_resource(action: str, *resources: str) -> Change:
    """Allow an action on these resources instead of those that it is needed on."""

    def change(before: Configuration) -> Configuration:
        assert before.role is not None
        moved = tuple(
            {**one, "Resource": list(resources)} if one["Action"] == action else one for one in before.role.inline
        )
        return replace(before, role=replace(before.role, inline=moved))

    return change


def denying(**statement: Any) -> Change:
    """Add a statement to the role that denies."""
    return allowing(**{"Effect": "Deny", **statement})


def scheduler_trust(**statement: Any) -> Change:
    """Change the statement by which EventBridge Scheduler may be its role."""
    return setting("scheduler_role", trust=({**SCHEDULER, **statement},))


def without_variable(name: str) -> dict[str, str]:
    """Return the environment without a variable."""
    return {one: value for one, value in ENVIRONMENT.items() if one != name}


def on(day: date) -> Change:
    """Read the configuration on another day."""
    return lambda before: replace(before, read_at=datetime(day.year, day.month, day.day, tzinfo=UTC))


def noting(**lists: Any) -> Change:
    """Add what a reader notes besides: drifts, missing, unreadable, other mappings; or the stack's status."""
    return lambda before: replace(before, **lists)


C, W, I = Severity.CRITICAL, Severity.WARNING, Severity.INFO  # noqa: E741 - the three severities, in their order

#: What is spoiled -> severity, check, resource
SEEDED: dict[str, tuple[Change, Severity, str, str]] = {
    "visibility below the timeout": (
        setting("queues", 0, visibility_timeout_s=299), C, "visibility_below_timeout", "Queue"),
    "visibility equals the timeout": (
        setting("queues", 1, visibility_timeout_s=300), W, "visibility_below_advised", "SecondQueue"),
    "visibility without the window": (
        setting("mappings", 0, window_s=20), W, "visibility_below_advised", "Queue"),
    "receive limit equals the attempt budget": (
        setting("queues", 0, max_receives=5), C, "receive_limit_below_attempts", "Queue"),
    "receive limit below AWS's advice": (
        setting("queues", 0, max_receives=4), W, "receive_limit_low", "Queue"),
    "dead letters kept no longer than messages": (
        all_of(setting("queues", 0, retention_s=1_209_600)), C, "dead_letter_retention", "DeadLetterQueue"),
    "no redrive policy": (
        setting("queues", 0, redrive_to=None, max_receives=None), C, "no_redrive_policy", "Queue"),
    "redrive to somebody else's queue": (
        setting("queues", 0, redrive_to=f"{SQS}:other"), C, "redrive_elsewhere", "Queue"),
    "dead-letter queue that denies all": (
        all_of(setting("dead_letter_queue", redrive_permission="byQueue", redrive_sources=(f"{SQS}:tasks",))),
        C, "redrive_refused", "DeadLetterQueue"),
    "dead-letter queue that is gone": (
        all_of(noting(dead_letter_queue=None),
               noting(missing=(Missing(resource="DeadLetterQueue", kind="AWS::SQS::Queue"),))),
        C, "resource_missing", "DeadLetterQueue"),
    "retention of an hour": (
        setting("queues", 0, retention_s=3_600), W, "retention_short", "Queue"),
    "a delay on the queue": (setting("queues", 0, delay_s=60), W, "delivery_delay", "Queue"),
    "smaller messages": (setting("queues", 0, max_message_bytes=262_144), W, "message_size", "Queue"),
    "too many in flight": (
        all_of(setting("mappings", 0, batch_size=130, window_s=1, maximum_concurrency=1_000),
               setting("queues", 0, visibility_timeout_s=1_801)),
        W, "in_flight_limit", "Queue"),
    "a FIFO queue in a standard stack": (
        setting("dead_letter_queue", is_fifo=True), C, "fifo_mismatch", "DeadLetterQueue"),
    "a FIFO queue without deduplication": (
        all_of(FIFO, setting("queues", 0, deduplicates_by_content=False)), C, "fifo_deduplication", "Queue"),
    "mapping disabled": (setting("mappings", 0, state="Disabled"), C, "mapping_disabled", "EventSourceMapping"),
    "partial batch response off": (
        setting("mappings", 1, response_types=()), C, "partial_response_off", "SecondEventSourceMapping"),
    "large batch without a window": (
        setting("mappings", 0, batch_size=50), W, "batch_without_window", "EventSourceMapping"),
    "a window on a FIFO queue": (
        all_of(FIFO, setting("mappings", 0, window_s=1), setting("queues", 0, visibility_timeout_s=1_801)),
        W, "fifo_batch", "EventSourceMapping"),
    "a filter on the mapping": (setting("mappings", 0, n_filters=1), C, "filter_criteria", "EventSourceMapping"),
    "mapping to another function": (
        setting("mappings", 0, function_arn=f"{LAMBDA}:function:other"), C, "mapping_elsewhere", "EventSourceMapping"),
    "mapping to a function of a longer name": (
        setting("mappings", 0, function_arn=f"{LAMBDA}:function:worker-2"), C, "mapping_elsewhere",
        "EventSourceMapping"),
    "a second consumer": (noting(other_mappings=(OTHER,)), C, "second_consumer", "Queue"),
    "another source": (
        noting(other_mappings=(replace(OTHER, source_arn=f"{SQS}:strange"),)), W, "other_source", "Function"),
    "reserved below what mappings run": (
        all_of(*(setting("mappings", i, maximum_concurrency=100) for i in (0, 1)),
               setting("function", reserved_concurrency=50)),
        W, "concurrency_over_reserved", "Function"),
    "pollers beyond the account's quota": (
        all_of(*(setting("mappings", i, maximum_pollers=200) for i in (0, 1))), W, "concurrency_over_account",
        "Function"),
    "reserved without a bound of the mappings": (
        setting("function", reserved_concurrency=100), W, "concurrency_over_reserved", "Function"),
    "reserved concurrency 0": (setting("function", reserved_concurrency=0), C, "reserved_zero", "Function"),
    "a mapping beyond the account's quota": (
        all_of(*(setting("mappings", i, maximum_concurrency=800) for i in (0, 1))),
        W, "concurrency_over_account", "Function"),
    "an account with little left": (
        noting(account=Account(concurrency=1_000, unreserved=99)), W, "account_unreserved", "Account"),
    "a batch that does not fit into memory": (
        all_of(setting("mappings", 0, batch_size=10_000, window_s=1, maximum_concurrency=2),
               setting("queues", 0, visibility_timeout_s=1_801)),
        W, "memory_for_batch", "Function"),
    "attempts changed by hand": (environment(TASKQ_MAX_ATTEMPTS="4"), W, "environment_differs", "Function"),
    "another table": (environment(TASKQ_TABLE="other"), C, "environment_elsewhere", "Function"),
    "a variable that is gone": (
        setting("function", environment=without_variable("TASKQ_TABLE")), C, "environment_elsewhere", "Function"),
    "no environment": (setting("function", environment={}), C, "environment_elsewhere", "Function"),
    "one queue of two": (environment(TASKQ_QUEUE_URLS="https://sqs/tasks"), C, "environment_elsewhere", "Function"),
    "runtime near its end": (
        all_of(setting("function", runtime="python3.11"), on(date(2027, 1, 2))), W, "runtime_end", "Function"),
    "runtime past its end": (setting("function", runtime="python3.9"), C, "runtime_end", "Function"),
    "runtime that nobody knows": (setting("function", runtime="nodejs24.x"), I, "runtime_unknown", "Function"),
    "function that failed": (setting("function", last_update="Failed"), C, "function_not_ready", "Function"),
    "another role": (setting("function", role_arn="arn:aws:iam::123456789012:role/other"), W, "role_replaced",
                     "Function"),
    "function open to everybody": (setting("function", policy=(OPEN,)), C, "function_policy_open", "Function"),
    "code of another commit": (setting("function", changed_files=("handler.py",)), W, "code_differs", "Function"),
    "code that cannot be compared": (setting("function", changed_files=None), I, "code_differs", "Function"),
    "no point-in-time recovery": (setting("table", is_restorable=False), W, "point_in_time_recovery", "Table"),
    "time to live off": (setting("table", ttl_attribute=None), W, "time_to_live", "Table"),
    "time to live by another attribute": (setting("table", ttl_attribute="deadline"), W, "time_to_live", "Table"),
    "status that expires before its dead letter": (
        all_of(parameters(StatusTtlDays="7"), environment(TASKQ_TTL_DAYS="7")), W, "status_expires_first", "Table"),
    "index gone": (setting("table", indexes={}), C, "index_missing", "Table"),
    "index in the making": (setting("table", indexes={"by-time": "CREATING"}), C, "index_missing", "Table"),
    "provisioned billing": (
        setting("table", billing="PROVISIONED", write_units=5), W, "billing_provisioned", "Table"),
    "bounded writes": (setting("table", max_write_units=100), W, "write_bound", "Table"),
    "no key of its own": (setting("table", has_own_key=False), I, "table_key", "Table"),
    "table that is being deleted": (setting("table", status="DELETING"), C, "table_not_active", "Table"),
    "replica gone": (setting("table", replica_regions=()), C, "replica_missing", "Table"),
    "queue not encrypted": (setting("queues", 0, is_encrypted=False), W, "queue_not_encrypted", "Queue"),
    "dead letters not encrypted": (
        setting("dead_letter_queue", is_encrypted=False), W, "queue_not_encrypted", "DeadLetterQueue"),
    "no TLS demanded": (setting("queues", 1, policy=()), W, "tls_not_demanded", "SecondQueue"),
    "no TLS demanded for dead letters": (
        setting("dead_letter_queue", policy=()), W, "tls_not_demanded", "DeadLetterQueue"),
    "queue open to everybody": (
        lambda c: setting("queues", 0, policy=(*c.queues[0].policy, OPEN))(c), C, "queue_open", "Queue"),
    "queue open to everybody who comes with TLS": (
        setting("queues", 0, policy=(TLS_ONLY, {**OPEN, "Condition": {"Bool": {"aws:SecureTransport": "true"}}})),
        C, "queue_open", "Queue"),
    "TLS demanded of one action": (
        setting("queues", 0, policy=({**TLS_ONLY, "Action": "sqs:SendMessage"},)), W, "tls_not_demanded", "Queue"),
    "TLS demanded of somebody": (
        setting("queues", 0, policy=({**TLS_ONLY, "Principal": {"AWS": "arn:aws:iam::123456789012:user/a"}},)),
        W, "tls_not_demanded", "Queue"),
    "wildcard action": (
        allowing(Action="sqs:*", Resource=f"{SQS}:tasks"), C, "role_wildcard_action", "Role"),
    "wildcard resource": (
        allowing(Action="sqs:SendMessage", Resource="*"), C, "role_wildcard_resource", "Role"),
    "all tables of the account": (
        allowing(Action="dynamodb:PartiQLInsert", Resource="arn:aws:dynamodb:*:*:table/*"),
        C, "role_wildcard_resource", "Role"),
    "somebody else's queue": (
        allowing(Action=["sqs:SendMessage"], Resource=[f"{SQS}:other"]), W, "role_other_resource", "Role"),
    "an action that is not needed": (
        allowing(Action="sqs:PurgeQueue", Resource=f"{SQS}:tasks"), W, "role_unneeded_action", "Role"),
    "an action that is missing": (without("dynamodb:PartiQLUpdate"), C, "role_missing_action", "Role"),
    "dead letters allowed to the queue alone": (
        on_resource("sqs:SendMessage", f"{SQS}:tasks"), C, "role_missing_action", "Role"),
    "messages of the second queue not allowed": (
        on_resource("sqs:ReceiveMessage", f"{SQS}:tasks"), C, "role_missing_action", "Role"),
    "an action that is denied": (
        denying(Action="dynamodb:PartiQL*", Resource="*"), C, "role_missing_action", "Role"),
    "an action that is denied on one queue": (
        denying(NotAction="sqs:SendMessage", Resource=f"{SQS}:urgent"), C, "role_missing_action", "Role"),
    "a queue whose name begins like the stack's": (
        allowing(Action="sqs:SendMessage", Resource=f"{SQS}:tasks-of-billing"), W, "role_other_resource", "Role"),
    "all queues whose names begin like the stack's": (
        allowing(Action="sqs:SendMessage", Resource=f"{SQS}:tasks*"), C, "role_wildcard_resource", "Role"),
    "a table whose name begins like the stack's": (
        allowing(Action="dynamodb:PartiQLInsert", Resource=f"{TABLE}-of-billing"), W, "role_other_resource", "Role"),
    "a schedule that may not send to the second queue": (
        setting("scheduler_role", inline=(
            {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": [f"{SQS}:tasks", f"{SQS}:dead"]},)),
        C, "role_missing_action", "SchedulerRole"),
    "a schedule that may do more": (
        setting("scheduler_role", inline=(
            {"Effect": "Allow", "Action": "sqs:*", "Resource": [f"{SQS}:tasks", f"{SQS}:urgent", f"{SQS}:dead"]},)),
        C, "role_wildcard_action", "SchedulerRole"),
    "a schedule as administrator": (
        setting("scheduler_role", attached=("arn:aws:iam::aws:policy/AdministratorAccess",)),
        C, "role_attached_policy", "SchedulerRole"),
    "schedules of whoever has the account": (scheduler_trust(Condition={}), W, "role_trust_group", "SchedulerRole"),
    "schedules of another group": (
        scheduler_trust(Condition={"ArnEquals": {"aws:sourcearn": GROUP.replace("later", "other")}}),
        W, "role_trust_group", "SchedulerRole"),
    "the scheduler's role for Lambda": (
        scheduler_trust(Principal={"Service": ["scheduler.amazonaws.com", "lambda.amazonaws.com"]}),
        C, "role_trust", "SchedulerRole"),
    "administrator": (
        setting("role", attached=("arn:aws:iam::aws:policy/AdministratorAccess",)), C, "role_attached_policy", "Role"),
    "a managed policy": (
        setting("role", attached=("arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",)),
        W, "role_attached_policy", "Role"),
    "trust of another account": (
        setting("role", trust=({"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::999999999999:root"}},)),
        C, "role_trust", "Role"),
    "logs kept for ever": (setting("log_group", retention_days=None), W, "log_retention_never", "LogGroup"),
    "log group gone": (
        noting(log_group=None, missing=(Missing(resource="LogGroup", kind="AWS::Logs::LogGroup"),)),
        C, "resource_missing", "LogGroup"),
    "logs elsewhere": (setting("function", log_group="/aws/lambda/worker"), W, "logs_elsewhere", "Function"),
    "logs as text": (setting("function", log_format="Text"), W, "logs_elsewhere", "Function"),
    "no alarms": (all_of(parameters(Alarms="false"), noting(alarms=(), topic=None)), W, "alarms_missing", "Stack"),
    "no metrics for the alarms on tasks": (parameters(Metrics="false"), I, "task_alarms_missing", "Stack"),
    "alarm gone": (
        noting(missing=(Missing(resource="AgeAlarm", kind="AWS::CloudWatch::Alarm"),)), W, "resource_missing",
        "AgeAlarm"),
    "alarm without action": (setting("alarms", 0, actions=()), W, "alarm_without_action", "DeadLetterAlarm"),
    "alarm that tells another topic": (
        setting("alarms", 0, actions=(f"{TOPIC}-of-billing",)), I, "alarm_elsewhere", "DeadLetterAlarm"),
    "alarm that tells a topic that is gone": (
        setting("alarms", 0, actions=(f"{TOPIC}-gone",), gone_actions=(f"{TOPIC}-gone",)),
        W, "alarm_without_action", "DeadLetterAlarm"),
    "alarm with its actions disabled": (
        setting("alarms", 1, are_actions_enabled=False), W, "alarm_actions_disabled", "AgeAlarm"),
    "alarm that rings": (setting("alarms", 1, state="ALARM"), I, "alarm_rings", "AgeAlarm"),
    "topic without subscription": (setting("topic", n_confirmed=0), I, "topic_without_subscription", "AlarmTopic"),
    "topic that waits for a confirmation": (
        setting("topic", n_confirmed=0, n_pending=1), I, "topic_without_subscription", "AlarmTopic"),
    "stack that failed": (noting(stack_status="UPDATE_ROLLBACK_FAILED"), C, "stack_failed", "Stack"),
    "stack that was rolled back": (noting(stack_status="UPDATE_ROLLBACK_COMPLETE"), W, "stack_failed", "Stack"),
    "stack that changes": (noting(stack_status="UPDATE_IN_PROGRESS"), I, "stack_changes", "Stack"),
    "drift": (noting(drifts=(Drift(resource="Function", differences=("/Timeout is 60, not 300",)),)),
              W, "drift", "Function"),
    "what may not be read": (
        noting(table=None, unreadable=(Unreadable(resource="Table", reason="x lacks dynamodb:DescribeTable."),)),
        W, "unknown", "Table"),
}  # fmt: skip
# A receive limit that is also below the attempt budget would be two findings.
SEEDED["receive limit equals the attempt budget"] = (
    all_of(setting("queues", 0, max_receives=6), environment(TASKQ_MAX_ATTEMPTS="6"), parameters(MaxAttempts="6")),
    C, "receive_limit_below_attempts", "Queue",
)  # fmt: skip


def test_a_sound_stack_raises_nothing() -> None:
    """On a stack with every option, set as the template and AWS advise, no check finds anything; nor on a FIFO one."""
    assert doctor.examine(sound()) == []
    assert doctor.examine(FIFO(sound())) == []


@pytest.mark.parametrize("name", SEEDED)
def test_each_misconfiguration_raises_its_own_finding_and_no_other(name: str) -> None:
    """What is spoiled is found, once, under its name, at its resource, and with all its words."""
    change, severity, check, resource = SEEDED[name]
    [found] = doctor.examine(change(sound()))
    assert (found.severity, found.check, found.resource) == (severity, check, resource)
    for one in fields(Finding):
        assert str(getattr(found, one.name)).strip(), one.name
    assert found.risk.endswith(".")
    assert found.risk.count(". ") == 0, "one sentence"


def test_every_check_is_seeded() -> None:
    """No check is there that no seeded misconfiguration raises, and there are more than thirty."""
    raised = {check for _change, _severity, check, _resource in SEEDED.values()}
    assert {check.__name__ for check in doctor.CHECKS} - {"retention_below_retries"} == raised
    assert len(SEEDED) >= 30


def test_a_task_may_expire_while_it_waits_for_its_retries() -> None:
    """Retries that wait longer than the queue keeps a message are found, besides that the retention is short."""
    found = doctor.examine(setting("queues", 0, retention_s=900)(sound()))
    assert [one.check for one in found] == ["retention_below_retries", "retention_short"]
    assert found[0].measured == "messages kept 900 s, retries may wait 900 s"


def test_an_alias_of_the_function_is_the_function() -> None:
    """A mapping to an alias or a version of the stack's function leads to it."""
    assert doctor.examine(setting("mappings", 0, function_arn=f"{LAMBDA}:function:worker:live")(sound())) == []


def test_an_alarm_may_tell_more_than_the_stacks_topic() -> None:
    """An action beside the stack's topic is none of its business."""
    both = (f"{TOPIC}-of-billing", TOPIC)
    assert doctor.examine(setting("alarms", 0, actions=both)(sound())) == []


def test_what_belongs_to_a_table_of_somebody_else_is_mended_there() -> None:
    """A stack on a table that it did not make cannot set it by a parameter, and the finding does not say so."""
    change = all_of(parameters(ExistingTableName="status"), setting("table", is_restorable=False, ttl_attribute=None))
    found = doctor.examine(change(sound()))
    assert [one.check for one in found] == ["point_in_time_recovery", "time_to_live"]
    assert found[0].mend == "set it on the table itself, or by the stack that made it"


def test_an_older_stack_names_its_queue_by_the_older_variable() -> None:
    """A function of an earlier template has TASKQ_QUEUE_URL instead of TASKQ_QUEUE_URLS; nothing is gone."""
    older = without_variable("TASKQ_QUEUE_URLS") | {"TASKQ_QUEUE_URL": "https://sqs/tasks"}
    assert doctor.examine(setting("function", environment=older)(sound())) == []


def test_the_default_stack_gets_one_warning() -> None:
    """The documented visibility timeout equals the function's timeout: that warning, with what mends it."""
    change = all_of(*(setting("queues", i, visibility_timeout_s=300) for i in (0, 1)),
                    parameters(VisibilityTimeoutSeconds="300"))  # fmt: skip
    found = doctor.examine(change(sound()))
    assert [(one.check, one.severity) for one in found] == [("visibility_below_advised", Severity.WARNING)] * 2
    assert {one.mend for one in found} == {"VisibilityTimeoutSeconds=1800"}


def test_a_drifted_value_is_told_from_one_that_was_never_right() -> None:
    """Where the stack's own parameter is right, deploying it again changes nothing, and the finding says so."""
    [found] = doctor.examine(setting("queues", 0, visibility_timeout_s=300)(sound()))
    assert (
        found.mend
        == "VisibilityTimeoutSeconds=1800, as the stack has it: the resource was changed by hand; set it back"
    )


@pytest.mark.parametrize(
    ("wanted", "allowed", "receives", "share_lost"),
    [(100, 50, 5, "3.1 %"), (100, 50, 100, "under 0.0001 %"), (1000, 100, 5, "59 %"), (1000, 100, 100, "0.0027 %")],
)
def test_the_share_that_throttling_dead_letters(wanted: int, allowed: int, receives: int, share_lost: str) -> None:
    """Of `wanted` invocations `allowed` run; a message that is throttled at every receive is dead-lettered: p^n."""
    changes = [setting("queues", i, max_receives=receives) for i in (0, 1)]
    changes += [setting("mappings", i, maximum_concurrency=wanted // 2) for i in (0, 1)]
    changes += [setting("function", reserved_concurrency=allowed), parameters(MaxAttempts="1")]
    changes += [environment(TASKQ_MAX_ATTEMPTS="1")]
    found = [one for one in doctor.examine(all_of(*changes)(sound())) if one.check == "concurrency_over_reserved"]
    assert f", {share_lost}, of the messages" in found[0].risk


@given(st.floats(0, 1), st.integers(1, 1000))
def test_a_share_is_a_share(p: float, n: int) -> None:
    """It lies within 0 and 1, falls with each further receive, and can be printed."""
    assert 0 <= throttled_share(p, n + 1) <= throttled_share(p, n) <= 1
    assert share(throttled_share(p, n)).endswith(" %")


def test_what_was_not_seen_is_not_judged() -> None:
    """Of a stack of which nothing could be read nothing is said, but that it is not known."""
    empty = Configuration(
        stack_name="s", stack_status="CREATE_COMPLETE", region="r", read_at=sound().read_at,
        parameters=sound().parameters, outputs={},
        unreadable=(Unreadable(resource="Queue", reason="x lacks the permission sqs:GetQueueAttributes."),),
    )  # fmt: skip
    assert [one.check for one in doctor.examine(empty)] == ["unknown"]


def test_a_stack_without_the_parameter_needs_no_alarms() -> None:
    """A stack of an earlier template has no alarms, and that is no finding."""
    plain = sound()
    left = {name: value for name, value in plain.parameters.items() if name != "Alarms"}
    assert doctor.examine(replace(plain, parameters=left, alarms=(), topic=None)) == []


def test_findings_come_worst_first() -> None:
    """The order is critical, warning, info; the threshold keeps what is as bad or worse."""
    spoiled = all_of(*(SEEDED[name][0] for name in ("no key of its own", "logs as text", "a filter on the mapping")))
    found = doctor.examine(spoiled(sound()))
    assert [str(one.severity) for one in found] == ["critical", "warning", "info"]
    assert [len(doctor.at_least(found, one)) for one in Severity] == [1, 2, 3]
    assert list(frame(reversed(found))["severity"]) == ["critical", "warning", "info"]


def test_the_table_of_findings_is_typed() -> None:
    """It has the fields of a finding: severity a category, the rest text; also where there is none."""
    for found in ([], doctor.examine(SEEDED["drift"][0](sound()))):
        table = frame(found)
        assert list(table) == [one.name for one in fields(Finding)]
        assert isinstance(table["severity"].dtype, pd.CategoricalDtype)
        assert {str(dtype) for dtype in table.dtypes[1:]} == {"str"}


def test_what_is_shown_has_no_whole_account_number() -> None:
    """A report shows of each account its last four digits, as of the caller's; ids and other numbers stay whole."""
    uuid = "14e0db71-5d35-4eb5-b481-123456789012"
    spoiled = all_of(
        noting(other_mappings=(replace(OTHER, resource=uuid, source_arn=f"{SQS}:strange"),)),
        setting("role", trust=({"Effect": "Allow", "Principal": {"AWS": "999999999999"}},)),
        setting("function", log_group="/1234567890123"),
        noting(unreadable=(Unreadable(resource="Table", reason=f"{ROLE} lacks https://sqs/123456789012/tasks."),)),
    )
    found = doctor.examine(spoiled(sound()))
    shown = doctor.masked(found)
    text = " ".join(f"{one.measured} {one.risk} {one.mend}" for one in shown)
    assert re.findall(r"(?<![\w-])\d{12}(?![\w-])", text) == []
    for kept in (uuid, "/1234567890123", "...9012:strange", "...9999", "https://sqs/...9012/tasks"):
        assert kept in text
    assert [(one.check, one.severity) for one in shown] == [(one.check, one.severity) for one in found]


def test_the_record_counts_what_it_lists() -> None:
    """The document for a script says how many checks there were and how many findings of each severity."""
    read = all_of(SEEDED["drift"][0], SEEDED["index gone"][0])(sound())
    found = doctor.examine(read)
    document = doctor.record(read, found)
    assert document["counts"] == {"critical": 1, "warning": 1, "info": 0}
    assert [one["check"] for one in document["findings"]] == ["index_missing", "drift"]
    assert doctor.summary(read, found).endswith(f"{document['n_checks']} checks, 1 critical, 1 warning, 0 info")
    assert doctor.summary(sound(), []).endswith("nothing found")


# --- against the template -----------------------------------------------------------------------------------------


def resources() -> dict[str, Any]:
    """Return the resources of the template; short forms as plain values."""
    text = template.TEMPLATE.read_text()
    found: dict[str, Any] = plain.read(text)["Resources"]
    return found


def test_the_role_needs_what_the_template_allows() -> None:
    """The actions that the doctor takes for needed are those of the template's roles, no more and no fewer."""
    for role, needed in (("Role", NEEDED), ("SchedulerRole", NEEDED_TO_SCHEDULE)):
        [policy] = resources()[role]["Properties"]["Policies"]
        found = [one["Action"] for one in policy["PolicyDocument"]["Statement"]]
        assert {name for one in found for name in ([one] if isinstance(one, str) else one)} == set(needed)


def test_the_environment_is_known() -> None:
    """Each variable that the template sets is compared with its parameter or its output."""
    variables = resources()["Function"]["Properties"]["Environment"]["Variables"]
    known = doctor_function.PARAMETERS | doctor_function.PLACES
    assert set(variables) - {"TASKQ_STACK"} <= set(known)
    for name, parameter in doctor_function.PARAMETERS.items():
        assert variables.get(name, parameter) == parameter


def test_every_runtime_of_the_template_has_a_date() -> None:
    """What a deployment may choose can be judged, and what a finding advises can be chosen."""
    allowed = template.parameters()["FunctionRuntime"]["AllowedValues"]
    assert set(allowed) <= set(doctor_function.RUNTIME_ENDS)
    assert doctor_function.NEW_RUNTIME in allowed


def test_what_mends_is_a_parameter() -> None:
    """A `Parameter=value` among the mends is one of the template's."""
    known = set(template.parameters())
    for change, *_ in SEEDED.values():
        [found] = doctor.examine(change(sound()))
        names = [word.partition("=")[0].strip("(") for word in found.mend.split() if "=" in word]
        assert set(names) <= known, found.mend


# --- whatever comes ------------------------------------------------------------------------------------------------

TEXT = st.sampled_from(
    ["", "*", "Enabled", "Disabled", "ACTIVE", "python3.11", f"{SQS}:tasks", "12", "x.fifo"]
) | st.text(max_size=8)
NUMBER = st.integers(0, 10**7)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda one: st.lists(one, max_size=2) | st.dictionaries(TEXT, one, max_size=2),
    max_leaves=4,
)  # fmt: skip
STATEMENT = st.fixed_dictionaries(
    {},
    optional={
        "Sid": TEXT, "Effect": st.sampled_from(["Allow", "Deny"]), "Principal": JSON, "Action": JSON, "Resource": JSON,
        "Condition": JSON, "NotAction": JSON, "NotResource": JSON,
    },
)  # fmt: skip
STATEMENTS = st.lists(STATEMENT, max_size=2).map(tuple)
TEXTS = st.lists(TEXT, max_size=2).map(tuple)
MAYBE = st.none() | NUMBER


def part(kind: Any, **more: Any) -> st.SearchStrategy[Any]:
    """Draw any values for a part's fields, by their types."""
    by_type = {
        "str": TEXT, "int": NUMBER, "bool": st.booleans(), "bool | None": st.none() | st.booleans(),
        "str | None": st.none() | TEXT, "int | None": MAYBE, "tuple[str, ...]": TEXTS,
        "tuple[str, ...] | None": st.none() | TEXTS, "tuple[Statement, ...]": STATEMENTS,
        "Mapping[str, str]": st.dictionaries(st.sampled_from(["TASKQ_MAX_ATTEMPTS", "TASKQ_TTL_DAYS", "by-time"]), TEXT)
    }  # fmt: skip
    return st.builds(kind, **{one.name: by_type[str(one.type)] for one in fields(kind) if one.name not in more}, **more)


def several(kind: Any) -> st.SearchStrategy[Any]:
    """Draw up to two of a part."""
    return st.lists(part(kind), max_size=2).map(tuple)


CONFIGURATIONS = st.builds(
    Configuration,
    stack_name=TEXT,
    stack_status=TEXT | st.sampled_from(["ROLLBACK_COMPLETE", "UPDATE_IN_PROGRESS"]),
    region=TEXT,
    read_at=st.datetimes(timezones=st.just(UTC)),
    parameters=st.dictionaries(st.sampled_from([*template.parameters(), "Alarms", "ReplicaRegion", "FifoQueue"]), TEXT),
    outputs=st.dictionaries(st.sampled_from([*OUTPUTS]), TEXT),
    queues=several(Queue),
    dead_letter_queue=st.none() | part(Queue),
    function=st.none() | part(Function),
    mappings=several(EventSource),
    other_mappings=several(EventSource),
    table=st.none() | part(Table),
    role=st.none() | part(Role),
    scheduler_role=st.none() | part(Role),
    log_group=st.none() | part(LogGroup),
    alarms=st.none() | several(Alarm),
    topic=st.none() | part(Topic),
    account=st.none() | part(Account),
    drifts=several(Drift),
    missing=several(Missing),
    unreadable=several(Unreadable),
)


@given(CONFIGURATIONS)
def test_no_configuration_crashes_it(configuration: Configuration) -> None:
    """Whatever a stack is set to, each check ends, and says what it found in whole words."""
    for one in doctor.examine(configuration):
        assert one.risk
        assert one.mend
    assert doctor.record(configuration, doctor.examine(configuration))["n_checks"] == len(doctor.CHECKS)


@given(st.integers(-4000, 4000))
def test_a_runtime_is_told_in_time(days: int) -> None:
    """Half a year before its end a runtime is a warning, past it critical, and before that nothing."""
    end = doctor_function.RUNTIME_ENDS["python3.14"]
    found = doctor.examine(on(end - timedelta(days=days))(sound()))
    wanted = [C] if days < 0 else [W] if days <= doctor_function.END_IS_NEAR_DAYS else []
    assert [one.severity for one in found] == wanted


@pytest.mark.parametrize(
    ("resource", "found"),
    [
        ("arn:aws:logs:eu-central-1:123456789012:log-group:/task/queue:*", []),
        (TABLE, []),
        ("arn:aws:logs:*:*:log-group:/task/queue:*", ["role_wildcard_resource"]),
        ("arn:aws:logs:eu-central-1:123456789012:log-group:/task/queue*", ["role_wildcard_resource"]),
        ("*", ["role_wildcard_resource"]),
    ],
)
def test_own_resources_are_told_from_wider_ones(resource: str, found: list[str]) -> None:
    """The own table and the streams of the own group are the stack's; a wider name is not."""
    change = allowing(Action="logs:PutLogEvents", Resource=resource)
    assert [one.check for one in doctor.examine(change(sound()))] == found


def test_a_policy_may_be_written_in_other_ways() -> None:
    """What denies everything without TLS does so whoever it names as everybody, and however it spells the action."""
    other = {"Principal": {"AWS": "*"}, "Action": ["SQS:*"], "Condition": {"Bool": {"aws:securetransport": False}}}
    assert doctor.examine(setting("queues", 0, policy=({**TLS_ONLY, **other},))(sound())) == []
    inside = {**OPEN, "Condition": {"StringEquals": {"aws:SourceAccount": "123456789012"}}}
    assert doctor.examine(setting("queues", 0, policy=(TLS_ONLY, inside))(sound())) == []


def test_what_is_denied_without_tls_is_allowed_with_it() -> None:
    """A role may deny what comes without TLS; the function comes with it."""
    plain = {"Bool": {"aws:SecureTransport": "false"}}
    assert doctor.examine(denying(Action="sqs:*", Resource="*", Condition=plain)(sound())) == []
