"""Which runs a person may want to be rid of, and deleting them: nothing goes that was not asked for."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from taskq_lib.errors import RunExists
from taskq_lib.lock import alone
from taskq_lib.report.runs import Run, created_at, listed

_LOCKS = ("run.lock", "submit.lock", "redrive.lock")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The runs of a folder, by what is to become of them; the newest first."""

    old: list[Run]  #: To be deleted
    held: list[Run]  #: As old, but in the hands of a process


def choose(root: str | Path, *, keep: int | None = None, before: datetime | None = None) -> Choice:
    """Choose all runs but the newest `keep`, or those made `before` an instant; a run whose age is not known stays."""
    known = [(run, made) for run in listed(root) if (made := _made(run))]
    old = [
        run
        for place, (run, made) in enumerate(known)
        if (keep is not None and place >= keep) or (before is not None and made < before)
    ]
    held = [run for run in old if is_held(run)]
    return Choice(old=[run for run in old if run not in held], held=held)


def delete(chosen: Sequence[Run]) -> list[Run]:
    """Delete runs and all that is in their folders; returns those that a process has taken up meanwhile, which stay."""
    taken = []
    for run in chosen:
        try:
            with alone(run.folder / _LOCKS[0]):
                if is_held(run, _LOCKS[1:]):
                    taken.append(run)
                else:
                    shutil.rmtree(run.folder)
        except RunExists:
            taken.append(run)
    return taken


def size(run: Run) -> int:
    """Return the bytes of a run's files."""
    return sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())


def is_held(run: Run, locks: Sequence[str] = _LOCKS) -> bool:
    """Whether a process executes, submits or redrives a run at this moment; looks, and leaves no file."""
    for name in locks:
        path = run.folder / name
        if path.is_file():
            with path.open("rb") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
    return False


def _made(run: Run) -> datetime | None:
    try:
        made = datetime.fromisoformat(created_at(run))
    except ValueError:
        return None
    return made if made.tzinfo else None
