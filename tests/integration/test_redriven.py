"""A dead letter that is sent back to the queue reopens its task: once, with its whole budget, and nothing forgotten."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from taskq_worker.store import StatusStore
from tests.integration.function import Function
from tests.unit.events import lines, task

pytestmark = pytest.mark.integration

Item = Callable[[str], dict[str, Any]]
Workers = Callable[..., StatusStore]

#: Fails for good at its first attempt.
HOPELESS = {"fail_attempts": 1, "retryable": False, "error": "CorruptInput"}


def die(function: Function, task_id: str, **simulate: Any) -> str:
    """Let a task fail for good; returns its body."""
    body = task(task_id, simulate=HOPELESS | simulate).to_body()
    assert function.run(function.send(body)) == []
    return body


def mended(body: str) -> str:
    """Return the body of a task that now completes."""
    fields = json.loads(body)
    del fields["data"]["simulate"]
    return json.dumps(fields)


def redrive_mended(function: Function) -> None:
    """Send the dead letters back with their bodies mended and their attributes unchanged."""
    for message in function._take(function.dead, MessageAttributeNames=["All"]):
        attributes = message["MessageAttributes"]
        function.sqs.send_message(
            QueueUrl=function.queue, MessageBody=mended(message["Body"]), MessageAttributes=attributes
        )
        function.sqs.delete_message(QueueUrl=function.dead, ReceiptHandle=message["ReceiptHandle"])


def test_a_redriven_task_begins_again(
    function: Function, item: Item, run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mended dead letter completes its task; the item says that it was redriven and keeps the first life's log."""
    die(function, f"{run_id}-a")
    dead = item(f"{run_id}-a")
    redrive_mended(function)
    assert function.run(function.receive()) == []
    found = item(f"{run_id}-a")
    assert (found["status"], found["attempts"], found["redrives"]) == ("COMPLETED", 1, 1)
    assert not found.keys() & {"deadLettered", "reason", "error", "errorType", "leaseUntil"}
    assert found["attemptLog"][0] == dead["attemptLog"][0]
    assert (found["attemptLog"][1]["outcome"], found["attemptLog"][1]["redrive"]) == ("completed", 1)
    assert (found["startedAt"], found["sentAt"]) == (dead["startedAt"], dead["sentAt"])
    [line] = lines(capsys.readouterr().out, "taskq.redriven")
    assert (line["taskId"], line["verdict"]) == (f"{run_id}-a", "claimed")


def test_a_redriven_task_has_its_whole_budget(function: Function, item: Item, run_id: str) -> None:
    """Attempts are counted anew after a redrive, so a task that used up its budget has all of it again."""
    sent = task(f"{run_id}-a", simulate={"fail_attempts": -1, "error": "DependencyDown"})
    delivered = function.send(sent)
    for _ in range(3):
        function.run(delivered)
    function.sqs.purge_queue(QueueUrl=function.queue)
    assert item(sent.task_id)["reason"] == "max_attempts"
    function.redrive()
    delivered = function.receive()
    for n_attempts in (1, 2, 3):
        come_again = function.run(delivered)
        found = item(sent.task_id)
        assert (found["attempts"], bool(come_again)) == (n_attempts, n_attempts < 3)
    assert (found["status"], found["reason"], found["redrives"]) == ("FAILED", "max_attempts", 1)
    assert [entry.get("redrive", 0) for entry in found["attemptLog"]] == [0, 0, 0, 1, 1, 1]


def test_a_dead_letter_reopens_its_task_once(function: Function, item: Item, run_id: str) -> None:
    """A dead letter that is sent back twice is one redrive; the second message is a duplicate delivery."""
    die(function, f"{run_id}-a")
    [message] = function._take(function.dead, MessageAttributeNames=["All"])
    for _ in range(2):
        function.sqs.send_message(
            QueueUrl=function.queue,
            MessageBody=mended(message["Body"]),
            MessageAttributes=message["MessageAttributes"],
        )
    first, second = function.receive()["Records"]
    assert function.run({"Records": [first]}) == []
    assert function.run({"Records": [second]}) == []
    found = item(f"{run_id}-a")
    assert (found["status"], found["attempts"], found["redrives"], found["duplicates"]) == ("COMPLETED", 1, 1, 1)


