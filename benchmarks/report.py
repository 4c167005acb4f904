"""What a report takes, by its command, of its wall time and of memory.

Of 1,000 no-op tasks: which share of the wall time, from the command's start to its end, is the kit's own. That is not
the *engine* (from the start of its process until it has answered, the two cells in which it creates the stack, and from
the written page until it has stopped), *kernels* (from each notebook's start until its kernel takes the first cell) and
*tasks* (from the first enqueue to the last finish); what lies in two of them counts once. The rest is ours: imports,
cells, figures, pages. Of 20,000 no-op tasks: the memory of the largest process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from benchmarks.table import Row

LIMIT_SHARE, LIMIT_MB = 0.40, 1_000.0
N_ROUNDS = 3
#: The cells of 10_deploy in which the engine creates the stack.
_DEPLOYS = ("stack.execute(", "control.wait_enabled(")
#: From and to, Unix seconds.
Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one report took."""

    whole_s: float
    parts_s: dict[str, float]  #: Wall seconds by part, each without what an earlier one covers
    peak_mb: float  #: Of the largest process, the engine's and the kernels' included

    @property
    def share(self) -> float:
        """Return which share of the whole is the rest."""
        return self.parts_s["rest"] / self.whole_s


def main() -> list[Row]:
    """Compare the rest's share, the median of three reports, and the memory of a large one with their limits."""
    small = sorted((measure(1_000) for _ in range(N_ROUNDS)), key=lambda taken: taken.share)[N_ROUNDS // 2]
    large = measure(20_000)
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in small.parts_s.items())
    return [
        Row(work="report of 1,000 tasks: share that is neither engine, kernel nor task", unit="of the whole",
            ours=small.share, peer="the limit of 40 %", theirs=LIMIT_SHARE, better="lower", wanted=1.0,
            why=f"the median of {N_ROUNDS} reports; of {small.whole_s:.1f} s, {parts}"),
        Row(work="report of 20,000 tasks: memory of the largest process", unit="MB", ours=large.peak_mb,
            peer="the limit of 1 GB", theirs=LIMIT_MB, better="lower", wanted=1.0,
            why=f"resident, of engine, kernels and workers, every 0.2 s; it took {large.whole_s:.0f} s"),
    ]  # fmt: skip


def measure(n_tasks: int) -> Taken:
    """Run a report of no-op tasks on an engine of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "taskq_lib.commands.main", "report", "--run-id", "bench"]
        command += ["-p", "n_tasks", str(n_tasks), "-p", "runs_dir", name, "-p", "duration_median_s", "0"]
        environment = os.environ | {"TASKQ_STATE_DIR": f"{name}/engine"}
        begun, peak, ready = time.time(), 0.0, (0.0, 0.0)
        child = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while child.poll() is None:
            peak = max([peak, *map(_resident, [child, *_descendants(child)])])
            ready = ready if ready[1] else _engine_start(folder / "engine" / "engine.json")
            time.sleep(0.2)
        ended = time.time()
        if child.returncode:
            raise SystemExit(f"the report of {n_tasks:,} tasks failed with exit code {child.returncode}")
        spans = _spans(folder / "bench", ready, ended)
        return Taken(whole_s=ended - begun, parts_s=_parts(spans, ended - begun), peak_mb=peak / 1e6)


def _engine_start(record: Path) -> Span:
    """Return from when to when the engine started; zeros while it has not."""
    try:
        found = json.loads(record.read_text())
        return psutil.Process(found["pid"]).create_time(), datetime.fromisoformat(found["started_at"]).timestamp()
    except (OSError, ValueError, psutil.Error):
        return 0.0, 0.0


def _spans(run: Path, ready: Span, ended: float) -> dict[str, list[Span]]:
    """Return when each part that is not ours took place, from what the run's folder says."""
    notebooks = [json.loads(path.read_text()) for path in sorted(run.glob("*.ipynb"))]
    deploys = [_span(cell) for cell in notebooks[0]["cells"] if any(word in _source(cell) for word in _DEPLOYS)]
    kernels = []
    for notebook in notebooks:
        first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
        kernels.append((_span(notebook)[0], _span(first)[0]))
    enqueued, finished = (pd.read_parquet(run / f"{name}.parquet") for name in ("sends", "tasks"))
    tasks = (enqueued["enqueued_at"].min().timestamp(), finished["finished_at"].max().timestamp())
    stop = ((run / "index.html").stat().st_mtime, ended)
    return {"engine": [ready, *deploys, stop], "kernels": kernels, "tasks": [tasks]}


def _span(part: dict[str, Any]) -> Span:
    """Return when a notebook or a cell began and ended, as papermill noted it in UTC."""
    noted = part["metadata"]["papermill"]
    begun, ended = (datetime.fromisoformat(noted[name]) for name in ("start_time", "end_time"))
    return begun.replace(tzinfo=UTC).timestamp(), ended.replace(tzinfo=UTC).timestamp()


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def _parts(spans: dict[str, list[Span]], whole_s: float) -> dict[str, float]:
    """Return the seconds of each part, without what is covered by one before it, and of the rest."""
    parts, covered, known = dict[str, float](), 0.0, list[Span]()
    for name, more in spans.items():
        known += more
        total = sum(end - begin for begin, end in _merged(known))
        parts[name], covered = total - covered, total
    return parts | {"rest": whole_s - covered}


def _merged(spans: Iterable[Span]) -> Iterator[Span]:
    """Give the spans without overlaps, in their order."""
    last: Span | None = None
    for begin, end in sorted(spans):
        if last is not None and begin <= last[1]:
            last = (last[0], max(last[1], end))
            continue
        if last is not None:
            yield last
        last = (begin, end)
    if last is not None:
        yield last


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
