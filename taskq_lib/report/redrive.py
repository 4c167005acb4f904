"""A redrive from plan to audit: which dead letters go back to the queue, and what became of each of their tasks.

In the run's folder lie its plan (`redrive-NN.parquet`), its journal (`.jsonl`) and its outcomes. One that was
interrupted goes on, or is superseded by another; one that is over is followed by the next number. A canary that does
not pass ends its redrive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from taskq_lib.aws import journal, redrive
from taskq_lib.aws.journal import Journal
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import masked
from taskq_lib.errors import BadInput, NotDone
from taskq_lib.merge_patch import read_edit
from taskq_lib.report import redrive_job, redrive_outcomes, redrive_plan, runs, selection
from taskq_lib.report.redrive_job import Redrive

_CHOICE = ["stack_name", *selection.FORMS, "select_all", "max_messages", "edit"]
_AGAIN = "Run it again with the same parameters: it goes on where it stopped."


def prepare(live: Stack, chosen: Mapping[str, Any]) -> Redrive:
    """Plan a redrive by a notebook's parameters and keep the plan in the run's folder, or take up an unfinished one.

    Raises `BadInput` where the parameters contradict each other, or an unfinished redrive that has to be finished
    first, or where an edit breaks the contract, before anything is sent; `RunNotFound` for an id that no run has;
    `RunExists` where another process redrives for this run.
    """
    selection.check(chosen)
    run_id, runs_dir = str(chosen["run_id"]), str(chosen["runs_dir"])
    run = runs.find(run_id, runs_dir) if run_id else runs.create("", runs_dir)
    choice = {name: chosen[name] for name in _CHOICE} | {"region": live.target.region}
    last, log = redrive_job.latest(live, run)
    if last and not log.finished:
        if all(last.choice.get(key) == value for key, value in choice.items()):
            return last
        _refuse_to_supersede(last, log, choice)
    letters, n_unlisted, refusal = redrive_plan.make(live, run, chosen)
    made = Redrive(
        live=live,
        run=run,
        number=last.number + 1 if last else 1,
        resumed=False,
        choice=choice,
        plan=letters[redrive_plan.PLAN_COLUMNS],
        n_unlisted=n_unlisted,
        example=redrive_plan.example(letters, str(chosen["edit"])),
        refusal=refusal,
    )
    with redrive_job.turn(made):
        run.save(made.name, made.plan)
    return made


def act(job: Redrive, rate_per_s: float, canary_n: int, timeout_s: float) -> str:
    """Send what is planned, at most `rate_per_s` messages a second (0: no bound), and keep the audit record.

    With `canary_n` the oldest so many go first, and the rest only where all of their tasks complete within
    `timeout_s`. Returns what was done, in words. Raises `NotDone` where the canary does not pass, or where messages
    could not be sent; they are in the dead-letter queue. Raises `RunExists` where another process redrives for this
    run, or has begun to since the plan; `BadInput` where nothing is selected, or what is named is not there.
    """
    if job.refusal:
        raise job.refusal
    if job.chosen.empty:
        return "Nothing is to be sent."
    # Asked before anything is sent: credentials that run out meanwhile must not take the audit record along.
    by = masked(job.live.target.identity())["arn"]
    with redrive_job.turn(job), journal.append(job.journal) as log:
        _begin(job, log, by)
        try:
            _resolve(job, log)
            if "canary passed" not in log.events:
                _canary(job, log, rate_per_s, canary_n, timeout_s)
            _move(job, log, job.chosen["message_id"].tolist(), rate_per_s)
            return _finish(job, log)
        finally:
            redrive_job.record(job, log)


def outcomes(job: Redrive, timeout_s: float) -> pd.DataFrame:
    """Wait until every task that was sent is final, at most `timeout_s`, and keep what became of each.

    Returns a row a message that was sent, as `redrive_outcomes.awaited` does.
    """
    log = journal.read(job.journal)
    sent = redrive_job.those(job, log, "sent", "deleted")
    found = redrive_outcomes.awaited(job.live, sent, timeout_s)
    if len(sent):
        job.run.save(f"{job.name}-outcomes", found)
        redrive_job.record(job, log, found)
    return found


def _refuse_to_supersede(last: Redrive, log: Journal, choice: Mapping[str, Any]) -> None:
    """Raise `BadInput` where an unfinished redrive has messages that only its own plan can settle."""
    if unsettled := len(redrive_job.those(last, log, "in doubt", "sent")):
        changed = [key for key in choice if last.choice.get(key) != choice[key]]
        values = ", ".join(f"{key} {last.choice.get(key)!r}" for key in changed)
        raise BadInput(
            f"{last.name} of this run is not finished, and was begun with {values}; {unsettled:,} of its messages were "
            "sent and are not deleted yet, or may have been sent.",
            "Finish it with the same values first; then begin the next.",
        )


def _begin(job: Redrive, log: Journal, by: str) -> None:
    """Say who goes on; or else end the redrive that this one supersedes, keep the plan, and say who begins."""
    if job.resumed:
        log.write("resumed", by=by)
        return
    last, old = redrive_job.latest(job.live, job.run)
    if last and not old.finished:
        _refuse_to_supersede(last, old, job.choice)
        with journal.append(last.journal) as old:
            old.write("stopped", why=f"superseded by {job.name}")
            redrive_job.record(last, old)
    job.run.save(job.name, job.plan)
    log.write("begun", choice=dict(job.choice), by=by, n_unlisted=job.n_unlisted)


def _resolve(job: Redrive, log: Journal) -> None:
    """Settle what was in doubt when the redrive stopped: a task that has changed since the plan was sent.

    One that has not is sent again: a ticket opens its task once.
    """
    doubtful = redrive_job.those(job, log, "in doubt")
    if doubtful.empty:
        return
    changed = redrive_outcomes.now(job.live, doubtful)["changed"]
    for event, ids in (("sent", doubtful.loc[changed, "message_id"]), ("unsent", doubtful.loc[~changed, "message_id"])):
        if len(ids):
            log.write(event, ids.tolist(), why="by the status of its task")


def _canary(job: Redrive, log: Journal, rate_per_s: float, canary_n: int, timeout_s: float) -> None:
    """Send the first messages, or take up those that were first before an interruption, and await their tasks."""
    first = log.events.get("canary", {}).get("messages", [])
    if first:
        _move(job, log, first, rate_per_s)
    # Letters that are gone tell nothing: the next ones are the canary then.
    while all(log.state(one) == "absent" for one in first):
        first = redrive_job.those(job, log, "planned")["message_id"].head(canary_n).tolist()
        if not first:
            return
        log.write("canary", first)
        _move(job, log, first, rate_per_s)
    sent = redrive_job.those(job, log, "sent", "deleted")
    found = redrive_outcomes.awaited(job.live, sent[sent["message_id"].isin(first)], timeout_s)
    counts = redrive_outcomes.counted(found)
    if counts["completed"] < len(found):
        log.write("stopped", canary=counts)
        text = ", ".join(f"{n:,} {outcome}" for outcome, n in counts.items())
        n_left = len(redrive_job.those(job, log, "planned"))
        raise NotDone(
            f"The canary did not pass: {text}. The other {n_left:,} messages were not sent; they are in the "
            "dead-letter queue.",
            "50_failures shows the errors; correct the cause. The next redrive begins with a canary of its own.",
        )
    log.write("canary passed", canary=counts)


def _move(job: Redrive, log: Journal, wanted: Sequence[str], rate_per_s: float) -> None:
    failed = redrive.move(job.live, log, wanted, read_edit(str(job.choice["edit"])), rate_per_s)
    if failed:
        first, why = next(iter(failed.items()))
        task = job.plan.loc[job.plan["message_id"] == first, "task_id"].iloc[0]
        raise NotDone(
            f"{len(failed):,} messages failed, the first of task {task}: {why}.",
            f"They are in the dead-letter queue. {_AGAIN}",
        )


def _finish(job: Redrive, log: Journal) -> str:
    """Say that all is done, and what that was; raises `NotDone` where SQS has not said so of every message."""
    unsettled, absent = (
        redrive_job.those(job, log, "planned", "in doubt", "sent"),
        redrive_job.those(job, log, "absent"),
    )
    if len(unsettled):
        first = unsettled["task_id"].iloc[0]
        raise NotDone(
            f"Of {len(unsettled):,} messages no answer says that they were sent and deleted; the first is {first}.",
            _AGAIN,
        )
    log.write("finished")
    gone = f"; {len(absent):,} were gone, the first of task {absent['task_id'].iloc[0]}" if len(absent) else ""
    return f"{len(redrive_job.those(job, log, 'deleted')):,} messages were sent{gone}."
