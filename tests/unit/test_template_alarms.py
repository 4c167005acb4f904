"""The alarms and the dashboard of the template name metrics that exist, under the dimensions that they have."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from taskq_lib import PROJECT_ROOT
from taskq_lib.aws import template
from taskq_worker.breaker import MAX_HOLD_S
from taskq_worker.contract import METRIC_NAMESPACE, METRICS
from tests.unit import plain

_READ: dict[str, Any] = plain.read(template.TEMPLATE.read_text())
RESOURCES: dict[str, dict[str, Any]] = _READ["Resources"]
ALARMS = {name: entry["Properties"] for name, entry in RESOURCES.items() if entry["Type"] == "AWS::CloudWatch::Alarm"}
NOTEBOOK = re.compile(r"\b[1-9]\d_[a-z_]+\b")
#: What is published, by namespace: the dimension, and the metrics that have it alone. Sources: AWS's metric metadata
#: (awslabs/mcp @100b55b, src/cloudwatch-mcp-server); for SQS also its developer guide, "Available CloudWatch metrics".
PUBLISHED = {
    "AWS/SQS": (
        "QueueName",
        {
            "ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesDelayed",
            "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesVisible", "NumberOfEmptyReceives",
            "NumberOfMessagesDeleted", "NumberOfMessagesReceived", "NumberOfMessagesSent", "SentMessageSize",
        },
    ),
    "AWS/Lambda": (
        "FunctionName",
        {"ConcurrentExecutions", "Duration", "Errors", "Invocations", "Throttles"},
    ),
    METRIC_NAMESPACE: ("Stack", set(METRICS)),
}  # fmt: skip
#: What the value of a dimension must be, as the template writes it.
VALUES = {
    "QueueName": {"Queue.QueueName", "SecondQueue.QueueName", "DeadLetterQueue.QueueName"},
    "FunctionName": {"Function"},
    "Stack": {"AWS::StackName"},
}


def written() -> set[str]:
    """Return the names of the notebooks that there are."""
    return {path.stem for path in (PROJECT_ROOT / "notebooks").glob("*.ipynb")}


def body(*, second_queue: bool, alarms: bool = True) -> dict[str, Any]:
    """Return the dashboard's body with its conditional parts in or out, and its references left as they are."""
    text, parts = RESOURCES["Overview"]["Properties"]["DashboardBody"]
    for name, part in parts.items():
        # An `!If` is read as its three parts; the alarms are a `!Sub` with variables of its own.
        value = part
        if isinstance(part, list):
            condition, yes, no = part
            on = {"HasSecondQueue": second_queue, "HasAlarms": alarms}[condition]
            value = (yes[0] if isinstance(yes, list) else yes) if on else no
        text = text.replace(f"${{{name}}}", value)
    read: dict[str, Any] = json.loads(re.sub(r"(?<=: )\$\{(\w+)\}", "1", text))
    return read


