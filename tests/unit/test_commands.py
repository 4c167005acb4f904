"""A command that cannot run says in one sentence why, and what to do; it ends with 2 and leaves nothing behind."""

import argparse
import errno
import importlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from taskq_lib import PROJECT_ROOT
from taskq_lib.commands import check_task_status, options
from taskq_lib.commands.main import COMMANDS, main
from taskq_lib.errors import BadInput, LedgerOpen, NotebookFailed, StackNotFound
from taskq_lib.local import engine
from taskq_worker.contract import MAX_BODY_BYTES

SEND = ["submit", "--type", "SEND_EMAIL", "--data", '{"to": "a@example.com"}']
#: Every command that needs a target, with input that is right.
NEED_A_TARGET = {
    "report": ["report", "-p", "n_tasks", "5"],
    "run": ["run", "51_redrive"],
    "submit": SEND,
    "status": ["status", "a"],
    "deploy": ["deploy"],
    "watch": ["watch"],
    "teardown": ["teardown"],
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which all that a command may write would lie; nothing of the person's who runs this is touched."""

    def never(*_: object) -> None:
        raise AssertionError("an engine was started")

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("TASKQ_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(engine, "_launch", never)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must be refused; returns its one sentence and its hint, each on a line."""

    def written() -> list[Path]:
        # The lock of the engine's folder is there whenever a start was tried.
        found = [*folder.rglob("*"), *(PROJECT_ROOT / "runs").glob("*")]
        return sorted(path for path in found if path.name not in {"state", "engine.lock"})

    def run(*argv: str) -> str:
        before = written()
        code = main([*argv, *(["-p", "runs_dir", str(folder / "runs")] if argv[0] in {"report", "run"} else [])])
        out, err = capsys.readouterr()
        assert (code, out) == (2, "")
        sentence, hint = err.splitlines()
        assert sentence.startswith("error: ")
        assert hint.startswith("  -> ")
        assert len(hint) > len("  -> ")
        assert len(err) < 1_500
        assert written() == before
        return err

    return run


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account that exists in this process alone."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    with mock_aws():
        yield


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's extra is not installed."""
    find_spec = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "ministack" else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)


def status_does(monkeypatch: pytest.MonkeyPatch, work: Callable[[], int]) -> int:
    """Let `taskq status` do `work`; returns its exit code."""

    def run(_: argparse.Namespace) -> int:
        return work()

    monkeypatch.setattr(check_task_status, "run", run)
    return main(["status", "a"])


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "sentence", "hint"),
    [
        (["repot"], "There is no command 'repot'; there are report, run,", "Did you mean `taskq report`?"),
        (["zzz"], "There is no command 'zzz'", "`taskq --help` says what each does."),
        (["report", "-p", "n_task", "5"], "No notebook declares a parameter 'n_task'", "Did you mean 'n_tasks'?"),
        (["report", "-p", "zzz=5"], "No notebook declares a parameter 'zzz'", "There are allow_replacement,"),
        (["report", "-p", "n_tasks", "0"], "Parameter n_tasks is 0; allowed is a whole number from 1 to", ""),
        (["report", "-p", "n_tasks", "-5"], "Parameter n_tasks is -5; allowed is", ""),
        (["report", "-p", "n_tasks=-5"], "Parameter n_tasks is -5; allowed is", ""),
        (["report", "-p", "n_tasks", "ten"], "Parameter n_tasks is 'ten'; allowed is", ""),
        (["report", "-p", "n_tasks", ""], "Parameter n_tasks is ''; allowed is", ""),
        (["report", "-p", "mix", "FLY:1"], "mix has a part that is not allowed: 'FLY:1'", "with names from IMAGE_RES"),
        (
            ["report", "-p", "stack_parameters", "BatchSise:5"],
            "'BatchSise' does not exist",
            "Did you mean 'BatchSize'?",
        ),
        (["report", "-p", "BatchSize", "5"], "No notebook declares", "-p stack_parameters BatchSize:5 (several: "),
        (["report", "-p", "n_tasks", "5", "-p", "n_tasks=5"], "Parameter 'n_tasks' is given twice", ""),
        (["report", "--run-id", "a", "-p", "run_id", "b"], "run_id is given twice, as 'a' and as 'b'", ""),
        (["report", "-p", "n_tasks"], "-p n_tasks is not a parameter", "Write -p NAME VALUE or -p NAME=VALUE"),
        (["report", "-p", "n_tasks", "1", "2"], "-p n_tasks 1 2 is not a parameter", "Write -p NAME VALUE"),
        (["report", "--stack-name", "a b"], "Stack name 'a b' is not allowed", ""),
        (["report", "-p", "transient_share=0.6", "-p", "permanent_share=0.6"], "crash_share is 1.2", ""),
        (["report", "--target", "azure"], "Parameter target is 'azure'; allowed is local or aws", ""),
        (["run", "51_redriv"], "There is no notebook '51_redriv'; nothing was run", "Did you mean '51_redrive'?"),
        (["run", "zzz"], "There is no notebook 'zzz'; nothing was run", "There are 01_start, 10_deploy, 11_doctor,"),
        (["run", "52_pause_resume", "-p", "canary_n", "5"], "No notebook declares a parameter 'canary_n'", ""),
        (["run", "51_redrive", "-p", "canary_n", "-1"], "Parameter canary_n is -1; allowed is", ""),
        (
            ["run", "51_redrive", "-p", "select_all", "true", "-p", "select_ids", "a"],
            "select_all takes every dead letter, and select_ids only some",
            "",
        ),
        (["run", "51_redrive", "-p", "edit", "[]"], "edit must be a JSON object", ""),
        (["run", "51_redrive", "--run-id", "a", "-p", "run_id", "b"], "run_id is given twice, as 'a' and as 'b'", ""),
        (["run", "40_latency", "--run-id", "nowhere"], "No run 'nowhere' in", ""),
        (["deploy", "--target", "azure"], "Target 'azure' is not known; allowed are local, aws", ""),
        (["deploy", "-p", "BatchSize"], "-p BatchSize is not a parameter", "Write -p NAME VALUE or -p NAME=VALUE"),
        (["status", "a", "a/b"], "Task id 'a/b' is not allowed: 1 to 128 letters, digits or any of", ""),
        (["status", "a" * 5_000], "Task id 'aaa", ""),
        (["local", "start", "--port", "70000"], "Port 70000 is not allowed: a port is 1 to 65535", ""),
        (["local", "start", "--port", "0"], "Port 0 is not allowed", ""),
    ],
)
def test_bad_input_is_named(argv: list[str], sentence: str, hint: str, refused: Callable[..., str]) -> None:
    """What is wrong is named with what is allowed, and the hint with what was probably meant."""
    first, second = refused(*argv).splitlines()
    assert sentence in first
    assert hint in second


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            ["--type", "FLY", "--data", "{}"],
            "unknown task type 'FLY'; known are IMAGE_RESIZE, PROCESS_DATA, SEND_EMAIL",
        ),
        (["--type", "SEND_EMAIL", "--data", "{}"], "data.to is missing; SEND_EMAIL takes to, simulate"),
        (["--type", "SEND_EMAIL", "--data", '{"to": 5}'], "data.to must be a string that is not empty"),
        (["--type", "SEND_EMAIL", "--data", '{"to": "a", "cc": "b"}'], "data has an unknown field 'cc'"),
        (["--type", "SEND_EMAIL", "--data", "[]"], "data must be a JSON object"),
        (["--type", "SEND_EMAIL", "--data", "{to: a}"], "--data is not JSON: "),
        (["--type", "SEND_EMAIL", "--data", ""], "--data is not JSON: "),
        (["--type", "SEND_EMAIL", "--data", "[" * 100_000], "--data is not JSON: "),
        (["--type", "SEND_EMAIL", "--data", json.dumps({"to": "x" * MAX_BODY_BYTES})], "at most 1,048,576 (1 MiB)"),
        ([*SEND[1:], "--priority", "10"], "priority must be a whole number from 0 to 9"),
        ([*SEND[1:], "--priority", "-1"], "priority must be a whole number from 0 to 9"),
        ([*SEND[1:], "--task-id", "a b"], "task_id must be 1 to 128 letters"),
        ([*SEND[1:], "--run-id", "../r"], "run_id must be 1 to 128 letters"),
        ([*SEND[1:], "--group", "a b"], "Message group 'a b' is not allowed: 1 to 128 ASCII letters"),
        ([*SEND[1:], "--group", ""], "Message group '' is not allowed"),
    ],
)
def test_a_task_that_breaks_the_contract_is_not_sent(
    given: list[str], sentence: str, refused: Callable[..., str]
) -> None:
    """A task that the function would refuse is refused here, before any target is asked."""
    assert sentence in refused("submit", *given).splitlines()[0]


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["report", "--bogus"], "--bogus"),
        (["submit"], "--type, --data"),
        ([*SEND, "--priority", "high"], "'high'"),
        (["status"], "ID"),
        (["local"], "action"),
        (["local", "restart"], "'restart'"),
        (["local", "start", "--port", "x"], "'x'"),
    ],
)
def test_an_option_that_is_none_is_named(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option that does not exist, is missing or has no value is named with how the command is used."""
    with pytest.raises(SystemExit) as ended:
        main(argv)
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert named in err
    assert err.startswith(f"usage: taskq {argv[0]}")


@pytest.mark.parametrize(
    ("given", "pairs"),
    [
        ([["n_tasks", "5"]], {"n_tasks": "5"}),
        ([["n_tasks=5"]], {"n_tasks": "5"}),
        ([["n_tasks", "5"], ["mix=SEND_EMAIL=1"]], {"n_tasks": "5", "mix": "SEND_EMAIL=1"}),
        ([["mix", "SEND_EMAIL=1,IMAGE_RESIZE=2"]], {"mix": "SEND_EMAIL=1,IMAGE_RESIZE=2"}),
        ([["region="]], {"region": ""}),
        ([["region", ""]], {"region": ""}),
        ([["timeout_s", "-5"]], {"timeout_s": "-5"}),
        ([], {}),
    ],
)
def test_a_parameter_may_be_written_in_two_ways(given: list[list[str]], pairs: dict[str, str]) -> None:
    """`-p NAME VALUE` and `-p NAME=VALUE` are the same, whatever the value holds."""
    parser = argparse.ArgumentParser()
    options.pairs(parser, "a parameter")
    argv = [word for words in given for word in ["-p", *words]]
    assert options.read_pairs(parser.parse_args(argv).parameter) == options.read_pairs(given) == pairs


@pytest.mark.parametrize("given", [["a"], ["a", "b", "c"], ["a=b", "c"], [""]])
def test_what_is_no_pair_is_refused(given: list[str]) -> None:
    """A name alone, or more than a name and a value, is refused with both ways to write it."""
    with pytest.raises(BadInput, match=r"is not a parameter\.\n  -> Write -p NAME VALUE or -p NAME=VALUE\."):
        options.read_pairs([given])


# --- where AWS is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["submit", "status", "deploy", "teardown"])
def test_without_the_engine_the_hint_starts_it(name: str, refused: Callable[..., str]) -> None:
    """A command on the local target says that the engine is not running, and how to start it."""
    first, second = refused(*NEED_A_TARGET[name]).splitlines()
    assert "The embedded engine is not running" in first
    assert "`taskq local start`" in second


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize("argv", [NEED_A_TARGET["report"], ["local", "start"], ["lab"]], ids=lambda argv: argv[0])
def test_an_engine_that_is_not_installed_is_named(argv: list[str], refused: Callable[..., str]) -> None:
    """Where the extra is not installed, the hint says how to install it or to do without."""
    first, second = refused(*argv).splitlines()
    assert "The embedded engine is not installed" in first
    assert "[local]" in second
    assert "--target aws" in second


@pytest.mark.parametrize("name", NEED_A_TARGET)
def test_without_credentials_nothing_is_done(
    name: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On AWS without credentials every command says so, and which variables give some."""
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    first, second = refused(*NEED_A_TARGET[name], "--target", "aws").splitlines()
    assert "No AWS credentials were found" in first
    assert "AWS_PROFILE" in second
    assert "--target local" in second


@pytest.mark.parametrize("name", NEED_A_TARGET)
def test_without_a_region_nothing_is_done(name: str, refused: Callable[..., str]) -> None:
    """On AWS without a region every command says so, and how to give one."""
    first, second = refused(*NEED_A_TARGET[name], "--target", "aws").splitlines()
    assert "No region is set" in first
    assert "--region" in second
    assert "AWS_REGION" in second


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("name", NEED_A_TARGET)
def test_a_misspelt_region_suggests_the_near_one(name: str, refused: Callable[..., str]) -> None:
    """A region that does not exist is refused with the one that was probably meant."""
    first, second = refused(*NEED_A_TARGET[name], "--target", "aws", "--region", "eu-cental-1").splitlines()
    assert "Region 'eu-cental-1' is not known" in first
    assert "eu-central-1" in second


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("name", ["submit", "status", "teardown"])
def test_without_a_stack_the_hint_deploys_it(name: str, refused: Callable[..., str]) -> None:
    """Where the stack is not deployed, its name, region and target are said, and how to deploy it."""
    first, second = refused(*NEED_A_TARGET[name], "--target", "aws", "--stack-name", "mine").splitlines()
    assert "No stack 'mine' in eu-central-1 (aws)" in first
    assert "`taskq deploy`" in second


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ("BatchSise=5", "Template parameter 'BatchSise' does not exist"),
        ("BatchSize=0", "BatchSize is '0'; allowed is a whole number from 1 to 10000"),
        ("BatchSize=11", "A BatchSize over 10 needs BatchWindowSeconds of at least 1"),
        ("FunctionTimeoutSeconds=301", "FunctionTimeoutSeconds (301) exceeds VisibilityTimeoutSeconds (300)"),
    ],
)
def test_a_template_parameter_that_cannot_work_is_refused(
    pair: str, sentence: str, refused: Callable[..., str]
) -> None:
    """A deploy with an unknown, impossible or contradictory parameter is refused before anything is sent."""
    assert sentence in refused("deploy", "--target", "aws", "-p", pair).splitlines()[0]


