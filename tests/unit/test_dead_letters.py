"""Dead letters: the body unchanged, the reason attached, packed as SQS takes them, and only what arrived is counted."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from taskq_worker.contract import MAX_BODY_BYTES, Outcome, Reason
from taskq_worker.dead_letters import DeadLetter, send
from taskq_worker.records import Record, parse_records
from taskq_worker.store import Result
from tests.unit.events import claim, event, lines, task

URL = "https://sqs.us-east-1.amazonaws.com/123456789012/dead"
#: What SQS takes in a body or an attribute, by its own documentation (XML 1.0).
_ALLOWED = re.compile("[\x09\x0a\x0d\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")


class Sqs:
    """Takes batches and answers as it is told."""

    def __init__(self, *answers: Any) -> None:
        """Answer each call with the next of `answers`; with success once they are used up."""
        self.answers = list(answers)
        self.batches: list[list[dict[str, Any]]] = []

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's own names
        """Take one batch."""
        assert QueueUrl.removesuffix(".fifo") == URL
        self.batches.append(Entries)
        answer = self.answers.pop(0) if self.answers else [entry["Id"] for entry in Entries]
        if isinstance(answer, Exception):
            raise answer
        failed = [{"Id": e["Id"], "Code": "InternalError"} for e in Entries if e["Id"] not in answer]
        return {"Successful": [{"Id": name, "MessageId": f"dead-{name}"} for name in answer], "Failed": failed}


def letter(
    message_id: str = "m", body: str = "{}", error: str = "broken", *, group: str | None = None, **changes: Any
) -> DeadLetter:
    """Make a dead letter."""
    record = Record(
        message_id=message_id, receipt_handle="h", body=body, sent_at=1.8e9, receive_count=1, message_group=group
    )
    fields: dict[str, Any] = {
        "reason": Reason.MAX_ATTEMPTS,
        "error_type": "CorruptInput",
        "attempts": 3,
        "task_id": "a",
        "first_at": 1_800_000_000.0,
        "last_at": 1_800_000_060.5,
    }
    return DeadLetter(record=record, error=error, **(fields | changes))


def values(one: DeadLetter) -> dict[str, str]:
    """Return the message attributes as name and text."""
    return {name: attribute["StringValue"] for name, attribute in one.attributes.items()}


def result(history: Sequence[dict[str, Any]] = (), attempt: int = 1, **changes: Any) -> Result:
    """Make a failed result of task `a`."""
    fields: dict[str, Any] = {"error_type": "CorruptInput", "error": "broken", "reason": Reason.MAX_ATTEMPTS}
    return Result(
        claim=claim(task("a"), attempt=attempt, history=history),
        outcome=Outcome.FAILED,
        started_at=1_800_000_050.0,
        finished_at=1_800_000_060.5,
        **(fields | changes),
    )


def test_a_reader_of_the_queue_knows_why() -> None:
    """The attributes hold reason, error, task, attempts and both times, and are no more than the 10 that SQS takes."""
    assert values(letter()) == {
        "reason": "max_attempts",
        "errorType": "CorruptInput",
        "error": "broken",
        "taskId": "a",
        "attempts": "3",
        "firstAt": "2027-01-15T08:00:00.000+00:00",
        "lastAt": "2027-01-15T08:01:00.500+00:00",
    }
    assert len(letter().attributes) <= 10
    assert letter().attributes["attempts"]["DataType"] == "Number"


@given(error=st.text(st.characters()), error_type=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_error_text_can_be_attached(error: str, error_type: str) -> None:
    """Whatever an error says, control characters and lone surrogates included, SQS takes the attributes."""
    for text in values(letter(error=error)).values():
        assert text
        assert _ALLOWED.fullmatch(text)
    assert letter(error=error, error_type=error_type).size > 0


def test_readable_text_is_kept() -> None:
    """Letters of any language and emoji stay; only what SQS refuses becomes a space."""
    assert values(letter(error="Größe 📦 über\x00\n\ud800\x7fEnde"))["error"] == "Größe 📦 über    Ende"


def test_a_failed_result_becomes_a_letter() -> None:
    """A letter runs from the first start that was logged to the end of the last attempt, and counts the attempts."""
    history: list[dict[str, Any]] = [{"outcome": "lost"}, {"started": 1_800_000_000.25, "outcome": "failed"}]
    made = DeadLetter.of_result(result(history, attempt=3))
    assert (made.first_at, made.last_at) == (1_800_000_000.25, 1_800_000_060.5)
    assert (made.attempts, made.task_id, made.reason) == (3, "a", Reason.MAX_ATTEMPTS)
    assert made.record.body == task("a").to_body()


def test_a_first_attempt_that_vanished_counts_from_its_claim() -> None:
    """Where the first attempt left no trace, the letter runs from when the task was first claimed."""
    lost: list[list[dict[str, Any]]] = [[], [{"outcome": "lost"}, {"started": 1_800_000_030.0, "outcome": "failed"}]]
    for history in lost:
        one = result(history, attempt=3)
        one = replace(one, claim=replace(one.claim, first_claimed_at=1_800_000_001.5))
        assert DeadLetter.of_result(one).first_at == 1_800_000_001.5


def test_a_first_attempt_starts_the_clock() -> None:
    """Without a history, the letter runs from the start of its only attempt."""
    made = DeadLetter.of_result(result(reason=Reason.NON_RETRYABLE))
    assert (made.first_at, made.attempts, made.reason) == (1_800_000_050.0, 1, Reason.NON_RETRYABLE)


def test_an_invalid_message_becomes_a_letter() -> None:
    """An invalid message never started: its letter runs from its sending, has no attempts and says what is wrong."""
    _deliveries, _twins, [invalid] = parse_records(event('{"task_id": "a", "type": "FLY", "data": {}}'))
    made = DeadLetter.of_invalid(invalid, now=1_800_000_009.0)
    assert values(made) == {
        "reason": "invalid",
        "errorType": "InvalidMessage",
        "error": "unknown task type 'FLY'; known are IMAGE_RESIZE, PROCESS_DATA, SEND_EMAIL",
        "taskId": "a",
        "attempts": "0",
        "firstAt": "2027-01-15T08:00:00.000+00:00",
        "lastAt": "2027-01-15T08:00:09.000+00:00",
    }
    assert datetime.fromisoformat(values(made)["firstAt"]).timestamp() == invalid.record.sent_at


def test_letters_are_packed_by_ten() -> None:
    """Ten letters go in one request, bodies unchanged, and all that arrived are named by their own message ids."""
    sqs = Sqs()
    letters = [letter(f"m-{i}", body=f"body-{i}") for i in range(23)]
    assert send(sqs, URL, letters) == {f"m-{i}" for i in range(23)}
    assert [len(batch) for batch in sqs.batches] == [10, 10, 3]
    assert [entry["MessageBody"] for batch in sqs.batches for entry in batch] == [f"body-{i}" for i in range(23)]
    assert all(entry["MessageAttributes"] == letter().attributes for batch in sqs.batches for entry in batch)


@given(sizes=st.lists(st.integers(1, MAX_BODY_BYTES), max_size=15))
def test_no_request_exceeds_what_sqs_takes(sizes: list[int]) -> None:
    """No request holds more than ten letters or 1 MiB, attributes counted, unless one letter alone is over it."""
    sqs = Sqs()
    letters = [letter(f"m-{i}", body="x" * size) for i, size in enumerate(sizes)]
    assert send(sqs, URL, letters) == {f"m-{i}" for i in range(len(sizes))}
    overhead = letter(body="").size
    for batch in sqs.batches:
        size = sum(len(entry["MessageBody"]) + overhead for entry in batch)
        assert len(batch) == 1 or (len(batch) <= 10 and size <= MAX_BODY_BYTES)


def test_size_counts_bytes() -> None:
    """A letter's size is that of its body and of its attributes' names, types and values, in UTF-8."""
    assert letter(body="äöü").size == letter(body="").size + 6
    assert letter(error="ä").size == letter(error="a").size + 1
    names = sum(len(name) + len(a["DataType"]) + len(a["StringValue"]) for name, a in letter().attributes.items())
    assert letter(body="").size == names


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "SendMessageBatch"),
        EndpointConnectionError(endpoint_url=URL),
    ],
    ids=["refused", "unreachable"],
)
def test_a_request_that_fails_buries_nobody(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """Letters of a request that failed have not arrived, which is logged; those of the next request have."""
    sqs = Sqs(error)
    assert send(sqs, URL, [letter(f"m-{i}") for i in range(12)]) == {"m-10", "m-11"}
    [line] = lines(capsys.readouterr().out, "taskq.dead_letter_failed")
    assert (line["level"], line["nMessages"]) == ("ERROR", 10)


def test_an_entry_that_fails_has_not_arrived(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a request that succeeds in part, only the entries named as successful have arrived."""
    sqs = Sqs(["0", "2"])
    assert send(sqs, URL, [letter(f"m-{i}") for i in range(3)]) == {"m-0", "m-2"}
    assert [line["code"] for line in lines(capsys.readouterr().out, "taskq.dead_letter_failed")] == ["InternalError"]