def test_an_old_dead_letter_cannot_reopen_a_later_death(function: Function, item: Item, run_id: str) -> None:
    """The second copy of a dead letter does nothing to a task that has died again since."""
    die(function, f"{run_id}-a")
    [message] = function._take(function.dead, MessageAttributeNames=["All"])
    for _ in range(2):
        function.sqs.send_message(
            QueueUrl=function.queue, MessageBody=message["Body"], MessageAttributes=message["MessageAttributes"]
        )
    first, second = function.receive()["Records"]
    assert function.run({"Records": [first]}) == []
    died_again = item(f"{run_id}-a")
    assert (died_again["deadLettered"], died_again["redrives"]) == (True, 1)
    assert function.run({"Records": [second]}) == []
    assert item(f"{run_id}-a") == died_again | {"duplicates": 1}


def test_a_message_without_a_ticket_reopens_nothing(function: Function, item: Item, run_id: str) -> None:
    """A producer that sends a dead task's message again gets a duplicate delivery, not another life."""
    body = die(function, f"{run_id}-a")
    dead = item(f"{run_id}-a")
    assert function.run(function.send(mended(body))) == []
    assert item(f"{run_id}-a") == dead | {"duplicates": 1}


@pytest.mark.parametrize("last_at", ["", "yesterday", "9" * 400, "2026-01-01T00:00:00+00:00"])
def test_a_forged_ticket_reopens_nothing(function: Function, item: Item, run_id: str, last_at: str) -> None:
    """Attributes that are no time, or a time before the task's death, are none that the function has attached."""
    body = die(function, f"{run_id}-a")
    attributes = {"reason": {"stringValue": "max_attempts"}, "lastAt": {"stringValue": last_at}}
    delivered = function.send(mended(body))
    delivered["Records"][0]["messageAttributes"] = attributes
    assert function.run(delivered) == []
    assert item(f"{run_id}-a")["deadLettered"]


def test_a_completed_task_is_never_reopened(function: Function, item: Item, run_id: str) -> None:
    """A stale dead letter of a task that has completed since is a duplicate delivery."""
    die(function, f"{run_id}-a")
    [message] = function._take(function.dead, MessageAttributeNames=["All"])
    for body in (mended(message["Body"]), message["Body"]):
        function.sqs.send_message(
            QueueUrl=function.queue, MessageBody=body, MessageAttributes=message["MessageAttributes"]
        )
        assert function.run(function.receive()) == []
    found = item(f"{run_id}-a")
    assert (found["status"], found["redrives"], found["duplicates"]) == ("COMPLETED", 1, 1)


def test_a_lost_answer_to_a_redrive_is_recognised(function: Function, item: Item, run_id: str) -> None:
    """A reopening whose answer got lost is asked for again by the SDK, and is found to be ours."""
    die(function, f"{run_id}-a")
    redrive_mended(function)
    tries = function.lose_answer(3)  # after the INSERT and the re-claim, which are refused
    assert function.run(function.receive()) == []
    found = item(f"{run_id}-a")
    assert (found["status"], found["attempts"], found["redrives"]) == ("COMPLETED", 1, 1)
    assert (tries.count(1), tries.count(2)) == (4, 1)


def test_an_invalid_message_does_not_close_its_task(function: Function, item: Item, run_id: str) -> None:
    """A valid message of an id that only an invalid one had named is its first try, and no redrive."""
    assert function.run(function.send(json.dumps({"task_id": f"{run_id}-a", "type": "SEND_EMAIL"}))) == []
    assert item(f"{run_id}-a")["reason"] == "invalid"
    sent = task(f"{run_id}-a", run_id=run_id, enqueued_at=1.8e9)
    assert function.run(function.send(sent)) == []
    found = item(f"{run_id}-a")
    assert (found["status"], found["attempts"], found["taskType"]) == ("COMPLETED", 1, "SEND_EMAIL")
    assert not found.keys() & {"deadLettered", "reason", "error", "errorType", "redrives"}
    assert found["enqueuedAt"] == 1.8e9


def test_a_mended_message_says_what_it_now_is(function: Function, item: Item, run_id: str) -> None:
    """A redriven message with another type or priority changes what the item says of its task."""
    sent = task(f"{run_id}-a", simulate=HOPELESS, priority=1, enqueued_at=1.8e9)
    assert function.run(function.send(sent)) == []
    [message] = function._take(function.dead, MessageAttributeNames=["All"])
    changed = replace(sent, type="PROCESS_DATA", data={"record_count": 1}, priority=9)
    function.sqs.send_message(
        QueueUrl=function.queue, MessageBody=changed.to_body(), MessageAttributes=message["MessageAttributes"]
    )
    assert function.run(function.receive()) == []
    found = item(sent.task_id)
    assert (found["taskType"], found["priority"], found["enqueuedAt"]) == ("PROCESS_DATA", 9, 1.8e9)
