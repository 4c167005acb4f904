r"""The status store: who may work on a task, and what became of it.

Every change of state is a conditional write, and a whole batch is one request: PartiQL statements in
`BatchExecuteStatement`, each with its own answer (its API reference: at most 25, not atomic).

    no item --INSERT--> PROCESSING --record--> COMPLETED                    (final)
                          |    ^      \------> FAILED, dead-lettered        (final)
       lease runs out ----+    |       \-----> FAILED, lease released
                               +--UPDATE, while attempts are left--+
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from taskq_worker.attributes import from_attributes, to_attribute
from taskq_worker.contract import Outcome, Reason, Status, shard_of
from taskq_worker.log import log
from taskq_worker.records import Delivery

MAX_STATEMENTS = 25
#: Longer attempt logs would push an item over the 1 KB that one write unit pays for many times over.
MAX_LOGGED_ATTEMPTS = 20
N_TRIES = 4

# The last attempt said how it ended. One that did not is a suspect: it may be what killed its process.
LAST_ATTEMPT_FAILED = '"status" = ?'
# The last attempt is over: it released its lease, or vanished and the lease ran out. A final item has no lease at
# all, and a comparison with an absent attribute is false, so this one clause also keeps final items final.
LEASE_IS_FREE = '"leaseUntil" <= ?'
# The budget counts starts, not failures: an attempt that killed its process has used its turn.
BUDGET_IS_LEFT = '"attempts" < ?'
# Only the worker that holds the claim may record: a late write of a worker that lost its lease is refused. The same
# write once more (its answer was lost, the SDK asked again) is let through and changes nothing.
CLAIM_IS_OURS = '"claimedBy" = ?'

_PASSING = {"ThrottlingError", "ProvisionedThroughputExceeded", "RequestLimitExceeded", "InternalServerError",
            "TransactionConflict"}  # fmt: skip


class Verdict(StrEnum):
    """What the store says to a claim."""

    CLAIMED = "claimed"  #: Ours until the lease runs out
    FINISHED = "finished"  #: Completed or dead-lettered before: a duplicate delivery
    SUSPECT = "suspect"  #: Its last attempt vanished; to be claimed alone, just before its start
    LEASED = "leased"  #: Another worker is at it
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


@dataclass(frozen=True, kw_only=True)
class StatusStore:
    """The status table, seen by one invocation."""

    client: Any
    table: str
    request_id: str  #: Names the claims of this invocation
    max_attempts: int
    ttl_days: int
    log_entry: Mapping[str, Any] = field(default_factory=dict)  #: What every attempt of this invocation logs

    def claim(self, deliveries: Sequence[Delivery], lease_until: float) -> list[Claim]:
        """Claim the task of every delivery (distinct ids) until `lease_until`, Unix seconds; answers in order.

        One request; a second one only for tasks that have an item already.
        """
        now = time.time()
        answers = self._execute([self._insert(_new_item(one, self, now, lease_until)) for one in deliveries])
        claims = [
            Claim(delivery=one, verdict=Verdict.UNAVAILABLE if _code(answer) else Verdict.CLAIMED, attempt=1)
            for one, answer in zip(deliveries, answers, strict=True)
        ]
        known = [i for i, answer in enumerate(answers) if _code(answer) == "DuplicateItem"]
        again = [self._reclaim(deliveries[i].task.task_id, now, lease_until, suspect=False) for i in known]
        for i, answer in zip(known, self._execute(again), strict=True):
            claims[i] = self._judge(deliveries[i], answer, now)
        return claims

    def claim_suspect(self, suspect: Claim, lease_until: float) -> Claim:
        """Claim a task whose last attempt vanished; in a request of its own, so that it risks no other's attempt."""
        now, delivery = time.time(), suspect.delivery
        [answer] = self._execute([self._reclaim(delivery.task.task_id, now, lease_until, suspect=True)])
        return self._judge(delivery, answer, now)

    def record(self, results: Sequence[Result]) -> list[bool]:
        """Record the attempts' outcomes in one request; True where the item now says so."""
        return [_code(answer) is None for answer in self._execute([self._outcome(result) for result in results])]

    def release(self, claims: Sequence[Claim]) -> None:
        """Give attempts back that were claimed and never started; an attempt counts only once it was."""
        self._execute([self._unclaim(claim) for claim in claims])

    def note(self, invalid: Sequence[tuple[str, str | None, str]], duplicates: Sequence[str]) -> None:
        """Note in one request: invalid messages that named a task (ids and error), and duplicate deliveries."""
        statements = [self._insert(_invalid_item(self, *message)) for message in invalid]
        count = f'UPDATE "{self.table}" SET "duplicates" = "duplicates" + 1 WHERE "taskId" = ?'
        statements += [_statement(count, [task_id]) for task_id in duplicates]
        self._execute(statements)

    # --- statements ---------------------------------------------------------------------------------------------

    def _insert(self, item: Mapping[str, Any]) -> dict[str, Any]:
        names = ", ".join(f"'{name}': ?" for name in item)
        return _statement(f'INSERT INTO "{self.table}" VALUE {{{names}}}', list(item.values()))

    def _reclaim(self, task_id: str, now: float, lease_until: float, *, suspect: bool) -> dict[str, Any]:
        changes = {"status": Status.PROCESSING, "claimedBy": self.request_id, "leaseUntil": lease_until}
        changes |= _stamp(now) | _expiry(self, now)
        where, values = f'"taskId" = ? AND {LEASE_IS_FREE} AND {BUDGET_IS_LEFT}', [task_id, now, self.max_attempts]
        if not suspect:
            where, values = f"{where} AND {LAST_ATTEMPT_FAILED}", [*values, Status.FAILED]
        last = f'SET "attempts" = "attempts" + 1 WHERE {where} RETURNING ALL NEW *'
        return self._update(changes, [], last, values)

    def _outcome(self, result: Result) -> dict[str, Any]:
        claim, final = result.claim, result.outcome is Outcome.COMPLETED or result.reason is not None
        changes = {
            "status": Status.COMPLETED if result.outcome is Outcome.COMPLETED else Status.FAILED,
            **_stamp(result.finished_at),
            "finishedAt": _ms(result.finished_at),
            "attemptLog": self._history(result),
        }
        changes |= {"result": result.result} if result.result is not None else {}
        changes |= {"error": result.error, "errorType": result.error_type} if result.error_type else {}
        changes |= {"deadLettered": True, "reason": result.reason} if result.reason else {}
        # A sum, not an increment: written twice it must not count twice. Nobody else counts while the claim is ours.
        changes |= {"duplicates": claim.n_duplicates + result.n_duplicates} if result.n_duplicates else {}
        changes |= {} if final else {"leaseUntil": _ms(result.finished_at)}
        removed = ["leaseUntil"] if final else []
        removed += ["error", "errorType"] if claim.attempt > 1 and result.error_type is None else []
        task_id = claim.delivery.task.task_id
        if claim.verdict is Verdict.EXHAUSTED:
            # Nobody holds the claim any more: what must hold is that still nobody does.
            last, values = f'WHERE "taskId" = ? AND {LEASE_IS_FREE}', [task_id, time.time()]
        else:
            last, values = f'WHERE "taskId" = ? AND {CLAIM_IS_OURS}', [task_id, self.request_id]
        return self._update(changes, removed, last, values)

    def _unclaim(self, claim: Claim) -> dict[str, Any]:
        now = time.time()
        return self._update(
            # FAILED with attempts left means "to be tried again"; PROCESSING would make it a suspect.
            {"status": Status.FAILED, "leaseUntil": _ms(now), **_stamp(now)},
            # Written twice it must not give back twice: without a name there is no claim to give back.
            ["claimedBy"],
            f'SET "attempts" = "attempts" - 1 WHERE "taskId" = ? AND {CLAIM_IS_OURS}',
            [claim.delivery.task.task_id, self.request_id],
        )

    def _update(
        self, changes: Mapping[str, Any], removed: Sequence[str], last: str, values: Sequence[Any]
    ) -> dict[str, Any]:
        """Set `changes`, remove `removed`; `last` is the rest of the statement, `values` its parameters."""
        sets = " ".join(f'SET "{name}" = ?' for name in changes)
        removes = " ".join(f'REMOVE "{name}"' for name in removed)
        return _statement(f'UPDATE "{self.table}" {removes} {sets} {last}', [*changes.values(), *values])

    def _history(self, result: Result) -> list[Mapping[str, Any]]:
        entry = {
            **self.log_entry,
            "started": _ms(result.started_at),
            "finished": _ms(result.finished_at),
            "outcome": result.outcome,
        }
        if result.error_type:
            entry |= {"errorType": result.error_type, "error": result.error}
        # Attempts that are counted but not logged vanished with their process.
        done = list(result.claim.history)
        lost = [{"outcome": Outcome.LOST}] * (result.claim.attempt - 1 - len(done))
        return [*done, *lost, entry][-MAX_LOGGED_ATTEMPTS:]

    # --- answers ------------------------------------------------------------------------------------------------

    def _judge(self, delivery: Delivery, answer: Mapping[str, Any], now: float) -> Claim:
        """Say what an answer to a re-claim means; a refused one holds the item, which tells why."""
        refused = _code(answer)
        if refused not in {None, "ConditionalCheckFailed"}:
            return Claim(delivery=delivery, verdict=Verdict.UNAVAILABLE)
        found = answer["Error"].get("Item") if refused else answer.get("Item")
        if found is None:
            # The item went between two requests, or the endpoint does not hand it over: nothing is known of the task.
            return Claim(delivery=delivery, verdict=Verdict.UNAVAILABLE)
        item = from_attributes(found)
        # An item that somebody else wrote may lack what the function's own always have.
        status, attempt, lease_until = item.get("status"), int(item.get("attempts", 0)), item.get("leaseUntil", 0.0)
        if not refused or (status == Status.PROCESSING and item.get("claimedBy") == self.request_id):
            # Refused and yet ours: the claim's answer was lost, and the SDK asked again.
            verdict = Verdict.CLAIMED
        elif status == Status.COMPLETED or item.get("deadLettered"):
            verdict = Verdict.FINISHED
        elif lease_until > now:
            verdict = Verdict.LEASED
        else:
            verdict = Verdict.SUSPECT if attempt < self.max_attempts else Verdict.EXHAUSTED
        return Claim(
            delivery=delivery,
            verdict=verdict,
            attempt=attempt,
            lease_until=lease_until,
            history=item.get("attemptLog", []),
            n_duplicates=int(item.get("duplicates", 0)),
        )

    def _execute(self, statements: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Execute any number of statements; one answer each, in order. Passing errors are tried again."""
        answers: list[dict[str, Any]] = [{"Error": {"Code": "InternalServerError"}}] * len(statements)
        open_ = list(range(len(statements)))
        for n_try in range(N_TRIES):
            for chunk in _chunks(open_, MAX_STATEMENTS):
                for i, answer in zip(chunk, self._request([statements[i] for i in chunk]), strict=True):
                    answers[i] = answer
            open_ = [i for i in open_ if _code(answers[i]) in _PASSING]
            if not open_:
                break
            time.sleep(0.05 * 2**n_try)
        return answers

    def _request(self, statements: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Send one request; if all of it fails, every statement's answer is that error: a batch is never raised for."""
        try:
            response = self.client.batch_execute_statement(Statements=statements)
        except (BotoCoreError, ClientError) as error:
            log("taskq.store_failed", level="ERROR", error=str(error), nStatements=len(statements))
            return [{"Error": {"Code": "RequestFailed", "Message": str(error)}}] * len(statements)
        answers: Sequence[dict[str, Any]] = response["Responses"]
        for answer in answers:
            if _code(answer) not in {None, "DuplicateItem", "ConditionalCheckFailed", *_PASSING}:
                log("taskq.store_refused", level="ERROR", error=answer["Error"])
        return answers


def _new_item(delivery: Delivery, store: StatusStore, now: float, lease_until: float) -> dict[str, Any]:
    task = delivery.task
    item = {
        "taskId": task.task_id,
        "status": Status.PROCESSING,
        **_stamp(now),
        "taskType": task.type,
        "priority": task.priority,
        "runId": task.run_id,
        "attempts": 1,
        "duplicates": 0,
        "enqueuedAt": task.enqueued_at,
        "sentAt": delivery.sent_at,
        "startedAt": _ms(now),
        "claimedBy": store.request_id,
        "leaseUntil": lease_until,
        "shard": shard_of(task.task_id),
        **_expiry(store, now),
    }
    return {name: value for name, value in item.items() if value is not None}


def _invalid_item(store: StatusStore, task_id: str, run_id: str | None, error: str) -> dict[str, Any]:
    now = time.time()
    item = {
        "taskId": task_id,
        "status": Status.FAILED,
        **_stamp(now),
        "runId": run_id,
        "attempts": 0,
        "duplicates": 0,
        "deadLettered": True,
        "reason": Reason.INVALID,
        "errorType": "InvalidMessage",
        "error": error,
        "finishedAt": _ms(now),
        "shard": shard_of(task_id),
        **_expiry(store, now),
    }
    return {name: value for name, value in item.items() if value is not None}


def _stamp(now: float) -> dict[str, Any]:
    now = _ms(now)
    return {"updatedAt": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"), "timestamp": now}


def _expiry(store: StatusStore, now: float) -> dict[str, int]:
    return {"expiresAt": int(now) + store.ttl_days * 86_400} if store.ttl_days else {}


def _ms(seconds: float) -> float:
    return round(seconds, 3)


def _code(answer: Mapping[str, Any]) -> str | None:
    error = answer.get("Error")
    return error.get("Code") if error else None


def _chunks(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (values[i : i + size] for i in range(0, len(values), size))


def _statement(text: str, values: Sequence[Any]) -> dict[str, Any]:
    return {
        "Statement": text,
        "Parameters": [to_attribute(value) for value in values],
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