def shown(dashboard: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the namespace, name, dimension and its value of each metric that a dashboard shows."""
    for widget in dashboard["widgets"]:
        for metric in widget["properties"].get("metrics", []):
            assert len(metric) == 5
            assert metric[4]["label"]
            namespace, name, dimension, value, _ = metric
            yield namespace, name, dimension, re.sub(r"^\$\{(.*)\}$", r"\1", value)


def assert_published(namespace: str, name: str, dimension: str, value: str) -> None:
    """Check that such a metric comes to be, of a resource of this stack."""
    its_dimension, names = PUBLISHED[namespace]
    assert name in names
    assert dimension == its_dimension
    assert value in VALUES[dimension]


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_watches_a_metric_that_exists(name: str) -> None:
    """An alarm names a published metric by its one dimension, and no unit, with which it might see no data at all."""
    alarm = ALARMS[name]
    if name == "StoreAlarm":
        # Its metric is made of log lines by this template, and has the stack in its namespace: a filter has no
        # dimension that the line does not hold.
        [made] = RESOURCES["StoreFailures"]["Properties"]["MetricTransformations"]
        assert (made["MetricNamespace"], made["MetricName"]) == (alarm["Namespace"], alarm["MetricName"])
        assert "Dimensions" not in alarm.keys() | made.keys()
    else:
        [dimension] = alarm["Dimensions"]
        assert_published(alarm["Namespace"], alarm["MetricName"], dimension["Name"], dimension["Value"])
    assert "Unit" not in alarm
    assert "Metrics" not in alarm
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_can_be_evaluated(name: str) -> None:
    """Its window is within what CloudWatch takes (a day, periods of a minute or more), and M of N is not over N."""
    alarm = ALARMS[name]
    assert alarm["Period"] % 60 == 0
    assert alarm["Period"] * alarm["EvaluationPeriods"] <= 86_400
    assert 1 <= alarm.get("DatapointsToAlarm", 1) <= alarm["EvaluationPeriods"]


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_says_what_it_means_and_what_helps(name: str) -> None:
    """Its description is a sentence that names at least one notebook, and every notebook that it names is there."""
    says = ALARMS[name]["AlarmDescription"]
    named = set(NOTEBOOK.findall(says))
    assert named
    assert named <= written()
    assert says.endswith(".")
    assert len(says) <= 1024  # PutMetricAlarm


def test_the_readme_lists_every_alarm() -> None:
    """The README's table has each alarm once, with the notebooks that its own description names."""
    readme = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`\w+Alarm`(?:, )?)+) \| .* \| (.*?) \|$", readme, re.MULTILINE)
    listed = {name: set(NOTEBOOK.findall(notebooks)) for names, notebooks in rows for name in re.findall(r"\w+", names)}
    assert listed.keys() == ALARMS.keys()
    for name, notebooks in listed.items():
        assert notebooks == set(NOTEBOOK.findall(ALARMS[name]["AlarmDescription"])), name


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_tells_the_topic_both_ways(name: str) -> None:
    """Who is told that something is wrong is told as well that it is over."""
    assert ALARMS[name]["AlarmActions"] == ALARMS[name]["OKActions"] == ["AlarmTopic"]


def test_alarms_on_task_metrics_need_these() -> None:
    """An alarm on a metric that the function emits exists only where it emits any; all others do without."""
    for name, alarm in ALARMS.items():
        is_own = alarm["Namespace"] == METRIC_NAMESPACE
        assert (RESOURCES[name]["Condition"] == "HasTaskAlarms") == is_own, name
    assert _READ["Conditions"]["HasTaskAlarms"] == ["HasAlarms", ["Metrics", "true"]]


def test_the_filter_counts_lines_that_the_function_writes() -> None:
    """Each event that the metric filter looks for is one that the function logs as an error."""
    pattern = RESOURCES["StoreFailures"]["Properties"]["FilterPattern"]
    one = r'\(\$\.event = "[\w.]+"\)'
    assert re.fullmatch(rf"\{{ {one}( \|\| {one})* \}}", pattern)
    sources = "".join(path.read_text() for path in (PROJECT_ROOT / "lambda" / "taskq_worker").glob("*.py"))
    for event in re.findall(r'"([\w.]+)"', pattern):
        assert f'log("{event}", level="ERROR"' in sources


def test_the_second_queue_is_watched_like_the_first() -> None:
    """Each alarm on the queue has a twin on the second queue with the same numbers, where there is one."""
    for name in ("AgeAlarm", "BacklogAlarm"):
        twin = ALARMS[f"Second{name}"]
        assert RESOURCES[f"Second{name}"]["Condition"] == "HasSecondAlarms"
        assert twin["Dimensions"] == [{"Name": "QueueName", "Value": "SecondQueue.QueueName"}]
        its_own = {"AlarmDescription", "Dimensions"}
        assert {key: twin[key] for key in twin.keys() - its_own} == {
            key: ALARMS[name][key] for key in ALARMS[name].keys() - its_own
        }


def test_a_busy_queue_raises_no_backlog_alarm() -> None:
    """A steady queue has some messages in every sample, so only as many as a parameter says, for an hour, are news."""
    entry = _READ["Parameters"]["BacklogAlarmMessages"]
    assert (entry["Type"], entry["MinValue"]) == ("Number", 1)
    assert entry["Default"] > 1
    alarm = ALARMS["BacklogAlarm"]
    assert (alarm["Threshold"], alarm["Statistic"]) == ("BacklogAlarmMessages", "Minimum")
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 3_600
    assert "DatapointsToAlarm" not in alarm


