"""The lease as a state machine: any order of claims, outcomes, lost answers and time loses no task and ends none twice.

The real store on the engine's table; time stands still but where a rule moves it. A worker is one invocation of the
function, so each has a request id of its own, and none claims twice.
"""

import random
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskq_lib.aws.stack import Stack
from taskq_worker.attributes import from_attributes
from taskq_worker.contract import Outcome, Reason
from taskq_worker.store import Claim, Result, StatusStore, Verdict
from tests.unit.events import deliveries, task

pytestmark = pytest.mark.integration

LEASE_S = 30.0
Item = dict[str, Any]
Workers = Callable[..., StatusStore]

# --- the world around the store -----------------------------------------------------------------------------------


class Clock:
    """The `time` module of the function's code, which stands still until it is moved."""

    def __init__(self) -> None:
        """Begin in 2030, so that no item has expired by the engine's clock."""
        self.now = 1.9e9

    def time(self) -> float:
        """Return the time, Unix seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Move the time by `seconds`."""
        self.now = round(self.now + seconds, 3)


class Wire:
    """The table's client behind a connection that breaks: each request meets the next of `faults`, while there are."""

    def __init__(self, client: Any) -> None:
        """Speak to the table by `client`."""
        self.client = client
        self.faults: list[str] = []

    def batch_execute_statement(self, **request: Any) -> Any:
        """Send a request as well as the fault lets it through."""
        fault = self.faults.pop(0) if self.faults else "none"
        if fault == "request lost":
            raise ConnectionClosedError(endpoint_url="the table")
        answer = self.client.batch_execute_statement(**request)
        if fault == "answer lost":
            raise ConnectionClosedError(endpoint_url="the table")
        # The SDK asks again by itself where an answer is lost; the function sees the second one alone.
        return self.client.batch_execute_statement(**request) if fault == "asked again" else answer


def read(stack: Stack, task_ids: Iterable[str]) -> dict[str, Item]:
    """Read the items of these tasks as they are at this moment; one that is not there is empty."""
    keys = [{"taskId": {"S": task_id}} for task_id in task_ids]
    wanted = {stack.table: {"Keys": keys, "ConsistentRead": True}}
    answer = stack.target.client("dynamodb").batch_get_item(RequestItems=wanted)
    found = [from_attributes(item) for item in answer["Responses"][stack.table]]
    return {key["taskId"]["S"]: {} for key in keys} | {item["taskId"]: item for item in found}


def is_final(item: Item) -> bool:
    """Whether a task has ended."""
    return item.get("status") == "COMPLETED" or item.get("deadLettered", False)


def outcome_of(claim: Claim, how: str, now: float) -> Result:
    """Make the result of a claim: completed, failed, or failed for good."""
    done = Result(claim=claim, outcome=Outcome.COMPLETED, started_at=now, finished_at=now, result="{}")
    if how == "completed":
        return done
    reason = {"failed": None, "buried": Reason.NON_RETRYABLE}[how]
    return replace(done, outcome=Outcome.FAILED, result=None, error_type="Broken", error="it broke", reason=reason)


def end_of(claim: Claim, now: float) -> Result:
    """Make the result of an exhausted claim, as the batch loop does: its last attempt failed, or was lost."""
    failed = outcome_of(claim, "failed", now)
    is_logged = len(claim.history) >= claim.attempt
    outcome = Outcome.FAILED if is_logged else Outcome.LOST
    return replace(failed, outcome=outcome, reason=Reason.MAX_ATTEMPTS, is_logged=is_logged)


def hold_item(item: Item, budget: int) -> None:
    """Hold what is true of every item at every moment."""
    outcomes = [entry["outcome"] for entry in item.get("attemptLog", [])]
    assert 0 <= item.get("attempts", 0) <= budget + 1, "one more at the most, alone"
    assert len(outcomes) <= item.get("attempts", 0)
    assert ("leaseUntil" in item) == (bool(item) and not is_final(item)), "final items, and no others, have no lease"
    assert outcomes.count("completed") == (item.get("status") == "COMPLETED")
    assert not (item.get("status") == "COMPLETED" and item.get("deadLettered")), "one end is enough"
    if is_final(item):
        assert len(outcomes) == item["attempts"]
    if item.get("reason") == "max_attempts":
        is_extra = item["attempts"] == budget + 1 == item.get("soloAttempt")
        assert item["attempts"] == budget or is_extra, "a task is given up only when its budget is spent"


