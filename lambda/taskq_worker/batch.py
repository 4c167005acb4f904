"""The batch loop: parse, hold back, claim, run, dead-letter, record, and say which records come again.

A batch of a standard queue takes one turn of it, one of a FIFO queue a turn for each place in its message groups.
Every record either ends here or is named in `batchItemFailures`; nothing is raised for the whole batch.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from botocore import __version__ as botocore_version
from botocore.config import Config
from botocore.session import Session, get_session

from taskq_worker import dead_letters
from taskq_worker.breaker import Breakers, Memory
from taskq_worker.contract import WORKER_LOST, Outcome, Reason
from taskq_worker.dead_letters import DeadLetter
from taskq_worker.execute import run_claims
from taskq_worker.log import bind, log
from taskq_worker.metrics import Tally
from taskq_worker.order import Line
from taskq_worker.partiql import write_at_once
from taskq_worker.records import Delivery, Invalid, parse_record, parse_records
from taskq_worker.retry import Returned, backoff, delay
from taskq_worker.settings import Settings
from taskq_worker.store import Claim, Result, StatusStore, Verdict

#: Kept back from the function's time for recording, dead-lettering and the response.
MARGIN_S = 2.0

# This package builds the parameters and its tests hold them; validating them took a fifth of a task's CPU time.
_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 4},
    connect_timeout=3,
    read_timeout=10,
    parameter_validation=False,
    # Put together anew twice a request otherwise, a twentieth of a task's CPU time.
    user_agent=f"taskq Botocore/{botocore_version}",
)
# What lets a task's code start.
_STARTS = {Verdict.CLAIMED, Verdict.SUSPECT}
# The only state that survives an invocation: clients (their connections stay warm), whether this is the first, and
# what was last seen of the circuit breakers.
_sessions: list[Session] = []
_clients: dict[str, Any] = {}
_invocations: list[str] = []
_memory = Memory()


@dataclass(kw_only=True)
class Batch:
    """What one invocation works with."""

    settings: Settings
    queue_url: str  #: Of the queue that the records come from
    store: StatusStore
    breakers: Breakers
    deadline: float  #: Unix seconds: when running tasks must have ended
    lease_until: float  #: Unix seconds: when the function is killed at the latest
    tally: Tally
    returned: list[Returned] = field(default_factory=list)
    n_delayed: int = 0  #: How many of `returned` have got their delay
    doubtful: list[Claim] = field(default_factory=list)  #: Claimed perhaps, and never started
    suspects: list[Claim] = field(default_factory=list)  #: To be run when all else is done
    n_twins: Counter[str] = field(default_factory=Counter)  #: Task id -> further deliveries, not counted yet


def handle_batch(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Process the event's records; returns the partial batch response that names the ones to deliver again."""
    batch = _begin(event, context)
    if batch.queue_url.endswith(".fifo"):
        _work_in_order(batch, Line.of(parse_record(raw) for raw in event["Records"]))
    else:
        deliveries, twins, invalid = parse_records(event)
        batch.n_twins = Counter(twin.task.task_id for twin in twins)
        _take_turn(batch, deliveries, invalid)
        _delay(batch)
        _work_suspects(batch)
    if batch.settings.has_metrics:
        batch.tally.report(batch.breakers.is_open)
    return {"batchItemFailures": [{"itemIdentifier": one.record.message_id} for one in batch.returned]}


def client(service: str) -> Any:
    """Return this process's client for `service`; made once, so that warm invocations reuse its connections."""
    if service not in _clients:
        if not _sessions:
            # Not boto3's, which imports S3 transfers and resources besides.
            _sessions.append(get_session())
        _clients[service] = _sessions[0].create_client(service, config=_CONFIG)
        if service == "dynamodb" and not _CONFIG.parameter_validation:
            write_at_once(_clients[service])
    return _clients[service]


def _begin(event: Mapping[str, Any], context: Any) -> Batch:
    now, settings = time.time(), Settings.from_environment(os.environ)
    # A mapping reads one queue, so all records of an event come from it.
    sources = [record["eventSourceARN"] for record in event["Records"][:1]]
    queue_url = settings.queue_url(sources[0]) if sources else ""
    ends_at = now + context.get_remaining_time_in_millis() / 1000
    # So that every line can be joined with the platform's report of the invocation.
    bind(requestId=context.aws_request_id)
    log_entry = {"received": round(now, 3), "requestId": context.aws_request_id}
    if not _invocations:
        log_entry["coldStart"] = True
    _invocations[:] = [context.aws_request_id]
    store = StatusStore(
        client=client("dynamodb"),
        table=settings.table,
        request_id=context.aws_request_id,
        max_attempts=settings.max_attempts,
        ttl_days=settings.ttl_days,
        log_entry=log_entry,
    )
    lease_until = round(ends_at, 3)
    breakers = Breakers(
        sql=store.sql,
        settings=settings.breaker,
        request_id=context.aws_request_id,
        lease_until=lease_until,
        memory=_memory,
    )
    return Batch(
        settings=settings,
        queue_url=queue_url,
        store=store,
        breakers=breakers,
        deadline=ends_at - MARGIN_S,
        lease_until=lease_until,
        tally=Tally(stack=settings.stack, began_at=now, ends_at=ends_at),
    )


