"""What CloudWatch has measured of a stack: `GetMetricData` into a tidy frame, paged, with periods that it keeps.

The metrics' names and dimensions are AWS's (AWS_FACTS, sections 2 and 5); `UserErrors` of DynamoDB is counted for the
account and region as a whole. Ours are those of `taskq_worker.contract`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from taskq_lib.aws.frames import TIME
from taskq_lib.aws.stack import Stack
from taskq_lib.errors import BadInput
from taskq_worker.contract import METRIC_NAMESPACE, METRICS, task_types

#: metrics: column -> dtype; `at` is the beginning of the period, `resource` what was measured, in the stack's words.
METRIC_COLUMNS: dict[str, Any] = {
    "namespace": "str",
    "metric": "str",
    "resource": "str",
    "statistic": "str",
    "at": TIME,
    "period_s": "Int32",
    "value": "float64",
    "unit": "str",
}
#: One call takes so many queries, and answers with so many data points (CloudWatch API reference, GetMetricData).
MAX_QUERIES, MAX_POINTS = 500, 100_800
#: How long CloudWatch keeps which period, s -> days (AWS_FACTS section 5): afterwards only longer ones are there.
KEPT_DAYS = {60: 15, 300: 63, 3600: 455}
#: The function's own metrics are asked for by these.
OWN_STATISTICS = ("SampleCount", "Sum", "Average", "Maximum")
_QUEUES = ("queue", "second queue")


@dataclass(frozen=True, kw_only=True)
class Query:
    """One metric of one resource by one statistic."""

    namespace: str
    metric: str
    statistic: str  #: Sum, Average, Maximum, ...
    unit: str
    resource: str  #: In words, such as "queue" or "table"
    dimensions: Mapping[str, str] = field(default_factory=dict)


def queries(stack: Stack) -> list[Query]:
    """Return what is asked of a stack: its queues, function, mappings, table, and what the function itself emits."""
    return [*_of_queues(stack), *_of_function(stack), *_of_table(stack), *_own(stack)]


def read(
    stack: Stack, wanted: Sequence[Query], since: datetime, until: datetime, period_s: int | None = None
) -> pd.DataFrame:
    """Return the data points of `wanted` from `since` to `until`, both widened to whole periods, in order of time.

    `period_s` is the shortest that CloudWatch still keeps for `since`, unless another multiple of 60 is given. A
    metric that published nothing has no row: `missing` names those. Columns and dtypes are `METRIC_COLUMNS`.
    Raises `BadInput` for a window or a period that CloudWatch cannot answer for.
    """
    now = datetime.now(UTC)
    period_s = period_s or shortest_period_s(now - since)
    _check_period(period_s, now - since)
    begin, end = aligned(since, until, period_s)
    n_points = math.ceil((end - begin) / timedelta(seconds=period_s))
    size = min(MAX_QUERIES, MAX_POINTS // n_points)
    if not size:
        raise BadInput(f"{n_points:,} periods of {period_s} s are more than CloudWatch answers with, {MAX_POINTS:,}.")
    rows: list[dict[str, Any]] = []
    for start in range(0, len(wanted), size):
        some = wanted[start : start + size]
        rows += _points(stack.target.client("cloudwatch"), some, (begin, end), period_s)
    return frame(rows)


def frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return data points as a frame, in order of time; columns and dtypes are `METRIC_COLUMNS`."""
    made = pd.DataFrame({name: [row[name] for row in rows] for name in METRIC_COLUMNS})
    made["at"] = pd.to_datetime(made["at"], utc=True)
    return made.astype(METRIC_COLUMNS).sort_values("at", kind="stable", ignore_index=True)


