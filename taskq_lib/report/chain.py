"""Run the notebooks in their order under papermill, strictly, into a run's folder."""

from __future__ import annotations

import ast
import dataclasses
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
from taskq_lib.workload import Workload

NOTEBOOKS = PROJECT_ROOT / "notebooks"


def notebooks() -> list[Path]:
    """Return the notebooks of the chain; their numbers are their order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def declared(notebook: Path) -> set[str]:
    """Return the parameters that a notebook declares."""
    return set(papermill.inspect_notebook(str(notebook)))


def _defaults() -> dict[str, Value]:
    """Return every parameter of the chain with its notebook's own value."""
    found = [papermill.inspect_notebook(str(notebook)) for notebook in notebooks()]
    return {name: ast.literal_eval(entry["default"]) for entries in found for name, entry in entries.items()}


def checked(given: Mapping[str, str]) -> dict[str, Value]:
    """Read parameters from texts, as a command line gives them; raises `BadInput` before anything runs."""
    chosen = parse(given, set().union(*(declared(notebook) for notebook in notebooks())))
    # Some values are allowed alone and not together; the workload knows which.
    fields = {field.name for field in dataclasses.fields(Workload)}
    Workload(**{"n_tasks": 1} | {name: value for name, value in chosen.items() if name in fields})  # type: ignore[arg-type]
    return chosen


def prepare(chosen: Mapping[str, Value]) -> Run:
    """Make the run's folder; raises `BadInput` or `RunExists` and leaves nothing behind then."""
    return runs.create(str(chosen.get("run_id", "")), str(chosen.get("runs_dir", runs.DEFAULT_ROOT)))


def execute(run: Run, chosen: Mapping[str, Value], tell: Callable[[str], object] = print) -> Path:
    """Run the chain and write the run's pages; returns the path of `index.html`.

    `tell` is given a piece of text when a notebook starts and when it ends. However it ends, the pages of what ran are
    written. Raises `NotebookFailed`, naming notebook, cell and error.
    """
    started = time.monotonic()
    run.record(
        state="running",
        target=chosen.get("target", "local"),
        parameters=_defaults() | dict(chosen),
        started_at=_now(),
        versions=versions(),
    )
    # What goes wrong is raised and reported; these would print it a second time, as tracebacks.
    for name in ("asyncio", "papermill"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    seconds: dict[str, float] = {}
    state, failure = "interrupted", "The run was interrupted; what ran until then is below."
    try:
        for notebook in notebooks():
            tell(f"  {notebook.stem:<14}")
            begun = time.monotonic()
            _execute_one(notebook, run, chosen)
            seconds[notebook.stem] = round(time.monotonic() - begun, 1)
            tell(f"{seconds[notebook.stem]:6.1f} s\n")
        state, failure = "complete", ""
    except NotebookFailed as error:
        state, failure = "failed", str(error.args[0])
        tell("failed\n")
        raise
    finally:
        took_s = round(time.monotonic() - started, 1)
        run.record(state=state, notebooks_s=seconds, duration_s=took_s, finished_at=_now())
        index = _write_pages(run, failure)
    return index


def _execute_one(notebook: Path, run: Run, chosen: Mapping[str, Value]) -> None:
    names = declared(notebook)
    try:
        with tempfile.TemporaryDirectory(prefix="taskq-kernel-") as sockets:
            papermill.execute_notebook(
                str(notebook),
                str(run.folder / notebook.name),
                parameters={name: value for name, value in chosen.items() if name in names},
                kernel_name="python3",
                language="python",
                progress_bar=False,
                kernel_manager_class=_kernel_manager(f"{sockets}/kernel", run.folder / "kernels.log"),
                cwd=str(PROJECT_ROOT),
            )
    except PapermillExecutionError as error:
        where = f"{notebook.stem}, cell {error.cell_index + 1}"
        raise NotebookFailed(f"{where}: {error.ename}: {error.evalue}", _pages_hint(run)) from error
    except DeadKernelError as error:
        text = f"{notebook.stem}: its kernel died (out of memory, or killed from outside)."
        raise NotebookFailed(text, _pages_hint(run)) from error
    except RuntimeError as error:
        raise NotebookFailed(f"{notebook.stem}: its kernel did not start: {error}.", _pages_hint(run)) from error


def _kernel_manager(socket: str, log: Path) -> type[AsyncKernelManager]:
    """Return a kernel manager for one kernel, which is spoken to through files `socket`-N and logs to `log`."""

    class KernelManager(AsyncKernelManager):
        # Files in a folder of this user, not TCP ports that every local user can reach.
        transport = "ipc"
        ip = socket

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            # What the kernel itself has to say (not the notebook) would mix with the command's output.
            with log.open("ab") as sink:
                await super().start_kernel(stderr=sink, **options)

    return KernelManager


def _pages_hint(run: Run) -> str:
    return f"What ran until then, with the traceback, is in {run.folder / 'index.html'}."


def _write_pages(run: Run, failure: str) -> Path:
    log = run.folder / "kernels.log"
    if log.is_file() and log.stat().st_size == 0:
        log.unlink()
    executed = [run.folder / notebook.name for notebook in notebooks()]
    index = pages.write_pages(run, [pages.page_of(path) for path in executed if path.is_file()], failure)
    pages.write_list(run.folder.parent)
    return index


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
