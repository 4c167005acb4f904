"""The fast way from DynamoDB's answers to frames leads to the same frames as the slow one, whatever is answered."""

import json
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pandas as pd
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskq_lib.aws import columns, frames, status, wire
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_worker.attributes import to_attribute
from taskq_worker.contract import MAX_LOGGED_ATTEMPTS, N_SHARDS, State

QUERIED = wire.query_decoder(columns.Item)
REQUEST = {"TableName": "table", "KeyConditionExpression": "a = b"}

# --- items on the wire ------------------------------------------------------------------------------------------------

Attribute = dict[str, Any]


def _number(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Attribute]:
    return of.map(lambda value: {"N": value if isinstance(value, str) else repr(value)})


_TEXTS: st.SearchStrategy[Attribute] = st.fixed_dictionaries({"S": st.text(max_size=6)})
_COUNTS = _number(st.integers(0, 30))
_TIMES = _number(st.floats(1, 4_102_444_799).map(lambda seconds: round(seconds, 3)) | st.integers(0, 4_102_444_799))
_FLAGS: st.SearchStrategy[Attribute] = st.fixed_dictionaries({"BOOL": st.booleans()})
_ODD_NUMBERS = _number(
    st.sampled_from(["0", "-0", "-1", "1E+2", "1.5e3", "127", "128", "-129", "2147483648", "1E+126", "-9.5", "0.0005"])
    | st.integers(-(10**38), 10**38)
    | st.floats(allow_nan=False, allow_infinity=False)
)
_ODD = st.recursive(
    _TEXTS
    | _FLAGS
    | _ODD_NUMBERS
    | st.sampled_from([{"NULL": True}, {"B": "AAEC"}, {"SS": ["a", "b"]}, {"NS": ["1", "2.5"]}, {"X": "unknown"}]),
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda members: {"L": members})
        | st.dictionaries(st.text(max_size=3), inner, max_size=2).map(lambda members: {"M": members})
    ),
    max_leaves=4,
)
_OUTCOMES = st.sampled_from([{"S": "completed"}, {"S": "failed"}, {"S": "lost"}])
_ENTRY = {
    "redrive": _number(st.integers(0, 2)),
    "received": _TIMES,
    "started": _TIMES,
    "finished": _TIMES,
    "requestId": _TEXTS,
    "coldStart": _FLAGS,
    "errorType": _TEXTS,
    "error": _TEXTS,
}
_ENTRIES = st.fixed_dictionaries({"outcome": _OUTCOMES}, optional=_ENTRY).map(lambda entry: {"M": entry})
# Short ones, and one as long as a log may be, after which it is cut.
_LOGS = st.lists(_ENTRIES, max_size=3) | st.lists(_ENTRIES, min_size=2, max_size=2).map(
    lambda ends: ends[:1] * (MAX_LOGGED_ATTEMPTS - 1) + ends[1:]
)
_FIELDS = {
    "taskType": st.sampled_from([{"S": "SEND_EMAIL"}, {"S": "REMOVED_TYPE"}]),
    "priority": _number(st.integers(0, 9)),
    "deadLettered": _FLAGS,
    "redrives": _number(st.integers(0, 2)),
    "duplicates": _COUNTS,
    "attemptLog": _LOGS.map(lambda log: {"L": log}),
    **dict.fromkeys(("runId", "messageGroup", "reason", "errorType", "error", "result", "claimedBy"), _TEXTS),
    **dict.fromkeys(("timestamp", "enqueuedAt", "sentAt", "startedAt", "finishedAt", "leaseUntil"), _TIMES),
}
_REQUIRED = {
    "taskId": _TEXTS,
    "status": st.sampled_from([{"S": "PROCESSING"}, {"S": "COMPLETED"}, {"S": "FAILED"}, {"S": "NEW"}]),
    "attempts": _COUNTS,
}
_USUAL: st.SearchStrategy[Attribute] = st.fixed_dictionaries(_REQUIRED, optional=_FIELDS)


