"""The stack from deploy to teardown: previewed, repeatable, repaired after a failure, and gone when it says so."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from taskq_lib.aws import control, package, queues, replacement, stack, submit, template
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput, NotDone, StackFailed, StackNotFound
from tests.unit.events import task

pytestmark = pytest.mark.integration

TYPES = [
    *["AWS::CloudWatch::Alarm"] * 10, "AWS::CloudWatch::Dashboard", "AWS::DynamoDB::GlobalTable", "AWS::IAM::Role",
    "AWS::IAM::Role", "AWS::Lambda::EventSourceMapping", "AWS::Lambda::Function", "AWS::Logs::LogGroup",
    "AWS::Logs::MetricFilter", "AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "AWS::SQS::Queue", "AWS::SQS::Queue",
    "AWS::SQS::QueuePolicy", "AWS::SQS::QueuePolicy", "AWS::Scheduler::ScheduleGroup",
]  # fmt: skip
#: A resource that the engine accepts in a template and refuses to make.
BROKEN = """
  BrokenAlarm:
    Type: AWS::CloudWatch::Alarm
    Properties:
      ComparisonOperator: GreaterThanThreshold
      EvaluationPeriods: 1
      Threshold: 1
      Metrics:
        - {Id: twice, Expression: "once * 2"}
        - {Id: once, ReturnData: false, MetricStat: {Period: 60, Stat: Sum, Metric: {Namespace: N, MetricName: M}}}
"""


@pytest.fixture
def name(target: Target) -> Iterator[str]:
    """A name for a stack of the test's own; what is left of the stack goes with the test."""
    chosen = f"s{uuid.uuid4().hex[:8]}"
    yield chosen
    if chosen in stacks_of(target):
        target.client("cloudformation").delete_stack(StackName=chosen)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a test put resources into the template, such as `BROKEN`; the empty text mends it."""
    intact = template.with_code

    def put(resources: str) -> None:
        marked = f"{resources}\nOutputs:"
        monkeypatch.setattr(template, "with_code", lambda *place: intact(*place).replace("\nOutputs:", marked))

    return put


def stacks_of(target: Target) -> dict[str, str]:
    """Return every stack that there is with its status."""
    pages = target.client("cloudformation").get_paginator("describe_stacks").paginate()
    return {found["StackName"]: found["StackStatus"] for page in pages for found in page["Stacks"]}


def deploy(target: Target, name: str, **parameters: Any) -> Stack:
    """Deploy silently."""
    return stack.deploy(target, name, parameters, progress=lambda _status: None)


def properties(deployed: Stack) -> dict[str, str]:
    """Return the attributes of the stack's queue as SQS says them."""
    answer = deployed.target.client("sqs").get_queue_attributes(QueueUrl=deployed.queue_url, AttributeNames=["All"])
    found: dict[str, str] = answer["Attributes"]
    return found


def test_a_deployed_stack_is_as_its_parameters_say(target: Target, name: str) -> None:
    """Queues, table, function and mapping exist with the values that were given, and the outputs name them."""
    told: list[str] = []
    deployed = stack.deploy(
        target, name, {"BatchSize": 7, "MaxReceiveCount": 9, "FunctionMemoryMb": 256, "TimeIndex": True}, told.append
    )
    assert deployed.status == "CREATE_COMPLETE"
    assert told[-1] == f"{name}: CREATE_COMPLETE"
    assert deployed.parameters == template.effective(
        {"BatchSize": "7", "MaxReceiveCount": "9", "FunctionMemoryMb": "256"}
    )
    assert properties(deployed)["VisibilityTimeout"] == "300"
    assert int(json.loads(properties(deployed)["RedrivePolicy"])["maxReceiveCount"]) == 9
    function = target.client("lambda").get_function_configuration(FunctionName=deployed.outputs["FunctionName"])
    assert (function["MemorySize"], function["Timeout"], function["Runtime"]) == (256, 300, "python3.11")
    mapping = target.client("lambda").get_event_source_mapping(UUID=deployed.outputs["EventSourceMappingId"])
    assert (mapping["BatchSize"], mapping["FunctionResponseTypes"]) == (7, ["ReportBatchItemFailures"])
    table = target.client("dynamodb").describe_table(TableName=deployed.table)["Table"]
    assert table["KeySchema"] == [{"AttributeName": "taskId", "KeyType": "HASH"}]
    assert [index["IndexName"] for index in table["GlobalSecondaryIndexes"]] == [deployed.time_index] == ["by-time"]
    found = stack.resources(deployed)
    assert sorted(found["type"]) == TYPES
    assert found.loc[found["kept"] == "yes", "resource"].tolist() == ["Table"]
    named = found.set_index("resource")["name"]
    assert (named["Table"], named["Queue"]) == (deployed.table, deployed.queue_url.rpartition("/")[2])
    assert not found["name"].str.contains("000000000000").any()
    assert deployed == stack.describe(target, name)


def test_a_second_deploy_changes_nothing(target: Target, name: str) -> None:
    """With the same sources and values there is no change: a success, at once, without a change set left behind."""
    first = deploy(target, name)
    planned = stack.preview(target, name)
    assert (planned.kind, planned.change_set, len(planned.changes)) == ("none", None, 0)
    assert stack.execute(planned) == first
    assert deploy(target, name, MaxAttempts=3) == first
    change_sets = target.client("cloudformation").list_change_sets(StackName=name)["Summaries"]
    assert [one for one in change_sets if one["ExecutionStatus"] != "EXECUTE_COMPLETE"] == []


def test_a_preview_shows_and_does_nothing(target: Target, name: str) -> None:
    """A previewed create lists every resource and makes none; discarded, it leaves nothing at all."""
    planned = stack.preview(target, name, {"MaxAttempts": 5})
    assert planned.kind == "create"
    assert planned.parameters["MaxAttempts"] == "5"
    assert sorted(planned.changes["type"]) == TYPES
    assert set(planned.changes["action"]) == {"Add"}
    assert {str(dtype) for dtype in planned.changes.dtypes} == {"str"}
    with pytest.raises(StackNotFound):
        stack.describe(target, name)
    stack.discard(planned)
    assert name not in stacks_of(target)


def test_a_stack_that_was_only_previewed_can_be_deployed(target: Target, name: str) -> None:
    """A preview that nobody discarded does not stand in the way of a deployment."""
    stack.preview(target, name)
    assert stack.preview(target, name).kind == "create"
    assert deploy(target, name).status == "CREATE_COMPLETE"


def test_a_plan_that_is_carried_out_again_is_found_done(target: Target, name: str) -> None:
    """A cell that deploys can be run again: what its plan asks for is there; a plan that was overtaken is refused."""
    deploy(target, name)
    plan = stack.preview(target, name, {"BatchSize": 5})
    first = stack.execute(plan, progress=lambda _status: None)
    assert stack.execute(plan, progress=lambda _status: None) == first
    assert first.parameters["BatchSize"] == "5"
    deploy(target, name, BatchSize=6)
    with pytest.raises(BadInput, match=f"Stack {name!r} was changed since this was planned"):
        stack.execute(plan, progress=lambda _status: None)
    assert stack.describe(target, name).parameters["BatchSize"] == "6"


def test_a_plan_that_is_discarded_again_is_gone(target: Target, name: str) -> None:
    """A cell that only previews can be run again: neither the change set nor an empty stack is left."""
    plan = stack.preview(target, name)
    for _ in range(2):
        stack.discard(plan)
    assert name not in stacks_of(target)


def test_an_update_keeps_what_it_is_not_told(target: Target, name: str) -> None:
    """An update changes the value that is given and keeps those of earlier ones; its preview says what changes."""
    deploy(target, name, MaxAttempts=5, RetryBaseSeconds=7)
    planned = stack.preview(target, name, {"VisibilityTimeoutSeconds": 1800})
    assert planned.kind == "update"
    assert planned.changes.loc[planned.changes["resource"] == "Queue", "action"].tolist() == ["Modify"]
    stack.discard(planned)
    assert stack.describe(target, name).parameters["VisibilityTimeoutSeconds"] == "300"
    updated = deploy(target, name, VisibilityTimeoutSeconds=1800)
    assert updated.status == "UPDATE_COMPLETE"
    given = {"MaxAttempts": "5", "RetryBaseSeconds": "7", "VisibilityTimeoutSeconds": "1800"}
    assert updated.parameters == template.effective(given)
    assert properties(updated)["VisibilityTimeout"] == "1800"


