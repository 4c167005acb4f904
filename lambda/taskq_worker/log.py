"""Structured log lines: one JSON object a line, with a stable `event` name and the data beside it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_bound: dict[str, Any] = {}
#: Lines that wait to be written together; None where each is written at once.
_gathered: list[str] | None = None
_encode = json.JSONEncoder(default=str).encode


def bind(**data: Any) -> None:
    """Say what every further line of this process holds besides, such as the request id; replaces what was said."""
    _bound.clear()
    _bound.update(data)


def log(event: str, level: str = "INFO", **data: Any) -> None:
    """Write one line; `event` is a stable identifier such as `taskq.attempt`, and `None` values are left out.

    Written to standard output rather than through `logging`: a line that is JSON already is taken as it is by
    CloudWatch Logs, with the function's log format JSON or not, and reads the same on every engine.
    """
    line = {"event": event, "level": level, "time": round(time.time(), 3), **_bound, **data}
    text = _encode({name: value for name, value in line.items() if value is not None})
    if _gathered is None:
        _write([text])
    else:
        _gathered.append(text)


@contextmanager
def together() -> Iterator[None]:
    """Write the lines of this block at its end, in one go: a write costs more than a line does.

    Nothing that may end the process belongs into the block.
    """
    global _gathered  # noqa: PLW0603 - the function works one batch at a time
    lines: list[str] = []
    _gathered = lines
    try:
        yield
    finally:
        _gathered = None
        _write(lines)


def _write(lines: list[str]) -> None:
    if lines:
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
