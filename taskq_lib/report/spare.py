"""A kernel that is started ahead: it imports what notebooks import while another runs, and then waits for its turn.

A kernel's start and its imports take longer than most notebooks do afterwards, and so does its end in good order.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from taskq_lib import PROJECT_ROOT


class Spares:
    """Of the kernels that are needed one after another, the one that is next."""

    def __init__(self, log: Path, n_needed: int) -> None:
        """Start the first. `log` takes what kernels themselves say."""
        self._log, self._n_left = log, n_needed
        self._next = self._started()

    def take(self) -> subprocess.Popen[bytes] | None:
        """Hand over the kernel that waits, and start the one after it; None where none waits that lives."""
        taken, self._next = self._next, self._started()
        if taken is not None and taken.poll() is not None:
            taken.communicate()
            return None
        return taken

    def close(self) -> None:
        """End the one that waits."""
        if self._next is not None:
            self._next.kill()
            self._next.communicate()

    def _started(self) -> subprocess.Popen[bytes] | None:
        if self._n_left <= 0:
            return None
        self._n_left -= 1
        with self._log.open("ab") as sink:
            # As `jupyter_client.launch_kernel` does: a group of its own, and word of whose end is its own.
            return subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stderr=sink,
                cwd=PROJECT_ROOT,
                env=os.environ | {"JPY_PARENT_PID": str(os.getpid())},
                start_new_session=True,
            )


@contextmanager
def started_ahead(log: Path, n_needed: int) -> Iterator[Spares]:
    """Yield the spares for `n_needed` kernels; none is left at the end."""
    spares = Spares(log, n_needed)
    try:
        yield spares
    finally:
        spares.close()


class Provisioner(LocalProvisioner):
    """Makes the spare kernel the one that is launched; where there is none, launches one as ever."""

    spares: Spares

    async def launch_kernel(self, cmd: list[str], **options: Any) -> KernelConnectionInfo:
        """Launch `cmd`, which runs `ipykernel_launcher` with arguments; returns how to connect."""
        process = self.spares.take()
        launcher = "ipykernel_launcher"
        if process is None or process.stdin is None or launcher not in cmd:
            return await super().launch_kernel(cmd, **options)
        process.stdin.write(json.dumps(cmd[cmd.index(launcher) + 1 :]).encode() + b"\n")
        process.stdin.close()
        self.process, self.pid, self.pgid = process, process.pid, process.pid
        self.cwd = options.get("cwd", PROJECT_ROOT)
        return self.connection_info


def main() -> None:
    """Import, wait for the arguments, and be the kernel; where there come none, whoever started this has gone: end."""
    # As the kernel itself sets it, before matplotlib is imported.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    kernelapp = importlib.import_module("ipykernel.kernelapp")
    for name in ("taskq_lib.plots", "taskq_lib.report.data", "taskq_lib.report.form"):
        # What cannot be imported is the notebook's to say.
        with suppress(ImportError):
            importlib.import_module(name)
    if line := sys.stdin.readline():
        sys.argv[1:] = json.loads(line)
        kernelapp.launch_new_instance()
        # Told to shut down, the control thread still flushes what was printed by way of a thread that the exit stops:
        # stopped too soon, it waits for that 10 s in vain.
        kernelapp.IPKernelApp.instance().control_thread.join(timeout=5)
        # Nothing is left to write; to take down all that was imported takes up to seconds on a busy machine.
        logging.shutdown()
        os._exit(0)


if __name__ == "__main__":
    main()
