"""A redrive from plan to audit: which dead letters go back to the queue, and what became of each of their tasks.

In the run's folder lie its plan (`redrive-NN.parquet`), its journal (`.jsonl`) and its outcomes. One that was
interrupted goes on; one that is over is followed by the next number. A canary that does not pass ends its redrive.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from taskq_lib.aws import journal, queues, redrive, status
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import masked
from taskq_lib.errors import BadInput, NotDone
from taskq_lib.lock import alone
from taskq_lib.merge_patch import read_edit
from taskq_lib.report import redrive_plan, runs, selection
from taskq_lib.report.redrive_plan import REDRIVE
from taskq_lib.report.runs import Run
from taskq_worker.contract import State

OUTCOMES = ("completed", "dead-lettered again", "still open")
_CHOICE = ["stack_name", *selection.FORMS, "select_all", "max_messages", "edit"]


@dataclass(frozen=True, kw_only=True)
class Redrive:
    """One redrive of a run."""

    live: Stack = field(repr=False)
    run: Run
    number: int
    resumed: bool  #: It was interrupted before, and goes on
    choice: Mapping[str, Any] = field(repr=False)  #: The parameters that say what is redriven and how it is edited
    plan: pd.DataFrame = field(repr=False)  #: As `redrive_plan.PLAN_COLUMNS`, one row a dead letter that is meant
    example: Mapping[str, str] = field(repr=False, default_factory=dict)  #: One body before and after the edit

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"redrive-{self.number:02d}"

    @property
    def journal(self) -> Path:
        """The journal's path; the file is there once something was sent."""
        return self.run.folder / f"{self.name}.jsonl"

    @property
    def chosen(self) -> pd.DataFrame:
        """The plan's rows that are to be redriven, the oldest first."""
        return self.plan[self.plan["action"] == REDRIVE]

    def __str__(self) -> str:
        skipped = self.plan.loc[self.plan["action"] != REDRIVE, "action"].value_counts()
        parts = [f"{len(self.chosen):,} messages to redrive", *(f"{n:,} {why}" for why, n in skipped.to_dict().items())]
        how = "goes on where it stopped" if self.resumed else f"planned, in {self.name}.parquet"
        return f"run {self.run.id}, {self.name}: {how}; {', '.join(parts)}"


def prepare(live: Stack, chosen: Mapping[str, Any]) -> Redrive:
    """Plan a redrive by a notebook's parameters and keep the plan in the run's folder, or take up an unfinished one.

    Raises `BadInput` where the parameters contradict each other or the unfinished redrive, or where an edit breaks the
    contract, before anything is sent; `RunNotFound` for an id that no run has.
    """
    selection.check(chosen)
    run_id, runs_dir = str(chosen["run_id"]), str(chosen["runs_dir"])
    run = runs.find(run_id, runs_dir) if run_id else runs.create("", runs_dir)
    choice = {name: chosen[name] for name in _CHOICE} | {"region": live.target.region}
    number, last = _last(run)
    if last is not None and not last.finished:
        _refuse_change(last.events["begun"]["choice"], choice, f"redrive-{number:02d}")
        plan = run.load(f"redrive-{number:02d}")
        return Redrive(live=live, run=run, number=number, resumed=True, choice=choice, plan=plan)
    letters = redrive_plan.make(live, run, chosen)
    made = Redrive(
        live=live,
        run=run,
        number=number + 1,
        resumed=False,
        choice=choice,
        plan=letters[redrive_plan.PLAN_COLUMNS],
        example=redrive_plan.example(letters, str(chosen["edit"])),
    )
    run.save(made.name, made.plan)
    return made


