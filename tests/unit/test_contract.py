"""The contract: what is written can be read, and what is broken is refused with its reason, never with a crash."""

import json
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from boto3.dynamodb.types import DYNAMODB_CONTEXT
from hypothesis import example, given
from hypothesis import strategies as st

from taskq_lib import PROJECT_ROOT
from taskq_lib.workload import Workload, generate
from taskq_worker import contract
from taskq_worker.attributes import to_attribute
from taskq_worker.contract import (
    MAX_BODY_BYTES,
    N_SHARDS,
    InvalidMessage,
    Retry,
    Simulate,
    Task,
    TaskContext,
    parse_body,
    register,
    shard_of,
    task_type,
    task_types,
)
from taskq_worker.execute import run_claims
from tests.unit.events import claim, task

_IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", fullmatch=True)
_WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)
_COUNTS = st.integers(0, 2**53 - 1)
_SIMULATE = st.fixed_dictionaries(
    {},
    optional={
        "seconds": st.floats(0, 900) | st.integers(0, 900),
        "fail_attempts": st.integers(-1, 20),
        "error": st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,63}", fullmatch=True),
        "retryable": st.booleans(),
    },
)


def _data(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional={**optional, "simulate": _SIMULATE})


_DATA = {
    "IMAGE_RESIZE": _data({"filename": _WORDS}, width=_COUNTS, height=_COUNTS),
    "SEND_EMAIL": _data({"to": _WORDS}),
    "PROCESS_DATA": _data({"record_count": _COUNTS}, source=_WORDS),
}
_TASKS = st.sampled_from(sorted(_DATA)).flatmap(
    lambda kind: st.builds(
        Task,
        task_id=_IDS,
        type=st.just(kind),
        data=_DATA[kind],
        priority=st.integers(0, 9),
        run_id=st.none() | _IDS,
        enqueued_at=st.none() | st.floats(1, 4e9),
    )
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=10,
)
_FIELDS = ["task_id", "type", "data", "priority", "run_id", "enqueued_at", "something_new"]
_GOOD = {"task_id": "a", "type": "SEND_EMAIL", "data": {"to": "someone@example.com"}}


def why(body: str) -> str:
    """Return why `body` is refused."""
    with pytest.raises(InvalidMessage) as refused:
        parse_body(body)
    return str(refused.value)


def good(**changes: Any) -> str:
    """Write a valid body with some of its fields changed; a field set to `...` is left out."""
    return json.dumps({name: value for name, value in {**_GOOD, **changes}.items() if value is not ...})


def parses_or_is_refused(body: str) -> None:
    """Read `body`: a task that can be written again, or `InvalidMessage`; its text and ids can be sent anywhere."""
    try:
        read = parse_body(body)
    except InvalidMessage as error:
        refused = error
    else:
        assert parse_body(read.to_body()) == read
        return
    assert len(str(refused).encode()) < 500
    assert refused.task_id is None or contract.is_id(refused.task_id)


@given(written=_TASKS)
def test_a_body_gives_back_the_task_it_was_written_from(written: Task) -> None:
    """Reading a written body gives the same task, in ASCII and within the size that SQS takes."""
    body = written.to_body()
    assert body.isascii()
    assert len(body) <= MAX_BODY_BYTES
    assert parse_body(body) == written


@given(body=st.text(st.characters()) | _JSON.map(json.dumps))
@example(body="")
@example(body="NaN")
@example(body="[" * 100_000)
@example(body='{"a":' * 100_000)
@example(body="9" * 5_000)
@example(body="\ud800")
@example(body='{"task_id": 1e999, "type": "SEND_EMAIL", "data": {}}')
def test_any_text_parses_or_is_refused(body: str) -> None:
    """Whatever text a body holds, it is read as a task or refused with a reason; nothing else is raised."""
    parses_or_is_refused(body)


@given(written=_TASKS, name=st.sampled_from(_FIELDS), value=_JSON)
def test_a_changed_field_parses_or_is_refused(written: Task, name: str, value: Any) -> None:
    """A valid message with any one field replaced by anything is read or refused; nothing else is raised."""
    parses_or_is_refused(json.dumps({**json.loads(written.to_body()), name: value}))


