"""The doctor on a stack that is deployed for real: sound, then spoiled through the services' own APIs, and restored.

What the engine cannot be brought to, and so the unit tests alone hold: a stack or a function that failed, a queue of
the wrong kind (it is fixed), a small quota of the account, bounded writes of a table, a batch over Lambda's limits, a
replica that is gone, code that cannot be loaded. Its drift detection compares queues, function, role, log group and
table, and only some of their properties. It knows no permissions here; moto does (tests/unit/test_doctor_access.py).
"""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskq_lib.analysis import doctor
from taskq_lib.aws import configuration, package
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.commands.main import main

pytestmark = pytest.mark.integration

#: Python 3.14 is supported until 2029: a test of a sound stack must not end before the kit does.
PARAMETERS = {"VisibilityTimeoutSeconds": 1800, "FunctionRuntime": "python3.14", "SecondQueueFor": "priority"}
OPEN = {"Sid": "Everybody", "Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}


class Live:
    """The deployed stack, and a hand for each of its parts that gives back what it took."""

    def __init__(self, stack: Stack) -> None:
        """Find the stack's resources by their logical ids."""
        self.stack = stack
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack.name)
        self.ids = {
            entry["LogicalResourceId"]: entry["PhysicalResourceId"]
            for page in pages
            for entry in page["StackResourceSummaries"]
        }

    def client(self, service: str) -> Any:
        """Return the client of a service."""
        return self.stack.target.client(service)

    def findings(self) -> set[tuple[str, str]]:
        """Return check and resource of each finding."""
        return {(one.check, one.resource) for one in doctor.examine(configuration.read(self.stack))}

    def queue(self, resource: str, **attributes: str) -> Iterator[None]:
        """Set attributes of a queue, then set back what they were."""
        sqs, url = self.client("sqs"), self.ids[resource]
        before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)
        yield
        sqs.set_queue_attributes(QueueUrl=url, Attributes={name: before.get(name, "") for name in attributes})

    def policy(self, resource: str, statement: dict[str, Any] | None) -> Iterator[None]:
        """Add a statement to a queue's policy; None takes the policy away."""
        sqs, url = self.client("sqs"), self.ids[resource]
        found = json.loads(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"])
        found["Statement"] = [*found["Statement"], statement]
        yield from self.queue(resource, Policy=json.dumps(found) if statement else "")

    def function(self, **values: Any) -> Iterator[None]:
        """Change the function's configuration, then change it back."""
        client, name = self.client("lambda"), self.ids["Function"]
        before = client.get_function_configuration(FunctionName=name)
        client.update_function_configuration(FunctionName=name, **values)
        yield
        client.update_function_configuration(FunctionName=name, **{key: before[key] for key in values})

    def environment(self, **values: str) -> Iterator[None]:
        """Change variables of the function's environment."""
        before = self.client("lambda").get_function_configuration(FunctionName=self.ids["Function"])["Environment"]
        yield from self.function(Environment={"Variables": before["Variables"] | values})

    def reserved(self, n: int) -> Iterator[None]:
        """Reserve concurrency for the function."""
        client, name = self.client("lambda"), self.ids["Function"]
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=n)
        yield
        client.delete_function_concurrency(FunctionName=name)

    def code(self) -> Iterator[None]:
        """Deploy the code with one more file."""
        client, name, ours = self.client("lambda"), self.ids["Function"], package.build()
        changed = io.BytesIO(ours)
        with zipfile.ZipFile(changed, "a") as archive:
            archive.writestr("another.py", "")
        client.update_function_code(FunctionName=name, ZipFile=changed.getvalue())
        yield
        client.update_function_code(FunctionName=name, ZipFile=ours)

    def invoked_by(self, principal: str) -> Iterator[None]:
        """Let somebody invoke the function."""
        client, name = self.client("lambda"), self.ids["Function"]
        client.add_permission(
            FunctionName=name, StatementId="open", Action="lambda:InvokeFunction", Principal=principal
        )
        yield
        client.remove_permission(FunctionName=name, StatementId="open")

    def mapping(self, changed: dict[str, Any], back: dict[str, Any]) -> Iterator[None]:
        """Update the mapping, then set it back."""
        client, uuid = self.client("lambda"), self.ids["EventSourceMapping"]
        client.update_event_source_mapping(UUID=uuid, **changed)
        yield
        client.update_event_source_mapping(UUID=uuid, **back)

    def second_consumer(self) -> Iterator[None]:
        """Let another function read the queue as well."""
        client = self.client("lambda")
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("other.py", "def handler(event, context):\n    return None\n")
        client.create_function(
            FunctionName="other", Runtime="python3.14", Role="arn:aws:iam::000000000000:role/other",
            Handler="other.handler", Code={"ZipFile": code.getvalue()},
        )  # fmt: skip
        uuid = client.create_event_source_mapping(
            FunctionName="other", EventSourceArn=self.stack.outputs["QueueArn"], BatchSize=1
        )["UUID"]
        yield
        client.delete_event_source_mapping(UUID=uuid)
        client.delete_function(FunctionName="other")

    def other_source(self) -> Iterator[None]:
        """Feed the function from a queue that is none of the stack's."""
        sqs, client = self.client("sqs"), self.client("lambda")
        url = sqs.create_queue(QueueName="strange", Attributes={"VisibilityTimeout": "1800"})["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        uuid = client.create_event_source_mapping(FunctionName=self.ids["Function"], EventSourceArn=arn)["UUID"]
        yield
        client.delete_event_source_mapping(UUID=uuid)
        sqs.delete_queue(QueueUrl=url)

    def allowing(self, **statement: Any) -> Iterator[None]:
        """Give the role one more inline policy."""
        iam, role = self.client("iam"), self.ids["Role"]
        document = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", **statement}}
        iam.put_role_policy(RoleName=role, PolicyName="by-hand", PolicyDocument=json.dumps(document))
        yield
        iam.delete_role_policy(RoleName=role, PolicyName="by-hand")

    def denying(self, action: str) -> Iterator[None]:
        """Take an action from the role's policy."""
        iam, role, name = self.client("iam"), self.ids["Role"], "task-queue-function"
        before = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        left = [_without(action, one) for one in before["Statement"]]
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(before | {"Statement": left}))
        yield
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(before))

    def attached(self, arn: str) -> Iterator[None]:
        """Attach a managed policy to the role."""
        iam, role = self.client("iam"), self.ids["Role"]
        iam.attach_role_policy(RoleName=role, PolicyArn=arn)
        yield
        iam.detach_role_policy(RoleName=role, PolicyArn=arn)

    def trusting(self, principal: str) -> Iterator[None]:
        """Let an account assume the role."""
        iam, role = self.client("iam"), self.ids["Role"]
        before = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
        more = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}
        changed = before | {"Statement": [*before["Statement"], more]}
        iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(changed))
        yield
        iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(before))

    def log_retention(self) -> Iterator[None]:
        """Keep the logs for ever."""
        logs, name = self.client("logs"), self.ids["LogGroup"]
        logs.delete_retention_policy(logGroupName=name)
        yield
        logs.put_retention_policy(logGroupName=name, retentionInDays=14)

    def no_log_group(self) -> Iterator[None]:
        """Delete the log group."""
        logs, name = self.client("logs"), self.ids["LogGroup"]
        logs.delete_log_group(logGroupName=name)
        yield
        logs.create_log_group(logGroupName=name)
        logs.put_retention_policy(logGroupName=name, retentionInDays=14)

    def no_dead_letter_queue(self) -> Iterator[None]:
        """Delete the dead-letter queue."""
        sqs, url = self.client("sqs"), self.ids["DeadLetterQueue"]
        names = ["MessageRetentionPeriod", "SqsManagedSseEnabled", "Policy"]
        before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        sqs.delete_queue(QueueUrl=url)
        yield
        sqs.create_queue(QueueName=url.rpartition("/")[2], Attributes=before)

    def restorable(self) -> Iterator[None]:
        """Turn point-in-time recovery off."""
        client, name = self.client("dynamodb"), self.stack.table
        for enabled in (False, True):
            client.update_continuous_backups(
                TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": enabled}
            )
            if not enabled:
                yield

    def expiring(self) -> Iterator[None]:
        """Turn time to live off."""
        client, name = self.client("dynamodb"), self.stack.table
        for enabled in (False, True):
            specification = {"Enabled": enabled, "AttributeName": "expiresAt"}
            client.update_time_to_live(TableName=name, TimeToLiveSpecification=specification)
            if not enabled:
                yield

    def no_index(self) -> Iterator[None]:
        """Delete the index by time."""
        client, name = self.client("dynamodb"), self.stack.table
        client.update_table(TableName=name, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "by-time"}}])
        yield
        index = {
            "IndexName": "by-time",
            "KeySchema": [
                {"AttributeName": "shard", "KeyType": "HASH"},
                {"AttributeName": "timestamp", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "ALL"},
        }
        numbers = [{"AttributeName": one, "AttributeType": "N"} for one in ("shard", "timestamp")]
        client.update_table(
            TableName=name,
            AttributeDefinitions=[{"AttributeName": "taskId", "AttributeType": "S"}, *numbers],
            GlobalSecondaryIndexUpdates=[{"Create": index}],
        )

    def billing(self) -> Iterator[None]:
        """Give the table provisioned units."""
        client, name = self.client("dynamodb"), self.stack.table
        units = {"ReadCapacityUnits": 10, "WriteCapacityUnits": 10}
        client.update_table(TableName=name, BillingMode="PROVISIONED", ProvisionedThroughput=units)
        yield
        client.update_table(TableName=name, BillingMode="PAY_PER_REQUEST")

    def alarm(self, **values: Any) -> Iterator[None]:
        """Put the alarm of the dead letters with other values."""
        client, name = self.client("cloudwatch"), self.ids["DeadLetterAlarm"]
        [before] = client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
        known = client.meta.service_model.operation_model("PutMetricAlarm").input_shape.members
        plain = {key: value for key, value in before.items() if key in known}
        if values:
            client.put_metric_alarm(**plain | values)
        else:
            client.delete_alarms(AlarmNames=[name])
        yield
        client.put_metric_alarm(**plain)

    def alarm_actions(self) -> Iterator[None]:
        """Disable the actions of an alarm."""
        client, name = self.client("cloudwatch"), self.ids["AgeAlarm"]
        client.disable_alarm_actions(AlarmNames=[name])
        yield
        client.enable_alarm_actions(AlarmNames=[name])

    def alarm_state(self) -> Iterator[None]:
        """Let an alarm ring."""
        client, name = self.client("cloudwatch"), self.ids["ThrottleAlarm"]
        for state in ("ALARM", "OK"):
            client.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")
            if state == "ALARM":
                yield

    def no_subscription(self) -> Iterator[None]:
        """Take the subscriber from the topic."""
        sns, arn = self.client("sns"), self.ids["AlarmTopic"]
        for one in sns.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]:
            sns.unsubscribe(SubscriptionArn=one["SubscriptionArn"])
        yield
        self.subscribe()

    def subscribe(self) -> None:
        """Subscribe by hand: a subscription of the stack's own could not be given back, its ARN would be another."""
        self.client("sns").subscribe(TopicArn=self.ids["AlarmTopic"], Protocol="email", Endpoint="team@example.com")


