"""Whoever runs the doctor may not see everything: what is denied, gone or refused is said, and the rest is checked."""

import io
import json
import urllib.request
from collections.abc import Iterator
from http.client import IncompleteRead

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count

from taskq_lib.analysis import doctor
from taskq_lib.aws import configuration, described
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.target import Target
from taskq_lib.configuration import Configuration, Drift

REGION = "eu-central-1"
READER = "arn:aws:iam::123456789012:user/reader"
#: The user's key; moto, as AWS, gives a user two at most.
READER_KEY: dict[str, str] = {}
#: Moto makes no alarms, and refuses mappings; these resources are enough to be denied.
TEMPLATE = """
Resources:
  Queue: {Type: AWS::SQS::Queue}
  DeadLetterQueue: {Type: AWS::SQS::Queue}
  LogGroup: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: /task/queue, RetentionInDays: 14}}
  AlarmTopic: {Type: AWS::SNS::Topic}
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: sts:AssumeRole}]
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: taskId, AttributeType: S}]
      KeySchema: [{AttributeName: taskId, KeyType: HASH}]
Outputs:
  QueueUrl: {Value: !Ref Queue}
  LogGroupName: {Value: !Ref LogGroup}
"""
#: What the reader is denied -> the resource that is not checked then.
DENIED = {
    "sqs:GetQueueAttributes": "Queue",
    "dynamodb:DescribeTable": "Table",
    "dynamodb:DescribeContinuousBackups": "Table",
    "dynamodb:DescribeTimeToLive": "Table",
    "iam:GetRole": "Role",
    "iam:ListAttachedRolePolicies": "Role",
    "logs:DescribeLogGroups": "LogGroup",
    "sns:GetTopicAttributes": "AlarmTopic",
}
#: Moto answers none of these as AWS does: it knows no drift and no account, and lets nobody list mappings.
NOT_ASKED = ("cloudformation:DetectStackDrift", "lambda:GetAccountSettings", "lambda:ListEventSourceMappings")


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """A fake account with a small stack, and a user who may do all but what a test denies; the last test spoils it."""
    with mock_aws():
        session = boto3.Session(region_name=REGION)
        session.client("cloudformation").create_stack(StackName="small", TemplateBody=TEMPLATE)
        iam = session.client("iam")
        iam.create_user(UserName="reader")
        READER_KEY.update(iam.create_access_key(UserName="reader")["AccessKey"])
        yield Target(name="aws", session=session, region=REGION)


def read_without(target: Target, *actions: str, name: str = "small") -> Configuration:
    """Read the stack as a user who is denied `actions`; of drift and the account moto knows nothing."""
    iam, denied = target.client("iam"), [*actions, "cloudformation:DetectStackDrift"]
    statements = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": denied, "Resource": "*"},
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_user_policy(UserName="reader", PolicyName="reading", PolicyDocument=document)
    key_id, secret = READER_KEY["AccessKeyId"], READER_KEY["SecretAccessKey"]
    session = boto3.Session(region_name=REGION, aws_access_key_id=key_id, aws_secret_access_key=secret)
    reader = Target(name="aws", session=session, region=REGION)
    enforced = set_initial_no_auth_action_count(0)
    found: Configuration = enforced(lambda: configuration.read(stacks.describe(reader, name)))()
    return found


def refused(found: Configuration) -> list[str]:
    """Return what is said of reads that were refused, but for what moto never answers."""
    return [one.reason for one in found.unreadable if not any(name in one.reason for name in NOT_ASKED)]


@pytest.mark.parametrize("action", DENIED)
def test_a_missing_permission_is_named_and_the_rest_goes_on(target: Target, action: str) -> None:
    """One sentence names who lacks which permission, and everything else is read and checked."""
    found = read_without(target, action)
    assert set(refused(found)) == {f"{READER} lacks the permission {action}."}
    assert DENIED[action] in {one.resource for one in found.unreadable}
    unknown = [one for one in doctor.examine(found) if one.check == "unknown"]
    assert len(unknown) == len(found.unreadable)
    assert f"{READER} lacks the permission {action}." in {one.measured for one in unknown}
    read = [bool(found.queues), found.table is not None, found.role is not None, found.log_group is not None]
    assert sum(read) >= 3


def test_what_was_denied_is_not_judged(target: Target) -> None:
    """A table whose backups may not be read is not called one without backups."""
    found = read_without(target, "dynamodb:DescribeContinuousBackups", "dynamodb:DescribeTimeToLive")
    assert found.table is not None
    assert (found.table.is_restorable, found.table.is_ttl_known) == (None, False)
    checks = {one.check for one in doctor.examine(found)}
    assert not checks & {"point_in_time_recovery", "time_to_live"}


def test_what_is_allowed_is_read(target: Target) -> None:
    """Without any further denial each part of the stack is there as it was made, and only drift is unknown."""
    found = read_without(target)
    assert refused(found) == []
    assert [(one.resource, one.retention_s, one.redrive_to) for one in found.queues] == [("Queue", 345_600, None)]
    assert found.table is not None
    assert (found.table.billing, found.table.is_restorable) == ("PAY_PER_REQUEST", False)
    assert found.log_group is not None
    assert found.log_group.retention_days == 14
    assert found.topic is not None
    assert found.topic.n_confirmed == 0


