"""A run's folder: what was submitted, what became of it, the executed notebooks and the pages to share."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from taskq_lib import PROJECT_ROOT, workload
from taskq_lib.errors import BadInput, RunDamaged, RunExists, RunNotFound
from taskq_lib.lock import alone
from taskq_worker.contract import is_id

DEFAULT_ROOT = "runs"
_RESULTS = "results.json"
#: What `results.json` says of a report that can go on; "running" in a run that nobody holds is one that was killed.
_UNFINISHED = {"running", "interrupted", "failed"}
#: Sections of `results.json` that are read by name; of the last two kinds each member is an object as well.
_OBJECTS = ("parameters", "versions", "deployment", "ledger", "breakers", "throughput", "failure_rate", "compare",
            "notebooks_s", "resumed", "slowest", "clocks", "censored")  # fmt: skip
_OBJECTS_OF_OBJECTS, _LISTS_OF_OBJECTS = ("latency", "data"), ("signatures", "redrives", "objectives", "history")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run and its folder."""

    id: str
    folder: Path

    @property
    def manifest(self) -> Path:
        """What was submitted; on disk before anything is sent."""
        return self.folder / "manifest.parquet"

    def save(self, name: str, frame: pd.DataFrame) -> Path:
        """Write a frame as `<name>.parquet`, whole or not at all."""
        path = self.folder / f"{name}.parquet"
        partial = path.with_suffix(".partial")
        frame.to_parquet(partial, index=False)
        partial.replace(path)
        return path

    def load(self, name: str) -> pd.DataFrame:
        """Read `<name>.parquet`; raises `RunNotFound` where no notebook wrote it yet, `RunDamaged` where it is cut."""
        path = self.folder / f"{name}.parquet"
        if not path.is_file():
            raise RunNotFound(
                f"Run {self.id!r} has no {path.name} yet.",
                "notebooks/20_submit.ipynb writes the manifest, notebooks/30_status.ipynb the tasks and attempts.",
            )
        try:
            return pd.read_parquet(path)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self.damaged(path.name, error) from error

    def results(self) -> dict[str, Any]:
        """Read `results.json`; empty before the first record. Raises `RunDamaged` where no run writes it so."""
        path = self.folder / _RESULTS
        try:
            found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            _check(found)
        except (ValueError, TypeError) as error:
            raise self.damaged(path.name, error) from error
        return dict(found)

    def damaged(self, name: str, error: Exception) -> RunDamaged:
        """Say in one sentence that a file of the folder cannot be read, and why."""
        why = " ".join(str(error).split()).rstrip(".")
        return RunDamaged(f"{name} of run {self.id!r} is damaged: {why[:200]}.")

    def record(self, **sections: Any) -> None:
        """Add or replace sections of `results.json`, whole or not at all; a section that is None is removed."""
        held = {name: value for name, value in {**self.results(), **sections}.items() if value is not None}
        text = json.dumps({"run_id": self.id, **held}, indent=2, allow_nan=False)
        partial = self.folder / f"{_RESULTS}.partial"
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(self.folder / _RESULTS)


def root_folder(root: str | Path = DEFAULT_ROOT) -> Path:
    """Return the folder of all runs; a relative one lies in the project, wherever the command or kernel runs."""
    if not str(root):
        raise BadInput("runs_dir is empty; it names the folder of the runs.")
    return PROJECT_ROOT / root


def new_id() -> str:
    """Return an id that sorts by time and differs between two runs of one second."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def now() -> str:
    """Return the time, UTC, as ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def create(run_id: str = "", root: str | Path = DEFAULT_ROOT, **sections: Any) -> Run:
    """Make the folder of a new run, `sections` in its results; an empty id gets one made from the time.

    Raises `BadInput` for an id or folder that cannot be used, `RunExists` for an id that is taken.
    """
    run_id = run_id or new_id()
    if not is_id(run_id) or len(run_id) > 100:
        raise BadInput(f"Run id {run_id!r} is not allowed: at most 100 letters, digits or any of _ . : -")
    folder = root_folder(root) / run_id
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError as error:
        if folder.is_dir():
            raise _exists(Run(id=run_id, folder=folder)) from error
        raise _unwritable(folder.parent, error) from error
    except OSError as error:
        raise _unwritable(folder.parent, error) from error
    run = Run(id=run_id, folder=folder)
    run.record(created_at=datetime.now(UTC).isoformat(), **sections)
    return run


def find(run_id: str = "", root: str | Path = DEFAULT_ROOT) -> Run:
    """Return a run by its id, or the newest where the id is empty; raises `RunNotFound`.

    The newest is one that sent tasks, where there is any: a redrive of the whole queue keeps a folder as well, and so
    does a submit whose plan was made and not carried out, or made again.
    """
    known = listed(root)
    if not run_id and known:
        planned = [run for run in known if run.manifest.is_file()]
        return next(filter(_has_sent, planned), None) or next(iter(planned), known[0])
    for run in known:
        if run.id == run_id:
            return run
    there = f"there are {', '.join(run.id for run in known[:5])}" if known else "there is none"
    raise RunNotFound(
        f"No run {run_id!r} in {root_folder(root)}; {there}." if run_id else f"{root_folder(root)} is empty."
    )


def open_for_submit(run_id: str = "", root: str | Path = DEFAULT_ROOT) -> Run:
    """Return the run to submit: a new one, or the one of this id; `keep_manifest` then says whether it can go on."""
    return _there(run_id, root) or create(run_id, root)


