"""Message fuzzing: whatever a body holds, it is a task or it is refused alone, with a reason that can be sent on."""

import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskq_worker.contract import MAX_BODY_BYTES, InvalidMessage, Task, parse_body
from taskq_worker.dead_letters import DeadLetter
from taskq_worker.records import Invalid, parse_records
from taskq_worker.text import MAX_ERROR_CHARS, cut
from tests.unit.events import event, task

N_BODIES = 100_000
SEED = 20_261_124
#: What SQS takes in a body and in an attribute (SQS API reference, SendMessage).
SENDABLE = re.compile("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")

Make = Callable[[random.Random, str], str]

# --- the generator ------------------------------------------------------------------------------------------------

_DATA: dict[str, dict[str, Any]] = {
    "IMAGE_RESIZE": {"filename": "photo.jpg", "width": 640, "height": 480},
    "SEND_EMAIL": {"to": "someone@example.com"},
    "PROCESS_DATA": {"record_count": 10, "source": "inline"},
}
_FIELDS = ["task_id", "type", "data", "priority", "run_id", "enqueued_at", "something_new", ""]
_ARGUMENTS = ["filename", "width", "height", "to", "record_count", "source", "simulate", "cc", "", "\ue000" * 64]
_SIMULATE = ["seconds", "fail_attempts", "error", "retryable", "retry_after_s", "crash_attempts", "speed", "\x00"]
_TEXTS = [
    "",
    "a",
    "A" * 128,
    "A" * 129,
    "-a",
    "a\n",
    "..",
    "\x00\x1f\x7f",
    "\ud800",
    "\udfff\ud800",
    "\ufeff",
    "\u2028",
]
_TEXTS += [
    "FLY",
    "SEND_EMAIL",
    "send_email",
    "'; DROP",
    "\U000e0001" * 70,
    "\u00e4" * 50,
    "\U0001f4e6",
    "'\"\\",
    "%s{}",
]
_NUMBERS = [0, 1, -1, 5, 9, 10, 2**53, 2**53 - 1, -(2**63), 10**30, 10**400, 10**4299, 0.5, -0.0, 1e300]
_NUMBERS += [1e-320, 1.8e9, 1e308, 4_102_444_800, 1_800_000_000_000, float("nan"), float("inf"), float("-inf")]
_VALUES: list[Any] = [None, True, False, [], {}, [[]], {"": {}}, [1, "a", None], *_TEXTS, *_NUMBERS]
_JUNK = ["", " ", "null", "true", "7", '"text"', "[]", "[{}]", "{", "}", "{}{}", "{'a': 1}", "NaN", "-Infinity", "nul"]
_JUNK += ["\x00", "\ud800", "\ufeff{}", '{"task_id": "a\n"}', '{"a": 01}', '{"a": 1e}', "<xml/>", "9" * 5_000, "\\u00"]


def valid(rng: random.Random, task_id: str) -> str:
    """Write a valid message with some of the optional fields."""
    kind = rng.choice(sorted(_DATA))
    fields: dict[str, Any] = {"task_id": task_id, "type": kind, "data": dict(_DATA[kind])}
    if rng.random() < 0.5:
        fields |= {"priority": rng.randrange(10), "run_id": "fuzz", "enqueued_at": 1.8e9 + rng.random()}
    if rng.random() < 0.3:
        fields["data"]["simulate"] = {"seconds": 0.001, "fail_attempts": rng.choice([-1, 0, 0, 1])}
    return json.dumps(fields, ensure_ascii=rng.random() < 0.5)


def with_any_field(rng: random.Random, task_id: str) -> str:
    """Set one field of a valid message to anything."""
    return json.dumps({**json.loads(valid(rng, task_id)), rng.choice(_FIELDS): rng.choice(_VALUES)})


def with_any_argument(rng: random.Random, task_id: str) -> str:
    """Set one field of a valid message's data to anything."""
    fields = json.loads(valid(rng, task_id))
    fields["data"][rng.choice(_ARGUMENTS)] = rng.choice(_VALUES)
    return json.dumps(fields)


