"""Frames for tests, typed as the kit types them: single rows written by hand, and whole runs made up from a seed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from taskq_lib.analysis import STATES

#: The instant from which `at` counts.
T0 = pd.Timestamp("2026-11-24T02:00:00Z")

_UTC = "datetime64[us, UTC]"
_MANIFEST: dict[str, Any] = {"task_id": "str", "task_type": "category", "priority": "Int8"}
_TASKS: dict[str, Any] = {
    **_MANIFEST,
    "run_id": "str",
    "state": pd.CategoricalDtype(list(STATES), ordered=True),
    **dict.fromkeys(["n_attempts", "n_duplicates"], "Int32"),
    **dict.fromkeys(["reason", "error_type", "error", "result"], "str"),
    **dict.fromkeys(
        ["enqueued_at", "sent_at", "first_started_at", "last_started_at", "finished_at", "updated_at"], _UTC
    ),
}
_ATTEMPTS: dict[str, Any] = {
    **_MANIFEST,
    "run_id": "str",
    "attempt": "Int32",
    **dict.fromkeys(["received_at", "started_at", "finished_at"], _UTC),
    "outcome": pd.CategoricalDtype(["completed", "failed", "lost"]),
    **dict.fromkeys(["error_type", "error", "request_id"], "str"),
    "cold_start": "boolean",
}
_DEAD: dict[str, Any] = dict.fromkeys(["message_id", "task_id", "run_id", "reason", "error_type", "error"], "str")

_COMMON = {"run_id": "run-1", "task_type": "SEND_EMAIL", "priority": 5}

#: Of each task type: the median of its processing time in seconds, and the share of its attempts that fail.
_TYPES = {"IMAGE_RESIZE": (1.2, 0.03), "PROCESS_DATA": (0.6, 0.12), "SEND_EMAIL": (0.15, 0.35)}


class Run(NamedTuple):
    """The four frames of one run."""

    manifest: pd.DataFrame
    tasks: pd.DataFrame
    attempts: pd.DataFrame
    dead: pd.DataFrame


def at(seconds: float) -> pd.Timestamp:
    """Give the instant `seconds` after `T0`."""
    return T0 + pd.Timedelta(microseconds=round(seconds * 1e6))


def manifest_frame(*task_ids: str) -> pd.DataFrame:
    """Make a manifest of these tasks."""
    return _frame(_MANIFEST, [_COMMON | {"task_id": task_id} for task_id in task_ids])


def tasks_frame(*rows: Mapping[str, Any]) -> pd.DataFrame:
    """Make a `tasks` frame; what a row does not give is a completed task of one attempt without any time."""
    defaults = _COMMON | {"state": "completed", "n_attempts": 1, "n_duplicates": 0}
    return _frame(_TASKS, [defaults | {"task_id": f"task-{i}"} | dict(row) for i, row in enumerate(rows)])


def attempts_frame(*rows: Mapping[str, Any]) -> pd.DataFrame:
    """Make an `attempts` frame; what a row does not give is a completed first attempt without any time."""
    defaults = _COMMON | {"attempt": 1, "outcome": "completed", "cold_start": False}
    return _frame(_ATTEMPTS, [defaults | {"task_id": f"task-{i}"} | dict(row) for i, row in enumerate(rows)])


def dead_frame(*rows: Mapping[str, Any]) -> pd.DataFrame:
    """Make an inventory of the dead-letter queue."""
    return _frame(_DEAD, [{"message_id": f"message-{i}"} | dict(row) for i, row in enumerate(rows)])


def synthetic_run(
    n: int,
    *,
    seed: int = 0,
    types: tuple[str, ...] = tuple(_TYPES),
    spread: float = 0.6,
    failing: float = 1.0,
    open_share: float = 0.0,
) -> Run:
    """Make up a run of `n` tasks that are sent at about 50 a second to a function that starts about 45 a second.

    `spread` is the sigma of the log-normal processing times (above 1.5 their tail is heavy), `failing` multiplies the
    share of attempts that fail (100 fails them all), and of the tasks a share `open_share`, the last, is not final.
    """
    rng = np.random.default_rng(seed)
    kind = rng.integers(len(types), size=n)
    median, p_fail = np.array([_TYPES.get(name, (0.5, 0.1)) for name in types]).T
    sent_s = np.cumsum(rng.exponential(1 / 50, n))
    first_s = np.maximum.accumulate(sent_s - np.arange(n) / 45) + np.arange(n) / 45 + rng.exponential(0.05, n)
    processing_s = rng.lognormal(np.log(median[kind]), spread, (3, n)).T
    delay_s = rng.uniform(0, [0, 10, 20], (n, 3))
    started_s = first_s[:, None] + np.cumsum(delay_s, axis=1) + np.cumsum(processing_s, axis=1) - processing_s
    fails = rng.random((n, 3)) < np.minimum(1, p_fail[kind] * failing)[:, None]
    n_attempts = np.where(fails[:, 0], np.where(fails[:, 1], 3, 2), 1)
    common = {
        "task_id": pd.Series([f"task-{i:06d}" for i in range(n)], dtype="str"),
        "run_id": pd.Series(["run-1"] * n, dtype="str"),
        "task_type": pd.Series(pd.Categorical.from_codes(kind, pd.Index(types))),
        "priority": pd.Series(rng.integers(10, size=n), dtype="Int8"),
    }
    attempts = _synthetic_attempts(common, n_attempts, fails, started_s, started_s + processing_s)
    tasks = _synthetic_tasks(common, sent_s, attempts)
    n_open = round(n * open_share)
    tasks = _reopen(tasks, n_open)
    attempts = attempts[attempts["task_id"].isin(tasks["task_id"].iloc[: n - n_open])].reset_index(drop=True)
    dead = tasks[tasks["state"] == "dead_lettered"].assign(message_id=lambda frame: "m-" + frame["task_id"])
    return Run(tasks[list(_MANIFEST)], tasks, attempts, dead[list(_DEAD)].reset_index(drop=True))


def _frame(dtypes: Mapping[str, Any], rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Type rows of plain values column by column; a value that is not given is missing."""
    columns = {name: pd.Series([row.get(name) for row in rows], dtype="object") for name in dtypes}
    # A category takes the type of its values, so the values are text first, even where there are none.
    return pd.DataFrame(
        {name: column.astype("str" if dtypes[name] == "category" else dtypes[name]) for name, column in columns.items()}
    ).astype(dtypes)


