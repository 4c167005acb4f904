"""An export becomes the frames of its items, whatever they hold; one that is not whole is refused by name."""

import base64
import errno
import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.generate_export import generate, write_manifests
from taskq_lib.aws.frames import attempts_frame, read_items, tasks_frame
from taskq_lib.errors import BadInput, NotDone
from taskq_lib.export import convert as converting
from taskq_lib.export import manifest, queries, summaries
from taskq_lib.export.convert import convert, load
from taskq_worker.contract import MAX_LOGGED_ATTEMPTS, breaker_key
from tests.unit.exports import export_of, in_order, written

_TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
_TIMES = st.one_of(
    st.integers(0, 4_102_444_799_999).map(lambda unix_ms: unix_ms / 1000), st.floats(0, 4_102_444_799), st.just(0)
).map(lambda seconds: {"N": repr(seconds)})
_STRINGS = _TEXT.map(lambda text: {"S": text})
_COUNTS = st.integers(0, 30).map(lambda n: {"N": str(n)})
#: Values of any type that DynamoDB has, in place of what the function writes.
_ODD = st.one_of(
    _STRINGS,
    st.sampled_from(["-7", "300", "5.0", "5.5", "1E+2", "-1.5E-3", "9" * 38, "1" + "0" * 120]).map(lambda n: {"N": n}),
    st.binary(max_size=4).map(lambda data: {"B": data}),
    st.sampled_from(
        [{"BOOL": True}, {"BOOL": False}, {"NULL": True}, {"SS": ["a"]}, {"L": []}, {"M": {"B": {"S": "b"}}}]
    ),
)


def _marked(log: list[dict[str, Any]], marks: list[int]) -> list[dict[str, Any]]:
    marked = [({"redrive": {"N": str(mark)}} if mark else {}) for mark in sorted(marks)]
    return [{"M": entry | mark} for entry, mark in zip(log, marked, strict=False)]


_ENTRIES = st.fixed_dictionaries(
    {"outcome": st.sampled_from(["completed", "failed", "lost"]).map(lambda outcome: {"S": outcome})},
    optional={
        **dict.fromkeys(["received", "started", "finished"], _TIMES),
        **dict.fromkeys(["requestId", "errorType", "error"], _STRINGS),
        "coldStart": st.just({"BOOL": True}),
    },
)
_LOGS = st.builds(
    _marked,
    st.one_of(
        st.lists(_ENTRIES, max_size=4),
        st.lists(_ENTRIES, min_size=1, max_size=1).map(lambda one: one * MAX_LOGGED_ATTEMPTS),
    ),
    st.lists(st.integers(0, 2), min_size=MAX_LOGGED_ATTEMPTS, max_size=MAX_LOGGED_ATTEMPTS),
)
_FIELDS: dict[str, Any] = {
    **dict.fromkeys(["runId", "messageGroup", "errorType", "error", "result"], _STRINGS),
    "taskType": st.sampled_from(["SEND_EMAIL", "REMOVED_TYPE"]).map(lambda kind: {"S": kind}),
    "priority": st.integers(0, 9).map(lambda n: {"N": str(n)}),
    "reason": st.sampled_from(["max_attempts", "invalid"]).map(lambda reason: {"S": reason}),
    "redrives": st.integers(0, 2).map(lambda n: {"N": str(n)}),
    "duplicates": _COUNTS,
    "deadLettered": st.booleans().map(lambda dead: {"BOOL": dead}),
    "attemptLog": _LOGS.map(lambda log: {"L": log}),
    **dict.fromkeys(["enqueuedAt", "sentAt", "startedAt", "finishedAt", "timestamp", "leaseUntil"], _TIMES),
}
_REQUIRED: dict[str, Any] = {
    "attempts": _COUNTS,
    "status": st.sampled_from(["PROCESSING", "COMPLETED", "FAILED"]).map(lambda status: {"S": status}),
}
USUAL = st.fixed_dictionaries(_REQUIRED, optional=_FIELDS)
_ANY = st.builds(
    lambda item, changes, removed: {name: value for name, value in (item | changes).items() if name not in removed},
    USUAL,
    st.dictionaries(st.sampled_from([*_FIELDS, *_REQUIRED, "unknown"]), _ODD, max_size=2),
    st.sets(st.sampled_from(sorted(_REQUIRED)), max_size=1),
)


