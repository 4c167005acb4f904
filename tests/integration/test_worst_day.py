"""The worst day on the real engine: a task that kills its worker, and a dependency that fails everything at first."""

import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import pytest

from taskq_lib.aws import breakers, queues, status, submit
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from tests.unit.events import task

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def own(target: Target) -> Iterator[Stack]:
    """A stack of this module's own: a kill costs six seconds, retries come at once, and breakers are quick."""
    parameters = {"FunctionTimeoutSeconds": 5, "VisibilityTimeoutSeconds": 6, "RetryBaseSeconds": 0}
    parameters |= {"BreakerMinimumTasks": 5, "BreakerCooldownSeconds": 1}
    made = stacks.deploy(target, "worst-day", parameters, progress=lambda _status: None)
    yield made
    stacks.delete(made, delete_table=True, progress=lambda _status: None)


def items(stack: Stack, task_ids: list[str]) -> dict[str, dict[Hashable, Any]]:
    """Return the rows of these tasks, by id."""
    found = status.get(stack, task_ids).tasks
    return {str(row["task_id"]): row for row in found.to_dict("records")}


def test_a_task_that_kills_its_worker_is_dead_lettered_and_its_neighbours_complete(own: Stack, run_id: str) -> None:
    """A poison message uses an attempt at each claim and ends with its budget; its batch is not blocked by it."""
    poison = task(f"{run_id}-poison", simulate={"crash_attempts": -1})
    neighbours = [task(f"{run_id}-{i}") for i in range(6)]
    entries = [{"Id": str(i), "MessageBody": one.to_body()} for i, one in enumerate([poison, *neighbours])]
    own.target.client("sqs").send_message_batch(QueueUrl=own.queue_url, Entries=entries)
    task_ids = [one.task_id for one in [poison, *neighbours]]
    assert status.wait(own, task_ids, timeout_s=90, progress=False).why == "all final"
    found = items(own, task_ids)
    dead = found.pop(poison.task_id)
    assert (dead["state"], dead["reason"], dead["error_type"]) == ("dead_lettered", "max_attempts", "WorkerLost")
    assert dead["n_attempts"] == 3
    assert {row["state"] for row in found.values()} == {"completed"}
    # Killed beside the poison once; never claimed with it again.
    assert max(row["n_attempts"] for row in found.values()) <= 2
    [letter] = queues.dead_letters(own).to_dict("records")
    assert (letter["task_id"], letter["reason"], letter["error_type"]) == (poison.task_id, "max_attempts", "WorkerLost")


def test_a_breaker_spares_the_attempts_of_what_waits(own: Stack, run_id: str) -> None:
    """Where every task fails once, the breaker of its type opens, holds the rest back, probes and closes again."""
    tasks = [task(f"{run_id}-{i}", simulate={"fail_attempts": 1, "seconds": 1.0}) for i in range(20)]
    for one in tasks:
        submit.send_one(own, one)
    task_ids = [one.task_id for one in tasks]
    # What is held back waits a random time that doubles with each receive: on a busy machine, minutes.
    assert status.wait(own, task_ids, timeout_s=400, progress=False).why == "all final"
    found = items(own, task_ids)
    assert {(row["state"], row["n_attempts"]) for row in found.values()} == {("completed", 2)}
    wait_until(lambda: queues.counts(own).n_unsettled == 0)
    told = breakers.read(own)
    assert {"open", "half_open"} <= set(told.transitions["state"])
    assert told.transitions["at"].is_monotonic_increasing
    [current] = told.current.to_dict("records")
    assert current["task_type"] == "SEND_EMAIL"
    opened = told.transitions[(told.transitions["state"] == "open") & told.transitions["n_attempts"].notna()].iloc[0]
    assert opened["n_attempts"] >= 5
    assert 2 * opened["n_failed"] >= opened["n_attempts"]


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait up to 20 s until `holds()`."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
