"""A redrive in parts: edits, selectors, the journal, and moving messages through an SQS that refuses and forgets."""

import itertools
import json
import re
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib.aws import journal, queues, redrive
from taskq_lib.aws.journal import Journal
from taskq_lib.errors import BadInput, NotDone
from taskq_lib.merge_patch import edited, merged, read_edit
from taskq_lib.report import selection
from taskq_worker.contract import MAX_BODY_BYTES, InvalidMessage, parse_body
from tests.unit.events import task
from tests.unit.sqs import Sqs, bodies, stack

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
TICKET = {
    "reason": {"DataType": "String", "StringValue": "max_attempts"},
    "lastAt": {"DataType": "String", "StringValue": "2026-11-24T02:00:00.000+00:00"},
    "trace": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
}

# --- edits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_the_rfc_shows(document: object, patch: object, result: object) -> None:
    """All test cases of RFC 7386, appendix A."""
    assert merged(document, patch) == result


@given(document=JSON, patch=JSON)
def test_a_merge_patch_is_idempotent(document: object, patch: object) -> None:
    """Applied twice, a patch does what it does once, and neither the document nor the patch is changed by it."""
    before = json.dumps([document, patch])
    once = merged(document, patch)
    assert merged(once, patch) == once
    assert json.dumps([document, patch]) == before


@given(text=st.text() | JSON.map(json.dumps))
def test_any_text_is_an_edit_or_refused(text: str) -> None:
    """Whatever text is given as edit, it is an object without a task id, or refused."""
    try:
        patch = read_edit(text)
    except BadInput:
        return
    assert isinstance(patch, dict)
    assert "task_id" not in patch


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "edit is not JSON"),
        ("[1]", "edit must be a JSON object"),
        ('{"task_id": "b"}', "edit must not change task_id"),
        ('{"priority": NaN}', "edit is not JSON"),
        ("[" * 100_000, "edit is not JSON"),
    ],
)
def test_an_edit_that_cannot_be_meant_is_refused(text: str, reason: str) -> None:
    """What is no object, or would change whose task it is, is refused."""
    with pytest.raises(BadInput, match=reason):
        read_edit(text)


@given(patch=st.dictionaries(st.sampled_from(["type", "data", "priority", "x"]), JSON, max_size=3))
def test_an_edited_body_keeps_the_contract_or_is_refused(patch: dict[str, Any]) -> None:
    """What an edit leaves is a message that the function takes, of the same task; otherwise it is refused."""
    body = task("a").to_body()
    try:
        after = edited(body, patch)
    except InvalidMessage:
        return
    assert parse_body(after).task_id == "a"
    assert after.isascii()


def test_without_an_edit_a_body_stays_as_it_is() -> None:
    """Not a byte changes, whatever the spelling; unknown fields outlive an edit as well."""
    body = '{ "task_id":"a", "type":"SEND_EMAIL", "data":{"to":"ä"}, "newer": 1 }'
    assert edited(body, {}) == body
    assert json.loads(edited(body, {"priority": 9})) == json.loads(body) | {"priority": 9}
    for broken in ("no JSON", "[1]", '{"task_id": "a"}', "[" * 100_000):
        with pytest.raises(InvalidMessage):
            edited(broken, {"priority": 9})
        with pytest.raises(InvalidMessage):
            edited(broken, {})


# --- selectors ------------------------------------------------------------------------------------------------

NOTHING: dict[str, Any] = {**dict.fromkeys(selection.FORMS, ""), "select_all": False}
LETTERS = pd.DataFrame(
    {
        "signature_id": ["s1", "s1", "s2", None],
        "task_type": ["SEND_EMAIL", "PROCESS_DATA", "SEND_EMAIL", None],
        "reason": ["max_attempts", "max_attempts", "non_retryable", "receive_limit"],
        "task_id": ["a", "b", "c", None],
        "at": pd.to_datetime([f"2026-11-24T0{hour}:00:00Z" for hour in range(1, 5)]),
    }
)


