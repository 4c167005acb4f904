"""Tasks are submitted to an endpoint that answers after 20 ms, steadily or at the median, or at once.

`submit.send` does all it does for a run: reads and checks the manifest, packs, signs, sends, keeps journal and
record. The peers are the loops that one writes with boto3, in turn with it, with the bodies ready made; the slow ones
send fewer tasks, since their rate does not depend on the number. Rates are the best of three rounds, CPU is the least
of nine.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
from botocore.config import Config

from benchmarks import null_endpoint
from benchmarks.table import Row
from taskq_lib import workload
from taskq_lib.aws import submit
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target

N_TASKS, N_FOR_CPU, LATENCY_S, SIGMA = 100_000, 10_000, 0.02, 0.5
#: Of the peers: a request is one task, or ten.
N_ONE, N_BATCHED, N_THREADED = 100, 2_000, 20_000
THREADS = (16, 32, 64)
N_ROUNDS, N_CPU_ROUNDS = 3, 9
RUN_ID, REGION = "benchmark", "us-east-1"


def main() -> list[Row]:
    """Return the rates at a latency, steady and not, and the CPU a task at none."""
    return [*_rates(), _unsteady(), _cpu()]


def rate(n_tasks: int, latency_s: float) -> float:
    """Return how many tasks a second `submit.send` sends to an endpoint that answers after `latency_s`."""
    with endpoint(latency_s) as stack:
        _send(stack, 1_000)
        return n_tasks / _wall_s(partial(_send, stack, n_tasks))


def cpu_us(n_tasks: int) -> float:
    """Return the microseconds of this process's CPU that a task costs, at no latency and with all that is done once."""
    with endpoint(0.0) as stack:
        _send(stack, 1_000)
        return _cpu_s(partial(_send, stack, n_tasks)) / n_tasks * 1e6


def _rates() -> list[Row]:
    best: dict[str, float] = {}
    bodies = _bodies(N_THREADED)
    with endpoint(LATENCY_S) as slow, endpoint(0.0) as quick:
        works: dict[str, tuple[int, Callable[[], None]]] = {
            "ours": (N_TASKS, partial(_send, slow, N_TASKS)),
            "no latency": (N_TASKS, partial(_send, quick, N_TASKS)),
            "one": (N_ONE, partial(_one_by_one, slow, bodies[:N_ONE])),
            "batched": (N_BATCHED, partial(_batched, slow, bodies[:N_BATCHED])),
            **{f"{n} threads": (N_THREADED, partial(_batched, slow, bodies, n)) for n in THREADS},
        }
        for stack in (slow, quick):
            _send(stack, 1_000)
            _batched(stack, bodies[:200])
        for _ in range(N_ROUNDS):
            for name, (n_tasks, work) in works.items():
                best[name] = max(best.get(name, 0.0), n_tasks / _wall_s(work))
    threads = max((f"{n} threads" for n in THREADS), key=best.__getitem__)
    says = f"{N_TASKS:,} tasks, 20 ms a request"
    row = partial(Row, work=says, unit="tasks/s", ours=best["ours"], better="higher")
    return [
        row(peer="send_message_batch, one after the other", theirs=best["batched"], wanted=18,
            why=f"The peer's rate is that of {N_BATCHED:,} tasks. Ours is bounded by the CPU of one process; four "
            "fifths of that are the SDK's: HTTP and sockets 38 %, signing 15 %, parsing the answer 6 %. Checking "
            "tasks takes 9 %, packing 6 %."),
        row(peer="submit.send at no latency", theirs=best["no latency"], wanted=0.8,
            why="What one process can do: how much of it is left where requests take 20 ms."),
        row(peer="send_message, one after the other", theirs=best["one"], why=f"That of {N_ONE} tasks."),
        row(peer=f"send_message_batch in {threads}", theirs=best[threads],
            why=f"The best of {', '.join(map(str, THREADS))} threads, with bodies ready made; no manifest, no record."),
    ]  # fmt: skip


def _unsteady() -> Row:
    bodies = _bodies(N_BATCHED)
    with endpoint(LATENCY_S, SIGMA) as stack:
        _send(stack, 1_000)
        pairs = [
            (_wall_s(partial(_send, stack, N_THREADED)), _wall_s(partial(_batched, stack, bodies)))
            for _ in range(N_ROUNDS)
        ]
    ours, theirs = (min(column) for column in zip(*pairs, strict=True))
    return Row(
        work=f"{N_THREADED:,} tasks, 20 ms a request at the median", unit="tasks/s", ours=N_THREADED / ours,
        better="higher", peer="send_message_batch, one after the other", theirs=N_BATCHED / theirs,
        why=f"Log-normal, sigma {SIGMA}: one answer in twenty takes more than 45 ms.",
    )  # fmt: skip


