"""A kernel that is interrupted lets its cell end well, however long the queue is that the cell has to put in order."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from nbformat import read, v4, write

from taskq_lib import PROJECT_ROOT
from taskq_lib.report import kernels, runs
from taskq_lib.report.runs import Run
from taskq_lib.report.spare import Spares, started_ahead

pytestmark = pytest.mark.notebooks

#: Longer than a kernel gets by default, 2.5 s.
CLEARS_UP_S = 5
CELL = """
import pathlib, time
try:
    pathlib.Path({begun!r}).touch()
    time.sleep(60)
finally:
    time.sleep({clears_up_s})
    pathlib.Path({ended!r}).touch()
"""
LOOK = "import os, sys; print(os.getpid(), 'taskq_lib.plots' in sys.modules, os.environ['MPLBACKEND'])"
PROGRAM = """
import sys
from pathlib import Path
from taskq_lib.report import kernels, runs
notebook, output, root = map(Path, sys.argv[1:])
kernels.execute(notebook, output, runs.create("r", root), {})
"""


def test_an_interrupted_cell_has_the_time_to_clear_up(tmp_path: Path) -> None:
    """Ctrl-C ends the cell at once, its `finally` runs to its end, and then the program ends by the interrupt."""
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    code = CELL.format(begun=str(begun), ended=str(ended), clears_up_s=CLEARS_UP_S)
    write(v4.new_notebook(cells=[v4.new_code_cell(code)]), tmp_path / "in.ipynb")  # type: ignore[no-untyped-call]
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb"), str(tmp_path)],
            env=os.environ | {"PYTHONPATH": f"{PROJECT_ROOT}:{PROJECT_ROOT / 'lambda'}"},
            stderr=subprocess.PIPE,
        )
    finally:
        signal.signal(signal.SIGINT, handler)
    deadline = time.monotonic() + 60
    while not begun.exists():
        assert time.monotonic() < deadline, "the cell does not begin"
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    interrupted_at = time.monotonic()
    _out, err = process.communicate(timeout=60)
    assert ended.exists()
    assert CLEARS_UP_S <= time.monotonic() - interrupted_at < 30
    assert b"KeyboardInterrupt" in err


def look(folder: Path, run: Run, spares: Spares) -> list[str]:
    """Run a notebook that prints its process, whether the plots are imported already, and how figures are drawn."""
    write(v4.new_notebook(cells=[v4.new_code_cell(LOOK)]), folder / "in.ipynb")  # type: ignore[no-untyped-call]
    kernels.execute(folder / "in.ipynb", folder / "out.ipynb", run, {}, spares)
    [output] = read(folder / "out.ipynb", 4)["cells"][0]["outputs"]  # type: ignore[no-untyped-call]
    return str(output["text"]).split()


def test_a_kernel_started_ahead_has_imported_already(tmp_path: Path) -> None:
    """Each kernel has its imports done when its notebook begins, draws inline, and is gone when it ends."""
    run = runs.create("r", tmp_path)
    with started_ahead(run.folder / kernels.LOG, 2) as spares:
        first, second = look(tmp_path, run, spares), look(tmp_path, run, spares)
    assert (first[1], second[1]) == ("True", "True")
    assert first[0] != second[0]
    assert first[2] == second[2] == "module://matplotlib_inline.backend_inline"
    assert not any(psutil.pid_exists(int(pid)) for pid in (first[0], second[0]))


def test_a_spare_that_died_is_made_up_for(tmp_path: Path) -> None:
    """Where the kernel that was started ahead is gone, one is started as ever; none is left at the end."""
    run, before = runs.create("r", tmp_path), set(psutil.Process().children())
    with started_ahead(run.folder / kernels.LOG, 3) as spares:
        look(tmp_path, run, spares)
        [spare] = set(psutil.Process().children()) - before
        spare.kill()
        spare.wait()
        assert look(tmp_path, run, spares)[1] == "False"
        [unused] = set(psutil.Process().children()) - before
    assert not psutil.pid_exists(unused.pid)


def test_a_spare_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """A kernel that waits ends by itself once nobody can call it any more."""
    spares = Spares(tmp_path / kernels.LOG, 1)
    waiting = spares.take()
    assert waiting is not None
    assert waiting.stdin is not None
    waiting.stdin.close()
    assert waiting.wait(timeout=60) == 0
