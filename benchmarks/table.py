"""What a benchmark found, and `docs/benchmarks.md`: one section a benchmark, each with the machine it ran on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil

from taskq_lib import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "benchmarks.md"
_HEAD = """# Benchmarks

Every speed that is claimed, measured beside its peer: both run in turn, in one run, on the same data. Read the ratios;
the figures beside them are one machine's. A ratio above 1 says that the kit is ahead; *wanted* is the goal that was set
before it was measured, and what is not reached stays in the table, with the reason. *Before* is the ratio of the run
that the section held until then: what holds is there twice.

`make bench` runs all of them and writes this page; `python -m benchmarks NAME --write` renews one section.
"""
_PACKAGES = ("boto3", "botocore", "pandas", "numpy", "pyarrow", "duckdb", "msgspec", "awswrangler",
             "aws-lambda-powertools", "ministack")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison."""

    work: str  #: What was done, with its size
    unit: str  #: Of both figures, such as "tasks/s"
    ours: float
    peer: str  #: Who or what it is compared with
    theirs: float
    better: Literal["higher", "lower"]  #: Which figure wins
    wanted: float | None = None  #: The ratio that was set as a goal; None where the row only informs
    why: str = ""  #: What the figure includes; of a goal that is not reached, what the profile shows

    @property
    def ratio(self) -> float:
        """How many times better ours is."""
        return self.ours / self.theirs if self.better == "higher" else self.theirs / self.ours

    @property
    def is_reached(self) -> bool:
        """Whether the goal, where there is one, is reached."""
        return self.wanted is None or self.ratio >= self.wanted

    def __str__(self) -> str:
        """Return the row as one line for a terminal."""
        wanted = "" if self.wanted is None else f", wanted {self.wanted:g}{'' if self.is_reached else ': NOT REACHED'}"
        ours, theirs = number(self.ours), number(self.theirs)
        return f"{self.work}: {ours} {self.unit}; {self.peer}: {theirs}; ratio {self.ratio:.2f}{wanted}"


def number(value: float) -> str:
    """Write a figure with three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def section(name: str, says: str, rows: Sequence[Row], figures: Sequence[str], took_s: float) -> str:
    """Return a benchmark's section; `figures` are files of docs/."""
    before = _ratios(_sections(PAGE).get(name, ""))
    lines = [f"## {name}", "", says, "", f"`python -m benchmarks {name}`, {took_s:.0f} s. {machine()}", ""]
    lines += ["| work | unit | ours | peer | theirs | ratio | before | wanted |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        wanted = "-" if row.wanted is None else f"{row.wanted:g}" + ("" if row.is_reached else " (**not reached**)")
        cells = [row.work, row.unit, number(row.ours), row.peer, number(row.theirs), f"**{row.ratio:.2f}**"]
        cells += [before.get((row.work, row.unit, row.peer), "-"), wanted]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {row.work}: {row.why}" for row in rows if row.why)]
    lines += [f"\n![{figure}]({figure})" for figure in figures]
    return "\n".join(lines).rstrip() + "\n"


def write(sections: dict[str, str], path: Path = PAGE) -> None:
    """Put these sections on the page, in place of earlier ones of the same name; the others stay."""
    known = _sections(path) | sections
    path.write_text("\n".join([_HEAD, *(known[name] for name in sorted(known))]), encoding="utf-8")


def _sections(path: Path) -> dict[str, str]:
    held = path.read_text(encoding="utf-8").split("\n## ")[1:] if path.is_file() else []
    return {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in held}


def _ratios(held: str) -> dict[tuple[str, str, str], str]:
    """Return the ratios in a section's table, by work, unit and peer."""
    rows = [line.strip("| ").split(" | ") for line in held.splitlines() if "| **" in line]
    return {(work, unit, peer): ratio.strip("*") for work, unit, _ours, peer, _theirs, ratio, *_rest in rows}


def machine() -> str:
    """Say where and with what this runs, and when."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    where = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {memory}, load {os.getloadavg()[0]:.1f}"
    python = f"{platform.system()}, Python {platform.python_version()}"
    return f"{datetime.now(UTC):%Y-%m-%d}; {where}; {python}; {versions}."