# --- the disk and the port ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("account")
def test_a_run_id_is_used_once(folder: Path, refused: Callable[..., str]) -> None:
    """A report under the id of an earlier run is refused, and that run stays as it is."""
    (folder / "runs" / "r").mkdir(parents=True)
    first, second = refused("report", "--target", "aws", "--run-id", "r").splitlines()
    assert "Run 'r' exists already" in first
    assert "Choose another --run-id" in second


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("run_id", ["../r", "a b", "a" * 101])
def test_a_bad_run_id_makes_no_folder(run_id: str, refused: Callable[..., str]) -> None:
    """An id that is no folder's name is refused."""
    assert "is not allowed: at most 100 letters" in refused("report", "--target", "aws", "--run-id", run_id)


@pytest.mark.usefixtures("account")
def test_a_folder_for_runs_that_cannot_be_written_is_named(folder: Path, refused: Callable[..., str]) -> None:
    """A report whose folder cannot be made is refused with the folder's name and how to choose another."""
    (folder / "runs").touch()
    first, second = refused("report", "--target", "aws").splitlines()
    assert f"The folder for runs, {folder / 'runs'}, cannot be written" in first
    assert "-p runs_dir FOLDER" in second


def test_a_port_that_is_taken_is_named(refused: Callable[..., str]) -> None:
    """The engine does not start on a port that somebody listens on; the hint says to leave the port out."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        first, second = refused("local", "start", "--port", str(port)).splitlines()
    assert f"The embedded engine cannot listen on port {port}: " in first
    assert "leave it out" in second
    assert engine.status()["state"] == "stopped"


def test_a_state_folder_that_cannot_be_written_is_named(folder: Path, refused: Callable[..., str]) -> None:
    """The engine's folder is named where it cannot be made, with the variable that chooses another."""
    (folder / "state").touch()
    first, second = refused("local", "start").splitlines()
    assert f"The state folder {folder / 'state'} cannot be written" in first
    assert "TASKQ_STATE_DIR" in second


