"""Error signatures: one bug is one group whatever its ids, stable from run to run, and safe for any text."""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from random import Random

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib.analysis import signatures
from taskq_lib.errors import BadInput
from taskq_worker.text import cut
from tests.unit.frames import attempts_frame, dead_frame

moments = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1))
#: What varies from one error of a bug to the next, by the place it has in the message.
SLOTS = {
    "UUID": st.uuids().map(str),
    "UPPER_UUID": st.uuids().map(lambda value: str(value).upper()),
    "HEX": st.binary(min_size=4, max_size=32).map(bytes.hex),
    "ADDRESS": st.integers(0, 2**48).map(hex),
    "NUMBER": st.integers(-(10**12), 10**12).map(str),
    "GROUPED": st.integers(0, 10**12).map(lambda value: f"{value:,}"),
    "FLOAT": st.floats(allow_nan=False, allow_infinity=False).map(repr),
    "DATETIME": moments.map(lambda value: value.isoformat() + "Z"),
    "LOG_TIME": moments.map(lambda value: f"{value:%d/%b/%Y:%H:%M:%S} +0000"),
    "MAIL_TIME": moments.map(lambda value: f"{value:%a, %d %b %Y %H:%M:%S} +0000"),
    "DATE": moments.map(lambda value: str(value.date())),
    "IP": st.ip_addresses(v=4).map(str),
    "IP6": st.ip_addresses(v=6).map(str),
    "EMAIL": st.emails(domains=st.just("example.com")).filter(lambda text: not re.search(r"[^\w.%+@-]", text)),
    "URL": st.integers(0, 10**9).map(lambda n: f"https://api.example.com/v1/orders/{n}?page={n % 7}"),
    "PATH": st.from_regex(r"/(tmp|var/data)/[a-z0-9]{1,20}/[a-z]{1,9}\.(jpg|csv)", fullmatch=True),
    "QUOTED": st.text('abc 0-9."', max_size=9).map(lambda text: f"'{text}'"),
    "TASK_ID": st.integers(0, 10**7).map(lambda n: f"run1-{n:07d}"),
    "FILE": st.integers(0, 10**9).map(lambda n: f"photo-{n:06d}.jpg"),
    "LIST": st.lists(st.integers(0, 10**6), min_size=1, max_size=5).map(str),
}
MESSAGE = "cannot use {} after {}: it was {}, not usable."

names = st.from_regex(r"[A-Za-z_]\w{0,20}", fullmatch=True)
#: Texts full of what the rules look for.
hard = st.text("aF0 1-.:,/\\'\"`@<n>[]cut+=~\n\x00é", max_size=60)
#: What no rule of the module may touch: it is what tells two bugs apart.
words = st.lists(st.sampled_from(["payment", "was", "refused", "by", "the", "bank", "can't", "read/write"]), min_size=1)


def texts(*values: str | None) -> "pd.Series[str]":
    """Make a column of texts."""
    return pd.Series(list(values), dtype="str")


def sign(*errors: str | None, error_type: str | None = "Error") -> list[str]:
    """Sign errors of one type."""
    return signatures.signature(texts(*[error_type] * len(errors)), texts(*errors)).tolist()