@st.composite
def _odd_items(draw: st.DrawFn) -> Attribute:
    """An item with one attribute that is not what it should be, of another type or missing, perhaps in its log."""
    item = draw(_USUAL)
    name = draw(st.sampled_from([*_REQUIRED, *_FIELDS, "unknown", "entry"]))
    if name == "entry":
        log = item.setdefault("attemptLog", {"L": [{"M": {"outcome": {"S": "failed"}}}]})["L"]
        log.append({"M": {"outcome": {"S": "failed"}, draw(st.sampled_from([*_ENTRY, "outcome"])): draw(_ODD)}})
    elif draw(st.integers(0, 3)):
        item[name] = draw(_ODD)
    else:
        item.pop(name, None)
    return item


# --- the two ways -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def target() -> Target:
    """An endpoint that cannot be reached."""
    session = boto3.Session("test", "test", region_name="us-east-1")
    return Target(name="local", session=session, region="us-east-1", endpoint_url="http://127.0.0.1:9")


class Answers:
    """What is answered to a client, in place of the network."""

    def __init__(self, *pages: Sequence[Attribute]) -> None:
        """Answer one page a request."""
        self.pages = pages
        self.n_asked = 0

    def __call__(self, **_: Any) -> AWSResponse:
        """Answer a request."""
        page = self.pages[self.n_asked % len(self.pages)]
        self.n_asked += 1
        is_last = self.n_asked % len(self.pages) == 0
        key = {} if is_last else {"LastEvaluatedKey": {"taskId": {"S": str(self.n_asked)}}}
        body = json.dumps({"Count": len(page), "Items": page, "ScannedCount": len(page), **key}).encode()
        return AWSResponse("http://127.0.0.1:9", 200, {"x-amz-crc32": str(zlib.crc32(body))}, _Raw(body))


