"""What the function itself costs: CPU a task beside Powertools' batch processor with idempotency, and a cold start.

Each handler runs in a process of its own against an endpoint that answers at once, in turn: batches of no-op tasks
with ids of their own, user and system time after a warm-up, the log to a pipe. A run's figure is its median batch,
the table's the median of the runs. Cold starts are whole processes, in turn, with the code as it is deployed; the
median as well.
"""

from __future__ import annotations

import compileall
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import null_endpoint
from benchmarks.function_child import N_WARM
from benchmarks.table import Row
from taskq_lib import PROJECT_ROOT
from taskq_lib.aws import package

OURS, PEER = PROJECT_ROOT / "lambda", Path(__file__).parent / "powertools_peer"
N_BATCHES, N_ROUNDS, N_STARTS = 200, 5, 15
POWERTOOLS = "Powertools BatchProcessor with idempotency"
BARE = "import boto3; boto3.client('dynamodb')"
READY = "import handler; from taskq_worker import batch; batch.client('dynamodb')"

WINDOW_S = 60
#: As the template sets it by default, and credentials that are nobody's.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_NAME": "function",
    "TASKQ_TABLE": "tasks",
    "TASKQ_QUEUE_URLS": "http://localhost/000000000000/queue",
    "TASKQ_DEAD_LETTER_QUEUE_URL": "http://localhost/000000000000/dead",
    "TASKQ_STACK": "taskq",
    "TASKQ_MAX_ATTEMPTS": "3",
    "TASKQ_RETRY_BASE_S": "2",
    "TASKQ_RETRY_FACTOR": "2",
    "TASKQ_RETRY_CAP_S": "300",
    "TASKQ_BREAKER_FAILURE_PERCENT": "50",
    "TASKQ_BREAKER_MINIMUM_TASKS": "20",
    "TASKQ_BREAKER_WINDOW_S": str(WINDOW_S),
    "TASKQ_BREAKER_COOLDOWN_S": "30",
    "TASKQ_TTL_DAYS": "30",
    "TASKQ_METRICS": "true",
}
_requests: Counter[str] = Counter()


class Cost(NamedTuple):
    """What a handler took."""

    cpu_us: float  #: A task, in the median batch
    n_requests: float  #: To DynamoDB, a batch


def main() -> list[Row]:
    """Measure the work and the start."""
    return [*_work(), *_starts()]


def cpu_us(batch_size: int) -> float:
    """Return our handler's CPU time for one task (µs) in batches of this size."""
    with null_endpoint.running(respond) as url:
        return _run(url, OURS, batch_size, max(20, 2_000 // batch_size)).cpu_us


def respond(operation: str, body: bytes) -> bytes:
    """Answer as DynamoDB does where all goes well; "Requests" asks how many there were since it was asked last."""
    if operation == "Requests":
        n_requests = _requests.total()
        _requests.clear()
        return str(n_requests).encode()
    _requests[operation] += 1
    if operation != "BatchExecuteStatement":
        return b"{}"
    answers = [b"{}"] * body.count(b'"Statement":')
    if b"#breaker:" in body:
        statements = json.loads(body)["Statements"]
        answers = [_breaker() if "#breaker:" in str(one["Parameters"]) else b"{}" for one in statements]
    return b'{"Responses":[' + b",".join(answers) + b"]}"


def _breaker() -> bytes:
    """Return a closed breaker as a process reads it every few seconds, with its claims."""
    numbers = {"window": int(time.time() // WINDOW_S * WINDOW_S), "n": 1, "failed": 0}
    item: dict[str, Any] = {name: {"N": str(value)} for name, value in numbers.items()}
    return json.dumps({"Item": item | {"state": {"S": "closed"}, "transitions": {"L": []}}}).encode()


# --- work -------------------------------------------------------------------------------------------------------


def _work() -> list[Row]:
    with null_endpoint.running(respond) as url:
        runs = [[_run(url, folder, 10, N_BATCHES) for folder in (OURS, PEER)] for _ in range(N_ROUNDS)]
    ours, theirs = ([pair[i] for pair in runs] for i in (0, 1))
    cpu = [statistics.median(one.cpu_us for one in costs) for costs in (ours, theirs)]
    return [
        Row(
            work="function, no-op tasks in batches of 10",
            unit="µs CPU a task",
            ours=cpu[0],
            peer=POWERTOOLS,
            theirs=cpu[1],
            better="lower",
            wanted=8,
            why="ours writes a line of log for each task and its metrics besides, the peer writes none; of ours, two "
            "requests through the SDK are two thirds (sockets, signing, headers), ten tasks in threads a tenth, "
            "statements a tenth, parsing the records a twentieth",
        ),
        Row(
            work="function, a batch of 10",
            unit="DynamoDB requests",
            ours=statistics.median(one.n_requests for one in ours),
            peer=POWERTOOLS,
            theirs=statistics.median(one.n_requests for one in theirs),
            better="lower",
            wanted=10,
            why="counted by the endpoint",
        ),
    ]


def _run(url: str, folder: Path, batch_size: int, n_batches: int) -> Cost:
    """Run a handler in a process of its own."""
    child = [sys.executable, str(Path(__file__).parent / "function_child.py"), str(batch_size), str(n_batches)]
    environment = os.environ | ENVIRONMENT | {"AWS_ENDPOINT_URL": url, "PYTHONPATH": str(folder)}
    _n_requests(url)
    said = subprocess.run(child, env=environment, stdout=subprocess.PIPE, check=True).stdout
    spent, n_warm = json.loads(said.splitlines()[-1]), -(-N_WARM // batch_size)
    return Cost(statistics.median(spent) / batch_size * 1e6, _n_requests(url) / (n_batches + n_warm))


def _n_requests(url: str) -> int:
    asked = urllib.request.Request(url, b"", {"X-Amz-Target": "None.Requests", "Content-Length": "0"})  # noqa: S310 - ours
    with urllib.request.urlopen(asked) as answer:  # noqa: S310 - as above
        return int(answer.read())


# --- start ------------------------------------------------------------------------------------------------------


def _starts() -> list[Row]:
    """Start both in turn, from the code as it is deployed: with its bytecode, and as it is unpacked from the zip."""
    with tempfile.TemporaryDirectory() as folder:
        unpacked, compiled = Path(folder) / "unpacked", Path(folder) / "compiled"
        for place in (unpacked, compiled):
            zipfile.ZipFile(io.BytesIO(package.build())).extractall(place)
        compileall.compile_dir(compiled, quiet=1)
        kinds = [(compiled, READY), (unpacked, READY), (compiled, BARE)]
        # The first round warms the file cache and is left out.
        times = [[_start(place, code) for place, code in kinds] for _ in range(N_STARTS + 1)][1:]
    (cpu, wall), (raw, _), (bare_cpu, bare_wall) = (
        [statistics.median(one[kind][clock] for one in times) for clock in (0, 1)] for kind in range(3)
    )
    why = f"with bytecode; without, as Lambda unpacks the zip, {1000 * (raw - cpu):.0f} ms of CPU more"
    peer = "boto3 and its client alone"
    return [
        Row(
            work="function, import to ready",
            unit="s CPU",
            ours=cpu,
            peer=peer,
            theirs=bare_cpu,
            better="lower",
            wanted=0.91,
            why=why,
        ),
        Row(work="function, import to ready", unit="s", ours=wall, peer=peer, theirs=bare_wall, better="lower"),
    ]


def _start(place: Path, code: str) -> tuple[float, float]:
    """Return the CPU and wall seconds of a Python process that runs `code`."""
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    took_s, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, took_s
