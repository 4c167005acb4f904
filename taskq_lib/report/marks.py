"""Events that may explain a course: what was done to the stack or the run, and when, for figures over time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from taskq_lib.aws import breakers, stack
from taskq_lib.aws.frames import TIME
from taskq_lib.aws.target import connect
from taskq_lib.report.data import Data
from taskq_lib.report.parameters import Value
from taskq_lib.report.runs import Run
from taskq_worker.contract import BreakerState

#: marks: when, which kind (deploy, pause, resume, redrive or breaker), and what exactly.
COLUMNS: dict[str, Any] = {"at": TIME, "kind": "str", "what": "str"}
_Row = tuple[Any, str, str]


def read(found: Data, chosen: Mapping[str, Value]) -> pd.DataFrame:
    """Return the events of a run, from its folder, or of a time window, from the stack, in order of time.

    Of a run: its deployments, pauses and resumptions that its folder has, its redrives, and the changes of the circuit
    breakers that 30_status kept, from the first task on. Of a window: when the stack was last changed, and the
    breakers' changes. Columns are `COLUMNS`.
    """
    rows = list(_of_run(found.run)) if found.run is not None else list(_of_stack(chosen))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    # What another tool wrote for a time, and is none, cannot be drawn.
    frame["at"] = pd.to_datetime(frame["at"], utc=True, format="ISO8601", errors="coerce")
    frame = frame.astype(COLUMNS).sort_values("at", kind="stable")
    first = found.tasks["enqueued_at"].min()
    # The breakers outlive a run, and remember what was before it.
    is_old = (frame["kind"] == "breaker") & (frame["at"] < first) if not pd.isna(first) else False
    return frame[~(frame["at"].isna() | is_old)].reset_index(drop=True)


def _of_run(run: Run) -> Iterator[_Row]:
    results = run.results()
    for path in sorted(run.folder.glob("*.ipynb")):
        if path.name.startswith(("10_deploy", "52_pause_resume")):
            yield from _acted(json.loads(path.read_text(encoding="utf-8")), path.stem)
    for one in results.get("redrives", []):
        n = sum(one.get("messages", {}).get(state, 0) for state in ("sent", "deleted"))
        yield one["begun_at"], "redrive", f"number {one['number']}: {n:,} messages sent, {one['state']}"
    if (run.folder / "breakers.parquet").is_file():
        yield from _transitions(run.load("breakers"))


def _acted(notebook: Mapping[str, Any], name: str) -> Iterator[_Row]:
    """Say what an executed notebook did, and when it ended, as papermill noted; nothing where it changed nothing."""
    noted = notebook["metadata"].get("papermill", {})
    given = noted.get("parameters", {})
    if noted.get("exception") or not noted.get("end_time"):
        return
    if name.startswith("10_deploy"):
        if not given.get("preview_only"):
            yield noted["end_time"], "deploy", f"stack {given.get('stack_name', 'taskq')}"
    elif not given.get("dry_run", True):
        yield noted["end_time"], str(given.get("action", "pause")), f"stack {given.get('stack_name', 'taskq')}"


def _of_stack(chosen: Mapping[str, Value]) -> Iterator[_Row]:
    target = connect(str(chosen["target"]), str(chosen["region"]) or None)
    live = stack.describe(target, str(chosen["stack_name"]))
    described = target.client("cloudformation").describe_stacks(StackName=live.name)["Stacks"][0]
    changed_at = described.get("LastUpdatedTime", described["CreationTime"])
    yield pd.Timestamp(changed_at).isoformat(), "deploy", f"stack {live.name}"
    yield from _transitions(breakers.read(live).transitions)


def _transitions(frame: pd.DataFrame) -> Iterator[_Row]:
    # The first that a breaker remembers is that it was made, closed: no event.
    is_made = (frame["state"] == str(BreakerState.CLOSED)) & ~frame["task_type"].duplicated()
    changes = frame[~is_made]
    for at, kind, state in zip(changes["at"], changes["task_type"], changes["state"], strict=True):
        yield at.isoformat(), "breaker", f"{kind}: {state}"
