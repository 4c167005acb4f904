"""The circuit breakers are read by key, whatever lies there: what the function did not write says nothing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib.aws import breakers
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import NotDone
from taskq_worker.contract import breaker_key

GOOD: dict[str, Any] = {
    "taskId": {"S": breaker_key("SEND_EMAIL")},
    "state": {"S": "open"},
    "n": {"N": "20"},
    "failed": {"N": "15"},
    "probeAt": {"N": "1800000030.5"},
    "transitions": {
        "L": [
            {
                "M": {
                    "state": {"S": "open"},
                    "at": {"N": "1800000000.25"},
                    "n": {"N": "20"},
                    "failed": {"N": "15"},
                }
            }
        ]
    },
}
OTHER = {"taskId": {"S": breaker_key("PROCESS_DATA")}}
VALUES = st.recursive(
    st.text(max_size=5).map(lambda text: {"S": text})
    | st.integers(-(10**20), 10**20).map(lambda number: {"N": str(number)})
    | st.floats(allow_nan=False, allow_infinity=False, min_value=-1e20, max_value=1e20).map(lambda f: {"N": repr(f)})
    | st.just({"NULL": True})
    | st.booleans().map(lambda flag: {"BOOL": flag}),
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda members: {"L": members})
        | st.dictionaries(st.sampled_from(["state", "at", "n", "failed"]), inner, max_size=4).map(lambda m: {"M": m})
    ),
    max_leaves=6,
)


class Table:
    """A table that returns these items, and leaves one key unread in its first answers."""

    def __init__(self, *items: dict[str, Any], n_throttled: int = 0) -> None:
        """Hold the items."""
        self.items, self.n_throttled = items, n_throttled

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - boto3's own name
        """Answer one request."""
        [(table, request)] = RequestItems.items()
        self.n_throttled -= 1
        if self.n_throttled >= 0:
            return {"Responses": {}, "UnprocessedKeys": RequestItems}
        keys = [key["taskId"] for key in request["Keys"]]
        return {"Responses": {table: [item for item in self.items if item["taskId"] in keys]}}


def read(*items: dict[str, Any], n_throttled: int = 0) -> breakers.Breakers:
    """Read the breakers of a table with these items."""
    table = Table(*items, n_throttled=n_throttled)
    target = Target(name="aws", session=None, region="us-east-1", _clients={"dynamodb": table})
    return breakers.read(Stack(target=target, name="s", status="", parameters={}, outputs={"TableName": "t"}))


def assert_typed(found: breakers.Breakers) -> None:
    """Both frames have exactly their columns and dtypes, with rows or without."""
    wanted = (breakers.CURRENT_COLUMNS, breakers.TRANSITION_COLUMNS)
    for frame, columns in zip(found, wanted, strict=True):
        assert {name: str(frame[name].dtype) for name in frame} == {name: str(kind) for name, kind in columns.items()}


def test_a_breaker_is_read_as_it_was_written() -> None:
    """State, counts, times and changes come out as the function wrote them."""
    found = read(GOOD)
    assert_typed(found)
    [row] = found.current.to_dict("records")
    assert (row["task_type"], row["state"], row["n_attempts"], row["n_failed"]) == ("SEND_EMAIL", "open", 20, 15)
    assert (row["probe_at"] - row["since"]).total_seconds() == 30.25
    assert found.transitions["state"].tolist() == ["open"]


@given(changed=st.dictionaries(st.sampled_from(["state", "n", "failed", "probeAt", "transitions"]), VALUES))
def test_what_somebody_else_wrote_is_skipped(changed: dict[str, Any]) -> None:
    """Whatever lies under a breaker's key, the others are read, and the frames keep their types."""
    found = read(GOOD, OTHER | changed)
    assert_typed(found)
    assert found.current["task_type"].tolist()[-1:] == ["SEND_EMAIL"]
    assert found.transitions["task_type"].tolist().count("SEND_EMAIL") == 1


def test_an_item_that_lacks_attributes_is_skipped() -> None:
    """An item under a breaker's key without its attributes has no row."""
    found = read(OTHER, {**GOOD, "transitions": {"L": []}})
    assert_typed(found)
    assert found.current.empty
    assert found.transitions.empty


def test_a_throttled_table_is_asked_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that were left unread are asked for again after a pause, and not for ever."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    assert len(read(GOOD, n_throttled=3).current) == 1
    assert len(pauses) == 3
    with pytest.raises(NotDone, match="left keys unread"):
        read(GOOD, n_throttled=99)