def act(job: Redrive, rate_per_s: float, canary_n: int, timeout_s: float) -> None:
    """Send what is planned, at most `rate_per_s` messages a second (0: no bound), and keep the audit record.

    With `canary_n` the oldest so many go first, and the rest only where all of their tasks complete within
    `timeout_s`. Raises `NotDone` otherwise, or where messages could not be sent; they are in the dead-letter queue.
    Raises `RunExists` where another process redrives for this run.
    """
    if job.chosen.empty:
        return
    with alone(job.run.folder / "redrive.lock"), journal.append(job.journal) as log:
        if not job.resumed:
            log.write("begun", choice=dict(job.choice))
        try:
            _resolve(job, log)
            if canary_n and "canary passed" not in log.events:
                _canary(job, log, rate_per_s, canary_n, timeout_s)
            _move(job, log, job.chosen["message_id"].tolist(), rate_per_s)
            log.write("finished")
        finally:
            _record(job, log)


def outcomes(job: Redrive, timeout_s: float) -> pd.DataFrame:
    """Wait until every task that was sent is final, at most `timeout_s`, and keep what became of each.

    Returns task_id, signature_id, signature, outcome (str, one of `OUTCOMES`), one row a message that was sent.
    """
    log = journal.read(job.journal)
    sent = job.chosen[job.chosen["message_id"].map(log.state).isin(["sent", "deleted"]).astype("bool")]
    found = _awaited(job.live, sent, timeout_s)
    if len(sent):
        job.run.save(f"{job.name}-outcomes", found)
        _record(job, log, found)
    return found


def by_signature(found: pd.DataFrame) -> pd.DataFrame:
    """Count outcomes: one row a signature (signature_id, signature), one column each of `OUTCOMES` (int)."""
    counted = found.groupby(["signature_id", "signature", "outcome"]).size().unstack(fill_value=0)
    return counted.reindex(columns=list(OUTCOMES), fill_value=0).rename_axis(columns=None).reset_index()


def verify(found: pd.DataFrame) -> None:
    """Raise `NotDone` where tasks are still open; one that was dead-lettered again is an answer, not an error."""
    open_ = found.loc[found["outcome"] == "still open", "task_id"]
    if len(open_):
        raise NotDone(
            f"{len(open_):,} redriven tasks are still open, the first is {open_.iloc[0]}.",
            "`taskq status ID` shows one; a paused mapping (52_pause_resume) leaves them in the queue.",
        )


def _last(run: Run) -> tuple[int, journal.Journal | None]:
    """Return the number and journal of the run's last redrive that sent anything."""
    paths = sorted(run.folder.glob("redrive-[0-9]*.jsonl"), key=lambda path: int(path.stem.partition("-")[2]))
    return (int(paths[-1].stem.partition("-")[2]), journal.read(paths[-1])) if paths else (0, None)


def _refuse_change(begun: Mapping[str, Any], choice: Mapping[str, Any], name: str) -> None:
    changed = [key for key in choice if begun.get(key) != choice[key]]
    if changed:
        values = ", ".join(f"{key} {begun.get(key)!r}" for key in changed)
        raise BadInput(
            f"{name} of this run is not finished, and was begun with {values}.",
            "Finish it with the same values first; then begin the next.",
        )


def _resolve(job: Redrive, log: journal.Journal) -> None:
    """Settle what was in doubt when the redrive stopped: a task that has changed since the plan was sent.

    One that has not is sent again: a ticket opens its task once.
    """
    doubtful = job.chosen[job.chosen["message_id"].isin(log.those("in doubt"))]
    if doubtful.empty:
        return
    changed = _now(job.live, doubtful)["changed"]
    for event, ids in (("sent", doubtful.loc[changed, "message_id"]), ("unsent", doubtful.loc[~changed, "message_id"])):
        if len(ids):
            log.write(event, ids.tolist(), why="by the status of its task")


