"""Where a report comes from is told, and the same data make the same hash and the same pages."""

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat import v4
from pyarrow import parquet

from taskq_lib.commands.main import main
from taskq_lib.errors import RunDamaged, RunNotFound
from taskq_lib.report import pages, provenance, runs
from taskq_lib.report.runs import Run
from tests.unit.frames import synthetic_run
from tests.unit.results import GOOD

FRAME = pd.DataFrame(
    {
        "text": pd.array(["a", None, "ä"], dtype="str"),
        "kind": pd.Categorical(["A", "B", "A"]),
        "n": pd.array([1, None, 3], dtype="Int32"),
        "share": [0.5, np.nan, 2.0],
        "at": pd.DatetimeIndex(["2026-11-24", None, "2026-11-25"], tz="UTC").as_unit("us"),
        "is_on": pd.array([True, False, None], dtype="boolean"),
    }
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A complete run with data, a notebook, and pages."""
    made = runs.create("r", tmp_path / "runs", **GOOD)
    found = synthetic_run(50)
    for name in ("manifest", "tasks", "attempts", "dead"):
        made.save(name, getattr(found, name))
    output = v4.new_output("stream", name="stdout", text="a line")  # type: ignore[no-untyped-call]
    cells = [v4.new_markdown_cell("# How long"), v4.new_code_cell("1", outputs=[output])]  # type: ignore[no-untyped-call]
    nbformat.write(v4.new_notebook(cells=cells), made.folder / "40_latency.ipynb")  # type: ignore[no-untyped-call]
    pages.write_all(made)
    return made


def frame_hash(frame: pd.DataFrame, **how: Any) -> str:
    """Write a frame as Parquet, somehow, and hash what is read of it."""
    file = io.BytesIO()
    frame.to_parquet(file, index=False, **how)
    return provenance.table_hash(parquet.ParquetFile(file).read())


def shared(folder: Path) -> dict[str, bytes]:
    """Read what is shared of a run."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in {".html", ".md", ".json"}}


@pytest.mark.parametrize("change", [{"n": pd.array([1, None, 4], dtype="Int32")}, {"text": ["a", "", "ä"]}, {"new": 1}])
def test_other_data_have_another_hash(change: dict[str, Any]) -> None:
    """A value, a missing value or a column more changes a frame's hash, and so does the order of its rows."""
    assert frame_hash(FRAME.assign(**change)) != frame_hash(FRAME)
    assert frame_hash(FRAME[::-1].reset_index(drop=True)) != frame_hash(FRAME)


@pytest.mark.parametrize("how", [{"compression": "gzip"}, {"row_group_size": 1}, {"use_dictionary": False}])
def test_writing_again_keeps_the_hash(how: dict[str, Any]) -> None:
    """Another codec, other row groups or another encoding leave the hash as it was, and so does the type of a text."""
    before = frame_hash(FRAME)
    assert frame_hash(FRAME, **how) == before
    plain = FRAME.astype({"kind": "str", "text": "object", "n": "Int64"})
    assert frame_hash(plain[sorted(FRAME.columns)]) == before


@given(texts=st.lists(st.text(max_size=5), min_size=2, max_size=4))
def test_texts_are_not_run_together(texts: list[str]) -> None:
    """Texts that are the same one after the other, and not one by one, have hashes that differ."""
    whole = pd.DataFrame({"a": pd.array(["".join(texts), *[""] * (len(texts) - 1)], dtype="str")})
    parts = pd.DataFrame({"a": pd.array(texts, dtype="str")})
    assert (frame_hash(whole) == frame_hash(parts)) == whole.equals(parts)


def test_the_page_says_where_it_comes_from(run: Run) -> None:
    """Target, masked account, versions, data window and the hash of all data stand on the index."""
    index, data = (run.folder / "index.html").read_text(), run.results()["data"]
    facts = provenance.facts(run, run.results())
    assert facts["account"] == "...0000"
    assert facts["data window"].startswith("2026-11-24 01:59:59 to 2026-11-24 02:00:")
    assert facts["data hash"] == provenance.whole(data)
    assert len(facts["data hash"]) == 64
    assert all(value in index for value in [*facts.values(), *(entry["sha256"] for entry in data.values())])
    whole = GOOD["deployment"] | {"account": "123456789012"}
    assert provenance.facts(run, run.results() | {"deployment": whole})["account"] == "...9012"


def test_the_same_folder_makes_the_same_bytes(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rendered anew, in place or where it was copied to, every page, the summary and the results are as they were."""
    before = shared(run.folder)
    copied = tmp_path / "download" / "report (1)"
    shutil.copytree(run.folder, copied)
    for page in copied.glob("*.html"):
        page.unlink()
    for folder in (run.folder, copied):
        assert main(["report", "--from", str(folder)]) == 0
        assert shared(folder) == before
        assert f"data: SHA-256 {provenance.whole(run.results()['data'])}" in capsys.readouterr().out
    assert not (copied.parent / "index.html").exists()


def test_data_that_changed_are_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the data are no longer those the report was made of, the page and the command name them."""
    run.save("attempts", run.load("attempts").head(3))
    assert main(["report", "--from", str(run.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == ["attempts"]
    assert "The data are not those that this report was made of: attempts." in (run.folder / "index.html").read_text()


@given(cut=st.floats(0, 0.999))
def test_a_cut_parquet_is_one_sentence(cut: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Wherever a frame's file breaks off, reading it says which is damaged, and does not break."""
    run = runs.create("r", tmp_path_factory.mktemp("runs"))
    path = run.save("tasks", FRAME)
    path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    with pytest.raises(RunDamaged, match=r"^tasks\.parquet of run 'r' is damaged: [^\n]+\.\n  -> Restore"):
        run.load("tasks")


@pytest.mark.parametrize("text", ["", "{", "[1]", "1", '"a"', "\udcff", '{"a": 1}x'])
def test_damaged_results_are_one_sentence(text: str, tmp_path: Path) -> None:
    """Results that are no JSON object are told, and the other runs are listed all the same."""
    run, other = runs.create("r", tmp_path), runs.create("other", tmp_path)
    (run.folder / "results.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RunDamaged, match=r"^results\.json of run 'r' is damaged: [^\n]+\.\n  -> Restore"):
        run.results()
    assert runs.listed(tmp_path) == [other, run]


def test_a_damaged_run_is_not_rendered(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """`taskq report --from` names the file that is damaged, ends with 2, and leaves the pages as they were."""
    before = shared(run.folder)
    (run.folder / "dead.parquet").write_bytes(b"PAR1")
    assert main(["report", "--from", str(run.folder)]) == 2
    assert capsys.readouterr().err.startswith("error: dead.parquet of run 'r' is damaged: ")
    assert shared(run.folder) == before


def test_damaged_data_do_not_hide_why_a_run_failed(run: Run) -> None:
    """At the end of a run the pages are written all the same, and the file is named as damaged."""
    (run.folder / "dead.parquet").write_bytes(b"PAR1")
    index = pages.write_all(run).read_text()
    assert "dead.parquet of run &#39;r&#39; is damaged" in index
    assert "data hash" not in index.partition('id="provenance"')[2].partition("<p>")[0]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--from", "nowhere"], r"No run 'nowhere' in "),
        (["--from", "{empty}"], r".*empty is no run: it holds no results\.json that names one\."),
        (["--from", "{run}", "-p", "n_tasks", "5"], r"--from runs nothing, so it takes no n_tasks\."),
        (["--hide-accounts"], r"--hide-accounts goes with --from RUN"),
    ],
)
def test_what_cannot_be_rendered_is_refused(
    argv: list[str], said: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is no run, and options that mean nothing here, get one sentence and exit code 2."""
    (tmp_path / "empty").mkdir()
    argv = [word.format(empty=tmp_path / "empty", run=run.folder) for word in argv]
    assert main(["report", *argv]) == 2
    assert re.match(f"error: {said}", capsys.readouterr().err)


def test_account_ids_are_hidden_for_good(run: Run) -> None:
    """With --hide-accounts no account id stays on a page, in the results or in a notebook."""
    run.record(doctor={"queue": "arn:aws:sqs:eu-central-1:123456789012:taskq"}, failure="of 123456789012")
    assert main(["report", "--from", str(run.folder), "--hide-accounts"]) == 0
    assert not [name for name, text in shared(run.folder).items() if b"123456789012" in text]
    assert run.results()["failure"] == "of ...9012"


def test_a_run_is_found_by_folder_or_id(run: Run, tmp_path: Path) -> None:
    """A path names the run whose folder it is, another text an id; a copy keeps the run's own id."""
    root = run.folder.parent
    assert runs.at(str(run.folder)) == run
    assert runs.at("r", root) == run
    shutil.copytree(run.folder, tmp_path / "copy")
    assert runs.at(str(tmp_path / "copy")).id == "r"
    with pytest.raises(RunNotFound):
        runs.at("other", root)
