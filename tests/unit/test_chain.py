"""What the chain does where a notebook fails, and what of an earlier call it does not show again."""

import json
from pathlib import Path
from typing import Any

import pytest

from taskq_lib.errors import NotebookFailed
from taskq_lib.report import chain, kernels, runs
from taskq_lib.report.runs import Run

STEMS = [path.stem for path in chain.notebooks()]


class Notebooks:
    """Stands in for the kernel: notes what is run, and fails where it is told to."""

    def __init__(self, *failing: str, reads: bool = True) -> None:
        """Fail at these notebooks; 30_status fails after it has read the run, or else before."""
        self.failing, self.reads, self.ran, self.told = failing, reads, list[str](), list[str]()

    def __call__(self, notebook: Path, output: Path, run: Run, *_chosen_and_spares: object) -> None:  # noqa: ARG002
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
    patch.setattr(kernels, "execute", notebooks)
    run, failure = runs.create("r", root, **sections), None
    try:
        chain.execute(run, {}, notebooks.told.append)
    except NotebookFailed as error:
        failure = str(error.args[0])
    return failure, run.results()


@pytest.mark.parametrize(
    ("failing", "ran"),
    [
        ([], STEMS),
        (["30_status"], STEMS[:-1]),
        (["40_latency"], STEMS[:-1]),
        (
            ["30_status", "50_failures"],
            STEMS[:-1],
        ),
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
    assert ("it stopped with an error." in index) is bool(failing)


def test_a_run_that_was_not_read_is_not_analysed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the run could not be read, what an earlier call has read is not analysed in its place."""
    notebooks = Notebooks("30_status", reads=False)
    execute(tmp_path, monkeypatch, notebooks, read={"queue_is_empty": True})
    assert notebooks.ran == ["10_deploy", "20_submit", "30_status"]


def test_no_finding_of_an_earlier_call_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every section that a reading notebook records is gone until it has been found again."""
    reading = [path for path in chain.notebooks() if path.stem[:2] in {"30", "40", "50", "60", "70", "80"}]
    code = "".join("".join(cell["source"]) for path in reading for cell in json.loads(path.read_text())["cells"])
    found = ["ledger", "latency", "throughput", "failure_rate", "dead_letters", "safety_net", "stuck", "breakers"]
    found += ["signatures", "order", "monitor", "cost"]
    found += ["censored", "slowest", "clocks", "objectives"]
    found += ["compare", "history", "changes"]
    assert all(f"{name}=" in code for name in found)
    stale: dict[str, Any] = {name: {"stale": {}} for name in [*found, "read"]}
    stale |= {name: [{"stale": 1}] for name in ("signatures", "objectives", "history")}
    _failure, results = execute(tmp_path, monkeypatch, Notebooks("10_deploy"), submitted={"n_tasks": 1}, **stale)
    assert not results.keys() & stale.keys()
    assert results["submitted"] == {"n_tasks": 1}


def test_a_run_that_goes_on_keeps_its_first_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was killed begins when it first began; when it went on, and that it had not ended, is kept as well."""
    first = "2026-11-24T02:00:00+00:00"
    _failure, results = execute(tmp_path, monkeypatch, Notebooks(), started_at=first, state="running")
    assert results["started_at"] == first < results["resumed"]["at"]
    assert results["resumed"]["state"] == "running"
    _failure, results = execute(tmp_path / "new", monkeypatch, Notebooks(), state="running")
    assert "resumed" not in results


def test_an_interruption_ends_the_line_of_its_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook that was running is told as interrupted, and the report stands on a line of its own."""

    def interrupted(*_anything: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kernels, "execute", interrupted)
    told: list[str] = []
    run = runs.create("r", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        chain.execute(run, {}, told.append)
    assert "".join(told).splitlines() == [
        f"  {STEMS[0]:<18} interrupted",
        f"in brief, for a CI job or a chat: {run.folder / 'summary.md'}",
        f"report: {run.folder / 'index.html'}",
    ]


def test_the_ledger_and_the_report_are_told_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last lines are the ledger, where one is known, and the page to open; after a failure as well."""
    ledger = {"submitted": 1200, "completed": 1100, "dead_lettered": 90, "open": 10, "lost": 0, "duplicates": 3}
    for failing in ([], ["50_failures"]):
        notebooks = Notebooks(*failing)

        def found(notebook: Path, output: Path, run: Run, *rest: object, kernel: Notebooks = notebooks) -> None:
            run.record(ledger=ledger | {"closed": False})
            kernel(notebook, output, run, *rest)

        monkeypatch.setattr(kernels, "execute", found)
        run = runs.create("", tmp_path)
        try:
            chain.execute(run, {}, notebooks.told.append)
        except NotebookFailed:
            assert failing
        *_, account, brief, page = "".join(notebooks.told).splitlines()
        assert account == (
            "the ledger is open: 1,200 submitted = 1,100 completed + 90 dead-lettered + 10 open + 0 lost; "
            "3 duplicate deliveries"
        )
        assert brief.endswith(str(run.folder / "summary.md"))
        assert page == f"report: {run.folder / 'index.html'}"