def _canary(job: Redrive, log: journal.Journal, rate_per_s: float, canary_n: int, timeout_s: float) -> None:
    planned = job.chosen[job.chosen["message_id"].map(log.state) == "planned"]
    if planned.empty:
        return
    first = planned.head(canary_n)
    _move(job, log, first["message_id"].tolist(), rate_per_s)
    found = _awaited(job.live, first[first["message_id"].map(log.state) == "deleted"], timeout_s)
    counted = {outcome: int((found["outcome"] == outcome).sum()) for outcome in OUTCOMES}
    if counted["completed"] < max(1, len(found)):
        log.write("stopped", canary=counted)
        text = ", ".join(f"{n:,} {outcome}" for outcome, n in counted.items())
        raise NotDone(
            f"The canary did not pass: {text}. The other {len(planned) - len(first):,} messages were not sent; they "
            "are in the dead-letter queue.",
            "50_failures shows the errors; correct the cause. The next redrive begins with a canary of its own.",
        )
    log.write("canary passed", canary=counted)


def _move(job: Redrive, log: journal.Journal, wanted: Sequence[str], rate_per_s: float) -> None:
    failed = redrive.move(job.live, log, wanted, read_edit(str(job.choice["edit"])), rate_per_s)
    if failed:
        first, why = next(iter(failed.items()))
        task = job.plan.loc[job.plan["message_id"] == first, "task_id"].iloc[0]
        raise NotDone(
            f"{len(failed):,} messages failed, the first of task {task}: {why}.",
            "They are in the dead-letter queue. Run it again with the same parameters: it goes on where it stopped.",
        )


def _now(live: Stack, rows: pd.DataFrame) -> pd.DataFrame:
    """Read the tasks of a plan's rows again: state (str), and whether it has changed since the plan (bool)."""
    tasks = status.get(live, rows["task_id"].tolist()).tasks[["task_id", "state", "updated_at"]]
    found = rows[["task_id", "updated_at"]].merge(tasks, on="task_id", how="left", suffixes=("_then", ""))
    changed = found["updated_at"].notna() & ~(found["updated_at"] == found["updated_at_then"])
    return pd.DataFrame({"state": found["state"].astype("str"), "changed": changed}).set_index(rows.index)


def _awaited(live: Stack, rows: pd.DataFrame, timeout_s: float) -> pd.DataFrame:
    """Ask for the tasks until all are final, the time is up, or nothing is left that could run."""
    outcome = pd.Series("still open", index=rows.index, dtype="str")
    start = busy_at = time.monotonic()
    while (open_ := rows[outcome == "still open"]).size:
        asked_at = time.monotonic()
        now = _now(live, open_)
        outcome[now.index[now["state"] == State.COMPLETED]] = "completed"
        outcome[now.index[(now["state"] == State.DEAD_LETTERED) & now["changed"]]] = "dead-lettered again"
        if queues.counts(live).n_unsettled:
            busy_at = time.monotonic()
        left_s = timeout_s - (time.monotonic() - start)
        if left_s <= 0 or time.monotonic() - busy_at > status.IDLE_S:
            break
        # At most a quarter of the time is spent asking; the table has work to do.
        time.sleep(min(max(0.5, 3 * (time.monotonic() - asked_at)), 10.0, left_s))
    return rows[["task_id", "signature_id", "signature"]].assign(outcome=outcome).reset_index(drop=True)


def _record(job: Redrive, log: journal.Journal, found: pd.DataFrame | None = None) -> None:
    """Keep what was done, by whom and with what outcome, in the `redrives` section of results.json."""
    states = job.chosen["message_id"].map(log.state)
    entry = {
        "number": job.number,
        "by": masked(job.live.target.identity())["arn"],
        "begun_at": log.events["begun"]["at"],
        "state": next((event for event in ("finished", "stopped") if event in log.events), "unfinished"),
        "choice": dict(job.choice),
        "actions": {str(action): int(n) for action, n in job.plan["action"].value_counts().items()},
        "messages": {str(state): int(n) for state, n in states.value_counts().items()},
        "canary": log.events.get("canary passed", log.events.get("stopped", {})).get("canary"),
    }
    if found is not None:
        entry["outcomes"] = {outcome: int((found["outcome"] == outcome).sum()) for outcome in OUTCOMES}
    others = [other for other in job.run.results().get("redrives", []) if other["number"] != job.number]
    job.run.record(redrives=[*others, entry])
