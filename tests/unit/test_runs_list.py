"""The list of runs: headline numbers, verdicts and trends, sortable, and whole though one run is damaged."""

import re
from pathlib import Path
from typing import Any

from taskq_lib.report import runs, runs_list
from taskq_lib.report.runs import Run
from tests.unit.markup import Html
from tests.unit.results import GOOD


def made(root: Path, name: str, at: int, p99: float | None = 1.0, **sections: Any) -> Run:
    """Make a run with a report, of a time and a p99."""
    row = GOOD["latency"]["end_to_end_s"] | {"p99": p99}
    run = runs.create(name, root, **GOOD | {"latency": {"end_to_end_s": row}} | sections)
    run.record(created_at=f"2026-11-{at:02d}T00:00:00+00:00")
    (run.folder / "index.html").touch()
    return run


def test_the_trend_is_that_of_one_workload(tmp_path: Path) -> None:
    """Each run has the course of its figure over the runs of the same tasks until then; another workload its own."""
    for at, p99 in enumerate([1.0, 2.0, 4.0], 1):
        made(tmp_path, f"r{at}", at, p99, parameters={"n_tasks": 5, "seed": at, "timeout_s": at})
    made(tmp_path, "other", 4, 9.0, parameters={"n_tasks": 6})
    newest, *rest = runs_list.rows(tmp_path)
    assert newest.trend is None
    says = [row.trend.says if row.trend else None for row in rest]
    assert says == ["p99 of 3 runs: 1 s, 2 s, 4 s", "p99 of 2 runs: 1 s, 2 s", None]
    assert rest[0].trend is not None
    places = [tuple(map(float, place.split(","))) for place in rest[0].trend.points.split()]
    assert [x for x, _ in places] == [3, 55, 107]
    # A line from zero up: twice as much is twice as high.
    assert [21 - y for _, y in places] == [4.5, 9, 18]
    assert (rest[0].trend.x, rest[0].trend.y) == places[-1]


def test_a_trend_without_p99_is_of_the_median(tmp_path: Path) -> None:
    """Where no run carries a p99, the trend is of the median; a run without any figure has none."""
    for at in (1, 2):
        made(tmp_path, f"r{at}", at, None)
    made(tmp_path, "empty", 3, latency={})
    empty, second, _first = runs_list.rows(tmp_path)
    assert empty.trend is None
    assert second.trend is not None
    assert second.trend.says == "p50 of 2 runs: 1.2 s, 1.2 s"


def test_a_damaged_run_is_listed_with_the_reason(tmp_path: Path) -> None:
    """A run whose results cannot be read keeps its row, which says so, and the others theirs."""
    made(tmp_path, "good", 1)
    (made(tmp_path, "bad", 2).folder / "results.json").write_text("{")
    words = Html(runs_list.write(tmp_path).read_text()).words
    assert "bad results.json of run 'bad' is damaged" in words
    assert "good 2026-11-24 02:00:00 ✓ in order - 1.2 s 1 s 500 500 0 0 complete local" in words


def test_columns_are_sorted_by_their_values(tmp_path: Path) -> None:
    """Every number is in its cell as a number, beside what people read, and every column but the trend has a button."""
    made(tmp_path, "r", 1, 0.25, compare={"verdict": "fail"})
    source = runs_list.write(tmp_path).read_text()
    assert '<td class="n" data-value="0.25">250 ms</td>' in source
    assert source.count("<button") == len(re.findall("<th ", source)) - 1 == 12
    assert "wrong fail 1.2 s" in Html(source).words.replace("✗ ", "")
