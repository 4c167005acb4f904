"""Status items as typed DataFrames: no `Decimal`, no object column, times as UTC datetimes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from taskq_worker.attributes import from_attributes
from taskq_worker.contract import MAX_LOGGED_ATTEMPTS, WORKER_LOST, Outcome, State, Status, task_types

TIME: Any = "datetime64[us, UTC]"

#: tasks: column -> (attribute of the item, dtype)
TASK_COLUMNS: dict[str, tuple[str | None, Any]] = {
    "task_id": ("taskId", "str"),
    "run_id": ("runId", "str"),
    "task_type": ("taskType", "category"),
    "priority": ("priority", "Int8"),
    "message_group": ("messageGroup", "str"),
    "state": (None, "category"),
    "n_attempts": ("attempts", "Int32"),
    "n_duplicates": ("duplicates", "Int32"),
    "n_redrives": (None, "Int32"),
    "reason": ("reason", "str"),
    "error_type": ("errorType", "str"),
    "error": ("error", "str"),
    "result": ("result", "str"),
    "enqueued_at": ("enqueuedAt", TIME),
    "sent_at": ("sentAt", TIME),
    "first_started_at": (None, TIME),
    "last_started_at": (None, TIME),
    "finished_at": ("finishedAt", TIME),
    "updated_at": ("timestamp", TIME),
    "lease_until": ("leaseUntil", TIME),
}
#: attempts: column -> (key of the attemptLog entry, dtype)
ATTEMPT_COLUMNS: dict[str, tuple[str | None, Any]] = {
    "task_id": (None, "str"),
    "run_id": (None, "str"),
    "task_type": (None, "category"),
    "priority": (None, "Int8"),
    "redrive": (None, "Int32"),
    "attempt": (None, "Int32"),
    "received_at": ("received", TIME),
    "started_at": ("started", TIME),
    "finished_at": ("finished", TIME),
    "outcome": ("outcome", "category"),
    "error_type": ("errorType", "str"),
    "error": ("error", "str"),
    "request_id": ("requestId", "str"),
    "cold_start": ("coldStart", "boolean"),
}

Item = Mapping[str, Any]
_LOST = {"errorType": WORKER_LOST[0], "error": WORKER_LOST[1]}


def read_items(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turn items as DynamoDB's API returns them into plain Python values."""
    return [from_attributes(item) for item in items]


def tasks_frame(items: Sequence[Item]) -> pd.DataFrame:
    """Return one row a task; columns and dtypes are `TASK_COLUMNS`.

    `state` is an ordered category of `contract.State`; the starts are those of the first and last attempt in the log.
    """
    columns: dict[str, list[Any]] = {
        column: [item.get(attribute) for item in items]
        for column, (attribute, _dtype) in TASK_COLUMNS.items()
        if attribute is not None
    }
    columns["state"] = [str(state_of(item)) for item in items]
    columns["n_redrives"] = [item.get("redrives", 0) for item in items]
    starts = [_starts(item) for item in items]
    columns["first_started_at"] = [first for first, _last in starts]
    columns["last_started_at"] = [last for _first, last in starts]
    return pd.DataFrame({name: typed(columns[name], name, dtype) for name, (_, dtype) in TASK_COLUMNS.items()})


def attempts_frame(items: Sequence[Item]) -> pd.DataFrame:
    """Return one row an attempt; columns and dtypes are `ATTEMPT_COLUMNS`.

    `attempt` counts from 1 after each redrive, and `redrive` is how many there were before it. A log that was cut (more
    than 20 attempts) keeps its last entries, so the attempts since the last redrive count back from the item's count.
    """
    columns: dict[str, list[Any]] = {column: [] for column in ATTEMPT_COLUMNS}
    for item in items:
        for redrive, number, entry in _numbered(item):
            columns["task_id"].append(item["taskId"])
            columns["run_id"].append(item.get("runId"))
            columns["task_type"].append(item.get("taskType"))
            columns["priority"].append(item.get("priority"))
            columns["redrive"].append(redrive)
            columns["attempt"].append(number)
            for column, (key, _dtype) in ATTEMPT_COLUMNS.items():
                if key is not None:
                    columns[column].append(entry.get(key))
    columns["cold_start"] = [bool(value) for value in columns["cold_start"]]
    return pd.DataFrame({name: typed(columns[name], name, dtype) for name, (_, dtype) in ATTEMPT_COLUMNS.items()})


def with_pending(
    tasks: pd.DataFrame, manifest: pd.DataFrame, run_id: str, sends: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return `tasks` with a row, state `pending`, for each task of the manifest that has no item.

    `sends` (task_id, enqueued_at), where there is one, tells since when they wait.
    """
    # Through an index: `Series.isin` on texts takes forty times as long.
    missing = manifest[pd.Index(tasks["task_id"]).get_indexer(pd.Index(manifest["task_id"])) == -1]
    if missing.empty:
        return tasks
    pending = tasks_frame([{"taskId": task_id, "runId": run_id} for task_id in missing["task_id"]])
    pending["task_type"] = missing["task_type"].astype(tasks["task_type"].dtype).array
    pending["priority"] = missing["priority"].array
    if "message_group" in missing:
        pending["message_group"] = missing["message_group"].array
    if sends is not None:
        enqueued_at = sends.drop_duplicates("task_id").set_index("task_id")["enqueued_at"]
        pending["enqueued_at"] = pending["task_id"].map(enqueued_at).astype(TIME)
    return pd.concat([tasks, pending], ignore_index=True)


def state_of(item: Item) -> State:
    """Return the state of the task whose item this is."""
    status = item.get("status")
    if status is None:
        return State.PENDING
    if status == Status.COMPLETED:
        return State.COMPLETED
    if status == Status.PROCESSING:
        return State.PROCESSING
    return State.DEAD_LETTERED if item.get("deadLettered") else State.RETRYING


def _numbered(item: Item) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """Yield for each logged attempt the redrives before it, its number since the last of them, and its entry."""
    last = item.get("redrives", 0)
    for redrive, entries in itertools.groupby(item.get("attemptLog", []), lambda entry: entry.get("redrive", 0)):
        logged = list(entries)
        # A running attempt is counted and not logged yet; final items have logged every one.
        n_logged_to = item["attempts"] - (item["status"] == Status.PROCESSING) if redrive == last else len(logged)
        for number, entry in enumerate(logged, start=max(1, n_logged_to - len(logged) + 1)):
            # One that vanished left no error; it gets the one that the last of them is dead-lettered with.
            yield redrive, number, _LOST | entry if entry["outcome"] == Outcome.LOST else entry


def _starts(item: Item) -> tuple[float | None, float | None]:
    """Return the first and the last start; `startedAt`, the time of the first claim, where no attempt was logged."""
    claimed_at, log = item.get("startedAt"), item.get("attemptLog", [])
    starts = [entry["started"] for entry in log if "started" in entry]
    if not starts:
        return claimed_at, claimed_at
    # The log begins with the first attempt unless that one was lost, or the log was cut.
    is_cut = len(log) == MAX_LOGGED_ATTEMPTS != item["attempts"]
    whole = "started" in log[0] and not is_cut
    return starts[0] if whole else claimed_at, starts[-1]


def typed(values: list[Any], name: str, dtype: Any) -> Any:
    """Return the values as an array of `dtype`; times come as Unix seconds, and `name` tells a category's members."""
    if dtype == TIME:
        # The function writes milliseconds; they go through whole numbers, since seconds as floats lose them.
        unix_ms = [pd.NA if value is None else round(value * 1000) for value in values]
        return pd.to_datetime(pd.array(unix_ms, dtype="Int64"), unit="ms", utc=True).astype(TIME)
    if dtype != "category":
        return pd.array(values, dtype=dtype)
    texts = [None if value is None else str(value) for value in values]
    categories = {"state": [str(state) for state in State], "outcome": [str(outcome) for outcome in Outcome]}.get(name)
    if categories is None:
        # Types that were removed from the code since still have items.
        categories = sorted({*task_types(), *(text for text in texts if text is not None)})
    texts = [text if text in categories else None for text in texts]
    return pd.Categorical(texts, categories=categories, ordered=name == "state")
