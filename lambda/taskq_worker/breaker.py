r"""The circuit breaker of each task type: what is down is left alone, and no task pays for it with an attempt.

    closed --too many attempts fail--> open --cooldown--> half-open --the probe completes--> closed
                                        ^------the probe fails--------/

One item a type, in the status table, is shared by all invocations. Each process keeps what it last saw of it and what
it has not reported yet; both travel as one more statement of the batch's claim request, at most every few seconds, so
the breaker costs no request while it is closed. Counts are sums over windows that do not overlap, and a report whose
answer was lost may count twice: a rate is estimated here, nothing is accounted for.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from taskq_worker.contract import BreakerState, Outcome, Reason, breaker_key
from taskq_worker.items import ms
from taskq_worker.log import log
from taskq_worker.partiql import Answer, Statement, Table, code_of, item_of
from taskq_worker.records import Delivery
from taskq_worker.settings import BreakerSettings
from taskq_worker.store import Result, Verdict

#: A state seen longer ago than this is asked for again before tasks run (s).
REFRESH_S = 5.0
#: Failures are reported at most so often by one process (s): all processes together write one item.
REPORT_S = 1.0
#: How many changes of state the item remembers; with more a write of it would cost a second unit.
MAX_TRANSITIONS = 8
#: What is held back waits, besides, a random time up to a ceiling that doubles with each receive, at most this (s).
MAX_HOLD_S = 300.0
#: The window of a breaker that has no item yet.
_NONE = -1


@dataclass(frozen=True, kw_only=True)
class View:
    """What this process last saw of one breaker."""

    state: BreakerState
    seen_at: float  #: Unix seconds
    window: int  #: When the window that is counted began, Unix seconds
    n: int  #: Attempts in it that ended
    failed: int  #: Of these, the ones that failed
    probe_at: float  #: Unix seconds: when the next probe may start; 0 while it is closed
    transitions: Sequence[Mapping[str, Any]]


class Count(NamedTuple):
    """Attempts that ended, those of them that failed, and since when they are counted (Unix seconds)."""

    n: int
    failed: int
    since: float


@dataclass(kw_only=True)
class Memory:
    """What one process remembers between invocations."""

    views: dict[str, View] = field(default_factory=dict)
    counts: dict[str, Count] = field(default_factory=dict)  #: What each task type has not reported yet


@dataclass(kw_only=True)
class Breakers:
    """The breakers of all task types, seen by one invocation."""

    sql: Table
    settings: BreakerSettings
    request_id: str
    lease_until: float  #: Unix seconds: a probe that has not ended by then is taken over
    memory: Memory
    probing: set[str] = field(default_factory=set)  #: Types whose probe this invocation runs
    _reports: list[tuple[str, Count, Statement]] = field(default_factory=list)

    def admit(self, deliveries: Sequence[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
        """Split deliveries into those that may be claimed and those that have to wait.

        Asks nothing of the table while every breaker is closed as far as this process knows.
        """
        now = time.time()
        allowed = {kind: self._n_allowed(kind, now) for kind in dict.fromkeys(one.task.type for one in deliveries)}
        admitted: list[Delivery] = []
        held: list[Delivery] = []
        # For a probe the task that came least often: one that has failed before says less of what it depends on.
        for one in sorted(deliveries, key=lambda one: one.record.receive_count):
            allowed[one.task.type] -= 1
            (admitted if allowed[one.task.type] >= 0 else held).append(one)
        return admitted, held

    def holds(self, kind: str) -> bool:
        """Whether tasks of this type have to wait, by what was last seen."""
        return self.is_open(kind) and kind not in self.probing

    def is_open(self, kind: str) -> bool:
        """Whether this type's breaker is not closed, by what was last seen."""
        view = self.memory.views.get(kind)
        return view is not None and view.state is not BreakerState.CLOSED

    def wait_s(self, delivery: Delivery) -> float:
        """How long what is held back waits: until the next probe, and longer the more often it has come.

        It uses receives, of which SQS counts down to the safety net, so they must last for hours.
        """
        view = self.memory.views[delivery.task.type]
        until_probe = max(0.0, view.probe_at - time.time()) if view.state is BreakerState.OPEN else 0.0
        doublings = min(delivery.record.receive_count - 1, 32)
        ceiling = max(self.settings.cooldown_s, min(MAX_HOLD_S, self.settings.cooldown_s * 2.0**doublings))
        return until_probe + random.uniform(0, ceiling)  # noqa: S311 - jitter, not a secret

    def reports(self, kinds: Iterable[str]) -> list[Statement]:
        """Return the statements that report what is due of these types and ask for their state, to go with a claim."""
        now = time.time()
        self._reports = [self._report(kind, now) for kind in dict.fromkeys(kinds) if self._is_due(kind, now)]
        return [report[2] for report in self._reports]

    def hear(self, answers: Sequence[Answer]) -> None:
        """Take in the answers to `reports`; a breaker that must open by them is opened."""
        for (kind, sent, _), answer in zip(self._reports, answers, strict=True):
            found = item_of(answer) if code_of(answer) in {None, "ConditionalCheckFailed"} else None
            if code_of(answer) is None and sent.n:
                del self.memory.counts[kind]
            if found is not None:
                self._learn(kind, found)
                self._open_if_due(kind)
            elif code_of(answer) == "ConditionalCheckFailed":
                self.memory.views[kind] = _closed(_NONE)
            elif code_of(answer) in {None, "DuplicateItem"}:
                # Inserted just now, by this process or another: the next report finds it.
                self.memory.views.pop(kind, None)

    def count(self, results: Iterable[Result]) -> None:
        """Count how attempts ended.

        A retry that fails says as much of its task as of what that depends on, and is not counted: else the tasks that
        fail whatever is done, once they are all that is left, would hold each other up.
        """
        for result in filter(_speaks, results):
            if result.claim.attempt > 1 and result.outcome is not Outcome.COMPLETED:
                continue
            kind = result.claim.delivery.task.type
            n, failed, since = self._counted(kind, time.time())
            self.memory.counts[kind] = Count(n + 1, failed + (result.outcome is not Outcome.COMPLETED), since)

    def conclude(self, results: Sequence[Result], besides: Collection[str] = ()) -> None:
        """End the probes of this invocation: a completed one closes its breaker, a failed one opens it again.

        Those of the types `besides` still run.
        """
        for kind in sorted(self.probing - set(besides)):
            outcomes = {one.outcome for one in filter(_speaks, results) if one.claim.delivery.task.type == kind}
            now = time.time()
            if Outcome.COMPLETED in outcomes:
                self._end_probe(kind, "completed", {"window": self._window(now), "n": 0, "failed": 0})
            elif outcomes:
                self._end_probe(kind, "failed", {"probeAt": ms(now + self.settings.cooldown_s)})
            else:
                # Its message was a duplicate, or its error blames the task alone: the next one has its turn at once.
                self._end_probe(kind, "says nothing", {"probeAt": ms(now)})
        self.probing &= set(besides)

    # --- what is known ------------------------------------------------------------------------------------------

    def _window(self, now: float) -> int:
        return int(now // self.settings.window_s * self.settings.window_s)

    def _counted(self, kind: str, now: float) -> Count:
        """Return what is not reported yet; what is older than a window says nothing of this one."""
        count = self.memory.counts.get(kind)
        return Count(0, 0, now) if count is None or now - count.since > self.settings.window_s else count

    def _is_due(self, kind: str, now: float) -> bool:
        view = self.memory.views.get(kind)
        if self.settings.failure_percent == 0 or kind in self.probing:
            return False
        if view is None or view.window == _NONE:
            return True
        return now - view.seen_at >= (REPORT_S if self._counted(kind, now).failed else REFRESH_S)

    def _learn(self, kind: str, item: Mapping[str, Any]) -> None:
        try:
            state = BreakerState(item["state"])
            self.memory.views[kind] = View(
                state=state,
                seen_at=time.time(),
                window=int(item["window"]),
                n=int(item["n"]),
                failed=int(item["failed"]),
                probe_at=0.0 if state is BreakerState.CLOSED else float(item["probeAt"]),
                transitions=list(item["transitions"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            # Not written by this code. A breaker that cannot be read must not stop the work.
            log("taskq.breaker_unreadable", level="ERROR", taskType=kind, error=repr(error))
            self.memory.views[kind] = _closed(self._window(time.time()))
        if self.memory.views[kind].state is not BreakerState.CLOSED:
            # They belong to what opened it; after it has closed they would open it again.
            self.memory.counts.pop(kind, None)

    def _n_allowed(self, kind: str, now: float) -> float:
        if kind in self.probing:
            # On a FIFO queue a suspect may be the probe, and it runs when all else is done.
            return 0
        if self.settings.failure_percent == 0 or not self.holds(kind):
            return float("inf")
        view = self.memory.views[kind]
        if view.probe_at > now and now - view.seen_at < REFRESH_S:
            return 0
        return self._ask_to_probe(kind, view, now)

    # --- statements ---------------------------------------------------------------------------------------------

    def _report(self, kind: str, now: float) -> tuple[str, Count, Statement]:
        key, window, view = breaker_key(kind), self._window(now), self.memory.views.get(kind)
        n, failed, _since = sent = self._counted(kind, now)
        if view is not None and view.window == _NONE:
            begun = _change([], BreakerState.CLOSED, now)
            return kind, sent, self.sql.insert({"taskId": key, "window": window, "n": n, "failed": failed, **begun})
        if view is not None and view.window < window:
            fresh = {"window": window, "n": n, "failed": failed}
            last = 'WHERE "taskId" = ? AND "window" = ? AND "state" = ? RETURNING ALL NEW *'
            return kind, sent, self.sql.update(fresh, [], last, [key, view.window, BreakerState.CLOSED])
        last = 'SET "n" = "n" + ? SET "failed" = "failed" + ? WHERE "taskId" = ? AND "window" = ? RETURNING ALL NEW *'
        return kind, sent, self.sql.update({}, [], last, [n, failed, key, window])

    def _open_if_due(self, kind: str) -> None:
        now, view = time.time(), self.memory.views[kind]
        enough = view.n >= self.settings.minimum_tasks and view.window == self._window(now)
        too_many = 100 * view.failed >= self.settings.failure_percent * view.n
        if view.state is not BreakerState.CLOSED or not enough or not too_many:
            return
        changes = _change(view.transitions, BreakerState.OPEN, now, n=view.n, failed=view.failed)
        changes["probeAt"] = ms(now + self.settings.cooldown_s)
        where, values = '"state" = ? AND "window" = ?', [BreakerState.CLOSED, view.window]
        if self._update(kind, changes, [], where, values):
            log("taskq.breaker_opened", level="ERROR", taskType=kind, nAttempts=view.n, nFailed=view.failed)

    def _ask_to_probe(self, kind: str, view: View, now: float) -> float:
        """Ask for the probe of a breaker that is not closed; what is answered refreshes what is known in any case."""
        changes = _change(view.transitions, BreakerState.HALF_OPEN, now)
        changes |= {"probeAt": self.lease_until, "probeBy": self.request_id}
        # The equality fences: of several that ask at the same time one gets it.
        if self._update(kind, changes, [], '"probeAt" = ? AND "probeAt" <= ?', [view.probe_at, now]):
            self.probing.add(kind)
            log("taskq.breaker_half_open", taskType=kind)
            return 1
        return 0 if self.holds(kind) else float("inf")

    def _end_probe(self, kind: str, probe: str, changes: Mapping[str, Any]) -> None:
        has_closed = "probeAt" not in changes
        state = BreakerState.CLOSED if has_closed else BreakerState.OPEN
        removed = ["probeBy", "probeAt"] if has_closed else ["probeBy"]
        changes = {**_change(self.memory.views[kind].transitions, state, time.time()), **changes}
        if self._update(kind, changes, removed, '"probeBy" = ?', [self.request_id]):
            event = "taskq.breaker_closed" if has_closed else "taskq.breaker_opened"
            log(event, level="INFO" if has_closed else "ERROR", taskType=kind, probe=probe)

    def _update(
        self, kind: str, changes: Mapping[str, Any], removed: Sequence[str], where: str, values: Sequence[Any]
    ) -> bool:
        """Change the item if `where` holds; learns how it is now, either way."""
        last = f'WHERE "taskId" = ? AND {where} RETURNING ALL NEW *'
        [answer] = self.sql.execute([self.sql.update(changes, removed, last, [breaker_key(kind), *values])])
        found = item_of(answer) if code_of(answer) in {None, "ConditionalCheckFailed"} else None
        if found is not None:
            self._learn(kind, found)
        elif code_of(answer) == "ConditionalCheckFailed":
            # Somebody removed the item: that closes the breaker.
            self.memory.views.pop(kind, None)
        return code_of(answer) is None


def _speaks(result: Result) -> bool:
    """Whether an attempt says something of what its type depends on; some blame the task alone, or its worker."""
    return result.claim.verdict is Verdict.CLAIMED and result.reason is not Reason.NON_RETRYABLE


def _closed(window: int) -> View:
    return View(
        state=BreakerState.CLOSED, seen_at=time.time(), window=window, n=0, failed=0, probe_at=0.0, transitions=[]
    )


def _change(before: Sequence[Mapping[str, Any]], state: BreakerState, now: float, **counts: int) -> dict[str, Any]:
    entry = {"at": ms(now), "state": state, **counts}
    return {"state": state, "transitions": [*before, entry][-MAX_TRANSITIONS:]}
