"""`taskq run`: one notebook by itself, into a run's folder, as strictly as the chain; and the two that act by hand."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskq_lib.aws import control, queues, status, submit
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import connect
from taskq_lib.report import runs
from taskq_lib.report.runs import Run
from tests.notebooks.conftest import Begin, Finish, Up
from tests.unit.events import task

pytestmark = pytest.mark.notebooks

Taskq = Callable[..., Any]


@pytest.fixture(scope="module")
def live(up: Up) -> Stack:
    """A stack of this module's own, with three dead letters of one signature."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKQ_STATE_DIR", str(up.state))
        found = stacks.deploy(connect("local"), "by-hand", progress=lambda _: None)
    for i in range(3):
        submit.send_one(found, task(f"doomed-{i}", simulate={"fail_attempts": -1, "retryable": False}))
    ids = [f"doomed-{i}" for i in range(3)]
    assert status.wait(found, ids, timeout_s=60, progress=False).why == "all final"
    return found


@pytest.fixture
def taskq(begin: Begin, finish: Finish, up: Up, tmp_path: Path, live: Stack) -> Taskq:
    """Run one notebook on that stack; returns the process that ended."""

    def run(name: str, *argv: str) -> Any:
        where = ["--stack-name", live.name, "-p", "runs_dir", str(tmp_path)]
        return finish(begin(up.state, "run", name, *where, *argv))

    return run


@pytest.fixture
def newest(tmp_path: Path) -> Callable[[], Run]:
    """Return the newest run."""
    return lambda: runs.find("", tmp_path)


def test_a_redrive_is_planned_then_done(taskq: Taskq, newest: Callable[[], Run], live: Stack) -> None:
    """A dry run shows the plan; told to act in the same folder it redrives behind a canary, and both stay as evidence.

    Afterwards nothing is left to select, which is said.
    """
    chosen = ["-p", "select_reason=non_retryable", "-p", 'edit={"data": {"simulate": null}}']
    planned = taskq("51_redrive", *chosen)
    assert (planned.returncode, planned.stderr) == (0, "")
    run = newest()
    for shown in (planned.stdout, (run.folder / "51_redrive.html").read_text()):
        assert "3 messages to redrive" in shown
        assert "dry run: nothing was sent" in shown
    assert planned.stdout.splitlines()[-1] == f"report: {run.folder / '51_redrive.html'}"
    assert queues.counts(live).n_dead == 3

    act = [*chosen, "--run-id", run.id, "-p", "dry_run=false", "-p", "canary_n=1", "--json"]
    done = taskq("51_redrive", *act)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["run_id"], told["index"]) == (run.id, str(run.folder / "index.html"))
    assert told["page"] == str(run.folder / "51_redrive-2.html")
    [audit] = run.results()["redrives"]
    assert (audit["state"], audit["outcomes"]["completed"]) == ("finished", 3)
    assert queues.counts(live).n_dead == 0
    index = (run.folder / "index.html").read_text()
    assert '<a href="51_redrive.html">' in index
    assert 'id="51_redrive-2"' in index
    assert "3 messages were sent; every task of theirs is final" in index
    assert "What was redriven" in index

    again = taskq("51_redrive", *act)
    assert (again.returncode, again.stdout) == (2, "")
    assert "BadInput: Nothing is selected, of 0 dead letters" in again.stderr
    assert again.stderr.count("->") == 1
    assert len(run.results()["redrives"]) == 1
    unknown = taskq("51_redrive", "--run-id", run.id, "-p", "select_signature=deadbeef")
    assert unknown.returncode == 0
    assert "No dead letter that was listed is of signature deadbeef" in unknown.stdout
    index = (run.folder / "index.html").read_text()
    assert re.search(r"51_redrive-4</a>,? <b>dry run</b>", index)
    assert [mark in index for mark in ("<b>acted</b>", "<b>failed</b>")] == [True, True]


def test_a_pause_and_a_resume(taskq: Taskq, live: Stack, tmp_path: Path) -> None:
    """By default nothing is changed; told so, the queue is paused and resumed again, each verified and recorded.

    The record is kept in the run that is named; where none is, what was done is told, and no folder is left.
    """
    shown = taskq("52_pause_resume")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "dry run: nothing was changed" in shown.stdout
    assert control.state(live) == "Enabled"
    assert list(tmp_path.iterdir()) == []
    run = runs.create("r", tmp_path)
    for action, state in (("pause", "Disabled"), ("resume", "Enabled")):
        done = taskq("52_pause_resume", "--run-id", run.id, "-p", "dry_run=false", "-p", f"action={action}")
        assert (done.returncode, done.stderr) == (0, "")
        assert control.state(live) == state
        record = run.results()["pause_resume"]
        assert (record["action"], record["mapping"]) == (action, state)


def test_the_doctor_reads_and_records(taskq: Taskq, tmp_path: Path) -> None:
    """On a stack of documented defaults the queue gets its one warning; nothing is critical, and a run keeps it all."""
    run = runs.create("r", tmp_path)
    done = taskq("11_doctor", "--run-id", run.id)
    assert (done.returncode, done.stderr) == (0, "")
    record = run.results()["doctor"]
    [found] = [one for one in record["findings"] if one["resource"] == "Queue"]
    assert (found["check"], found["severity"]) == ("visibility_below_advised", "warning")
    assert found["mend"] == "VisibilityTimeoutSeconds=1800"
    assert record["counts"]["critical"] == 0
    assert f"{record['n_checks']} checks, 0 critical" in done.stdout
    assert "visibility_below_advised" in (run.folder / "11_doctor.html").read_text()


def test_a_notebook_that_fails_says_why(taskq: Taskq, newest: Callable[[], Run]) -> None:
    """A notebook that could not run ends with 2, its cell, error and hint; the run is none to go on."""
    failed = taskq("51_redrive", "-p", "select_ids=none", "-p", "timeout_s=0", "--stack-name", "nowhere")
    assert failed.returncode == 2
    assert re.search(
        r"^error: 51_redrive, cell \d+: StackNotFound: No stack 'nowhere'.*\n  -> .*`taskq deploy`.*\n$", failed.stderr
    )
    assert "StackNotFound" in (newest().folder / "51_redrive.html").read_text()
    assert newest().results()["state"] == "by hand"


def test_a_notebook_that_reads_takes_the_newest_run(taskq: Taskq, newest: Callable[[], Run], tmp_path: Path) -> None:
    """Where no run is named, a notebook that reads one goes into the newest; without any it is refused."""
    refused = taskq("30_status")
    assert refused.returncode == 2
    assert list(tmp_path.iterdir()) == []
    assert taskq("20_submit", "-p", "n_tasks=5").returncode == 0
    run = newest()
    assert taskq("30_status").returncode == 0
    assert newest() == run
    assert (run.folder / "30_status.html").is_file()
    assert run.results()["ledger"]["closed"] is True
