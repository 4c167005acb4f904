"""The partial batch response: what a mapping makes of a function's answer, and that ours never gives a wrong one."""

import io
import json
import time
import uuid
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError

from taskq_lib.aws.target import Target
from taskq_worker import batch, contract
from taskq_worker.store import StatusStore
from tests.integration.function import Function
from tests.unit.events import Context, deliveries, event, task
from tests.unit.test_fuzz import SENDABLE, generated, why

pytestmark = pytest.mark.integration

Item = Callable[[str], dict[str, Any] | None]
Workers = Callable[..., StatusStore]
Code = Callable[[Callable[[], Any]], None]

# --- what the event source mapping does with an answer ------------------------------------------------------------

#: Answers as its messages say, at their first receive; notes every receive; whatever comes again then ends.
HANDLER = """
import json, os

def handler(event, context):
    records = [(record, json.loads(record["body"])) for record in event["Records"]]
    receives = [int(record["attributes"]["ApproximateReceiveCount"]) for record, _ in records]
    with open(os.environ["SEEN"], "a") as seen:
        seen.writelines(f"{body['case']}:{body['n']}:{n}\\n" for (_, body), n in zip(records, receives))
    if min(receives) > 1:
        return {"batchItemFailures": []}
    ids = [record["messageId"] for record, _ in records]
    named = [record["messageId"] for record, body in records if body["n"] == 0]
    return eval(records[0][1]["answer"])
"""
N_MESSAGES = 3
#: Longer than as many cold starts at a time as there are cases: nothing may come again but for its answer.
VISIBILITY_S = 15
NONE, FIRST, ALL = frozenset[int](), frozenset([0]), frozenset(range(N_MESSAGES))


@dataclass(frozen=True)
class Case:
    """One answer of a function, and which of a batch's messages come again for it."""

    answer: str  #: A Python expression; `ids` are those of the batch, `named` that of its first message
    on_aws: frozenset[int]  #: After the AWS Lambda guide, "Handling errors for an SQS event source"
    on_engine: frozenset[int]
    reports: bool = True  #: Whether the mapping has ReportBatchItemFailures


def same(answer: str, again: frozenset[int], **fields: Any) -> Case:
    """Make a case in which the engine does as AWS does."""
    return Case(answer, again, again, **fields)


SAME = {
    "exception": same("1 / 0", ALL),
    "not JSON": same("{1, 2}", ALL),
    "null": same("None", NONE),
    "empty object": same("{}", NONE),
    "empty list": same("{'batchItemFailures': []}", NONE),
    "all failed": same("{'batchItemFailures': [{'itemIdentifier': one} for one in ids]}", ALL),
    "mixed": same("{'batchItemFailures': [{'itemIdentifier': one} for one in named]}", FIRST),
    "not asked for": same("{'batchItemFailures': [{'itemIdentifier': one} for one in ids]}", NONE, reports=False),
}
#: Where AWS gives the whole batch another turn, the engine deletes what is not named; a null list it cannot read.
DIFFERENT = {
    "null list": Case("{'batchItemFailures': None}", NONE, ALL),
    "unknown identifier": Case("{'batchItemFailures': [{'itemIdentifier': 'nobody'}]}", ALL, NONE),
    "empty identifier": Case("{'batchItemFailures': [{'itemIdentifier': ''}]}", ALL, NONE),
    "null identifier": Case("{'batchItemFailures': [{'itemIdentifier': None}]}", ALL, NONE),
    "bad key": Case("{'batchItemFailures': [{'messageId': one} for one in ids]}", ALL, NONE),
    "mixed with unknown": Case(
        "{'batchItemFailures': [{'itemIdentifier': one} for one in [*named, 'nobody']]}", ALL, FIRST
    ),
}


def create_function(target: Target, seen: Path) -> str:
    """Create the function of `HANDLER`, which notes what it sees in the file `seen`; returns its name."""
    code, name = io.BytesIO(), f"steered-{uuid.uuid4().hex[:8]}"
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("index.py", HANDLER)
    target.client("lambda").create_function(
        FunctionName=name,
        Runtime="python3.11",
        Handler="index.handler",
        Role="arn:aws:iam::000000000000:role/steered",
        Timeout=VISIBILITY_S,
        Code={"ZipFile": code.getvalue()},
        Environment={"Variables": {"SEEN": str(seen)}},
    )
    return name


def create_queue(target: Target, function: str, case: Case) -> tuple[str, str]:
    """Create a queue that is mapped to `function`; returns its URL and the mapping's id."""
    sqs = target.client("sqs")
    attributes = {"VisibilityTimeout": str(VISIBILITY_S)}
    url = sqs.create_queue(QueueName=f"steered-{uuid.uuid4().hex[:8]}", Attributes=attributes)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    mapping = target.client("lambda").create_event_source_mapping(
        EventSourceArn=arn,
        FunctionName=function,
        BatchSize=10,
        FunctionResponseTypes=["ReportBatchItemFailures"] if case.reports else [],
    )
    return url, mapping["UUID"]


