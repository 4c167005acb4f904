"""DynamoDB attribute values <-> Python values, without `Decimal`: numbers here are counts and Unix seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def to_attribute(value: Any) -> dict[str, Any]:
    """Write a Python value as a DynamoDB attribute value."""
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": str(value)}
    if isinstance(value, int | float):
        return {"N": repr(value)}
    if isinstance(value, Mapping):
        return {"M": {name: to_attribute(member) for name, member in value.items()}}
    return {"L": [to_attribute(member) for member in value]}


def from_attributes(item: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Read an item into Python values; numbers become `float` or, where they are whole, `int`."""
    return {name: _from_attribute(value) for name, value in item.items()}


def _from_attribute(value: Mapping[str, Any]) -> Any:
    kind, content = next(iter(value.items()))
    if kind == "N":
        return int(content) if content.lstrip("-").isdigit() else float(content)
    if kind == "M":
        return from_attributes(content)
    if kind == "L":
        return [_from_attribute(member) for member in content]
    return content
