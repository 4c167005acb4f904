"""Where a report comes from: what was run, where, by which code, on which data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from taskq_lib.errors import RunDamaged
from taskq_lib.report import words
from taskq_lib.report.runs import Run

#: The libraries and programs among a run's versions; the rest is this project's own.
_OWN = {"commit", "function_code", "template"}


def data(run: Run) -> dict[str, dict[str, Any]]:
    """Return what each Parquet file of a run holds, by its name: `rows`, and `sha256` of its values.

    The hash is over column names, kinds and values, row by row: writing the same frame again, with another codec or
    by another version, does not change it. Of a file that cannot be read there is the sentence why, as `damaged`.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(run.folder.glob("*.parquet")):
        try:
            table = _read(run, path)
        except RunDamaged as error:
            found[path.stem] = {"damaged": error.args[0]}
        else:
            found[path.stem] = {"rows": table.num_rows, "sha256": table_hash(table)}
    return found


def whole(frames: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one hash of all of `data`, hexadecimal; empty where there are no data, or some are damaged."""
    lines = [f"{name} {entry.get('sha256', '')}\n" for name, entry in sorted(frames.items())]
    if not lines or any("damaged" in entry for entry in frames.values()):
        return ""
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def changed(run: Run, now: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of frames that are no longer as they were when the report was made."""
    before = run.results().get("data")
    if not isinstance(before, Mapping):
        return []
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def facts(run: Run, results: Mapping[str, Any]) -> dict[str, str]:
    """Say what a report rests on: name -> value, of what is known."""
    deployment, versions = results.get("deployment") or {}, results.get("versions") or {}
    account = str(deployment.get("account") or "")
    found = {
        "run": run.id,
        "target": results.get("target"),
        # However it was written: the last four digits are enough to tell two accounts apart.
        "account": account and f"...{account[-4:]}",
        "region": deployment.get("region"),
        "endpoint": deployment.get("endpoint"),
        "stack": deployment.get("stack"),
        "template": versions.get("template"),
        "function code": versions.get("function_code"),
        "commit of the kit": versions.get("commit"),
        "run from": f"{words.utc(results.get('started_at'))} to {words.utc(results.get('finished_at'))} UTC",
        "data window": _window(run),
        "data hash": whole(results.get("data") or {}),
    }
    return {name: str(value) for name, value in found.items() if value}


def packages(results: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of packages, Python and platform, by name."""
    versions = results.get("versions") or {}
    return {name: str(value) for name, value in versions.items() if name not in _OWN}


def table_hash(table: Any) -> str:
    """Return the SHA-256 of a table's values, hexadecimal: columns by name, each with its kind; rows in their order."""
    found = hashlib.sha256(f"{table.num_rows} rows\n".encode())
    for name in sorted(table.column_names):
        found.update(f"{name}\n".encode())
        _feed(found, table[name].combine_chunks())
    return found.hexdigest()


def _read(run: Run, path: Path) -> Any:
    try:
        return parquet.ParquetFile(path).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise run.damaged(path.name, error) from error


def _feed(found: Any, array: Any) -> None:
    """Feed one column: its kind, which values are missing, and the values in one width, whatever type held them."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind, wide = _kind(array.type)
    if kind == "other":
        array = pa.array([json.dumps(value, default=str, sort_keys=True) for value in array.to_pylist()])
    found.update(f"{kind}\n".encode())
    found.update(pc.is_valid(array).cast(pa.uint8()).to_numpy(zero_copy_only=False).tobytes())
    if wide is not None:
        filled = array.cast(wide, safe=False).cast(pa.int64() if kind == "time" else wide)
        found.update(filled.fill_null(0).to_numpy(zero_copy_only=False).tobytes())
        return
    texts = array.cast(pa.large_string()).fill_null("")
    found.update(pc.binary_length(texts).cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes())
    found.update("".join(texts.to_pylist()).encode())


def _kind(of: Any) -> tuple[str, Any]:
    """Return what a type holds, and the type of one width for it; none for text."""
    if pa.types.is_boolean(of):
        return "bool", pa.uint8()
    if pa.types.is_integer(of):
        return "int", pa.int64()
    if pa.types.is_floating(of):
        return "float", pa.float64()
    if pa.types.is_timestamp(of):
        return "time", pa.timestamp("us", tz=of.tz)
    is_text = pa.types.is_string(of) or pa.types.is_large_string(of) or pa.types.is_null(of)
    return "text" if is_text else "other", None


def _window(run: Run) -> str:
    """Return the time that the run's tasks cover, in words; empty where no task was read, or none has a time."""
    path = run.folder / "tasks.parquet"
    if not path.is_file():
        return ""
    try:
        table = _read(run, path)
    except RunDamaged as error:
        return str(error.args[0])
    if not {"enqueued_at", "updated_at"} <= set(table.column_names):
        return ""
    first, last = pc.min(table["enqueued_at"]).as_py(), pc.max(table["updated_at"]).as_py()
    return f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC" if first and last else ""
