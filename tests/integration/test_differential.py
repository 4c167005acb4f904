"""The batch loop against Powertools' BatchProcessor on the same events: both name the same records, but for two rules.

1. What the function dead-letters has ended, so it is not named: an invalid message, an error that says that another
   attempt cannot help, the last attempt. Powertools has no dead letters: it names them until SQS moves them.
2. Of several records of one task in an event the function works on the first and names no other; Powertools works on
   each of them.

And where all records of an event fail, Powertools raises unless it is told not to; the function never does.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType
from aws_lambda_powertools.utilities.batch.exceptions import BatchProcessingError
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from botocore.config import Config
from hypothesis import settings

from taskq_worker import batch
from taskq_worker.contract import Task
from tests.integration.function import Function
from tests.unit.events import Context, record, task

pytestmark = pytest.mark.integration

N_EVENTS = 10 * settings().max_examples
SEED = 20_261_124
MAX_ATTEMPTS = 3
ALWAYS, ONCE = {"fail_attempts": -1}, {"fail_attempts": 1}

#: Every kind of record, and whether the record handler of Powertools raises for it, so that Powertools names it.
FAILS = {
    "completes": False,
    "was completed before": False,
    "fails": True,
    "invalid": True,
    "final error": True,
    "last attempt": True,
    "twin that completes": False,
    "twin that fails": True,
}
#: Rule 1: what the function dead-letters.
BURIED = {"invalid", "final error", "last attempt"}
#: Rule 2: what the function leaves to the first record of the same task.
TWINS = {"twin that completes", "twin that fails"}


@dataclass
class Plan:
    """Makes events of fresh messages and of those that earlier events left to come again."""

    run_id: str
    rng: random.Random
    n_tasks: int = 0
    again: list[tuple[Task, int]] = field(default_factory=list)  #: Failed tasks, and which attempt comes next
    done: list[Task] = field(default_factory=list)  #: Completed tasks: SQS may deliver any of them once more

    def event(self) -> list[tuple[dict[str, Any], str]]:
        """Make the records of one event, each with its kind; no two tasks are the same but for twins."""
        records: dict[str, list[tuple[dict[str, Any], str]]] = {}
        for number in range(self.rng.choice([1, 1, 1, 2, 2, 3, 8])):
            kind, body, task_id = self._message(taken=records.keys())
            records[task_id or f"invalid {number}"] = [(record(body), kind)]
            if task_id and self.rng.random() < 0.1:
                fails = self.rng.random() < 0.5
                twin = task(task_id, simulate=ALWAYS if fails else None)
                records[task_id].append((record(twin.to_body()), f"twin that {'fails' if fails else 'completes'}"))
        return [one for same_task in records.values() for one in same_task]

    def _message(self, taken: Any) -> tuple[str, str, str | None]:
        """Make one message; returns its kind, its body and its task's id."""
        choice = self.rng.choice(["fresh", "fresh", "failing", "again", "again", "done", "final", "invalid"])
        if choice == "invalid":
            bodies = ["{", "[]", json.dumps({"task_id": f"{self.run_id}-x"}), task("y").to_body()[:-1]]
            return "invalid", self.rng.choice(bodies), None
        if choice == "done" and self.done and (one := self.rng.choice(self.done)).task_id not in taken:
            return "was completed before", one.to_body(), one.task_id
        if choice == "again" and self.again and self.again[0][0].task_id not in taken:
            return self._attempt(*self.again.pop(0))
        self.n_tasks += 1
        simulate = {"failing": self.rng.choice([ALWAYS, ONCE]), "final": ALWAYS | {"retryable": False}}.get(choice)
        return self._attempt(task(f"{self.run_id}-{self.n_tasks}", simulate=simulate), 1)

    def _attempt(self, one: Task, attempt: int) -> tuple[str, str, str]:
        """Make attempt number `attempt` at a task, and remember what it leaves."""
        kind = "completes"
        if one.simulate.fails(attempt):
            kind = "fails" if attempt < MAX_ATTEMPTS else "last attempt"
            kind = kind if one.simulate.retryable else "final error"
        if kind == "fails":
            self.again.append((one, attempt + 1))
        elif kind == "completes":
            self.done.append(one)
        return kind, one.to_body(), one.task_id


def powertools(event: dict[str, Any], fails: dict[str, bool], *, may_raise: bool) -> set[str]:
    """Have Powertools process an event with a record handler that raises where `fails` says so; returns the names."""

    def handle(record: SQSRecord) -> None:
        if fails[record.message_id]:
            raise ValueError(record.body)

    processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=may_raise)
    with processor(records=event["Records"], handler=handle):
        processor.process()
    return names(processor.response())


def names(response: Any) -> set[str]:
    """Return the message ids that a partial batch response names."""
    return {failure["itemIdentifier"] for failure in response["batchItemFailures"]}


def dead_letters(function: Function) -> Iterator[str]:
    """Receive all dead letters; gives their bodies."""
    hidden = {"VisibilityTimeout": "3600"}
    function.sqs.set_queue_attributes(QueueUrl=function.dead, Attributes=hidden)
    while found := function.sqs.receive_message(QueueUrl=function.dead, MaxNumberOfMessages=10).get("Messages"):
        yield from (message["Body"] for message in found)


def test_the_same_records_come_again_as_with_powertools(function: Function, run_id: str) -> None:
    """In hundreds of events, or thousands, both name the same records, except what the function buries, and twins."""
    function.set(TASKQ_MAX_ATTEMPTS=str(MAX_ATTEMPTS))
    # As it is deployed; validating every request took a tenth of this test's time.
    function.patch.setattr(batch, "_CONFIG", batch._CONFIG.merge(Config(parameter_validation=False)))
    function.forget()
    plan = Plan(run_id, random.Random(SEED))  # noqa: S311 - to be repeated, not to be secret
    seen, buried, n_all_failed = Counter[str](), Counter[str](), 0
    for number in range(N_EVENTS):
        records = plan.event()
        event, kinds = {"Records": [one for one, _ in records]}, {one["messageId"]: kind for one, kind in records}
        fails = {message_id: FAILS[kind] for message_id, kind in kinds.items()}
        theirs = powertools(event, fails, may_raise=False)
        ours = names(batch.handle_batch(event, Context()))
        allowed = {message_id for message_id, kind in kinds.items() if kind in BURIED | TWINS}
        assert ours == theirs - allowed, (number, kinds)
        seen.update(kinds.values())
        buried.update(one["body"] for one, kind in records if kind in BURIED)
        if all(fails.values()):
            n_all_failed += 1
            with pytest.raises(BatchProcessingError):
                powertools(event, fails, may_raise=True)
    assert seen.keys() == FAILS.keys()
    assert min(*seen.values(), n_all_failed) > N_EVENTS / 20
    assert Counter(dead_letters(function)) == buried
