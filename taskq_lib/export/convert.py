"""An export made into `tasks.parquet` and `attempts.parquet`, in bounded memory: the columns of the kit's frames."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from taskq_lib import PROJECT_ROOT, attended
from taskq_lib.aws.frames import ATTEMPT_COLUMNS, TASK_COLUMNS, attempts_frame, read_items, tasks_frame, typed
from taskq_lib.errors import BadInput, NotDone
from taskq_lib.export import manifest, queries
from taskq_lib.export.manifest import DataFile, Export

#: What DuckDB may hold; the rest goes to disk.
MEMORY = "1GB"
#: More readers would need more memory than that.
_MAX_THREADS = 4
#: Files that are read in one query: one a thread, since Ctrl-C is heard when they are done.
_FILES_AT_A_TIME = _MAX_THREADS
#: Items that go the slow way at a time.
_CHUNK = 10_000
_COLUMNS = {"tasks": TASK_COLUMNS, "attempts": ATTEMPT_COLUMNS}


def convert(folder: Path | str, tables: Path | str = "", *, progress: bool = True) -> Path:
    """Make the export in `folder` into the folder `tables`, which appears whole or not at all; returns `tables`.

    It holds `tasks.parquet` and `attempts.parquet`, with the columns and values that `frames.tasks_frame` and
    `frames.attempts_frame` give of the same items, in no order, and `athena.sql`, see `queries.athena`. `tables` is by
    default beside the export's folder, named like it, with `-tables` at its end; a relative one lies in the project.
    Where it was made of this export before, nothing is done.

    Raises `BadInput`, naming the file or item, for an export that is not whole, an item that no task has, or a
    `tables` that holds something else; `NotDone` where disk or memory do not suffice.
    """
    export = manifest.read(folder)
    beside = export.folder.with_name(f"{export.folder.name}-tables")
    tables = PROJECT_ROOT / tables if str(tables) else beside
    if _is_made(export, tables):
        return tables
    for path in (export.folder, tables):
        if "\\" in str(path):
            raise BadInput(f"{path} has a backslash in its name, which DuckDB cannot read.", "Name another folder.")
    tables.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{tables.name}.", suffix=".partial", dir=tables.parent) as work:
        parts, made = Path(work) / "parts", Path(work) / "made"
        parts.mkdir()
        made.mkdir()
        with connected(Path(work)) as connection:
            _take_in(connection, export, parts, progress=progress)
            _write(connection, parts, made)
            shutil.copyfile(export.folder / manifest.FILES, made / manifest.FILES)
            (made / "athena.sql").write_text(queries.athena(export.location), encoding="utf-8")
        made.rename(tables)
    return tables


def load(tables: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Load `tasks` and `attempts` of what `convert` made, typed as `frames` types them: for what fits into memory."""
    found = {name: pd.read_parquet(tables / f"{name}.parquet") for name in _COLUMNS}
    tasks, attempts = (
        pd.DataFrame({column: _column(found[name][column], column, dtype) for column, (_, dtype) in columns.items()})
        for name, columns in _COLUMNS.items()
    )
    return tasks, attempts


