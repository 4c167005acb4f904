"""One redrive as a run's folder keeps it: its plan, its journal, and its entry in the audit record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from taskq_lib.aws import journal
from taskq_lib.aws.journal import Journal
from taskq_lib.aws.stack import Stack
from taskq_lib.errors import BadInput, RunExists
from taskq_lib.lock import alone
from taskq_lib.report import redrive_outcomes
from taskq_lib.report.redrive_plan import REDRIVE
from taskq_lib.report.runs import Run


@dataclass(frozen=True, kw_only=True)
class Redrive:
    """One redrive of a run."""

    live: Stack = field(repr=False)
    run: Run
    number: int
    resumed: bool  #: It was interrupted before, and goes on
    choice: Mapping[str, Any] = field(repr=False)  #: The parameters that say what is redriven and how it is edited
    plan: pd.DataFrame = field(repr=False)  #: As `redrive_plan.PLAN_COLUMNS`, one row a dead letter that is meant
    n_unlisted: int  #: Dead letters that the plan could not see; approximate on AWS
    example: Mapping[str, str] = field(repr=False, default_factory=dict)  #: One body before and after the edit
    refusal: BadInput | None = None  #: Why the plan is not to be acted on: its selectors name what is not there

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"redrive-{self.number:02d}"

    @property
    def journal(self) -> Path:
        """The journal's path; the file is there once it has begun."""
        return self.run.folder / f"{self.name}.jsonl"

    @property
    def chosen(self) -> pd.DataFrame:
        """The plan's rows that are to be redriven, the oldest first."""
        return self.plan[self.plan["action"] == REDRIVE]

    def __str__(self) -> str:
        skipped = self.plan.loc[self.plan["action"] != REDRIVE, "action"].value_counts()
        parts = [f"{len(self.chosen):,} messages to redrive", *(f"{n:,} {why}" for why, n in skipped.to_dict().items())]
        if self.n_unlisted:
            parts.append(f"about {self.n_unlisted:,} not listed: hidden by some reader, or too many for one inventory")
        how = f"planned, in {self.name}.parquet"
        if self.resumed:
            n_sent = len(those(self, journal.read(self.journal), "sent", "deleted"))
            how = f"goes on where it stopped, with {n_sent:,} messages sent already"
        return f"run {self.run.id}, {self.name}: {how}; {', '.join(parts)}"


def latest(live: Stack, run: Run) -> tuple[Redrive | None, Journal]:
    """Return the run's last redrive that has begun, and its journal; one that was killed before has not."""
    numbers = [int(path.stem.partition("-")[2]) for path in run.folder.glob("redrive-[0-9]*.jsonl")]
    for number in sorted(numbers, reverse=True):
        log = journal.read(run.folder / f"redrive-{number:02d}.jsonl")
        if begun := log.events.get("begun"):
            found = Redrive(
                live=live,
                run=run,
                number=number,
                resumed=True,
                choice=begun["choice"],
                plan=run.load(f"redrive-{number:02d}"),
                n_unlisted=begun["n_unlisted"],
            )
            return found, log
    return None, Journal()


@contextmanager
def turn(job: Redrive) -> Iterator[None]:
    """Hold the run's redrives for this process; raises `RunExists` where one has begun that the plan does not know."""
    with alone(job.run.folder / "redrive.lock"):
        last, _log = latest(job.live, job.run)
        n_known = job.number if job.resumed else job.number - 1
        if last and last.number > n_known:
            raise RunExists(
                f"{last.name} of run {job.run.id!r} has begun since this one was planned.",
                "Plan again, from the notebook's beginning: what that one has sent is planned no more.",
            )
        yield


def those(job: Redrive, log: Journal, *states: str) -> pd.DataFrame:
    """Return the chosen rows whose messages are in one of these states."""
    return job.chosen[job.chosen["message_id"].map(log.state).isin(states).astype("bool")]


def record(job: Redrive, log: Journal, found: pd.DataFrame | None = None) -> None:
    """Keep what was done, by whom and with what outcome, in the `redrives` section of results.json."""
    states = job.chosen["message_id"].map(log.state)
    stopped = log.events.get("stopped", {})
    entry = {
        "number": job.number,
        "by": log.events["begun"]["by"],
        "begun_at": log.events["begun"]["at"],
        "state": next((event for event in ("finished", "stopped") if event in log.events), "unfinished"),
        "why": stopped.get("why"),
        "choice": dict(job.choice),
        "actions": {str(action): int(n) for action, n in job.plan["action"].value_counts().items()},
        "n_unlisted": job.n_unlisted,
        "messages": {str(state): int(n) for state, n in states.value_counts().items()},
        "canary": log.events.get("canary passed", stopped).get("canary"),
    }
    if found is not None:
        entry["outcomes"] = redrive_outcomes.counted(found)
    others = [other for other in job.run.results().get("redrives", []) if other["number"] != job.number]
    job.run.record(redrives=[*others, entry])
