"""The data of a run, or of a time window: read once from AWS, then the same frames for every notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from taskq_lib.aws import queues, routing, stack, status
from taskq_lib.aws.frames import with_pending
from taskq_lib.aws.target import connect
from taskq_lib.report import runs
from taskq_lib.report.parameters import Value
from taskq_lib.report.runs import Run

#: The sections of results.json that the notebooks from 40_latency on find in the frames.
_FOUND_IN_FRAMES = (
    "latency",
    "censored",
    "slowest",
    "clocks",
    "objectives",
    "throughput",
    "order",
    "failure_rate",
    "signatures",
    "dead_letters",
    "safety_net",
    "stuck",
    "monitor",
    "cost",
    "compare",
    "history",
    "changes",
)


@dataclass(frozen=True, kw_only=True)
class Data:
    """What the analysis works on."""

    source: str  #: Where it comes from, in words
    tasks: pd.DataFrame = field(repr=False)  #: As `frames.TASK_COLUMNS`
    attempts: pd.DataFrame = field(repr=False)  #: As `frames.ATTEMPT_COLUMNS`
    dead: pd.DataFrame = field(repr=False)  #: As `queues.DEAD_COLUMNS`: this run's, and those that name no run
    read_at: datetime  #: When it was read; of a run that does not say, its last change: no task is taken for stuck
    queue_is_empty: bool  #: Whether the queue held no message just before; False where a run does not say
    n_listed: int  #: Dead letters that were listed, those of other runs among them
    n_dead: int | None  #: Those that there were just before, approximate on AWS; None where a run does not say
    manifest: pd.DataFrame | None = field(repr=False, default=None)  #: What was submitted; None for a time window
    second_takes: str = ""  #: The rule of the stack's second queue, as `Queue.takes`; empty where there is none
    run: Run | None = None

    @property
    def dead_is_whole(self) -> bool:
        """Whether every dead letter was listed; one that some reader hides, or that is beyond the limit, is not."""
        return self.n_dead is not None and self.n_listed >= self.n_dead

    @property
    def queue(self) -> pd.Series[str]:
        """Which queue each row of `tasks` was sent to, "first" or "second" (str), by the rule of the second queue."""
        number = np.zeros(len(self.tasks), dtype=np.int64)
        kinds = self.tasks[["task_type", "priority"]].dropna().drop_duplicates().itertuples(index=False)
        for kind, priority in kinds if self.second_takes else ():
            if routing.holds(self.second_takes, kind, priority):
                is_of_kind = (self.tasks["task_type"] == kind) & (self.tasks["priority"] == priority)
                number[is_of_kind.fillna(value=False).to_numpy(dtype=bool)] = 1
        return pd.Series(pd.array(["first", "second"], dtype="str").take(number), index=self.tasks.index)

    @property
    def inventory(self) -> str:
        """How much of the dead-letter queue was listed, in words."""
        if self.dead_is_whole:
            return f"all {self.n_listed:,} dead letters were listed"
        if self.n_dead is None:
            return "whether all dead letters were listed is not known: a task without a status is open, not lost"
        return (
            f"only {self.n_listed:,} of about {self.n_dead:,} dead letters were listed: a task without a status is "
            "open, not lost, and what is said of dead letters is said of those"
        )

    @property
    def window(self) -> str:
        """The time the tasks cover, from the first to be enqueued to the last change, in words."""
        first, last = self.tasks["enqueued_at"].min(), self.tasks["updated_at"].max()
        if pd.isna(first) or pd.isna(last):
            return "no task has a time yet"
        return f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC ({(last - first).total_seconds():,.1f} s)"


def collect(live: stack.Stack, run: Run, max_dead_letters: int) -> Data:
    """Read a run's tasks by id and the dead-letter queue, and keep both in the run's folder."""
    manifest = run.load("manifest")
    # Counted before tasks are read: only then is it sure that none can go on, and that each letter was there.
    read_at, before = datetime.now(UTC), queues.counts(live)
    found = status.get(live, manifest["task_id"].tolist())
    sends = run.load("sends") if (run.folder / "sends.parquet").is_file() else None
    tasks = with_pending(found.tasks, manifest, run.id, sends)
    letters = queues.dead_letters(live, max_dead_letters)
    for name, frame in {"tasks": tasks, "attempts": found.attempts, "dead": _of_run(letters, run.id)}.items():
        run.save(name, frame)
    read = {"at": read_at.isoformat(), "queue_is_empty": before.n_unsettled == 0}
    read |= {"n_listed": len(letters), "n_dead": before.n_dead, "dead_is_whole": len(letters) >= before.n_dead}
    # What was found in the frames before is true of them no more; the notebooks that find it come after this one.
    run.record(read=read, **dict.fromkeys(_FOUND_IN_FRAMES))
    return _of_folder(run, manifest)


def load(chosen: Mapping[str, Value]) -> Data:
    """Return the data that a notebook's parameters name.

    With `since_hours` above 0, every task that changed in the last hours is read from the stack; else the frames that
    30_status kept in the folder of run `run_id` (the newest run where it is empty), which needs no AWS.
    """
    hours = float(chosen.get("since_hours", 0.0))
    if hours == 0:
        run = runs.find(str(chosen["run_id"]), str(chosen["runs_dir"]))
        return _of_folder(run, run.load("manifest"))
    live = stack.describe(connect(str(chosen["target"]), str(chosen["region"]) or None), str(chosen["stack_name"]))
    read_at, before = datetime.now(UTC), queues.counts(live)
    found = status.window(live, read_at - timedelta(hours=hours))
    dead = queues.dead_letters(live, int(chosen.get("max_dead_letters", 1_000)))
    source = f"stack {live.name} in {live.target.region}, tasks that changed in the last {hours:g} h"
    return Data(
        source=source,
        tasks=found.tasks,
        attempts=found.attempts,
        dead=dead,
        read_at=read_at,
        queue_is_empty=before.n_unsettled == 0,
        n_listed=len(dead),
        n_dead=before.n_dead,
        second_takes=live.queues[1].takes if len(live.queues) > 1 else "",
    )


def _of_folder(run: Run, manifest: pd.DataFrame) -> Data:
    tasks, results = run.load("tasks"), run.results()
    read = results.get("read", {})
    # NaT where nothing has changed yet: then no task has a lease either.
    changed_at = tasks["updated_at"].fillna(pd.Timestamp(0, tz="UTC")).max()
    return Data(
        source=f"run {run.id}{_age(read, results.get('redrives', []))}",
        tasks=tasks,
        attempts=run.load("attempts"),
        dead=run.load("dead"),
        read_at=datetime.fromisoformat(read["at"]) if read else changed_at,
        queue_is_empty=bool(read.get("queue_is_empty")),
        n_listed=read.get("n_listed", 0),
        n_dead=read.get("n_dead"),
        manifest=manifest,
        second_takes=_second_takes(run),
        run=run,
    )


def _second_takes(run: Run) -> str:
    """Return the rule of the second queue when the run was submitted; an earlier version knew one queue only."""
    origin = run.load("sends").attrs.get("origin") if (run.folder / "sends.parquet").is_file() else None
    return str((origin or {}).get("takes", ""))


def _age(read: Mapping[str, Any], redrives: Sequence[Mapping[str, Any]]) -> str:
    """Say that what was read is out of date, where a redrive has begun since."""
    if not read or not any(one["begun_at"] > read["at"] for one in redrives):
        return ""
    at = datetime.fromisoformat(read["at"])
    return f" as it was at {at:%H:%M:%S} UTC; it was redriven since, and 30_status reads it again"


def _of_run(dead: pd.DataFrame, run_id: str) -> pd.DataFrame:
    return dead[(dead["run_id"] == run_id) | dead["run_id"].isna()].reset_index(drop=True)
