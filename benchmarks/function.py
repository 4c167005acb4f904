"""What the function itself costs: CPU a task of our handler and of Powertools', and from a cold start to ready.

Each handler runs in a child process of its own, in turn, against an endpoint that answers at once: batches of no-op
tasks with ids of their own, user and system time of the child after a warm-up, its log to a pipe; the median of the rounds.
Cold starts are whole processes with the code as it is deployed, in turn; the median as well.
"""

from __future__ import annotations

import compileall
import io
import itertools
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import null_endpoint
from benchmarks.table import Row
from taskq_lib import PROJECT_ROOT
from taskq_lib.aws import package, template

HERE = Path(__file__).parent
OURS, PEER = PROJECT_ROOT / "lambda", HERE / "powertools_peer"
N_TASKS, N_ROUNDS, N_STARTS = 10_000, 5, 21

WINDOW_S = 60
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_NAME": "function",
    "POWERTOOLS_SERVICE_NAME": "function",
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
_counts: Counter[str] = Counter()


def main() -> list[Row]:
    """Measure both; two minutes."""
    with endpoint() as url:
        _run(url, OURS, 10, 200), _run(url, PEER, 10, 200)
        rounds = [(_run(url, OURS, 10, N_TASKS), _run(url, PEER, 10, N_TASKS // 5)) for _ in range(N_ROUNDS)]
    return [str(rounds)]


@contextmanager
def endpoint():
    with null_endpoint.running(respond) as url:
        yield url

def respond(operation: str, body: bytes) -> bytes:
    """Answer as DynamoDB does where all goes well; "Counts" asks how many requests there were."""
    if operation == "Counts":
        answer = json.dumps(_counts).encode()
        _counts.clear()
        return answer
    _counts[operation] += 1
    if operation != "BatchExecuteStatement":
        return b"{}"
    if b"#breaker:" in body:
        answers = [_breaker() if "#breaker:" in str(one["Parameters"]) else {} for one in json.loads(body)["Statements"]]
        return json.dumps({"Responses": answers}).encode()
    n_statements = body.count(b'"Statement":')
    return b'{"Responses": [' + b", ".join([b"{}"] * n_statements) + b"]}"


def _breaker() -> dict[str, Any]:
    """Return the item of a closed breaker, as the function reads it every few seconds."""
    window = int(time.time() // WINDOW_S * WINDOW_S)
    numbers = {name: {"N": str(value)} for name, value in {"window": window, "n": 1, "failed": 0}.items()}
    return {"Item": {"state": {"S": "closed"}, "transitions": {"L": []}, **numbers}}


def _run(url: str, folder: Path, batch_size: int, n_tasks: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.function", str(folder), str(batch_size), str(n_tasks)]
    _ask(url)
    child = subprocess.run(command, env={**os.environ, **ENVIRONMENT, "AWS_ENDPOINT_URL": url}, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, check=True)
    cpu_us = float(child.stdout.splitlines()[-1])
    return cpu_us, _ask(url)


def _ask(url):
    request = urllib.request.Request(url, b"", {"X-Amz-Target": "None.Counts", "Content-Length": "0"})
    with urllib.request.urlopen(request) as r:
        return sum(json.load(r).values())


@dataclass
class Context:
    """As much of a Lambda context as both handlers look at."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


def child(folder, batch_size, n_tasks):
    sys.path.insert(0, folder)
    from handler import handler
    numbers = itertools.count()
    pid = os.getpid()

    def batch():
        records = []
        for n in itertools.islice(numbers, batch_size):
            body = {"task_id": f"run-{pid}-{n}", "type": "SEND_EMAIL", "data": {"to": "someone@example.com"}, "priority": 5, "run_id": f"run-{pid}", "enqueued_at": time.time()}
            records.append({
                "messageId": f"message-{pid}-{n}", "receiptHandle": f"handle-{n}", "body": json.dumps(body, separators=(",", ":")),
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": str(round(time.time() * 1000)), "SenderId": "AIDASOMEBODY", "ApproximateFirstReceiveTimestamp": str(round(time.time() * 1000))},
                "messageAttributes": {}, "md5OfBody": "", "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:queue", "awsRegion": "us-east-1",
            })
        return {"Records": records}
    def run(n):
        spent = 0
        for i in range(n):
            event = batch()
            context = Context(f"{pid}-{next(numbers)}")
            begun = time.process_time()
            r = handler(event, context)
            spent += time.process_time() - begun
            assert r == {"batchItemFailures": []}, r
        return spent
    run(max(1, 200 // batch_size))
    n = n_tasks // batch_size
    if os.environ.get("PROFILE"):
        import cProfile, pstats
        p = cProfile.Profile()
        p.enable(); run(n); p.disable()
        pstats.Stats(p, stream=sys.stderr).sort_stats(os.environ["PROFILE"]).print_stats(70)
    print(run(n) / (n * batch_size) * 1e6)


if __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
