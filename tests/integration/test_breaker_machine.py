"""The circuit breaker as a state machine: whatever several workers do and when, one probes, and it can always close."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskq_lib.aws.stack import Stack
from taskq_worker import breaker
from taskq_worker.attributes import from_attributes
from taskq_worker.breaker import Breakers, Memory
from taskq_worker.contract import BreakerState, Outcome, breaker_key
from taskq_worker.partiql import Table
from taskq_worker.settings import BreakerSettings
from taskq_worker.store import Result
from tests.unit.events import claim, deliveries, task

pytestmark = pytest.mark.integration

SETTINGS = BreakerSettings(failure_percent=50, minimum_tasks=4, window_s=60, cooldown_s=30)
LEASE_S = 20.0
N_WORKERS = 3
_NUMBERS = itertools.count()


class Clock:
    """The time of all workers."""

    now = 0.0

    @classmethod
    def time(cls) -> float:
        """Return the time, Unix seconds."""
        return cls.now


class Workers(RuleBasedStateMachine):
    """Workers that share one breaker; an invocation may end, or die and never be heard of again."""

    stack: Stack

    @initialize()
    def begin(self) -> None:
        """Start with a breaker that nobody has heard of."""
        Clock.now = 60.0 * (time.time() // 60)
        self.kind = f"MACHINE_{next(_NUMBERS)}"
        self.sql = Table(client=self.stack.target.client("dynamodb"), name=self.stack.table)
        self.memories = [Memory() for _ in range(N_WORKERS)]
        #: Worker -> its invocation, and the deliveries that it may run
        self.running: dict[int, tuple[Breakers, int]] = {}
        self.n_failed = 0
        self.n_invocations = 0

    def invocation(self, worker: int) -> Breakers:
        """Return what the next invocation of a worker sees of the breaker."""
        self.n_invocations += 1
        return Breakers(
            sql=self.sql,
            settings=SETTINGS,
            request_id=f"{self.kind}-{self.n_invocations}",
            lease_until=Clock.now + LEASE_S,
            memory=self.memories[worker],
        )

    @property
    def item(self) -> dict[str, Any]:
        """The breaker's item; closed where there is none."""
        key = {"taskId": {"S": breaker_key(self.kind)}}
        found = self.sql.client.get_item(TableName=self.sql.name, Key=key, ConsistentRead=True)
        return from_attributes(found["Item"]) if "Item" in found else {"state": BreakerState.CLOSED}

    @rule(worker=st.integers(0, N_WORKERS - 1), n_tasks=st.integers(1, 5))
    def begin_batch(self, worker: int, n_tasks: int) -> None:
        """A worker takes a batch: it asks what it may run, reports, and hears."""
        if worker in self.running:
            return
        before = self.item
        one = self.invocation(worker)
        # The breaker reads types only; its messages need no type that the contract knows.
        batch = [_typed(delivery, self.kind) for delivery in deliveries(*(task(f"t{i}") for i in range(n_tasks)))]
        admitted, held = one.admit(batch)
        one.hear(self.sql.execute(one.reports([self.kind] if admitted else [])))
        n_running = 0 if one.holds(self.kind) else len(admitted)
        assert len(admitted) + len(held) == n_tasks
        if self.kind in one.probing:
            assert len(admitted) == 1
            assert before["state"] != BreakerState.CLOSED
            assert before["probeAt"] <= Clock.now
        elif before["state"] != BreakerState.CLOSED and before["probeAt"] > Clock.now and n_running:
            # Only what was seen as closed a moment ago may run once more, or what was found to be there just now, by
            # an insert that says no more than that.
            view = self.memories[worker].views.get(self.kind)
            assert view is None or view.state is BreakerState.CLOSED
            assert view is None or Clock.now - view.seen_at < breaker.REFRESH_S
        self.running[worker] = (one, n_running)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), fails=st.booleans())
    def end_batch(self, data: st.DataObject, fails: bool) -> None:  # noqa: FBT001 - drawn
        """A batch ends, all of its tasks alike."""
        one, n_running = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
        results = [_result(self.kind, fails) for _ in range(n_running)]
        self.n_failed += n_running if fails else 0
        one.count(results)
        one.conclude(results)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """A worker's process is killed; a new one remembers nothing."""
        worker = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[worker]
        self.memories[worker] = Memory()

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0, 31.0, 70.0]))
    def wait(self, seconds: float) -> None:
        """Time passes; whoever still runs after its lease is dead."""
        Clock.now += seconds
        for worker in [worker for worker, (one, _) in self.running.items() if one.lease_until <= Clock.now]:
            del self.running[worker]
            self.memories[worker] = Memory()

    @invariant()
    def one_probes(self) -> None:
        """At most one living invocation holds the probe, and the item names it."""
        probing = [one for one, _ in self.running.values() if self.kind in one.probing]
        assert len(probing) <= 1
        if probing:
            assert (self.item["state"], self.item["probeBy"]) == (BreakerState.HALF_OPEN, probing[0].request_id)

    @invariant()
    def it_opens_for_a_reason(self) -> None:
        """A breaker leaves its first state only once enough attempts have failed."""
        if self.item["state"] != BreakerState.CLOSED:
            assert 2 * self.n_failed >= SETTINGS.minimum_tasks

    @invariant()
    def what_is_open_can_be_probed(self) -> None:
        """Only what is closed has no time for its next probe, and that time is never far away."""
        found = self.item
        assert (found["state"] == BreakerState.CLOSED) == ("probeAt" not in found)
        assert found.get("probeAt", 0) <= Clock.now + max(SETTINGS.cooldown_s, LEASE_S)

    def teardown(self) -> None:
        """However it went, one worker whose tasks complete closes it."""
        if not hasattr(self, "kind"):
            return
        for _ in range(3):
            Clock.now += SETTINGS.cooldown_s + LEASE_S
            one = self.invocation(0)
            admitted, _held = one.admit([_typed(deliveries(task("t"))[0], self.kind)])
            one.hear(self.sql.execute(one.reports([self.kind])))
            results = [_result(self.kind, fails=False)] if admitted and not one.holds(self.kind) else []
            one.conclude(results)
        assert self.item["state"] == BreakerState.CLOSED


def _typed(delivery: Any, kind: str) -> Any:
    object.__setattr__(delivery.task, "type", kind)
    return delivery


def _result(kind: str, fails: bool) -> Result:  # noqa: FBT001 - drawn
    claimed = claim(task("t"))
    _typed(claimed.delivery, kind)
    outcome = Outcome.FAILED if fails else Outcome.COMPLETED
    return Result(claim=claimed, outcome=outcome, started_at=Clock.now, finished_at=Clock.now)


@pytest.fixture
def machine(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Workers]]:
    """The machine, on the stack's table and on its own clock."""
    monkeypatch.setattr(breaker, "time", Clock)
    Workers.stack = stack
    yield Workers
    del Workers.stack


def test_no_interleaving_probes_twice_or_stays_open(machine: type[Workers]) -> None:
    """Whatever workers do and when: one probe at a time, no opening without failures, and always a way to close."""
    # Not shrunk: an example is short enough to read, and shrinking takes minutes on a real table.
    chosen = settings(
        max_examples=settings().max_examples * 2 // 5,
        stateful_step_count=30,
        deadline=None,
        phases=[Phase.reuse, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)