def _without(action: str, statement: dict[str, Any]) -> dict[str, Any]:
    """Return a statement without an action of its list."""
    actions = statement["Action"]
    return statement if isinstance(actions, str) else statement | {"Action": [one for one in actions if one != action]}


Spoil = Callable[[Live], Iterator[None]]
DEAD = "DeadLetterQueue"
HANDS_OFF = {"Enabled": True}
#: What is spoiled -> how, and what must be found; drift is found besides where the engine looks for it.
SEEDED: dict[str, tuple[Spoil, str, str]] = {
    "visibility below the timeout": (
        lambda s: s.queue("Queue", VisibilityTimeout="200"), "visibility_below_timeout", "Queue"),
    "visibility equals the timeout": (
        lambda s: s.queue("SecondQueue", VisibilityTimeout="300"), "visibility_below_advised", "SecondQueue"),
    "a longer function": (lambda s: s.function(Timeout=301), "visibility_below_advised", "Queue"),
    "receive limit": (
        lambda s: s.queue("Queue", RedrivePolicy=json.dumps(
            {"deadLetterTargetArn": s.stack.outputs["DeadLetterQueueArn"], "maxReceiveCount": 4})),
        "receive_limit_low", "Queue"),
    "no redrive policy": (lambda s: s.queue("Queue", RedrivePolicy=""), "no_redrive_policy", "Queue"),
    "redrive to another queue": (
        lambda s: s.queue("Queue", RedrivePolicy=json.dumps(
            {"deadLetterTargetArn": s.stack.outputs["SecondQueueArn"], "maxReceiveCount": 100})),
        "redrive_elsewhere", "Queue"),
    "redrive denied": (
        lambda s: s.queue(DEAD, RedriveAllowPolicy=json.dumps({"redrivePermission": "denyAll"})),
        "redrive_refused", DEAD),
    "dead letters kept for four days": (
        lambda s: s.queue(DEAD, MessageRetentionPeriod="345600"), "dead_letter_retention", DEAD),
    "dead-letter queue gone": (Live.no_dead_letter_queue, "resource_missing", DEAD),
    "retention of an hour": (
        lambda s: s.queue("Queue", MessageRetentionPeriod="3600"), "retention_short", "Queue"),
    "a delay": (lambda s: s.queue("Queue", DelaySeconds="60"), "delivery_delay", "Queue"),
    "small messages": (lambda s: s.queue("Queue", MaximumMessageSize="262144"), "message_size", "Queue"),
    "not encrypted": (lambda s: s.queue(DEAD, SqsManagedSseEnabled="false"), "queue_not_encrypted", DEAD),
    "no TLS demanded": (lambda s: s.policy("SecondQueue", None), "tls_not_demanded", "SecondQueue"),
    "open to everybody": (lambda s: s.policy("Queue", OPEN), "queue_open", "Queue"),
    "mapping disabled": (
        lambda s: s.mapping({"Enabled": False}, HANDS_OFF), "mapping_disabled", "EventSourceMapping"),
    "partial batch response off": (
        lambda s: s.mapping({"FunctionResponseTypes": []}, {"FunctionResponseTypes": ["ReportBatchItemFailures"]}),
        "partial_response_off", "EventSourceMapping"),
    "a window": (
        lambda s: s.mapping({"MaximumBatchingWindowInSeconds": 5}, {"MaximumBatchingWindowInSeconds": 0}),
        "visibility_below_advised", "Queue"),
    "a filter": (
        lambda s: s.mapping({"FilterCriteria": {"Filters": [{"Pattern": '{"body": {"type": ["A"]}}'}]}},
                            {"FilterCriteria": {}}),
        "filter_criteria", "EventSourceMapping"),
    "a second consumer": (Live.second_consumer, "second_consumer", "Queue"),
    "another source": (Live.other_source, "other_source", "Function"),
    "reserved below what mappings run": (lambda s: s.reserved(20), "concurrency_over_reserved", "Function"),
    "reserved 0": (lambda s: s.reserved(0), "reserved_zero", "Function"),
    "attempts": (lambda s: s.environment(TASKQ_MAX_ATTEMPTS="4"), "environment_differs", "Function"),
    "another table": (lambda s: s.environment(TASKQ_TABLE="other"), "environment_elsewhere", "Function"),
    "runtime past its end": (lambda s: s.function(Runtime="python3.9"), "runtime_end", "Function"),
    "another role": (
        lambda s: s.function(Role="arn:aws:iam::000000000000:role/other"), "role_replaced", "Function"),
    "text logs": (
        lambda s: s.function(LoggingConfig={"LogFormat": "Text", "LogGroup": s.ids["LogGroup"]}),
        "logs_elsewhere", "Function"),
    "other code": (Live.code, "code_differs", "Function"),
    "invoked by everybody": (lambda s: s.invoked_by("*"), "function_policy_open", "Function"),
    "wildcard action": (
        lambda s: s.allowing(Action="sqs:*", Resource=s.stack.outputs["QueueArn"]), "role_wildcard_action", "Role"),
    "wildcard resource": (
        lambda s: s.allowing(Action="sqs:SendMessage", Resource="*"), "role_wildcard_resource", "Role"),
    "another resource": (
        lambda s: s.allowing(Action="sqs:SendMessage", Resource="arn:aws:sqs:us-east-1:000000000000:other"),
        "role_other_resource", "Role"),
    "an action that is not needed": (
        lambda s: s.allowing(Action="sqs:PurgeQueue", Resource=s.stack.outputs["QueueArn"]),
        "role_unneeded_action", "Role"),
    "an action that is missing": (
        lambda s: s.denying("sqs:ChangeMessageVisibility"), "role_missing_action", "Role"),
    "administrator": (
        lambda s: s.attached("arn:aws:iam::aws:policy/AdministratorAccess"), "role_attached_policy", "Role"),
    "trust": (lambda s: s.trusting("arn:aws:iam::999999999999:root"), "role_trust", "Role"),
    "logs for ever": (Live.log_retention, "log_retention_never", "LogGroup"),
    "log group gone": (Live.no_log_group, "resource_missing", "LogGroup"),
    "no point-in-time recovery": (Live.restorable, "point_in_time_recovery", "Table"),
    "nothing expires": (Live.expiring, "time_to_live", "Table"),
    "index gone": (Live.no_index, "index_missing", "Table"),
    "provisioned billing": (Live.billing, "billing_provisioned", "Table"),
    "alarm without action": (lambda s: s.alarm(AlarmActions=[]), "alarm_without_action", "DeadLetterAlarm"),
    "alarm that tells a topic that is gone": (
        lambda s: s.alarm(AlarmActions=[f"{s.stack.outputs['TopicArn']}-gone"]),
        "alarm_without_action", "DeadLetterAlarm"),
    "an action that is denied": (
        lambda s: s.allowing(Effect="Deny", Action="sqs:SendMessage", Resource="*"), "role_missing_action", "Role"),
    "alarm gone": (Live.alarm, "resource_missing", "DeadLetterAlarm"),
    "alarm actions disabled": (Live.alarm_actions, "alarm_actions_disabled", "AgeAlarm"),
    "alarm that rings": (Live.alarm_state, "alarm_rings", "ThrottleAlarm"),
    "topic without subscription": (Live.no_subscription, "topic_without_subscription", "AlarmTopic"),
}  # fmt: skip
#: What follows from the cause by necessity, beside drift.
BESIDES = {"a longer function": {("visibility_below_advised", "SecondQueue")}}


