"""The start page says what there is, and the command that opens it leaves nothing behind."""

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from taskq_lib.commands import lab
from taskq_lib.report import runs, state
from taskq_lib.workload import Workload, generate

#: Says that it is there, and then does not end when it is told to.
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without an engine, and a folder for runs."""
    monkeypatch.setenv("TASKQ_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "runs"


def look(root: Path, target: str = "local") -> pd.DataFrame:
    """Return what the start page shows, a row each by what it is."""
    return state.look(target, "", "taskq", str(root)).set_index("what")


def test_what_is_not_there_is_said_with_what_to_do(nothing: Path) -> None:
    """Without engine, stack and runs each row says so and what to do; none raises, and no row is left out."""
    found = look(nothing)
    assert list(found.index) == ["target", "stack", "newest run"]
    for what in ("target", "stack"):
        assert str(found.loc[what, "state"]).startswith("The embedded engine is not running: none is recorded in")
    assert "`taskq local start`" in str(found.loc["target", "next"])
    assert tuple(found.loc["newest run"]) == (f"none in {nothing}", "20_submit makes one")


def test_an_account_without_credentials_is_said(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On AWS what is missing is said as well, in the words of every command."""
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    found = look(nothing, "aws")
    assert found.loc["target", "state"] == "No AWS credentials were found."
    assert "AWS_PROFILE" in str(found.loc["target", "next"])


@pytest.mark.parametrize(
    ("closes", "ledger", "after"),
    [
        ({}, "ledger not closed yet", "30_status closes its ledger"),
        ({"closed": True}, "ledger closed: 3 submitted", "50_failures and 40_latency look into it"),
        ({"closed": False}, "ledger open: 3 submitted", "30_status closes its ledger"),
    ],
)
def test_the_newest_run_leads_on(closes: dict[str, bool], ledger: str, after: str, nothing: Path) -> None:
    """The newest run is shown with its ledger, and with the notebook that comes next."""
    run = runs.create("r", nothing)
    run.save("manifest", generate(Workload(n_tasks=3), "r"))
    counts = {"submitted": 3, "completed": 3, "dead_lettered": 0, "open": 0, "lost": 0}
    run.record(state="complete", ledger=counts | closes if closes else None)
    row = look(nothing).loc["newest run"]
    assert str(row["state"]).startswith(f"r, complete: 3 tasks; {ledger}")
    assert row["next"] == after


def test_a_server_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """JupyterLab is told to end; where it does not within its time it is killed, so that the command ends."""
    monkeypatch.setattr(lab, "SHUTDOWN_S", 0.5)
    server = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == b"up\n"
    begun = time.monotonic()
    lab.end(server)
    server.stdout.close()
    assert server.returncode == -9
    assert time.monotonic() - begun < 20
