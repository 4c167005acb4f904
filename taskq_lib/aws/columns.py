"""Status items into frames by way of columns: what `frames` makes of items one by one, several times as fast.

Items are decoded into structs, whose types follow from the columns, and gathered a thousand at a time into Arrow
arrays; that much is held of the raw answers, never all. `frames` stays the law: items that do not fit the structs go
its way, and a test holds that both ways lead to the same frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Meta

from taskq_lib.aws import frames
from taskq_lib.aws.frames import ATTEMPT_COLUMNS, TASK_COLUMNS, TIME
from taskq_worker.contract import MAX_LOGGED_ATTEMPTS, WORKER_LOST, Outcome, State

#: Items of one answer: structs, or as the API returns them.
Page = Sequence[Any]
#: Columns of the tasks and of the attempts, by name.
Columns = tuple[dict[str, pa.Array], dict[str, pa.Array]]

#: As `frames.TASK_COLUMNS` describes columns.
_Described = dict[str, tuple[str | None, Any]]
_Ints = np.ndarray[Any, np.dtype[np.int64]]
#: So many items are gathered at once, at least: fewer cost more calls, more cost memory.
_N_GATHERED = 1000
_UTC = pa.timestamp("us", "UTC")


# --- what an item is decoded into -------------------------------------------------------------------------------------


def _struct(name: str, fields: Iterable[Any], *, strict: bool = False) -> Any:
    # They hold no cycles, so the garbage collector need not see them.
    return msgspec.defstruct(name, fields, gc=False, frozen=True, forbid_unknown_fields=strict)


class _Attribute(NamedTuple):
    """How an attribute is decoded, and how many of them become an array."""

    kind: Any  #: The struct of its value
    missing: Any  #: What stands for one that is not there
    arrow: pa.DataType
    array: Callable[[Iterable[Any]], pa.Array]


def _text() -> _Attribute:
    kind, arrow = _struct("AttributeS", [("S", str)], strict=True), pa.large_string()
    return _Attribute(kind, kind(None), arrow, lambda values: pa.array([value.S for value in values], arrow))


def _flag() -> _Attribute:
    kind, arrow = _struct("AttributeBOOL", [("BOOL", bool)], strict=True), pa.bool_()
    return _Attribute(kind, kind(BOOL=False), arrow, lambda values: pa.array([value.BOOL for value in values], arrow))


def _whole(arrow: pa.DataType) -> _Attribute:
    most = 2 ** (arrow.bit_width - 1)
    kind = _struct("AttributeN", [("N", Annotated[int, Meta(ge=-most, lt=most)])], strict=True)
    return _Attribute(kind, kind(None), arrow, lambda values: pa.array([value.N for value in values], arrow))


def _time() -> _Attribute:
    # Unix seconds of the years 1653 to 5138, in which milliseconds are exact and every dtype knows the time.
    kind = _struct("AttributeN", [("N", Annotated[float, Meta(gt=-1e10, lt=1e11)])], strict=True)
    return _Attribute(kind, kind(np.nan), _UTC, lambda values: _times([value.N for value in values]))


def _times(unix_s: list[float]) -> pa.Array:
    """Turn Unix seconds into times, through whole milliseconds as `frames.typed` does; NaN into none."""
    seconds = np.array(unix_s, dtype=float)
    missing = np.isnan(seconds)
    unix_us = np.rint(np.where(missing, 0.0, seconds) * 1000).astype(np.int64) * 1000
    return pa.array(unix_us, mask=missing).cast(_UTC)


#: dtype of a column -> its attribute
_KINDS: dict[Any, _Attribute] = {
    "str": _text(),
    "category": _text(),
    "boolean": _flag(),
    "Int8": _whole(pa.int8()),
    "Int32": _whole(pa.int32()),
    TIME: _time(),
}


def _fields(described: _Described, **besides: Any) -> list[Any]:
    """Return the fields of a struct: the attributes of these columns, and others; a tuple says what stands for none."""
    own = {name: _KINDS[dtype][:2] for name, dtype in described.values() if name is not None}
    fields = [(name, *(kind if isinstance(kind, tuple) else (kind,))) for name, kind in (own | besides).items()]
    return sorted(fields, key=len)  # those that are required come first


_Text, _Count = _KINDS["str"].kind, _KINDS["Int32"].kind
_Outcome = _struct("AttributeOutcome", [("S", Literal[*map(str, Outcome)])], strict=True)
_Entry = _struct("Entry", _fields(ATTEMPT_COLUMNS, outcome=_Outcome, redrive=(_Count, _Count(0))))
_Log = _struct("Log", [("L", list[_struct("LogEntry", [("M", _Entry)], strict=True)])], strict=True)  # type: ignore[misc]
#: An item. What each has is required: of one that lacks it the slow way says what becomes.
Item = _struct(
    "Item",
    _fields(
        TASK_COLUMNS,
        taskId=_Text,
        status=_Text,
        attempts=_Count,
        redrives=(_Count, _Count(0)),
        startedAt=_KINDS[TIME][:2],
        deadLettered=_KINDS["boolean"][:2],
        attemptLog=(_Log, _Log([])),
    ),
)
#: An item of which only its state is read.
ItemState = _struct(
    "ItemState", _fields({}, taskId=_Text, status=_KINDS["str"][:2], deadLettered=_KINDS["boolean"][:2])
)


# --- from items to frames ---------------------------------------------------------------------------------------------


def frames_of(parts: Iterable[list[Columns]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the frames of tasks and attempts, in the order of the parts; these are used up, to hold nothing twice."""
    gathered = [columns for part in parts for columns in part]
    tasks, attempts = [tasks for tasks, _attempts in gathered], [attempts for _tasks, attempts in gathered]
    return _frame(tasks, TASK_COLUMNS), _frame(attempts, ATTEMPT_COLUMNS)