@pytest.mark.parametrize(
    ("error", "template"),
    [
        ("simulated failure of attempt 3", "simulated failure of attempt <n>"),
        ("no answer to run1-0000012", "no answer to <n>"),
        ("photo-000012.jpg is broken", "<n> is broken"),
        ("the message has 1,234,567 bytes (1 MiB)", "the message has <n> bytes (<n> MiB)"),
        ("<Task object at 0x7f3a2b>", "<Task object at <n>>"),
        ("commit deadbeefcafe of a deadbeat", "commit <n> of a deadbeat"),
        ("2026-11-24T03:02:56.123Z: late, since 03:02:56", "<time>: late, since <time>"),
        ("Tue, 24 Nov 2026 03:02:56 GMT or Nov 24", "<time> GMT or <time>"),
        ("Decoder 12 and Marker 5 failed", "Decoder <n> and Marker <n> failed"),
        ("10.0.0.1:5432 refused [fe80::1]:443", "<ip> refused [<ip>]:<n>"),
        ("std::bad_alloc", "std::bad_alloc"),
        ("ask a.b+c@example.com, please", "ask <email>, please"),
        ("GET https://example.com/a/1?b=2: gone", "GET <url>: gone"),
        ("cannot open /tmp/a/b.txt: No such file", "cannot open <path>: No such file"),
        (r"cannot open C:\Users\me\x.txt", "cannot open <path>"),
        ("read/write and/or N/A", "read/write and/or N/A"),
        ("can't read the users' field 'it's'", "can't read the users' field <text>"),
        ("unknown field \"a b\"; b'\\x00' is bytes", "unknown field <text>; <text> is bytes"),
        ("one of [1, 2, 3], 'a', 'b'", "one of [<n>], <text>"),
        ("took 1.5s, 1e-05 s, -3 %", "took <n> s, <n> %"),
        ("  two\n\tlines\x00 ", "two lines"),
        ("the end... [cut, 1,234 characters]", "the end"),
        ("-", "<no text>"),
        ("", "<no text>"),
        (None, "<no text>"),
    ],
)
def test_what_varies_is_masked_and_words_stay(error: str | None, template: str) -> None:
    """Each rule of the module masks what it says, and leaves what only looks like it."""
    assert sign(error) == [f"Error: {template}"]


@given(st.data(), st.lists(st.sampled_from(sorted(SLOTS)), min_size=3, max_size=3))
def test_other_values_give_the_same_signature(data: st.DataObject, slots: Sequence[str]) -> None:
    """Whatever ids, numbers, times or addresses stand in a message, its signature is the same and shows none."""
    first, second = (MESSAGE.format(*(data.draw(SLOTS[slot], label=slot) for slot in slots)) for _ in range(2))
    one, other = sign(first, second)
    assert one == other
    assert not re.search(r"\d", one)
    assert one.startswith("Error: cannot use ")
    assert one.endswith(", not usable.")


@given(words, words)
def test_other_words_give_another_signature(one: list[str], other: list[str]) -> None:
    """Two messages without anything that varies share a signature only if they are the same."""
    left, right = " ".join(one), " ".join(other)
    first, second = sign(left, right)
    assert (first == second) == (left[:200].strip() == right[:200].strip())


@given(names, names, hard)
def test_types_never_merge(one: str, other: str, error: str) -> None:
    """The same text under two error types has two signatures, with two ids."""
    found = signatures.signature(texts(one, other), texts(error, error))
    assert (found[0] == found[1]) == (one == other)
    assert signatures.signature_id(found).nunique() == len({one, other})


@given(st.one_of(st.text(), hard))
def test_a_template_is_its_own_template(error: str) -> None:
    """Any text has a signature, a printable one of bounded length, and signing its template again changes nothing."""
    [found] = sign(error)
    template = found.removeprefix("Error: ")
    assert sign(template) == [found]
    assert found.isprintable()
    assert 0 < len(template) <= signatures.MAX_TEMPLATE_CHARS


@pytest.mark.parametrize(
    "text", ["-", "a", "a-", "'", "'a", "/", "/a", "1:", "a.b@", "::", "<n>,", "\\", "Mon, ", "é1"]
)
def test_no_text_keeps_the_rules_busy(text: str) -> None:
    """A megabyte of what a rule looks for is signed as its beginning is: the rest is not looked at."""
    assert sign(text * 1_000_000) == sign((text * 1_000)[:1_000])


@given(st.lists(st.one_of(hard, st.none()), max_size=20), st.randoms())
def test_neither_order_nor_company_matters(errors: list[str | None], random: Random) -> None:
    """An error has the signature that it has alone, wherever it stands among others, and keeps its place."""
    order = list(range(len(errors)))
    random.shuffle(order)
    alone = [sign(error)[0] for error in errors]
    shuffled = texts(*errors).iloc[order]
    found = signatures.signature(texts(*["Error"] * len(errors)).iloc[order], shuffled)
    assert found.to_dict() == {place: alone[place] for place in order}


