"""The circuit breakers of the task types: what each does now, and when it changed."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from taskq_lib.aws.frames import TIME, read_items, typed
from taskq_lib.aws.stack import Stack
from taskq_worker.contract import breaker_key, task_types

CURRENT_COLUMNS: dict[str, Any] = {
    "task_type": "str",
    "state": "str",
    "since": TIME,
    "n_attempts": "Int32",
    "n_failed": "Int32",
    "probe_at": TIME,
}
TRANSITION_COLUMNS: dict[str, Any] = {
    "at": TIME,
    "task_type": "str",
    "state": "str",
    "n_attempts": "Int32",
    "n_failed": "Int32",
}


class Breakers(NamedTuple):
    """`current`, one row a type, and `transitions`, one row a change of state, in order of time."""

    current: pd.DataFrame
    transitions: pd.DataFrame


def read(stack: Stack) -> Breakers:
    """Read the breakers of all task types by key; a type whose attempts no process has counted yet has no row.

    `current`: task_type, state, since, n_attempts and n_failed of the last window that was counted, probe_at (NaT while
    it is closed). `transitions`: at, task_type, state, n_attempts and n_failed (of what opened it); the last 20 a type.
    """
    kinds = {breaker_key(kind): kind for kind in task_types()}
    request: Any = {stack.table: {"Keys": [{"taskId": {"S": key}} for key in kinds], "ConsistentRead": True}}
    items = []
    while request:
        answer = stack.target.client("dynamodb").batch_get_item(RequestItems=request)
        items += read_items(answer["Responses"].get(stack.table, []))
        request = answer.get("UnprocessedKeys", {})
    current = [
        {
            "task_type": kinds[item["taskId"]],
            "state": item["state"],
            "since": item["transitions"][-1]["at"],
            "n_attempts": item["n"],
            "n_failed": item["failed"],
            "probe_at": item.get("probeAt"),
        }
        for item in items
    ]
    transitions = [
        {"task_type": kinds[item["taskId"]], "n_attempts": change.get("n"), "n_failed": change.get("failed"), **change}
        for item in items
        for change in item["transitions"]
    ]
    return Breakers(
        _frame(current, CURRENT_COLUMNS, "task_type"),
        _frame(transitions, TRANSITION_COLUMNS, "at"),
    )


def _frame(rows: list[dict[str, Any]], columns: dict[str, Any], order: str) -> pd.DataFrame:
    values = {name: typed([row[name] for row in rows], name, dtype) for name, dtype in columns.items()}
    return pd.DataFrame(values).sort_values(order, ignore_index=True)