def gather(pages: Iterable[Page], gatherer: Executor) -> list[Columns]:
    """Read the pages' items into columns, in order, by `gatherer`: one thread for all that read side by side.

    For each thread that builds arrays Arrow keeps a reserve: in eight of them, 50 MB more.
    """
    gathered: list[Columns] = []
    held: list[Any] = []
    for page in pages:
        fits = not page or isinstance(page[0], Item)
        if fits:
            held += page
        if held and (not fits or len(held) >= _N_GATHERED):
            gathered.append(gatherer.submit(_columns, held).result())
            held = []
        if not fits:
            gathered.append(gatherer.submit(_columns_slowly, page).result())
    return [*gathered, gatherer.submit(_columns, held).result()] if held else gathered


def states_of(page: Page) -> dict[str, State]:
    """Return the state of each item of a page, `ItemState` or as the API returns them, by task id."""
    if page and not isinstance(page[0], ItemState):
        return {item["taskId"]: frames.state_of(item) for item in frames.read_items(page)}
    return {item.taskId.S: state for item, state in zip(page, _states(page), strict=True)}


def _columns_slowly(page: Page) -> Columns:
    items = frames.read_items(page)
    tasks, attempts = frames.tasks_frame(items), frames.attempts_frame(items)
    return _arrays(tasks, TASK_COLUMNS), _arrays(attempts, ATTEMPT_COLUMNS)


def _arrays(frame: pd.DataFrame, described: _Described) -> dict[str, pa.Array]:
    """Return a frame's columns as Arrow arrays."""
    arrays = {}
    for name, (_attribute, dtype) in described.items():
        column, arrow = frame[name], _KINDS[dtype].arrow
        if dtype == TIME:
            arrays[name] = pa.array(column.dt.tz_convert(None).to_numpy()).cast(arrow)
        else:
            arrays[name] = pa.array(column.astype("str") if dtype == "category" else column, arrow)
    return arrays


def _columns(items: Sequence[Any]) -> Columns:
    logs = [item.attemptLog.L for item in items]
    entries = [logged.M for log in logs for logged in log]
    owner = np.repeat(np.arange(len(items)), np.fromiter(map(len, logs), np.int64, len(items)))
    tasks, attempts = _read(items, TASK_COLUMNS), _read(entries, ATTEMPT_COLUMNS)
    tasks["state"] = pa.array(_states(items), pa.large_string())
    tasks["n_redrives"] = pa.array([item.redrives.N for item in items], pa.int32())
    claimed_at = _times([item.startedAt.N for item in items])
    tasks["first_started_at"], tasks["last_started_at"] = _starts(tasks, owner, claimed_at, attempts["started_at"])
    for name in ("task_id", "run_id", "task_type", "priority"):
        attempts[name] = tasks[name].take(pa.array(owner))
    attempts["redrive"] = pa.array([entry.redrive.N for entry in entries], pa.int32())
    attempts["attempt"] = _numbers(tasks, owner, attempts["redrive"])
    is_lost = pc.equal(attempts["outcome"], Outcome.LOST.value)
    for name, text in zip(("error_type", "error"), WORKER_LOST, strict=True):
        attempts[name] = pc.if_else(is_lost, pc.fill_null(attempts[name], text), attempts[name])
    return tasks, attempts


