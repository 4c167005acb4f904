"""A run's folder: never overwritten, never outside its root, and every file in it whole."""

import re
import shlex
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskq_lib.errors import BadInput, RunDamaged, RunExists, RunNotFound
from taskq_lib.report import chain, runs
from taskq_lib.report.runs import Run
from taskq_lib.workload import Workload, generate

FRAME = pd.DataFrame({"task_id": pd.array(["a", "b"], dtype="str"), "n": pd.array([1, None], dtype="Int32")})
#: Longer than the step of a file system's clock, so that two folders get times that differ.
STEP_S = 0.02


def made(run_id: str, root: Path) -> Run:
    """Make a run whose folder is newer than those made before it."""
    time.sleep(STEP_S)
    return runs.create(run_id, root)


def test_a_run_is_created_found_and_listed(tmp_path: Path) -> None:
    """A new run gets a folder of its own, is found by its id, and the newest is first and is the default."""
    root = tmp_path / "deep" / "runs"
    first, second = made("b", root), made("a", root)
    assert first == Run(id="b", folder=root / "b")
    assert first.folder.is_dir()
    assert runs.find("b", root) == first
    assert runs.listed(root) == [second, first]
    assert runs.find("", root) == second


def test_the_newest_run_is_one_that_submitted(tmp_path: Path) -> None:
    """A folder that keeps the audit of a redrive, and nothing that was submitted, is no run to read."""
    submitted = runs.create("submitted", tmp_path)
    submitted.save("manifest", pd.DataFrame({"task_id": ["a"]}))
    runs.create("audit", tmp_path)
    assert runs.find("", tmp_path) == submitted
    assert runs.find("audit", tmp_path).id == "audit"


@pytest.mark.parametrize("kept", ["sends.jsonl", "sends.parquet"])
def test_a_plan_that_was_not_carried_out_is_not_the_newest_run(kept: str, tmp_path: Path) -> None:
    """A cell that plans a run and is run again leaves a run that sent nothing; what was sent is what is looked at."""
    sent, planned = made("sent", tmp_path), made("planned", tmp_path)
    for run in (sent, planned):
        run.save("manifest", FRAME)
    assert runs.find("", tmp_path) == planned
    (sent.folder / kept).touch()
    assert runs.find("", tmp_path) == sent


def test_reading_an_old_run_again_does_not_make_it_the_newest(tmp_path: Path) -> None:
    """What is kept later in the folder of an older run changes nothing about which run is the newest."""
    older, newer = made("older", tmp_path), made("newer", tmp_path)
    time.sleep(STEP_S)
    older.save("tasks", FRAME)
    older.record(ledger={})
    assert runs.find("", tmp_path) == newer


def test_what_is_not_a_run_is_not_listed(tmp_path: Path) -> None:
    """Files and folders whose names no run can have are no runs."""
    (tmp_path / "index.html").touch()
    (tmp_path / ".hidden").mkdir()
    run = runs.create("r", tmp_path)
    assert runs.listed(tmp_path) == [run]
    assert runs.listed(tmp_path / "nowhere") == []


def test_ids_are_made_from_the_time(tmp_path: Path) -> None:
    """An empty id becomes one that sorts by time; two of one second differ."""
    found = [runs.create("", tmp_path) for _ in range(20)]
    assert len({run.id for run in found}) == 20
    assert all(run.folder == tmp_path / run.id for run in found)
    seconds = [run.id.partition("-")[0] for run in found]
    assert seconds == sorted(seconds)


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    """An id that is taken is refused, and what is in its folder stays."""
    runs.create("r", tmp_path).record(kept=True)
    with pytest.raises(RunExists, match=r"^Run 'r' exists already"):
        runs.create("r", tmp_path)
    assert runs.find("r", tmp_path).results()["kept"] is True


