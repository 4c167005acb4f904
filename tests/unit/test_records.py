"""The records of an event: every one is a task's first delivery, a further one of it, or invalid."""

import itertools
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskq_worker.contract import MAX_BODY_BYTES
from taskq_worker.records import Record, parse_records
from tests.unit.events import event, record, task

_BODIES = st.lists(
    st.sampled_from("abc").map(lambda name: task(name).to_body())
    | st.sampled_from(["", "{}", "[]", '{"task_id": "a"}', "\ud800", "[" * 5_000])
    | st.text(),
    max_size=10,
)


def bodies(*groups: Any) -> list[list[str]]:
    """Return the bodies of each group of records."""
    return [[one.record.body for one in group] for group in groups]


def test_a_record_is_read_as_lambda_hands_it_over() -> None:
    """Message id, receipt handle, body, sent time (Unix seconds) and receive count are the record's own."""
    raw = record(task("a").to_body(), message_id="m-1", receives=4, sent_at=1_800_000_000.125)
    [delivery], twins, invalid = parse_records({"Records": [raw]})
    assert delivery.record == Record(
        message_id="m-1",
        receipt_handle=raw["receiptHandle"],
        body=raw["body"],
        sent_at=1_800_000_000.125,
        receive_count=4,
    )
    assert delivery.task == task("a")
    assert delivery.sent_at == 1_800_000_000.125
    assert (twins, invalid) == ([], [])


def test_further_deliveries_of_a_task_are_set_apart() -> None:
    """Of the deliveries of one task in a batch the first is worked on, whatever else the later ones say."""
    first, other, again, changed = task("a"), task("b"), task("a"), task("a", priority=9)
    deliveries, twins, invalid = parse_records(event(first, other, again, changed))
    assert [delivery.task for delivery in deliveries] == [first, other]
    assert [twin.task for twin in twins] == [again, changed]
    assert invalid == []


def test_a_redriven_twin_comes_first() -> None:
    """Of two deliveries of one task the redriven dead letter is worked on, whichever comes first in the event."""
    stale, redriven = record(task("a").to_body()), record(task("a").to_body())
    redriven["messageAttributes"] = {
        "reason": {"stringValue": "max_attempts", "dataType": "String"},
        "lastAt": {"stringValue": "2026-11-24T12:00:00.125+00:00", "dataType": "String"},
    }
    for records in ([stale, redriven], [redriven, stale]):
        [first], [twin], _ = parse_records({"Records": records})
        assert (first.record.died_at, twin.record.died_at) == (1795521600.125, None)


def test_an_invalid_record_is_alone() -> None:
    """A record that cannot be parsed is set apart with its reason; its neighbours are not touched."""
    deliveries, _twins, invalid = parse_records(event(task("a"), "{", task("b")))
    assert [delivery.task.task_id for delivery in deliveries] == ["a", "b"]
    [one] = invalid
    assert one.record.body == "{"
    assert str(one.error).startswith("the body is not JSON")


def test_a_body_as_large_as_sqs_takes_is_read() -> None:
    """A record of 1 MiB is parsed like any other."""
    room = MAX_BODY_BYTES - len(task("big", data={"to": ""} | {"to": "x"}).to_body()) + 1
    [delivery], _twins, _invalid = parse_records(event(task("big", data={"to": "x" * room})))
    assert len(delivery.record.body) == MAX_BODY_BYTES


def test_no_records_are_no_error() -> None:
    """An event without records gives nothing to do."""
    empty: Mapping[str, Any] = {"Records": []}
    assert parse_records(empty) == ([], [], [])


@given(texts=_BODIES)
def test_every_record_is_in_one_group(texts: list[str]) -> None:
    """Whatever the bodies hold, every record is in exactly one group, in order, and no task is delivered twice."""
    deliveries, twins, invalid = parse_records(event(*texts))
    groups = bodies(deliveries, twins, invalid)
    assert sorted(itertools.chain(*groups)) == sorted(texts)
    assert len({delivery.task.task_id for delivery in deliveries}) == len(deliveries)
    assert {twin.task.task_id for twin in twins} <= {delivery.task.task_id for delivery in deliveries}
    assert groups[2] == [text for text in texts if text in groups[2]]