def _cpu() -> Row:
    bodies = _bodies(N_FOR_CPU)
    with endpoint(0.0) as stack:
        _send(stack, 1_000)
        _batched(stack, bodies[:1_000])
        pairs = [
            (_cpu_s(partial(_send, stack, N_FOR_CPU)), _cpu_s(partial(_batched, stack, bodies)))
            for _ in range(N_CPU_ROUNDS)
        ]
    ours, theirs = (min(column) / N_FOR_CPU * 1e6 for column in zip(*pairs, strict=True))
    return Row(
        work=f"{N_FOR_CPU:,} tasks, no latency", unit="CPU µs/task", ours=ours, better="lower", wanted=1,
        peer="send_message_batch, one after the other", theirs=theirs,
        why="Ours includes manifest, checks, bodies, journal and record. About as much is spared in the SDK, "
        "which checks no parameters a second time and does not put its user agent together anew. In one thread the two "
        "are about equal; of several, each waits for the interpreter's lock after every system call.",
    )  # fmt: skip


@contextmanager
def endpoint(latency_s: float, sigma: float = 0.0) -> Iterator[Stack]:
    """Yield a stack whose queue takes every message, after `latency_s`, spread by `sigma`."""
    with null_endpoint.running(respond, latency_s, sigma) as url:
        target = Target(name="local", session=_session(), region=REGION, endpoint_url=url)
        outputs = {"QueueUrl": f"{url}/000000000000/taskq", "TableName": "taskq"}
        yield Stack(target=target, name="benchmark", status="CREATE_COMPLETE", parameters={}, outputs=outputs)


def respond(operation: str, body: bytes) -> bytes:
    """Answer as SQS does where it takes every message."""
    # Both number the entries of a batch from 0; within a body a quotation mark is escaped.
    return _answer(0 if operation == "SendMessage" else body.count(b'"Id":'))


@cache
def _answer(n_entries: int) -> bytes:
    taken = {
        "MessageId": "5fea7756-0ea4-451a-a703-a558b933e274",
        "MD5OfMessageBody": "fafb00f5732ab283681e124bf8747ed1",
    }
    batch = {"Successful": [{"Id": str(i), **taken} for i in range(n_entries)]}
    return json.dumps(batch if n_entries else taken).encode()


@cache
def _manifest(n_tasks: int) -> pd.DataFrame:
    return workload.generate(workload.Workload(n_tasks=n_tasks), RUN_ID)


def _bodies(n_tasks: int) -> list[str]:
    rows = _manifest(n_tasks)[["task_id", "task_type", "data", "priority"]].itertuples(index=False)
    return [submit.body_head(id_, kind, data, priority, RUN_ID) + "1.8e9}" for id_, kind, data, priority in rows]


def _send(stack: Stack, n_tasks: int) -> None:
    # Of this, only writing the manifest, 2 µs a task, is not the submitter's own.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.parquet"
        _manifest(n_tasks).to_parquet(path)
        if len(submit.send(stack, path, RUN_ID, progress=False)) != n_tasks:
            raise SystemExit(f"not all of {n_tasks:,} tasks were sent")


def _one_by_one(stack: Stack, bodies: Sequence[str]) -> None:
    sqs = _client(stack)
    for body in bodies:
        sqs.send_message(QueueUrl=stack.queue_url, MessageBody=body)


def _batched(stack: Stack, bodies: Sequence[str], n_threads: int = 1) -> None:
    sqs = _client(stack)

    def request(batch: Sequence[str]) -> None:
        entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(batch)]
        answer = sqs.send_message_batch(QueueUrl=stack.queue_url, Entries=entries)
        if len(answer["Successful"]) != len(batch):
            raise SystemExit("not all tasks of a batch were sent")

    batches = [bodies[first : first + 10] for first in range(0, len(bodies), 10)]
    if n_threads == 1:
        for batch in batches:
            request(batch)
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(request, batches))


def _client(stack: Stack) -> Any:
    """Return a client as one makes it, with a connection for each thread; made once an endpoint."""
    return _clients(stack.queue_url.rpartition("/000")[0])


def _session() -> boto3.Session:
    return boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)  # noqa: S106 - no secret


@cache
def _clients(url: str) -> Any:
    return _session().client("sqs", endpoint_url=url, config=Config(max_pool_connections=max(THREADS)))


def _wall_s(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _cpu_s(work: Callable[[], None]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun
