"""What lines of the function's log say, as typed frames: attempts, and the platform's reports of invocations.

Any text may stand in a log: what is not one of the lines below, or is one with a value that cannot be, is no row.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from taskq_lib.aws.frames import TIME, typed
from taskq_worker.contract import Outcome

#: lines: one row a log event; `at` is the platform's time of it, `stream` one execution environment's.
LINE_COLUMNS: dict[str, Any] = {"at": TIME, "stream": "str", "message": "str"}
#: attempts as the log has them: column -> (key of the `taskq.attempt` line, dtype)
ATTEMPT_COLUMNS: dict[str, tuple[str, Any]] = {
    "task_id": ("taskId", "str"),
    "run_id": ("runId", "str"),
    "task_type": ("taskType", "str"),
    "attempt": ("attempt", "Int32"),
    "outcome": ("outcome", "category"),
    "processing_s": ("processingS", "float64"),
    "logged_at": ("time", TIME),
    "n_receives": ("receiveCount", "Int32"),
    "reason": ("reason", "str"),
    "error_type": ("errorType", "str"),
    "error": ("error", "str"),
    "stack_trace": ("stackTrace", "str"),
    "request_id": ("requestId", "str"),
}
#: reports: one row an invocation. What a platform does not say is missing; the embedded engine says of memory "0 MB",
#: which it did not measure, and nothing of how long a cold start took.
REPORT_COLUMNS: dict[str, Any] = {
    "request_id": "str",
    "ended_at": TIME,
    "duration_s": "float64",
    "billed_s": "float64",
    "memory_mb": "Int32",
    "max_memory_mb": "Int32",
    "init_s": "float64",
    "status": "str",
    "stream": "str",
}

_INT32_MAX = 2**31 - 1
#: Unix seconds of the year 2262: what a timestamp can hold.
_MAX_UNIX_S = 9.2e9
_OUTCOMES = [str(outcome) for outcome in Outcome]
_TEXTS = ("runId", "taskType", "reason", "errorType", "error", "stackTrace", "requestId")
_REQUEST_ID = r"[0-9a-fA-F-]{8,64}"
_REPORT = re.compile(rf"REPORT RequestId: ({_REQUEST_ID})\s")
#: The fields of the text form; "Duration" ends the names of two others, so a tab or the start stands before it.
_FIELDS = {
    name: re.compile(rf"(?:^|\t|\s){re.escape(words)}: (\d{{1,12}}(?:\.\d{{1,6}})?) {unit}\b")
    for name, words, unit in (
        ("billedDurationMs", "Billed Duration", "ms"),
        ("memorySizeMB", "Memory Size", "MB"),
        ("maxMemoryUsedMB", "Max Memory Used", "MB"),
        ("initDurationMs", "Init Duration", "ms"),
    )
}
_DURATION = re.compile(rf"RequestId: {_REQUEST_ID}\s+Duration: (\d{{1,12}}(?:\.\d{{1,6}})?) ms\b")
_STATUS = re.compile(r"\tStatus: (\w{1,40})")


def lines_frame(rows: Sequence[tuple[int, str, str]]) -> pd.DataFrame:
    """Make the frame of lines from (Unix milliseconds, stream, message); columns and dtypes are `LINE_COLUMNS`."""
    at, streams, messages = zip(*rows, strict=True) if rows else ((), (), ())
    return pd.DataFrame(
        {
            "at": pd.to_datetime(pd.array(at, dtype="Int64"), unit="ms", utc=True).astype(TIME),
            "stream": pd.array(streams, dtype="str"),
            "message": pd.array(messages, dtype="str"),
        }
    )


def objects(lines: pd.DataFrame, event: str) -> Iterator[dict[str, Any]]:
    """Yield the object of each line that is our own, of this `event`, such as `taskq.attempt`."""
    for message in lines["message"]:
        if event in message and (line := read_object(message)) is not None and line.get("event") == event:
            yield line


def read_object(message: str) -> dict[str, Any] | None:
    """Read one JSON object; None where it is none, or what ours never is: NaN, endless depth, half a character."""
    if not message.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(message, parse_constant=_refuse)
        if "\\ud" in message.lower():
            # Half of a surrogate pair is text that no column can hold.
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def attempts(lines: pd.DataFrame) -> pd.DataFrame:
    """Return one row an attempt that the log tells of; columns and dtypes are `ATTEMPT_COLUMNS`.

    An attempt that vanished with its worker has no line.
    """
    found = [line for line in objects(lines, "taskq.attempt") if _is_attempt(line)]
    return pd.DataFrame(
        {
            column: typed([line.get(key) for line in found], column, dtype)
            for column, (key, dtype) in ATTEMPT_COLUMNS.items()
        }
    )


def reports(lines: pd.DataFrame) -> pd.DataFrame:
    """Return one row an invocation from the platform's reports; columns and dtypes are `REPORT_COLUMNS`.

    Two forms are read: `REPORT RequestId: ...` of the text format, and the record `platform.report` of the JSON format.
    """
    rows: list[tuple[int, str, Mapping[str, Any]]] = []
    for position, message in enumerate(lines["message"]):
        if (row := report_of(message)) is not None:
            rows.append((position, *row))
    of = lines.iloc[[position for position, _id, _values in rows]]
    values = [found for _position, _id, found in rows]
    seconds = {"duration_s": "durationMs", "billed_s": "billedDurationMs", "init_s": "initDurationMs"}
    columns: dict[str, Any] = {
        "request_id": pd.array([request_id for _position, request_id, _values in rows], dtype="str"),
        "ended_at": of["at"].array,
        **{name: pd.array([_scaled(v.get(key)) for v in values], dtype="float64") for name, key in seconds.items()},
        "memory_mb": pd.array([_whole(v.get("memorySizeMB")) for v in values], dtype="Int32"),
        # No process uses none: a platform that says so did not measure.
        "max_memory_mb": pd.array([_whole(v.get("maxMemoryUsedMB")) or None for v in values], dtype="Int32"),
        "status": pd.array([v.get("status") for v in values], dtype="str"),
        "stream": of["stream"].array,
    }
    return pd.DataFrame({name: columns[name] for name in REPORT_COLUMNS})


def report_of(message: str) -> tuple[str, dict[str, Any]] | None:
    """Read one platform report: the request's id, and what is said of it under the names of the JSON format."""
    if "platform.report" in message:
        return _json_report(message)
    head = _REPORT.match(message)
    if head is None:
        return None
    duration = _DURATION.search(message)
    found: dict[str, Any] = {"durationMs": float(duration[1])} if duration else {}
    for name, pattern in _FIELDS.items():
        if match := pattern.search(message):
            found[name] = float(match[1])
    if status := _STATUS.search(message):
        found["status"] = status[1]
    return head[1], found


