"""What a report takes: wall time at 1,000 tasks, and the memory of its largest process at 20,000."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

LIMIT_S, LIMIT_BYTES = 60.0, 1e9


def main() -> None:
    """Print both; the parts of the wall time are the notebooks' own, as results.json has them."""
    seconds, _peak, parts = measure(1_000)
    print(f"report of 1,000 tasks: {seconds:.1f} s ({seconds / LIMIT_S:.0%} of {LIMIT_S:.0f} s); {parts}")
    seconds, peak, _parts = measure(20_000)
    share = f"{peak / LIMIT_BYTES:.0%} of 1 GB"
    print(f"report of 20,000 tasks: {seconds:.1f} s, largest process {peak / 1e6:,.0f} MB ({share})")


def measure(n_tasks: int) -> tuple[float, float, dict[str, float]]:
    """Run a report; returns wall seconds, the largest process's peak resident bytes, and seconds a notebook."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "taskq_lib.commands.main", "report", "--run-id", "bench"]
        command += ["-p", "n_tasks", str(n_tasks), "-p", "runs_dir", folder, "-p", "duration_median_s", "0"]
        begun, peak = time.monotonic(), 0.0
        child = psutil.Popen(
            command, env={**os.environ, "TASKQ_STATE_DIR": f"{folder}/engine"}, stdout=subprocess.DEVNULL
        )
        while child.poll() is None:
            peak = max([peak, *map(_resident, [child, *_descendants(child)])])
            time.sleep(0.2)
        if child.returncode:
            raise SystemExit(f"the report of {n_tasks:,} tasks failed with exit code {child.returncode}")
        parts = json.loads((Path(folder) / "bench" / "results.json").read_text())["notebooks_s"]
        return time.monotonic() - begun, peak, parts


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _resident(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0.0
