"""The templates of all pages: what they are given is escaped, and what a browser may do with them is little."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

import jinja2

from taskq_lib.report import markdown, summary, words

_TEMPLATES = Path(__file__).parent / "templates"
#: Nothing is fetched and nothing runs, whatever a page holds; styles and pictures are within it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


@cache
def environment() -> jinja2.Environment:
    """Return the templates; in them what is missing is empty, however deep."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.ChainableUndefined
    )
    filters = (
        words.utc, words.seconds, words.percent, words.count, words.code, words.figure, words.change,
        words.between, words.selection, words.counts, summary.objective,
    )  # fmt: skip
    found.filters |= {function.__name__: function for function in filters}
    found.globals |= {"marks": markdown.MARKS, "policy": _POLICY}
    return found


def script(name: str) -> tuple[str, str]:
    """Return a script of the templates, and the policy that lets a page run this one, known by its hash, alone."""
    text = (_TEMPLATES / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return text, f"{_POLICY}; script-src 'sha256-{digest}'"