def _json_report(message: str) -> tuple[str, dict[str, Any]] | None:
    line = read_object(message)
    record = line.get("record") if line and line.get("type") == "platform.report" else None
    if not isinstance(record, dict) or not isinstance(record.get("requestId"), str):
        return None
    metrics = record.get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    found = {name: value for name, value in metrics.items() if _is_number(value) and 0 <= value < 1e12}
    status = record.get("status")
    return record["requestId"], found | ({"status": status} if isinstance(status, str) else {})


def _is_attempt(line: Mapping[str, Any]) -> bool:
    """Say whether every value of the line is one that the function can have written."""
    return (
        isinstance(line.get("taskId"), str)
        and _is_count(line.get("attempt"))
        and line.get("outcome") in _OUTCOMES
        and all(line.get(name) is None or isinstance(line[name], str) for name in _TEXTS)
        and all(_is_number(line.get(name)) for name in ("time", "processingS"))
        and abs(line["time"]) < _MAX_UNIX_S
        and (line.get("receiveCount") is None or _is_count(line["receiveCount"]))
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _INT32_MAX


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _scaled(milliseconds: float | None) -> float:
    return math.nan if milliseconds is None else milliseconds / 1000


def _whole(value: float | None) -> int | None:
    return None if value is None or value > _INT32_MAX else round(value)


def _refuse(constant: str) -> float:
    raise ValueError(constant)
