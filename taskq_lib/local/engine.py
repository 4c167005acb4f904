"""Start, find and stop the embedded engine: MiniStack as a child process on a loopback port, one per state folder."""

import http.client
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil

from taskq_lib.errors import BadInput, EngineFailed, EngineNotInstalled, EngineNotRunning
from taskq_lib.local.state import MARK, RECORD, Engine, alive, locked, member, members, read, state_dir, write

__all__ = ["Engine", "find", "running", "start", "state_dir", "status", "stop"]

START_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 5.0
#: From SIGTERM to SIGKILL, and once more from there; the engine itself gives open connections 3 s.
STOP_TIMEOUT_S = 5.0

_LOOPBACK = "127.0.0.1"
_TEMPORARY = "tmp"
_POLL_S = 0.05

#: What the engine and its workers must not inherit: real credentials, and settings meant for another emulator.
_FOREIGN = ("AWS_", "LAMBDA_", "LOCALSTACK_", "MINISTACK_", "PERSIST_STATE", "S3_PERSIST", "SERVICES", "USE_SSL")


def start(port: int | None = None) -> Engine:
    """Start the engine on loopback `port` (default: any free one), or return the one that already runs.

    Raises EngineNotInstalled; BadInput for a port that is taken, not allowed or not the running engine's, and for a
    state folder that cannot be written; EngineFailed if it ends or does not answer in time (then only its log is left).
    """
    return _start(port)[0]


def find() -> Engine:
    """Return the running engine of this state folder, whichever process started it.

    Raises EngineNotRunning if there is none or it has died; in the latter case its record is cleared.
    """
    folder = state_dir()
    engine = read(folder)
    if engine is None:
        raise EngineNotRunning(f"The embedded engine is not running: none is recorded in {folder}.")
    if member(engine.pid, folder):
        return engine
    with locked(folder):
        # Another process may have started a new one since.
        if read(folder) == engine:
            (folder / RECORD).unlink()
    raise EngineNotRunning(
        f"The embedded engine has died: process {engine.pid}, started at {engine.started_at:%Y-%m-%d %H:%M:%S} UTC; "
        f"its log is {engine.log}."
    )


def status() -> dict[str, str | int]:
    """Say what is there, changing nothing.

    Keys: `state` (`running` | `stopped` | `dead`), `rss_bytes` (resident memory of the engine and its function
    workers) and, unless stopped, `pid`, `port`, `endpoint_url`, `started_at` (ISO 8601, UTC) and `log`.
    """
    folder = state_dir()
    engine, processes, rss_bytes = read(folder), members(folder), 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            rss_bytes += process.memory_info().rss
    if engine is None:
        return {"state": "stopped", "rss_bytes": rss_bytes}
    state = "running" if engine.pid in {process.pid for process in processes} else "dead"
    return engine.as_json() | {"state": state, "rss_bytes": rss_bytes}


def stop() -> bool:
    """End the engine and its function workers, remove its temporary files and record; False if nothing was running.

    Raises EngineFailed if a process outlives SIGKILL by `STOP_TIMEOUT_S`.
    """
    folder = state_dir()
    if not folder.is_dir():
        return False
    with locked(folder):
        return _end(folder)


@contextmanager
def running(port: int | None = None) -> Iterator[Engine]:
    """Yield the engine; at exit, Ctrl-C included, stop it if it was started here and leave it if it was up before."""
    engine, started = _start(port)
    try:
        yield engine
    finally:
        if started:
            stop()


def _start(port: int | None) -> tuple[Engine, bool]:
    """Return the engine, and whether it was started by this call."""
    if importlib.util.find_spec("ministack") is None:
        raise EngineNotInstalled("The embedded engine is not installed: there is no package `ministack`.")
    folder = state_dir()
    with locked(folder):
        engine = read(folder)
        if engine is None or not member(engine.pid, folder):
            # A dead engine may have left workers in the middle of a task.
            _end(folder)
            return _launch(folder, _free_port(port)), True
    if port not in {None, engine.port}:
        raise BadInput(
            f"The embedded engine already runs on port {engine.port}, so it cannot be started on port {port}.",
            "Leave the port out to use the running engine, or end it first with `taskq local stop`.",
        )
    if not _answers(engine.port):
        raise EngineFailed(
            f"The embedded engine, process {engine.pid}, runs but does not answer; its log is {engine.log}.",
            "End it with `taskq local stop`, then start it again.",
        )
    return engine, False