def test_new_code_is_a_change(target: Target, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the function's code has changed, the function and nothing that holds tasks is changed."""
    before = deploy(target, name)
    code = package.build()
    monkeypatch.setattr(package, "build", lambda: code + b"\0")
    planned = stack.preview(target, name)
    assert planned.kind == "update"
    assert "Function" in planned.changes["resource"].tolist()
    replacement.refuse(planned, allowed=False)
    after = stack.execute(planned, lambda _status: None)
    assert (after.queue_url, after.table) == (before.queue_url, before.table)


@pytest.mark.parametrize(
    "parameters",
    [
        {"FunctionTimeoutSeconds": 301},
        {"BatchSize": 11},
        {"MaximumConcurrency": 1},
        {"MaxReceiveCount": 5, "MaxAttempts": 5},
        {"Speed": 1},
        {"BatchSize": 0},
    ],
    ids=str,
)
def test_parameters_that_cannot_work_are_refused_first(target: Target, name: str, parameters: dict[str, int]) -> None:
    """Contradictory, unknown or impossible values are refused before a stack or a bucket is touched."""
    n_buckets = len(target.client("s3").list_buckets()["Buckets"])
    with pytest.raises(BadInput):
        deploy(target, name, **parameters)
    assert name not in stacks_of(target)
    assert len(target.client("s3").list_buckets()["Buckets"]) == n_buckets


def test_a_contradiction_with_what_is_deployed_is_refused(target: Target, name: str) -> None:
    """A value that contradicts one of an earlier deployment is refused, and the stack stays as it is."""
    before = deploy(target, name, VisibilityTimeoutSeconds=60, FunctionTimeoutSeconds=60)
    with pytest.raises(BadInput, match=r"FunctionTimeoutSeconds \(90\) exceeds VisibilityTimeoutSeconds \(60\)"):
        deploy(target, name, FunctionTimeoutSeconds=90)
    assert stack.describe(target, name) == before


def test_the_template_refuses_by_itself(target: Target, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The template's own rules refuse a large batch without a window, whatever tool deploys it."""
    monkeypatch.setattr(template, "contradictions", lambda _values: [])
    with pytest.raises((ClientError, StackFailed), match="A BatchSize over 10 needs BatchWindowSeconds"):
        deploy(target, name, BatchSize=11)
    with pytest.raises((ClientError, StackFailed), match="MaximumConcurrency is 0"):
        deploy(target, name, MaximumConcurrency=1)
    with pytest.raises((ClientError, StackFailed), match="AlarmEmail needs Alarms=true"):
        deploy(target, name, AlarmEmail="a@example.com", Alarms=False)


@pytest.mark.usefixtures("stack")
def test_an_unknown_stack_names_those_there_are(target: Target) -> None:
    """Asking for a stack that does not exist says which ones do, and how to deploy one."""
    with pytest.raises(
        StackNotFound, match=r"^No stack 'nowhere' in us-east-1 \(local\); there are .*session.*\n.*eploy"
    ):
        stack.describe(target, "nowhere")


def test_a_stack_of_another_kind_is_refused(target: Target, name: str) -> None:
    """A stack that is not one of this kit's is refused by name."""
    body = "Resources: {Topic: {Type: 'AWS::SNS::Topic'}}"
    target.client("cloudformation").create_stack(StackName=name, TemplateBody=body)
    with pytest.raises(StackNotFound, match=rf"Stack '{name}' in us-east-1 has no queue among its outputs"):
        stack.describe(target, name)


def test_a_failed_create_says_why_and_can_be_repeated(target: Target, name: str, broken: Callable[[str], None]) -> None:
    """A create that is rolled back raises with resource and reason and leaves nothing; the next one succeeds."""
    broken(BROKEN)
    with pytest.raises(StackFailed, match=rf"Stack '{name}' ended as ROLLBACK_COMPLETE\. BrokenAlarm: .*metric math"):
        deploy(target, name)
    with pytest.raises(StackNotFound):
        stack.describe(target, name)
    broken("")
    assert deploy(target, name).status == "CREATE_COMPLETE"


def test_a_failed_update_says_why_and_changes_nothing(target: Target, name: str, broken: Callable[[str], None]) -> None:
    """An update that is rolled back raises with its reason; the stack works on, and a later update succeeds."""
    before = deploy(target, name)
    broken(BROKEN)
    with pytest.raises(StackFailed, match=r"ended as UPDATE_ROLLBACK_COMPLETE\. BrokenAlarm: "):
        deploy(target, name, MaxAttempts=4)
    after = stack.describe(target, name)
    assert (after.outputs, after.parameters["MaxAttempts"]) == (before.outputs, "3")
    broken("")
    assert deploy(target, name, MaxAttempts=4).status == "UPDATE_COMPLETE"


def test_a_stack_whose_table_is_of_the_earlier_type_is_refused_with_the_way_out(target: Target, name: str) -> None:
    """CloudFormation changes no resource's type: an update of such a stack names the teardown that keeps it."""
    body = """
      Resources:
        Table:
          Type: AWS::DynamoDB::Table
          DeletionPolicy: RetainExceptOnCreate
          Properties:
            BillingMode: PAY_PER_REQUEST
            AttributeDefinitions: [{AttributeName: taskId, AttributeType: S}]
            KeySchema: [{AttributeName: taskId, KeyType: HASH}]
      """
    cloudformation = target.client("cloudformation")
    cloudformation.create_stack(StackName=name, TemplateBody=body)
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    [entry] = cloudformation.list_stack_resources(StackName=name)["StackResourceSummaries"]
    with pytest.raises(BadInput, match=r"made its status table as AWS::DynamoDB::Table") as refused:
        stack.preview(target, name)
    assert f"ExistingTableName {entry['PhysicalResourceId']}`" in refused.value.hint
    assert not cloudformation.list_change_sets(StackName=name)["Summaries"]


def test_a_deleted_stack_is_gone_and_its_record_is_kept(target: Target, name: str) -> None:
    """A teardown removes queues, function and code and verifies it; the status table stays, with its items."""
    deployed = deploy(target, name)
    target.client("dynamodb").put_item(TableName=deployed.table, Item={"taskId": {"S": "a"}})
    with pytest.raises(NotDone, match="still there"):
        stack.verify_gone(deployed)
    stack.delete(deployed, progress=lambda _status: None)
    stack.verify_gone(deployed)
    assert name not in stacks_of(target)
    with pytest.raises(target.client("sqs").exceptions.QueueDoesNotExist):
        properties(deployed)
    assert package.remove(target, name) == 0
    assert target.client("dynamodb").scan(TableName=deployed.table)["Count"] == 1
    target.client("dynamodb").delete_table(TableName=deployed.table)


def test_the_record_goes_too_where_it_is_asked_for(target: Target, name: str) -> None:
    """A teardown that is told to deletes the status table as well."""
    deployed = deploy(target, name)
    stack.delete(deployed, delete_table=True, progress=lambda _status: None)
    dynamodb = target.client("dynamodb")
    with pytest.raises(dynamodb.exceptions.ResourceNotFoundException):
        dynamodb.describe_table(TableName=deployed.table)


def test_a_stack_without_the_index(target: Target, name: str) -> None:
    """With TimeIndex=false the table has no index, and the stack says so."""
    deployed = deploy(target, name, TimeIndex=False)
    assert deployed.time_index is None
    table = target.client("dynamodb").describe_table(TableName=deployed.table)["Table"]
    assert not table.get("GlobalSecondaryIndexes")


def test_messages_are_counted_before_they_are_destroyed(target: Target, name: str) -> None:
    """A paused stack keeps its tasks; a teardown that would destroy them is refused unless that is allowed."""
    deployed = deploy(target, name)
    assert control.wait_enabled(deployed) == "Enabled"
    target.client("lambda").update_event_source_mapping(UUID=deployed.outputs["EventSourceMappingId"], Enabled=False)
    with pytest.raises(NotDone, match=r"is Disabled: tasks wait in the queue\.\n.*--enabled"):
        control.wait_enabled(deployed)
    queues.refuse_messages(queues.counts(deployed), allowed=False)
    for i in range(3):
        submit.send_one(deployed, task(f"{name}-{i}"))
    target.client("sqs").send_message(QueueUrl=deployed.dead_letter_queue_url, MessageBody="{")
    counts = queues.counts(deployed)
    assert (counts.n_visible, counts.n_in_flight, counts.n_delayed, counts.n_dead) == (3, 0, 0, 1)
    assert counts.facts() == {"visible": 3, "in flight": 0, "delayed": 0, "dead letters": 1}
    with pytest.raises(BadInput, match="The queue holds 3 messages and the dead-letter queue 1"):
        queues.refuse_messages(counts, allowed=False)
    queues.refuse_messages(counts, allowed=True)