@given(written=_TASKS, name=st.sampled_from(["to", "filename", "record_count", "width", "simulate"]), value=_JSON)
def test_a_changed_data_field_parses_or_is_refused(written: Task, name: str, value: Any) -> None:
    """A valid message with any field of its data set to anything is read or refused; nothing else is raised."""
    fields = json.loads(written.to_body())
    parses_or_is_refused(json.dumps({**fields, "data": {**fields["data"], name: value}}))


@given(written=_TASKS, name=st.sampled_from(["seconds", "fail_attempts", "error", "retryable"]), value=_JSON)
def test_a_changed_simulation_parses_or_is_refused(written: Task, name: str, value: Any) -> None:
    """A valid message that simulates anything at all is read or refused; nothing else is raised."""
    fields = json.loads(written.to_body())
    parses_or_is_refused(json.dumps({**fields, "data": {**fields["data"], "simulate": {name: value}}}))


@given(written=_TASKS, cut=st.integers(0, 200), put=st.text(st.characters(), max_size=3))
def test_a_damaged_body_parses_or_is_refused(written: Task, cut: int, put: str) -> None:
    """A valid body with a character lost and others in its place is read or refused; nothing else is raised."""
    body = written.to_body()
    parses_or_is_refused(body[:cut] + put + body[cut + 1 :])


@pytest.mark.parametrize("name", ["type", "data", "priority"])
def test_any_depth_is_refused(name: str) -> None:
    """However deep a field is nested, near the interpreter's own bound too, the message is refused with a reason."""
    for depth in range(10, 1_100):
        assert why(good(**{name: "HERE"}).replace('"HERE"', "[" * depth + "]" * depth))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task_id": ...}, "task_id is missing"),
        ({"type": ...}, "type is missing"),
        ({"data": ...}, "data is missing"),
        ({"task_id": ""}, "task_id must be 1 to 128 letters"),
        ({"task_id": "a" * 129}, "task_id must be 1 to 128 letters"),
        ({"task_id": "a\n"}, "task_id must be 1 to 128 letters"),
        ({"task_id": 7}, "task_id must be 1 to 128 letters"),
        ({"run_id": "/"}, "run_id must be 1 to 128 letters"),
        ({"priority": 10}, "priority must be a whole number from 0 to 9"),
        ({"priority": -1}, "priority must be a whole number from 0 to 9"),
        ({"priority": True}, "priority must be a whole number from 0 to 9"),
        ({"priority": 5.0}, "priority must be a whole number from 0 to 9"),
        ({"enqueued_at": -1}, "enqueued_at must be Unix seconds"),
        ({"enqueued_at": 1_800_000_000_000}, "enqueued_at must be Unix seconds"),
        ({"data": []}, "data must be a JSON object"),
        ({"data": {}}, "data.to is missing; SEND_EMAIL takes to, simulate"),
        ({"data": {"to": ""}}, "data.to must be a string that is not empty"),
        ({"data": {"to": "\ud800"}}, "data.to must be a string that is not empty"),
        ({"data": {"to": "x", "cc": "y"}}, "data has an unknown field 'cc'; SEND_EMAIL takes to, simulate"),
        ({"type": "PROCESS_DATA", "data": {"record_count": -1}}, "data.record_count must be a whole number, 0 or more"),
        ({"type": "PROCESS_DATA", "data": {"record_count": 2**53}}, "data.record_count must be a whole number"),
        ({"data": {"to": "x", "simulate": []}}, "data.simulate must be a JSON object with some of seconds"),
        ({"data": {"to": "x", "simulate": {"speed": 1}}}, "data.simulate must be a JSON object with some of seconds"),
        ({"data": {"to": "x", "simulate": {"seconds": -1}}}, "simulate.seconds must be a number from 0 to 900"),
        ({"data": {"to": "x", "simulate": {"seconds": 10**400}}}, "simulate.seconds must be a number from 0 to 900"),
        ({"data": {"to": "x", "simulate": {"fail_attempts": -2}}}, "simulate.fail_attempts must be a whole number"),
        ({"data": {"to": "x", "simulate": {"crash_attempts": 0.5}}}, "simulate.crash_attempts must be a whole number"),
        ({"data": {"to": "x", "simulate": {"retry_after_s": 901}}}, "simulate.retry_after_s must be a number from 0"),
        ({"data": {"to": "x", "simulate": {"error": "no name"}}}, "simulate.error must be a name"),
        ({"data": {"to": "x", "simulate": {"retryable": 1}}}, "simulate.retryable must be true or false"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], reason: str) -> None:
    """A message that breaks one rule is refused with a sentence that names the field and what is allowed."""
    assert why(good(**changes)).startswith(reason)


