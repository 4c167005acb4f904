"""The write units of a run, statement by statement, from the bytes of its items before and after each.

Bytes as DynamoDB counts them (developer guide, "DynamoDB item sizes and formats"): names and texts in UTF-8; a number
one byte for two significant digits, and one; a Boolean one; a list or map three, and one for each element.

Units (developer guide, "read and write operations" and "Global secondary indexes"): a write costs its item's size, the
larger of before and after, in steps of 1 KB; a refused condition costs the size of the item that is there; an update
that changes a key of the index costs it two writes, one to delete the old entry and one to insert the new.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taskq_lib.analysis.claims import FIRST, REDRIVEN, SUSPECT

UNIT_BYTES = 1024
#: A text of 29 characters, as 2026-11-24T02:00:00.123+00:00.
_ISO = 29
#: A request id is a UUID.
_UUID = 36
_COLUMNS = {"statement": "str", "n_bytes": "int64", "table_units": "int64", "index_units": "int64"}

Bytes = NDArray[np.int64]


def statements(tasks: pd.DataFrame, rows: pd.DataFrame, sizes: tuple[Bytes, Bytes] | None = None) -> pd.DataFrame:
    """Return one row a PartiQL statement that the function sent for these tasks; `rows` as by `classify`.

    `sizes` are those by `item_bytes`, where they are known already.

    Columns: `statement` (str: "insert", "insert refused", "update refused", "claim again", "record", "count
    duplicate"), `n_bytes` (int64: what it is charged for in the table), `table_units` and `index_units` (int64: write
    units, the latter where there is an index by time). Deliveries that started nothing and left no trace in the items
    (held back by a breaker, leased elsewhere, given back) are not among them; nor are the breakers' own.
    """
    claimed, recorded = item_bytes(rows) if sizes is None else sizes
    before = _previous(rows, claimed, recorded)
    kind = rows["claimed_as"]
    first, redriven, suspect = (kind.eq(name).to_numpy() for name in (FIRST, REDRIVEN, SUSPECT))
    lost = rows["outcome"].eq("lost").to_numpy()
    # A task whose last attempt vanished is given up by one more delivery, which claims nothing.
    given_up = lost & rows["is_dead"].to_numpy()
    n_twice = tasks["n_duplicates"].fillna(0).to_numpy(dtype="int64")
    final = _final_bytes(tasks, rows, claimed, recorded)
    invalid = (tasks["n_attempts"].fillna(0) == 0).to_numpy() & (tasks["state"] == "dead_lettered").to_numpy()
    none = np.zeros(len(rows), dtype="int64")
    doubled = np.repeat(final, n_twice)
    parts = [
        _part("insert", none[first], claimed[first]),
        _part("insert", np.zeros(int(invalid.sum()), dtype="int64"), final[invalid]),
        _part("insert refused", before[~first], None),
        # The claim of a suspect or of a dead task is refused once: the item that comes with it says what it is.
        _part("update refused", before[redriven | suspect], None),
        _part("claim again", before[~first], claimed[~first]),
        _part("record", claimed[~lost], recorded[~lost]),
        _part("insert refused", claimed[given_up], None),
        _part("update refused", claimed[given_up], None),
        _part("record", claimed[given_up], recorded[given_up]),
        _part("insert refused", doubled, None),
        _part("update refused", doubled, None),
        _part("count duplicate", doubled, doubled, moves=False),
    ]
    names, numbers = zip(*parts, strict=True)
    lengths = [len(part["n_bytes"]) for part in numbers]
    statement = pd.array(names, dtype="str").take(np.repeat(np.arange(len(names)), lengths))
    columns = {name: np.concatenate([part[name] for part in numbers]) for name in numbers[0]}
    return pd.DataFrame({"statement": statement, **columns}).astype(_COLUMNS)


def item_bytes(rows: pd.DataFrame) -> tuple[Bytes, Bytes]:
    """Return the bytes of the item once each attempt is claimed, and once it is recorded; `rows` as by `classify`."""
    fixed = _fixed(rows)
    entries = _entry(rows)
    total = np.cumsum(entries)
    n = rows["n"].to_numpy()
    logged = total - (total - entries)[np.arange(len(rows)) - n]
    log, log_before = len("attemptLog") + 3 + logged, logged - entries
    is_again = n > 0
    finished = len("finishedAt") + _time(rows["finished_at"])
    lease = len("leaseUntil") + 8
    error = _error(rows)
    before = np.where(is_again, len("attemptLog") + 3 + log_before + finished, 0)
    earlier = np.where(rows["claimed_as"].isin([REDRIVEN, FIRST]).to_numpy(), 0, np.roll(error, 1))
    alone = np.where(rows["claimed_as"].eq(SUSPECT).to_numpy(), len("soloAttempt") + 2, 0)
    claimed = fixed + len("status") + len("PROCESSING") + lease + before + earlier + alone
    completed = rows["outcome"].eq("completed").to_numpy()
    dead = rows["is_dead"].to_numpy()
    status = len("status") + np.where(completed, len("COMPLETED"), len("FAILED"))
    result = np.where(completed, _text(rows["result"], "result"), 0)
    reason = np.where(dead, len("deadLettered") + 1 + _text(rows["reason"], "reason", len("max_attempts")), 0)
    kept = np.where(completed | dead, 0, lease)
    recorded = fixed + status + log + finished + result + error + reason + kept + alone
    return claimed.astype("int64"), recorded.astype("int64")


def stored_bytes(tasks: pd.DataFrame, rows: pd.DataFrame, sizes: tuple[Bytes, Bytes] | None = None) -> "pd.Series[int]":
    """Return the bytes of each task's item as it is now, in the order of `tasks`; about, where it was never started.

    `rows` are as by `classify`, and `sizes`, where they are known already, as by `item_bytes`.
    """
    return pd.Series(_final_bytes(tasks, rows, *(sizes or item_bytes(rows))), index=tasks.index)


def units(n_bytes: Bytes) -> Bytes:
    """Return the write units of so many bytes: one for each 1 KB begun, at least one."""
    return np.maximum(1, -(-n_bytes // UNIT_BYTES))


def _part(statement: str, before: Bytes, after: Bytes | None, *, moves: bool = True) -> tuple[str, dict[str, Bytes]]:
    """Price statements that are alike; `after` is None where they were refused, `before` 0 where nothing was there."""
    if after is None:
        charged, index = before, np.zeros(len(before), dtype="int64")
    else:
        charged = np.maximum(before, after)
        entry = units(after) + np.where(before > 0, units(before), 0)
        index = entry if moves else units(charged)
    return statement, {"n_bytes": charged, "table_units": units(charged), "index_units": index}


def _previous(rows: pd.DataFrame, claimed: Bytes, recorded: Bytes) -> Bytes:
    """Return the bytes of the item that each attempt's claim finds; 0 for a first one."""
    left = np.where(rows["outcome"].eq("lost").to_numpy(), claimed, recorded)
    return np.where(rows["n"].to_numpy() > 0, np.roll(left, 1), 0).astype("int64")


