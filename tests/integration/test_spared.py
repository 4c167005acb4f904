"""What the engine is spared changes nothing: each is held to the engine's own function, which is slow and plain."""

from __future__ import annotations

import copy
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ministack.core import lambda_runtime
from ministack.services import _dynamodb_keywords as partiql
from ministack.services import dynamodb, sqs

from taskq_lib.local import serve

RECEIVE, DELETE = sqs._receive_messages_for_esm, sqs._delete_messages_for_esm

VALUES = st.recursive(
    st.one_of(
        st.text(max_size=5).map(lambda text: {"S": text}),
        st.integers().map(lambda number: {"N": str(number)}),
        st.booleans().map(lambda flag: {"BOOL": flag}),
        st.sampled_from([{"NULL": True}, {"SS": ["a", "b"]}, {"N": "1E+2"}, {"N": "-0.5"}, {"B": "AA=="}, {}, "text"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: {"L": values}),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(lambda values: {"M": values}),
    ),
    max_leaves=3,
)
#: The function's, and whatever else a parser may do with a parameter; some are refused.
STATEMENTS = (
    """INSERT INTO "t" VALUE {'taskId': ?, 'attempts': ?, 'nested': {'a': [?, 1, -2]}}""",
    'INSERT INTO "t" VALUE ?',
    'UPDATE "t" REMOVE "leaseUntil" SET "status" = ? SET "n" = "n" + ? WHERE "taskId" = ? AND "attempts" < 3',
    """UPDATE t SET l = list_append(l, ?), m = {'a': ?, 'b': 1.50} WHERE k = ? RETURNING ALL NEW *""",
    "UPDATE t SET s = set_add(s, ?) WHERE k = ?",
    "UPDATE t SET s = <<?, ?>> WHERE k = ?",
    "SELECT a, b.c[0] FROM t.i WHERE k = ? AND NOT (a BETWEEN ? AND ? OR b IN (?, ?)) AND c IN ?",
    "SELECT * FROM t WHERE k = ? AND begins_with(a, ?) AND b IS NOT MISSING AND -? < a",
    "DELETE FROM t WHERE k = ? AND a <> 'it''s ?'",
    "EXISTS (SELECT * FROM t WHERE k = ?)",
    "UPDATE t SET a = WHERE k = ?",
    "SELECT ?",
)


def outcome(parse: Callable[..., Any], text: str, parameters: list[Any]) -> Any:
    """What `parse` returns, or how it refuses."""
    try:
        return parse(text, copy.deepcopy(parameters))
    except (ValueError, TypeError, AttributeError, StopIteration) as error:
        return type(error), str(error)


@given(st.sampled_from(STATEMENTS), st.lists(st.lists(VALUES, max_size=6), min_size=2, max_size=2))
def test_a_statement_is_parsed_as_by_the_engine(text: str, calls: list[list[Any]]) -> None:
    """Whatever its parameters, and whatever became of what was parsed before; refusals are worded the same."""
    for parameters in calls:
        parsed = outcome(serve.parse, text, parameters)
        assert parsed == outcome(partiql.parse_statement, text, parameters)
        if isinstance(parsed, dict):
            parsed.clear()


MESSAGES = st.lists(
    st.tuples(st.sampled_from([5, 10**6]), st.sampled_from([-60, -1, 60]), st.sampled_from([0, 1, 3])), max_size=12
)


def queue_of(name: str, messages: list[tuple[int, int, int]], *, is_fifo: bool) -> str:
    """Make a queue that holds these: seconds since the send, seconds until visible, receives; returns its URL."""
    suffix = ".fifo" if is_fifo else ""
    more = {"FifoQueue": "true"} if is_fifo else {}
    dead = sqs._act_create_queue({"QueueName": f"{name}-dead{suffix}", "Attributes": more}, "")["QueueUrl"]
    arn = sqs._queues[dead]["attributes"]["QueueArn"]
    more |= {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})}
    url: str = sqs._act_create_queue({"QueueName": name + suffix, "Attributes": more}, "")["QueueUrl"]
    now = time.time()
    for i, (age_s, visible_in_s, n_receives) in enumerate(messages):
        message = {"id": str(i), "body": "text", "sent_at": now - age_s, "visible_at": now + visible_in_s}
        message |= {"receive_count": n_receives, "group_id": str(i % 3) if is_fifo else None}
        sqs._queues[url]["messages"].append(message)
    return url


