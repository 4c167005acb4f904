"""The circuit breakers of the task types: what each does now, and when it changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from taskq_lib.aws import status
from taskq_lib.aws.frames import TIME, typed
from taskq_lib.aws.stack import Stack
from taskq_worker.contract import BreakerState, breaker_key, task_types

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
    current: list[dict[str, Any]] = []
    transitions: list[dict[str, Any]] = []
    for item in status.items(stack, list(kinds)):
        row, changes = _rows(kinds[item["taskId"]], item)
        current += row
        transitions += changes
    return Breakers(
        _frame(current, CURRENT_COLUMNS, "task_type"),
        _frame(transitions, TRANSITION_COLUMNS, "at"),
    )


def _rows(kind: str, item: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return an item's row and those of its changes; none of an item that somebody else has written under its key."""
    try:
        changes = [
            {name: change.get(name) for name in ("at", "state")}
            | {"task_type": kind, "n_attempts": change.get("n"), "n_failed": change.get("failed")}
            for change in item["transitions"]
        ]
        row = {
            "task_type": kind,
            "state": BreakerState(item["state"]),
            "since": changes[-1]["at"],
            "n_attempts": item["n"],
            "n_failed": item["failed"],
            "probe_at": item.get("probeAt"),
        }
        _frame([row], CURRENT_COLUMNS, "task_type")
        _frame(changes, TRANSITION_COLUMNS, "at")
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return [], []
    return [row], changes


def _frame(rows: list[dict[str, Any]], columns: dict[str, Any], order: str) -> pd.DataFrame:
    values = {name: typed([row[name] for row in rows], name, dtype) for name, dtype in columns.items()}
    return pd.DataFrame(values).sort_values(order, ignore_index=True)
