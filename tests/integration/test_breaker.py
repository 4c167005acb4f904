"""The circuit breaker: it opens on a rate, holds back without an attempt, probes, and closes; shared by all workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from taskq_lib.aws.stack import Stack
from taskq_worker import batch, breaker, contract
from taskq_worker.breaker import MAX_TRANSITIONS, Breakers, Memory
from taskq_worker.contract import TaskContext, TaskError, breaker_key, register
from taskq_worker.partiql import Table
from taskq_worker.settings import BreakerSettings
from tests.integration.function import Function
from tests.unit.events import deliveries, ids, lines, task

pytestmark = pytest.mark.integration

Item = Callable[[str], dict[str, Any]]


class Clock:
    """The breaker's clock, set by the test."""

    def __init__(self) -> None:
        """Begin now, at the start of a window of 60 s."""
        self.now = 60.0 * (time.time() // 60)

    def time(self) -> float:
        """Return the time, Unix seconds."""
        return self.now


class Dependency:
    """What tasks of one type need: it works or it is down."""

    def __init__(self, kind: str) -> None:
        """Register the type `kind`, whose tasks use the dependency."""
        self.kind, self.is_down, self.n_uses = kind, False, 0
        self.error: dict[str, Any] = {}

        @register(kind)
        def use(context: TaskContext) -> dict[str, Any]:  # noqa: ARG001 - every task type takes one
            self.n_uses += 1
            if self.is_down:
                raise TaskError("the dependency is down", **self.error)
            return {}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every breaker in this process."""
    made = Clock()
    monkeypatch.setattr(breaker, "time", SimpleNamespace(time=made.time))
    return made


@pytest.fixture
def dependency(monkeypatch: pytest.MonkeyPatch, run_id: str) -> Dependency:
    """A dependency and a task type of this test's own."""
    monkeypatch.setattr(contract, "_TYPES", dict(contract._TYPES))
    return Dependency(f"OWN_{run_id}")


@pytest.fixture
def live(function: Function) -> Function:
    """The function with its breakers on: half of at least four attempts."""
    function.set(TASKQ_BREAKER_FAILURE_PERCENT="50", TASKQ_BREAKER_MINIMUM_TASKS="4", TASKQ_MAX_ATTEMPTS="9")
    return function


class Caller:
    """Sends batches of one type through the function, each under ids of its own."""

    def __init__(self, function: Function, dependency: Dependency, run_id: str) -> None:
        """Count ids from 0."""
        self.function, self.kind, self.run_id, self.n = function, dependency.kind, run_id, 0

    def batch(self, n_tasks: int = 5) -> tuple[list[str], list[str]]:
        """Run a batch of fresh tasks; returns their ids, and the message ids that come again."""
        tasks = [task(f"{self.run_id}-{self.n + i}", type=self.kind) for i in range(n_tasks)]
        self.n += n_tasks
        come_again = self.function.run(self.function.send(*tasks))
        # Retries would mix with the next batch; what they do is not the question here.
        self.function.sqs.purge_queue(QueueUrl=self.function.queue)
        return [one.task_id for one in tasks], come_again


@pytest.fixture
def caller(live: Function, dependency: Dependency, run_id: str) -> Caller:
    """Send batches of the test's own type."""
    return Caller(live, dependency, run_id)


def opened(caller: Caller, dependency: Dependency, clock: Clock) -> None:
    """Let the dependency go down and the breaker notice."""
    dependency.is_down = True
    for _ in range(4):
        caller.batch()
        clock.now += 2


def test_a_healthy_batch_keeps_to_two_requests(live: Function, clock: Clock, caller: Caller) -> None:
    """While a breaker is closed, what it reports and asks travels with the claims: always."""
    for _ in range(10):
        live.calls.clear()
        caller.batch()
        assert len(live.requests("BatchExecuteStatement")) == 2
        assert {name for name, _ in live.calls} <= {"BatchExecuteStatement", "SendMessage", "ReceiveMessage"}
        clock.now += 7


def test_it_opens_on_a_rate_over_a_minimum(
    clock: Clock, caller: Caller, dependency: Dependency, item: Item, capsys: pytest.CaptureFixture[str]
) -> None:
    """Enough failures in a window open the breaker, in the item and in the log; the counts are those that it saw."""
    opened(caller, dependency, clock)
    found = item(breaker_key(dependency.kind))
    assert (found["state"], found["probeAt"] > clock.now - 8) == ("open", True)
    [_closed, change] = found["transitions"]
    assert (change["state"], change["n"] >= 4, change["failed"]) == ("open", True, change["n"])
    [line] = lines(capsys.readouterr().out, "taskq.breaker_opened")
    assert (line["taskType"], line["nFailed"]) == (dependency.kind, change["failed"])


def test_few_failures_say_nothing(clock: Clock, caller: Caller, dependency: Dependency, item: Item) -> None:
    """Failures below the minimum in each window leave the breaker closed, however many windows there are."""
    dependency.is_down = True
    for _ in range(6):
        caller.batch(n_tasks=1)
        clock.now += 60
    assert item(breaker_key(dependency.kind))["state"] == "closed"


def test_a_rate_below_the_threshold_says_nothing(
    clock: Clock, caller: Caller, dependency: Dependency, item: Item
) -> None:
    """A type of which two in five attempts fail keeps running, where half would open it."""
    for _ in range(6):
        dependency.is_down = True
        caller.batch(n_tasks=2)
        dependency.is_down = False
        caller.batch(n_tasks=3)
        caller.batch(n_tasks=1)
        clock.now += 6
    assert item(breaker_key(dependency.kind))["state"] == "closed"


def test_failed_retries_do_not_count(
    live: Function, clock: Clock, dependency: Dependency, item: Item, run_id: str
) -> None:
    """Where only tasks are left that have failed before, their breaker stays closed: they are what is broken."""
    dependency.is_down = True
    tasks = [task(f"{run_id}-{i}", type=dependency.kind) for i in range(3)]
    delivered = live.send(*tasks)
    for _ in range(8):
        live.run(delivered)
        clock.now += 2
    assert {item(one.task_id)["attempts"] for one in tasks} == {8}
    assert item(breaker_key(dependency.kind))["state"] == "closed"


def test_errors_of_the_task_alone_do_not_count(
    clock: Clock, caller: Caller, dependency: Dependency, item: Item
) -> None:
    """Errors that no retry can mend blame the task; they open no breaker."""
    dependency.error = {"retryable": False}
    opened(caller, dependency, clock)
    found = item(breaker_key(dependency.kind))
    assert (found["state"], found["failed"]) == ("closed", 0)


def test_an_open_breaker_holds_back_without_an_attempt(
    live: Function, clock: Clock, caller: Caller, dependency: Dependency, item: Item,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """While it is open, tasks of the type are not claimed and not run; they come again later, and others run."""
    opened(caller, dependency, clock)
    n_uses = dependency.n_uses
    live.calls.clear()
    capsys.readouterr()
    other = task(f"{caller.run_id}-other")
    held = [task(f"{caller.run_id}-held-{i}", type=dependency.kind) for i in range(3)]
    delivered = live.send(*held, other)
    again = ids(batch.handle_batch(delivered, SimpleContext()))
    assert again == sorted(record["messageId"] for record in delivered["Records"][:3])
    assert dependency.n_uses == n_uses
    assert [item(one.task_id) for one in held] == [None] * 3
    assert item(other.task_id)["status"] == "COMPLETED"
    [request] = live.requests("ChangeMessageVisibilityBatch")
    assert all(20 <= entry["VisibilityTimeout"] <= 66 for entry in request["Entries"])
    [line] = lines(capsys.readouterr().out, "taskq.held_back")
    assert (line["taskType"], line["nTasks"]) == (dependency.kind, 3)


def test_a_new_worker_gives_its_first_claims_back(
    clock: Clock, caller: Caller, dependency: Dependency, item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has not heard of the open breaker hears of it with its claims, and gives the attempts back."""
    opened(caller, dependency, clock)
    n_uses = dependency.n_uses
    monkeypatch.setattr(batch, "_memory", Memory())
    task_ids, again = caller.batch()
    assert (len(again), dependency.n_uses) == (5, n_uses)
    assert {(item(task_id)["status"], item(task_id)["attempts"]) for task_id in task_ids} == {("FAILED", 0)}
    dependency.is_down = False
    clock.now += 31
    assert len(caller.batch()[1]) == 4
    assert item(breaker_key(dependency.kind))["state"] == "closed"


def test_a_probe_that_completes_closes_it(
    clock: Clock, caller: Caller, dependency: Dependency, item: Item, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the cooldown one task runs as a probe; it completes, and all run again. Both changes are told."""
    opened(caller, dependency, clock)
    dependency.is_down, n_uses = False, dependency.n_uses
    clock.now += 31
    assert len(caller.batch()[1]) == 4
    assert dependency.n_uses == n_uses + 1
    found = item(breaker_key(dependency.kind))
    assert (found["state"], found["n"], found["failed"]) == ("closed", 0, 0)
    assert not found.keys() & {"probeAt", "probeBy"}
    assert [change["state"] for change in found["transitions"]] == ["closed", "open", "half_open", "closed"]
    output = capsys.readouterr().out
    assert len(lines(output, "taskq.breaker_half_open")) == len(lines(output, "taskq.breaker_closed")) == 1
    assert caller.batch()[1] == []


def test_a_probe_that_fails_opens_it_again(clock: Clock, caller: Caller, dependency: Dependency, item: Item) -> None:
    """A failed probe costs one task one attempt and keeps the breaker open for another cooldown."""
    opened(caller, dependency, clock)
    for _ in range(3):
        n_uses = dependency.n_uses
        clock.now += 31
        assert len(caller.batch()[1]) == 5
        assert dependency.n_uses == n_uses + 1
        found = item(breaker_key(dependency.kind))
        assert (found["state"], found["probeAt"]) == ("open", pytest.approx(clock.now + 30, abs=0.01))


def test_a_probe_that_says_nothing_leaves_its_turn(
    clock: Clock, caller: Caller, dependency: Dependency, item: Item
) -> None:
    """A probe whose task turns out to be done already, or broken by itself, lets the next one probe at once."""
    done, _ = caller.batch(n_tasks=1)
    opened(caller, dependency, clock)
    clock.now += 31
    assert caller.function.run(caller.function.send(task(done[0], type=dependency.kind))) == []
    assert item(breaker_key(dependency.kind))["probeAt"] == pytest.approx(clock.now, abs=0.01)
    dependency.is_down = False
    clock.now += 1
    assert caller.batch(n_tasks=1)[1] == []
    assert item(breaker_key(dependency.kind))["state"] == "closed"


def test_one_of_many_workers_probes(stack: Stack, clock: Clock, dependency: Dependency, run_id: str) -> None:
    """Of workers that ask at the same time one gets the probe; where it dies, another takes over after its lease."""
    settings = BreakerSettings(failure_percent=50, minimum_tasks=1, window_s=60, cooldown_s=30)
    sql = Table(client=stack.target.client("dynamodb"), name=stack.table)

    def worker(name: str, memory: Memory) -> Breakers:
        return Breakers(sql=sql, settings=settings, request_id=name, lease_until=clock.now + 5, memory=memory)

    sql.execute([sql.insert({
        "taskId": breaker_key(dependency.kind), "state": "open", "window": 0, "n": 0, "failed": 0, "transitions": [],
        "probeAt": clock.now - 1,
    })])  # fmt: skip
    memories = [Memory() for _ in range(4)]
    for i, memory in enumerate(memories):
        first = worker(f"{run_id}-{i}", memory)
        sql_statements = first.reports([dependency.kind])
        first.hear(sql.execute(sql_statements))
        assert first.holds(dependency.kind)
    delivered = deliveries(*(task(f"{run_id}-{i}", type=dependency.kind) for i in range(3)))
    n_admitted = [len(worker(f"{run_id}-{i}", memory).admit(delivered)[0]) for i, memory in enumerate(memories)]
    assert n_admitted == [1, 0, 0, 0]
    clock.now += 6
    n_admitted = [len(worker(f"{run_id}-{i}b", memory).admit(delivered)[0]) for i, memory in enumerate(memories)]
    assert n_admitted == [1, 0, 0, 0]


def test_the_item_forgets_old_changes(clock: Clock, caller: Caller, dependency: Dependency, item: Item) -> None:
    """A dependency that is down for long leaves the last changes of state, so the item stays small."""
    opened(caller, dependency, clock)
    for _ in range(MAX_TRANSITIONS):
        clock.now += 31
        caller.batch(n_tasks=1)
    assert len(item(breaker_key(dependency.kind))["transitions"]) == MAX_TRANSITIONS


@pytest.mark.parametrize(("before", "after"), [("60", "3600"), ("3600", "60")])
def test_another_window_length_is_taken_up(
    clock: Clock, caller: Caller, dependency: Dependency, item: Item, before: str, after: str
) -> None:
    """Where the length of the window is changed, the breaker counts on within one new window."""
    caller.function.set(TASKQ_BREAKER_WINDOW_S=before)
    for _ in range(3):
        caller.batch()
        clock.now += 6
    caller.function.set(TASKQ_BREAKER_WINDOW_S=after)
    clock.now += float(after)
    opened(caller, dependency, clock)
    assert item(breaker_key(dependency.kind))["state"] == "open"


def test_the_probe_is_the_task_that_came_least_often(
    clock: Clock, caller: Caller, dependency: Dependency, item: Item
) -> None:
    """Of several tasks that wait the freshest probes: one that has failed before may be what is broken."""
    opened(caller, dependency, clock)
    dependency.is_down = False
    clock.now += 31
    old, fresh = (task(f"{caller.run_id}-{name}", type=dependency.kind) for name in ("old", "fresh"))
    delivered = caller.function.send(old, fresh)
    [record] = [record for record in delivered["Records"] if old.task_id in record["body"]]
    record["attributes"]["ApproximateReceiveCount"] = "7"
    caller.function.run(delivered)
    assert item(old.task_id) is None
    assert item(fresh.task_id)["status"] == "COMPLETED"


def test_a_suspect_may_probe(
    live: Function, clock: Clock, caller: Caller, dependency: Dependency, worker: Any, item: Item
) -> None:
    """Where only tasks are left that vanished before, one of them probes, and its outcome closes the breaker."""
    suspect = task(f"{caller.run_id}-suspect", type=dependency.kind)
    worker("vanished").claim(deliveries(suspect), round(time.time() - 1, 3))
    opened(caller, dependency, clock)
    dependency.is_down = False
    clock.now += 31
    assert live.run(live.send(suspect)) == []
    assert item(suspect.task_id)["status"] == "COMPLETED"
    assert item(breaker_key(dependency.kind))["state"] == "closed"


def test_what_waits_long_uses_few_receives(stack: Stack, clock: Clock, dependency: Dependency) -> None:
    """The wait grows with each receive up to five minutes, so that its receives last for hours."""
    settings = BreakerSettings(failure_percent=50, minimum_tasks=1, window_s=60, cooldown_s=30)
    sql = Table(client=stack.target.client("dynamodb"), name=stack.table)
    one = Breakers(sql=sql, settings=settings, request_id="r", lease_until=0, memory=Memory())
    [delivery] = deliveries(task("a", type=dependency.kind))
    found = {"state": "open", "window": 0, "n": 0, "failed": 0, "transitions": [], "probeAt": clock.now}
    one._learn(dependency.kind, found)
    waits = [
        sum(one.wait_s(replace(delivery, record=replace(delivery.record, receive_count=n))) for _ in range(200)) / 200
        for n in (1, 2, 4, 99)
    ]
    assert waits == pytest.approx([15, 30, 120, 150], rel=0.25)


def test_zero_turns_it_off(clock: Clock, caller: Caller, dependency: Dependency, item: Item) -> None:
    """With a percentage of 0 nothing is counted, asked or held back."""
    caller.function.set(TASKQ_BREAKER_FAILURE_PERCENT="0")
    opened(caller, dependency, clock)
    assert dependency.n_uses == 20
    assert item(breaker_key(dependency.kind)) is None


@pytest.mark.parametrize("broken", [{"state": "unheard of"}, {}, {"state": "open"}, {"window": "x"}])
def test_an_item_that_cannot_be_read_stops_no_work(
    stack: Stack, caller: Caller, dependency: Dependency, broken: dict[str, str]
) -> None:
    """An item of somebody else under the breaker's key is reported, and the tasks run."""
    found = {"taskId": breaker_key(dependency.kind), **broken}
    stack.target.client("dynamodb").put_item(TableName=stack.table, Item={n: {"S": v} for n, v in found.items()})
    for _ in range(3):
        assert caller.batch()[1] == []


class SimpleContext:
    """A Lambda context with half a minute left."""

    aws_request_id = "simple"

    def get_remaining_time_in_millis(self) -> int:
        """Return half a minute."""
        return 30_000
