"""CloudWatch's metrics as a frame: every page, whole periods, and in words which metrics there are none of."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from taskq_lib.aws import metrics
from taskq_lib.aws.metrics import METRIC_COLUMNS, Query
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput
from taskq_worker.contract import METRIC_NAMESPACE, METRICS, task_types

OUTPUTS = {
    "QueueUrl": "https://sqs/1/q",
    "QueueArn": "arn:aws:sqs:us-east-1:1:q",
    "DeadLetterQueueUrl": "https://sqs/1/dead",
    "FunctionName": "function",
    "TableName": "table",
    "TimeIndexName": "by-time",
    "EventSourceMappingId": "m-1",
}
SECOND = {"SecondQueueUrl": "https://sqs/1/q2", "SecondEventSourceMappingId": "m-2", "SecondQueueTakes": "priority>=7"}
NOW = datetime.now(UTC)
MINUTE = timedelta(minutes=1)


def stack(client: Any = None, **outputs: str) -> Stack:
    """Return a stack whose CloudWatch is `client`."""
    target = Target(name="aws", session=None, region="us-east-1", _clients={"cloudwatch": client})
    return Stack(target=target, name="s", status="CREATE_COMPLETE", parameters={}, outputs=OUTPUTS | outputs)


def query(metric: str, **fields: Any) -> Query:
    """Return a query of a metric of our own namespace."""
    plain = {"namespace": "TaskQueue", "statistic": "Sum", "unit": "Count", "resource": "stack"}
    return Query(metric=metric, **(plain | fields))


@pytest.fixture
def cloudwatch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Moto's CloudWatch."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        yield boto3.client("cloudwatch", region_name="us-east-1")


def put(client: Any, metric: str, at: datetime, value: float, **dimensions: str) -> None:
    """Publish one value."""
    named = [{"Name": name, "Value": one} for name, one in dimensions.items()]
    client.put_metric_data(
        Namespace="TaskQueue", MetricData=[{"MetricName": metric, "Timestamp": at, "Value": value, "Dimensions": named}]
    )


def test_what_was_published_is_found(cloudwatch: Any) -> None:
    """Values of one minute are one row, its statistic that of the query, at the beginning of the minute; typed."""
    at = (NOW - 10 * MINUTE).replace(second=0, microsecond=0)
    for seconds, value in ((5, 1.0), (50, 2.0), (70, 4.0)):
        put(cloudwatch, "TaskFailed", at + timedelta(seconds=seconds), value, Stack="s")
    wanted = [query("TaskFailed", dimensions={"Stack": "s"}), query("BreakerOpen", dimensions={"Stack": "s"})]
    found = metrics.read(stack(cloudwatch), wanted, at, at + 2 * MINUTE)
    assert {str(name): str(dtype) for name, dtype in found.dtypes.items()} == {
        name: str(dtype) for name, dtype in METRIC_COLUMNS.items()
    }
    rows = found[["metric", "at", "value", "period_s"]].to_dict("records")
    assert rows == [
        {"metric": "TaskFailed", "at": pd.Timestamp(at), "value": 3.0, "period_s": 60},
        {"metric": "TaskFailed", "at": pd.Timestamp(at + MINUTE), "value": 4.0, "period_s": 60},
    ]
    [said] = metrics.missing(wanted, found).to_dict("records")
    assert said["published"] == "TaskFailed"
    assert said["says"] == "published none in this window: BreakerOpen"


def test_a_window_covers_whole_periods(cloudwatch: Any) -> None:
    """A value before the start, within its minute, belongs to the minute's row: none is counted in half."""
    at = (NOW - 10 * MINUTE).replace(second=0, microsecond=0)
    put(cloudwatch, "TaskFailed", at + timedelta(seconds=2), 1.0)
    put(cloudwatch, "TaskFailed", at + timedelta(seconds=58), 1.0)
    found = metrics.read(
        stack(cloudwatch), [query("TaskFailed")], at + timedelta(seconds=20), at + timedelta(seconds=30)
    )
    assert found["value"].tolist() == [2.0]


class Paged:
    """CloudWatch that answers a few points a page, and notes what it is asked."""

    def __init__(self) -> None:
        """Begin with no question."""
        self.asked: list[dict[str, Any]] = []

    def get_paginator(self, name: str) -> "Paged":
        """Return itself."""
        assert name == "get_metric_data"
        return self

    def paginate(self, **given: Any) -> Iterator[dict[str, Any]]:
        """Answer each query with three points, of which the last comes on another page."""
        self.asked.append(given)
        at = given["StartTime"]
        for start, n in ((0, 2), (2, 1)):
            yield {
                "MetricDataResults": [
                    {
                        "Id": one["Id"],
                        "Timestamps": [at + (start + i) * MINUTE for i in range(n)],
                        "Values": [float(start + i) for i in range(n)],
                    }
                    for one in given["MetricDataQueries"]
                ]
            }


