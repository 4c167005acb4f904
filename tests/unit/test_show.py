"""Notebooks show tables that a person can read, figures that have a text, and records that a machine can read."""

import json
import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.display import HTML

from taskq_lib.report import runs, show


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """What is displayed: each value with the arguments of its display."""
    found: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(show, "display", lambda value, **arguments: found.append((value, arguments)))
    return found


def rows(table: HTML) -> list[list[str]]:
    """Return the texts of a table's cells, still escaped; its head first."""
    found = re.findall(r"<tr>(.*?)</tr>", str(table.data), re.DOTALL)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in found]


def test_a_long_table_is_cut_with_a_count() -> None:
    """Rows beyond the most that is shown are counted, not silently gone; a shorter table says nothing of it."""
    frame = pd.DataFrame({"n": range(1_250)})
    cut = show.table(frame, 20)
    assert len(rows(cut)) == 1 + 20
    assert "1,230 more rows" in str(cut.data)
    assert "more rows" not in str(show.table(frame.head(20), 20).data)


def test_numbers_are_aligned() -> None:
    """Numbers stand on the right, their heads too; texts, truths and times do not."""
    frame = pd.DataFrame(
        {
            "count": [1],
            "share": [0.5],
            "attempts": pd.array([2], dtype="Int32"),
            "text": ["a"],
            "truth": [True],
            "time": pd.to_datetime(["2026-11-24T02:00:00Z"]),
        }
    )
    aligned = re.findall(r'<(th|td) class="n" style="text-align:right">(.*?)</', str(show.table(frame).data))
    assert aligned == [("th", "count"), ("th", "share"), ("th", "attempts"), ("td", "1"), ("td", "0.5"), ("td", "2")]


def test_what_is_missing_is_blank() -> None:
    """None, NaN, NA and NaT are empty cells, whatever the column's type."""
    frame = pd.DataFrame(
        {
            "text": pd.array([None], dtype="str"),
            "object": [None],
            "number": [np.nan],
            "count": pd.array([None], dtype="Int32"),
            "truth": pd.array([None], dtype="boolean"),
            "time": pd.array([pd.NaT], dtype="datetime64[us, UTC]"),
            "kind": pd.Categorical([None], categories=["a"]),
        }
    )
    assert rows(show.table(frame))[1] == [""] * 7


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1234567, -5], ["1,234,567", "-5"]),
        (pd.array([12345, 0], dtype="Int32"), ["12,345", "0"]),
        ([0.05, 123456.7, 0.0], ["0.05", "123,457", "0"]),
        ([1 / 3, 1234.5678], ["0.3333", "1,235"]),
        ([True, False], ["yes", "no"]),
        (pd.array([True, False], dtype="boolean"), ["yes", "no"]),
        (pd.to_datetime(["2026-11-24T02:03:04.567Z"]), ["2026-11-24 02:03:04"]),
        (["<b>", "a & b"], ["&lt;b&gt;", "a &amp; b"]),
        ([["a", 1], {"b": 2}], ["[&#39;a&#39;, 1]", "{&#39;b&#39;: 2}"]),
    ],
    ids=lambda values: str(getattr(values, "dtype", values))[:20],
)
def test_values_are_written_for_people(values: Any, texts: list[str]) -> None:
    """Numbers have separators and four digits, truths are words, times whole seconds, texts escaped: in any dtype."""
    assert [row[0] for row in rows(show.table(pd.DataFrame({"a": values})))[1:]] == texts


def test_a_long_text_is_cut_with_a_mark() -> None:
    """A text of more than 300 characters is cut with a mark that says how long it was; one of 300 is whole."""
    frame = pd.DataFrame({"body": ["x" * 5_000, "y" * 300]})
    long, whole = (row[0] for row in rows(show.table(frame))[1:])
    assert long == "x" * 300 + "... [cut, 5,000 characters]"
    assert whole == "y" * 300


def test_an_empty_table_shows_its_columns() -> None:
    """A frame without rows is a table of heads."""
    assert rows(show.table(pd.DataFrame({"a": [], "b": []}))) == [["a", "b"]]


def test_facts_are_a_table_of_two_columns() -> None:
    """Names and values of any kind are shown one a row, written as in any table."""
    found = rows(show.facts({"n_tasks": 1000, "dry_run": False, "mix": "<a>", "region": "", "none": None}))
    assert found[0] == ["name", "value"]
    assert dict(found[1:]) == {"n_tasks": "1,000", "dry_run": "no", "mix": "&lt;a&gt;", "region": "", "none": ""}


def test_a_figure_is_displayed_with_its_text_and_closed(displayed: list[tuple[Any, dict[str, Any]]]) -> None:
    """A figure is displayed once, with the text for who cannot see it, and is closed, so that memory does not grow."""
    before = plt.get_fignums()
    above, below = plt.subplots(2)[1]
    above.set_title("Latency over time", loc="left")
    above.set_ylabel("latency (s)")
    below.text(0, 0, "No backlog to draw.")
    show.figure(above)
    text = "Latency over time; up: latency (s). No backlog to draw."
    assert displayed == [(above.figure, {"metadata": {"image/png": {"alt": text}}})]
    assert plt.get_fignums() == before


def test_a_record_is_kept_and_displayed(displayed: list[tuple[Any, dict[str, Any]]], tmp_path: Path) -> None:
    """A record is merged into the run's results and displayed for machines and for people, the latter escaped."""
    run = runs.create("r", tmp_path)
    run.record(target="local", slowest={"old": 1})
    show.record(run, slowest={"p50": 0.5, "p99": float("nan")}, note="</pre><script>")
    kept = {"slowest": {"p50": 0.5, "p99": None}, "note": "</pre><script>"}
    assert run.results().items() >= {"run_id": "r", "target": "local", **kept}.items()
    [(bundle, arguments)] = displayed
    assert arguments == {"raw": True}
    assert bundle["application/json"] == json.loads(bundle["text/plain"]) == kept
    assert "&lt;/pre&gt;&lt;script&gt;" in bundle["text/html"]
    assert "<script>" not in bundle["text/html"]


def test_a_record_without_a_run_is_displayed_alone(displayed: list[tuple[Any, dict[str, Any]]], tmp_path: Path) -> None:
    """Outside a run a record is displayed and written nowhere."""
    show.record(None, dead_letters=3)
    assert displayed[0][0]["application/json"] == {"dead_letters": 3}
    assert list(tmp_path.iterdir()) == []
