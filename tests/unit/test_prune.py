"""Old runs go on request only, and never one that a process is at."""

import json
from pathlib import Path

import pytest

from taskq_lib.commands.main import main
from taskq_lib.lock import alone
from taskq_lib.report import prune, runs
from taskq_lib.report.runs import Run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with four runs, made on four days, and what is no run."""
    folder = tmp_path / "runs"
    for day in (1, 2, 3, 4):
        made = runs.create(f"r{day}", folder)
        made.record(created_at=f"2026-11-0{day}T00:00:00+00:00")
        (made.folder / "index.html").write_text("page")
    (folder / "mine").mkdir()
    (folder / "damaged").mkdir()
    (folder / "damaged" / "results.json").write_text("{")
    return folder


def left(root: Path) -> set[str]:
    """Return the folders that are there."""
    return {path.name for path in root.iterdir() if path.is_dir()}


EVERY = {"r1", "r2", "r3", "r4", "mine", "damaged"}


def test_nothing_goes_unless_it_is_said_twice(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --yes the runs that would go are shown with their sizes, and every file stays."""
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert main(["prune", "--runs-dir", str(root), "--keep", "3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("r1  2026-11-01T00:00:00  ")
    assert out.endswith("to be deleted with --yes: 1 run\n")
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_a_folder_that_is_none_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no folder of runs nothing can be said of old ones, least of all that there are none."""
    for folder in (root / "r1" / "index.html", root / "nowhere"):
        assert main(["prune", "--runs-dir", str(folder), "--keep", "1"]) == 2
        assert f"There is no folder {folder}." in capsys.readouterr().err


def test_the_newest_stay(root: Path) -> None:
    """--keep N leaves the N newest runs, and whatever is no run or does not say how old it is."""
    assert main(["prune", "--runs-dir", str(root), "--keep", "1", "--yes"]) == 0
    assert left(root) == EVERY - {"r1", "r2", "r3"}
    listed = (root / "index.html").read_text()
    assert "r4/index.html" in listed
    assert "r3/index.html" not in listed


def test_the_young_stay(root: Path) -> None:
    """--older-than DAYS deletes what is older, and nothing else."""
    young = runs.create("young", root)
    assert main(["prune", "--runs-dir", str(root), "--older-than", "0.5", "--yes"]) == 0
    assert left(root) == {"mine", "damaged", young.id}
    assert main(["prune", "--runs-dir", str(root), "--older-than", "0.5", "--yes"]) == 0
    assert young.folder.is_dir()


@pytest.mark.parametrize("lock", ["run.lock", "submit.lock", "redrive.lock"])
def test_a_run_that_a_process_is_at_stays(lock: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that is executed, submitted or redriven at this moment is not deleted, and is named."""
    with alone(root / "r1" / lock):
        assert main(["prune", "--runs-dir", str(root), "--keep", "0", "--yes", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["held"], sorted(said["deleted"])) == (["r1"], ["r2", "r3", "r4"])
    assert left(root) == {"r1", "mine", "damaged"}


def test_a_run_that_is_taken_up_meanwhile_stays(root: Path) -> None:
    """Between the choice and the deletion a process may take a run up; then it stays."""
    chosen = prune.choose(root, keep=0)
    taken = Run(id="r2", folder=root / "r2")
    with alone(taken.folder / "run.lock"):
        assert prune.delete(chosen.old) == [taken]
    assert left(root) == {"r2", "mine", "damaged"}


def test_a_lock_that_nobody_holds_is_no_hindrance(root: Path) -> None:
    """A lock file that a killed process left does not keep its run."""
    (root / "r1" / "run.lock").touch()
    assert [run.id for run in prune.choose(root, keep=3).old] == ["r1"]
    assert (root / "r1" / "run.lock").is_file()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--keep", "-1"], "--keep is -1; it is a number of runs, 0 or more."),
        (["--older-than", "-1"], "--older-than is -1; it is a number of days"),
        (["--older-than", "nan"], "--older-than is nan; it is a number of days"),
    ],
)
def test_what_is_no_number_is_refused(
    argv: list[str], said: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A number that makes no sense deletes nothing, even with --yes."""
    assert main(["prune", "--runs-dir", str(root), *argv, "--yes"]) == 2
    assert said in capsys.readouterr().err
    assert left(root) == EVERY


@pytest.mark.parametrize("argv", [[], ["--keep", "1", "--older-than", "3"]])
def test_one_rule_is_needed(argv: list[str], root: Path) -> None:
    """Neither no rule nor two at once delete anything."""
    with pytest.raises(SystemExit):
        main(["prune", "--runs-dir", str(root), *argv, "--yes"])
    assert left(root) == EVERY