def test_every_page_of_every_call_is_read() -> None:
    """1,100 metrics take three calls of at most 500, and a metric's points on several pages all come."""
    client, wanted = Paged(), [query(f"m{i}") for i in range(1_100)]
    found = metrics.read(stack(client), wanted, NOW - 5 * MINUTE, NOW)
    assert [len(call["MetricDataQueries"]) for call in client.asked] == [500, 500, 100]
    assert len(found) == 3 * 1_100
    assert found["metric"].nunique() == 1_100
    assert found.loc[found["metric"] == "m777", "value"].tolist() == [0.0, 1.0, 2.0]
    assert found["at"].is_monotonic_increasing


def test_a_call_asks_for_no_more_points_than_it_may() -> None:
    """Over ten days of minutes a call has fewer metrics, so that its points stay within 100,800."""
    client = Paged()
    metrics.read(stack(client), [query(f"m{i}") for i in range(20)], NOW - timedelta(days=10), NOW)
    assert [len(call["MetricDataQueries"]) for call in client.asked] == [6, 6, 6, 2]


@pytest.mark.parametrize(
    ("days", "period_s"), [(0, 60), (14.9, 60), (15.1, 300), (62.9, 300), (63.1, 3600), (454, 3600)]
)
def test_the_period_is_one_that_is_still_kept(days: float, period_s: int) -> None:
    """Minutes are kept for 15 days, five minutes for 63, hours for 455; the shortest of these is asked for."""
    client, since = Paged(), NOW - timedelta(days=days)
    metrics.read(stack(client), [query("m")], since, since + MINUTE)
    [call] = client.asked
    [one] = call["MetricDataQueries"]
    assert one["MetricStat"]["Period"] == period_s
    assert call["StartTime"].timestamp() % period_s == call["EndTime"].timestamp() % period_s == 0


@pytest.mark.parametrize(
    ("since", "period_s", "sentence"),
    [
        (NOW - timedelta(days=456), None, "CloudWatch keeps metrics for 455 days"),
        (NOW - timedelta(days=20), 60, "keeps no periods of 60 s for data so old; the shortest is 300 s"),
        (NOW, 30, "A period of 30 s is not allowed"),
        (NOW, 90, "A period of 90 s is not allowed"),
        (NOW + MINUTE, None, "the earlier one first"),
    ],
)
def test_what_cloudwatch_cannot_answer_is_refused(since: datetime, period_s: int | None, sentence: str) -> None:
    """A window or a period for which CloudWatch has no data is refused before it is asked."""
    with pytest.raises(BadInput, match=sentence):
        metrics.read(stack(Paged()), [query("m")], since, NOW, period_s)


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    st.timedeltas(timedelta(0), timedelta(days=3)),
    st.sampled_from([60, 300, 3600]),
)
def test_an_aligned_window_holds_the_one_that_was_meant(since: datetime, span: timedelta, period_s: int) -> None:
    """It begins and ends at multiples of the period, holds the window, and is less than two periods longer."""
    begin, end = metrics.aligned(since, since + span, period_s)
    assert begin.timestamp() % period_s == end.timestamp() % period_s == 0
    assert begin <= since <= since + span <= end
    assert timedelta(0) < end - begin < span + timedelta(seconds=2 * period_s)


def test_a_stack_is_asked_for_every_documented_metric() -> None:
    """The metrics of the documented design are asked for: of queues, function, mappings, table and index."""
    wanted = metrics.queries(stack(**SECOND))
    named = {(one.namespace, one.metric, one.resource) for one in wanted}
    for resource in ("queue", "second queue", "dead-letter queue"):
        for metric in ("ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage", "NumberOfMessagesSent"):
            assert ("AWS/SQS", metric, resource) in named
    for metric in ("Invocations", "Duration", "Errors", "Throttles", "ConcurrentExecutions"):
        assert ("AWS/Lambda", metric, "function") in named
    mappings = {dict(one.dimensions)["EventSourceMappingUUID"] for one in wanted if one.metric == "PolledEventCount"}
    assert mappings == {"m-1", "m-2"}
    for metric in ("ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits", "WriteThrottleEvents"):
        assert {("AWS/DynamoDB", metric, resource) for resource in ("table", "index by time")} <= named
    assert ("AWS/DynamoDB", "UserErrors", "account and region") in named
    assert {metric for namespace, metric, resource in named if namespace == METRIC_NAMESPACE} == set(METRICS)
    assert {one.resource for one in wanted if one.metric == "TaskFailed"} == {"s", *task_types()}
    keys = [(one.namespace, one.metric, one.statistic, *sorted(one.dimensions.items())) for one in wanted]
    assert len(keys) == len(set(keys))


def test_an_endpoint_without_metrics_is_named_in_plain_words() -> None:
    """Where nothing was published each namespace says so, with the names of what is missing."""
    said = metrics.missing(metrics.queries(stack()), metrics.frame([])).set_index("namespace")
    assert (said["published"] == "none").all()
    assert "published none in this window: ApproximateNumberOfMessagesVisible, " in str(said.loc["AWS/SQS", "says"])