def joined(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of both frames, in order of time."""
    both = other if one.empty else pd.concat([one, other], ignore_index=True)
    return both.sort_values("at", kind="stable", ignore_index=True)


def aligned(since: datetime, until: datetime, period_s: int) -> tuple[datetime, datetime]:
    """Return the window widened to whole periods since 1970, as CloudWatch cuts them; at least one.

    CloudWatch itself rounds a start that is not, and then answers for other periods than were meant. Raises `BadInput`
    for naive datetimes or where the end lies before the start.
    """
    if since.tzinfo is None or until.tzinfo is None or since > until:
        raise BadInput("A time window needs two datetimes with a time zone, the earlier one first.")
    begin = math.floor(since.timestamp() / period_s)
    end = max(math.ceil(until.timestamp() / period_s), begin + 1)
    return datetime.fromtimestamp(begin * period_s, UTC), datetime.fromtimestamp(end * period_s, UTC)


def shortest_period_s(age: timedelta) -> int:
    """Return the shortest period, s, that CloudWatch keeps for data so old; raises `BadInput` where it has none."""
    for period_s, days in KEPT_DAYS.items():
        if age <= timedelta(days=days):
            return period_s
    raise BadInput(f"CloudWatch keeps metrics for {KEPT_DAYS[3600]} days; these would be {age.days:,} days old.")


def missing(wanted: Sequence[Query], found: pd.DataFrame) -> pd.DataFrame:
    """Say which metrics published none in the window: one row a namespace, in plain words.

    Columns (str): `namespace`, `published` (the metrics that did), `says`.
    """
    rows = []
    there = set(zip(found["namespace"], found["metric"], strict=True))
    for namespace in dict.fromkeys(query.namespace for query in wanted):
        names = list(dict.fromkeys(query.metric for query in wanted if query.namespace == namespace))
        absent = [name for name in names if (namespace, name) not in there]
        published = ", ".join(name for name in names if name not in absent)
        says = "published all" if not absent else f"published none in this window: {', '.join(absent)}"
        rows.append({"namespace": namespace, "published": published or "none", "says": says})
    return pd.DataFrame(rows, columns=["namespace", "published", "says"], dtype="str")


def _of_queues(stack: Stack) -> Iterator[Query]:
    names = {words: queue.name for words, queue in zip(_QUEUES, stack.queues, strict=False)}
    names["dead-letter queue"] = stack.dead_letter_queue_url.rpartition("/")[2]
    for resource, name in names.items():
        where: dict[str, Any] = {"resource": resource, "dimensions": {"QueueName": name}}
        yield Query(
            namespace="AWS/SQS", metric="ApproximateNumberOfMessagesVisible", statistic="Maximum", unit="Count", **where
        )
        yield Query(
            namespace="AWS/SQS", metric="ApproximateAgeOfOldestMessage", statistic="Maximum", unit="Seconds", **where
        )
        for metric in ("NumberOfMessagesSent", "NumberOfMessagesReceived", "NumberOfMessagesDeleted"):
            yield Query(namespace="AWS/SQS", metric=metric, statistic="Sum", unit="Count", **where)


def _of_function(stack: Stack) -> Iterator[Query]:
    where: dict[str, Any] = {
        "namespace": "AWS/Lambda",
        "resource": "function",
        "dimensions": {"FunctionName": stack.outputs["FunctionName"]},
    }
    for name in ("Invocations", "Errors", "Throttles"):
        yield Query(metric=name, statistic="Sum", unit="Count", **where)
    for statistic in ("Average", "Maximum"):
        yield Query(metric="Duration", statistic=statistic, unit="Milliseconds", **where)
    yield Query(metric="ConcurrentExecutions", statistic="Maximum", unit="Count", **where)
    for words, queue in zip(_QUEUES, stack.queues, strict=False):
        where |= {"resource": f"mapping of {words}", "dimensions": {"EventSourceMappingUUID": queue.mapping_id}}
        for name in ("PolledEventCount", "InvokedEventCount", "FailedInvokeEventCount", "DeletedEventCount"):
            yield Query(metric=name, statistic="Sum", unit="Count", **where)


def _of_table(stack: Stack) -> Iterator[Query]:
    where: dict[str, Any] = {"namespace": "AWS/DynamoDB", "statistic": "Sum", "unit": "Count"}
    table = {"TableName": stack.table}
    resources = {"table": table}
    if stack.time_index is not None:
        # The units of an index are not among those of its table.
        resources["index by time"] = table | {"GlobalSecondaryIndexName": stack.time_index}
    for resource, dimensions in resources.items():
        for name in (
            "ConsumedReadCapacityUnits",
            "ConsumedWriteCapacityUnits",
            "ReadThrottleEvents",
            "WriteThrottleEvents",
        ):
            yield Query(metric=name, resource=resource, dimensions=dimensions, **where)
    yield Query(metric="UserErrors", resource="account and region", **where)


def _own(stack: Stack) -> Iterator[Query]:
    """Yield the function's own metrics, of the stack as a whole and of each task type, where it emits any."""
    if stack.parameters.get("Metrics", "true") != "true":
        return
    for (name, unit), statistic in itertools.product(METRICS.items(), OWN_STATISTICS):
        for kind in [None, *task_types()] if name != "TimeUsed" else [None]:
            dimensions = {"Stack": stack.name} | ({"TaskType": kind} if kind else {})
            yield Query(
                namespace=METRIC_NAMESPACE,
                metric=name,
                statistic=statistic,
                unit=unit,
                resource=kind or stack.name,
                dimensions=dimensions,
            )


def _check_period(period_s: int, age: timedelta) -> None:
    if period_s < 60 or period_s % 60:
        raise BadInput(f"A period of {period_s} s is not allowed; give a multiple of 60.")
    if period_s < (shortest := shortest_period_s(age)):
        raise BadInput(f"CloudWatch keeps no periods of {period_s} s for data so old; the shortest is {shortest} s.")


def _points(
    client: Any, some: Sequence[Query], window: tuple[datetime, datetime], period_s: int
) -> Iterator[dict[str, Any]]:
    """Ask for some metrics, page by page; an answer may hold one metric's points on several pages."""
    asked = [
        {
            "Id": f"q{number}",
            "MetricStat": {
                "Metric": {
                    "Namespace": query.namespace,
                    "MetricName": query.metric,
                    "Dimensions": [{"Name": name, "Value": value} for name, value in query.dimensions.items()],
                },
                "Period": period_s,
                "Stat": query.statistic,
            },
        }
        for number, query in enumerate(some)
    ]
    pages = client.get_paginator("get_metric_data").paginate(
        MetricDataQueries=asked, StartTime=window[0], EndTime=window[1], ScanBy="TimestampAscending"
    )
    for page in pages:
        for result in page["MetricDataResults"]:
            query = some[int(result["Id"][1:])]
            same = {name: getattr(query, name) for name in ("namespace", "metric", "resource", "statistic", "unit")}
            for at, value in zip(result["Timestamps"], result["Values"], strict=True):
                yield same | {"at": at, "period_s": period_s, "value": value}
