"""Edits of message bodies, written as JSON merge patches (RFC 7386): members replace, objects merge, null removes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from taskq_lib.errors import BadInput
from taskq_worker.contract import InvalidMessage, parse_body

Patch = Mapping[str, Any]


def read_edit(text: str) -> Patch:
    """Read an edit; an empty text is none. Raises `BadInput` unless it is a JSON object that leaves `task_id` alone."""
    try:
        patch = json.loads(text or "{}", parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        hint = 'Write a JSON merge patch, such as {"data": {"width": 100}}.'
        raise BadInput(f"edit is not JSON: {error}.", hint) from error
    if not isinstance(patch, dict):
        raise BadInput("edit must be a JSON object, which is merged into the message body.")
    if "task_id" in patch:
        raise BadInput(
            "edit must not change task_id: the task's status is kept under it.",
            "Submit the task under a new id instead (`taskq submit`).",
        )
    return patch


def merged(document: Any, patch: Any) -> Any:
    """Return `document` with `patch` applied, after the pseudo-code of RFC 7386, section 2; neither is changed."""
    if not isinstance(patch, Mapping):
        return patch
    found = dict(document) if isinstance(document, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


def edited(body: str, patch: Patch) -> str:
    """Return a message body with `patch` applied, as compact ASCII JSON; without a patch exactly as it was.

    Raises `InvalidMessage` where the outcome breaks the contract. Fields that the contract does not know are kept.
    """
    if not patch:
        parse_body(body)
        return body
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(f"the body is not JSON, so it cannot be edited: {error or 'nested too deep'}") from error
    if not isinstance(document, dict):
        raise InvalidMessage(f"the body must be a JSON object, not {type(document).__name__}")
    try:
        text = json.dumps(merged(document, patch), separators=(",", ":"))
    except RecursionError as error:
        raise InvalidMessage("the edited body is nested too deep") from error
    parse_body(text)
    return text


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
