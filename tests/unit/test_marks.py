"""Events for figures over time: what a run's folder, or the stack, says was done, and when."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from taskq_lib.aws import breakers, stack
from taskq_lib.report import marks, runs
from taskq_lib.report.data import Data
from taskq_lib.report.runs import Run
from tests.unit.frames import at, attempts_frame, dead_frame, tasks_frame


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run without any event."""
    return runs.create("r-1", tmp_path)


def of(run: Run | None) -> Data:
    """Give what was read of a run, of which the first task was enqueued at `at(100)`."""
    tasks = tasks_frame({"enqueued_at": at(100)}, {"enqueued_at": at(160)})
    read = {"attempts": attempts_frame(), "dead": dead_frame(), "read_at": at(999).to_pydatetime()}
    return Data(source="", tasks=tasks, queue_is_empty=True, n_listed=0, n_dead=0, run=run, **read)  # type: ignore[arg-type]


def executed(run: Run, name: str, ended_at: pd.Timestamp | None, **parameters: Any) -> None:
    """Leave a notebook in the run's folder as papermill does."""
    noted = {"parameters": parameters, "exception": None, "end_time": ended_at and ended_at.isoformat()}
    (run.folder / f"{name}.ipynb").write_text(json.dumps({"metadata": {"papermill": noted}, "cells": []}))


def transitions(*rows: tuple[float, str, str]) -> pd.DataFrame:
    """Give the changes of breakers: seconds, task type and state."""
    columns = {"at": [at(when) for when, *_ in rows], "task_type": [kind for _, kind, _ in rows]}
    frame = pd.DataFrame(columns | {"state": [state for *_, state in rows], "n_attempts": 9, "n_failed": 9})
    return frame.astype(breakers.TRANSITION_COLUMNS)


def test_a_run_has_the_events_of_its_folder_in_order(run: Run) -> None:
    """Deployments, pauses, redrives and the changes of breakers, each with its time, the earliest first."""
    executed(run, "10_deploy", at(90), stack_name="orders")
    executed(run, "52_pause_resume", at(200), action="pause", dry_run=False)
    executed(run, "52_pause_resume-2", at(260), action="resume", dry_run=False)
    run.record(
        redrives=[{"number": 1, "begun_at": at(400).isoformat(), "state": "finished", "messages": {"deleted": 7}}]
    )
    run.save("breakers", transitions((110, "SEND_EMAIL", "closed"), (120, "SEND_EMAIL", "open")))
    found = marks.read(of(run), {})
    assert found.dtypes.astype("str").tolist() == ["datetime64[us, UTC]", "str", "str"]
    assert found.to_numpy().tolist() == [
        [at(90), "deploy", "stack orders"],
        [at(120), "breaker", "SEND_EMAIL: open"],
        [at(200), "pause", "stack taskq"],
        [at(260), "resume", "stack taskq"],
        [at(400), "redrive", "number 1: 7 messages sent, finished"],
    ]


def test_what_changed_nothing_is_no_event(run: Run) -> None:
    """A preview, a dry run and what was interrupted are left out, as is what a breaker did before the run."""
    executed(run, "10_deploy", at(90), preview_only=True)
    executed(run, "52_pause_resume", at(200), action="pause")
    executed(run, "52_pause_resume-2", None, action="pause", dry_run=False)
    run.save("breakers", transitions((10, "SEND_EMAIL", "open"), (50, "SEND_EMAIL", "closed")))
    assert marks.read(of(run), {}).empty


def test_a_run_without_events_has_none(run: Run) -> None:
    """An empty folder gives an empty frame of the same types."""
    found = marks.read(of(run), {})
    assert (list(found.columns), len(found)) == (list(marks.COLUMNS), 0)


def test_a_window_has_the_events_that_its_stack_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a run the stack is asked: when it was changed last or, if never, made, and what its breakers did."""
    described: dict[str, object] = {"CreationTime": at(50).to_pydatetime()}
    formation = SimpleNamespace(describe_stacks=lambda **_named: {"Stacks": [described]})
    target = SimpleNamespace(client=lambda _service: formation)
    seen = breakers.Breakers(pd.DataFrame(), transitions((120, "SEND_EMAIL", "open"), (150, "SEND_EMAIL", "closed")))
    monkeypatch.setattr(marks, "connect", lambda *_where: target)
    monkeypatch.setattr(stack, "describe", lambda _target, name: SimpleNamespace(name=name))
    monkeypatch.setattr(breakers, "read", lambda _live: seen)
    chosen = {"target": "local", "region": "", "stack_name": "orders"}
    events = [[at(120), "breaker", "SEND_EMAIL: open"], [at(150), "breaker", "SEND_EMAIL: closed"]]
    assert marks.read(of(None), chosen).to_numpy().tolist() == [[at(50), "deploy", "stack orders"], *events]
    described["LastUpdatedTime"] = at(130).to_pydatetime()
    assert marks.read(of(None), chosen).to_numpy().tolist() == [
        events[0],
        [at(130), "deploy", "stack orders"],
        events[1],
    ]
