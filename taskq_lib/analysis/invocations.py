"""What the platform says of invocations: cold starts, memory, the slowest; and where failed attempts were raised."""

import re
from typing import Any

import pandas as pd

from taskq_lib.analysis import number, require
from taskq_lib.analysis.intervals import wilson
from taskq_lib.analysis.signatures import signed

_JOINED: dict[str, Any] = {
    "request_id": "str",
    "ended_at": "datetime64[us, UTC]",
    "duration_s": "float64",
    "init_s": "float64",
    "cold_start": "boolean",
    "memory_mb": "Int32",
    "max_memory_mb": "Int32",
    "n_tasks": "Int64",
    "n_failed": "Int64",
    "longest_s": "float64",
    "longest_task": "str",
    "status": "str",
}
#: What is taken from a report.
_SAID = ["ended_at", "duration_s", "init_s", "memory_mb", "max_memory_mb", "status"]
#: The last frame of a Python traceback: file, line, function.
_FRAME = re.compile(r'File "([^"\n]{1,500})", line (\d{1,7}), in (\S{1,200})')


def invocations(reports: pd.DataFrame, attempts: pd.DataFrame) -> pd.DataFrame:
    """Return one row an invocation, the slowest first: each that ran attempts of `attempts`, and each that was killed.

    Attempts are the status table's, `reports` the platform's. An attempt that is lost does not say in which invocation,
    so one that ran out of memory or time is known by its report alone, whose status is not success: it has no tasks
    here, and may be another run's of the same time.

    Columns: `request_id`, `ended_at`, `duration_s`, `init_s`, `memory_mb`, `max_memory_mb` and `status` from its report
    (missing where there is none, or it does not say); `cold_start` (by the report or, where that is silent, by the
    function's own note), `n_tasks`, `n_failed`, and the attempt that took longest: `longest_s`, `longest_task`.
    Raises `BadInput` for a missing column.
    """
    require(reports, "reports", "request_id", *_SAID)
    require(attempts, "attempts", "task_id", "request_id", "started_at", "finished_at", "outcome", "cold_start")
    known = attempts[attempts["request_id"].notna()]
    took = (known["finished_at"] - known["started_at"]).dt.total_seconds()
    rows = known.assign(took_s=took, failed=(known["outcome"] != "completed").fillna(value=False).astype("int64"))
    grouped = rows.groupby("request_id", sort=False)
    table = grouped.agg(
        n_tasks=("task_id", "size"),
        n_failed=("failed", "sum"),
        longest_s=("took_s", "max"),
        noted=("cold_start", "any"),
    )
    longest = rows.sort_values("took_s").drop_duplicates("request_id", keep="last").set_index("request_id")["task_id"]
    said = reports.drop_duplicates("request_id", keep="last").set_index("request_id")[_SAID]
    killed = said.index[said["status"].notna() & (said["status"] != "success")]
    table = table.reindex(table.index.union(killed, sort=False).rename("request_id")).join(said)
    table = table.assign(longest_task=longest).fillna({"n_tasks": 0, "n_failed": 0})
    table["cold_start"] = table["init_s"].notna() | table["noted"].astype("boolean").fillna(value=False).astype("bool")
    joined = table.reset_index()[list(_JOINED)].astype(_JOINED)
    return joined.sort_values("duration_s", ascending=False, na_position="last", ignore_index=True)


def cold_starts(invocations: pd.DataFrame) -> dict[str, float | int | None]:
    """Say what cold starts cost; durations in seconds, None where the platform does not say.

    `n_invocations`, `n_cold`, `share` with its 95 % interval `low`..`high` (Wilson), `init_median_s`, `init_max_s`, and
    the median duration of cold and of warm invocations (`cold_median_s`, `warm_median_s`). AWS's durations are without
    the initialisation; the embedded engine's are with it.
    """
    require(invocations, "invocations", "cold_start", "init_s", "duration_s")
    cold = invocations["cold_start"].fillna(value=False).astype("bool")
    interval = wilson(pd.Series([int(cold.sum())]), pd.Series([len(invocations)])).iloc[0]
    return {
        "n_invocations": len(invocations),
        "n_cold": int(cold.sum()),
        "share": number(interval["failure_rate"]),
        "low": number(interval["low"]),
        "high": number(interval["high"]),
        "init_median_s": number(invocations["init_s"].median()),
        "init_max_s": number(invocations["init_s"].max()),
        "cold_median_s": number(invocations.loc[cold, "duration_s"].median()),
        "warm_median_s": number(invocations.loc[~cold, "duration_s"].median()),
    }


def memory(invocations: pd.DataFrame) -> dict[str, float | int | str | None]:
    """Say how much of the function's memory was used: `memory_mb`, `used_mb` (the most), `free_share` and `says`.

    What the platform did not measure is None. A function that is short of memory is also short of CPU time.
    """
    require(invocations, "invocations", "memory_mb", "max_memory_mb")
    measured = invocations[invocations["max_memory_mb"].notna() & invocations["memory_mb"].notna()]
    if measured.empty:
        says = "the platform did not measure it"
        return {"memory_mb": None, "used_mb": None, "free_share": None, "says": says}
    fullest = int((measured["max_memory_mb"] / measured["memory_mb"]).to_numpy(dtype="float64").argmax())
    size, used = int(measured["memory_mb"].iloc[fullest]), int(measured["max_memory_mb"].iloc[fullest])
    free = 1 - used / size
    says = f"{used:,} of {size:,} MB used at most, {100 * free:.0f} % free"
    advice = "" if free >= 0.1 else "; nearly full: raise FunctionMemoryMb before it is killed"
    return {"memory_mb": size, "used_mb": used, "free_share": round(free, 4), "says": says + advice}


def stack_traces(attempts: pd.DataFrame) -> pd.DataFrame:
    """Group the failed attempts of the log by error signature, the commonest first.

    Columns: `signature`, `signature_id`, `n_attempts`, `raised_at` (the last frame of the newest trace: file, line and
    function), `last_at`, and `stack_trace`, the newest one; both missing where no trace was logged.
    Raises `BadInput` for a missing column.
    """
    require(attempts, "attempts", "outcome", "logged_at", "stack_trace")
    failed = signed(attempts[attempts["outcome"] == "failed"].sort_values("logged_at"), "outcome")
    grouped = failed.groupby("signature_id", sort=False)
    table = grouped.agg(
        signature=("signature", "first"),
        n_attempts=("task_id", "size"),
        last_at=("logged_at", "max"),
        stack_trace=("stack_trace", "last"),
    ).reset_index()
    table["raised_at"] = pd.array([raised_at(trace) for trace in table["stack_trace"]], dtype="str")
    columns = ["signature", "signature_id", "n_attempts", "raised_at", "last_at", "stack_trace"]
    return table.sort_values(["n_attempts", "signature"], ascending=[False, True], ignore_index=True)[columns]


def raised_at(trace: str | None) -> str | None:
    """Return the last frame of a Python traceback, such as `taskq_worker/execute.py:57 in _run`; None without one."""
    frames = _FRAME.findall(trace) if isinstance(trace, str) else []
    if not frames:
        return None
    path, line, function = frames[-1]
    return f"{'/'.join(path.split('/')[-2:])}:{line} in {function}"
