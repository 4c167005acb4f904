"""Run the notebooks in their order under papermill, strictly, into a run's folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import papermill
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from taskq_lib import PROJECT_ROOT
from taskq_lib.errors import NotebookFailed
from taskq_lib.report import pages, runs
from taskq_lib.report.parameters import Value, parse
from taskq_lib.report.runs import Run
from taskq_lib.report.versions import versions

NOTEBOOKS = PROJECT_ROOT / "notebooks"


class _PrivateKernel(AsyncKernelManager):
    """A kernel spoken to through a socket file of this user, not through TCP ports that every local user can reach."""

    transport = "ipc"


def notebooks() -> list[Path]:
    """Return the notebooks of the chain; their numbers are their order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def declared(notebook: Path) -> set[str]:
    """Return the parameters that a notebook declares."""
    return set(papermill.inspect_notebook(str(notebook)))


def checked(given: Mapping[str, str]) -> dict[str, Value]:
    """Read parameters from texts, as a command line gives them; raises `BadInput` before anything runs."""
    return parse(given, set().union(*(declared(notebook) for notebook in notebooks())))


def prepare(chosen: Mapping[str, Value]) -> Run:
    """Make the run's folder; raises `BadInput` or `RunExists` and leaves nothing behind then."""
    return runs.create(str(chosen.get("run_id", "")), str(chosen.get("runs_dir", runs.DEFAULT_ROOT)))


def execute(run: Run, chosen: Mapping[str, Value], tell: Callable[[str], None] = print) -> Path:
    """Run the chain and write the run's pages; returns the path of `index.html`.

    Raises `NotebookFailed`, naming notebook, cell and error, after the pages of what ran are written.
    """
    started = time.monotonic()
    run.record(
        target=chosen.get("target", "local"),
        parameters=dict(chosen),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
    )
    executed: list[Path] = []
    seconds: dict[str, float] = {}
    failure: NotebookFailed | None = None
    try:
        for notebook in notebooks():
            begun = time.monotonic()
            output = run.folder / notebook.name
            executed.append(output)
            failure = _execute_one(notebook, output, chosen)
            seconds[notebook.stem] = round(time.monotonic() - begun, 1)
            tell(f"  {notebook.stem:<14} {'FAILED' if failure else 'ok':<6} {seconds[notebook.stem]:6.1f} s")
            if failure:
                break
    finally:
        run.record(
            state="failed" if failure or len(executed) < len(notebooks()) else "complete",
            notebooks_s=seconds,
            duration_s=round(time.monotonic() - started, 1),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        index = _write_pages(run, executed, failure)
    if failure:
        raise failure
    return index


def _execute_one(notebook: Path, output: Path, chosen: Mapping[str, Value]) -> NotebookFailed | None:
    names = declared(notebook)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(output),
            parameters={name: value for name, value in chosen.items() if name in names},
            kernel_name="python3",
            language="python",
            progress_bar=False,
            kernel_manager_class=_PrivateKernel,
            cwd=str(PROJECT_ROOT),
        )
    except PapermillExecutionError as error:
        return NotebookFailed(f"{notebook.stem}, cell {error.cell_index + 1}: {error.ename}: {error.evalue}")
    except DeadKernelError:
        return NotebookFailed(f"{notebook.stem}: its kernel died (out of memory, or killed from outside).")
    return None


def _write_pages(run: Run, executed: Sequence[Path], failure: NotebookFailed | None) -> Path:
    written = [pages.page_of(path) for path in executed if path.is_file()]
    for page in written:
        pages.write_page(page, run)
    index = pages.write_index(run, written, str(failure.args[0]) if failure else None)
    pages.write_list(run.folder.parent)
    return index
