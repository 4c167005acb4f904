"""What tests of whole runs share: `taskq` as a program of its own, and one engine with the stack deployed on it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

Begin = Callable[..., "subprocess.Popen[str]"]
Finish = Callable[["subprocess.Popen[str]"], "subprocess.CompletedProcess[str]"]
Left = Callable[[Path], list[psutil.Process]]
#: Longer than any command here takes on a busy machine.
TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Up:
    """An engine that is up, with the stack `taskq` on it, whose retries come at once."""

    state: Path  #: Its TASKQ_STATE_DIR
    url: str


@pytest.fixture(scope="session")
def begin(tmp_path_factory: pytest.TempPathFactory) -> Begin:
    """Begin `taskq` with a state folder and more variables, in a group of its own and outside of the project."""
    outside = tmp_path_factory.mktemp("outside")

    def run(state: Path, *argv: str, **variables: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "taskq_lib.commands.main", *argv],
            cwd=outside,
            env=os.environ | {"TASKQ_STATE_DIR": str(state)} | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return run


@pytest.fixture(scope="session")
def finish() -> Finish:
    """Wait for a command; one that does not end by itself is told to, and has the exit code of that."""

    def wait(process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            out, err = process.communicate(timeout=TIMEOUT_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return wait


@pytest.fixture(scope="session")
def up(begin: Begin, finish: Finish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Start an engine by the command line, and stop it at the end."""
    state = tmp_path_factory.mktemp("up") / "state"
    started = finish(begin(state, "local", "start", "--json"))
    assert started.returncode == 0, started.stderr
    try:
        deployed = finish(begin(state, "deploy", "-p", "RetryBaseSeconds", "0"))
        assert deployed.returncode == 0, deployed.stderr
        yield Up(state=state, url=json.loads(started.stdout)["endpoint_url"])
    finally:
        assert finish(begin(state, "local", "stop")).returncode == 0


@pytest.fixture(scope="session")
def left() -> Left:
    """Return the processes that commands with this state folder left: engine, workers, kernels; none is what is hoped.

    What is just ending gets a moment for it.
    """

    def look(state: Path) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("TASKQ_STATE_DIR") == str(state):
                    found.append(process)
        return found

    def wait(state: Path) -> list[psutil.Process]:
        deadline = time.monotonic() + 5
        while (found := look(state)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    return wait