@pytest.mark.parametrize(
    ("given_", "rows"),
    [
        ({}, []),
        ({"select_all": True}, [0, 1, 2, 3]),
        ({"select_signature": "s1"}, [0, 1]),
        ({"select_signature": "s1, s2"}, [0, 1, 2]),
        ({"select_type": "SEND_EMAIL"}, [0, 2]),
        ({"select_type": "SEND_EMAIL", "select_signature": "s1"}, [0]),
        ({"select_reason": "receive_limit,non_retryable"}, [2, 3]),
        ({"select_ids": "b,c,zzz"}, [1, 2]),
        ({"select_ids": "zzz"}, []),
        ({"select_since": "2026-11-24T02:00:00Z"}, [1, 2, 3]),
        ({"select_until": "2026-11-24T02:00:00Z"}, [0, 1]),
        ({"select_since": "2026-11-24T03:00:00+01:00", "select_until": "2026-11-24T03:00:00Z"}, [1, 2]),
    ],
)
def test_selectors_narrow_each_other(given_: dict[str, Any], rows: list[int]) -> None:
    """Values of one selector are alternatives, selectors narrow each other, bounds belong to it, none selects none."""
    chosen = NOTHING | given_
    selection.check(chosen)
    found = selection.selected(LETTERS, chosen)
    assert LETTERS.index[found].tolist() == rows
    assert found.dtype == "bool"


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        ({"select_all": True}, None),
        ({"select_signature": "s1,s2"}, None),
        ({"select_signature": "s1", "select_ids": "a"}, None),
        ({}, r"^Nothing is selected, of 4 dead letters .*\n  -> Give a selector that fits, or select_all = True"),
        ({"select_signature": "s2", "select_ids": "a"}, r"^Nothing is selected"),
        ({"select_signature": "s1,s9"}, r"is of signature s9; nothing was sent\.\n  -> There are s1, s2\.$"),
        ({"select_ids": "a,zzz"}, r"is of task zzz; nothing was sent\.\n  -> There are a, b, c\.$"),
    ],
)
def test_what_is_named_must_be_there_to_act_on(given_: dict[str, Any], reason: str | None) -> None:
    """A signature or task that no letter has is named, with those that there are; and so is a selection of nothing."""
    found = selection.refusal(LETTERS, NOTHING | given_)
    assert (found is None) is (reason is None)
    assert re.search(reason or "", str(found))


def test_only_a_few_names_are_said() -> None:
    """Of many that are missing, or are there, five are named and the others counted."""
    letters = LETTERS.iloc[[0] * 8].assign(task_id=[f"t{i}" for i in range(8)])
    found = selection.refusal(letters, NOTHING | {"select_ids": ",".join(f"x-{i}" for i in range(7))})
    assert "task x-0, x-1, x-2, x-3, x-4 and 2 more;" in str(found)
    assert "There are t0, t1, t2, t3, t4 and 3 more." in str(found)
    assert "There are none." in str(selection.refusal(LETTERS[:0], NOTHING | {"select_ids": "x"}))


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        ({"select_all": True, "select_type": "SEND_EMAIL"}, "select_all takes every dead letter, and select_type"),
        (
            {"select_since": "2026-11-24T02:00:00Z", "select_until": "2026-11-24T01:00:00Z"},
            "select_since, .*, is later than select_until",
        ),
    ],
)
def test_selectors_that_contradict_each_other_are_refused(given_: dict[str, Any], reason: str) -> None:
    """All and some at once, or a window that ends before it begins, is refused."""
    with pytest.raises(BadInput, match=reason):
        selection.check(NOTHING | given_)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("select_type", "SEND_MAIL", "There is no task type 'SEND_MAIL'"),
        ("select_type", "SEND_EMAIL,", "There is no task type ''"),
        ("select_reason", "max_attempt", "There is no reason 'max_attempt'"),
        ("select_ids", "a b", "Id 'a b' is not allowed"),
        ("select_signature", "a,,b", "Id '' is not allowed"),
        ("select_since", "yesterday-ish", "'yesterday-ish' is not a time"),
        ("select_since", "2026-11-24T02:00:00", "is not a time with a zone"),
        ("select_until", "NaT", "is not a time with a zone"),
    ],
)
def test_a_selector_that_cannot_fit_is_refused(name: str, text: str, reason: str) -> None:
    """A misspelt name, or a time without its zone, is refused rather than selecting nothing."""
    with pytest.raises(BadInput, match=reason):
        selection.FORMS[name](text)