def is_empty(target: Target, queue: str) -> bool:
    """Whether a queue holds no message, visible or in flight."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = target.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return all(found[name] == "0" for name in names)


@pytest.fixture(scope="module")
def came_again(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, frozenset[int]]]:
    """Run all cases side by side, each on a queue of its own; gives the messages that were delivered again by case."""
    seen = tmp_path_factory.mktemp("steered") / "seen"
    function, cases = create_function(target, seen), SAME | DIFFERENT
    queues = {name: create_queue(target, function, case) for name, case in cases.items()}
    for name, (url, _) in queues.items():
        bodies = [json.dumps({"case": name, "n": n, "answer": cases[name].answer}) for n in range(N_MESSAGES)]
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)]
        target.client("sqs").send_message_batch(QueueUrl=url, Entries=entries)
    deadline = time.monotonic() + 120
    # What comes again ends at its second receive, so an empty queue has nothing left to tell.
    while waiting := [name for name, (url, _) in queues.items() if not is_empty(target, url)]:
        assert time.monotonic() < deadline, f"these queues still hold messages: {waiting}"
        time.sleep(0.1)
    receives: dict[str, dict[int, int]] = defaultdict(dict)
    for name, n, n_receives in (line.split(":") for line in seen.read_text().splitlines()):
        receives[name][int(n)] = max(int(n_receives), receives[name].get(int(n), 0))
    assert {name: set(found) for name, found in receives.items()} == {name: set(ALL) for name in cases}
    yield {name: frozenset(n for n, most in found.items() if most > 1) for name, found in receives.items()}
    for url, mapping in queues.values():
        target.client("lambda").delete_event_source_mapping(UUID=mapping)
        target.client("sqs").delete_queue(QueueUrl=url)
    target.client("lambda").delete_function(FunctionName=function)


@pytest.mark.parametrize("name", SAME)
def test_the_mapping_takes_an_answer_as_aws_does(came_again: dict[str, frozenset[int]], name: str) -> None:
    """For this answer the engine delivers the same messages again as AWS does, and deletes the others."""
    assert came_again[name] == SAME[name].on_aws


@pytest.mark.parametrize("name", DIFFERENT)
def test_the_mapping_differs_from_aws_as_known(came_again: dict[str, frozenset[int]], name: str) -> None:
    """A known difference of the engine, held as it is: no answer of this kind may ever come from our function."""
    assert came_again[name] == DIFFERENT[name].on_engine != DIFFERENT[name].on_aws


# --- what our function answers ------------------------------------------------------------------------------------


@pytest.fixture
def function(function: Function) -> Function:
    """Give the function as it is deployed, with unvalidated parameters, but without patience: a fault is seen soon."""
    quick = Config(retries={"total_max_attempts": 1}, connect_timeout=1, parameter_validation=False)
    function.patch.setattr(batch, "_CONFIG", batch._CONFIG.merge(quick))
    function.forget()
    return function


def answered(delivered: dict[str, Any], **context: Any) -> set[str]:
    """Run the function on an event and hold its answer against the contract; returns the ids that it names."""
    response = batch.handle_batch(delivered, Context(**context))
    assert type(response) is dict
    assert json.loads(json.dumps(response)) == response
    assert response.keys() == {"batchItemFailures"}
    assert all(failure.keys() == {"itemIdentifier"} for failure in response["batchItemFailures"])
    named = [failure["itemIdentifier"] for failure in response["batchItemFailures"]]
    assert all(type(name) is str for name in named)
    assert len(named) == len(set(named))
    assert set(named) <= {record["messageId"] for record in delivered["Records"]}
    return set(named)


class Silent(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError("no words")


class Exiting(Exception):
    """An error that ends the program when it is asked what it is."""

    def __str__(self) -> str:
        raise SystemExit(1)


class Undecided(Exception):
    """An error that cannot say whether another attempt may help."""

    @property
    def retryable(self) -> bool:
        """Fail to say it."""
        raise ValueError("who knows")


def raising(error: BaseException) -> Callable[[], Any]:
    """Make a task's code that raises `error`."""

    def code() -> None:
        raise error

    return code


def circular() -> dict[str, Any]:
    """Return a result that contains itself."""
    result: dict[str, Any] = {}
    result["self"] = result
    return result


def deep() -> list[Any]:
    """Return a result that is nested deeper than JSON can be written."""
    result: list[Any] = []
    for _ in range(100_000):
        result = [result]
    return result