def _take_turn(batch: Batch, deliveries: Sequence[Delivery], invalid: Sequence[Invalid]) -> None:
    """Work these records, of distinct tasks, side by side; suspects are left for later."""
    claims = _claim(batch, deliveries)
    batch.suspects += [claim for claim in claims if claim.verdict is Verdict.SUSPECT]
    results = _settle(batch, _work(batch, claims))
    _close(batch, invalid, [claim.delivery for claim in claims if claim.verdict is Verdict.FINISHED])
    _conclude(batch, results, besides={suspect.delivery.task.type for suspect in batch.suspects})


def _work_in_order(batch: Batch, line: Line) -> None:
    """Work the first record of every group, then the second, and so on; a group stops at what is not final then."""
    while time.time() < batch.deadline and (wave := line.wave()):
        _take_turn(
            batch,
            [one for one in wave if isinstance(one, Delivery)],
            [one for one in wave if isinstance(one, Invalid)],
        )
        again = {one.record.message_id for one in batch.returned}
        again |= {suspect.delivery.record.message_id for suspect in batch.suspects}
        line.stop(one for one in wave if one.record.message_id in again)
        _return_behind(batch, line)
        _delay(batch)
    batch.returned += [Returned(record=record, delay_s=0) for record in line.rest()]
    _delay(batch)
    _work_suspects(batch)
    _return_behind(batch, line, suspects=batch.suspects)
    _delay(batch)


def _return_behind(batch: Batch, line: Line, suspects: Sequence[Claim] = ()) -> None:
    """Give back, untouched, what stands behind a record that comes again, to come with it.

    What stands behind a suspect waits until that has run: one of `suspects` that is done stops nothing any more.
    """
    delays: dict[str, float | None] = {suspect.delivery.record.message_id: 0.0 for suspect in suspects}
    delays |= {one.record.message_id: one.delay_s for one in batch.returned}
    known = [(delays[first], record) for first, record in line.behind if first in delays]
    batch.returned += [Returned(record=record, delay_s=delay_s) for delay_s, record in known]
    line.behind = [(first, record) for first, record in line.behind if first not in delays]


def _work_suspects(batch: Batch) -> None:
    """Run what may have killed its process before. All else is said and done: it may end this one."""
    if batch.suspects and batch.settings.has_metrics:
        batch.tally.report(batch.breakers.is_open, at_end=False)
    for suspect in batch.suspects:
        batch.tally.kinds.add(suspect.delivery.task.type)
        _conclude(batch, _work_alone(batch, suspect))
        _delay(batch)


def _claim(batch: Batch, deliveries: Sequence[Delivery]) -> list[Claim]:
    """Claim what may run; what an open breaker holds back is returned, unclaimed or given back."""
    breakers = batch.breakers
    batch.tally.kinds |= {one.task.type for one in deliveries}
    admitted, held = breakers.admit(deliveries)
    reports = breakers.reports(one.task.type for one in admitted)
    claims = batch.store.claim(admitted, batch.lease_until, reports, breakers.hear)
    # A breaker that turned out to be open by the answer to the same request.
    late = [
        i for i, claim in enumerate(claims) if claim.verdict in _STARTS and breakers.holds(claim.delivery.task.type)
    ]
    batch.doubtful += batch.store.release([claims[i] for i in late if claims[i].verdict is Verdict.CLAIMED])
    _hold(batch, [*held, *(claims[i].delivery for i in late)])
    return [claim for i, claim in enumerate(claims) if i not in late]


def _hold(batch: Batch, held: Sequence[Delivery]) -> None:
    """Give back what an open breaker holds, for later."""
    for kind, n in Counter(one.task.type for one in held).items():
        log("taskq.held_back", level="WARNING", taskType=kind, nTasks=n)
    batch.returned += [Returned(record=one.record, delay_s=batch.breakers.wait_s(one)) for one in held]


def _work(batch: Batch, claims: Sequence[Claim]) -> list[Result]:
    """Run what was claimed, bury what has no attempt left, give back the rest; returns what is to be recorded."""
    mine = [claim for claim in claims if claim.verdict is Verdict.CLAIMED]
    results, unstarted = run_claims(mine, batch.deadline, batch.settings.max_attempts)
    if unstarted:
        batch.doubtful += batch.store.release(unstarted)
        batch.returned += [Returned(record=claim.delivery.record, delay_s=0) for claim in unstarted]
    for claim in claims:
        if claim.verdict is Verdict.EXHAUSTED:
            results.append(_exhausted(claim))
        elif claim.verdict is Verdict.LEASED:
            wait_s = claim.lease_until - time.time() + 1
            batch.returned.append(Returned(record=claim.delivery.record, delay_s=wait_s))
            log("taskq.leased", taskId=claim.delivery.task.task_id, leaseUntil=claim.lease_until)
        elif claim.verdict in {Verdict.UNAVAILABLE, Verdict.DEAD}:
            batch.returned.append(Returned(record=claim.delivery.record))
            # The claim may have taken effect, and its answer be lost.
            batch.doubtful.append(claim)
    return results


