"""The function's log, read for a window of time: by Logs Insights where the endpoint has it, else by FilterLogEvents.

Neither is cut in silence: a window that brings as many events as an answer may hold is split, and asked for again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from botocore.exceptions import ClientError

from taskq_lib.aws import log_lines
from taskq_lib.aws.stack import Stack
from taskq_lib.errors import NotDone

#: Rows of one Insights answer and events of one FilterLogEvents page at most (CloudWatch Logs API reference).
LIMIT = 10_000
#: How long one Insights query may take, s; Insights itself ends one after an hour.
QUERY_S = 300.0
_QUERY = (
    "fields @timestamp, @logStream, @message"
    r" | filter @message like /taskq\.attempt|taskq\.metrics|platform\.report|REPORT RequestId/"
    f" | sort @timestamp asc | limit {LIMIT}"
)
#: What endpoints without Insights answer, roles that may filter only, and an account with too many queries at a time.
_NO_INSIGHTS = {
    "AccessDenied", "AccessDeniedException", "InvalidAction", "LimitExceededException", "MalformedQueryException",
    "NotImplemented", "NotImplementedException", "UnknownOperation", "UnknownOperationException",
    "UnsupportedOperation", "UnsupportedOperationException",
}  # fmt: skip


class _Incomplete(Exception):
    """A query did not end, or not with all its rows."""


Row = tuple[int, str, str]  #: Unix milliseconds, stream, message


@dataclass(frozen=True, kw_only=True)
class Log:
    """What a window of the log says."""

    how: str  #: "Logs Insights" or "FilterLogEvents"
    lines: pd.DataFrame = field(repr=False)  #: As `log_lines.LINE_COLUMNS`; of Insights those of ours and reports only
    attempts: pd.DataFrame = field(repr=False)  #: As `log_lines.ATTEMPT_COLUMNS`
    reports: pd.DataFrame = field(repr=False)  #: As `log_lines.REPORT_COLUMNS`


def read(stack: Stack, since: datetime, until: datetime) -> Log:
    """Read the log of the stack's function from `since` to `until` (whole seconds around both), of all its runs.

    Lines come into the log seconds after they are written. Raises `NotDone` where a millisecond holds more events than
    an answer; botocore's errors where the log cannot be read at all.
    """
    begin_s, end_s = math.floor(since.timestamp()), math.ceil(until.timestamp()) + 1
    client, group = stack.target.client("logs"), stack.outputs["LogGroupName"]
    try:
        how, rows = "Logs Insights", list(_insights(client, group, begin_s, end_s))
    except (ClientError, _Incomplete) as error:
        if isinstance(error, ClientError) and error.response["Error"].get("Code") not in _NO_INSIGHTS:
            raise
        how, rows = "FilterLogEvents", list(_filtered(client, group, begin_s * 1000, end_s * 1000))
    lines = log_lines.lines_frame(rows)
    return Log(how=how, lines=lines, attempts=log_lines.attempts(lines), reports=log_lines.reports(lines))


def _insights(client: Any, group: str, begin_s: int, end_s: int) -> Iterator[Row]:
    """Yield the rows of [begin_s, end_s), by time; a window with too many is split, a second is filtered instead."""
    rows = _query(client, group, begin_s, end_s)
    if len(rows) < LIMIT:
        # A query's window holds both its ends; halves would hold the middle twice.
        yield from (row for row in rows if begin_s * 1000 <= row[0] < end_s * 1000)
    elif end_s - begin_s > 1:
        middle_s = (begin_s + end_s) // 2
        yield from _insights(client, group, begin_s, middle_s)
        yield from _insights(client, group, middle_s, end_s)
    else:
        yield from _filtered(client, group, begin_s * 1000, end_s * 1000)


def _query(client: Any, group: str, begin_s: int, end_s: int) -> list[Row]:
    query_id = client.start_query(logGroupName=group, startTime=begin_s, endTime=end_s, queryString=_QUERY)["queryId"]
    end, pause_s = time.monotonic() + QUERY_S, 0.05
    while (answer := client.get_query_results(queryId=query_id))["status"] in {"Scheduled", "Running", "Unknown"}:
        if time.monotonic() > end:
            client.stop_query(queryId=query_id)
            break
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 2.0)
    if answer["status"] != "Complete":
        raise _Incomplete(answer["status"])
    return [_row({cell["field"]: cell.get("value", "") for cell in row}) for row in answer["results"]]


def _row(cells: dict[str, str]) -> Row:
    at = datetime.strptime(cells["@timestamp"], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
    return round(at.timestamp() * 1000), cells["@logStream"], cells["@message"]


def _filtered(client: Any, group: str, begin_ms: int, end_ms: int) -> Iterator[Row]:
    """Yield all events of [begin_ms, end_ms), by time.

    AWS hands out a token with every page but the last. An answer that is full and has none may have been cut (the
    embedded engine cuts so): its window is split.
    """
    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=group, startTime=begin_ms, endTime=end_ms - 1
    )
    events, n_last = [], 0
    for page in pages:
        events += page["events"]
        n_last = len(page["events"])
    if n_last < LIMIT:
        yield from ((event["timestamp"], event["logStreamName"], event["message"]) for event in events)
    elif end_ms - begin_ms > 1:
        middle_ms = (begin_ms + end_ms) // 2
        yield from _filtered(client, group, begin_ms, middle_ms)
        yield from _filtered(client, group, middle_ms, end_ms)
    else:
        raise NotDone(
            f"Log group {group} has {LIMIT:,} events or more in one millisecond, and no token to read on.",
            "Read a window without that moment.",
        )
