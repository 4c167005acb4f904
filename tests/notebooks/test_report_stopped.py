"""A report that does not get to its end: by a notebook that fails, or by whoever interrupts it."""

import html
import re
import signal
import time
from pathlib import Path

import pytest

from taskq_lib import PROJECT_ROOT
from taskq_lib.local.state import RECORD, members
from tests.notebooks.conftest import Begin, Finish, Left, Up
from tests.notebooks.reports import NAMES, Started

pytestmark = pytest.mark.notebooks

SLOW = ["-p", "duration_median_s", "60", "-p", "duration_sigma", "0", "-p", "transient_share", "0"]


def wait_for(text: str, path: Path) -> None:
    """Wait until a file is there and holds a text."""
    deadline = time.monotonic() + 60
    while not (path.is_file() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{path.name} does not say {text!r}"
        time.sleep(0.1)


def test_a_failing_notebook_stops_the_chain(begin: Begin, finish: Finish, up: Up, left: Left, tmp_path: Path) -> None:
    """Tasks that are still open fail the run: exit code 1, where and why; what only reads shows what is known."""
    options = ["--stack-name", "slow", "-p", "n_tasks", "5", "-p", "timeout_s", "0", "-p", "permanent_share", "0"]
    report = Started(begin, tmp_path, *options, *SLOW, state=up.state).ended(finish)
    assert report.code == 1
    first, *_ = report.err.splitlines()
    assert re.match(r"error: 30_status, cell \d+: LedgerOpen: The ledger is open: of 5 tasks 5 are still open", first)
    assert "Traceback" not in report.err
    assert re.search(r"  30_status +failed", report.out)
    assert report.pages == {*NAMES, "index"} - {"90_teardown"}
    assert "90_teardown" not in report.out
    results = report.results
    assert results["state"] == "failed"
    assert {"submitted": 5, "open": 5, "lost": 0, "closed": False}.items() <= results["ledger"].items()
    assert (results["signatures"], results["dead_letters"], results["read"]["dead_is_whole"]) == ([], 0, True)
    assert "the ledger is open: 5 open, 0 lost" in report.page("50_failures")
    index = html.unescape(report.page("index"))
    assert "it stopped with an error." in index
    assert first.removeprefix("error: ") in index
    assert "LedgerOpen" in report.page("30_status")
    listed = (report.folder.parent / "index.html").read_text()
    assert "<td>failed</td>" in listed
    # An engine that was up before stays up; of the report itself nothing does.
    assert set(left(up.state)) == members(up.state) != set()


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "interrupted\n  -> The same command with --run-id r goes on from there.\n"),
        (signal.SIGTERM, 143, ""),
    ],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_an_interrupted_report_leaves_nothing_running(  # noqa: PLR0917 - fixtures
    number: signal.Signals, code: int, said: str, begin: Begin, finish: Finish, left: Left, tmp_path: Path
) -> None:
    """Interrupted in the middle, a report takes engine, workers and kernel along, and keeps the pages of what ran."""
    checkout = set(PROJECT_ROOT.iterdir())
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        started = Started(begin, tmp_path, "-p", "n_tasks", "20", *SLOW)
    finally:
        signal.signal(signal.SIGINT, handler)
    wait_for("following run r", started.folder / "30_status.ipynb")
    during = set(PROJECT_ROOT.iterdir())
    started.process.send_signal(number)
    report = started.ended(finish)
    assert report.code == code
    assert report.err == said
    assert left(report.state) == []
    assert not (report.state / RECORD).exists()
    assert during == set(PROJECT_ROOT.iterdir()) == checkout
    assert {"10_deploy", "20_submit", "30_status", "index"} <= report.pages
    assert len(report.frame("sends")) == 20
    assert report.results["state"] == "interrupted"
    assert "The run was interrupted" in report.page("index")
    assert "KeyboardInterrupt" not in report.page("30_status")
    assert re.search(r"30_status</a>,? <b>interrupted</b>", report.page("index"))
