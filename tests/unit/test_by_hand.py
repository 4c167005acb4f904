"""One notebook by hand: which folder it goes into, what is told of it, and that it stains no report."""

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

from taskq_lib.errors import NotebookFailed, RunExists, RunNotFound
from taskq_lib.lock import alone
from taskq_lib.report import by_hand, chain, kernels, runs
from taskq_lib.report.runs import Run


def folder_of(name: str, root: Path, **chosen: Any) -> Path:
    """Return the folder that one notebook goes into, which is held meanwhile."""
    with by_hand.folder_for(chain.find(name), {"runs_dir": str(root), **chosen}) as run:
        assert run.folder.is_dir()
        with pytest.raises(RunExists, match="in the hands of another process"), alone(run.folder / "run.lock"):
            pytest.fail("it was held twice")
        return run.folder


def test_a_submit_may_begin_a_run_of_its_id(tmp_path: Path) -> None:
    """A run that is to be submitted is made under the id that is given; any other notebook is told what to do."""
    assert folder_of("20_submit", tmp_path, run_id="pz") == tmp_path / "pz"
    assert folder_of("20_submit", tmp_path, run_id="pz") == tmp_path / "pz"
    for name in ("51_redrive", "30_status", "52_pause_resume"):
        with pytest.raises(RunNotFound, match=r"^No run 'px' .*\n  -> .*`runs/index.html` lists.*`taskq report`"):
            folder_of(name, tmp_path, run_id="px")
    assert not (tmp_path / "px").exists()


@pytest.mark.parametrize("name", ["52_pause_resume", "90_teardown"])
def test_what_is_done_to_the_stack_leaves_no_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause or a teardown without a run's id has no folder afterwards, and no page is named; with one it has."""
    nowhere = tmp_path / "tmp"
    nowhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(nowhere))
    root, notebook = tmp_path / "runs", chain.find(name)
    assert not folder_of(name, root).exists()
    assert not root.exists()
    assert list(nowhere.iterdir()) == []
    run = runs.create("r", root)
    assert folder_of(name, root, run_id="r") == run.folder
    assert not by_hand.keeps_a_run(notebook, {})
    assert by_hand.keeps_a_run(notebook, {"run_id": "r"})
    assert by_hand.keeps_a_run(chain.find("51_redrive"), {})


def ends(error: BaseException | None) -> Any:
    """Stand in for a kernel: the notebook prints a line, and ends so."""

    def execute(notebook: Path, output: Path, run: Run, chosen: Mapping[str, Any]) -> None:  # noqa: ARG001
        printed = v4.new_output("stream", name="stdout", text="3 messages to redrive\n")  # type: ignore[no-untyped-call]
        cell = v4.new_code_cell("pass", outputs=[printed])  # type: ignore[no-untyped-call]
        nbformat.write(v4.new_notebook(cells=[cell]), output)  # type: ignore[no-untyped-call]
        if error:
            raise error

    return execute


@pytest.mark.parametrize(
    ("error", "said"),
    [(None, "    0.0 s"), (NotebookFailed("it broke"), " failed"), (KeyboardInterrupt(), " interrupted")],
)
def test_what_a_notebook_printed_is_told(
    error: BaseException | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it ends: its name and how, what it printed, and the page that shows it."""
    monkeypatch.setattr(kernels, "execute", ends(error))
    told: list[str] = []
    run, notebook = runs.create("r", tmp_path), chain.find("52_pause_resume")
    with pytest.raises(type(error)) if error else nullcontext():
        assert by_hand.execute(notebook, run, {"run_id": "r"}, told.append) == run.folder / "52_pause_resume.html"
    lines = ["  52_pause_resume   " + said, "3 messages to redrive", f"report: {run.folder / '52_pause_resume.html'}"]
    assert "".join(told).splitlines() == lines
    assert (run.folder / "52_pause_resume.html").is_file()


def test_without_a_run_no_page_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps no run's folder has no page that anybody could open."""
    monkeypatch.setattr(kernels, "execute", ends(None))
    told: list[str] = []
    by_hand.execute(chain.find("90_teardown"), runs.create("r", tmp_path), {"run_id": ""}, told.append)
    assert "report:" not in "".join(told)


def test_a_failure_by_hand_does_not_stain_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete run stays one, and a failed one failed, whatever is run into its folder later."""
    for state, failure, error in (("complete", None, NotebookFailed("a typo")), ("failed", "it broke", None)):
        run = runs.create("", tmp_path, state=state)
        run.record(started_at="2026-11-24T02:00:00+00:00", target="aws", failure=failure)
        monkeypatch.setattr(kernels, "execute", ends(error))
        try:
            by_hand.execute(chain.find("30_status"), run, {"run_id": run.id}, lambda _text: None)
        except NotebookFailed:
            assert error
        index = (run.folder / "index.html").read_text()
        assert ("it stopped with an error." in index) is (failure is not None)
        assert "a typo" not in index
        results = run.results()
        assert (results["state"], results["target"]) == (state, "aws")
        assert results["started_at"] == "2026-11-24T02:00:00+00:00"
