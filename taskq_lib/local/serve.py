"""What the engine's process runs: MiniStack, mended (`mends`), and spared the work that it does again and again.

It parses the text of every PartiQL statement, twice, though the function's statements differ in their parameters only.
It walks all messages of a queue to hand ten of them to a function, and again to delete these ten, though they are at
its front. It waits after each invocation until nothing more is printed, though the worker can say so. And the garbage
collector walks all messages and items, which stay, again and again. None of that changes what the engine answers.
Measured in docs/decisions.md; the version is pinned, and tests hold each against the engine's own function.
"""

import functools
import gc
import re
import time
import uuid
from collections.abc import Sequence
from queue import Empty, Queue
from typing import Any
from weakref import WeakKeyDictionary

from ministack.app import main
from ministack.core import lambda_runtime
from ministack.services import _dynamodb_keywords as partiql
from ministack.services import dynamodb, sqs

from taskq_lib.local import mends

#: The field that is completed last: a message that has it has all of them.
LAST_FIELD = "seq"
#: So many messages are looked at together, from the front of a queue on.
FRONT = 64
#: What a worker prints after all that an invocation has printed, with the invocation's number, and how it does so.
ENOUGH = uuid.uuid4().hex
SAY_ENOUGH = (
    f"run.said = getattr(run, 'said', 0) + 1; print(f'{ENOUGH}/{{run.said}}/', file=sys.__stderr__, flush=True)"
)
_MARK = re.compile(rf"{ENOUGH}/(\d+)/")
# How many invocations have been waited for; a worker's new process has a new queue.
_n_awaited: WeakKeyDictionary[Queue[str], int] = WeakKeyDictionary()
_CALL = "result = handler_fn(event, context)"
_WAIT = lambda_runtime.Worker._drain_stderr_bounded  # noqa: SLF001


def spare() -> None:
    """Replace what is done again and again, and collect garbage more rarely."""
    gc.set_threshold(200_000, 50, 1000)
    dynamodb.parse_partiql_statement = parse
    complete = sqs._ensure_msg_fields  # noqa: SLF001

    def complete_once(message: dict[str, Any]) -> None:
        if LAST_FIELD not in message:
            complete(message)

    sqs._ensure_msg_fields = complete_once  # noqa: SLF001
    sqs._receive_messages_for_esm = receive  # noqa: SLF001
    sqs._delete_messages_for_esm = delete  # noqa: SLF001
    script = lambda_runtime._PYTHON_WORKER_SCRIPT  # noqa: SLF001
    lambda_runtime._PYTHON_WORKER_SCRIPT = script.replace(_CALL, f"{_CALL}\n            {SAY_ENOUGH}")  # noqa: SLF001
    lambda_runtime.Worker._drain_stderr_bounded = printed  # noqa: SLF001


def parse(text: str, parameters: list[Any] | None) -> dict[str, Any]:
    """Parse a statement as `partiql.parse_statement` does, each text once for the types of its parameters.

    What is parsed depends on their values only in a set (`<<?, ?>>`), whose members must differ.
    """
    given = parameters or []
    if "<<" in text or not all(isinstance(one, dict) and len(one) == 1 for one in given):
        parsed: dict[str, Any] = partiql.parse_statement(text, parameters)
        return parsed
    form, holes = _form(text, tuple([next(iter(one)) for one in given]))
    filled: dict[str, Any] = _filled(form, {id(hole): one for hole, one in zip(holes, given, strict=True)})
    return filled


@functools.lru_cache(maxsize=1024)
def _form(text: str, types: tuple[str, ...]) -> tuple[dict[str, Any], list[dict[str, None]]]:
    """Parse a statement with an empty value for each parameter; returns both. One that is refused is not kept."""
    holes = [{kind: None} for kind in types]
    return partiql.parse_statement(text, holes), holes


def _filled(form: Any, values: dict[int, Any]) -> Any:
    """Copy a parsed statement, with the values in place of what was empty."""
    if id(form) in values:
        return values[id(form)]
    if isinstance(form, dict):
        return {name: _filled(one, values) for name, one in form.items()}
    if isinstance(form, list | tuple):
        return type(form)([_filled(one, values) for one in form])
    return form


def receive(queue_url: str, n_wanted: int) -> list[dict[str, Any]]:
    """Receive messages for a mapping as the engine does, but look at no more of the queue than holds them.

    What lies behind is expired or moved to the dead-letter queue once it is looked at, before it could be handed out.
    """
    with sqs._queues_lock:  # noqa: SLF001
        queue = sqs._get_q(queue_url)  # noqa: SLF001
        messages, n_wanted = queue["messages"], min(int(n_wanted or 1), mends.RECEIVED_AT_ONCE)
        hidden_s = int(queue["attributes"].get("VisibilityTimeout", "30"))
        # Which groups of a FIFO queue have a message in flight is known from all of it.
        size = len(messages) if queue["is_fifo"] else FRONT
        found: list[dict[str, Any]] = []
        kept: list[dict[str, Any]] = []
        n_seen = 0
        while n_seen < len(messages) and len(found) < n_wanted:
            part = {**queue, "messages": messages[n_seen : n_seen + size]}
            n_seen += len(part["messages"])
            sqs._expire_retained(part)  # noqa: SLF001
            sqs._dlq_sweep(part)  # noqa: SLF001
            found += sqs._collect_msgs(part, n_wanted - len(found), hidden_s)  # noqa: SLF001
            kept += part["messages"]
        if len(kept) < n_seen:
            queue["messages"] = kept + queue["messages"][n_seen:]
        return found


def delete(queue_url: str, handles: set[str]) -> None:
    """Delete a mapping's messages as the engine does, but look at no more of the queue than holds them."""
    with sqs._queues_lock:  # noqa: SLF001
        queue = sqs._get_q(queue_url)  # noqa: SLF001
        left, kept, n_seen = set(handles), [], 0
        for message in queue["messages"]:
            if not left:
                break
            n_seen += 1
            if message.get("receipt_handle") in left:
                left.discard(message["receipt_handle"])
            else:
                kept.append(message)
        queue["messages"] = kept + queue["messages"][n_seen:]


def printed(worker: lambda_runtime.Worker, *limits: float, **more: float) -> str:
    """Return what an invocation has printed; the engine waits 5 ms after the last line, or 50 ms for a first one.

    What comes later than a second is in the next invocation's log, which goes on until that one's own mark.
    """
    process, queue = worker._proc, worker._stderr_queue  # noqa: SLF001
    if process is None or not worker.config.get("Runtime", "python").startswith("python"):
        # It failed, or says nothing.
        return _unmarked(_WAIT(worker, *limits, **more).split("\n"))
    number = _n_awaited[queue] = _n_awaited.get(queue, 0) + 1
    lines: list[str] = []
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        try:
            lines.append(queue.get(timeout=0.25))
        except Empty:
            if process.poll() is None:
                continue
            break
        mark = _MARK.search(lines[-1])
        if mark and int(mark[1]) >= number:
            break
    return _unmarked(lines)


def _unmarked(lines: Sequence[str]) -> str:
    """Join lines without the workers' marks, and without those that hold nothing else."""
    bare = [_MARK.sub("", line) for line in lines]
    return "\n".join(rest for rest, line in zip(bare, lines, strict=True) if rest or not line)


if __name__ == "__main__":
    spare()
    mends.changes_under_conditions()
    mends.concurrency_of_stacks()
    mends.global_tables()
    mends.schedules_in_pages()
    mends.whole_batches()
    mends.memory_of_workers()
    main()