@given(run_id=st.text() | st.from_regex(r"[/.\\~A-Za-z0-9_:\x00-]{0,12}", fullmatch=True))
@example(run_id="../r")
@example(run_id="a/../../r")
@example(run_id="/r")
@example(run_id="..")
@example(run_id="r\n")
@example(run_id="a" * 101)
def test_no_id_leaves_the_root(run_id: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever id is given, a folder is made right in the root, or the id is refused and nothing is made anywhere."""
    around = tmp_path_factory.mktemp("around")
    root = around / "root"
    try:
        run = runs.create(run_id, root)
    except BadInput:
        assert list(around.iterdir()) == []
        with pytest.raises(RunNotFound):
            runs.find(run_id, root)
    else:
        assert list(around.iterdir()) == [root]
        assert list(root.iterdir()) == [run.folder]
        assert runs.find(run.id, root) == run


@pytest.mark.parametrize("run_id", ["a b", "-a", "ä", "a" * 101, "r/..", ".."])
def test_a_bad_id_says_what_is_allowed(run_id: str, tmp_path: Path) -> None:
    """An id that no folder or task id can begin with is refused with what is allowed."""
    with pytest.raises(BadInput, match=r"^Run id .* is not allowed: at most 100 letters, digits or any of _ \. : -"):
        runs.create(run_id, tmp_path)


@pytest.mark.parametrize("where", [Path("file"), Path("file", "below")], ids=["a file", "below a file"])
def test_a_folder_that_cannot_be_written_is_refused(where: Path, tmp_path: Path) -> None:
    """A root that is no folder, or can be none, is refused with its name and the parameter that chooses another."""
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"^The folder for runs, .*file.*, cannot be written: .*\n.*-p runs_dir"):
        runs.create("r", tmp_path / where)


def test_a_file_in_the_place_of_a_run_is_refused(tmp_path: Path) -> None:
    """A file that has the name of the run is no run that exists, and is not touched."""
    (tmp_path / "r").write_text("mine")
    with pytest.raises(BadInput, match="cannot be written"):
        runs.create("r", tmp_path)
    assert (tmp_path / "r").read_text() == "mine"


def test_a_run_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    """A run that is not found is refused with those that are there, and with the command that makes one."""
    with pytest.raises(RunNotFound, match=r"is empty\.\n.*`taskq report`"):
        runs.find("", tmp_path)
    runs.create("here", tmp_path)
    with pytest.raises(RunNotFound, match=r"^No run 'there' in .*; there are here\."):
        runs.find("there", tmp_path)


def test_a_relative_root_lies_in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative root is the project's, wherever the command or the kernel runs; an absolute one stays."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(runs, "PROJECT_ROOT", project)
    monkeypatch.chdir(elsewhere)
    assert runs.create("r", "mine").folder == project / "mine" / "r"
    assert runs.create("r").folder == project / "runs" / "r"
    assert runs.create("r", tmp_path / "absolute").folder == tmp_path / "absolute" / "r"
    assert list(elsewhere.iterdir()) == []


def test_a_record_adds_to_the_results(tmp_path: Path) -> None:
    """Sections are added to `results.json` beside the run's id; one of the same name is replaced."""
    run = runs.create("r", tmp_path)
    created = run.results()["created_at"]
    run.record(ledger={"open": 3}, target="local")
    run.record(ledger={"open": 0}, latency={"end_to_end_s": {"p50": 0.5}})
    recorded = {"ledger": {"open": 0}, "target": "local", "latency": {"end_to_end_s": {"p50": 0.5}}}
    assert run.results() == {"run_id": "r", "created_at": created, **recorded}


def test_a_section_is_removed(tmp_path: Path) -> None:
    """A section that is recorded as none goes, whether it was there or not; all others stay."""
    run = runs.create("r", tmp_path)
    run.record(ledger={"open": 0}, target="local")
    run.record(ledger=None, latency=None)
    assert set(run.results()) == {"run_id", "created_at", "target"}


def test_a_record_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a write breaks off, or a value is none that JSON has, the results are those from before."""
    run = runs.create("r", tmp_path)
    run.record(kept=1)
    for value in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)):
            run.record(lost=value)
    write_bytes = Path.write_bytes

    def break_off(path: Path, text: str, **_: Any) -> int:
        write_bytes(path, text[: len(text) // 2].encode())
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", break_off)
    with pytest.raises(OSError, match="No space left"):
        run.record(lost=1)
    results = run.results()
    assert (results["kept"], "lost" in results) == (1, False)


def test_a_frame_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame comes back as it was saved, and where a later write breaks off the earlier one is still there."""
    run = runs.create("r", tmp_path)
    path = run.save("tasks", FRAME)
    assert path == run.folder / "tasks.parquet"
    pd.testing.assert_frame_equal(run.load("tasks"), FRAME)

    def break_off(_: pd.DataFrame, path: Path, **__: Any) -> None:
        path.write_bytes(b"PAR1")
        raise OSError("No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", break_off)
    with pytest.raises(OSError, match="No space left"):
        run.save("tasks", FRAME.head(1))
    pd.testing.assert_frame_equal(run.load("tasks"), FRAME)


def test_a_frame_that_is_not_there_names_who_writes_it(tmp_path: Path) -> None:
    """A frame that no notebook has written yet is missed with the notebook that writes it."""
    with pytest.raises(RunNotFound, match=r"^Run 'r' has no tasks\.parquet yet\.\n.*30_status"):
        runs.create("r", tmp_path).load("tasks")


def test_a_run_is_opened_for_submit(tmp_path: Path) -> None:
    """A folder that the chain made, or that was submitted before, is taken for the submit; otherwise it is made."""
    prepared = runs.create("r", tmp_path)
    assert runs.open_for_submit("r", tmp_path) == prepared
    assert runs.open_for_submit("other", tmp_path).folder.is_dir()
    assert runs.open_for_submit("", tmp_path).folder.is_dir()
    prepared.save("manifest", FRAME)
    assert runs.open_for_submit("r", tmp_path) == prepared
    with pytest.raises(BadInput, match="is not allowed"):
        runs.open_for_submit("../r", tmp_path)


@given(seed=st.integers(0, 2**32 - 1), n_tasks=st.integers(1, 30), rate=st.sampled_from([0.0, 7.0]))
def test_the_same_parameters_go_on_with_a_run(
    seed: int, n_tasks: int, rate: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The manifest is kept once, and the same parameters make the same tasks again, whatever they are."""
    run = runs.create("r", tmp_path_factory.mktemp("runs"))
    plan = Workload(n_tasks=n_tasks, seed=seed, transient_share=0.3, arrival_rate_per_s=rate)
    runs.keep_manifest(run, generate(plan, "r"))
    kept = run.manifest.stat()
    runs.keep_manifest(run, generate(plan, "r"))
    assert (run.manifest.stat().st_ino, run.manifest.stat().st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns)
    pd.testing.assert_frame_equal(run.load("manifest"), generate(plan, "r"))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"n_tasks": 21}, "has 20 tasks, and these parameters make 21"),
        ({"seed": 6}, "has 20 tasks, of which these parameters make [0-9]+ otherwise"),
        ({"mix": "PROCESS_DATA:1"}, "has 20 tasks, of which these parameters make [0-9]+ otherwise"),
        ({"priorities": "9:1"}, "has 20 tasks, of which these parameters make [0-9]+ otherwise"),
        ({"duration_median_s": 3.0}, "has 20 tasks, of which these parameters make 20 otherwise"),
        ({"arrival_rate_per_s": 3.0}, "has 20 tasks, of which these parameters make 20 otherwise"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_other_parameters_do_not(other: dict[str, Any], said: str, tmp_path: Path) -> None:
    """A run whose tasks these parameters do not make is refused, with what to do, and its manifest stays."""
    run = runs.create("r", tmp_path)
    plan: dict[str, Any] = {"n_tasks": 20, "seed": 5}
    runs.keep_manifest(run, generate(Workload(**plan), "r"))
    with pytest.raises(RunExists, match=rf"^Run 'r' {said}\.\n  -> To go on with it, give n_tasks, seed, mix"):
        runs.keep_manifest(run, generate(Workload(**plan | other), "r"))
    pd.testing.assert_frame_equal(run.load("manifest"), generate(Workload(**plan), "r"))


def test_a_manifest_that_was_not_written_whole_is_none(tmp_path: Path) -> None:
    """Where a kill left half a manifest, nothing was submitted yet, and any parameters may be given."""
    run = runs.create("r", tmp_path)
    (run.folder / "manifest.partial").write_bytes(b"PAR1")
    tasks = generate(Workload(n_tasks=3), "r")
    runs.keep_manifest(run, tasks)
    pd.testing.assert_frame_equal(run.load("manifest"), tasks)
    assert {path.name for path in run.folder.iterdir()} == {"results.json", "manifest.parquet"}


@pytest.mark.parametrize("state", ["running", "interrupted", "failed"])
def test_a_report_that_was_not_ended_goes_on(state: str, tmp_path: Path) -> None:
    """A run that was killed, interrupted or that failed is opened again, with all that it holds."""
    with runs.open_for_report("r", tmp_path) as begun:
        assert begun.results()["state"] == "running"
        begun.record(state=state, kept=1)
    with runs.open_for_report("r", tmp_path) as again:
        assert again == begun
        assert (again.results()["state"], again.results()["kept"]) == (state, 1)
    assert [path.name for path in begun.folder.iterdir()] == ["results.json"]


def test_a_report_that_is_complete_is_never_overwritten(tmp_path: Path) -> None:
    """A complete run, a run that no report began, and a folder that is no run are refused and stay as they are."""
    runs.create("complete", tmp_path, state="complete")
    runs.create("submitted", tmp_path)
    (tmp_path / "mine").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name in ("complete", "submitted", "mine"):
        with (
            pytest.raises(RunExists, match=rf"^Run '{name}' (is complete|exists) already,? in .*\n.*another --run-id"),
            runs.open_for_report(name, tmp_path),
        ):
            pytest.fail("it was opened")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_report_is_in_one_hand(tmp_path: Path) -> None:
    """While a run is executed it is not opened a second time, though its manifest may be kept within it."""
    with runs.open_for_report("r", tmp_path) as run:
        with (
            pytest.raises(RunExists, match=r"^Run 'r' is in the hands of another process"),
            runs.open_for_report("r", tmp_path),
        ):
            pytest.fail("it was opened twice")
        runs.keep_manifest(run, generate(Workload(n_tasks=3), "r"))
    with runs.open_for_report("r", tmp_path) as again:
        assert again == run


def test_a_report_goes_on_with_its_own_parameters(tmp_path: Path) -> None:
    """Values that make other tasks or name another stack are refused before anything runs; how long to wait is free."""
    chosen = chain.checked({"run_id": "r", "runs_dir": str(tmp_path), "n_tasks": "7", "stack_name": "one"})
    with chain.prepared(chosen) as run:
        run.record(parameters=chain.defaults(chain.notebooks()) | chosen, state="failed")
    for other in ({"n_tasks": 8}, {"stack_name": "two"}, {"seed": 9}):
        with (
            pytest.raises(RunExists, match=rf"^Run 'r' was begun with {next(iter(other))} "),
            chain.prepared(chosen | other),
        ):
            pytest.fail("it was opened")
    with chain.prepared(chosen | {"timeout_s": 5.0}) as again:
        assert again == run


def test_a_refused_report_is_told_the_command_that_goes_on(tmp_path: Path) -> None:
    """What goes on with a run is said as a whole command, which is taken as it stands."""
    first = {
        "run_id": "r",
        "runs_dir": f"{tmp_path}/my runs",
        "n_tasks": "7",
        "mix": "SEND_EMAIL:1",
        "delete_table": "true",
    }
    chosen = chain.checked(first)
    with chain.prepared(chosen) as run:
        run.record(parameters=chain.defaults(chain.notebooks()) | chosen, state="failed")
    with (
        pytest.raises(RunExists) as refused,
        chain.prepared(chain.checked({"run_id": "r", "runs_dir": first["runs_dir"]})),
    ):
        pytest.fail("it was opened")
    command = re.search(r"`(taskq report --run-id r .*)` goes on with it", refused.value.hint)
    assert command is not None
    _taskq, _report, _option, run_id, *pairs = shlex.split(command.group(1))
    given = dict(pair.split("=", 1) for pair in pairs[1::2]) | {"run_id": run_id}
    with chain.prepared(chain.checked(given)) as again:
        assert again == run


@pytest.mark.parametrize("value", [1, 0.5, True, None, "a", [1, "b"], {"deep": {"n": 1}}])
def test_what_json_has_stays(value: object) -> None:
    """Numbers, texts, truths, lists and objects are kept as they are."""
    assert runs.plain({"value": value}) == {"value": value}


@pytest.mark.parametrize(("value", "kept"), [(float("nan"), None), (Path("a"), "a"), ([Path("a"), 1], ["a", 1])])
def test_what_json_has_not_is_made_plain(value: object, kept: object) -> None:
    """NaN becomes none and anything else its text, however deep it lies."""
    assert runs.plain({"value": value, "deep": {"value": value}}) == {"value": kept, "deep": {"value": kept}}


@pytest.mark.parametrize(
    "text",
    ["[]", '[["run_id", "a"]]', '{"run_id": "../b"}', '{"run_id": "<b>"}', '{"run_id": 3}']
    + [f'{{"run_id": "a", "{name}": {value}}}' for name in ("latency", "redrives") for value in ("3", '"x"', "[3]")]
    + ['{"run_id": "a", "latency": {"end_to_end_s": 3}}', '{"run_id": "a", "versions": []}'],
)
def test_results_that_no_run_writes_are_damaged(text: str, tmp_path: Path) -> None:
    """JSON of another shape, or with a run id that leads elsewhere, is one sentence that names the file."""
    (tmp_path / "results.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunDamaged, match=r"^results\.json of run .* is damaged: it[^\n]*\n  -> "):
        runs.at(str(tmp_path))


def test_a_run_without_a_name_is_refused() -> None:
    """An empty name is not taken for the folder one is in."""
    with pytest.raises(BadInput, match="is empty"):
        runs.at("")
