"""The kernels that notebooks run in: out of others' reach, quiet, and with time to end well."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import papermill
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from taskq_lib import PROJECT_ROOT
from taskq_lib.errors import NotebookFailed
from taskq_lib.report.parameters import Value
from taskq_lib.report.runs import Run

#: A cell that is interrupted gets half of it to end, s: what a walk has hidden of a long queue is shown again by then.
SHUTDOWN_S = 120.0


def execute(notebook: Path, output: Path, run: Run, parameters: Mapping[str, Value]) -> None:
    """Run one notebook under papermill in a kernel of its own; `output` is there however it ends.

    Raises `NotebookFailed`, naming notebook, cell and error.
    """
    # What goes wrong is raised and reported; these would print it a second time, as tracebacks.
    for name in ("asyncio", "papermill"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory(prefix="taskq-kernel-") as sockets:
            papermill.execute_notebook(
                str(notebook),
                str(output),
                parameters=dict(parameters),
                kernel_name="python3",
                language="python",
                progress_bar=False,
                kernel_manager_class=_manager(f"{sockets}/kernel", run.folder / "kernels.log"),
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


def _manager(socket: str, log: Path) -> type[AsyncKernelManager]:
    """Return a kernel manager for one kernel, which is spoken to through files `socket`-N and logs to `log`."""

    class KernelManager(AsyncKernelManager):
        # Files in a folder of this user, not TCP ports that every local user can reach.
        transport = "ipc"
        ip = socket
        shutdown_wait_time = SHUTDOWN_S

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            # What the kernel itself has to say (not the notebook) would mix with the command's output.
            with log.open("ab") as sink:
                await super().start_kernel(stderr=sink, **options)

    return KernelManager


def _pages_hint(run: Run) -> str:
    index = run.folder / "index.html"
    return f"What ran until then is in {index}; the same command with --run-id {run.id} goes on from there."
