"""Each alarm on the engine: from OK to ALARM and back by metrics as CloudWatch would record them, and who is told.

The engine publishes no metrics of SQS and Lambda and makes none of log lines, so they are put by hand. It judges all
values of a window together, whatever their dimensions, and knows no M of N: what these tests hold is metric, statistic,
threshold, window and actions. tests/unit/test_template_alarms.py holds the dimensions.
"""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from taskq_lib.aws import alarms
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target

pytestmark = pytest.mark.integration

#: Alarm -> values within one window with which it must be silent, and such that must raise it.
RECORDED: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "BacklogAlarm": ([5_000, 999, 7_000], [5_000, 1_000, 7_000]),  # it was shorter for once
    "SecondBacklogAlarm": ([5_000, 999, 7_000], [5_000, 1_000, 7_000]),
    "TaskFailureAlarm": ([0] * 19 + [1], [0] * 9 + [1]),  # 1 of 20, 1 of 10
    "AttemptFailureAlarm": ([0] * 9 + [1], [0] * 3 + [1]),  # 1 of 10, 1 of 4
    "StoreAlarm": ([0, 0], [0, 1]),
    "TimeoutAlarm": ([20, 79.9], [20, 80]),
    "BreakerAlarm": ([0, 0], [0, 1]),  # of two types one
    "DeadLetterAlarm": ([0, 0], [1, 0]),
    "AgeAlarm": ([10, 899], [10, 900]),
    "SecondAgeAlarm": ([10, 899], [10, 900]),
    "ErrorAlarm": ([0, 0], [1, 0]),
    "ThrottleAlarm": ([0, 0], [0, 1]),
}
#: A value is put at the far end of the alarm's window, and so leaves it this long after (s).
VALID_S = 1.5
DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def watched(target: Target) -> Iterator[Stack]:
    """A stack with all alarms there are."""
    deployed = deploy(target, SecondQueueFor="priority")
    yield deployed
    stacks.delete(deployed, delete_table=True, progress=lambda _status: None)


@pytest.fixture
def inbox(watched: Stack) -> Iterator[str]:
    """The URL of a queue that is subscribed to the stack's topic."""
    sqs, sns = (watched.target.client(service) for service in ("sqs", "sns"))
    url: str = sqs.create_queue(QueueName=f"inbox-{uuid.uuid4().hex[:8]}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = watched.outputs["TopicArn"]
    subscribed = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, ReturnSubscriptionArn=True)
    yield url
    sns.unsubscribe(SubscriptionArn=subscribed["SubscriptionArn"])
    sqs.delete_queue(QueueUrl=url)


def deploy(target: Target, name: str | None = None, **parameters: Any) -> Stack:
    """Deploy silently."""
    name = name or f"a{uuid.uuid4().hex[:8]}"
    return stacks.deploy(target, name, parameters, progress=lambda _status: None)


def alarm(stack: Stack, name: str) -> dict[str, Any]:
    """Return an alarm of the stack, by its name in the template, as CloudWatch describes it now."""
    cloudformation, cloudwatch = (stack.target.client(service) for service in ("cloudformation", "cloudwatch"))
    resource = cloudformation.describe_stack_resource(StackName=stack.name, LogicalResourceId=name)
    own = resource["StackResourceDetail"]["PhysicalResourceId"]
    [found] = cloudwatch.describe_alarms(AlarmNames=[own])["MetricAlarms"]
    described: dict[str, Any] = found
    return described


def drive(stack: Stack, name: str, values: Sequence[float], state: str) -> None:
    """Record `values` of the alarm's own metric and dimensions, again and again, until the alarm is in `state`.

    An earlier value still counts until it has left the window.
    """
    end = time.monotonic() + DEADLINE_S
    while (found := alarm(stack, name))["StateValue"] != state:
        assert time.monotonic() < end, f"{name} is still {found['StateValue']}: {found['StateReason']}"
        window_s = found["Period"] * found["EvaluationPeriods"]
        datum = {
            "MetricName": found["MetricName"],
            "Dimensions": found["Dimensions"],
            "Timestamp": datetime.fromtimestamp(time.time() - window_s + VALID_S, UTC),
            "Values": values,
        }
        stack.target.client("cloudwatch").put_metric_data(Namespace=found["Namespace"], MetricData=[datum])
        time.sleep(0.2)