def _times(seconds: NDArray[np.float64]) -> "pd.Series[pd.Timestamp]":
    """Turn seconds after `T0` into timestamps."""
    return pd.Series(pd.to_datetime(T0.value // 1000 + np.round(seconds * 1e6).astype("int64"), unit="us", utc=True))


def _synthetic_attempts(
    common: Mapping[str, pd.Series],
    n_attempts: NDArray[np.int64],
    fails: NDArray[np.bool_],
    started_s: NDArray[np.float64],
    finished_s: NDArray[np.float64],
) -> pd.DataFrame:
    """Lay the attempts that took place out as rows, in the order of their tasks; some of the failures left no trace."""
    task, number = np.nonzero(np.arange(3) < n_attempts[:, None])
    failed = pd.Series(fails[task, number])
    lost = failed & (np.arange(len(task)) % 20 == 7)
    frame = pd.DataFrame({name: column.iloc[task].reset_index(drop=True) for name, column in common.items()})
    frame["attempt"] = number + 1
    frame["started_at"] = frame["received_at"] = _times(started_s[task, number])
    frame["finished_at"] = _times(finished_s[task, number]).where(~lost)
    frame["outcome"] = failed.map({True: "failed", False: "completed"}).mask(lost, "lost")
    frame["error_type"] = pd.Series("TimeoutError", index=frame.index, dtype="str").where(failed & ~lost)
    frame["error"] = ("no answer to " + frame["task_id"]).where(failed & ~lost)
    frame["request_id"] = "request-" + frame["task_id"]
    frame["cold_start"] = frame.index < 5
    return frame.astype(_ATTEMPTS)


def _synthetic_tasks(
    common: Mapping[str, pd.Series], sent_s: NDArray[np.float64], attempts: pd.DataFrame
) -> pd.DataFrame:
    """Sum the attempts of each task up, as the status table does."""
    by_task = attempts.groupby("task_id", sort=False)
    last = attempts.drop_duplicates("task_id", keep="last").reset_index(drop=True)
    dead = last["outcome"] != "completed"
    tasks = pd.DataFrame(common)
    tasks["state"] = dead.map({True: "dead_lettered", False: "completed"})
    tasks["n_attempts"] = by_task.size().to_numpy()
    tasks["n_duplicates"] = (tasks.index % 97 == 0).astype("int32")
    tasks["reason"] = pd.Series("max_attempts", index=tasks.index, dtype="str").where(dead)
    tasks[["error_type", "error"]] = last[["error_type", "error"]]
    tasks["result"] = pd.Series("{}", index=tasks.index, dtype="str").where(~dead)
    tasks["enqueued_at"], tasks["sent_at"] = _times(sent_s - 0.01), _times(sent_s)
    tasks["first_started_at"] = by_task["started_at"].first().to_numpy()
    tasks["last_started_at"] = last["started_at"]
    # A lost attempt leaves no finish; the function gives the task up when it finds the lease expired.
    tasks["finished_at"] = last["finished_at"].fillna(last["started_at"] + pd.Timedelta(seconds=30))
    tasks["updated_at"] = tasks["finished_at"]
    return tasks.astype(_TASKS)


def _reopen(tasks: pd.DataFrame, n_open: int) -> pd.DataFrame:
    """Take the last `n_open` tasks back to before their end, every second one to before its start."""
    rows = tasks.index[len(tasks) - n_open :]
    for state, of_state in (("processing", rows[::2]), ("pending", rows[1::2])):
        tasks.loc[of_state, "state"] = state
        tasks.loc[of_state, ["reason", "error_type", "error", "result"]] = None
        tasks.loc[of_state, ["finished_at", "updated_at"]] = pd.NaT
    tasks.loc[rows[1::2], ["first_started_at", "last_started_at"]] = pd.NaT
    return tasks