# --- the machine --------------------------------------------------------------------------------------------------

FAULTS = st.lists(st.sampled_from(["none", "none", "none", "asked again", "answer lost", "request lost"]), max_size=2)
PICKS = st.integers(0, 99)
#: How much time passes before a worker's next step; with it leases run out. A claim that is left alone is a worker's
#: death.
WAITS = st.sampled_from([0, 0, LEASE_S / 2, LEASE_S, LEASE_S + 1])


@dataclass(frozen=True)
class Held:
    """What a worker knows of a task: the answer to its claim."""

    store: StatusStore
    claim: Claim

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.claim.delivery.task.task_id


class Leases(RuleBasedStateMachine):
    """Workers that claim, end, lose and forget tasks in any order; `items` is the table as it was seen last."""

    stack: Stack
    clock: Clock

    @initialize(n_tasks=st.integers(1, 2), budget=st.integers(1, 3))
    def begin(self, n_tasks: int, budget: int) -> None:
        """Begin with tasks that have no item yet, and a budget of so many attempts."""
        self.budget = budget
        prefix = f"m{uuid.uuid4().hex[:8]}"
        self.wire = Wire(self.stack.target.client("dynamodb"))
        self.items: dict[str, Item] = {f"{prefix}-{i}": {} for i in range(n_tasks)}
        self.claims: dict[Verdict, list[Held]] = {Verdict.CLAIMED: [], Verdict.SUSPECT: [], Verdict.EXHAUSTED: []}
        self.n_workers = 0
        self.completions: Counter[str] = Counter()

    def worker(self) -> StatusStore:
        """Begin another invocation of the function."""
        self.n_workers += 1
        name = f"worker-{self.n_workers}"
        return StatusStore(
            client=self.wire, table=self.stack.table, request_id=name, max_attempts=self.budget, ttl_days=30
        )

    def step(self, faults: list[str], wait_s: float) -> None:
        """Let time pass, and have the next requests meet these faults."""
        self.clock.sleep(wait_s)
        self.wire.faults = list(faults)

    def look(self) -> dict[str, Item]:
        """See what became of the table; returns how it was before. What was final has not changed."""
        self.wire.faults = []
        before, self.items = self.items, read(self.stack, self.items)
        for task_id, item in before.items():
            if is_final(item):
                assert self.items[task_id] | {"duplicates": 0} == item | {"duplicates": 0}, "final is final"
        return before

    def take(self, held: Verdict, pick: int) -> Held:
        """Take one of the claims with this verdict: a worker acts on each of them once."""
        return self.claims[held].pop(pick % len(self.claims[held]))

    def judge(
        self,
        store: StatusStore,
        claim: Claim,
        before: Mapping[str, Item],
        *,
        seen: Claim | None = None,
        has_fault: bool,
    ) -> None:
        """Hold the answer to a claim against what the table says, and keep it for later.

        `seen` is what a worker had found of a suspect before it came to it.
        """
        held = Held(store, claim)
        old, new, now = before[held.task_id], self.items[held.task_id], self.clock.now
        was_free = old.get("leaseUntil", 0.0) <= now and not is_final(old)
        if claim.verdict is Verdict.CLAIMED:
            assert was_free
            assert new["attempts"] == old.get("attempts", 0) + 1 == claim.attempt, "an attempt counted is a start"
            assert (new["status"], new["claimedBy"], new["leaseUntil"] > now) == ("PROCESSING", store.request_id, True)
        elif claim.verdict is Verdict.UNAVAILABLE:
            assert has_fault
            assert new == old or (was_free and new["claimedBy"] == store.request_id)
        else:
            expected = {
                Verdict.FINISHED: is_final(old),
                Verdict.LEASED: old.get("leaseUntil", 0.0) > now,
                # A suspect that another worker has tried since stays one, however that ended: it is to be read anew.
                Verdict.SUSPECT: was_free
                and (
                    old.get("status") == "PROCESSING"
                    or "claimedBy" not in old
                    or (seen is not None and seen.attempt != old["attempts"])
                )
                and (old.get("attempts", 0) < self.budget or old.get("soloAttempt") != old["attempts"]),
                Verdict.EXHAUSTED: was_free and old.get("attempts", 0) >= self.budget,
            }
            assert expected[claim.verdict], claim.verdict
            assert new == old, "what is not claimed is not touched"
        if claim.verdict in self.claims:
            self.claims[claim.verdict].append(held)

    @rule(chosen=st.sets(PICKS, min_size=1, max_size=2), faults=FAULTS, wait_s=WAITS)
    def claim(self, chosen: set[int], faults: list[str], wait_s: float) -> None:
        """Another worker is given some of the tasks."""
        names = sorted(self.items)
        wanted = sorted({names[pick % len(names)] for pick in chosen})
        store = self.worker()
        self.step(faults, wait_s)
        claims = store.claim(deliveries(*map(task, wanted)), round(self.clock.now + LEASE_S, 3))
        before = self.look()
        for claim in claims:
            self.judge(store, claim, before, has_fault=bool(faults))

    @precondition(lambda self: self.claims[Verdict.SUSPECT])
    @rule(pick=PICKS, faults=FAULTS, wait_s=WAITS)
    def claim_suspect(self, pick: int, faults: list[str], wait_s: float) -> None:
        """A worker comes to a suspect that it has put off, perhaps for long."""
        held = self.take(Verdict.SUSPECT, pick)
        self.step(faults, wait_s)
        claim = held.store.claim_suspect(held.claim, round(self.clock.now + LEASE_S, 3))
        self.judge(held.store, claim, self.look(), seen=held.claim, has_fault=bool(faults))

    @precondition(lambda self: self.claims[Verdict.CLAIMED])
    @rule(pick=PICKS, how=st.sampled_from(["completed", "failed", "buried"]), faults=FAULTS, wait_s=WAITS)
    def record(self, pick: int, how: str, faults: list[str], wait_s: float) -> None:
        """A worker records how its attempt ended, in time or late."""
        held = self.take(Verdict.CLAIMED, pick)
        self.step(faults, wait_s)
        [recorded] = held.store.record([outcome_of(held.claim, how, self.clock.now)])
        old, new = self.look()[held.task_id], self.items[held.task_id]
        is_ours = old.get("claimedBy") == held.store.request_id and not is_final(old)
        lost = faults[:1] in (["answer lost"], ["request lost"])
        assert recorded == (is_ours and not lost)
        if recorded:
            assert (new["status"], is_final(new)) == ("COMPLETED" if how == "completed" else "FAILED", how != "failed")
            assert new["attempts"] == old["attempts"]
            self.completions[held.task_id] += how == "completed"
        elif faults[:1] != ["answer lost"]:
            assert new == old

    @precondition(lambda self: self.claims[Verdict.CLAIMED])
    @rule(pick=PICKS, faults=FAULTS, wait_s=WAITS)
    def release(self, pick: int, faults: list[str], wait_s: float) -> None:
        """A worker gives back an attempt that it never started."""
        held = self.take(Verdict.CLAIMED, pick)
        self.step(faults, wait_s)
        held.store.release([held.claim])
        old, new = self.look()[held.task_id], self.items[held.task_id]
        is_ours = old.get("claimedBy") == held.store.request_id and not is_final(old)
        if is_ours and faults[:1] != ["request lost"]:
            assert (new["attempts"], new["status"]) == (old["attempts"] - 1, "FAILED"), "given back, once"
            assert new["leaseUntil"] <= self.clock.now
        else:
            assert new == old

    @precondition(lambda self: self.claims[Verdict.EXHAUSTED])
    @rule(pick=PICKS, faults=FAULTS, wait_s=WAITS)
    def give_up(self, pick: int, faults: list[str], wait_s: float) -> None:
        """A worker ends a task whose budget it found spent, at once or later."""
        held = self.take(Verdict.EXHAUSTED, pick)
        self.step(faults, wait_s)
        [recorded] = held.store.record([end_of(held.claim, self.clock.now)])
        self.look()
        assert not recorded or is_final(self.items[held.task_id])

    @rule(pick=PICKS)
    def note(self, pick: int) -> None:
        """A duplicate delivery is counted."""
        task_id = sorted(self.items)[pick % len(self.items)]
        self.worker().note([], [task_id])
        old, new = self.look()[task_id], self.items[task_id]
        assert new == (old | {"duplicates": old["duplicates"] + 1} if old else {})

    @invariant()
    def every_item_is_sound(self) -> None:
        """What is true of every item is true now, and no task was completed by two."""
        for item in self.items.values():
            hold_item(item, self.budget)
        assert max(self.completions.values(), default=0) <= 1

    def teardown(self) -> None:
        """Hold that nothing is lost: from wherever this went, one more worker ends every task."""
        if not hasattr(self, "items") or sys.exc_info()[0] is not None:
            return  # it never began, or has failed already
        self.clock.sleep(LEASE_S)
        finish(self.worker(), sorted(self.items), self.clock.now)
        self.look()
        assert all(map(is_final, self.items.values())), "every task can be ended"
        self.every_item_is_sound()


def finish(store: StatusStore, task_ids: list[str], now: float) -> None:
    """Do what one invocation does with tasks that nobody else has: complete them, or give them up."""
    until = round(now + LEASE_S, 3)
    for first in store.claim(deliveries(*map(task, task_ids)), until):
        claim = store.claim_suspect(first, until) if first.verdict is Verdict.SUSPECT else first
        if claim.verdict is Verdict.CLAIMED:
            assert store.record([outcome_of(claim, "completed", now)]) == [True]
        elif claim.verdict is Verdict.EXHAUSTED:
            assert store.record([end_of(claim, now)]) == [True]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give all of the function's code a clock of the test's own."""
    made = Clock()
    for name, module in list(sys.modules.items()):
        if name.startswith("taskq_worker.") and getattr(module, "time", None) is time:
            monkeypatch.setattr(module, "time", made)
    return made


def test_no_order_of_events_loses_a_task_or_ends_it_twice(
    stack: Stack, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Claims, outcomes in time and late, releases, deaths and lost answers, in any order: the invariants hold."""

    class Here(Leases):
        pass

    Here.stack, Here.clock = stack, clock
    chosen = settings(
        max_examples=settings().max_examples * 3 // 5,
        stateful_step_count=15,
        report_multiple_bugs=False,
        # Not shrunk: that takes minutes on a real table.
        phases=[Phase.reuse, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Here, settings=chosen)
    capsys.readouterr()


# --- the same in real threads and real time -----------------------------------------------------------------------

MAX_TURNS = 1_000
SHORT_LEASE_S = 0.05


@dataclass
class Racer:
    """A thread that claims all tasks again and again, and does with each what its luck says, in time or late."""

    workers: Workers
    name: str
    task_ids: list[str]
    luck: random.Random
    start: threading.Barrier
    completed: Counter[str] = field(default_factory=Counter)  #: Recorded completions by task
    starts: Counter[str] = field(default_factory=Counter)  #: Claims less releases by task

    def race(self) -> None:
        """Begin at the same moment as the other one, and race until every task has ended."""
        self.start.wait(timeout=10)
        for number in range(MAX_TURNS):
            if self._turn(self.workers(f"{self.name}-{number}")):
                return

    def _turn(self, store: StatusStore) -> bool:
        """Be one invocation; returns whether it found that every task has ended."""
        until = round(time.time() + SHORT_LEASE_S, 3)
        claims = store.claim(deliveries(*map(task, self.task_ids)), until)
        claims = [store.claim_suspect(one, until) if one.verdict is Verdict.SUSPECT else one for one in claims]
        for claim in claims:
            if claim.verdict is Verdict.CLAIMED:
                self._attempt(store, claim)
            elif claim.verdict is Verdict.EXHAUSTED:
                store.record([end_of(claim, time.time())])
        return all(claim.verdict is Verdict.FINISHED for claim in claims)

    def _attempt(self, store: StatusStore, claim: Claim) -> None:
        task_id, how = claim.delivery.task.task_id, self.luck.choice(["completed", "failed", "release", "vanish"])
        self.starts[task_id] += how != "release"
        if how == "release":
            store.release([claim])
        elif how != "vanish":
            time.sleep(self.luck.choice([0, 0, 0.5 * SHORT_LEASE_S, 1.5 * SHORT_LEASE_S]))
            [recorded] = store.record([outcome_of(claim, how, time.time())])
            self.completed[task_id] += recorded and how == "completed"


@pytest.mark.parametrize("seed", range(6))
def test_two_workers_that_race_end_every_task_once(stack: Stack, worker: Workers, run_id: str, seed: int) -> None:
    """Two threads that claim, end, release and forget the same tasks, in time and late: the invariants hold."""
    task_ids, start = [f"{run_id}-{i}" for i in range(3)], threading.Barrier(2)
    racers = [
        Racer(worker, name, task_ids, random.Random(f"{name} {seed}"), start)  # noqa: S311 - to be repeated
        for name in ("red", "blue")
    ]
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(racer.race) for racer in racers]:
            done.result(timeout=60)
    for task_id, item in read(stack, task_ids).items():
        assert is_final(item)
        hold_item(item, 3)
        assert sum(racer.completed[task_id] for racer in racers) == (item["status"] == "COMPLETED")
        # A claim that was lost before it could be released counts as one that vanished.
        assert sum(racer.starts[task_id] for racer in racers) <= item["attempts"]