def _work_alone(batch: Batch, suspect: Claim) -> list[Result]:
    """Run what may have killed its process before: last and alone, when all else is done."""
    if time.time() >= batch.deadline:
        batch.returned.append(Returned(record=suspect.delivery.record, delay_s=0))
        return []
    if batch.breakers.holds(suspect.delivery.task.type):
        _hold(batch, [suspect.delivery])
        return []
    log("taskq.suspect", level="WARNING", taskId=suspect.delivery.task.task_id, attempt=suspect.attempt)
    claim = batch.store.claim_suspect(suspect, batch.lease_until)
    if claim.verdict is Verdict.SUSPECT:
        # Somebody else has tried it since it was read, and may have no message to try it again.
        batch.returned.append(Returned(record=claim.delivery.record, delay_s=0))
    return _settle(batch, _work(batch, [claim]))


def _exhausted(claim: Claim) -> Result:
    """Fail a task whose attempts are all used up and which is not final yet.

    Either its last attempt vanished, or that one failed and its dead letter could not be sent then.
    """
    last = claim.history[-1] if claim.n_logged >= claim.attempt else {}
    now = time.time()
    return Result(
        claim=claim,
        outcome=Outcome.FAILED if last else Outcome.LOST,
        started_at=last.get("started", now),
        finished_at=last.get("finished", now),
        error_type=last.get("errorType", WORKER_LOST[0]),
        error=last.get("error", WORKER_LOST[1]),
        reason=Reason.MAX_ATTEMPTS,
        is_logged=bool(last),
    )


def _settle(batch: Batch, results: Sequence[Result]) -> list[Result]:
    """Dead-letter the final failures, record all outcomes, and give back what is to be tried again.

    The dead letter goes first: were it recorded before and then not sent, the task would be final and in no queue.
    """
    final = [result for result in results if result.reason]
    buried = _bury(batch, [DeadLetter.of_result(result) for result in final])
    results = [
        replace(
            result,
            reason=result.reason if result.claim.delivery.record.message_id in buried else None,
            n_duplicates=batch.n_twins.pop(result.claim.delivery.task.task_id, 0),
        )
        for result in results
    ]
    for result, recorded in zip(results, batch.store.record(results), strict=True):
        record, task = result.claim.delivery.record, result.claim.delivery.task
        batch.tally.results.append((result, recorded))
        if not recorded:
            log("taskq.record_refused", level="ERROR", taskId=task.task_id, attempt=result.claim.attempt)
            batch.returned.append(Returned(record=record))
        elif result.outcome is not Outcome.COMPLETED and result.reason is None:
            delay_s = result.retry_after_s + backoff(batch.settings, task, result.claim.attempt)
            batch.returned.append(Returned(record=record, delay_s=delay_s))
    return list(results)


def _close(batch: Batch, invalid: Sequence[Invalid], duplicates: Sequence[Delivery]) -> None:
    """Dead-letter invalid messages and note duplicate deliveries; both end here."""
    now = time.time()
    buried = _bury(batch, [DeadLetter.of_invalid(one, now) for one in invalid])
    batch.tally.n_invalid += len(buried)
    batch.returned += [Returned(record=one.record) for one in invalid if one.record.message_id not in buried]
    for one in invalid:
        log("taskq.invalid", level="ERROR", messageId=one.record.message_id, error=str(one.error))
    for duplicate in duplicates:
        log("taskq.duplicate", taskId=duplicate.task.task_id, messageId=duplicate.record.message_id)
    # Further deliveries of tasks that this batch did not run count as well.
    counted = [duplicate.task.task_id for duplicate in duplicates] + list(batch.n_twins.elements())
    named = [
        (one.error.task_id, one.error.run_id, str(one.error))
        for one in invalid
        if one.error.task_id and one.record.message_id in buried
    ]
    if named or counted:
        batch.store.note(named, counted, now)


def _conclude(batch: Batch, results: Sequence[Result], besides: Collection[str] = ()) -> None:
    """Say what is to be said of `results` and of what is not run: to the breakers and to the store.

    The probes of the types `besides` still run.
    """
    batch.breakers.count(results)
    batch.breakers.conclude(results, besides)
    if batch.doubtful:
        for claim in batch.store.release(batch.doubtful):
            # If it was claimed, its lease runs out unused, and it counts as an attempt that vanished.
            log("taskq.release_failed", level="ERROR", taskId=claim.delivery.task.task_id)
        batch.doubtful.clear()


def _delay(batch: Batch) -> None:
    """Have SQS hide what comes again for as long as it is to wait."""
    delay(client("sqs"), batch.queue_url, batch.returned[batch.n_delayed :])
    batch.n_delayed = len(batch.returned)


def _bury(batch: Batch, letters: Sequence[DeadLetter]) -> set[str]:
    return dead_letters.send(client("sqs"), batch.settings.dead_letter_queue_url, letters) if letters else set()
