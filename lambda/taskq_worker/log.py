"""Structured log lines: one JSON object a line, with a stable `event` name and the data beside it."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

_bound: dict[str, Any] = {}


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
    text = json.dumps({name: value for name, value in line.items() if value is not None}, default=str)
    print(text, file=sys.stdout, flush=True)