def test_the_breaker_alarm_holds_as_long_as_an_open_breaker_may_be_silent() -> None:
    """Held tasks come back after the cooldown and a jitter of as much or of `MAX_HOLD_S`; that long it looks back."""
    alarm = ALARMS["BreakerAlarm"]
    looks_at_s = alarm["Period"] * alarm["EvaluationPeriods"]
    assert looks_at_s == template.BREAKER_ALARM_S
    assert alarm["DatapointsToAlarm"] == 1
    longest_s = template.BREAKER_ALARM_S / 2
    assert longest_s + max(longest_s, MAX_HOLD_S) <= looks_at_s


def test_where_no_data_is_no_news() -> None:
    """What is published only while something is there falls silent as a good sign; a state that lasts is kept."""
    kept = {name for name, alarm in ALARMS.items() if alarm["TreatMissingData"] == "ignore"}
    assert kept == {"DeadLetterAlarm", "BacklogAlarm", "SecondBacklogAlarm", "BreakerAlarm"}
    assert {ALARMS[name]["TreatMissingData"] for name in ALARMS.keys() - kept} == {"notBreaching"}


def test_the_topic_takes_alarms_of_this_account_alone() -> None:
    """CloudWatch may publish for alarms of this account and region; nobody else may, and TLS is asked for."""
    allow, deny = RESOURCES["AlarmTopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (allow["Effect"], allow["Action"], allow["Resource"]) == ("Allow", "sns:Publish", "AlarmTopic")
    assert allow["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert allow["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "AWS::AccountId"},
        "ArnLike": {
            "aws:SourceArn": "arn:${AWS::Partition}:cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:*",
        },
    }
    assert (deny["Effect"], deny["Principal"], deny["Action"]) == ("Deny", "*", "sns:Publish")
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    # The AWS managed key of SNS does not let CloudWatch in: such a topic would hear nothing.
    assert "KmsMasterKeyId" not in RESOURCES["AlarmTopic"]["Properties"]


@pytest.mark.parametrize("second_queue", [False, True])
def test_the_dashboard_shows_metrics_that_exist(second_queue: bool) -> None:  # noqa: FBT001 - a case
    """Every metric of the dashboard is one that AWS publishes or the function emits, under its dimension."""
    found = list(shown(body(second_queue=second_queue)))
    assert len(found) > 20
    for metric in found:
        assert_published(*metric)
    assert ("SecondQueue.QueueName" in {value for *_, value in found}) == second_queue
    # Within the fifty with which a dashboard is among the free ones.
    assert len(set(found)) <= 50


def test_the_dashboard_is_in_the_order_of_the_control_room() -> None:
    """It is read as the figure of 60_monitor is: backlog, age, throughput, errors, then duration and concurrency."""
    widgets = body(second_queue=True)["widgets"]
    places = [(widget["y"], widget["x"]) for widget in widgets]
    assert places == sorted(places)
    titles = [widget["properties"]["title"].split()[0].strip(",") for widget in widgets if widget["type"] == "metric"]
    assert titles[:6] == ["Backlog", "Age", "Throughput", "Errors", "Duration", "Concurrency"]
    assert all(widget["x"] + widget["width"] <= 24 for widget in widgets)


def test_the_dashboard_names_the_notebooks_and_shows_the_alarms() -> None:
    """It says which notebook to open, and shows the state of every alarm; without alarms that part is left out."""
    text, alarms, *_ = body(second_queue=True)["widgets"]
    assert set(NOTEBOOK.findall(text["properties"]["markdown"])) <= written()
    assert NOTEBOOK.search(text["properties"]["markdown"])
    assert alarms["type"] == "alarm"
    _, parts = RESOURCES["Overview"]["Properties"]["DashboardBody"]
    assert set(re.findall(r"(\w+Alarm)\.Arn", str(parts["AlarmWidget"]))) == set(ALARMS)
    assert {widget["type"] for widget in body(second_queue=True, alarms=False)["widgets"]} == {"text", "metric"}