@given(name=st.sampled_from(sorted(selection.FORMS)), text=st.text())
def test_any_selector_is_read_or_refused(name: str, text: str) -> None:
    """Whatever text a selector is given, it is read or refused as bad input."""
    try:
        selection.FORMS[name](text)
    except BadInput:
        return


# --- the journal ----------------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["sending", "sent", "failed", "unsent", "deleted", "absent", "finished", "stopped"]),
        st.lists(st.sampled_from("abc"), max_size=3),
    ),
    max_size=8,
)


@given(events=EVENTS, n_lost=st.integers(0, 80))
def test_a_journal_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, list[str]]], n_lost: int
) -> None:
    """A journal says what its whole lines say; one whose last line is torn goes on from the line before."""
    path = tmp_path_factory.mktemp("journal") / "redrive-01.jsonl"
    lines = [b""]
    with journal.append(path) as log:
        for event, messages in events:
            log.write(event, messages)
            lines.append(path.read_bytes())
    assert journal.read(path).states == log.states
    assert journal.read(path).events == log.events
    path.write_bytes(lines[-1][: max(0, len(lines[-1]) - n_lost)])
    whole = max((line for line in lines if len(line) <= path.stat().st_size), key=len)
    with journal.append(path) as again:
        again.write("sent", ["z"])
    assert again.state("z") == "sent"
    assert path.read_bytes().startswith(whole)
    assert [json.loads(line)["event"] for line in path.read_bytes().splitlines()] == [
        *(event for event, _ in events[: lines.index(whole)]),
        "sent",
    ]


def test_what_a_journal_says_of_a_message() -> None:
    """A message that may have been sent is in doubt until an answer says how it went."""
    log = Journal()
    assert log.state("a") == "planned"
    log.write("sending", ["a", "b"])
    assert log.those("in doubt") == ["a", "b"]
    log.write("sent", {"a": "new"})
    log.write("failed", {"b": "why"})
    log.write("deleted", ["a"])
    assert (log.state("a"), log.state("b"), log.finished) == ("deleted", "planned", False)
    log.write("finished")
    assert log.finished


# --- moving ---------------------------------------------------------------------------------------------------


def move(sqs: Sqs, log: Journal, *wanted: str, rate_per_s: float = 0.0) -> dict[str, str]:
    """Move messages without an edit."""
    return redrive.move(stack(sqs), log, wanted, {}, rate_per_s, progress=False)


def test_what_is_wanted_is_moved_and_all_else_is_shown_again() -> None:
    """Bodies and attributes are sent unchanged, ten at a time; the others are where they were, and visible."""
    sqs, log = Sqs(*bodies(37), attributes=TICKET), Journal()
    wanted = [f"m{i}" for i in range(0, 37, 2)]
    assert move(sqs, log, *wanted) == {}
    assert sqs.sent == [f"t{i}" for i in range(0, 37, 2)]
    assert all(entry["MessageAttributes"] == TICKET for entry in sqs.queue)
    assert sqs.n_sent == [10, 9]
    assert sorted(sqs.dead) == sorted(f"m{i}" for i in range(1, 37, 2))
    assert sqs.hidden == {}
    assert set(log.states) == set(wanted)
    assert set(log.states.values()) == {"deleted"}


def test_an_edit_changes_the_body_alone() -> None:
    """The edit is in every body that is sent, with the attributes as they were."""
    sqs = Sqs(*bodies(3), attributes=TICKET)
    redrive.move(stack(sqs), Journal(), ["m0", "m1", "m2"], {"priority": 9}, 0.0, progress=False)
    assert {parse_body(entry["MessageBody"]).priority for entry in sqs.queue} == {9}
    assert all(entry["MessageAttributes"] == TICKET for entry in sqs.queue)


