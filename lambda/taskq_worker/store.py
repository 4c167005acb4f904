r"""The status store: who may work on a task, and what became of it.

Every change of state is a conditional write, and a whole batch of them is one request.

    no item --INSERT--> PROCESSING --record--> COMPLETED                    (final)
                          |  ^  ^     \------> FAILED, dead-lettered        (final until it is redriven)
       lease runs out ----+  |  |      \-----> FAILED, lease released
                             |  +--UPDATE, while attempts are left--+
                             +--UPDATE, by the dead letter itself: its attempts begin again
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from taskq_worker.contract import MAX_LOGGED_ATTEMPTS, Outcome, Reason, Status, budget
from taskq_worker.items import expiry, invalid_item, ms, new_item, stamp
from taskq_worker.log import log
from taskq_worker.partiql import Answer, Statement, Table, code_of, item_of
from taskq_worker.records import Delivery

# The last attempt said how it ended. One that did not is a suspect: it may be what killed its process.
LAST_ATTEMPT_FAILED = '"status" = ?'
# The last attempt is over: it released its lease, or vanished and the lease ran out. A final item has no lease at
# all, and a comparison with an absent attribute is false, so this one clause also keeps final items final.
LEASE_IS_FREE = '"leaseUntil" <= ?'
# The budget counts starts, not failures: an attempt that killed its process has used its turn.
BUDGET_IS_LEFT = '"attempts" < ?'
# No attempt was begun or given back since the item was read.
ATTEMPTS_ARE_THOSE = '"attempts" = ?'
# Only the worker that holds the claim may record: a late write of a worker that lost its lease is refused. The same
# write once more (its answer was lost, the SDK asked again) is let through and changes nothing.
CLAIM_IS_OURS = '"claimedBy" = ?'

# It is final by a dead letter, and still by the very one that was read: of several redrives, one reopens it.
DIED_THEN = '"deadLettered" = ? AND "finishedAt" = ?'


class Verdict(StrEnum):
    """What the store says to a claim."""

    CLAIMED = "claimed"  #: Ours until the lease runs out
    FINISHED = "finished"  #: Completed or dead-lettered before: a duplicate delivery
    SUSPECT = "suspect"  #: Its last attempt vanished; to be claimed alone, just before its start
    LEASED = "leased"  #: Another worker is at it
    DEAD = "dead"  #: Dead-lettered, and this message may reopen it
    EXHAUSTED = "exhausted"  #: No attempt is left, and the last one did not say how it ended
    UNAVAILABLE = "unavailable"  #: The store did not answer; nothing is known


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The store's answer for one task."""

    delivery: Delivery
    verdict: Verdict
    attempt: int = 0  #: The attempt that was claimed, from 1; for EXHAUSTED the last one
    lease_until: float = 0.0  #: Unix seconds; for LEASED, when the other worker's lease ends
    history: Sequence[Mapping[str, Any]] = ()  #: attemptLog entries so far
    n_duplicates: int = 0  #: Duplicate deliveries so far
    first_claimed_at: float | None = None  #: Unix seconds; of a task that had an item before
    redrive: int = 0  #: How often the task was redriven; its attempts are counted anew each time
    item: Mapping[str, Any] = field(default_factory=dict, repr=False)  #: For DEAD, the item as it was found

    @property
    def n_logged(self) -> int:
        """How many attempts the log holds since the last redrive."""
        return sum(entry.get("redrive", 0) == self.redrive for entry in self.history)


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a claimed attempt ended, as it will be recorded."""

    claim: Claim
    outcome: Outcome
    started_at: float
    finished_at: float
    result: str | None = None  #: JSON
    error_type: str | None = None
    error: str | None = None
    reason: Reason | None = None  #: Set where the task is dead-lettered by this
    n_duplicates: int = 0  #: Further deliveries of the same task in the same batch
    retry_after_s: float = 0.0  #: How long the error asks to be left alone
    is_logged: bool = False  #: The attempt log has this attempt already


@dataclass(frozen=True, kw_only=True)
class StatusStore:
    """The status table, seen by one invocation."""

    client: Any
    table: str  #: Its name
    request_id: str  #: Names the claims of this invocation
    max_attempts: int
    ttl_days: int
    log_entry: Mapping[str, Any] = field(default_factory=dict)  #: What every attempt of this invocation logs

    @cached_property
    def sql(self) -> Table:
        """The table, as statements are made for it and sent to it."""
        return Table(client=self.client, name=self.table)

    def claim(
        self,
        deliveries: Sequence[Delivery],
        lease_until: float,
        riders: Sequence[Statement] = (),
        heard: Callable[[Sequence[Answer]], None] = lambda _answers: None,
    ) -> list[Claim]:
        """Claim the task of every delivery (distinct ids) until `lease_until`, Unix seconds; answers in order.

        One request; a second one only for tasks that have an item already, a third for those that are redriven.
        `riders` are statements that go with the first; `heard` is called with their answers.
        """
        now = time.time()
        inserts = [self.sql.insert(self._fresh(one, now, lease_until)) for one in deliveries]
        answers = self.sql.execute(inserts, riders)
        heard(answers[len(inserts) :])
        claims = [
            Claim(delivery=one, verdict=Verdict.UNAVAILABLE if code_of(answer) else Verdict.CLAIMED, attempt=1)
            for one, answer in zip(deliveries, answers[: len(inserts)], strict=True)
        ]
        known = [i for i in range(len(inserts)) if code_of(answers[i]) == "DuplicateItem"]
        again = [self._reclaim(deliveries[i], now, lease_until) for i in known]
        for i, answer in zip(known, self.sql.execute(again), strict=True):
            claims[i] = self._judge(deliveries[i], answer, now)
        dead = [i for i in known if claims[i].verdict is Verdict.DEAD]
        reopenings = [self._reopen(claims[i], now, lease_until) for i in dead]
        for i, answer in zip(dead, self.sql.execute(reopenings), strict=True):
            claims[i] = self._judge(deliveries[i], answer, now)
            log("taskq.redriven", taskId=deliveries[i].task.task_id, verdict=claims[i].verdict)
        return claims

    def claim_suspect(self, suspect: Claim, lease_until: float) -> Claim:
        """Claim a task whose last attempt vanished; in a request of its own, so that it risks no other's attempt."""
        now, delivery = time.time(), suspect.delivery
        [answer] = self.sql.execute([self._reclaim(delivery, now, lease_until, suspect)])
        return self._judge(delivery, answer, now)

    def record(self, results: Sequence[Result]) -> list[bool]:
        """Record the attempts' outcomes in one request; True where the item now says so."""
        return [code_of(answer) is None for answer in self.sql.execute([self._outcome(result) for result in results])]

    def release(self, claims: Sequence[Claim]) -> list[Claim]:
        """Give attempts back that were, or may have been, claimed and never started: an attempt is a start.

        Returns those of which that is not known, since the store did not answer.
        """
        answers = self.sql.execute([self._unclaim(claim) for claim in claims])
        # A refusal is an answer: the claim is not ours, so there is nothing to give back.
        known = {None, "ConditionalCheckFailed"}
        return [claim for claim, answer in zip(claims, answers, strict=True) if code_of(answer) not in known]

    def note(
        self,
        invalid: Sequence[tuple[str, str | None, str]],
        duplicates: Sequence[str],
        died_at: float | None = None,
    ) -> None:
        """Note in one request: invalid messages that named a task (ids and error), and duplicate deliveries.

        `duplicates` are task ids, one a delivery; `died_at` is when the invalid messages were dead-lettered.
        """
        now = time.time() if died_at is None else died_at
        counts = Counter(duplicates)
        # A request that names an item twice is refused; and what was delivered twice has an item already.
        named = {one[0]: one for one in invalid if one[0] not in counts}
        statements = [self.sql.insert(invalid_item(*one, now) | expiry(now, self.ttl_days)) for one in named.values()]
        count = 'SET "duplicates" = "duplicates" + ? WHERE "taskId" = ?'
        statements += [self.sql.update({}, [], count, [n, task_id]) for task_id, n in counts.items()]
        self.sql.execute(statements)

    # --- statements ---------------------------------------------------------------------------------------------

    def _reclaim(self, delivery: Delivery, now: float, lease_until: float, suspect: Claim | None = None) -> Statement:
        changes = {"status": Status.PROCESSING, "claimedBy": self.request_id, "leaseUntil": lease_until}
        changes |= stamp(now) | expiry(now, self.ttl_days)
        where, values = f'"taskId" = ? AND {LEASE_IS_FREE}', [delivery.task.task_id, now]
        if suspect is None:
            where = f"{where} AND {BUDGET_IS_LEFT} AND {LAST_ATTEMPT_FAILED}"
            values = [*values, budget(delivery.task, self.max_attempts), Status.FAILED]
        else:
            where, values = f"{where} AND {ATTEMPTS_ARE_THOSE}", [*values, suspect.attempt]
            changes["soloAttempt"] = suspect.attempt + 1
        last = f'SET "attempts" = "attempts" + 1 WHERE {where} RETURNING ALL NEW *'
        return self.sql.update(changes, [], last, values)

    def _reopen(self, dead: Claim, now: float, lease_until: float) -> Statement:
        # The message may have been mended since: what the item says of the task is said anew, but not when it began.
        fresh = self._fresh(dead.delivery, now, lease_until)
        kept = {"taskId", "duplicates"} | (dead.item.keys() & {"enqueuedAt", "sentAt", "startedAt"})
        changes = {name: value for name, value in fresh.items() if name not in kept}
        if dead.delivery.record.died_at is not None:
            changes["redrives"] = dead.redrive + 1
        last = f'WHERE "taskId" = ? AND {DIED_THEN} RETURNING ALL NEW *'
        values = [fresh["taskId"], True, dead.item["finishedAt"]]
        return self.sql.update(changes, ["deadLettered", "reason", "error", "errorType", "soloAttempt"], last, values)

    def _fresh(self, delivery: Delivery, now: float, lease_until: float) -> dict[str, Any]:
        return new_item(delivery, self.request_id, now, lease_until) | expiry(now, self.ttl_days)

    def _outcome(self, result: Result) -> Statement:
        claim, final = result.claim, result.outcome is Outcome.COMPLETED or result.reason is not None
        changes = {
            "status": Status.COMPLETED if result.outcome is Outcome.COMPLETED else Status.FAILED,
            **stamp(time.time() if result.is_logged else result.finished_at),
            "finishedAt": ms(result.finished_at),
        }
        changes |= {} if result.is_logged else {"attemptLog": self._history(result)}
        changes |= {"result": result.result} if result.result is not None else {}
        changes |= {"error": result.error, "errorType": result.error_type} if result.error_type else {}
        changes |= {"deadLettered": True, "reason": result.reason} if result.reason else {}
        # A sum, not an increment: written twice it must not count twice. Nobody else counts while the claim is ours.
        changes |= {"duplicates": claim.n_duplicates + result.n_duplicates} if result.n_duplicates else {}
        # A task that asked to be left alone is leased to nobody until then, however its message comes back before.
        changes |= {} if final else {"leaseUntil": ms(result.finished_at + result.retry_after_s)}
        removed = ["leaseUntil"] if final else []
        removed += ["error", "errorType"] if claim.attempt > 1 and result.error_type is None else []
        task_id = claim.delivery.task.task_id
        if claim.verdict is Verdict.EXHAUSTED:
            # Nobody holds the claim any more, and that must still be so, with no attempt given back. From now on it is
            # ours: the worker that vanished may come back, and must not record over the end.
            changes["claimedBy"] = self.request_id
            last = f'WHERE "taskId" = ? AND {LEASE_IS_FREE} AND {ATTEMPTS_ARE_THOSE}'
            values = [task_id, time.time(), claim.attempt]
        else:
            last, values = f'WHERE "taskId" = ? AND {CLAIM_IS_OURS}', [task_id, self.request_id]
        return self.sql.update(changes, removed, last, values)

    def _unclaim(self, claim: Claim) -> Statement:
        now = time.time()
        return self.sql.update(
            # FAILED with attempts left means "to be tried again"; PROCESSING would make it a suspect.
            {"status": Status.FAILED, "leaseUntil": ms(now), **stamp(now)},
            # Written twice it must not give back twice: without a name there is no claim to give back.
            ["claimedBy"],
            f'SET "attempts" = "attempts" - 1 WHERE "taskId" = ? AND {CLAIM_IS_OURS}',
            [claim.delivery.task.task_id, self.request_id],
        )

    def _history(self, result: Result) -> list[Mapping[str, Any]]:
        entry = {
            **self.log_entry,
            "started": ms(result.started_at),
            "finished": ms(result.finished_at),
            "outcome": result.outcome,
        }
        if result.error_type:
            entry |= {"errorType": result.error_type, "error": result.error}
        claim = result.claim
        mark = {"redrive": claim.redrive} if claim.redrive else {}
        # Attempts that are counted but not logged vanished with their process.
        lost = [{"outcome": Outcome.LOST, **mark}] * (claim.attempt - 1 - claim.n_logged)
        return [*claim.history, *lost, entry | mark][-MAX_LOGGED_ATTEMPTS:]

    # --- answers ------------------------------------------------------------------------------------------------

    def _judge(self, delivery: Delivery, answer: Answer, now: float) -> Claim:
        """Say what an answer to a re-claim means; a refused one holds the item, which tells why."""
        refused = code_of(answer)
        item = item_of(answer) if refused in {None, "ConditionalCheckFailed"} else None
        if item is None:
            # The store refuses, the item went between two requests, or the endpoint does not hand it over: nothing is
            # known of the task.
            return Claim(delivery=delivery, verdict=Verdict.UNAVAILABLE)
        verdict = Verdict.CLAIMED if not refused else self._why_refused(delivery, item, now)
        return Claim(
            delivery=delivery,
            verdict=verdict,
            # An item that somebody else wrote may lack what the function's own always have.
            attempt=int(item.get("attempts", 0)),
            lease_until=item.get("leaseUntil", 0.0),
            history=item.get("attemptLog", []),
            n_duplicates=int(item.get("duplicates", 0)),
            first_claimed_at=item.get("startedAt"),
            redrive=int(item.get("redrives", 0)),
            item=item if verdict is Verdict.DEAD else {},
        )

    def _why_refused(self, delivery: Delivery, item: Mapping[str, Any], now: float) -> Verdict:
        status, lease_until = item.get("status"), item.get("leaseUntil", 0.0)
        if status == Status.PROCESSING and item.get("claimedBy") == self.request_id:
            # Refused and yet ours: the claim's answer was lost, and the SDK asked again.
            return Verdict.CLAIMED
        if status == Status.COMPLETED or item.get("deadLettered"):
            return Verdict.DEAD if _may_reopen(delivery, item) else Verdict.FINISHED
        if lease_until > now:
            return Verdict.LEASED
        attempts = item.get("attempts", 0)
        has_budget = attempts < budget(delivery.task, self.max_attempts)
        # Beside others a task may have vanished by a neighbour's fault, so it is given up only once it was tried alone;
        # an attempt that was given back (nobody has the claim then) was no try.
        has_failed = status == Status.FAILED and "claimedBy" in item
        was_alone = item.get("soloAttempt") == attempts
        return Verdict.SUSPECT if has_budget or not (has_failed or was_alone) else Verdict.EXHAUSTED


def _may_reopen(delivery: Delivery, item: Mapping[str, Any]) -> bool:
    """Whether a message may bring a dead-lettered task back.

    The dead letter of its death may, once: of a second copy, and of an older death, the time no longer fits. And a
    task that was only ever named by an invalid message has not been tried at all.
    """
    if not item.get("deadLettered") or "finishedAt" not in item:
        return False
    died_at = delivery.record.died_at
    never_tried = item.get("reason") == Reason.INVALID and not item.get("attempts")
    return never_tried or (died_at is not None and item["finishedAt"] <= died_at)
