"""`runs/index.html`: the runs on this disk with their headline numbers, sortable, each with its trend."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from taskq_lib.errors import RunDamaged
from taskq_lib.report import rendering, summary, words
from taskq_lib.report.runs import Run, kind_of, listed, root_folder
from taskq_lib.report.summary import Summary, Tone

#: Size of a trend in pixels, its margin, and how many runs it shows at most.
_WIDTH, _HEIGHT, _MARGIN, _N_SHOWN = 110, 24, 3, 20
_WORDS = {Tone.PLAIN: "in order", Tone.GOOD: "in order", Tone.CAUTION: "worth a look", Tone.BAD: "wrong"}


@dataclass(frozen=True, kw_only=True)
class Trend:
    """A figure over the runs of one workload, as a line."""

    points: str  #: Of an SVG polyline
    x: float
    y: float
    says: str  #: The same in words


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run of the list."""

    run: Run
    results: Mapping[str, Any]
    damaged: str = ""  #: Why its results cannot be read
    trend: Trend | None = None

    @property
    def summary(self) -> Summary:
        """What its report says."""
        return summary.of(self.results)

    @property
    def word(self) -> str:
        """Its summary in a word."""
        return _WORDS[self.summary.tone]

    @property
    def gravity(self) -> int:
        """What the list sorts summaries by."""
        return list(Tone).index(self.summary.tone)

    @property
    def latency(self) -> Mapping[str, Any]:
        """The percentiles of its end-to-end latency; empty where there are none."""
        return summary.section(self.results, "latency", "end_to_end_s")


def write(root: str | Path) -> Path:
    """Write the list of the runs in `root` that have a report, the newest first; returns its path."""
    script, policy = rendering.script("sort.js")
    path = root_folder(root) / "index.html"
    text = rendering.environment().get_template("runs.html.j2").render(
        rows=rows(root),
        policy=policy,
        script=Markup(script),  # noqa: S704 - our own
    )  # fmt: skip
    path.write_text(text, encoding="utf-8")
    return path


def rows(root: str | Path) -> list[Row]:
    """Return the rows of the list, the newest first, each with the trend of its workload until then."""
    found = [_row(run) for run in listed(root) if (run.folder / "index.html").is_file()]
    courses: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    trends = []
    for row in reversed(found):
        course = courses[kind_of(row.results)]
        course.append(row)
        trends.append(_trend(course[-_N_SHOWN:]))
    return [dataclasses.replace(row, trend=trend) for row, trend in zip(found, reversed(trends), strict=True)]


def _row(run: Run) -> Row:
    try:
        return Row(run=run, results=run.results())
    except RunDamaged as error:
        return Row(run=run, results={}, damaged=str(error.args[0]))


def _trend(course: Sequence[Row]) -> Trend | None:
    """Draw the course of a figure up to its last run, which gets the dot; None where that is one point or none."""
    name = "p99" if any(words.is_number(row.latency.get("p99")) for row in course) else "p50"
    values = [row.latency.get(name) for row in course]
    known = [value for value in values if words.is_number(value)]
    if len(known) < 2 or not words.is_number(values[-1]):
        return None
    top, step = max(known) or 1.0, (_WIDTH - 2 * _MARGIN) / (len(known) - 1)
    # From zero up, so that a small change looks small.
    places = [
        (_MARGIN + i * step, _HEIGHT - _MARGIN - max(0.0, value) / top * (_HEIGHT - 2 * _MARGIN))
        for i, value in enumerate(known)
    ]
    return Trend(
        points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places),
        x=round(places[-1][0], 1),
        y=round(places[-1][1], 1),
        says=f"{name} of {len(known)} runs: {', '.join(map(words.seconds, known))}",
    )