def test_requests_stay_within_their_bytes() -> None:
    """Messages of 400 KB go two a request, since a whole request is at most 1 MiB; their attributes count."""
    big = [task(f"t{i}", data={"to": "x" * 400_000}).to_body() for i in range(5)]
    sqs = Sqs(*big, attributes=TICKET)
    assert move(sqs, Journal(), *(f"m{i}" for i in range(5))) == {}
    assert sorted(sqs.n_sent) == [1, 2, 2]
    assert sqs.dead == {}


def test_what_an_edit_makes_too_long_is_at_fault() -> None:
    """A body that fits by itself but not with its attributes is refused, as one that breaks the contract is."""
    overhead = len(task("a", data={"to": "x"}).to_body()) - 1
    body = task("a", data={"to": "x" * (MAX_BODY_BYTES - overhead)}).to_body()
    message = {"Body": body, "MessageAttributes": TICKET}
    assert redrive.fault({"Body": body}, {}) is None
    found = redrive.fault(message, {})
    assert found is not None
    assert found.startswith("with its attributes it has 1,048,")
    assert redrive.fault(message, {"data": {"to": "y"}}) is None
    assert redrive.fault(message, {"data": {"to": None}}) == "data.to is missing; SEND_EMAIL takes to, simulate"


def test_entries_that_fail_stay_and_are_named() -> None:
    """What SQS does not take stays in the dead-letter queue, visible; the next call sends just that."""
    sqs, log = Sqs(*bodies(12)), Journal()
    sqs.unsendable, wanted = {"t3", "t11"}, [f"m{i}" for i in range(12)]
    assert move(sqs, log, *wanted) == dict.fromkeys(("m3", "m11"), "not sent: Throttled: slow")
    assert sorted(sqs.dead) == ["m11", "m3"]
    assert sqs.hidden == {}
    sqs.unsendable = set()
    assert move(sqs, log, *wanted) == {}
    assert sorted(sqs.sent) == sorted(f"t{i}" for i in range(12))
    assert sqs.dead == {}


def test_what_was_sent_is_only_deleted() -> None:
    """A message that was sent and could not be deleted is not sent again: the next call deletes it."""
    sqs, log = Sqs(*bodies(25)), Journal()
    sqs.undeletable, wanted = {f"m{i}" for i in range(5, 20)}, [f"m{i}" for i in range(25)]
    failed = move(sqs, log, *wanted)
    assert failed == {f"m{i}": "sent, not deleted: Internal: later" for i in range(5, 20)}
    assert sqs.hidden == {}
    sqs.undeletable = set()
    assert move(sqs, log, *wanted) == {}
    assert len(sqs.sent) == 25
    assert sqs.dead == {}


def test_what_is_gone_is_noted() -> None:
    """A message that a whole walk does not meet, while none is hidden, is absent; one that was sent was deleted."""
    sqs, log = Sqs(*bodies(3)), Journal()
    log.write("sent", {"gone1": "new"})
    assert move(sqs, log, "m0", "gone1", "gone2") == {}
    assert log.states == {"m0": "deleted", "gone1": "deleted", "gone2": "absent"}
    assert move(sqs, log, "m0", "gone1", "gone2") == {}
    assert sqs.sent == ["t0"]


def test_counts_that_lag_behind_are_waited_for() -> None:
    """Where the count says for a while that a letter is hidden, as on AWS, what is not met is gone all the same."""
    sqs, log = Sqs(*bodies(3)), Journal()
    sqs.n_late = 3
    assert move(sqs, log, "m0", "gone") == {}
    assert log.states == {"m0": "deleted", "gone": "absent"}
    assert sqs.n_late == 0


def test_a_walk_that_met_too_few_takes_none_for_gone() -> None:
    """Beyond the messages that SQS hides at a time it hands out none, and says nothing: no letter is absent then."""
    sqs, log = Sqs(*bodies(30)), Journal()
    sqs.n_handed_out = 20
    with pytest.raises(NotDone, match=r"^1 messages were not met, and the walk met 20 of about 30 dead letters"):
        move(sqs, log, "m25")
    assert log.states == {}
    assert sqs.hidden == {}


