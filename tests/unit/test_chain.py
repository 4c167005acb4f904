"""What the chain does where a notebook fails, and what of an earlier call it does not show again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from taskq_lib.errors import NotebookFailed
from taskq_lib.report import chain, runs
from taskq_lib.report.runs import Run

STEMS = [path.stem for path in chain.notebooks()]


class Notebooks:
    """Stands in for the kernel: notes what is run, and fails where it is told to."""

    def __init__(self, *failing: str, reads: bool = True) -> None:
        """Fail at these notebooks; 30_status fails after it has read the run, or else before."""
        self.failing, self.reads, self.ran = failing, reads, list[str]()

    def __call__(self, notebook: Path, output: Path, run: Run, chosen: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Run one."""
        self.ran.append(notebook.stem)
        if notebook.stem == "30_status" and self.reads:
            run.record(read={"queue_is_empty": False})
        if notebook.stem in self.failing:
            raise NotebookFailed(f"{notebook.stem} broke")


def execute(
    root: Path, patch: pytest.MonkeyPatch, notebooks: Notebooks, **sections: Any
) -> tuple[str | None, dict[str, Any]]:
    """Run the chain in a folder with these results; returns how it failed, and its results."""
    patch.setattr(chain, "_execute_one", notebooks)
    run, failure = runs.create("r", root, **sections), None
    try:
        chain.execute(run, {}, lambda _text: None)
    except NotebookFailed as error:
        failure = str(error.args[0])
    return failure, run.results()


@pytest.mark.parametrize(
    ("failing", "ran"),
    [
        ([], STEMS),
        (["30_status"], ["10_deploy", "20_submit", "30_status", "40_latency", "50_failures"]),
        (["40_latency"], ["10_deploy", "20_submit", "30_status", "40_latency", "50_failures"]),
        (["30_status", "50_failures"], ["10_deploy", "20_submit", "30_status", "40_latency", "50_failures"]),
        (["20_submit"], ["10_deploy", "20_submit"]),
    ],
)
def test_where_one_reading_notebook_fails_the_others_show_what_they_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: list[str], ran: list[str]
) -> None:
    """An open ledger keeps nobody from seeing why tasks failed; nothing acts after it; the first failure counts."""
    notebooks = Notebooks(*failing)
    failure, results = execute(tmp_path, monkeypatch, notebooks)
    assert notebooks.ran == ran
    assert failure == (f"{failing[0]} broke" if failing else None)
    assert results["state"] == ("failed" if failing else "complete")
    assert set(results["notebooks_s"]) == set(ran) - set(failing)
    index = (tmp_path / "r" / "index.html").read_text()
    assert ("The run stopped." in index) is bool(failing)


def test_a_run_that_was_not_read_is_not_analysed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the run could not be read, what an earlier call has read is not analysed in its place."""
    notebooks = Notebooks("30_status", reads=False)
    execute(tmp_path, monkeypatch, notebooks, read={"queue_is_empty": True})
    assert notebooks.ran == ["10_deploy", "20_submit", "30_status"]


def test_no_finding_of_an_earlier_call_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every section that a reading notebook records is gone until it has been found again."""
    reading = [path for path in chain.notebooks() if path.stem[:2] in {"30", "40", "50"}]
    code = "".join("".join(cell["source"]) for path in reading for cell in json.loads(path.read_text())["cells"])
    found = ["ledger", "latency", "throughput", "failure_rate", "dead_letters", "safety_net", "stuck", "breakers"]
    found += ["signatures"]
    assert all(f"{name}=" in code for name in found)
    stale = {name: {"stale": 1} for name in [*found, "read"]}
    _failure, results = execute(tmp_path, monkeypatch, Notebooks("10_deploy"), submitted={"n_tasks": 1}, **stale)
    assert not results.keys() & stale.keys()
    assert results["submitted"] == {"n_tasks": 1}