def named_error(name: str) -> BaseException:
    """Make an error of a type with this name."""
    made: BaseException = type(name, (Exception,), {})("oddly named")
    return made


#: What the code of a task may do: each is a failed attempt of its task, and nothing more.
BAD_CODE: dict[str, Callable[[], Any]] = {
    "exit": raising(SystemExit(1)),
    "interrupt": raising(KeyboardInterrupt()),
    "base": raising(BaseException("base")),
    "generator exit": raising(GeneratorExit()),
    "stop": raising(StopIteration()),
    "group": raising(BaseExceptionGroup("both", [SystemExit(), ValueError("v")])),
    "no text": raising(Silent()),
    "text that exits": raising(Exiting()),
    "text that is none": raising(type("Odd", (Exception,), {"__str__": lambda _: 7})()),
    "undecided": raising(Undecided()),
    "empty text": raising(ValueError()),
    "huge text": raising(ValueError("x" * 2_000_000)),
    "surrogates": raising(ValueError("\ud800\udfff")),
    "control characters": raising(ValueError("\x00\x1b[31m\r\n\u2028")),
    "long name": raising(named_error("E" * 500_000)),
    "control name": raising(named_error("E\x01\n")),
    "no JSON": lambda: {1, 2},
    "circular": circular,
    "deep": deep,
}


@pytest.mark.parametrize("max_attempts", [3, 1], ids=["retried", "dead-lettered"])
@pytest.mark.parametrize("name", BAD_CODE)
def test_whatever_a_task_does_fails_its_task_alone(
    function: Function, item: Item, run_id: str, code: Code, *, name: str, max_attempts: int
) -> None:
    """A task's code may raise or return what it likes: its attempt fails, its neighbours complete, all is answered."""
    code(BAD_CODE[name])
    function.set(TASKQ_MAX_ATTEMPTS=str(max_attempts))
    bad = task(f"{run_id}-bad", type="OWN")
    delivered = function.send(task(f"{run_id}-a"), bad, task(f"{run_id}-b"))
    named = answered(delivered)
    assert [(item(f"{run_id}-{letter}") or {}).get("status") for letter in "ab"] == ["COMPLETED"] * 2
    found = item(bad.task_id) or {}
    assert (found.get("status"), found.get("attempts")) == ("FAILED", 1)
    assert found["errorType"]
    [its_id] = [record["messageId"] for record in delivered["Records"] if record["body"] == bad.to_body()]
    assert named == ({its_id} if max_attempts > 1 else set())
    assert list(function.dead_letters()) == ([] if max_attempts > 1 else [bad.to_body()])


def store_down(function: Function) -> None:
    """Have nobody listen where the table is."""
    function.set(AWS_ENDPOINT_URL_DYNAMODB="http://127.0.0.1:9")


def sqs_down(function: Function) -> None:
    """Have nobody listen where the queues are."""
    function.set(AWS_ENDPOINT_URL_SQS="http://127.0.0.1:9")


def all_down(function: Function) -> None:
    """Have nobody listen at all."""
    store_down(function)
    sqs_down(function)


def table_gone(function: Function) -> None:
    """Name a table that does not exist."""
    function.set(TASKQ_TABLE="nowhere")


def queues_gone(function: Function) -> None:
    """Name queues that do not exist."""
    elsewhere = {url: url.replace("/000000000000/", "/210987654321/") for url in (function.queue, function.dead)}
    function.set(TASKQ_QUEUE_URLS=elsewhere[function.queue], TASKQ_DEAD_LETTER_QUEUE_URL=elsewhere[function.dead])


