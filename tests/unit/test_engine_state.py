"""What the engine's record, lock and mark promise, held without the engine itself."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib import PROJECT_ROOT
from taskq_lib.errors import BadInput, EngineNotInstalled, EngineNotRunning
from taskq_lib.local import engine, state
from taskq_lib.local.engine import Engine

SLEEP = "import time; print(flush=True); time.sleep(60)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own, not created yet."""
    monkeypatch.setenv("TASKQ_STATE_DIR", str(tmp_path / "state"))
    return engine.state_dir()


@contextmanager
def process(code: str, mark: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a Python process that runs `code` until its first line of output, with the mark of the folder `mark`."""
    env = dict(os.environ) | ({state.MARK: str(mark)} if mark else {})
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            yield child
        finally:
            child.kill()


def record(folder: Path, pid: int) -> Engine:
    """Record an engine of process `pid` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    recorded = Engine(
        pid=pid,
        port=4566,
        endpoint_url="http://127.0.0.1:4566",
        started_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        log=folder / "engine.log",
    )
    state.write(folder, recorded)
    return recorded


def test_state_dir_is_in_the_checkout_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`TASKQ_STATE_DIR` names the folder, relative to where one stands; without it, `.taskq` of the checkout serves."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKQ_STATE_DIR", "here")
    assert engine.state_dir() == tmp_path.resolve() / "here"
    monkeypatch.delenv("TASKQ_STATE_DIR")
    assert engine.state_dir() == PROJECT_ROOT / ".taskq"


def test_nothing_recorded_means_not_running(folder: Path) -> None:
    """Without a record there is nothing to find, to stop or to measure, and asking creates no folder."""
    with pytest.raises(EngineNotRunning, match="not running"):
        engine.find()
    assert engine.stop() is False
    assert engine.status() == {"state": "stopped", "rss_bytes": 0}
    assert not folder.exists()


def test_a_marked_process_is_found(folder: Path) -> None:
    """A recorded process that carries the mark of the folder is the running engine, and has a size."""
    with process(SLEEP, mark=folder) as child:
        recorded = record(folder, child.pid)
        assert engine.find() == recorded
        status = engine.status()
    assert status.pop("rss_bytes") > 1_000_000  # type: ignore[operator]
    assert status == {
        "state": "running",
        "pid": child.pid,
        "port": 4566,
        "endpoint_url": "http://127.0.0.1:4566",
        "started_at": "2026-01-02T03:04:05+00:00",
        "log": str(folder / "engine.log"),
    }


def test_a_reused_process_id_is_neither_found_nor_ended(folder: Path) -> None:
    """A record whose process id now belongs to a stranger is a dead engine: reported, cleared, and nobody is harmed."""
    with process(SLEEP) as stranger:
        record(folder, stranger.pid)
        assert engine.status()["state"] == "dead"
        with pytest.raises(EngineNotRunning) as died:
            engine.find()
        assert "died" in str(died.value)
        assert "2026-01-02 03:04:05 UTC" in str(died.value)
        assert str(folder / "engine.log") in str(died.value)
        assert not (folder / "engine.json").exists()
        record(folder, stranger.pid)
        assert engine.stop() is False
        assert not (folder / "engine.json").exists()
        assert stranger.poll() is None


def test_stop_ends_all_that_is_marked_and_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of this folder end, even one that ignores SIGTERM and is in no record; another folder's go on."""
    monkeypatch.setattr(engine, "STOP_TIMEOUT_S", 0.3)
    folder.mkdir()
    (folder / "tmp").mkdir()
    with process(SLEEP, folder) as worker, process(DEAF, folder) as deaf, process(SLEEP, folder / "other") as other:
        assert engine.stop() is True
        assert worker.wait(5) < 0
        assert deaf.wait(5) < 0
        assert other.poll() is None
        assert engine.stop() is False
    assert not (folder / "tmp").exists()


@given(pid=st.integers(1), port=st.integers(1, 65535), started_at=st.datetimes(timezones=st.just(UTC)), name=st.text())
def test_a_record_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, pid: int, port: int, started_at: datetime, name: str
) -> None:
    """Reading a record gives back the very engine that was written."""
    folder = tmp_path_factory.mktemp("state")
    written = Engine(pid=pid, port=port, endpoint_url=name, started_at=started_at, log=Path(name))
    state.write(folder, written)
    assert state.read(folder) == written
    assert [path.name for path in folder.iterdir()] == ["engine.json"]


_JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=3)
_FIELDS = ("pid", "port", "endpoint_url", "started_at", "log")


@given(content=st.binary() | st.fixed_dictionaries({}, optional=dict.fromkeys(_FIELDS, _JSON)).map(json.dumps))
def test_a_broken_record_is_named_or_harmless(tmp_path_factory: pytest.TempPathFactory, content: bytes | str) -> None:
    """Whatever stands in the record, one is told that it is no record or that no engine runs; `stop` removes it."""
    folder = tmp_path_factory.mktemp("state")
    (folder / "engine.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKQ_STATE_DIR", str(folder))
        with pytest.raises((BadInput, EngineNotRunning)):
            engine.find()
        with suppress(BadInput):
            assert engine.status()["state"] in {"dead", "stopped"}
        assert engine.stop() is False
    assert not (folder / "engine.json").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting in a folder that cannot be made says which, why, and which variable to set."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("TASKQ_STATE_DIR", str(tmp_path / "file" / "state"))
    with pytest.raises(BadInput, match=r"file/state cannot be written: Not a directory.*\n.*TASKQ_STATE_DIR"):
        engine.start()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("port", [-1, 0, 65536, 10**30])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    """A number that is not a port is refused with what is allowed, and nothing is started."""
    with pytest.raises(BadInput, match=f"Port {port} is not allowed: a port is 1 to 65535"):
        engine.start(port)
    assert engine.status()["state"] == "stopped"


@pytest.mark.usefixtures("folder")
def test_a_port_that_is_taken_is_refused() -> None:
    """A port that somebody listens on is named, with what to do, and nothing is started."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(BadInput, match=rf"port {port}: Address already in use.*\n.*another port"):
            engine.start(port)
    assert engine.status()["state"] == "stopped"


def test_the_extra_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the engine's package one is told what to install, and nothing is written."""
    monkeypatch.setitem(sys.modules, "ministack", None)
    with pytest.raises(EngineNotInstalled, match=r"pip install"):
        engine.start()
    assert not folder.exists()


def test_importing_the_module_does_not_import_the_engine() -> None:
    """The engine is an extra, so its package is not imported with ours."""
    code = "import sys, taskq_lib.local.engine; sys.exit('ministack' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