@given(st.text("xyz é", min_size=600, max_size=1_500), st.integers(0, 9), st.integers(10**30, 10**40))
def test_a_cut_message_is_one_signature(tail: str, short: int, long: int) -> None:
    """Ids of other lengths move the place where a long text is cut; its signature does not notice."""
    one, other = (cut(f"order {number} is bad: {tail}") for number in (short, long))
    assert one[-40:] != other[-40:]
    first, second = sign(one, other)
    assert first == second
    assert first.startswith("Error: order <n> is bad:")


def test_a_quoted_text_that_was_cut_is_masked_to_its_end() -> None:
    """A quoted payload is masked also where the cut took its closing quote."""
    assert set(sign(*(cut(f"bad body '{'x' * length}'") for length in (300, 600, 700)))) == {"Error: bad body <text>"}


@pytest.mark.parametrize("task_id", ["welcome-mail", "mail:alice", "a--b", "order.x_y"])
def test_a_tasks_own_id_is_masked_whatever_it_looks_like(task_id: str) -> None:
    """An id without a digit is known from the task, as a word and within a URL, and is not looked for inside words."""
    error = f"{task_id}: x{task_id}x of {task_id} at https://example.com/{task_id}/x."
    [found] = signatures.signature(texts("Error"), texts(error), texts(task_id))
    assert found == f"Error: <n>: x{task_id}x of <n> at <url>."
    assert signatures.signature(texts("Error"), texts(error), texts(None)).tolist() == sign(error)


def test_the_function_and_the_queue_agree() -> None:
    """An error has one signature, as the status item keeps it and as a message attribute carries it."""
    item = "line one\nline\x00two\u200b 'x\u00a0y'"
    attribute = "".join(character if character.isprintable() else " " for character in item)
    assert attribute != item
    assert sign(item) == sign(attribute)


def test_ids_are_the_same_in_every_run() -> None:
    """The id of a signature is fixed: eight digits of its SHA-256, so that a redrive of another day finds it."""
    known = "CorruptInput: simulated failure of attempt <n>"
    found = signatures.signature_id(texts(known, None, known, "other"))
    assert found.tolist()[0] == hashlib.sha256(known.encode()).hexdigest()[:8] == "5bc96056"
    assert found.isna().tolist() == [False, True, False, False]
    assert found[0] == found[2] != found[3]
    assert found.dtype == "str"


def test_a_missing_type_is_not_stated() -> None:
    """Without a type the text alone is signed; without either there is no signature."""
    found = signatures.signature(texts(None, None, "T"), texts("gone", None, None))
    assert found.fillna("missing").tolist() == ["not stated: gone", "missing", "T: <no text>"]


def test_frames_are_signed_with_what_stands_in_for_an_error() -> None:
    """Dead letters without an error go by their reason, attempts by their outcome; rows, order and index stay."""
    dead = dead_frame(
        {"task_id": "mail", "reason": "max_attempts", "error_type": "Timeout", "error": "no answer to mail"},
        {"reason": "receive_limit"},
        {},
    ).iloc[::-1]
    signed = signatures.signed(dead)
    assert signed["signature"].to_dict() == {0: "Timeout: no answer to <n>", 1: "receive_limit", 2: "not stated"}
    assert signed["signature_id"].str.fullmatch(r"[0-9a-f]{8}").all()
    assert signed.drop(columns=["signature", "signature_id"]).equals(dead)
    attempts = signatures.signed(attempts_frame({"outcome": "lost"}), "outcome")
    assert attempts["signature"].tolist() == ["lost"]
    assert signed["signature"].dtype == attempts["signature"].dtype == "str"


def test_frames_without_rows_and_without_columns() -> None:
    """An empty frame is signed as well; one that lacks a column is refused, and the column is named."""
    assert signatures.signed(dead_frame()).columns.tolist() == [*dead_frame().columns, "signature", "signature_id"]
    with pytest.raises(BadInput, match="no column error"):
        signatures.signed(dead_frame().drop(columns="error"))


def test_many_errors_are_signed_once_for_each_text() -> None:
    """A hundred thousand errors that differ by their ids alone are one signature."""
    n = 100_000
    ids = pd.Series([f"run1-{i:07d}" for i in range(n)], dtype="str")
    found = signatures.signature(pd.Series(["Error"] * n, dtype="str"), "no answer to " + ids, ids)
    assert found.unique().tolist() == ["Error: no answer to <n>"]
    assert len(found) == n
