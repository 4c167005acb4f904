"""How a kernel's end is told: by the error's own hint and exit code; and what killed kernels left is cleared away."""

import tempfile
from pathlib import Path
from typing import Any

import papermill
import pytest
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from taskq_lib.errors import BadInput, LedgerOpen, NotDone, NotebookFailed, StackNotFound
from taskq_lib.lock import alone
from taskq_lib.report import chain, kernels, runs
from taskq_lib.report.parameters import Value

NOTEBOOK = chain.find("51_redrive")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of this test's own."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def execute(tmp_path: Path, patch: pytest.MonkeyPatch, error: BaseException, **parameters: Value) -> None:
    """Execute a notebook that ends with this error."""

    def end(*_: Any, **__: Any) -> None:
        raise error

    patch.setattr(papermill, "execute_notebook", end)
    run = runs.create("r", tmp_path)
    kernels.execute(NOTEBOOK, run.folder / "51_redrive.ipynb", run, parameters)


def raised(error: Exception) -> PapermillExecutionError:
    """Return what papermill says of a cell that raised."""
    return PapermillExecutionError(4, 5, "source", type(error).__name__, str(error), [])


@pytest.mark.parametrize(
    ("error", "exit_code", "hint"),
    [
        (BadInput("It is wrong."), 2, BadInput.hint),
        (BadInput("It is wrong.", "Do this."), 2, "Do this."),
        (StackNotFound("It is wrong."), 2, StackNotFound.hint),
        (LedgerOpen("It is wrong."), 1, LedgerOpen.hint),
        (NotDone("It is wrong.", "The next begins anew."), 1, "The next begins anew."),
        (ValueError("It is wrong."), 1, NotebookFailed.hint),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_keeps_its_hint_and_its_exit_code(
    error: Exception, exit_code: int, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a cell raised is told with one hint, its own, and ends the command as it would by itself."""
    with pytest.raises(NotebookFailed) as failed:
        execute(tmp_path, monkeypatch, raised(error))
    assert str(failed.value) == f"51_redrive, cell 5: {type(error).__name__}: It is wrong.\n  -> {hint}"
    assert failed.value.exit_code == exit_code


@pytest.mark.parametrize("error", [DeadKernelError(), RuntimeError("no")], ids=lambda error: type(error).__name__)
def test_a_kernel_that_is_gone_could_not_go_on(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that died or did not start is no verdict: exit code 2, and how to go on."""
    with pytest.raises(NotebookFailed, match="The same command with --run-id r goes on from there") as failed:
        execute(tmp_path, monkeypatch, error)
    assert failed.value.exit_code == 2


@pytest.mark.parametrize(
    ("parameters", "note"),
    [
        ({"run_id": "r"}, "The same command with --run-id r goes on from there."),
        ({"run_id": ""}, "Run the same command again."),
    ],
)
def test_an_interrupt_notes_how_to_go_on(
    parameters: dict[str, Value], note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C goes on up with a note for whoever tells of it, whether the notebook belongs to a run or not."""
    with pytest.raises(KeyboardInterrupt) as interrupted:
        execute(tmp_path, monkeypatch, KeyboardInterrupt(), **parameters)
    assert interrupted.value.__notes__ == [note]


def test_a_notebook_is_given_what_it_declares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters of other notebooks of the chain are not handed on."""
    found: list[dict[str, Value]] = []
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, parameters, **__: found.append(parameters))
    run = runs.create("r", tmp_path)
    kernels.execute(NOTEBOOK, run.folder / "x.ipynb", run, {"canary_n": 5, "n_tasks": 7})
    assert found == [{"canary_n": 5}]


def test_folders_that_killed_kernels_left_are_removed(temporary: Path) -> None:
    """The folder of a process that is gone goes with the next start; one that is in use, and other folders, stay."""
    left, used, other = (temporary / name for name in ("taskq-kernel-left", "taskq-kernel-used", "mine"))
    for folder in (left, used, other):
        folder.mkdir()
        (folder / "kernel-1").touch()
    with alone(used / "lock"), kernels._folder_for_sockets() as mine:
        assert {path.name for path in temporary.iterdir()} == {"taskq-kernel-used", "mine", Path(mine).name}
        # What is in use here stays as well when another one starts.
        with kernels._folder_for_sockets() as second:
            assert Path(mine).is_dir()
            assert second != mine
    assert {path.name for path in temporary.iterdir()} == {"taskq-kernel-used", "mine"}
