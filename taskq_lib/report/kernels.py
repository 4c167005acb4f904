"""The kernels that notebooks run in: out of others' reach, quiet, and with time to end well."""

from __future__ import annotations

import logging
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import papermill
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from taskq_lib import PROJECT_ROOT, errors
from taskq_lib.errors import NotebookFailed, RunExists, TaskqError
from taskq_lib.lock import alone
from taskq_lib.report.parameters import Value
from taskq_lib.report.runs import Run
from taskq_lib.report.spare import Provisioner, Spares, started_ahead

#: A cell that is interrupted gets half of it to end, s: what a walk has hidden of a long queue is shown again by then.
SHUTDOWN_S = 120.0
_SOCKETS = "taskq-kernel-"
#: In a run's folder: what kernels themselves have to say.
LOG = "kernels.log"


def declared(notebook: Path) -> set[str]:
    """Return the names of a notebook's parameters."""
    return set(papermill.inspect_notebook(str(notebook)))


def execute(
    notebook: Path, output: Path, run: Run, parameters: Mapping[str, Value], spares: Spares | None = None
) -> None:
    """Run one notebook with those parameters that it declares, in a kernel of its own; `output` is there at its end.

    The kernel is the one of `spares` that waits; without them one is started for this notebook alone.

    Raises `NotebookFailed`, naming notebook, cell and error, with that error's own hint and exit code. An interrupt
    carries a note on how to go on.
    """
    names = declared(notebook)
    # A notebook that belongs to no run begins anew.
    run_id = parameters.get("run_id", run.id)
    again = f"The same command with --run-id {run_id} goes on from there." if run_id else "Run the same command again."
    # What goes wrong is raised and reported; these would print it a second time, as tracebacks.
    for name in ("asyncio", "papermill"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with _folder_for_sockets() as sockets, _these_or_one(spares, run.folder / LOG) as kernels:
            papermill.execute_notebook(
                str(notebook),
                str(output),
                parameters={name: value for name, value in parameters.items() if name in names},
                kernel_name="python3",
                language="python",
                progress_bar=False,
                kernel_manager_class=_manager(f"{sockets}/kernel", run.folder / LOG, kernels),
                cwd=str(PROJECT_ROOT),
            )
    except KeyboardInterrupt as error:
        error.add_note(again)
        raise
    except PapermillExecutionError as error:
        raise _failed(notebook, error) from error
    except DeadKernelError as error:
        raise NotebookFailed(f"{notebook.stem}: its kernel died (out of memory, or killed).", again, 2) from error
    except RuntimeError as error:
        raise NotebookFailed(f"{notebook.stem}: its kernel did not start: {error}.", again, 2) from error


def _these_or_one(spares: Spares | None, log: Path) -> AbstractContextManager[Spares]:
    return started_ahead(log, 1) if spares is None else nullcontext(spares)


def _manager(socket: str, log: Path, spares: Spares) -> type[AsyncKernelManager]:
    """Return a kernel manager for one kernel, which is spoken to through files `socket`-N and logs to `log`."""

    class KernelManager(AsyncKernelManager):
        # Files in a folder of this user, not TCP ports that every local user can reach.
        transport = "ipc"
        ip = socket
        shutdown_wait_time = SHUTDOWN_S

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            self.kernel_id = self.kernel_id or uuid.uuid4().hex
            self.provisioner = Provisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
            self.provisioner.spares = spares
            # What the kernel itself has to say (not the notebook) would mix with the command's output.
            with log.open("ab") as sink:
                await super().start_kernel(stderr=sink, **options)

    return KernelManager


@contextmanager
def _folder_for_sockets() -> Iterator[str]:
    """Yield a folder whose path is short enough for sockets; those that killed processes left are removed."""
    for old in Path(tempfile.gettempdir()).glob(f"{_SOCKETS}*"):
        # Whoever uses one holds its lock; another user's cannot be locked.
        with suppress(RunExists, OSError), alone(old / "lock"):
            shutil.rmtree(old)
    with tempfile.TemporaryDirectory(prefix=_SOCKETS) as folder, alone(Path(folder) / "lock"):
        yield folder


def _failed(notebook: Path, error: PapermillExecutionError) -> NotebookFailed:
    """Say what a notebook raised; one of this project's errors brings its hint, within its text, and its exit code."""
    kind = getattr(errors, error.ename, None)
    exit_code = kind.exit_code if isinstance(kind, type) and issubclass(kind, TaskqError) else 1
    sentence, _arrow, hint = str(error.evalue).partition("\n  -> ")
    where = f"{notebook.stem}, cell {error.cell_index + 1}"
    return NotebookFailed(f"{where}: {error.ename}: {sentence}", hint or None, exit_code)
