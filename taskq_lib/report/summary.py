"""What a run's report says in ten seconds: one answer to each question, for the page and for `summary.md` alike.

All of it is plain text, task data and error texts among it: whoever writes it into a page escapes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from taskq_lib.report import words
from taskq_lib.report.words import is_number

#: How many error signatures and ids a summary names.
_N_SIGNATURES, _N_IDS = 3, 10
#: Before these a run shows what became of it until then.
_STOPPED = {
    "failed": "No: it stopped with an error.",
    "interrupted": "No: it was interrupted.",
    "running": "Not known: it has not ended.",
}


class Tone(StrEnum):
    """How an answer is to be taken; the later ones weigh more."""

    PLAIN = "plain"  #: Neither good nor bad
    GOOD = "good"
    CAUTION = "caution"  #: A person should look at it
    BAD = "bad"


@dataclass(frozen=True)
class Note:
    """A sentence that goes with an answer, and what it quotes."""

    text: str
    quoted: str = ""  #: Text from outside: an error, ids, a task type; a page marks it as such


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One question and what the results say to it."""

    question: str
    short: str  #: The answer in one sentence
    tone: Tone
    more: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The answers of one run, the most urgent question first."""

    answers: tuple[Answer, ...]

    @property
    def tone(self) -> Tone:
        """The gravest of all."""
        return max((answer.tone for answer in self.answers), key=list(Tone).index)

    @property
    def headline(self) -> str:
        """The whole in one sentence."""
        if self.tone in {Tone.PLAIN, Tone.GOOD}:
            return "All is in order."
        if self.tone is Tone.CAUTION:
            return f"Worth a look: {_begun(next(one for one in self.answers if one.tone is self.tone).short)}"
        told = "; ".join(_begun(answer.short).rstrip(".") for answer in self.answers if answer.tone is Tone.BAD)
        return f"Something is wrong: {told}."


def of(results: Mapping[str, Any]) -> Summary:
    """Sum up `results.json`; a section that is missing is said to be missing, and none is needed."""
    asked = (_worked, _slow, _failed, _lost, _compared, _objectives)
    return Summary(answers=tuple(answer for ask in asked if (answer := ask(results)) is not None))


def _worked(results: Mapping[str, Any]) -> Answer:
    question, ledger = "Did it work?", section(results, "ledger")
    more = [Note("It stopped with", str(results["failure"]))] if results.get("failure") else []
    for kind, state in section(results, "breakers").items():
        if state != "closed":
            said = str(state).replace("_", "-")
            more.append(Note(f"A circuit breaker is {said}, its tasks wait until a probe completes:", str(kind)))
    state = str(results.get("state"))
    if state in _STOPPED or results.get("failure"):
        return _answer(question, _STOPPED.get(state, "No: it stopped."), Tone.BAD, *more)
    n, done, dead = (ledger.get(name) for name in ("submitted", "completed", "dead_lettered"))
    if not (is_number(n) and is_number(done) and is_number(dead)):
        return _answer(question, "Not known: its tasks were not counted yet.", Tone.CAUTION, *more)
    if n == 0:
        return _answer(question, "Nothing was submitted.", Tone.CAUTION, *more)
    if done == n:
        tone = Tone.CAUTION if more else Tone.GOOD
        return _answer(question, f"Yes: all {words.tasks(n)} completed." if n > 1 else "Yes.", tone, *more)
    if done == 0:
        return _answer(question, f"No: none of {words.tasks(n)} completed.", Tone.BAD, *more)
    rest = f"{words.count(dead)} failed for good" if dead else f"{words.count(n - done)} did not"
    return _answer(question, f"{words.count(done)} of {words.tasks(n)} completed, {rest}.", Tone.CAUTION, *more)


def _slow(results: Mapping[str, Any]) -> Answer:
    question, row = "How slow was it?", section(results, "latency", "end_to_end_s")
    n, median, p99 = row.get("n"), row.get("p50"), row.get("p99")
    # Clocks always differ; a person need know where it shows.
    n_negative = section(results, "clocks").get("n_negative")
    clocks = _says(results, "clocks") if is_number(n_negative) and n_negative else []
    more = [*_waited(results), *_censored(results, row), *_says(results, "slowest"), *clocks]
    tone = Tone.CAUTION if clocks or _censored(results, row) else Tone.PLAIN
    if not n or not (is_number(median) or is_number(row.get("max"))):
        return _answer(question, "Not known: no task has come to its end.", Tone.CAUTION, *more)
    intervals = section(row, "intervals")
    parts = [f"median {words.seconds(median)}{_sure(intervals.get('p50'))}"] if is_number(median) else []
    if is_number(p99):
        parts.append(f"p99 {words.seconds(p99)}{_sure(intervals.get('p99'))}")
    else:
        parts.append(f"longest {words.seconds(row.get('max'))}")
        more.insert(0, f"No p99 is given: it {section(row, 'why_not').get('p99', 'is not known')}.")
    said = ", ".join(parts)
    return _answer(question, f"{said[0].upper()}{said[1:]}, from enqueued to finished.", tone, *more)


def _waited(results: Mapping[str, Any]) -> list[str | Note]:
    """Say what of it was waiting and what was work, which call for different remedies."""
    medians = [section(results, "latency", name).get("p50") for name in ("queue_wait_s", "processing_s")]
    if not all(is_number(median) for median in medians):
        return []
    wait, work = map(words.seconds, medians)
    return [Note(f"At the median a task waits {wait} for its first start, and its last attempt takes {work}.")]


def _failed(results: Mapping[str, Any]) -> Answer:
    question, ledger = "What failed, and why?", section(results, "ledger")
    rates, dead = section(results, "failure_rate"), ledger.get("dead_lettered")
    retried = rates.get("attempts")
    more = [Note(f"Of all attempts {words.percent(retried)} failed.")] if is_number(retried) and retried else []
    if not is_number(dead):
        return _answer(question, "Not known: its tasks were not counted yet.", Tone.CAUTION, *more)
    if not dead:
        return _answer(question, "Nothing failed for good.", Tone.GOOD, *more)
    rows = _rows(results, "signatures")
    more += [
        Note(f"{words.tasks(row.get('n_tasks', '?'))}:", f"{row.get('signature')} ({row.get('reason')})")
        for row in rows[:_N_SIGNATURES]
    ]
    if len(rows) > _N_SIGNATURES:
        more.append(Note(f"{len(rows) - _N_SIGNATURES} more error signatures are below."))
    rate = f", {words.percent(rates.get('tasks'))} of those that ended" if is_number(rates.get("tasks")) else ""
    return _answer(question, f"{words.tasks(dead)} failed for good{rate}.", Tone.CAUTION, *more)


def _lost(results: Mapping[str, Any]) -> Answer:
    question, ledger = "Was anything lost?", section(results, "ledger")
    n_lost, n_open = ledger.get("lost"), ledger.get("open")
    if not (is_number(n_lost) and is_number(n_open)):
        return _answer(question, "Not known: the ledger was not closed yet; 30_status closes it.", Tone.CAUTION)
    more = [Note(f"{words.account(ledger)}.")]
    for name in ("lost", "open"):
        ids, n = (section(ledger, f"{name}_ids").get(part) for part in ("ids", "total"))
        if ids and isinstance(ids, list):
            rest = f" and {words.count(n - _N_IDS)} more" if is_number(n) and n > _N_IDS else ""
            more.append(Note(f"{name.capitalize()}:", f"{', '.join(map(str, ids[:_N_IDS]))}{rest}"))
    read = section(results, "read")
    if read.get("dead_is_whole") is False:
        listed = f"{words.count(read.get('n_listed', '?'))} of about {words.count(read.get('n_dead', '?'))}"
        more.append(Note(f"Only {listed} dead letters were listed; a task whose letter was not is open here."))
    if n_lost:
        return _answer(question, f"Yes: {words.tasks(n_lost)} {_are(n_lost)} lost.", Tone.BAD, *more)
    if n_open:
        return _answer(question, f"Not yet known: {words.tasks(n_open)} {_are(n_open)} still open.", Tone.BAD, *more)
    if ledger.get("closed") is not True:
        return _answer(question, "Not known: the ledger does not close.", Tone.BAD, *more)
    return _answer(question, "No: every task is accounted for.", Tone.GOOD, *more)


def _compared(results: Mapping[str, Any]) -> Answer:
    question, found = "Better or worse than before?", section(results, "compare")
    short, tone = {
        "pass": ("Not worse than before.", Tone.GOOD),
        "fail": ("Worse than before.", Tone.BAD),
        "not enough data": ("Not enough data to say.", Tone.PLAIN),
    }.get(str(found.get("verdict")), ("Nothing to compare with yet.", Tone.PLAIN))
    more: list[str | Note] = [*_says(results, "compare")]
    changed = [str(row["what"]) for row in _rows(found, "changed") if row.get("what")]
    if changed:
        rest = f" and {len(changed) - _N_IDS} more" if len(changed) > _N_IDS else ""
        more.append(Note("Changed in between:", ", ".join(changed[:_N_IDS]) + rest))
    history = results.get("changes")
    if isinstance(history, Sequence) and not isinstance(history, str):
        more += map(str, history)
    return _answer(question, short, tone, *more)


def _objectives(results: Mapping[str, Any]) -> Answer | None:
    rows = _rows(results, "objectives")
    if not rows:
        return None
    missed = [row for row in rows if row.get("verdict") == "missed"]
    unsure = [row for row in rows if row.get("verdict") not in ("met", "missed")]
    more = [Note(f"Missed, {words.percent(row.get('attained'))}{_sure_share(row)}:", objective(row)) for row in missed]
    more += [Note("Not enough data:", objective(row)) for row in unsure]
    n_met = len(rows) - len(missed) - len(unsure)
    tone = Tone.BAD if missed else Tone.CAUTION if unsure else Tone.GOOD
    return _answer("Were the objectives met?", f"{n_met} of {len(rows)} objectives met.", tone, *more)


def objective(row: Mapping[str, Any]) -> str:
    """Say what an objective of `results.json` asks for."""
    share = row.get("share")
    asked = f"{100 * share:.4g} %" if is_number(share) else "?"
    return f"{row.get('task_type') or 'all types'}, {asked} within {words.seconds(row.get('within_s'))}"


def _censored(results: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    """Say that tasks are open, and what is known of the percentiles with them."""
    known = section(results, "censored")
    n = known.get("n_open", row.get("n_censored"))
    if not is_number(n) or n <= 0:
        return []
    found = [f"{name} {words.seconds(known[name])}" for name in ("p50", "p99") if is_number(known.get(name))]
    counted = f"; with them counted (Kaplan-Meier) {', '.join(found)}" if found else ""
    return [f"{words.tasks(n)} not yet ended, so the figures of those that did are too low{counted}."]


def _sure(bounds: object) -> str:
    return f" (95 % interval {said})" if (said := words.between(bounds)) else ""


def _sure_share(row: Mapping[str, Any]) -> str:
    said = words.between([row.get("low"), row.get("high")], words.percent)
    return f" (95 % interval {said})" if said else ""


def _says(results: Mapping[str, Any], name: str) -> list[str]:
    said = section(results, name).get("says")
    return [str(said)] if said else []


def _begun(short: str) -> str:
    """Return an answer as the rest of a sentence, without the yes or no that belongs to its question."""
    said = re.sub(r"^(Yes|No|Not known|Not yet known): ", "", short)
    return f"{said[:1].lower()}{said[1:]}"


def _are(n: float) -> str:
    return "is" if n == 1 else "are"


def _rows(results: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = results.get(name)
    return [row for row in found if isinstance(row, Mapping)] if isinstance(found, list) else []


def section(results: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return a section of the results, however deep; empty where it is missing or no section."""
    found: Any = results
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _answer(question: str, short: str, tone: Tone, *more: str | Note) -> Answer:
    notes = tuple(one if isinstance(one, Note) else Note(one) for one in more)
    return Answer(question=question, short=short, tone=tone, more=notes)