def _final_bytes(tasks: pd.DataFrame, rows: pd.DataFrame, claimed: Bytes, recorded: Bytes) -> Bytes:
    """Return the bytes of each task's item as it is now; of one that was never started about what says why."""
    left = np.where(rows["outcome"].eq("lost").to_numpy() & ~rows["is_dead"].to_numpy(), claimed, recorded)
    found = _text(tasks["task_id"], "taskId") + _text(tasks["error"], "error") + 200
    task = rows["task"].to_numpy()
    which = rows["is_last"].to_numpy() & (task >= 0)
    found[task[which]] = left[which]
    return found


def _fixed(rows: pd.DataFrame) -> Bytes:
    """Return the bytes of what the item has from its first claim on, but for its status and lease."""
    whole = len("updatedAt") + _ISO + len("attempts") + 2 + len("shard") + 2 + len("expiresAt") + 6
    whole += len("duplicates") + 1 + len("claimedBy") + _UUID + len("priority") + 2
    times = {"enqueuedAt": "enqueued_at", "sentAt": "sent_at", "startedAt": "first_started_at"}
    found: Bytes = whole + len("timestamp") + _time(rows["finished_at"])
    for name, column in times.items():
        found = found + np.where(rows[column].isna().to_numpy(), 0, len(name) + _time(rows[column]))
    for name, column in {"taskId": "task_id", "taskType": "task_type", "runId": "run_id"}.items():
        found = found + _text(rows[column], name)
    if "message_group" in rows.columns:
        found = found + _text(rows["message_group"], "messageGroup")
    return np.asarray(found + np.where(rows["redrive"].to_numpy() > 0, len("redrives") + 2, 0), dtype="int64")


def _entry(rows: pd.DataFrame) -> Bytes:
    """Return the bytes of each attempt's entry in the log: a map, of which each member and itself cost one more."""
    times = _time(rows["received_at"]) + _time(rows["started_at"]) + _time(rows["finished_at"])
    whole = 1 + 3 + len("receivedstartedfinished") + 3 + times + len("requestId") + _UUID + 1 + len("outcome") + 1
    found = whole + _text(rows["outcome"], "")
    found = found + np.where(rows["cold_start"].fillna(value=False).to_numpy(dtype=bool), len("coldStart") + 1 + 1, 0)
    found = found + np.where(rows["redrive"].to_numpy() > 0, len("redrive") + 2 + 1, 0)
    error = _error(rows)
    lost = rows["outcome"].eq("lost").to_numpy()
    entry = np.where(lost, 1 + 3 + len("outcomelost") + 1, found + np.where(error > 0, error + 2, 0))
    return np.asarray(entry, dtype="int64")


def _error(rows: pd.DataFrame) -> Bytes:
    """Return the bytes of each attempt's error and its type; 0 for one that completed."""
    failed = ~rows["outcome"].eq("completed").to_numpy()
    return np.where(failed, _text(rows["error"], "error") + _text(rows["error_type"], "errorType"), 0).astype("int64")


def _text(values: "pd.Series[str]", name: str, missing: int = 0) -> Bytes:
    """Return the bytes of an attribute that holds a text; `missing` or, without it, nothing where there is none."""
    absent = len(name) + missing if missing else 0
    if isinstance(values.dtype, pd.CategoricalDtype):
        kinds = _text(pd.Series(values.cat.categories, dtype="str"), name)
        return np.append(kinds, absent)[values.cat.codes]
    n_bytes = pc.binary_length(pa.array(values.astype("str"), pa.large_string()))
    sizes = pc.fill_null(n_bytes, absent - len(name)).to_numpy(zero_copy_only=False)
    return np.asarray(len(name) + sizes, dtype=np.int64)


def _time(times: "pd.Series[pd.Timestamp]") -> Bytes:
    """Return the bytes of Unix seconds with milliseconds: 13 digits, of which zeros at the end are not kept."""
    unix_ms = times.astype("datetime64[ms, UTC]").astype("int64").to_numpy()
    n_zeros, round_ = np.zeros(len(unix_ms), dtype=np.int64), np.arange(len(unix_ms))
    for power in (1, 2, 3, 4, 5):
        round_ = round_[unix_ms[round_] % 10**power == 0]
        n_zeros[round_] = power
    return np.where(times.isna().to_numpy(), 8, 1 + -(-(13 - n_zeros) // 2)).astype("int64")