def test_a_letter_over_the_limit_goes_with_what_fits() -> None:
    """Where body and attributes are over 1 MiB together, the ticket of a redrive goes along, or else the body alone."""
    largest, large, small = (
        letter(name, body="x" * (MAX_BODY_BYTES - n)) for name, n in [("a", 10), ("b", 90), ("c", 900)]
    )
    assert largest.size > large.size > MAX_BODY_BYTES
    assert largest.fitting_attributes == {}
    assert large.fitting_attributes.keys() == {"reason", "lastAt"}
    assert small.fitting_attributes == small.attributes


@pytest.mark.parametrize("queue", [URL, f"{URL}.fifo"])
def test_a_letter_keeps_its_message_group(queue: str) -> None:
    """The task's group goes as an attribute; on a FIFO queue each letter is a group of its own, and has an id."""
    sqs = Sqs()
    grouped, plain = letter("m-1", group="tenant"), letter("m-2")
    send(sqs, queue, [grouped, plain])
    [entries] = sqs.batches
    assert [entry["MessageAttributes"].get("messageGroup", {}).get("StringValue") for entry in entries] == [
        "tenant",
        None,
    ]
    is_fifo = queue.endswith(".fifo")
    assert [entry.get("MessageGroupId") for entry in entries] == (["m-1", "m-2"] if is_fifo else [None, None])
    ids = [entry.get("MessageDeduplicationId") for entry in entries]
    assert ids == (["m-1-1800000060500", "m-2-1800000060500"] if is_fifo else [None, None])


def test_another_death_is_another_letter() -> None:
    """SQS drops a letter that is sent twice, not that of a later death of the same message, nor of a redriven one."""
    sqs = Sqs()
    letters = [letter("m"), letter("m"), letter("m", last_at=1_800_000_060.501), letter("redriven")]
    send(sqs, f"{URL}.fifo", letters)
    ids = [entry["MessageDeduplicationId"] for batch in sqs.batches for entry in batch]
    assert len(set(ids)) == 3
    assert ids[0] == ids[1]