def with_any_simulation(rng: random.Random, task_id: str) -> str:
    """Simulate anything."""
    fields = json.loads(valid(rng, task_id))
    fields["data"]["simulate"] = {rng.choice(_SIMULATE): rng.choice(_VALUES) for _ in range(rng.randrange(3))}
    return json.dumps(fields)


def without_a_field(rng: random.Random, task_id: str) -> str:
    """Leave a field out, of the message or of its data."""
    fields = json.loads(valid(rng, task_id))
    where = rng.choice([fields, fields["data"]])
    where.pop(rng.choice(sorted(where)))
    return json.dumps(fields)


def with_twice_a_field(rng: random.Random, task_id: str) -> str:
    """Say a field twice, first or last as it should be."""
    body, name, value = valid(rng, task_id), rng.choice(_FIELDS), json.dumps(rng.choice(_VALUES))
    extra = f"{json.dumps(name)}: {value}"
    return f"{{{extra}, {body[1:]}" if rng.random() < 0.5 else f"{body[:-1]}, {extra}}}"


def nested(rng: random.Random, task_id: str) -> str:
    """Nest a field up to and far beyond what can be read."""
    depth = rng.choice([3, 50, 300, 900, 990, 1_000, 1_100, 5_000])
    opening, closing = rng.choice([("[", "]"), ('{"a":', "}")])
    inner = f"{opening * depth}1{closing * depth}" if rng.random() < 0.7 else opening * depth
    body = valid(rng, task_id)
    return (
        body.replace('"data": {', f'"{rng.choice(_FIELDS)}": {inner}, "data": {{', 1) if rng.random() < 0.7 else inner
    )


def mutated(rng: random.Random, task_id: str) -> str:
    """Change, drop, double or insert one to three bytes of a valid message."""
    body = bytearray(valid(rng, task_id).encode())
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at = rng.randrange(len(body))
        replacement = rng.choice([b"", bytes([rng.randrange(256)]), body[at : at + 1] * 2, b'"', b"\\", b"9", b"-"])
        body[at : at + rng.randrange(2)] = replacement
    # A byte that is no UTF-8 becomes a lone surrogate, which JSON may well hold and nobody can send.
    return body.decode("utf-8", "surrogateescape")


def truncated(rng: random.Random, task_id: str) -> str:
    """Cut a valid message off."""
    body = valid(rng, task_id)
    return body[: rng.randrange(len(body))]


def junk(rng: random.Random, _task_id: str) -> str:
    """Write what was never meant as a message."""
    if rng.random() < 0.5:
        return rng.choice(_JUNK)
    if rng.random() < 0.5:
        return json.dumps(rng.choice(_VALUES))
    return "".join(chr(rng.choice([rng.randrange(128), rng.randrange(0x11_0000)])) for _ in range(rng.randrange(40)))


def longest(rng: random.Random, task_id: str) -> str:
    """Write a message about as long as SQS takes, valid or not."""
    fields = {"task_id": task_id, "type": rng.choice(["SEND_EMAIL", "FLY"]), "data": {"to": ""}}
    room = MAX_BODY_BYTES - len(json.dumps(fields))
    fields["data"] = {rng.choice(["to", "x" * 1_000]): "x" * (room - rng.randrange(1_500))}
    return json.dumps(fields)


#: How often each kind is made, of 1,000 bodies.
KINDS: Mapping[Make, float] = {
    valid: 150,
    with_any_field: 150,
    with_any_argument: 150,
    with_any_simulation: 100,
    without_a_field: 50,
    with_twice_a_field: 80,
    nested: 20,
    mutated: 200,
    truncated: 40,
    junk: 59.8,
    longest: 0.2,
}


def generated(n: int, seed: int = SEED, prefix: str = "fuzz") -> Iterator[str]:
    """Generate `n` bodies, the same for the same seed; the ids of their tasks begin with `prefix`."""
    rng = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    for number, make in enumerate(rng.choices([*KINDS], [*KINDS.values()], k=n)):
        yield make(rng, f"{prefix}-{number}")


# --- what holds for every body ------------------------------------------------------------------------------------


def why(body: str) -> InvalidMessage | None:
    """Return why a body is refused; None where it is a task."""
    try:
        parse_body(body)
    except InvalidMessage as error:
        return error
    return None


