"""`summary.md` says what the results say, and whatever they hold of task data stays text."""

import mistune
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskq_lib.report import markdown
from tests.unit.markup import Html
from tests.unit.results import GOOD, LEDGER

RENDER = mistune.create_markdown(escape=False, plugins=["strikethrough", "table", "url", "task_lists", "footnotes"])
HOSTILE = [
    "<script>alert(1)</script>",
    "[a](javascript:alert(1)) ![b](https://example.com/b.png)",
    "https://example.com/track www.example.com a@example.com",
    "| a | b |\n|---|---|\n| c | d |",
    "`code` ``` **bold** ~~gone~~ # heading\n- item\n1. item\n> quote",
    "@everyone @here #12 <@U123> <!channel>",
    "\x1b[31mred\x1b[0m\u202eesrever\u0000\r\n\n---\n",
    "&lt;b&gt; &amp; \\",
    "{{ 7 * 7 }} ${x} <%= x %>",
]


def rendered(text: str) -> Html:
    """Render Markdown as a forge does it, with HTML let through, and read what comes of it."""
    return Html(str(RENDER(text)))


def page(text: str) -> str:
    """Write the summary of a run of which every free text is this one."""
    failed = LEDGER | {"completed": 499, "dead_lettered": 1, "lost_ids": {"total": 1, "ids": [text]}}
    sections = {
        "failure": text,
        "ledger": failed,
        "breakers": {text: "open"},
        "signatures": [{"signature": text, "reason": text, "n_tasks": 1}],
        "compare": {"verdict": "fail", "says": text, "changed": [{"what": text}]},
        "changes": [text],
        "slowest": {"says": text},
        "objectives": [{"task_type": text, "share": 0.9, "within_s": 3.0, "attained": 0.5, "verdict": "missed"}],
        "target": text,
    }
    return markdown.page("r_1", GOOD | sections)


PLAIN = rendered(page("x"))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    """No link, picture, markup, mention or heading comes of an id or an error text, and no line is broken by it."""
    source = page(text)
    assert [tag for tag, _ in rendered(source).elements] == [tag for tag, _ in PLAIN.elements]
    assert source.count("\n") == page("x").count("\n")
    outside = "".join(source.split("`")[::2])
    assert not [mark for mark in ("@e", "@h", "@a", "#1", "://", "www.") if mark in outside]


@given(text=st.text(max_size=80))
@example(text="*")
@example(text="\\`")
def test_any_text_reads_as_it_is(text: str) -> None:
    """Whatever a text holds, it is rendered as that text, invisible characters spelt out, with no element more."""
    found = rendered(f"begin {markdown.escaped(text)} end")
    assert [tag for tag, _ in found.elements] == ["p"]
    assert found.text.replace("\u2060", "").strip() == f"begin {markdown.visible(text)} end"


@given(text=st.text(min_size=1, max_size=400))
def test_any_quoted_text_is_one_span(text: str) -> None:
    """What is quoted is one span of code, cut where it is long."""
    shown = markdown.quoted(text)
    assert "\n" not in shown
    if shown:
        assert [tag for tag, _ in rendered(f"- a {shown}").elements] == ["ul", "li", "code"]


def test_the_summary_reads_well() -> None:
    """Each question has its line with a mark and the answer, and what goes with it below."""
    lines = markdown.page("r", GOOD).splitlines()
    assert lines[0] == "# ✓ Queue report r"
    assert lines[2] == "All is in order."
    assert "✓ **Did it work?** Yes: all 500 tasks completed." in lines
    assert "- 500 submitted = 500 completed + 0 dead-lettered + 0 open + 0 lost; 0 duplicate deliveries." in lines
