"""When a task is due, as a person writes it: a time with its zone, or a length of time from now."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from taskq_lib.errors import BadInput

#: A longer plan is more often a slip in the year than meant.
MAX_AHEAD = timedelta(days=365)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(?P<zone>Z|[+-]\d\d:?\d\d)?", re.ASCII)
_LENGTH = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def read_time(text: str, now: datetime) -> datetime:
    """Read an ISO 8601 time with its zone, such as 2026-12-01T08:00:00Z or 2026-12-01T09:00+01:00; returns it in UTC.

    Raises `BadInput` where it is none, has no zone, is not after `now`, or is over a year ahead.
    """
    found = _TIME.fullmatch(text)
    try:
        when = datetime.fromisoformat(text) if found else None
        if found and when and found["zone"]:
            return check(when.astimezone(UTC), now)
    except (ValueError, OverflowError):
        when = None
    if when is None:
        raise BadInput(f"{text[:100]!r} is not a time; write it as 2026-12-01T08:00:00Z.")
    raise BadInput(f"{text!r} has no time zone; end it with Z (UTC) or an offset such as +01:00.")


def read_length(text: str, now: datetime) -> datetime:
    """Read a length of time from `now`: a number and s, m, h or d, such as 90s or 1.5h; returns its end, in UTC.

    Raises `BadInput` where it is none, is 0, or is over a year.
    """
    found = _LENGTH.fullmatch(text)
    if not found:
        raise BadInput(f"{text[:100]!r} is not a length of time; write a number and s, m, h or d, such as 90s or 2h.")
    try:
        length = timedelta(**{_UNITS[found[2]]: float(found[1])})
    except OverflowError:
        length = timedelta.max
    if not length:
        raise BadInput(f"{text!r} is no time from now; leave it out to send the task at once.")
    if length > MAX_AHEAD:
        raise BadInput(f"{text!r} is over a year; a task can be scheduled {MAX_AHEAD.days} days ahead at most.")
    return now + length


def check(when: datetime, now: datetime) -> datetime:
    """Return `when`; raises `BadInput` where it has no zone, is not after `now`, or is over a year ahead."""
    if when.tzinfo is None:
        raise BadInput(f"The time {when.isoformat()} has no time zone.")
    if when <= now:
        raise BadInput(
            f"{_shown(when)} is not in the future; it is {_shown(now)} now.",
            "Correct the time, or leave it out to send the task at once; nothing was sent.",
        )
    if when > now + MAX_AHEAD:
        raise BadInput(f"{_shown(when)} is over a year ahead; a task can be scheduled {MAX_AHEAD.days} days ahead.")
    return when


def _shown(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
