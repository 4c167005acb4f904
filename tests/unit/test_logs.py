"""Reading a window of the log: nothing is cut, whatever an answer's limit, and whatever the endpoint can do."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from taskq_lib.aws import logs
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import NotDone

SINCE = datetime(2026, 11, 24, 2, 0, 0, tzinfo=UTC)
FORM = "%Y-%m-%d %H:%M:%S.%f"
T0_MS = int(SINCE.timestamp() * 1000)


class Paginator:
    """Pages of FilterLogEvents."""

    def __init__(self, client: "Logs") -> None:
        """Page the events of `client`."""
        self.client = client

    def paginate(self, *, logGroupName: str, startTime: int, endTime: int) -> Any:  # noqa: N803 - boto3's own names
        """Yield pages, or one that is cut where the endpoint hands out no token."""
        assert logGroupName == "group"
        self.client.n_filtered += 1
        events = [
            {"timestamp": at, "logStreamName": "s", "message": text}
            for at, text in self.client.events
            if startTime <= at <= endTime
        ]
        if self.client.cuts:
            yield {"events": events[: logs.LIMIT]}
        else:
            for start in range(0, max(len(events), 1), logs.LIMIT):
                yield {"events": events[start : start + logs.LIMIT]}


class Logs:
    """CloudWatch Logs in memory, with its limits."""

    def __init__(self, at_ms: list[int], *, refuses: str = "", cuts: bool = False) -> None:
        """Hold an event at each of these times; `refuses` is the code that StartQuery is refused with."""
        self.events = [(at, f"event {i}") for i, at in enumerate(sorted(at_ms))]
        self.refuses, self.cuts = refuses, cuts
        self.n_filtered = 0
        self.queries: list[tuple[int, int]] = []

    def start_query(self, *, logGroupName: str, startTime: int, endTime: int, queryString: str) -> dict[str, str]:  # noqa: N803
        """Take a query; both its ends are whole seconds and belong to it."""
        assert logGroupName == "group"
        assert re.search(rf"limit {logs.LIMIT}$", queryString)
        if self.refuses:
            raise ClientError({"Error": {"Code": self.refuses}}, "StartQuery")
        self.queries.append((startTime, endTime))
        return {"queryId": str(len(self.queries) - 1)}

    def get_query_results(self, *, queryId: str) -> dict[str, Any]:  # noqa: N803
        """Answer a query at once, as many rows as the limit allows."""
        begin, end = self.queries[int(queryId)]
        rows = [(at, text) for at, text in self.events if begin * 1000 <= at <= end * 1000][: logs.LIMIT]
        return {
            "status": "Complete",
            "results": [
                [
                    {
                        "field": "@timestamp",
                        "value": datetime.fromtimestamp(at / 1000, UTC).strftime(FORM)[:-3],
                    },
                    {"field": "@logStream", "value": "s"},
                    {"field": "@message", "value": text},
                    {"field": "@ptr", "value": "p"},
                ]
                for at, text in rows
            ],
        }

    def get_paginator(self, name: str) -> Paginator:
        """Return the one paginator that is used."""
        assert name == "filter_log_events"
        return Paginator(self)


def read(client: Logs, monkeypatch: pytest.MonkeyPatch, limit: int = 10, span_s: int = 100) -> logs.Log:
    """Read `span_s` seconds with answers of at most `limit` events."""
    monkeypatch.setattr(logs, "LIMIT", limit)
    monkeypatch.setattr(logs, "_QUERY", f"limit {limit}")
    target = Target(name="aws", session=None, region="us-east-1", _clients={"logs": client})
    stack = Stack(target=target, name="s", status="CREATE_COMPLETE", parameters={}, outputs={"LogGroupName": "group"})
    return logs.read(stack, SINCE, SINCE + timedelta(seconds=span_s))


#: Sparse and dense seconds, their borders, and one second with more events than an answer holds.
TIMES = [T0_MS + 1000 * s + ms for s in range(100) for ms in (0, 500, 999)] + [T0_MS + 50_000 + i for i in range(40)]


@pytest.mark.parametrize(
    "refuses", ["", "UnknownOperationException", "AccessDeniedException", "LimitExceededException"]
)
@pytest.mark.parametrize("cuts", [False, True], ids=["pages", "cuts"])
def test_every_event_is_read_once(monkeypatch: pytest.MonkeyPatch, refuses: str, cuts: bool) -> None:  # noqa: FBT001
    """With answers of ten events, each of 340 events comes once and in order, with Insights and without."""
    client = Logs(TIMES, refuses=refuses, cuts=cuts)
    found = read(client, monkeypatch)
    assert found.lines["message"].tolist() == [text for _at, text in client.events]
    assert found.how == ("FilterLogEvents" if refuses else "Logs Insights")
    assert bool(client.queries) is not bool(refuses)


def test_one_answer_is_enough_where_it_is_not_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window whose events fit is asked for once."""
    client = Logs(TIMES)
    assert len(read(client, monkeypatch, limit=10_000).lines) == len(TIMES)
    assert (len(client.queries), client.n_filtered) == (1, 0)


def test_a_moment_that_no_answer_can_hold_is_not_cut_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one millisecond holds more than an answer without a token, reading fails in words."""
    with pytest.raises(NotDone, match="10 events or more in one millisecond"):
        read(Logs([T0_MS] * 25, refuses="UnknownOperationException", cuts=True), monkeypatch)


def test_another_error_is_no_lack_of_insights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A throttle or a missing log group is raised, and not taken for an endpoint without Insights."""
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        read(Logs(TIMES, refuses="ResourceNotFoundException"), monkeypatch)


@pytest.mark.parametrize("status", ["Timeout", "Failed", "Cancelled"])
def test_what_a_query_does_not_answer_is_filtered(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    """A query that ends otherwise than complete has not all rows, so every event is read by the filter instead."""
    monkeypatch.setattr(Logs, "get_query_results", lambda *_, **__: {"status": status, "results": []})
    client = Logs(TIMES)
    found = read(client, monkeypatch)
    assert found.lines["message"].tolist() == [text for _at, text in client.events]
    assert found.how == "FilterLogEvents"