def _launch(folder: Path, port: int) -> Engine:
    log, temporary = folder / "engine.log", folder / _TEMPORARY
    try:
        temporary.mkdir(mode=0o700)
        with log.open("wb") as sink:
            # A session of its own: Ctrl-C in a terminal reaches us alone, and we stop the engine.
            child = subprocess.Popen(
                [sys.executable, "-m", "taskq_lib.local.serve"],
                cwd=temporary,
                env=_environment(folder, port),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # Whoever ends the engine, this collects it, so that it never stays as a zombie.
        threading.Thread(target=child.wait, daemon=True).start()
        _wait_until_healthy(child, port, log)
        url = f"http://{_LOOPBACK}:{port}"
        engine = Engine(pid=child.pid, port=port, endpoint_url=url, started_at=datetime.now(UTC), log=log)
        write(folder, engine)
    except BaseException:
        _end(folder)
        raise
    return engine


def _environment(folder: Path, port: int) -> dict[str, str]:
    """The environment of the engine, which its function workers inherit."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)} | {
        MARK: str(folder),
        "TMPDIR": str(folder / _TEMPORARY),
        "LOG_LEVEL": "WARNING",
        "GATEWAY_PORT": str(port),
        "BIND_HOST": _LOOPBACK,
        # These two listen on every address, whatever BIND_HOST says.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        # A proxy to the outside cannot reach a loopback port.
        "no_proxy": f"{_LOOPBACK},localhost",
        # The engine removes containers that it takes for its own; it shall see none.
        "DOCKER_HOST": f"unix://{folder / _TEMPORARY}/no-docker",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def _free_port(port: int | None) -> int:
    if port is not None and not 1 <= port <= 65535:
        raise BadInput(f"Port {port} is not allowed: a port is 1 to 65535.")
    with socket.socket() as probe:
        # As the engine does it: connections that are still closing do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port or 0))
        except OSError as error:
            hint = "Choose another port, or leave it out to get a free one."
            raise BadInput(f"The embedded engine cannot listen on port {port}: {error.strerror}.", hint) from error
        return int(probe.getsockname()[1])


def _wait_until_healthy(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and child.poll() is None:
        if _answers(port):
            return
        time.sleep(_POLL_S)
    code = child.poll()
    reason = f"did not answer within {START_TIMEOUT_S:g} s" if code is None else f"ended with exit code {code}"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise EngineFailed(f"The embedded engine {reason}. The last lines of its log {log}:\n{tail}")


def _answers(port: int) -> bool:
    # Not urllib: it would go by way of a proxy where one is set.
    connection = http.client.HTTPConnection(_LOOPBACK, port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", "/_ministack/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(folder: Path) -> bool:
    """End all that carries the mark of `folder` and remove what it left; return whether there was anything to end."""
    # In a thread of its own: Ctrl-C interrupts the main thread alone, so a second one does not cut this short.
    with ThreadPoolExecutor(max_workers=1) as undisturbed:
        return undisturbed.submit(_end_undisturbed, folder).result()


def _end_undisturbed(folder: Path) -> bool:
    found = left = members(folder)
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_TIMEOUT_S
        told: set[psutil.Process] = set()
        while left and time.monotonic() < deadline:
            for process in left - told:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            told |= left
            time.sleep(_POLL_S)
            # Looked for again, because the engine may start a worker while it ends.
            left = members(folder) | {process for process in left if alive(process)}
    if left:
        raise EngineFailed(f"The embedded engine's processes {sorted(p.pid for p in left)} cannot be ended.")
    shutil.rmtree(folder / _TEMPORARY, ignore_errors=True)
    (folder / RECORD).unlink(missing_ok=True)
    return bool(found)