def test_a_count_from_before_may_be_too_high(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the count before the walk still has letters that are gone, the one after it decides."""
    sqs, log = Sqs(*bodies(3)), Journal()
    count, n_counts = sqs.get_queue_attributes, itertools.count()

    def too_high(**given: Any) -> dict[str, Any]:
        found = count(**given)
        if next(n_counts) < 2:
            found["Attributes"]["ApproximateNumberOfMessages"] = "9"
        return found

    monkeypatch.setattr(sqs, "get_queue_attributes", too_high)
    assert move(sqs, log, "m0", "gone") == {}
    assert log.states == {"m0": "deleted", "gone": "absent"}


def test_what_may_be_hidden_is_not_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """While some reader hides dead letters, one that is not met may be among them: the redrive is not finished."""
    monkeypatch.setattr(redrive, "SETTLE_S", 0.1)
    sqs, log = Sqs(*bodies(3)), Journal()
    sqs.hidden = {"theirs": "m1"}
    with pytest.raises(NotDone, match=r"^1 messages were not met, and 1 dead letters are hidden by some reader"):
        move(sqs, log, "m0", "m1")
    assert log.states == {"m0": "deleted"}
    assert sqs.hidden == {"theirs": "m1"}


def test_a_walk_ends_when_all_are_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """A redrive of few among many does not walk the whole queue, and one of none asks for nothing."""
    sqs = Sqs(*bodies(100))
    n_asked, receive = itertools.count(), sqs.receive_message

    def counted(**given: Any) -> dict[str, Any]:
        next(n_asked)
        return receive(**given)

    monkeypatch.setattr(sqs, "receive_message", counted)
    move(sqs, Journal(), "m3", "m12")
    move(sqs, Journal())
    assert next(n_asked) == 2


def test_the_rate_is_kept() -> None:
    """No more messages a second are sent than was asked for, from the second request on."""
    sqs, begun = Sqs(*bodies(30)), time.monotonic()
    move(sqs, Journal(), *(f"m{i}" for i in range(30)), rate_per_s=50)
    assert time.monotonic() - begun >= 20 / 50
    assert sqs.n_sent == [10, 10, 10]


@pytest.mark.parametrize(("rate_per_s", "at_once"), [(25.0, 5), (30.0, 5), (4.9, 4), (2.0, 2), (0.6, 1)])
def test_a_low_rate_comes_in_no_bursts(rate_per_s: float, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request carries more than a second's worth of messages, and none fewer than one."""
    monkeypatch.setattr(time, "sleep", lambda _s: None)
    sqs = Sqs(*bodies(5))
    assert move(sqs, Journal(), *(f"m{i}" for i in range(5)), rate_per_s=rate_per_s) == {}
    assert max(sqs.n_sent) == at_once
    assert sum(sqs.n_sent) == 5


@pytest.mark.parametrize("method", ["send_message_batch", "delete_message_batch", "receive_message"])
def test_an_interruption_shows_everything_again(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle leaves every dead letter visible, and what may have been sent in doubt."""
    sqs, log, n_calls = Sqs(*bodies(35)), Journal(), itertools.count(1)
    call: Callable[..., Any] = getattr(sqs, method)

    def interrupted(**given: Any) -> Any:
        if next(n_calls) == 2:
            raise KeyboardInterrupt
        return call(**given)

    monkeypatch.setattr(sqs, method, interrupted)
    with pytest.raises(KeyboardInterrupt):
        move(sqs, log, *(f"m{i}" for i in range(35)))
    assert sqs.hidden == {}
    assert len(sqs.dead) == 25
    states = [log.state(f"m{i}") for i in range(10, 20)]
    expected = {"send_message_batch": "in doubt", "delete_message_batch": "sent", "receive_message": "planned"}
    assert set(states) == {expected[method]}


def test_the_inventory_is_told_what_is_at_fault() -> None:
    """A judge sees each message whole, and what it says is a column beside the others."""
    sqs = Sqs(task("a", data={"to": "x" * 5_000}).to_body(), "no JSON")
    found = queues.dead_letters(stack(sqs), judge=lambda message: redrive.fault(message, {}))
    assert list(found.columns) == [*queues.DEAD_COLUMNS, "fault"]
    assert str(found["fault"].dtype) == "str"
    assert found["fault"].isna().tolist() == [True, False]
    assert sqs.hidden == {}