# --- how commands end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command, or asked for help, all commands are listed with what they do."""
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(f"  {name:<10} {text}\n" in out for name, (_, text) in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command explains its options and ends well."""
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: taskq {name}" in capsys.readouterr().out


def test_local_says_that_nothing_runs(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    """Without an engine `status` says so with exit code 1, as JSON too; a stop is a success; no file is made."""
    assert main(["local", "status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"state": "stopped", "rss_bytes": 0}
    assert main(["local", "stop"]) == 0
    assert "engine: state stopped" in capsys.readouterr().out
    assert list(folder.iterdir()) == []


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends a command in a word, without a traceback, with the exit code that shells expect."""

    def work() -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return 0

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert status_does(monkeypatch, work) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    assert capsys.readouterr() == ("", "interrupted\n")


def test_ctrl_c_while_a_command_is_loaded(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C in the first seconds, while libraries are imported, ends the command in the same word."""

    def interrupted(_: str) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    try:
        code = main(["status", "a"])
    except KeyboardInterrupt:
        # It would end the tests, too.
        pytest.fail("Ctrl-C came through with its traceback")
    assert code == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What was interrupted may have noted how to go on; that is the second line."""

    def work() -> int:
        error = KeyboardInterrupt()
        error.add_note("The same command goes on.")
        raise error

    assert status_does(monkeypatch, work) == 130
    assert capsys.readouterr() == ("", "interrupted\n  -> The same command goes on.\n")


def test_sigterm_unwinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request to end unwinds the command, so that what it holds open is closed, and ends it with 143."""
    unwound: list[str] = []

    def work() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            unwound.append("closed")
        return 0

    with pytest.raises(SystemExit) as ended:
        status_does(monkeypatch, work)
    assert ended.value.code == 143
    assert unwound == ["closed"]


@pytest.mark.parametrize(
    ("error", "code", "sentence", "hint"),
    [
        (BadInput("It is wrong.", "Do this."), 2, "It is wrong.", "Do this."),
        (StackNotFound("No stack 'a'."), 2, "No stack 'a'.", "taskq deploy"),
        (LedgerOpen("The ledger is open."), 1, "The ledger is open.", "50_failures"),
        (NotebookFailed("30_status, cell 3: x"), 1, "30_status, cell 3: x", "the traceback"),
        (NotebookFailed("51_redrive, cell 3: x", "Do this.", 2), 2, "51_redrive, cell 3: x", "Do this."),
        (OSError(errno.ENOSPC, "No space left on device", "results.json"), 2, "'results.json'", "Free space"),
        (EndpointConnectionError(endpoint_url="http://nowhere"), 2, "AWS does not answer", "AWS_ENDPOINT_URL"),
        (ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "Send"), 2, "AWS denies it", "permission"),
        (ClientError({"Error": {"Code": "ExpiredToken"}}, "Send"), 2, "AWS refuses the credentials", "AWS_PROFILE"),
        (
            ClientError({"Error": {"Code": "Odd", "Message": "odd"}}, "Send"),
            2,
            "AWS answered with an error",
            "it names",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_failure_is_one_sentence_and_a_hint(
    error: Exception,
    code: int,
    sentence: str,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A failure that a person can mend is explained; 1 says that a check did not hold, 2 that it could not run."""

    def work() -> int:
        raise error

    assert status_does(monkeypatch, work) == code
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert out == ""
    assert sentence in first
    assert hint in second


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody can mend but in the code is raised as it is."""

    def work() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        status_does(monkeypatch, work)


@pytest.mark.parametrize(
    ("module", "argv", "sentence"),
    [
        ("submit_task", ["--type", "FLY", "--data", "{}"], "unknown task type 'FLY'"),
        ("check_task_status", ["a/b"], "Task id 'a/b' is not allowed"),
    ],
)
def test_two_commands_run_as_files(module: str, argv: list[str], sentence: str, folder: Path) -> None:
    """The two documented scripts run by their file as well, from anywhere."""
    path = PROJECT_ROOT / "taskq_lib" / "commands" / f"{module}.py"
    command: list[Any] = [sys.executable, path, *argv]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_report_begins_without_compiling_grammars() -> None:
    """What reads notebooks is imported without the grammars of a format that none has, 1.5 s of CPU."""
    code = "import sys, taskq_lib.commands.report; print('nbformat' in sys.modules, 'lark' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
