"""The inventory of the dead-letter queue: who moved each letter, and that all of them show again."""

from typing import Any

import pandas as pd
import pytest
from botocore.exceptions import ClientError

from taskq_lib.aws import queues
from tests.unit.sqs import Sqs, bodies, stack

DIED = {
    "reason": {"DataType": "String", "StringValue": "max_attempts"},
    "errorType": {"DataType": "String", "StringValue": "Broken"},
    "error": {"DataType": "String", "StringValue": "it broke"},
    "attempts": {"DataType": "Number", "StringValue": "3"},
    "firstAt": {"DataType": "String", "StringValue": "2026-11-24T01:00:00.000+00:00"},
    "lastAt": {"DataType": "String", "StringValue": "2026-11-24T02:00:00.000+00:00"},
}


def test_what_sqs_moved_is_told_by_sqs() -> None:
    """A redriven letter that SQS moves keeps the ticket of its old death, and nothing else that it says counts."""
    sqs = Sqs(*bodies(2), attributes=DIED)
    sqs.moved = {"m1"}
    found = queues.dead_letters(stack(sqs)).set_index("message_id")
    assert found["reason"].to_dict() == {"m0": "max_attempts", "m1": "receive_limit"}
    of_old_death = ["error_type", "error", "n_attempts", "first_at", "last_at"]
    assert found.loc["m0", of_old_death].notna().all()
    assert found.loc["m1", of_old_death].isna().all()
    assert (found["ticket_at"] == pd.Timestamp("2026-11-24T02:00:00Z")).all()


def test_a_message_without_a_ticket_has_none() -> None:
    """What a producer calls lastAt is no ticket where no reason is attached."""
    sqs = Sqs(*bodies(1), attributes={"lastAt": DIED["lastAt"]})
    assert queues.dead_letters(stack(sqs))["ticket_at"].isna().all()


def test_letters_show_again_though_a_request_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the request for ten letters fails, the others show again all the same."""
    sqs = Sqs(*bodies(35))
    show = sqs.change_message_visibility_batch
    failed: list[dict[str, Any]] = []

    def refused(**given: Any) -> None:
        if not failed:
            failed.append(given)
            raise ClientError({"Error": {"Code": "ServiceUnavailable"}}, "ChangeMessageVisibilityBatch")
        show(**given)

    monkeypatch.setattr(sqs, "change_message_visibility_batch", refused)
    assert len(queues.dead_letters(stack(sqs))) == 35
    assert len(sqs.hidden) == len(failed[0]["Entries"]) == 10


def test_the_hidden_letters_are_counted() -> None:
    """Of the dead letters, those that some reader has hidden are counted as well."""
    sqs = Sqs(*bodies(3))
    sqs.hidden = {"theirs": "m1"}
    found = queues.counts(stack(sqs))
    assert (found.n_dead, found.n_dead_hidden, found.n_unsettled) == (3, 1, 0)
