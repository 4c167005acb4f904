"""The summary answers the same questions of every run, whatever its results hold or lack."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib.report import markdown, summary
from taskq_lib.report.summary import Answer, Tone
from tests.unit.results import GOOD, LEDGER

WORKED, SLOW, FAILED, LOST, COMPARED = range(5)


def answers(**sections: Any) -> tuple[Answer, ...]:
    """Sum up a good run with other sections; one that is None is missing."""
    return summary.of({name: value for name, value in (GOOD | sections).items() if value is not None}).answers


def told(answer: Answer) -> str:
    """Put an answer and all that goes with it in one text."""
    return " ".join([answer.short, *(f"{note.text} {note.quoted}".strip() for note in answer.more)])


def test_a_good_run_is_in_order() -> None:
    """Where all completed and nothing is lost, the headline says so, and no answer asks for a look."""
    found = summary.of(GOOD)
    assert found.headline == "All is in order."
    assert [answer.short for answer in found.answers] == [
        "Yes: all 500 tasks completed.",
        "Median 1.2 s (95 % interval 1.1 s to 1.3 s), p99 4 s (95 % interval 3.5 s to 5 s), from enqueued to finished.",
        "Nothing failed for good.",
        "No: every task is accounted for.",
        "Nothing to compare with yet.",
    ]


def test_where_the_slowest_spend_their_time_is_said() -> None:
    """What the latency part says of the slowest tasks and of the clocks goes with the latency."""
    says = {"slowest": {"says": "The slowest 1 % wait."}, "clocks": {"n_negative": 3, "says": "Clocks differ by 1 h."}}
    slow = answers(**says)[SLOW]
    assert "The slowest 1 % wait." in told(slow)
    assert "Clocks differ by 1 h." in told(slow)
    assert slow.tone is Tone.CAUTION
    assert "Clocks" not in told(answers(clocks={"n_negative": 0, "says": "Clocks differ."})[SLOW])


@pytest.mark.parametrize(
    ("sections", "headline", "tone"),
    [
        ({"state": "failed", "failure": "it broke"}, "Something is wrong: it stopped with an error.", Tone.BAD),
        ({"state": "interrupted"}, "Something is wrong: it was interrupted.", Tone.BAD),
        ({"state": "running"}, "Something is wrong: it has not ended.", Tone.BAD),
        ({"ledger": None}, "Worth a look: its tasks were not counted yet.", Tone.CAUTION),
        (
            {"ledger": LEDGER | {"submitted": 0, "completed": 0}},
            "Worth a look: nothing was submitted.",
            Tone.CAUTION,
        ),
        (
            {"ledger": LEDGER | {"completed": 0, "dead_lettered": 500}},
            "Something is wrong: none of 500 tasks completed.",
            Tone.BAD,
        ),
        (
            {"ledger": LEDGER | {"completed": 499, "dead_lettered": 1}},
            "Worth a look: 499 of 500 tasks completed, 1 failed for good.",
            Tone.CAUTION,
        ),
        (
            {"ledger": LEDGER | {"completed": 498, "lost": 2, "closed": False}},
            "Something is wrong: 2 tasks are lost.",
            Tone.BAD,
        ),
        (
            {"ledger": LEDGER | {"completed": 499, "open": 1, "closed": False}},
            "Something is wrong: 1 task is still open.",
            Tone.BAD,
        ),
        ({"compare": {"verdict": "fail"}}, "Something is wrong: worse than before.", Tone.BAD),
        ({"compare": {"verdict": "not enough data"}}, "All is in order.", Tone.GOOD),
        (
            {"compare": {"verdict": "fail"}, "state": "interrupted"},
            "Something is wrong: it was interrupted; worse than before.",
            Tone.BAD,
        ),
        ({"compare": {"verdict": "pass"}}, "All is in order.", Tone.GOOD),
        ({"compare": {"verdict": "no baseline"}}, "All is in order.", Tone.GOOD),
    ],
)
def test_the_gravest_answer_is_the_headline(sections: dict[str, Any], headline: str, tone: Tone) -> None:
    """A run that stopped, lost or failed tasks, or got worse, says so in its first sentence."""
    found = summary.of({name: value for name, value in (GOOD | sections).items() if value is not None})
    assert (found.headline, found.tone) == (headline, tone)


def test_an_empty_run_has_answers() -> None:
    """Of results that hold nothing, each question says that it is not known."""
    found = summary.of({})
    assert all(answer.tone is not Tone.GOOD for answer in found.answers)
    assert [answer.short.partition(":")[0] for answer in found.answers] == ["Not known"] * 4 + [
        "Nothing to compare with yet."
    ]


def test_all_open() -> None:
    """Where no task has ended, no latency is made up, and the tasks are named as open."""
    row = dict.fromkeys(["p50", "p90", "p99", "max"]) | {"n": 0, "n_censored": 500}
    ids = {"total": 500, "ids": [f"r-{i}" for i in range(100)]}
    ledger = LEDGER | {"completed": 0, "open": 500, "closed": False, "open_ids": ids}
    found = answers(ledger=ledger, latency={"end_to_end_s": row})
    assert found[SLOW].short == "Not known: no task has come to its end."
    assert found[LOST].short == "Not yet known: 500 tasks are still open."
    assert "Open: r-0, r-1, r-2, r-3, r-4, r-5, r-6, r-7, r-8, r-9 and 490 more" in told(found[LOST])


def test_open_tasks_make_the_figures_too_low() -> None:
    """While tasks are open the latency says so, with the estimate that counts them where there is one."""
    row = GOOD["latency"]["end_to_end_s"] | {"n_censored": 3}
    assert "3 tasks not yet ended, so the figures" in told(answers(latency={"end_to_end_s": row})[SLOW])
    known = {"n_open": 3, "p50": 2.0, "p99": None}
    slow = answers(latency={"end_to_end_s": row}, censored=known)[SLOW]
    assert "too low; with them counted (Kaplan-Meier) p50 2 s." in told(slow)
    assert slow.tone is Tone.CAUTION


def test_a_percentile_that_is_not_given_says_why() -> None:
    """Too few tasks carry no p99: the longest stands in its place, with the reason."""
    row = {"n": 1, "p50": 0.2, "p99": None, "max": 0.2, "why_not": {"p99": "needs 459 tasks, there is 1"}}
    slow = answers(latency={"end_to_end_s": row})[SLOW]
    assert told(slow) == (
        "Median 200 ms, longest 200 ms, from enqueued to finished. No p99 is given: it needs 459 tasks, there is 1."
    )


def test_the_errors_of_most_tasks_are_named() -> None:
    """The first three signatures stand in the summary with their tasks and reason, the others are counted."""
    rows = [{"signature": f"Error {i}", "reason": "max_attempts", "n_tasks": 9 - i} for i in range(5)]
    failed = answers(ledger=LEDGER | {"completed": 480, "dead_lettered": 20}, signatures=rows)[FAILED]
    assert "9 tasks: Error 0 (max_attempts) 8 tasks: Error 1" in told(failed)
    assert "Error 3" not in told(failed)
    assert "2 more error signatures" in told(failed)


def test_objectives_are_met_or_missed() -> None:
    """A missed objective is named with what was attained and how sure that is; without any nothing is said."""
    met = {"task_type": "A", "share": 0.99, "within_s": 30.0, "n": 9, "attained": 1.0, "verdict": "met"}
    missed = met | {"task_type": "B", "attained": 0.9, "low": 0.85, "high": 0.94, "verdict": "missed"}
    unknown = met | {"task_type": "C", "verdict": "not enough data"}
    last = answers(objectives=[met, missed, unknown])[-1]
    assert last.short == "1 of 3 objectives met."
    assert "Missed, 90.00% (95 % interval 85.00% to 94.00%): B, 99 % within 30 s" in told(last)
    assert "Not enough data: C, 99 % within 30 s" in told(last)
    assert len(answers()) == len(answers(objectives=[])) == 5


def test_a_comparison_says_how_sure_it_is_and_what_changed() -> None:
    """The verdict comes with the sentence of the comparison, and with what differs between the runs."""
    compare = {"verdict": "fail", "says": "p99 rose by 10 % (5 to 15 %).", "changed": [{"what": "memory"}]}
    worse = answers(compare=compare, changes=["p99 changed at run 7."])[COMPARED]
    assert told(worse) == (
        "Worse than before. p99 rose by 10 % (5 to 15 %). Changed in between: memory p99 changed at run 7."
    )


ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.none(), max_size=2)


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """Draw results of which any part, however deep, is missing or something else."""

    def spoil(value: Any) -> Any:
        if draw(st.integers(0, 5)) == 0:
            return draw(ODD)
        if isinstance(value, dict):
            return {name: spoil(member) for name, member in value.items() if draw(st.integers(0, 5))}
        return [spoil(member) for member in value] if isinstance(value, list) else value

    extra = {
        "signatures": [{"signature": "E", "reason": "r", "n_tasks": 1}],
        "objectives": [{"task_type": "A", "share": 0.9, "within_s": 3.0, "attained": 0.5, "verdict": "missed"}],
        "compare": {"verdict": "fail", "says": "worse", "changed": [{"what": "a"}]},
        "censored": {"n_open": 1, "p50": 1.0},
        "breakers": {"A": "open"},
        "read": {"dead_is_whole": False},
    }
    return {name: spoil(value) for name, value in (GOOD | extra).items()}


@given(results=damaged())
def test_no_section_is_needed(results: dict[str, Any]) -> None:
    """Whatever is missing or misshapen, every question has an answer, and none reads as a value of Python."""
    found = summary.of(results)
    assert len(found.answers) >= 5
    assert "None" not in " ".join(answer.short for answer in found.answers)
    assert markdown.page("r", results).startswith("# ")
