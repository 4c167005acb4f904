"""A kernel that is interrupted lets its cell end well, however long the queue is that the cell has to put in order."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nbformat import v4, write

from taskq_lib import PROJECT_ROOT

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