class _Raw:
    """The body of an answer, as the SDK reads it."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def stream(self) -> Iterator[bytes]:
        yield self.body


def both(target: Target, *pages: Sequence[Attribute]) -> tuple[Any, Any]:
    """Return what comes of these pages the fast and the slow way: two frames, or the type of an error."""
    client = target.client("dynamodb")
    client.meta.events.register("before-send.dynamodb.Query", answer := Answers(*pages))
    try:
        return _tried(lambda: _fast(client)), _tried(lambda: _slow(client))
    finally:
        client.meta.events.unregister("before-send.dynamodb.Query", answer)


def _fast(client: Any) -> Any:
    with ThreadPoolExecutor(1) as gatherer:
        return columns.frames_of([columns.gather(wire.query(client, QUERIED, REQUEST), gatherer)])


def _slow(client: Any) -> Any:
    items = frames.read_items(item for page in wire.query(client, None, REQUEST) for item in page)
    return frames.tasks_frame(items), frames.attempts_frame(items)


def _tried(way: Any) -> Any:
    try:
        return way()
    except (ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError, RuntimeError) as error:
        return type(error)


def assert_same(found: tuple[Any, Any]) -> None:
    """Both ways led to equal frames, or to the same error."""
    fast, slow = found
    if isinstance(slow, type) or isinstance(fast, type):
        assert fast is slow
        return
    for ours, law in zip(fast, slow, strict=True):
        pd.testing.assert_frame_equal(ours, law, check_exact=True)


@settings(max_examples=40)
@given(
    pages=st.lists(st.lists(_USUAL, max_size=3), min_size=1, max_size=3),
    n_gathered=st.sampled_from([1, 3, 1000]),
    unfit=st.sampled_from([None, 0, 1]),
)
def test_both_ways_lead_to_the_same_frames(
    target: Target, pages: list[list[Attribute]], n_gathered: int, unfit: int | None
) -> None:
    """Items as the function writes them, with whatever may be missing, make equal frames both ways, in order.

    So do pages that are empty, and one among them that does not fit.
    """
    if unfit is not None and unfit < len(pages):
        pages[unfit] = [item | {"result": {"B": "AAEC"}} for item in pages[unfit]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_N_GATHERED", n_gathered)
        found = both(target, *pages)
    assert not isinstance(found[0], type)
    assert_same(found)


@settings(max_examples=60)
@given(odd=_odd_items(), usual=st.lists(_USUAL, max_size=2))
@example(
    odd={"taskId": {"S": "a"}, "status": {"S": "FAILED"}, "attempts": {"N": "1"}, "result": {"B": "AA=="}}, usual=[]
)
def test_what_does_not_fit_goes_the_slow_way(target: Target, odd: Attribute, usual: list[Attribute]) -> None:
    """An attribute of another type, out of range or missing makes of its page what the slow way makes of it."""
    assert_same(both(target, [odd, *usual]))


# --- through the network ----------------------------------------------------------------------------------------------


class Table:
    """A status table on loopback: the pages of each shard, items by id, and faults that are answered once."""

    def __init__(self) -> None:
        """Hold nothing."""
        self.pages: dict[int, list[list[str]]] = {}  #: shard -> ids of each page
        self.faults: dict[tuple[int, int], str] = {}  #: shard and page -> what happens first
        self.n_parts = 1  #: So much of the keys of a request is read, and the others are left unprocessed
        self.lock = threading.Lock()

    def answer(self, operation: str, asked: dict[str, Any]) -> tuple[int, bytes, str | None]:
        """Return status, body and fault of an answer."""
        if operation == "BatchGetItem":
            [(table, request)] = asked["RequestItems"].items()
            n_read = len(request["Keys"]) // self.n_parts or 1
            left = {table: {**request, "Keys": request["Keys"][n_read:]}} if request["Keys"][n_read:] else {}
            items = [wire_item(key["taskId"]["S"]) for key in request["Keys"][:n_read]]
            return 200, json.dumps({"Responses": {table: items}, "UnprocessedKeys": left}).encode(), None
        shard = int(asked["ExpressionAttributeValues"][":shard"]["N"])
        page = int(asked.get("ExclusiveStartKey", {"taskId": {"S": "0"}})["taskId"]["S"])
        with self.lock:
            fault = self.faults.pop((shard, page), None)
        if fault is not None and fault.endswith("Exception"):
            return 400, json.dumps({"__type": f"com.amazonaws.dynamodb#{fault}", "message": "no"}).encode(), None
        pages = self.pages.get(shard, [[]])
        key = {"LastEvaluatedKey": {"taskId": {"S": str(page + 1)}}} if page + 1 < len(pages) else {}
        return 200, json.dumps({"Items": [wire_item(one) for one in pages[page]], **key}).encode(), fault


def wire_item(task_id: str) -> Attribute:
    """Make a completed task's item as it is on the wire."""
    log = [{"started": 1_800_000_000.5, "finished": 1_800_000_001.25, "outcome": "completed"}]
    item = {"taskId": task_id, "status": "COMPLETED", "attempts": 1, "timestamp": 1_800_000_001.25, "attemptLog": log}
    return {name: to_attribute(value) for name, value in item.items()}


@pytest.fixture
def table() -> Iterator[tuple[Table, Stack]]:
    """A table that answers, and the stack that has it."""
    table = Table()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code, body, fault = table.answer(self.headers["X-Amz-Target"].rpartition(".")[2], asked)
            self.close_connection = fault is not None
            if fault == "broken":
                return
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("x-amz-crc32", str(zlib.crc32(body) ^ (fault == "garbled")))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        session = boto3.Session("test", "test", region_name="us-east-1")
        url = f"http://127.0.0.1:{server.server_port}"
        target = Target(name="local", session=session, region="us-east-1", endpoint_url=url)
        outputs = {"TableName": "table", "TimeIndexName": "by-time"}
        yield table, Stack(target=target, name="s", status="CREATE_COMPLETE", parameters={}, outputs=outputs)
        server.shutdown()
        target.client("dynamodb").close()