@pytest.mark.parametrize("body", ["", "{", "NaN", '{"task_id": NaN}', "Infinity", "\ufeff{}", "9" * 5_000])
def test_what_is_not_json_is_called_so(body: str) -> None:
    """Text that is no JSON, not-a-number and numbers beyond reading included, is refused as such."""
    assert why(body).startswith("the body is not JSON: ")


@pytest.mark.parametrize("body", ["[]", "null", "7", '"text"'])
def test_json_that_is_no_object_is_refused(body: str) -> None:
    """JSON other than an object is refused with what it is instead."""
    assert why(body).startswith("the body must be a JSON object, not ")


def test_an_unknown_type_lists_the_known_ones() -> None:
    """A task of an unknown type is refused with the types that there are."""
    assert why(good(type="FLY")) == "unknown task type 'FLY'; known are IMAGE_RESIZE, PROCESS_DATA, SEND_EMAIL"


def test_of_a_repeated_key_the_last_counts() -> None:
    """A body that names a field twice is read as JSON readers do: the last one counts."""
    assert parse_body('{"task_id": "first", ' + good(task_id="last")[1:]).task_id == "last"


def test_an_unknown_field_is_let_through() -> None:
    """A newer producer may add fields; they do not make the message invalid."""
    assert parse_body(good(trace="abc")) == parse_body(good())


@pytest.mark.parametrize("wrong", [{"max_attempts": 0}, {"max_attempts": 21}, {"base_s": -1}, {"factor": 0.5}])
def test_a_retry_policy_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    """A task type with a budget or a back-off out of range is refused where it is registered."""
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} is "):
        Retry(**wrong)


def test_a_refused_message_keeps_the_ids_that_could_be_read() -> None:
    """The error carries task and run id where the body names usable ones, and none where it does not."""
    with pytest.raises(InvalidMessage) as refused:
        parse_body(good(task_id="t-1", run_id="r-1", data={}))
    assert (refused.value.task_id, refused.value.run_id) == ("t-1", "r-1")
    with pytest.raises(InvalidMessage) as refused:
        parse_body(good(task_id="no id", run_id=["r"]))
    assert (refused.value.task_id, refused.value.run_id) == (None, None)