# --- what the machine has found once ------------------------------------------------------------------------------


def lost_twice(first: StatusStore, second: StatusStore, task_id: str, clock: Clock) -> Claim:
    """Let a task's budget of one vanish beside others, then its extra attempt alone; returns that one's claim."""
    first.claim(deliveries(task(task_id)), clock.now + LEASE_S)
    clock.sleep(LEASE_S)
    [suspect] = second.claim(deliveries(task(task_id)), clock.now + LEASE_S)
    claim = second.claim_suspect(suspect, clock.now + LEASE_S)
    assert (claim.verdict, claim.attempt) == (Verdict.CLAIMED, 2)
    clock.sleep(LEASE_S)
    return claim


@pytest.mark.parametrize("how", ["completed", "failed", "buried", "release"])
def test_whoever_comes_after_the_end_changes_nothing(
    stack: Stack, worker: Workers, clock: Clock, run_id: str, how: str
) -> None:
    """A task that was given up stays so, whatever the worker that was taken for dead still says."""
    task_id, late, next_one = f"{run_id}-a", worker("late", max_attempts=1), worker("next", max_attempts=1)
    lost = lost_twice(worker("first", max_attempts=1), late, task_id, clock)
    [spent] = next_one.claim(deliveries(task(task_id)), clock.now + LEASE_S)
    assert next_one.record([end_of(spent, clock.now)]) == [True]
    before = read(stack, [task_id])
    if how == "release":
        late.release([lost])
    else:
        assert late.record([outcome_of(lost, how, clock.now)]) == [False]
    assert read(stack, [task_id]) == before


def test_a_task_whose_attempt_came_back_is_not_given_up(
    stack: Stack, worker: Workers, clock: Clock, run_id: str
) -> None:
    """Where an attempt is given back after a worker found the budget spent, the task has that attempt again."""
    task_id, late, next_one = f"{run_id}-a", worker("late", max_attempts=1), worker("next", max_attempts=1)
    lost = lost_twice(worker("first", max_attempts=1), late, task_id, clock)
    [spent] = next_one.claim(deliveries(task(task_id)), clock.now + LEASE_S)
    assert spent.verdict is Verdict.EXHAUSTED
    late.release([lost])
    assert next_one.record([end_of(spent, clock.now)]) == [False]
    third = worker("third", max_attempts=1)
    [again] = third.claim(deliveries(task(task_id)), clock.now + LEASE_S)
    again = third.claim_suspect(again, clock.now + LEASE_S)
    assert (again.verdict, again.attempt) == (Verdict.CLAIMED, 2)
    assert not is_final(read(stack, [task_id])[task_id])