def story(url: str, receive: Callable[..., Any], delete: Callable[..., Any], n_wanted: int) -> list[Any]:
    """Receive until nothing comes, delete every other message; returns all answers and what is left where."""
    answers: list[Any] = []
    while not answers or answers[-1]:
        found = receive(url, n_wanted)
        answers.append([(message["id"], message["receive_count"]) for message in found])
        delete(url, {message["receipt_handle"] for message in found[::2]} | {"unknown"})
    dead = url.replace("q.fifo", "q-dead.fifo") if url.endswith(".fifo") else f"{url}-dead"
    return [answers, *([message["id"] for message in sqs._queues[one]["messages"]] for one in (url, dead))]


@given(MESSAGES, st.integers(1, 11), st.sampled_from(["standard", "fifo"]))
def test_a_mapping_receives_and_deletes_as_by_the_engine(
    messages: list[tuple[int, int, int]], n_wanted: int, kind: str
) -> None:
    """The same messages in the same order, the same expired and dead-lettered, whatever share is looked at together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serve, "FRONT", 2)
        stories = []
        for receive, delete in ((serve.receive, serve.delete), (RECEIVE, DELETE)):
            stories.append(story(queue_of("q", messages, is_fifo=kind == "fifo"), receive, delete, n_wanted))
            sqs.reset()
    assert stories[0] == stories[1]


def test_a_message_is_completed_once() -> None:
    """Completing it a second time changes nothing, and the last field tells that it is done."""
    message = {"id": "m", "body": "text"}
    sqs._ensure_msg_fields(message)
    whole = dict(message)
    sqs._ensure_msg_fields(message)
    assert message == whole
    assert list(message)[-1] == serve.LAST_FIELD


def mark(number: int) -> str:
    """What a worker prints after its invocation of this number, by its own script."""
    script = f"import sys\ndef run():\n    for _ in range({number}):\n        {serve.SAY_ENOUGH}\nrun()"
    done = subprocess.run([sys.executable, "-Sc", script], stderr=subprocess.PIPE, text=True, check=True)
    return done.stderr.splitlines()[-1]


def worker_that_prints(*late: str) -> Any:
    """A worker that has printed nothing yet; when nothing comes, the next line of `late` does, or it has ended."""
    queue: Queue[str] = Queue()
    lines = iter(late)

    def poll() -> int | None:
        line = next(lines, None)
        if line is None:
            return 0
        queue.put(line)
        return None

    return SimpleNamespace(_proc=SimpleNamespace(poll=poll), _stderr_queue=queue, config={})


def test_a_log_is_waited_for_while_the_worker_lives() -> None:
    """A line or a mark that comes late is still in its own invocation's log; lines with a mark behind lose it alone."""
    assert serve.printed(worker_that_prints("a", f"b{mark(1)}")) == "a\nb"


def test_a_mark_that_was_missed_shifts_no_later_log() -> None:
    """What came too late is in the next log, and those after it are their own invocations'."""
    worker = worker_that_prints()
    queue = worker._stderr_queue
    queue.put("a")
    assert serve.printed(worker) == "a"
    for line in ("late", mark(1), "b", "", mark(2), "c", mark(3)):
        queue.put(line)
    assert [serve.printed(worker), serve.printed(worker)] == ["late\nb\n", "c"]


def test_a_worker_that_failed_is_waited_for_as_by_the_engine() -> None:
    """Nothing tells when all is printed then; the engine's own limits hold, by name too, and no mark is shown."""
    worker = lambda_runtime.Worker("f", {}, b"")
    for line in ("a", mark(1), "Traceback"):
        worker._stderr_queue.put(line)
    assert serve.printed(worker, first_line_wait=0.1) == "a\nTraceback"


def test_a_worker_says_once_that_all_is_printed() -> None:
    """Its script has one place for that; without it each invocation would wait for what never comes."""
    script = lambda_runtime._PYTHON_WORKER_SCRIPT
    with pytest.MonkeyPatch.context() as patch:
        for place, name in (
            (lambda_runtime, "_PYTHON_WORKER_SCRIPT"),
            (lambda_runtime.Worker, "_drain_stderr_bounded"),
            (dynamodb, "parse_partiql_statement"),
            *((sqs, name) for name in ("_ensure_msg_fields", "_receive_messages_for_esm", "_delete_messages_for_esm")),
        ):
            patch.setattr(place, name, getattr(place, name))
        thresholds = gc.get_threshold()
        serve.spare()
        gc.set_threshold(*thresholds)
        spared = lambda_runtime._PYTHON_WORKER_SCRIPT
    assert spared.count(serve.SAY_ENOUGH) == script.count("handler_fn(event, context)") == 1
    compile(spared, "worker", "exec")
