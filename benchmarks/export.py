"""A table export (DynamoDB JSON, gzip) made into the `tasks` and `attempts` tables, out of core, beside plain Python.

The peer reads with gzip, json and the kit's frames; each runs in a process of its own, in turn, the median of three.
Then ours alone at 5,000,000 items, and what a question costs once the tables are there. Memory is the peak above that
after imports.
"""

from __future__ import annotations

import gzip
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from benchmarks.generate_export import generate
from benchmarks.table import Row
from taskq_lib.analysis import latency
from taskq_lib.aws.frames import attempts_frame, read_items, tasks_frame
from taskq_lib.export import summaries
from taskq_lib.export.convert import convert, load

N_SMALL, N_LARGE, N_FRAMES = 100_000, 5_000_000, 1_000_000
N_ROUNDS = 3
LIMIT_MB = 2_000.0


def main() -> list[Row]:
    """Measure both sizes; takes about three minutes."""
    with tempfile.TemporaryDirectory() as folder:
        return [*_small(Path(folder) / "small"), *_large(Path(folder) / "large")]


def _small(folder: Path) -> list[Row]:
    export = generate(folder, N_SMALL, n_per_file=N_SMALL // 8)
    rounds = [
        {kind: measured(kind, export, folder / f"{kind}-{n}") for kind in ("convert", "plain")} for n in range(N_ROUNDS)
    ]
    middle = {
        (kind, what): statistics.median(one[kind][what] for one in rounds)
        for kind in ("convert", "plain")
        for what in ("wall_s", "cpu_s", "peak_mb")
    }
    work, peer = f"export of {N_SMALL:,} items to tables", "gzip + json + frames"
    return [
        Row(
            work=work, unit="items/s", better="higher", peer=peer,
            ours=N_SMALL / middle["convert", "wall_s"], theirs=N_SMALL / middle["plain", "wall_s"],
            why="wall time, checksums and writing Parquet included; the peer ends with its frames in memory",
        ),
        Row(
            work=work, unit="s of CPU a million", better="lower", peer=peer,
            ours=middle["convert", "cpu_s"] * 1e6 / N_SMALL, theirs=middle["plain", "cpu_s"] * 1e6 / N_SMALL,
            why="half of ours is parsing JSON, a quarter the look for items that need the slow way",
        ),
        Row(
            work=work, unit="MB at its peak", better="lower", peer=peer,
            ours=middle["convert", "peak_mb"], theirs=middle["plain", "peak_mb"],
            why="the peer's grows with the items, ours is bounded",
        ),
    ]  # fmt: skip


def _large(folder: Path) -> list[Row]:
    export, tables, some = generate(folder, N_LARGE), folder / "tables", folder / "some"
    made = measured("convert", export, tables)
    asked = measured("ask", tables)
    some.mkdir()
    for name in ("tasks", "attempts"):
        rows = f"FROM '{tables / name}.parquet' LIMIT {N_FRAMES}"
        duckdb.execute(f"COPY ({rows}) TO '{some / name}.parquet'")
    ours, theirs = measured("ask", some), measured("frames", some)
    work, peer = f"percentiles by type of {N_FRAMES:,} tasks, from the tables", "load + latency.percentiles"
    return [
        Row(
            work=f"export of {N_LARGE:,} items to tables", unit="MB at its peak", better="lower", wanted=1.0,
            ours=made["peak_mb"], peer="the limit that was set", theirs=LIMIT_MB,
            why=f"{N_LARGE / made['wall_s']:,.0f} items/s; DuckDB is held to 1 GB, and puts on disk what is beyond",
        ),
        Row(
            work=f"percentiles by type of {N_LARGE:,} tasks, from the tables", unit="MB at its peak", better="lower",
            wanted=1.0, ours=asked["peak_mb"], peer="the limit that was set", theirs=LIMIT_MB,
            why=f"exact, in {asked['wall_s']:.1f} s",
        ),
        Row(work=work, unit="s", better="lower", ours=ours["wall_s"], peer=peer, theirs=theirs["wall_s"]),
        Row(
            work=work, unit="MB at its peak", better="lower", ours=ours["peak_mb"], peer=peer, theirs=theirs["peak_mb"],
            why="what pandas takes for a million tasks is what bounds it: see docs/sizes.md",
        ),
    ]  # fmt: skip


def measured(kind: str, *paths: Path) -> dict[str, float]:
    """Do one of `_KINDS` in a process of its own; returns wall_s, cpu_s and peak_mb."""
    command = [sys.executable, "-m", "benchmarks.export", kind, *map(str, paths)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def _child(kind: str, *paths: str) -> None:
    before_mb, wall, cpu = _peak_mb(), time.perf_counter(), time.process_time()
    _KINDS[kind](*map(Path, paths))
    took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    print(json.dumps(took | {"peak_mb": _peak_mb() - before_mb}))


def _plain(export: Path, _tables: Path) -> object:
    """Read an export as one would: all its lines, then the frames."""
    items = []
    for path in sorted((export / "data").iterdir()):
        with gzip.open(path) as lines:
            items += read_items(json.loads(line)["Item"] for line in lines)
    return tasks_frame(items), attempts_frame(items)


def _frames(tables: Path) -> object:
    return latency.percentiles(latency.durations(load(tables)[0]), by="task_type")


#: What is measured, by its name on the command line.
_KINDS: dict[str, Callable[..., object]] = {
    "convert": lambda export, tables: convert(export, tables, progress=False),
    "plain": _plain,
    "ask": lambda tables: summaries.percentiles(tables, by="task_type"),
    "frames": _frames,
}


def _peak_mb() -> float:
    """Return the most memory that this process has held."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


if __name__ == "__main__":
    _child(*sys.argv[1:])