def keep_manifest(run: Run, manifest: pd.DataFrame) -> None:
    """Write the run's manifest, or hold the one that is there against `manifest` (as `workload.generate` makes it).

    Raises `RunExists` where they differ, or where another process submits the run.
    """
    with alone(run.folder / "submit.lock"):
        # A kill while it was written leaves a `.partial` only: nothing was submitted, and it is written again.
        if not run.manifest.exists():
            run.save("manifest", manifest)
            return
    kept = run.load("manifest")
    if len(kept) != len(manifest):
        difference = f"{len(kept):,} tasks, and these parameters make {len(manifest):,}"
    elif n_others := int((_comparable(kept) != _comparable(manifest)).any(axis=1).sum()):
        difference = f"{len(kept):,} tasks, of which these parameters make {n_others:,} otherwise"
    else:
        return
    raise RunExists(
        f"Run {run.id!r} has {difference}.",
        "To go on with it, give n_tasks, seed, mix and the other values of its first call; else choose another run id.",
    )


@contextmanager
def open_for_report(run_id: str = "", root: str | Path = DEFAULT_ROOT) -> Iterator[Run]:
    """Yield the run to report on, held by this process alone: a new one, or one that a report began and did not end.

    Raises `RunExists` where the report is complete (it is never overwritten), where none was begun, or where another
    process is at it.
    """
    run = _there(run_id, root) or create(run_id, root, state="running")
    with alone(run.folder / "run.lock"):
        state = run.results().get("state")
        if state == "complete":
            raise RunExists(f"Run {run.id!r} is complete already, in {run.folder}.")
        if state not in _UNFINISHED:
            raise _exists(run)
        yield run


def listed(root: str | Path = DEFAULT_ROOT) -> list[Run]:
    """Return the runs on this disk, the newest first."""
    folder = root_folder(root)
    if not folder.is_dir():
        return []
    found = [Run(id=path.name, folder=path) for path in folder.iterdir() if path.is_dir() and is_id(path.name)]
    # By what each says of itself: a folder's own time changes whenever its run is read again.
    return sorted(found, key=created_at, reverse=True)


def created_at(run: Run) -> str:
    """Return when a run was made, ISO 8601; empty where its results do not say, or are damaged."""
    try:
        return str(run.results().get("created_at", ""))
    except RunDamaged:
        return ""


def at(place: str, root: str | Path = DEFAULT_ROOT) -> Run:
    """Return the run of a folder, such as runs/<id> or one that was copied here, or else of an id in `root`.

    Raises `RunNotFound` where there is none, `RunDamaged` where its results cannot be read.
    """
    if not place:
        raise BadInput("The run is empty; name its folder, such as runs/ID, or its id.")
    folder = Path(place)
    if not folder.is_dir():
        return find(place, root)
    run = Run(id=folder.resolve().name, folder=folder)
    if not (run_id := run.results().get("run_id")):
        raise RunNotFound(f"{place} is no run: it holds no {_RESULTS} that names one.")
    # It becomes a part of addresses and keys.
    if not isinstance(run_id, str) or not is_id(run_id):
        raise run.damaged(_RESULTS, ValueError(f"its run_id is {run_id!r}, which is no id"))
    # A copy may lie under another name; the run keeps its own.
    return Run(id=run_id, folder=folder)


def kind_of(results: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what two runs share where they can be compared: target, region, stack and workload, whatever the seed."""
    given = results.get("parameters", {})
    values = [results.get("target"), *(given.get(name) for name in ("region", "stack_name", *workload.KIND))]
    return tuple(map(repr, values))


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON-able values: numbers and texts stay, NaN becomes None, all else its text."""
    return {name: _plain(value) for name, value in values.items()}


def _check(results: Any) -> None:
    """Raise `TypeError` where a section is not of the kind that its readers take it for."""
    if not isinstance(results, dict):
        raise TypeError("it is no JSON object")
    for name in sorted(results.keys() & {*_OBJECTS, *_OBJECTS_OF_OBJECTS, *_LISTS_OF_OBJECTS}):
        found, kind = results[name], list if name in _LISTS_OF_OBJECTS else dict
        if not isinstance(found, kind):
            raise TypeError(f"its section {name!r} is no {'list' if kind is list else 'object'}")
        members = [] if name in _OBJECTS else found.values() if isinstance(found, dict) else found
        if not all(isinstance(member, dict) for member in members):
            raise TypeError(f"its section {name!r} holds what is no object")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return None if value != value else value  # noqa: PLR0124 - NaN differs from itself
    return str(value)


def _there(run_id: str, root: str | Path) -> Run | None:
    """Return the run of this id where it has a folder; an id that is none has no folder, whatever path it spells."""
    folder = root_folder(root) / run_id
    return Run(id=run_id, folder=folder) if is_id(run_id) and folder.is_dir() else None


def _has_sent(run: Run) -> bool:
    # The journal, or what was made of it.
    return any(run.folder.glob("sends.*"))


def _exists(run: Run) -> RunExists:
    return RunExists(f"Run {run.id!r} exists already in {run.folder}.")


def _comparable(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return what makes the tasks what they are, in types that do not depend on which task types there are."""
    columns = ["task_id", "task_type", "priority", "message_group", "data", "offset_s"]
    # A manifest of an earlier version has no groups; where there is none, two are alike.
    return manifest.reindex(columns=columns).astype({"task_type": "str", "message_group": "str"}).fillna("")


def _unwritable(folder: Path, error: OSError) -> BadInput:
    return BadInput(
        f"The folder for runs, {folder}, cannot be written: {error.strerror}.",
        "Name another with `-p runs_dir FOLDER`, or free space and set its permissions.",
    )