def _read(structs: Sequence[Any], described: _Described) -> dict[str, pa.Array]:
    """Gather the columns that are attributes of the structs."""
    return {
        name: _KINDS[dtype].array(map(attrgetter(attribute), structs))
        for name, (attribute, dtype) in described.items()
        if attribute is not None
    }


def _states(items: Sequence[Any]) -> list[State]:
    facts = [(item.status.S, item.deadLettered.BOOL) for item in items]
    known = {(status, dead): frames.state_of({"status": status, "deadLettered": dead}) for status, dead in set(facts)}
    return [known[fact] for fact in facts]


def _starts(tasks: dict[str, pa.Array], owner: _Ints, claimed_at: pa.Array, started_at: pa.Array) -> list[pa.Array]:
    """Return the first and the last start of each item, as `frames._starts` does."""
    claimed, started = (times.to_numpy(zero_copy_only=False) for times in (claimed_at, started_at))
    n_logged, n_attempts = np.bincount(owner, minlength=len(claimed)), tasks["n_attempts"].to_numpy()
    is_cut = (n_logged == MAX_LOGGED_ATTEMPTS) & (n_attempts != MAX_LOGGED_ATTEMPTS)
    at = np.flatnonzero(~np.isnat(started))
    # Of several values for one place the last one stays.
    first, last = claimed.copy(), claimed.copy()
    last[owner[at]] = started[at]
    first[owner[at[::-1]]] = started[at[::-1]]
    begins = np.flatnonzero(np.diff(owner, prepend=-1))
    begins_whole = np.zeros(len(claimed), bool)
    begins_whole[owner[begins]] = ~np.isnat(started[begins])
    return [pa.array(times, claimed_at.type) for times in (np.where(begins_whole & ~is_cut, first, claimed), last)]


def _numbers(tasks: dict[str, pa.Array], owner: _Ints, redrive: pa.Array) -> pa.Array:
    """Return each attempt's number since the redrive before it, as `frames._numbered` does."""
    redrives, entry_redrive = tasks["n_redrives"].to_numpy(), redrive.to_numpy()
    is_running = pc.equal(tasks["state"], State.PROCESSING.value).to_numpy(zero_copy_only=False)
    n_counted = tasks["n_attempts"].to_numpy().astype(np.int64) - is_running
    begins_anew = (np.diff(owner, prepend=-1) != 0) | (np.diff(entry_redrive, prepend=0) != 0)
    begins = np.flatnonzero(begins_anew)
    n_logged = np.diff(begins, append=len(owner))
    is_last = entry_redrive[begins] == redrives[owner[begins]]
    n_logged_to = np.where(is_last, n_counted[owner[begins]], n_logged)
    first = np.maximum(1, n_logged_to - n_logged + 1)
    life = np.cumsum(begins_anew) - 1
    return pa.array(first[life] + np.arange(len(owner)) - begins[life], pa.int32())


def _frame(parts: list[dict[str, pa.Array]], described: _Described) -> pd.DataFrame:
    values = {}
    for name, (_, dtype) in described.items():
        column = pa.chunked_array([part.pop(name) for part in parts], _KINDS[dtype].arrow)
        if dtype == "category":
            values[name] = _categories(column, name)
        else:
            as_pandas: Any = pd.api.types.pandas_dtype(dtype)
            values[name] = as_pandas.__from_arrow__(column.combine_chunks())
    return pd.DataFrame(values)


def _categories(column: pa.ChunkedArray, name: str) -> pd.Categorical:
    like = frames.typed(column.unique().to_pylist(), name, "category")
    codes = pc.index_in(column, pa.array(like.categories, pa.large_string())).fill_null(-1).to_numpy()
    return pd.Categorical.from_codes(codes, dtype=like.dtype)
