"""What a report says in words: durations, shares, counts and the ledger, for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from taskq_lib.analysis.compare import UNITS, signed


def seconds(value: object) -> str:
    """Write a duration in seconds: three significant digits and a unit; `-` where it is no number."""
    if not is_number(value):
        return "-"
    if 0 < abs(value) < 0.9995:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} s" if abs(value) < 999.5 else f"{value:,.0f} s"


def percent(value: object) -> str:
    """Write a share in percent; `-` where it is no number."""
    return f"{value:.2%}" if is_number(value) else "-"


def count(value: object) -> str:
    """Write a number with commas; whatever is no number as it stands."""
    return f"{value:,}" if is_number(value) else str(value)


def figure(value: object, unit: object = "") -> str:
    """Write a figure by its unit: `s`, `share` or another one, such as `1/s`; `-` where it is no number."""
    if unit in {"s", "share"}:
        return seconds(value) if unit == "s" else percent(value)
    rate = "/s" if unit == "1/s" else ""
    return f"{value:,.4g}{' ' * bool(rate)}{rate}" if is_number(value) else "-"


def change(value: object, unit: object = "") -> str:
    """Write a difference with its sign: in per cent of the baseline, of a `share` in percentage points."""
    return f"{signed(value)} {UNITS.get(str(unit), '%')}" if is_number(value) else "-"


def between(bounds: object, write: Any = seconds) -> str:
    """Write an interval, `low to high`, each by `write`; empty where it is none."""
    if not isinstance(bounds, Sequence) or len(bounds) != 2 or not all(map(is_number, bounds)):
        return ""
    return f"{write(bounds[0])} to {write(bounds[1])}"


def code(value: object) -> str:
    """Write a parameter's value as a person would give it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def utc(text: object) -> str:
    """Write an ISO 8601 time to the second; empty where there is none."""
    return text[:19].replace("T", " ") if isinstance(text, str) else ""


def account(ledger: Mapping[str, Any]) -> str:
    """Write a ledger of `results.json` as one line."""
    sides = ("completed", "dead_lettered", "open", "lost")
    parts = " + ".join(f"{count(ledger.get(side, '?'))} {side.replace('_', '-')}" for side in sides)
    return f"{count(ledger.get('submitted', '?'))} submitted = {parts}; {duplicates(ledger)}"


def duplicates(ledger: Mapping[str, Any]) -> str:
    """Write how many deliveries were duplicates."""
    n = ledger.get("duplicates", "?")
    return f"{count(n)} duplicate deliver{'y' if n == 1 else 'ies'}"


def tasks(n: object) -> str:
    """Write a number of tasks."""
    return f"{count(n)} task{'' if n == 1 else 's'}"


def selection(choice: Mapping[str, Any]) -> str:
    """Say in words what a redrive selected."""
    given = {name.removeprefix("select_"): value for name, value in choice.items() if name.startswith("select_")}
    return ", ".join(f"{name} {value}" for name, value in given.items() if value and value is not True) or (
        "all" if given.get("all") else "none"
    )


def counts(found: Mapping[str, int] | None) -> str:
    """Write counts that are not zero; what was deleted from the dead-letter queue was sent before."""
    names = {"deleted": "sent", "sent": "sent, not deleted yet"}
    return ", ".join(f"{n:,} {names.get(name, name)}" for name, n in (found or {}).items() if n) or "-"


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value of `results.json` is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)