def no_credentials(function: Function) -> None:
    """Leave the function without credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        function.patch.delenv(name)


def troubled(function: Function, worker: Workers, run_id: str) -> dict[str, Any]:
    """Send a batch that has one record of every kind; returns it as an event."""
    suspect, spent, leased, done = (task(f"{run_id}-{name}") for name in ("suspect", "spent", "leased", "done"))
    past = round(time.time() - 1, 3)
    [lost, _] = worker("vanished-0").claim(deliveries(spent, suspect), past)
    for i in (1, 2):
        worker(f"vanished-{i}").claim_suspect(lost, past)
    worker("busy").claim(deliveries(leased), round(time.time() + 100, 3))
    assert answered(function.send(done)) == set()
    return function.send(
        *(suspect, spent, leased, done),
        task(f"{run_id}-good"),
        task(f"{run_id}-bad", simulate={"fail_attempts": -1}),
        task(f"{run_id}-final", simulate={"fail_attempts": -1, "retryable": False}),
        task(f"{run_id}-good", priority=1),
        "{",
        json.dumps({"task_id": f"{run_id}-invalid"}),
    )


def hold_all_accounted_for(function: Function, item: Item, delivered: dict[str, Any], named: set[str]) -> None:
    """Hold that every record that is not named has ended: its task is completed, or it is a dead letter itself."""
    buried = function.dead_letters()
    for record in delivered["Records"]:
        if record["messageId"] in named or record["body"] in buried:
            continue
        task_id = json.loads(record["body"])["task_id"]
        # A second record of a task may go where the first one comes again.
        same_task = {other["messageId"] for other in delivered["Records"] if task_id in other["body"]}
        assert (item(task_id) or {}).get("status") == "COMPLETED" or same_task & named, record["body"]


@pytest.mark.parametrize("fault", [store_down, sqs_down, all_down, table_gone, queues_gone, no_credentials])
def test_whatever_is_down_every_record_is_answered_for(
    function: Function, item: Item, worker: Workers, run_id: str, fault: Callable[[Function], None]
) -> None:
    """With store or queues away the answer keeps its form, and every record is named in it or has ended."""
    delivered = troubled(function, worker, run_id)
    fault(function)
    function.patch.setattr(batch, "_sessions", [])
    function.forget()
    named = answered(delivered)
    assert named
    hold_all_accounted_for(function, item, delivered, named)


@pytest.mark.parametrize("arrives", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize(
    ("service", "number"), [("dynamodb", n) for n in range(1, 7)] + [("sqs", n) for n in range(1, 4)]
)
def test_whenever_a_connection_is_cut_every_record_is_answered_for(
    function: Function, item: Item, worker: Workers, run_id: str, *, service: str, number: int, arrives: bool
) -> None:
    """Each request of a batch may fail, before it took effect or after: every record is named or has ended."""
    delivered = troubled(function, worker, run_id)
    client, requests = batch.client(service), []

    def cut(request: Any, **_: Any) -> None:
        """Cut the connection at request `number`."""
        requests.append(request)
        if len(requests) == number:
            if arrives:
                client._endpoint.http_session.send(request)
            raise ConnectionClosedError(endpoint_url=request.url)

    client.meta.events.register_first(f"before-send.{service}", cut)
    named = answered(delivered)
    assert len(requests) >= number, "the batch made fewer requests than this test thinks"
    hold_all_accounted_for(function, item, delivered, named)


@pytest.mark.parametrize("remaining_s", [0.0, batch.MARGIN_S, 0.001])
def test_without_time_every_record_is_answered_for(
    function: Function, item: Item, worker: Workers, run_id: str, remaining_s: float
) -> None:
    """A function that is started with no time left starts no task, and still answers for every record."""
    delivered = troubled(function, worker, run_id)
    named = answered(delivered, remaining_s=remaining_s)
    assert (item(f"{run_id}-good") or {})["attempts"] == 0
    hold_all_accounted_for(function, item, delivered, named)


# --- fuzzed messages among valid ones -----------------------------------------------------------------------------

N_FUZZED, N_NEIGHBOURS, BATCH_SIZE = 3_000, 2, 10


def may_run(body: str) -> bool:
    """Whether SQS could have delivered this body, and the task, if it is one, neither takes long nor kills us."""
    if not SENDABLE.fullmatch(body) or len(body.encode()) > contract.MAX_BODY_BYTES:
        return False
    if why(body):
        return True
    simulate = contract.parse_body(body).simulate
    return simulate.seconds <= 0.01 and simulate.crash_attempts == 0


def test_fuzzed_messages_harm_no_neighbour(function: Function, item: Item, run_id: str) -> None:
    """Valid neighbours of whatever messages complete; every invalid message is a dead letter with its reason."""
    fuzzed = [body for body in generated(2 * N_FUZZED, seed=1, prefix=run_id) if may_run(body)][:N_FUZZED]
    assert len(fuzzed) == N_FUZZED
    size, letters = BATCH_SIZE - N_NEIGHBOURS, Counter[tuple[str, str]]()
    # What was read once is not read again.
    function.sqs.set_queue_attributes(QueueUrl=function.dead, Attributes={"VisibilityTimeout": "3600"})
    for start in range(0, N_FUZZED, size):
        neighbours = [task(f"{run_id}-neighbour-{start + i}") for i in range(N_NEIGHBOURS)]
        delivered = event(neighbours[0], *fuzzed[start : start + size], neighbours[1])
        named = answered(delivered)
        assert not named & {record["messageId"] for record in delivered["Records"][:: size + 1]}
        assert {(item(one.task_id) or {}).get("status") for one in neighbours} == {"COMPLETED"}
        for message in function._take(function.dead, MessageAttributeNames=["All"]):
            attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
            if attributes["reason"] == "invalid":
                letters[message["Body"], attributes["error"]] += 1
    assert letters == Counter((body, str(error)) for body in fuzzed if (error := why(body)))
    assert letters.total() > N_FUZZED / 4
