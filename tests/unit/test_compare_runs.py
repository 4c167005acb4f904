"""Runs in a folder: which are a baseline, what changed between them, and what `taskq compare` says and returns."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.queue_simulator import simulate
from taskq_lib.commands.compare import EXIT_CODES
from taskq_lib.commands.main import main
from taskq_lib.errors import RunDamaged, RunNotFound
from taskq_lib.report import compare, data, runs
from taskq_lib.report.chain import _FINDINGS
from taskq_lib.report.runs import Run
from tests.unit.frames import at, tasks_frame

Keep = Callable[..., Run]
N = 600
PARAMETERS = {"n_tasks": N, "seed": 0, "mix": "SEND_EMAIL:1", "arrival_rate_per_s": 0.0}
CHOSEN = {"run_id": "", "baseline": "", "margin_percent": 5.0, "failure_points": 1.0}


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """Keep a run with these tasks and results in the folder of the test, later than those before it."""

    def kept(name: str, tasks: pd.DataFrame | None = None, **sections: Any) -> Run:
        time.sleep(0.002)
        run = runs.create(name, tmp_path)
        run.save("tasks", simulate(N, len(name)) if tasks is None else tasks)
        run.save("manifest", pd.DataFrame({"task_id": ["a"]}))
        run.record(**{"state": "complete", "target": "local", "parameters": PARAMETERS, **sections})
        return run

    return kept


def chosen(root: Path, **given: object) -> Any:
    """Return the parameters as the notebook gives them."""
    return CHOSEN | {"runs_dir": str(root)} | given


def steady(slower: float = 1.0) -> pd.DataFrame:
    """Make a run of 2,000 tasks that take 1 s each, all but exactly, so that every difference is sure."""
    start, took = np.arange(2_000) / 100, slower * (1 + np.tile([-0.002, 0.0, 0.001, 0.002], 500))
    return tasks_frame(
        *(
            {"enqueued_at": at(s), "first_started_at": at(s), "last_started_at": at(s), "finished_at": at(s + t)}
            for s, t in zip(start.tolist(), took.tolist(), strict=True)
        )
    )


def test_the_baseline_is_the_newest_complete_runs_like_it(keep: Keep, tmp_path: Path) -> None:
    """Five at most, newest first, earlier, complete, of the same target and workload; the seed may differ."""
    for i in range(6):
        keep(f"like-{i}", parameters=PARAMETERS | {"seed": i})
    keep("failed", state="failed")
    keep("elsewhere", target="aws")
    keep("larger", parameters=PARAMETERS | {"n_tasks": 10})
    run = keep("ours", parameters=PARAMETERS | {"stack_parameters": "MaxAttempts:5"})
    (keep("torn").folder / "results.json").write_text("")
    keep("later")
    found = compare.of_notebook(chosen(tmp_path, run_id="ours"))
    assert [one.id for one in found.baseline] == [f"like-{i}" for i in (5, 4, 3, 2, 1)]
    assert found.runs == "ours, judged: ours\nbaseline: like-5, like-4, like-3, like-2, like-1"
    assert compare.like(run, 1)[0].id == "like-5"


def test_no_baseline_is_a_sentence_and_no_failure(keep: Keep, tmp_path: Path) -> None:
    """The first run of its kind has the verdict `no baseline`, and its record is JSON with its own headline figures."""
    run = keep("ours", latency={"end_to_end_s": {"p50": 0.1, "p99": 0.3}})
    found = compare.of_notebook(chosen(tmp_path))
    assert (found.verdict, found.baseline, found.ours) == ("no baseline", [], None)
    assert found.says == "There is no earlier complete run of the same target, stack and workload to compare with."
    run.record(compare=found.to_dict(), history=found.trend(), changes=found.changes)
    read = run.results()
    assert read["compare"]["metrics"] == read["compare"]["changed"] == read["changes"] == []
    [row] = read["history"]
    assert (row["run_id"], row["p50"], row["p99"], row["failure_rate"]) == ("ours", 0.1, 0.3, None)


def test_the_record_has_what_a_page_needs(keep: Keep, tmp_path: Path) -> None:
    """Verdict, baseline, a sentence, a row a metric with its numbers, and what changed; NaN is null."""
    keep("base")
    keep("ours", parameters=PARAMETERS | {"stack_parameters": "MaxAttempts:5"}, versions={"commit": "abc"})
    found = compare.of_notebook(chosen(tmp_path)).to_dict()
    found = json.loads(json.dumps(found, allow_nan=False))
    assert (found["verdict"], found["run_id"], found["baseline"]) == ("not enough data", "ours", ["base"])
    metric = {"metric", "ours", "baseline", "difference", "low", "high", "bound", "margin", "effect", "verdict", "unit"}
    assert all(metric <= set(row) for row in found["metrics"])
    assert len(found["metrics"]) == 11
    assert found["changed"] == [
        {"what": "parameter stack_parameters", "ours": "MaxAttempts:5", "baseline": "not recorded"},
        {"what": "version of commit", "ours": "abc", "baseline": "not recorded"},
    ]


def test_a_damaged_run_that_nobody_asked_for_is_left_out(keep: Keep, tmp_path: Path) -> None:
    """In a report, a baseline run that cannot be read is left out, and that is said; one that is named is refused."""
    keep("good")
    bad = keep("bad")
    (bad.folder / "tasks.parquet").write_bytes(b"PAR1 no more")
    keep("ours")
    found = compare.of_notebook(chosen(tmp_path))
    assert [one.id for one in found.baseline] == ["good"]
    assert "Left out: tasks.parquet of run 'bad' is damaged" in found.says
    with pytest.raises(RunDamaged, match=r"tasks\.parquet of run 'bad' is damaged"):
        compare.of_notebook(chosen(tmp_path, baseline="good, bad"))


def test_another_workload_is_compared_and_said(keep: Keep, tmp_path: Path) -> None:
    """Runs of which not the same was asked can be compared by name; the sentence says what differs."""
    keep("base", parameters=PARAMETERS | {"n_tasks": 10}, target="aws")
    keep("ours")
    found = compare.of_notebook(chosen(tmp_path, baseline="base"))
    assert found.says.endswith(" Not the same was asked of them (target, n_tasks differ).")


def test_a_run_by_hand_has_no_baseline_of_its_own(keep: Keep, tmp_path: Path) -> None:
    """A run that recorded no parameters is like no other."""
    keep("a", parameters=None)
    keep("b", parameters=None)
    assert compare.of_notebook(chosen(tmp_path)).verdict == "no baseline"


def test_the_history_is_that_of_runs_like_it(keep: Keep, tmp_path: Path) -> None:
    """Runs of one kind stand in order of time; a step that one of them brought is told in a sentence."""
    for i in range(12):
        keep(f"r{i:02}", latency={"end_to_end_s": {"p50": 1.0 + i / 1000 + (i > 5)}})
    keep("other", target="aws")
    found = compare.of_notebook(chosen(tmp_path, run_id="r11"))
    assert [row["run_id"] for row in found.trend()] == [f"r{i:02}" for i in range(12)]
    assert found.changes == ["The end-to-end latency p50 changed with run r06: from 1 to 2.01 (+100%)."]


def test_what_a_comparison_finds_is_found_again_after_another_reading() -> None:
    """A later call of the run, or another reading of its tasks, shows nothing of what was compared before."""
    assert {"compare", "history", "changes"} <= set(_FINDINGS) & set(data._FOUND_IN_FRAMES)


@pytest.mark.parametrize(("slower", "verdict", "code"), [(1.0, "pass", 0), (1.02, "pass", 0), (1.1, "fail", 1)])
def test_the_command_gates(
    keep: Keep, tmp_path: Path, capsys: pytest.CaptureFixture[str], slower: float, verdict: str, code: int
) -> None:
    """A run like its baseline ends with 0, so does one that is surely 2 % slower; one that is 10 % slower with 1."""
    keep("base", steady())
    keep("ours", steady(slower))
    assert main(["compare", "ours", "base", "--runs-dir", str(tmp_path)]) == code == EXIT_CODES[verdict]
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "ours, judged: ours"
    assert out[1] == "baseline: base"
    assert out[-2] == f"verdict: {verdict}"
    [row] = [line for line in out if line.startswith("processing time p50")]
    assert f"{100 * (slower - 1):+.3g} %" in row
    assert row.endswith(verdict)


def test_margins_can_be_given(keep: Keep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a margin of 20 %, tasks that take 10 % longer pass."""
    keep("base", steady())
    keep("ours", steady(1.1))
    arguments = ["compare", "ours", "base", "--runs-dir", str(tmp_path)]
    assert main([*arguments, "--margin", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["metrics"][3]["margin"], found["metrics"][9]["margin"]) == ("pass", 0.2, 0.01)
    assert main([*arguments, "--margin", "0"]) == 2
    assert "The margins 0 % and 1 points are not allowed" in capsys.readouterr().err


def test_too_little_data_has_a_code_of_its_own(keep: Keep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs of 100 tasks end with 3: neither pass nor fail; the same for an empty one."""
    keep("base", simulate(100, 1))
    keep("ours", simulate(100, 2))
    keep("none", simulate(100, 2).iloc[:0])
    assert main(["compare", "ours", "base", "--runs-dir", str(tmp_path)]) == 3
    assert "needs 200 tasks, there are 100" in capsys.readouterr().out
    assert main(["compare", "none", "base", "ours", "--runs-dir", str(tmp_path)]) == 3
    assert "verdict: not enough data" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["ours", "nowhere"], "No run 'nowhere'"),
        (["../ours", "base"], "No run '../ours'"),
        (["ours", "ours"], "Run 'ours' is named twice"),
        (["ours", "base", "base"], "Run 'base' is named twice"),
        (["ours", ""], "The id of a run is empty"),
        (["ours", "cut"], "tasks.parquet of run 'cut' is damaged: "),
        (["ours", "torn"], "results.json of run 'torn' is damaged: "),
        (["old", "base"], "Run 'old' cannot be compared: The frame `tasks` has no column first_started_at"),
        (["ours", "begun"], "Run 'begun' has no tasks.parquet yet"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    keep: Keep, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    """Runs that are not there, are the same, are damaged, or lack a column end with 2, a sentence and a hint."""
    base = keep("base")
    keep("ours")
    keep("old", simulate(N, 1).drop(columns="first_started_at"))
    whole = (base.folder / "tasks.parquet").read_bytes()
    (keep("cut").folder / "tasks.parquet").write_bytes(whole[: len(whole) // 2])
    (keep("torn").folder / "results.json").write_text('{"run_id": "to')
    runs.create("begun", tmp_path)
    assert main(["compare", *given, "--runs-dir", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {said}")
    assert len(err.splitlines()) == 2


def test_a_frame_that_is_damaged_within_is_one_sentence(keep: Keep) -> None:
    """A Parquet file whose pages are overwritten is as unreadable as one that is cut short; none at all is another."""
    run = keep("r")
    path = run.folder / "tasks.parquet"
    whole = bytearray(path.read_bytes())
    whole[100:2_000] = b"\xff" * 1_900
    path.write_bytes(whole)
    with pytest.raises(RunDamaged, match=r"tasks\.parquet of run 'r' is damaged"):
        run.load("tasks")
    with pytest.raises(RunNotFound):
        run.load("attempts")


def test_help_says_which_run_is_judged(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` shows the judged run first, and each exit code."""
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "RUN BASELINE [BASELINE ...]" in out
    assert "RUN, the first, is judged" in out
    for code in EXIT_CODES.values():
        assert f"{code}: " in out
