"""12_failover as a person runs it: a dry run that shows, then the second region's stack, a task in it, a record."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskq_lib.aws import control, status
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target, connect
from taskq_lib.errors import StackNotFound
from taskq_lib.report import runs
from tests.notebooks.conftest import Begin, Finish, Up

pytestmark = pytest.mark.notebooks

AWAY = "eu-west-1"
Taskq = Callable[..., Any]


@pytest.fixture
def regions(up: Up, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Stack, Target]]:
    """A stack whose table has a replica in a second region, and that region, with no stack in it."""
    monkeypatch.setenv("TASKQ_STATE_DIR", str(up.state))
    first = stacks.deploy(connect("local"), "leaving", {"ReplicaRegion": AWAY}, progress=lambda _: None)
    away = connect("local", AWAY)
    yield first, away
    stacks.delete(stacks.describe(away, "leaving"), progress=lambda _: None)
    stacks.delete(first, progress=lambda _: None)


@pytest.fixture
def taskq(begin: Begin, finish: Finish, up: Up, tmp_path: Path) -> Taskq:
    """Run the notebook; returns the process that ended."""

    def run(*argv: str) -> Any:
        where = ["--stack-name", "leaving", "-p", "runs_dir", str(tmp_path), "-p", f"failover_region={AWAY}"]
        return finish(begin(up.state, "run", "12_failover", *where, *argv))

    return run


def test_going_over_is_shown_then_done(regions: tuple[Stack, Target], taskq: Taskq, tmp_path: Path) -> None:
    """The dry run leaves both regions as they are; the real one pauses the first and completes a task in the second."""
    first, away = regions
    shown = taskq()
    assert shown.returncode == 0, shown.stderr
    assert "dry run: nothing was changed" in shown.stdout
    with pytest.raises(StackNotFound):
        stacks.describe(away, "leaving")
    assert control.state(first) == "Enabled"

    done = taskq("-p", "dry_run", "false")
    assert done.returncode == 0, done.stderr
    record = runs.find("", tmp_path).results()["failover"]
    assert (record["dry_run"], record["to"], record["table"]) == (False, AWAY, first.table)
    assert record["seen_after_s"] is not None
    assert control.state(first) == "Disabled"
    second = stacks.describe(away, "leaving")
    assert second.parameters["ExistingTableName"] == first.table
    assert status.get(second, [record["task"]]).tasks["state"].tolist() == ["completed"]

    # The first region is down: nothing of it is asked, and what is needed to know is given.
    alone = taskq("-p", "dry_run", "false", "-p", "first_answers", "false", "-p", "table_name", first.table)
    assert alone.returncode == 0, alone.stderr
    record = runs.find("", tmp_path).results()["failover"]
    assert (record["left"], record["seen_after_s"]) == ({"messages": "not asked"}, None)


def test_what_cannot_be_gone_over_to_is_said(up: Up, begin: Begin, finish: Finish, tmp_path: Path) -> None:
    """No second region, or one without a replica: one sentence, and nothing is done."""
    where = ["-p", "runs_dir", str(tmp_path)]
    nowhere = finish(begin(up.state, "run", "12_failover", *where))
    assert nowhere.returncode == 2
    assert "failover_region must name a region other than the first one's" in nowhere.stderr
    bare = finish(begin(up.state, "run", "12_failover", *where, "-p", f"failover_region={AWAY}"))
    assert bare.returncode == 2
    assert "There is no table 'taskq-Table" in bare.stderr