def as_exported(value: Any) -> Any:
    """Write binary values as an export has them, in base64."""
    if isinstance(value, dict):
        return {name: as_exported(member) for name, member in value.items()}
    if isinstance(value, list):
        return [as_exported(member) for member in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def frames_of(items: Sequence[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make the frames the slow and obvious way."""
    plain = read_items(items)
    return tasks_frame(plain), attempts_frame(plain)


def assert_same(found: tuple[pd.DataFrame, pd.DataFrame], expected: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """Rows, columns, dtypes and values are the same."""
    for ours, theirs in zip(found, expected, strict=True):
        pd.testing.assert_frame_equal(in_order(ours), in_order(theirs))


def named(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each item an id of its own."""
    return [{"taskId": {"S": f"task-{i}"}} | item for i, item in enumerate(items)]


@settings(max_examples=6, deadline=None)
@given(items=st.lists(USUAL, max_size=12))
def test_usual_items_become_their_frames(items: list[dict[str, Any]]) -> None:
    """Whatever an item of the function's form holds or lacks, SQL alone makes of it what the frames do."""
    items = named(items)
    with tempfile.TemporaryDirectory() as folder:
        export = export_of(Path(folder), items[:4], [], items[4:])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(converting, "_frames", lambda lines: pytest.fail(f"went the slow way: {lines}"))
            tables = convert(export, progress=False)
        assert_same(load(tables), frames_of(items))


@settings(max_examples=8, deadline=None)
@given(items=st.lists(_ANY, min_size=1, max_size=4))
def test_any_item_becomes_its_frames_or_is_refused(items: list[dict[str, Any]]) -> None:
    """What the function never writes is made into what the frames make of it; where they cannot, it is refused."""
    items = named(items)
    with tempfile.TemporaryDirectory() as folder:
        export = export_of(Path(folder), as_exported(items))
        try:
            expected = frames_of(items)
            for frame in expected:
                frame.to_parquet(Path(folder) / "whole.parquet")
        except Exception:  # noqa: BLE001 - whatever the frames raise
            with pytest.raises(BadInput, match=r"Item .*task-\d.* has what no task has"):
                convert(export, progress=False)
            assert sorted(path.name for path in export.parent.iterdir()) == [export.name]
            return
        assert_same(load(convert(export, progress=False)), expected)


def test_the_breakers_are_no_tasks(tmp_path: Path) -> None:
    """The circuit breakers, which are items of the table as well, are counted by the manifest and are no rows."""
    breaker = {"taskId": breaker_key("SEND_EMAIL"), "status": 3, "attempts": "many"}
    task = {"taskId": "task-1", "status": "COMPLETED", "attempts": 1}
    tables = convert(export_of(tmp_path, [written(breaker), written(task)]), progress=False)
    assert load(tables)[0]["task_id"].tolist() == ["task-1"]


def test_a_generated_export_is_as_the_function_writes_it(tmp_path: Path) -> None:
    """The generated items need no slow path, and every state and outcome but one that vanished is among them."""
    export = generate(tmp_path, 3_000, n_per_file=1_000)
    lines = [
        line for path in sorted((export / "data").iterdir()) for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    tables = convert(export, progress=False)
    tasks, attempts = load(tables)
    assert_same((tasks, attempts), frames_of([json.loads(line)["Item"] for line in lines]))
    assert set(tasks["state"]) == {"processing", "retrying", "completed", "dead_lettered"}
    assert set(attempts["outcome"]) == {"completed", "failed"}
    assert attempts["redrive"].max() == 1


def test_it_is_made_once(tmp_path: Path) -> None:
    """A second call finds the tables; a folder that holds something else is refused."""
    export = export_of(tmp_path, [written({"taskId": "a", "status": "COMPLETED", "attempts": 1})])
    tables = convert(export, progress=False)
    before = (tables / "tasks.parquet").stat()
    assert convert(export, progress=False) == tables
    assert (tables / "tasks.parquet").stat() == before
    with pytest.raises(BadInput, match="is there already, and was not made of the export"):
        convert(export, tmp_path, progress=False)


@pytest.mark.parametrize(
    "error",
    [
        duckdb.IOException("IO Error: Could not write file: No space left on device"),
        duckdb.OutOfMemoryException("Out of Memory Error: could not allocate block"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    ],
    ids=str,
)
@pytest.mark.parametrize("step", ["_write", "_check_counts"])
def test_no_room_is_not_the_exports_fault(
    error: Exception, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where disk or memory are full that is said, with the disk's folder, and nothing is left behind."""

    def full(*_: object) -> None:
        raise error

    export = export_of(tmp_path, [written({"taskId": "a", "status": "COMPLETED", "attempts": 1})])
    monkeypatch.setattr(converting, step, full)
    with pytest.raises(NotDone, match="not enough room") as refused:
        convert(export, progress=False)
    assert f"the disk that holds {export.parent}," in refused.value.hint
    assert list(export.parent.iterdir()) == [export]


def test_too_little_memory_to_read_is_not_the_exports_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What DuckDB itself raises for want of memory while it reads is no unreadable file."""
    export = export_of(tmp_path, [written({"taskId": "a", "status": "COMPLETED", "attempts": 1})])
    monkeypatch.setattr(converting, "MEMORY", "1MB")
    with pytest.raises(NotDone, match="not enough room"):
        convert(export, progress=False)


@pytest.mark.parametrize(("name", "like_it"), [("a*b", "a-b"), ("a?b", "a-b"), ("rv[1]", "rv1"), ("it's", "its")])
def test_a_folder_is_no_pattern(name: str, like_it: str, tmp_path: Path) -> None:
    """A folder is read by its name, whatever is in it, and not another that its name would be a pattern of."""
    strange = {"taskId": {"S": "b"}, "status": {"S": "COMPLETED"}, "attempts": {"S": "1"}}
    items = [written({"taskId": "a", "status": "COMPLETED", "attempts": 1}), strange]
    export_of(tmp_path / like_it, items * 2)
    tables = convert(export_of(tmp_path / name, items), progress=False)
    shutil.copytree(tmp_path / name, tmp_path / like_it, dirs_exist_ok=True)
    assert_same(load(tables), frames_of(items))
    assert summaries.percentiles(tables)["n"].max() <= len(items)


def test_a_backslash_in_a_name_is_refused(tmp_path: Path) -> None:
    """A folder that DuckDB has no way to name is refused before anything is read."""
    export = export_of(tmp_path, [written({"taskId": "a", "status": "COMPLETED", "attempts": 1})])
    with pytest.raises(BadInput, match="has a backslash in its name"):
        convert(export, tmp_path / "tables\\1", progress=False)


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C there are neither tables nor what was made of them until then."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    export = export_of(tmp_path, [written({"taskId": "a", "status": "COMPLETED", "attempts": 1})])
    monkeypatch.setattr(converting, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(export, progress=False)
    assert list(export.parent.iterdir()) == [export]


# --- exports that are not whole -----------------------------------------------------------------------------------


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a document of JSON."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def relist(export: Path, change: Callable[[list[str]], list[str]]) -> object:
    """Change the lines of the list of files."""
    path = export / manifest.FILES
    return path.write_text("\n".join(change(path.read_text().splitlines())))


_BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda export: (export / "data" / "1.json.gz").unlink(), r"1\.json\.gz is missing"),
    "cut off": (
        lambda export: os.truncate(export / "data" / "1.json.gz", 40),
        r"1\.json\.gz is not what DynamoDB wrote",
    ),
    "a stranger": (
        lambda export: shutil.copy(export / "data" / "1.json.gz", export / "data" / "2.json.gz"),
        r"2\.json\.gz is not in manifest-files\.json",
    ),
    "listed twice": (
        lambda export: relist(export, lambda lines: lines * 2),
        r"0\.json\.gz has the items of .*0\.json\.gz once more",
    ),
    "twice by another name": (
        lambda export: (
            shutil.copy(export / "data" / "1.json.gz", export / "data" / "2.json.gz"),
            relist(export, lambda lines: [*lines, lines[1].replace("data/1", "data/2")]),
        ),
        r"2\.json\.gz has the items of .*1\.json\.gz once more",
    ),
    "a list cut off": (
        lambda export: relist(export, lambda lines: [lines[0], lines[1][:-20]]),
        r"manifest-files\.json is cut off or no JSON",
    ),
    "a list that lacks a line": (
        lambda export: (
            relist(export, lambda lines: lines[:1]),
            (export / "data" / "1.json.gz").rename(export / "1.json.gz"),
        ),
        r"manifest-files\.json lists 1 items and manifest-summary\.json 2",
    ),
    "a list of other characters": (
        lambda export: (export / manifest.FILES).write_bytes(b"\xff\xfe{}\n"),
        r"manifest-files\.json is no text",
    ),
    "a summary without a number": (
        lambda export: edit(export / manifest.SUMMARY, lambda it: it.update(itemCount=None)),
        r"manifest-files\.json lists 2 items and manifest-summary\.json None",
    ),
    "no list": (lambda export: (export / manifest.FILES).unlink(), r"manifest-files\.json is missing"),
    "no export": (lambda export: (export / manifest.SUMMARY).unlink(), r"no manifest-summary\.json in it or below"),
    "two exports": (lambda export: shutil.copytree(export, export / "again"), "There are 2 exports in"),
    "incremental": (
        lambda export: edit(export / manifest.SUMMARY, lambda it: it.update(exportType="INCREMENTAL_EXPORT")),
        "is an incremental export",
    ),
    "Ion": (
        lambda export: edit(export / manifest.SUMMARY, lambda it: it.update(outputFormat="ION")),
        "only DYNAMODB_JSON can be read",
    ),
}


@pytest.mark.parametrize("how", _BROKEN)
def test_what_is_not_whole_is_refused_by_name(how: str, tmp_path: Path) -> None:
    """A file that is missing, cut off, doubled or foreign is named, with what to do, and nothing is made."""
    one, other = ({"taskId": name, "status": "COMPLETED", "attempts": 1} for name in "ab")
    export = export_of(tmp_path, [written(one)], [written(other)])
    spoil, message = _BROKEN[how]
    spoil(export)
    with pytest.raises(BadInput, match=message) as refused:
        convert(export, progress=False)
    assert refused.value.hint != BadInput.hint
    assert [path.name for path in export.parent.iterdir()] == [export.name]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"Item":{"name":{"S":"no task"}}}\n', "holds 1 items without a taskId"),
        (b'{"Item":{"taskId":{"S":"a"}}}\n' * 2, "holds 2 items, and 1 in manifest-files.json"),
        (b'{"Item":{"taskId"\n', "cannot be read"),
    ],
)
def test_files_that_hold_something_else_are_refused(line: bytes, message: str, tmp_path: Path) -> None:
    """Where a file is as the manifest has it and yet no items of tasks, or not so many, that is said."""
    export = export_of(tmp_path, [])
    (export / "data" / "0.json.gz").write_bytes(gzip.compress(line))
    write_manifests(export, [("0.json.gz", 1)])
    with pytest.raises(BadInput, match=message):
        convert(export, progress=False)


def test_athena_gets_the_same_columns() -> None:
    """The script for Athena makes the table of every attribute that is read, and the views of the same queries."""
    script = queries.athena("s3://bucket/AWSDynamoDB/ID/data/")
    assert "LOCATION 's3://bucket/AWSDynamoDB/ID/data/'" in script
    assert "LOCATION 's3://b/it''s/data/'" in queries.athena("s3://b/it's/data/")
    for name in (*queries.ITEM, *queries.ENTRY):
        assert f"{name}:struct<" in script
    assert script.count("CREATE OR REPLACE VIEW") == 4
    assert [word for word in ("lambda", "$", "SUBSCRIPTS", "MAKE_TIMESTAMPTZ") if word in script] == []
