"""A run beside those before it, as a person looks at it: from folders alone, without AWS, without an engine."""

from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

from benchmarks.queue_simulator import simulate
from taskq_lib.analysis import latency
from taskq_lib.report import runs
from taskq_lib.report.runs import Run
from tests.notebooks.conftest import Begin, Finish

pytestmark = pytest.mark.notebooks

N_EARLIER = 11
TITLE = "<script>alert('hostile')</script>"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven runs of one workload, and a twelfth of which the tasks take half as long again."""
    root = tmp_path_factory.mktemp("runs")
    for i in range(N_EARLIER):
        kept(root, f"run-{i:02}", simulate(500, i))
    kept(root, "worse", simulate(500, 99, slower=1.5), versions={"commit": TITLE})
    return root


def kept(root: Path, name: str, tasks: pd.DataFrame, **sections: Any) -> Run:
    """Keep a run's tasks and headline figures as a report does."""
    run = runs.create(name, root, state="complete", target="local", parameters={"n_tasks": 500, "seed": len(name)})
    run.save("tasks", tasks)
    throughput = dict.fromkeys(["offered_per_s", "attempts_per_s", "completed_per_s"], 60.0)
    run.record(
        latency=latency.summary(latency.percentiles(latency.durations(tasks))),
        failure_rate={"tasks": 0.01, "attempts": 0.01, "by_type": {}},
        throughput={"window_s": 8.0, "max_backlog": 9, **throughput},
        **sections,
    )
    return run


def outputs(run: Run) -> list[Any]:
    """Return what the cells of a run's executed 80_compare put out."""
    notebook = nbformat.read(run.folder / "80_compare.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def pictures(found: list[Any]) -> int:
    """Count the figures among outputs."""
    return sum("image/png" in output.get("data", {}) for output in found)


def test_a_worse_run_fails_the_command_and_not_the_report(begin: Begin, finish: Finish, root: Path) -> None:
    """80_compare shows differences, latencies and the history, records them, and ends well; `taskq compare` gates."""
    given = ["--run-id", "worse", "-p", "runs_dir", str(root)]
    done = finish(begin(root / "no-engine", "run", "80_compare", *given))
    assert done.returncode == 0, done.stderr
    worse = runs.find("worse", root)
    assert pictures(outputs(worse)) == 3
    found = worse.results()
    assert (found["compare"]["verdict"], len(found["compare"]["baseline"])) == ("fail", 5)
    assert found["compare"]["says"].startswith("Worse than 5 runs (95% sure): ")
    assert {"what": "version of commit", "ours": TITLE, "baseline": "not recorded"} in found["compare"]["changed"]
    assert [row["run_id"] for row in found["history"]][-2:] == [f"run-{N_EARLIER - 1}", "worse"]
    page = (worse.folder / "80_compare.html").read_text()
    assert TITLE not in page
    assert "&lt;script&gt;alert(" in page
    baseline = found["compare"]["baseline"]
    gate = finish(begin(root / "no-engine", "compare", "worse", *baseline, "--runs-dir", str(root)))
    assert gate.returncode == 1, gate.stderr
    assert "verdict: fail" in gate.stdout


def test_a_first_run_has_nothing_to_be_alarmed_at(begin: Begin, finish: Finish, root: Path) -> None:
    """Of the first of its kind the notebook says that there is no baseline, draws nothing, and ends well."""
    done = finish(begin(root / "no-engine", "run", "80_compare", "--run-id", "run-00", "-p", "runs_dir", str(root)))
    assert done.returncode == 0, done.stderr
    first = runs.find("run-00", root)
    assert pictures(outputs(first)) == 0
    assert first.results()["compare"]["verdict"] == "no baseline"
    assert "no earlier complete run" in done.stdout
