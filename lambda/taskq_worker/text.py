"""Long text is cut with a mark, never silently."""

from __future__ import annotations

import json
from typing import Any

#: A usual status item stays under 1 KB, one write unit; these bounds keep an unusual one affordable.
MAX_ERROR_CHARS = 500
MAX_RESULT_CHARS = 4_000


def cut(text: str, limit: int = MAX_ERROR_CHARS) -> str:
    """Return at most about `limit` characters of `text`, with a mark that says how many there were."""
    # A lone surrogate cannot be sent to AWS; `replace` keeps the rest readable.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else f"{text[:limit]}... [cut, {len(text):,} characters]"


def result_json(result: Any) -> str:
    """Write a task's result as JSON; one that is too long becomes an object that says so and holds its beginning."""
    text = json.dumps(result, separators=(",", ":"))
    if len(text) <= MAX_RESULT_CHARS:
        return text
    return json.dumps({"cut": True, "n_chars": len(text), "head": text[:MAX_RESULT_CHARS]})