def read(stack: Stack) -> status.Statuses:
    """Read the whole window."""
    return status.window(stack, datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))


def test_the_sdk_hands_answers_over_before_it_parses_them(table: tuple[Table, Stack]) -> None:
    """The SDK's event is still there: what the function writes is decoded past the parser, in both kinds of reads."""
    server, stack = table
    server.pages = {0: [["a"]]}
    client = stack.target.client("dynamodb")
    request = status._by_time(stack, datetime(2020, 1, 1, tzinfo=UTC), None)(0)
    [[queried]] = wire.query(client, QUERIED, request)
    key = {"Keys": [{"taskId": {"S": "a"}}]}
    [[got]] = wire.batch_get(client, wire.batch_get_decoder(columns.Item), "table", key)
    assert isinstance(queried, columns.Item)
    assert isinstance(got, columns.Item)


def test_only_what_is_read_for_frames_is_decoded(table: tuple[Table, Stack]) -> None:
    """Other calls of the same client are parsed as ever, also while another thread reads a window through it."""
    server, stack = table
    server.pages = {shard: [[f"t-{shard}-{page}"] for page in range(5)] for shard in range(N_SHARDS)}
    client, stop, seen = stack.target.client("dynamodb"), threading.Event(), []
    request = status._by_time(stack, datetime(2020, 1, 1, tzinfo=UTC), None)(0)

    def ask() -> None:
        while not stop.is_set():
            seen.append(client.query(**request)["Items"])

    other = threading.Thread(target=ask)
    other.start()
    found = [read(stack) for _ in range(3)]
    stop.set()
    other.join()
    assert all(items == [wire_item("t-0-0")] for items in seen)
    assert all(len(one.tasks) == 5 * N_SHARDS for one in found)


@pytest.mark.parametrize("is_emitted", [True, False], ids=["decoded", "parsed"])
def test_faults_on_the_way_cost_no_row(
    table: tuple[Table, Stack], monkeypatch: pytest.MonkeyPatch, *, is_emitted: bool
) -> None:
    """Throttled, broken, garbled and empty pages: the same rows, shard by shard, and the same where no event comes."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _s: None)
    if not is_emitted:
        monkeypatch.setattr(wire, "attach", lambda _client: None)
    server, stack = table
    server.pages = {shard: [[f"t-{shard}-{page}"] for page in range(4)] for shard in range(N_SHARDS)}
    server.pages[3] = [["t-3-0"], [], [], ["t-3-3"]]
    server.pages[4] = [[]]
    server.faults = {
        (0, 0): "ProvisionedThroughputExceededException",
        (1, 2): "ProvisionedThroughputExceededException",
        (1, 3): "broken",
        (2, 1): "garbled",
        (3, 1): "ThrottlingException",
    }
    found = read(stack)
    ids = [one for shard in range(N_SHARDS) for page in server.pages[shard] for one in page]
    items = frames.read_items(wire_item(one) for one in ids)
    assert not server.faults
    pd.testing.assert_frame_equal(found.tasks, frames.tasks_frame(items))
    pd.testing.assert_frame_equal(found.attempts, frames.attempts_frame(items))


def test_an_error_is_the_sdks(table: tuple[Table, Stack]) -> None:
    """An answer that is an error is raised as the SDK raises it."""
    server, stack = table
    server.faults = {(5, 0): "ResourceNotFoundException"}
    with pytest.raises(ClientError, match=r"\(ResourceNotFoundException\)"):
        read(stack)


def test_keys_left_unprocessed_are_read_in_their_order(
    table: tuple[Table, Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that a request leaves unread come in the next, and rows in the order of the keys; states likewise."""
    monkeypatch.setattr("taskq_lib.aws.wire.time.sleep", lambda _s: None)
    server, stack = table
    server.n_parts = 2
    ids = [f"t-{i}" for i in range(250)]
    assert status.get(stack, ids).tasks["task_id"].tolist() == ids
    assert status._states(stack, ids) == dict.fromkeys(ids, State.COMPLETED)
