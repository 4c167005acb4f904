"""A kernel as JupyterLab has one: a person is there to be asked, can interrupt it, and sees what it shows."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from taskq_lib import PROJECT_ROOT

#: Longer than any cell takes on a busy machine.
DEADLINE_S = 120.0


@dataclass
class Shown:
    """What a cell showed, in its order."""

    printed: str = ""
    bundles: list[dict[str, Any]] = field(default_factory=list)  #: Displayed, by media type
    error: str = ""  #: The name of the exception it ended with

    @property
    def html(self) -> str:
        """All that was displayed as HTML."""
        return "".join(bundle.get("text/html", "") for bundle in self.bundles)


@dataclass
class Kernel:
    """A kernel and the connection of its one front end."""

    manager: KernelManager
    client: BlockingKernelClient

    def begin(self, code: str, *, attended: bool = True) -> str:
        """Send a cell; returns the id by which `finish` knows it."""
        return str(self.client.execute(code, allow_stdin=attended))

    def finish(self, sent: str) -> Shown:
        """Return what the cell showed, once it is done."""
        shown, deadline = Shown(), time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") != sent:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    shown.printed += content["text"]
                case "display_data" | "execute_result":
                    shown.bundles.append(content["data"])
                case "error":
                    shown.error = content["ename"]
                    shown.printed += "\n".join(content["traceback"])
                case "status" if content["execution_state"] == "idle":
                    return shown
        raise TimeoutError(f"the cell is not done after {DEADLINE_S:g} s; it printed {shown.printed!r}")

    def run(self, code: str, *, attended: bool = True) -> Shown:
        """Run a cell to its end."""
        return self.finish(self.begin(code, attended=attended))

    def interrupt(self) -> None:
        """Do what the interrupt button does."""
        self.manager.interrupt_kernel()


@contextmanager
def kernel(variables: Mapping[str, str]) -> Iterator[Kernel]:
    """Yield a kernel that was started in the project with more variables; it is gone at the end."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(PROJECT_ROOT), env=os.environ | variables)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=DEADLINE_S)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def cells(notebook: Path, **parameters: Any) -> dict[str, str]:
    """Return the code of a notebook by cell id, with these values instead of those of its parameters cell."""
    found = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    code = {cell.id: cell.source for cell in found.cells if cell.cell_type == "code"}
    first = next(iter(code))
    code[first] += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    return code
