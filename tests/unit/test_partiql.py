"""Statements that the table keeps refusing are said once, so that the alarm on the store hears of throttling."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.config import Config
from botocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib.aws import template
from taskq_worker.attributes import to_attribute
from taskq_worker.partiql import N_TRIES, Table, code_of, write_at_once
from tests.unit import plain
from tests.unit.events import lines

STATEMENTS = [{"Statement": f"statement {i}"} for i in range(3)]
RIDER = {"Statement": "rider"}


class Throttled:
    """A table that refuses each statement `n_refusals` times."""

    def __init__(self, n_refusals: int, code: str) -> None:
        """Refuse with `code`."""
        self.n_refusals, self.code = n_refusals, code
        self.seen: dict[str, int] = {}

    def batch_execute_statement(self, *, Statements: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        """Answer each statement for itself."""
        return {"Responses": [self._answer(one["Statement"]) for one in Statements]}

    def _answer(self, text: str) -> dict[str, Any]:
        self.seen[text] = self.seen.get(text, 0) + 1
        if self.seen[text] > self.n_refusals:
            return {}
        return {"Error": {"Code": self.code, "Message": "too much"}}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(time, "sleep", lambda _s: None)


@pytest.mark.parametrize("code", ["ThrottlingError", "ProvisionedThroughputExceeded"])
def test_throttling_that_lasts_is_said_once(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Statements that are still throttled at the last try are one error line, with the code and how many there are."""
    client = Throttled(N_TRIES, code)
    answers = Table(client=client, name="t").execute(STATEMENTS)
    assert [code_of(answer) for answer in answers] == [code] * 3
    [said] = lines(capsys.readouterr().out, "taskq.store_refused")
    assert (said["level"], said["error"]["Code"], said["nStatements"]) == ("ERROR", code, 3)
    pattern = plain.read(template.TEMPLATE.read_text())["Resources"]["StoreFailures"]["Properties"]["FilterPattern"]
    assert said["event"] in re.findall(r'"([\w.]+)"', pattern)


def test_throttling_that_passes_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    """What succeeds at the last try, and a rider that nobody waits for, raise no alarm."""
    client = Throttled(N_TRIES - 1, "ThrottlingError")
    answers = Table(client=client, name="t").execute(STATEMENTS, [RIDER])
    assert [code_of(answer) for answer in answers] == [None] * 3 + ["ThrottlingError"]
    assert client.seen["rider"] == 1
    assert capsys.readouterr().out == ""


class Answered:
    """What botocore takes for an HTTP answer."""

    status_code = 200


def client_that_keeps(bodies: list[Any], protocol: str = "json", read: Callable[[bytes], Any] = json.loads) -> Any:
    """Return a client that sends nothing and keeps what it would have sent."""
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    session = get_session()
    model = session.get_component("data_loader").load_service_model("dynamodb", "service-2")
    model["metadata"]["protocols"] = [protocol]
    client = session.create_client("dynamodb", "us-east-1", config=Config(parameter_validation=False), **keys)

    def keep(params: dict[str, Any], **_: Any) -> tuple[Answered, dict[str, Any]]:
        bodies.append((params["headers"], read(params["body"])))
        return Answered(), {"Responses": []}

    client.meta.events.register_last("before-call.dynamodb.BatchExecuteStatement", keep)
    return client


BODIES: list[Any] = []
PLAIN, DIRECT = client_that_keeps(BODIES), client_that_keeps(BODIES)
write_at_once(DIRECT)

values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.tuples(st.text(), st.lists(values, max_size=4)), min_size=1, max_size=4))
def test_statements_go_as_the_sdk_would_write_them(said: list[tuple[str, list[Any]]]) -> None:
    """Whatever the statements hold, the request has the headers and the content of the SDK's own serializer."""
    statements = [{"Statement": text, "Parameters": [to_attribute(one) for one in some]} for text, some in said]
    BODIES.clear()
    for client in (PLAIN, DIRECT):
        assert client.batch_execute_statement(Statements=statements, ReturnConsumedCapacity="TOTAL") == {
            "Responses": []
        }
    plain_request, direct_request = BODIES
    assert plain_request == direct_request
    assert plain_request[1]["Statements"] == statements


def test_a_client_of_another_protocol_is_left_as_it_is() -> None:
    """Where a body is not JSON, the SDK writes all of it."""
    bodies: list[Any] = []
    client = client_that_keeps(bodies, "smithy-rpc-v2-cbor", read=bytes)
    for _ in range(2):
        client.batch_execute_statement(Statements=STATEMENTS)
        write_at_once(client)
    assert bodies[0] == bodies[1]
    assert all(one["Statement"].encode() in bodies[0][1] for one in STATEMENTS)
