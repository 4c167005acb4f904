"""`summary.md`: what a report says, for the page of a CI job or a chat message."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from taskq_lib.report import summary, words
from taskq_lib.report.summary import Tone

#: A mark before each answer; their shapes differ, so that no colour is needed.
MARKS = {Tone.PLAIN: "·", Tone.GOOD: "✓", Tone.CAUTION: "!", Tone.BAD: "✗"}
_MAX_CHARS = 300
#: Between the characters that would make a mention, a reference or an address, and what follows: it has no width.
_JOINER = "\u2060"


def page(run_id: str, results: Mapping[str, Any]) -> str:
    """Return the summary as Markdown: one answer a paragraph, what goes with it below."""
    found = summary.of(results)
    lines = [f"# {MARKS[found.tone]} Queue report {escaped(run_id)}", "", f"{escaped(found.headline)}", ""]
    for answer in found.answers:
        lines.append(f"{MARKS[answer.tone]} **{answer.question}** {escaped(answer.short)}")
        lines += [f"- {escaped(note.text)}{' ' + quoted(note.quoted) if note.quoted else ''}" for note in answer.more]
        lines.append("")
    where = f"Target {quoted(str(results.get('target')))}, {words.utc(results.get('started_at'))} UTC."
    return "\n".join([*lines, f"{where} The whole report is index.html beside this.", ""])


def escaped(text: str) -> str:
    """Return a text that reads in Markdown as it is: no markup, no link, no mention, one line."""
    text = re.sub(r"([\\`*_\[\]<>|~])", r"\\\1", visible(text)).replace("&", "&amp;")
    return re.sub(r"([@#]|(?i:www)(?=\.)|:(?=//))", rf"\1{_JOINER}", text)


def quoted(text: str) -> str:
    """Return a text from outside as a span of code, in which nothing has a meaning; cut where it is long."""
    shown = visible(text[:_MAX_CHARS]).replace("`", "'").strip()
    return f"`{shown}`" + ("..." if len(text) > _MAX_CHARS else "") if shown else ""


def visible(text: str) -> str:
    r"""Return a text of one line in which what cannot be seen is spelt out, such as \x1b or \u202e."""
    shown = (
        char if char == " " or unicodedata.category(char)[0] not in "CZ" else char.encode("unicode_escape").decode()
        for char in text
    )
    return "".join(shown)