def received(stack: Stack, url: str, n: int) -> list[dict[str, Any]]:
    """Wait for n notifications and return them, in order of time."""
    sqs, end = stack.target.client("sqs"), time.monotonic() + DEADLINE_S
    found: list[dict[str, Any]] = []
    while len(found) < n:
        assert time.monotonic() < end, found
        answer = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            found.append(json.loads(json.loads(message["Body"])["Message"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def test_every_alarm_is_driven(watched: Stack) -> None:
    """No alarm of the template is left out below."""
    assert set(alarms.read(watched)["name"]) == set(RECORDED)


# The longest window first: a value that is new to a short window is old to a long one, and stays in it.
@pytest.mark.parametrize("name", RECORDED)
def test_an_alarm_is_raised_and_comes_to_rest(watched: Stack, name: str) -> None:
    """With the largest harmless values it is OK, with the smallest harmful ones in ALARM, then with the former OK."""
    good, bad = RECORDED[name]
    for values, state in ((good, "OK"), (bad, "ALARM"), (good, "OK")):
        drive(watched, name, values, state)
        [row] = alarms.read(watched).query("name == @name").to_dict("records")
        assert row["state"] == state
        assert row["notebook"] in alarm(watched, name)["AlarmDescription"]


def test_who_is_subscribed_is_told_of_both_ends(watched: Stack, inbox: str) -> None:
    """The topic hands on that an alarm was raised and that it is over, with what it means and which notebook helps."""
    good, bad = RECORDED["ThrottleAlarm"]
    drive(watched, "ThrottleAlarm", good, "OK")
    for values, state in ((bad, "ALARM"), (good, "OK")):
        drive(watched, "ThrottleAlarm", values, state)
        [told] = received(watched, inbox, 1)
        assert told["NewStateValue"] == state
        assert told["AlarmName"] == alarm(watched, "ThrottleAlarm")["AlarmName"]
        assert "11_doctor" in told["AlarmDescription"]


def there(target: Target, name: str) -> dict[str, int]:
    """Count what a stack has of alarms, topics and dashboards, by their names."""
    cloudwatch = target.client("cloudwatch")
    topics = [topic["TopicArn"].rpartition(":")[2] for topic in target.client("sns").list_topics()["Topics"]]
    return {
        "alarms": len(cloudwatch.describe_alarms(AlarmNamePrefix=f"{name}-", MaxRecords=100)["MetricAlarms"]),
        "topics": sum(topic.startswith(f"{name}-") for topic in topics),
        "dashboards": len(cloudwatch.list_dashboards(DashboardNamePrefix=f"{name}-")["DashboardEntries"]),
    }


@pytest.mark.parametrize("dashboard", [True, False])
@pytest.mark.parametrize(("with_alarms", "metrics", "n"), [(True, True, 10), (True, False, 6), (False, True, 0)])
def test_alarms_and_dashboard_come_and_go_with_the_stack(
    target: Target, *, with_alarms: bool, metrics: bool, n: int, dashboard: bool
) -> None:
    """Each can be left out; the outputs name those there are, and nothing stays behind a teardown."""
    deployed = deploy(target, Alarms=with_alarms, Metrics=metrics, Dashboard=dashboard)
    name, topic = deployed.name, int(with_alarms)
    assert there(target, name) == {"alarms": n, "topics": topic, "dashboards": int(dashboard)}
    assert ("TopicArn" in deployed.outputs, "DashboardName" in deployed.outputs) == (with_alarms, dashboard)
    assert len(alarms.read(deployed)) == n
    stacks.delete(deployed, delete_table=True, progress=lambda _status: None)
    assert there(target, name) == {"alarms": 0, "topics": 0, "dashboards": 0}


def test_they_are_turned_off_and_on_again(target: Target) -> None:
    """A change of one parameter removes what it says and nothing else, and its preview says so beforehand."""
    deployed = deploy(target)
    planned = stacks.preview(target, deployed.name, {"Dashboard": False})
    assert planned.changes[["action", "resource"]].to_numpy().tolist() == [["Remove", "Overview"]]
    without = stacks.execute(planned, lambda _status: None)
    assert there(target, without.name) == {"alarms": 10, "topics": 1, "dashboards": 0}
    deploy(target, without.name, Alarms=False)
    assert there(target, without.name) == {"alarms": 0, "topics": 0, "dashboards": 0}
    again = deploy(target, without.name, Alarms=True, AlarmEmail="team@example.com", Dashboard=True)
    assert there(target, again.name) == {"alarms": 10, "topics": 1, "dashboards": 1}
    [mail] = target.client("sns").list_subscriptions_by_topic(TopicArn=again.outputs["TopicArn"])["Subscriptions"]
    assert (mail["Protocol"], mail["Endpoint"]) == ("email", "team@example.com")
    stacks.delete(again, delete_table=True, progress=lambda _status: None)


def test_the_dashboard_is_what_the_console_reads(watched: Stack) -> None:
    """Its body is JSON with every reference resolved: both queues, the function, and all alarms."""
    cloudwatch = watched.target.client("cloudwatch")
    body = json.loads(cloudwatch.get_dashboard(DashboardName=watched.outputs["DashboardName"])["DashboardBody"])
    assert "${" not in json.dumps(body)
    values = {metric[3] for widget in body["widgets"] for metric in widget["properties"].get("metrics", [])}
    queues = {watched.outputs[name].rpartition(":")[2] for name in ("QueueArn", "SecondQueueArn", "DeadLetterQueueArn")}
    assert values == queues | {watched.outputs["FunctionName"], watched.name}
    [shown] = [widget["properties"]["alarms"] for widget in body["widgets"] if widget["type"] == "alarm"]
    assert sorted(shown) == sorted(alarm(watched, name)["AlarmArn"] for name in RECORDED)