@pytest.fixture(scope="module")
def live(target: Target) -> Live:
    """A stack that is sound as it is deployed, once somebody listens to its alarms."""
    stack = stacks.deploy(target, "doctor", PARAMETERS)
    live = Live(stack)
    live.subscribe()
    return live


@pytest.mark.parametrize("name", SEEDED)
def test_each_seeded_misconfiguration_is_found(live: Live, name: str) -> None:
    """What is changed by hand is found, beside its drift nothing else is, and restored the stack is sound again."""
    spoil, check, resource = SEEDED[name]
    change = spoil(live)
    next(change)
    try:
        found = live.findings()
    finally:
        assert next(change, None) is None
    assert (check, resource) in found
    rest = found - {(check, resource)} - BESIDES.get(name, set())
    assert {one for one, _resource in rest} <= {"drift"}


@pytest.fixture
def doctor_of(live: Live, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command, led to the tests' own engine as to any endpoint."""
    target = live.stack.target
    monkeypatch.setenv("AWS_ENDPOINT_URL", target.endpoint_url or "")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    return ["doctor", "--target", "aws", "--region", target.region, "--stack-name", live.stack.name]


def test_a_sound_stack_is_found_sound(live: Live, doctor_of: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """After all that nothing is left: the command finds nothing, says how many checks it made, and exits with 0."""
    assert live.findings() == set()
    assert main(doctor_of) == 0
    assert capsys.readouterr().out == f"stack doctor, CREATE_COMPLETE: {len(doctor.CHECKS)} checks, nothing found\n"


def test_a_table_that_another_stack_made_is_checked(live: Live) -> None:
    """A stack on the table of another finds what is wrong with it, and nothing before and after."""
    second = Live(stacks.deploy(live.stack.target, "second", PARAMETERS | {"ExistingTableName": live.stack.table}))
    second.subscribe()
    change = live.expiring()
    try:
        assert second.findings() == set()
        next(change)
        assert second.findings() == {("time_to_live", "Table")}
    finally:
        next(change, None)
        stacks.delete(second.stack, progress=lambda _status: None)


def test_drift_is_found_with_its_values(live: Live, doctor_of: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A value that breaks no rule is found as drift, with what it is and was; the command's exit code says so."""
    change = live.function(MemorySize=256)
    next(change)
    codes = [main([*doctor_of, "--json", "--fail-on", one]) for one in ("warning", "critical")]
    next(change, None)
    document, _end = json.JSONDecoder().raw_decode(capsys.readouterr().out)
    assert codes == [1, 0]
    assert [(one["check"], one["resource"]) for one in document["findings"]] == [("drift", "Function")]
    assert document["findings"][0]["measured"] == "/MemorySize is 256, not 128"