def hold_task(read: Task) -> None:
    """Hold that a task that was read can be written, and read again as the same."""
    body = read.to_body()
    assert parse_body(body) == read
    assert SENDABLE.fullmatch(body)


def hold_reason(refused: Invalid) -> None:
    """Hold that a reason is one line of bounded length, and that its dead letter can be sent."""
    reason = str(refused.error)
    assert 10 < len(reason) <= MAX_ERROR_CHARS, reason
    assert reason.isprintable(), reason
    assert cut(reason).encode() == reason.encode()
    letter = DeadLetter.of_invalid(refused, 1.8e9)
    assert len(letter.attributes) <= 10
    values = {name: attribute["StringValue"] for name, attribute in letter.attributes.items()}
    assert values["reason"] == "invalid"
    assert values["error"] == reason
    assert values.get("taskId") == refused.error.task_id
    for value in values.values():
        assert SENDABLE.fullmatch(value), value
        assert value.isprintable(), value


def hold(bodies: list[str]) -> Counter[str]:
    """Parse bodies as one event beside a valid neighbour, hold what holds for each; returns how many were what."""
    neighbour = task("neighbour")
    deliveries, twins, invalid = parse_records(event(neighbour, *bodies))
    assert deliveries[0].task == neighbour
    assert len(deliveries) + len(twins) + len(invalid) == len(bodies) + 1
    for delivery in [*deliveries[1:], *twins]:
        hold_task(delivery.task)
    for refused in invalid:
        hold_reason(refused)
    return Counter(valid=len(deliveries) - 1, twin=len(twins), invalid=len(invalid))


def test_a_hundred_thousand_bodies_are_tasks_or_refused_alone() -> None:
    """Of any bodies in one event each is a task that can be written again, or is refused with a reason of its own."""
    total: Counter[str] = Counter()
    bodies = generated(N_BODIES)
    while some := list(itertools.islice(bodies, 20)):
        total += hold(some)
    assert total.total() == N_BODIES
    # Neither kind is a rare guest, or this test would say little of it.
    assert min(total["valid"], total["invalid"]) > N_BODIES / 4


def test_the_bodies_reach_every_reason() -> None:
    """The generated bodies break every rule of the contract: each reason it knows is given for some of them."""
    reasons = Counter(str(error)[:40] for body in generated(20_000) if (error := why(body)))
    expected = {
        "the body is not JSON: ",
        "the body must be a JSON object",
        "task_id is missing",
        "type is missing",
        "data is missing",
        "task_id must be",
        "run_id must be",
        "priority must be",
        "enqueued_at must be",
        "unknown task type",
        "data must be",
        "data.to is missing",
        "data.to must be",
        "data.width must be",
        "data has an unknown field",
        "data.simulate must be",
        "simulate.seconds must be",
        "simulate.fail_attempts must be",
        "simulate.error must be",
        "simulate.retryable must be",
        "simulate.retry_after_s must be",
        "simulate.crash_attempts must be",
    }
    assert {one for one in expected if not any(reason.startswith(one) for reason in reasons)} == set()


def test_the_bodies_are_repeated() -> None:
    """The same seed generates the same bodies, another one others, so that a failure can be looked at again."""
    assert list(generated(500)) == list(generated(500))
    assert list(generated(500)) != list(generated(500, SEED + 1))


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.sampled_from(_VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=6,
)
_BODIES = (
    st.text(st.characters())
    | _ANY.map(json.dumps)
    | st.fixed_dictionaries(
        {"task_id": _ANY | st.just("a"), "type": _ANY | st.sampled_from(sorted(_DATA)), "data": _ANY},
        optional={"priority": _ANY, "run_id": _ANY, "enqueued_at": _ANY},
    ).map(json.dumps)
    | st.dictionaries(st.sampled_from(_ARGUMENTS) | st.text(st.characters()), _ANY, max_size=3).map(
        lambda data: json.dumps({"task_id": "a", "type": "SEND_EMAIL", "data": {"to": "x"} | data})
    )
)


@given(bodies=st.lists(_BODIES, max_size=5))
def test_any_event_is_split_into_tasks_and_refusals(bodies: list[str]) -> None:
    """What holds for the generated bodies holds for whatever else is tried."""
    assert hold(bodies).total() == len(bodies)