def test_a_table_that_another_stack_made_is_checked_as_well(target: Target) -> None:
    """A stack on a table that it did not make names it by its output, and that table is read."""
    cloudformation = target.client("cloudformation")
    made = cloudformation.describe_stack_resource(StackName="small", LogicalResourceId="Table")
    name = made["StackResourceDetail"]["PhysicalResourceId"]
    body = "Resources: {Queue: {Type: AWS::SQS::Queue}}\nOutputs: {QueueUrl: {Value: !Ref Queue}, TableName: {Value: "
    cloudformation.create_stack(StackName="second", TemplateBody=f"{body}{name}}}}}")
    found = read_without(target, name="second")
    assert found.table is not None
    assert (found.table.name, found.table.is_restorable, found.table.ttl_attribute) == (name, False, None)
    assert ("point_in_time_recovery", "Table") in {(one.check, one.resource) for one in doctor.examine(found)}


def test_an_alarm_of_a_topic_that_is_gone_says_so(target: Target) -> None:
    """Of the topics that alarms tell, those that are not there are found; one that is there is not."""
    there = target.client("sns").create_topic(Name="there")["TopicArn"]
    gone = f"{there}-gone"
    other = "arn:aws:automate:eu-central-1:ec2:stop"
    assert configuration._gone(target, {there, gone, other}) == {gone}


def test_what_is_gone_is_missing(target: Target) -> None:
    """A resource that was deleted by hand is listed, once, with its type."""
    stack = stacks.describe(target, "small")
    target.client("sqs").delete_queue(QueueUrl=stack.queue_url)
    target.client("logs").delete_log_group(logGroupName="/task/queue")
    found = read_without(target)
    assert {(one.resource, one.kind) for one in found.missing} == {
        ("Queue", "AWS::SQS::Queue"),
        ("LogGroup", "AWS::Logs::LogGroup"),
    }


@pytest.mark.parametrize(
    "document", [{"Effect": "Allow"}, [{"Effect": "Allow"}], '{"Statement": {"Effect": "Allow"}}', "", None, {}]
)
def test_a_policy_comes_in_several_forms(document: object) -> None:
    """Text or parsed, one statement or a list of them, or none at all."""
    policy = {"Statement": document} if document and not isinstance(document, str) else document
    wanted = ({"Effect": "Allow"},) if document else ()
    assert described.statements(policy) == wanted


def test_code_that_cannot_be_loaded_is_not_called_changed() -> None:
    """Where the deployed zip is another one and cannot be had, nobody says which of its files differ."""
    assert described._changed_files("other", "") is None
    assert described._changed_files("other", "file:///etc/passwd") is None
    assert described._changed_files("other", "http://127.0.0.1:1/code.zip") is None


def test_code_that_comes_in_part_is_not_called_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that ends before the zip does, ends the check no more than one that never began."""
    answer = io.BytesIO()
    monkeypatch.setattr(answer, "read", lambda: (_ for _ in ()).throw(IncompleteRead(b"PK")), raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_args, **_options: answer)
    assert described._changed_files("other", "https://example.com/code.zip") is None


def drifted(*differences: tuple[str, str]) -> Drift | None:
    """Return what is made of a row of CloudFormation with differences of expected and actual value."""
    rows = [{"PropertyPath": "/A", "ExpectedValue": was, "ActualValue": now} for was, now in differences]
    return described.as_drift({"LogicalResourceId": "Queue", "PropertyDifferences": rows})


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("100", "100.0"),
        ('"100"', "100"),
        ("true", '"true"'),
        ('{"a": 1, "b": ["2"]}', '{"b":[2],"a":"1"}'),
        ('{"policy": "{\\"x\\": true}"}', '{"policy": {"x": "true"}}'),
    ],
)
def test_a_value_that_is_only_written_otherwise_is_no_drift(was: str, now: str) -> None:
    """Numbers and booleans as texts, and JSON with other spaces or another order of its keys, are the same."""
    assert drifted((was, now)) is None
    assert drifted((was, now), ("1", "2")) == Drift(resource="Queue", differences=("/A is 2, not 1",))


@pytest.mark.parametrize(("was", "now"), [("100", "1000"), ("a", "A"), ("true", "1"), ("[1, 2]", "[2, 1]"), ("", "0")])
def test_another_value_is_drift(was: str, now: str) -> None:
    """Another number, another text and another order of a list are drift."""
    assert drifted((was, now)) is not None


def test_a_resource_that_drifted_without_a_word_has_drifted() -> None:
    """Where CloudFormation names no property, its word that the resource was modified counts."""
    assert drifted() == Drift(resource="Queue", differences=())


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_values_can_be_compared(was: str, now: str) -> None:
    """Whatever the two values are, they are compared; a value is no drift from itself."""
    assert drifted((was, was)) is None
    found = drifted((was, now))
    assert found is None or len(found.differences) == 1
