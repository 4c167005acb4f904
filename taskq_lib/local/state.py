"""What outlives one process of ours: the engine's record, the lock around it, and which processes are the engine's.

The *record*, `engine.json` in the state folder, tells later processes where the engine is. The *mark*, a variable in
the engine's environment that every function worker inherits, tells which processes are its own. Nothing is ever ended
for its process id alone: so a reused id is safe, and the workers of an engine that was killed are still found.
"""

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil

from taskq_lib import PROJECT_ROOT
from taskq_lib.errors import BadInput

#: The mark; its value is the state folder.
MARK = "TASKQ_ENGINE_OF"
RECORD = "engine.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine:
    """A running engine, as it is recorded."""

    pid: int  #: The engine's process; its function workers are processes of their own.
    port: int  #: On 127.0.0.1, and on no other address.
    endpoint_url: str  #: What `AWS_ENDPOINT_URL` must be to reach it.
    started_at: datetime  #: When it first answered, UTC.
    log: Path  #: What the engine wrote; kept when it ends, overwritten by the next start.

    def as_json(self) -> dict[str, str | int]:
        """The same fields in JSON's types: `started_at` as ISO 8601, `log` as a string."""
        return dataclasses.asdict(self) | {"started_at": self.started_at.isoformat(), "log": str(self.log)}


def state_dir() -> Path:
    """Where record, lock, log and temporary files live: `TASKQ_STATE_DIR`, or `.taskq` in the checkout. Not created."""
    return Path(os.environ.get("TASKQ_STATE_DIR") or PROJECT_ROOT / ".taskq").resolve()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create `folder` if need be and hold its lock, so that two starts at a time give one engine.

    Raises BadInput if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "engine.lock").open("w")
    except OSError as error:
        hint = "Set TASKQ_STATE_DIR to a folder you may write to."
        raise BadInput(f"The state folder {folder} cannot be written: {error.strerror}.", hint) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read(folder: Path) -> Engine | None:
    """Return the engine recorded in `folder`, alive or not; None if there is no record.

    Raises BadInput if the file is not a record.
    """
    path = folder / RECORD
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Engine(
            pid=int(fields["pid"]),
            port=int(fields["port"]),
            endpoint_url=str(fields["endpoint_url"]),
            started_at=datetime.fromisoformat(fields["started_at"]),
            log=Path(fields["log"]),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        hint = "Remove it with `taskq local stop`, then start the engine again."
        raise BadInput(f"{path} is not a record of the embedded engine ({error!r}).", hint) from error


def write(folder: Path, engine: Engine) -> None:
    """Record `engine` in `folder`, whole or not at all."""
    draft = folder / f"{RECORD}.new"
    draft.write_text(json.dumps(engine.as_json()), encoding="utf-8")
    draft.replace(folder / RECORD)


def members(folder: Path) -> set[psutil.Process]:
    """The engine of `folder` and its function workers, also those that a killed engine left behind."""
    return {process for pid in psutil.pids() if (process := member(pid, folder))}


def member(pid: int, folder: Path) -> psutil.Process | None:
    """The process `pid` if it carries the mark of `folder`, else None: it has ended, or its id was given to another."""
    try:
        process = psutil.Process(pid)
        return process if process.environ().get(MARK) == str(folder) else None
    except (psutil.Error, ValueError):
        # ValueError: psutil's answer to a negative id.
        return None


def alive(process: psutil.Process) -> bool:
    """Whether `process` still does something; one that has ended stays as a zombie until its parent collects it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
