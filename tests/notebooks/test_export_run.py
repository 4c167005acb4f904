"""An export from files to figures, as a person runs it: without AWS, without an engine."""

import json
from pathlib import Path

import nbformat
import pytest

from benchmarks.generate_export import generate
from tests.notebooks.conftest import Begin, Finish

pytestmark = pytest.mark.notebooks


def test_an_export_is_read_without_aws(begin: Begin, finish: Finish, tmp_path: Path) -> None:
    """`taskq run 41_export` converts it, shows its figures, records what it found, and leaves the page in a run."""
    export, runs = generate(tmp_path / "export", 2_000), tmp_path / "runs"
    given = ["-p", "export", str(export), "-p", "runs_dir", str(runs), "--json"]
    done = finish(begin(tmp_path / "no-engine", "run", "41_export", *given))
    assert done.returncode == 0, done.stderr
    page = Path(json.loads(done.stdout)["page"])
    notebook = nbformat.read(page.with_suffix(".ipynb"), as_version=4)  # type: ignore[no-untyped-call]
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    [record] = [output.data["application/json"] for output in outputs if "application/json" in output.get("data", {})]
    assert sum(int(row["n_tasks"]) for row in record["states"]) == 2_000
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    made = {path.name for path in export.with_name(f"{export.name}-tables").iterdir()}
    assert made == {"tasks.parquet", "attempts.parquet", "athena.sql", "manifest-files.json"}


def test_an_export_must_be_named(begin: Begin, finish: Finish, tmp_path: Path) -> None:
    """Without an export the notebook says how one is fetched, and ends with the exit code of what cannot run."""
    done = finish(begin(tmp_path / "no-engine", "run", "41_export", "-p", "runs_dir", str(tmp_path / "runs")))
    assert done.returncode == 2
    assert "No export is named." in done.stderr
    assert "aws s3 sync s3://BUCKET" in done.stderr