@contextmanager
def connected(spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Connect to a DuckDB of bounded memory, which puts on disk below `spill` what it cannot hold.

    Raises `NotDone` where disk or memory do not suffice for what is done with it.
    """
    config: dict[str, Any] = {
        "memory_limit": MEMORY,
        "threads": min(_MAX_THREADS, os.cpu_count() or 1),
        "temp_directory": str(spill / "spill"),
        # No order is promised, and keeping one would cost memory.
        "preserve_insertion_order": False,
        # What it reads are files of this machine; nothing is to be fetched.
        "autoinstall_known_extensions": False,
    }
    with duckdb.connect(config=config) as connection:
        connection.execute(f"SET TimeZone = 'UTC'; {queries.MACROS}")
        # Its bar would stand beside ours. In a notebook without ipywidgets it has none, and refuses to be told so.
        with suppress(duckdb.Error):
            connection.execute("SET enable_progress_bar = false")
        try:
            yield connection
        except RuntimeError as error:
            # What DuckDB makes of Ctrl-C.
            if "interrupted" in str(error):
                raise KeyboardInterrupt from error
            raise
        except (duckdb.Error, OSError) as error:
            if not _is_full(error):
                raise
            raise NotDone(
                f"There is not enough room: {str(error).splitlines()[0]}",
                f"Free some of the disk that holds {spill.parent}, or use another; of memory {MEMORY} is used. "
                "Nothing was written.",
            ) from error


def _is_full(error: Exception) -> bool:
    # DuckDB and Arrow have no class for a full disk, only what the system calls it.
    full = [os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT)]
    return isinstance(error, duckdb.OutOfMemoryException) or any(words in str(error) for words in full)


def literal(path: Path) -> str:
    """Return a pattern of DuckDB's that only this path matches, where the path has no backslash."""
    return re.sub(r"[*?[]", r"[\g<0>]", str(path))


def _column(values: pd.Series, name: str, dtype: Any) -> Any:
    if dtype != "category":
        return values.astype(dtype)
    return typed(values.astype("object").where(values.notna(), None).tolist(), name, dtype)


def _is_made(export: Export, tables: Path) -> bool:
    if not tables.exists():
        return False
    held = tables / manifest.FILES
    if held.is_file() and held.read_bytes() == (export.folder / manifest.FILES).read_bytes():
        return True
    raise BadInput(
        f"{tables} is there already, and was not made of the export in {export.folder}.", "Move it, or name another."
    )


def _take_in(connection: duckdb.DuckDBPyConnection, export: Export, parts: Path, *, progress: bool) -> None:
    """Read the data files into Parquet of the items as they are; what is odd keeps its line."""
    # A file without items may be empty altogether.
    full = [one for one in export.files if one.n_items]
    for empty in (one for one in export.files if not one.n_items):
        manifest.verify(empty)
    with attended.bar(export.n_items, "item", "read", progress=progress) as bar:
        for i in range(0, len(full), _FILES_AT_A_TIME):
            some = full[i : i + _FILES_AT_A_TIME]
            for one in some:
                manifest.verify(one)
            part = parts / f"items-{i:09d}.parquet"
            _read(connection, some, part)
            _check_counts(connection, some, part)
            bar.update(sum(one.n_items for one in some))


def _read(connection: duckdb.DuckDBPyConnection, files: Sequence[DataFile], part: Path) -> None:
    # Lines by the CSV reader and JSON after it: half the time of the JSON reader, and the odd lines are at hand. The
    # delimiter and quotes are characters that JSON escapes, so that a line is one value.
    query = f"""
        COPY (
            SELECT Item, CASE WHEN {queries.is_odd()} THEN line END AS line, filename
            FROM (
                SELECT FROM_JSON(line, ?).Item AS Item, line, filename
                FROM READ_CSV(?, columns = {{'line': 'VARCHAR'}}, header = false, auto_detect = false, quote = '',
                              escape = '', delim = '\x01', compression = 'gzip', max_line_size = 4000000,
                              filename = true)
            )
        ) TO '{_quoted(part)}' (FORMAT parquet)"""  # noqa: S608 - names of columns, and a path with its quotes doubled
    try:
        connection.execute(query, [queries.structure(), [literal(one.path) for one in files]])
    except duckdb.Error as error:
        if _is_full(error):
            raise
        first, last = files[0].path, files[-1].path.name
        raise BadInput(
            f"A file from {first} to {last} cannot be read: {str(error).splitlines()[0]}",
            "It is what DynamoDB wrote, by its checksum; is it an export in DynamoDB JSON?",
        ) from error


def _check_counts(connection: duckdb.DuckDBPyConnection, files: Sequence[DataFile], part: Path) -> None:
    query = "SELECT filename, COUNT(*), COUNT(Item.taskId.S) FROM READ_PARQUET(?) GROUP BY filename"
    found = {name: (n, n_named) for name, n, n_named in connection.execute(query, [literal(part)]).fetchall()}
    for one in files:
        n, n_named = found.get(str(one.path), (0, 0))
        if n != one.n_items:
            raise BadInput(
                f"{one.path} holds {n:,} items, and {one.n_items:,} in {manifest.FILES}.", "Export the table again."
            )
        if n_named != n:
            raise BadInput(
                f"{one.path} holds {n - n_named:,} items without a taskId: it is no status table's.",
                "Export the table that the stack's output TableName names.",
            )


def _write(connection: duckdb.DuckDBPyConnection, parts: Path, made: Path) -> None:
    """Write both tables from the items, those that are odd by way of the frames."""
    if not list(parts.glob("items-*.parquet")):
        for name, frame in {"tasks": tasks_frame([]), "attempts": attempts_frame([])}.items():
            frame.to_parquet(made / f"{name}.parquet", index=False)
        return
    folder = _quoted(literal(parts))
    items = f"READ_PARQUET('{folder}/items-*.parquet')"
    connection.execute(f"CREATE VIEW export AS SELECT Item FROM {items} WHERE line IS NULL")  # noqa: S608 - a path
    connection.execute(f"CREATE VIEW entries AS {queries.entries()}")
    _write_odd(connection, items, parts)
    for name, columns in _COLUMNS.items():
        query = f"SELECT {queries.at_the_edge(columns)} FROM ({queries.text(name)})"  # noqa: S608 - columns' names
        if list(parts.glob(f"odd-{name}-*.parquet")):
            query += f" UNION ALL BY NAME FROM READ_PARQUET('{folder}/odd-{name}-*.parquet')"
        connection.execute(f"COPY ({query}) TO '{_quoted(made / name)}.parquet' (FORMAT parquet)")


def _write_odd(connection: duckdb.DuckDBPyConnection, items: str, parts: Path) -> None:
    """Make the frames of the items that are not as the function writes them, the slow way, as for any item."""
    lines = connection.cursor().execute(f"SELECT line FROM {items} WHERE line IS NOT NULL")  # noqa: S608 - a path
    n = 0
    while some := lines.fetchmany(_CHUNK):
        tasks, attempts = _frames([line for (line,) in some])
        tasks.to_parquet(parts / f"odd-tasks-{n}.parquet", index=False)
        attempts.to_parquet(parts / f"odd-attempts-{n}.parquet", index=False)
        n += 1


def _frames(lines: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    found = [json.loads(line, object_hook=_binary)["Item"] for line in lines]
    try:
        items = read_items(found)
        return tasks_frame(items), attempts_frame(items)
    except Exception as error:  # whatever a frame makes of a value that no column takes
        if len(lines) > 1:
            for line in lines:
                _frames([line])
        raise BadInput(
            f"Item {found[0].get('taskId')} has what no task has: {type(error).__name__}: {error}.",
            "Correct it or remove it from the table, and export that again; nothing was converted.",
        ) from error


def _binary(found: dict[str, Any]) -> dict[str, Any]:
    """Read a binary value as the SDK hands it out; an attribute that is called B has an object, no text."""
    return {"B": b64decode(found["B"])} if isinstance(found.get("B"), str) else found


def _quoted(path: Path | str) -> str:
    return str(path).replace("'", "''")