def test_a_body_over_1_mib_is_not_written() -> None:
    """A task whose body fits 1 MiB to the byte is written; one byte more is refused with its size."""
    room = MAX_BODY_BYTES - len(task("big", data={"to": "x"}).to_body()) + 1
    assert len(task("big", data={"to": "x" * room}).to_body()) == MAX_BODY_BYTES
    with pytest.raises(InvalidMessage, match=r"1,048,577 bytes, at most 1,048,576 \(1 MiB\)"):
        task("big", data={"to": "x" * (room + 1)}).to_body()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_what_json_cannot_hold_is_not_written(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that JSON cannot hold is refused by the producer, with the task's id."""
    monkeypatch.setitem(contract._TYPES, "PLAIN", contract.TaskType(name="PLAIN", run=dict, fields={"it": dict}))
    with pytest.raises(InvalidMessage, match="cannot be written as JSON") as refused:
        Task(task_id="a", type="PLAIN", data={"it": {"deep": value}}).to_body()
    assert refused.value.task_id == "a"


@given(enqueued_at=st.floats(0, 4_102_444_800, exclude_max=True), seconds=st.integers(0, 4_102_444_799))
def test_a_time_that_is_let_through_can_be_stored(enqueued_at: float, seconds: int) -> None:
    """Every enqueue time that the contract admits is a number that DynamoDB holds (38 digits, 1e-130 to 1e126)."""
    for value in (enqueued_at, seconds):
        with suppress(InvalidMessage):
            stored = to_attribute(parse_body(good(enqueued_at=value)).enqueued_at)["N"]
            assert float(DYNAMODB_CONTEXT.create_decimal(stored)) == value


@pytest.mark.parametrize(("fail_attempts", "failing"), [(0, []), (2, [1, 2]), (-1, [1, 2, 3, 4])])
def test_the_first_attempts_fail(fail_attempts: int, failing: list[int]) -> None:
    """The first `fail_attempts` attempts fail, none for 0, every one for -1."""
    simulate = Simulate(fail_attempts=fail_attempts)
    assert [attempt for attempt in range(1, 5) if simulate.fails(attempt)] == failing


@pytest.fixture
def own_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test register task types that are gone after it."""
    monkeypatch.setattr(contract, "_TYPES", dict(contract._TYPES))


@pytest.mark.usefixtures("own_types")
def test_one_decorated_function_is_a_task_type() -> None:
    """A type registered by one decorated function is known to producer, workload and function alike."""

    @register("TRANSCODE_VIDEO")
    def transcode(context: TaskContext, source: str, bitrate: int, preset: str = "fast") -> dict[str, Any]:
        return {"source": source, "bitrate": bitrate, "preset": preset, "attempt": context.attempt}

    assert "TRANSCODE_VIDEO" in task_types()
    assert task_type("TRANSCODE_VIDEO").required == {"source", "bitrate"}
    sent = Task(task_id="a", type="TRANSCODE_VIDEO", data={"source": "s", "bitrate": 9})
    assert parse_body(sent.to_body()) == sent
    assert why(good(type="TRANSCODE_VIDEO", data={"source": "s"})).startswith("data.bitrate is missing")
    assert set(generate(Workload(n_tasks=5, mix="TRANSCODE_VIDEO=1"), "r")["task_type"]) == {"TRANSCODE_VIDEO"}
    [[result], _] = run_claims([claim(sent)], time.time() + 5, 3)
    assert json.loads(result.result or "") == {"source": "s", "bitrate": 9, "preset": "fast", "attempt": 1}


@pytest.mark.usefixtures("own_types")
@pytest.mark.parametrize("hint", [dict, dict[str, Any], float, bool, list, set, int | None], ids=str)
def test_a_field_type_is_checked_or_refused_at_once(hint: Any) -> None:
    """A field's type is one that messages are checked for, or it is refused by name at registration."""

    def run(context: TaskContext, it: Any) -> dict[str, Any]:
        return {context.task_id: it}

    run.__annotations__["it"] = hint
    try:
        register("OWN")(run)
    except TypeError as error:
        refused = str(error)
    else:
        refused = ""
    values: list[Any] = [] if "it" in refused else ["text", 7, 1.5, None, [], {}, True]
    assert values or refused
    for value in values:
        parses_or_is_refused(good(type="OWN", data={"it": value}))


@given(task_id=_IDS)
def test_a_shard_is_one_of_the_index(task_id: str) -> None:
    """Every id has a shard among those that readers query."""
    assert shard_of(task_id) in range(N_SHARDS)


def test_shards_are_stable_and_spread() -> None:
    """The shard of an id is the same in every process and every version, and ids spread evenly over all shards."""
    assert [shard_of(name) for name in ("a", "run-1-0000000", "T_2.x:y")] == [3, 6, 2]
    sizes = Counter(shard_of(f"run-{run}-{i:07d}") for run in range(4) for i in range(2_000))
    assert len(sizes) == N_SHARDS
    assert max(sizes.values()) < 1.25 * min(sizes.values())


def test_the_contract_needs_the_standard_library_alone() -> None:
    """The contract and the task types are imported where there is nothing but Python and the function's folder."""
    code = f"import sys; sys.path.append({str(PROJECT_ROOT / 'lambda')!r}); import taskq_worker.contract as it; "
    code += "print(it.task_types(), it.shard_of('a'))"
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    assert ran.stdout == f"{task_types()} {shard_of('a')}\n"
