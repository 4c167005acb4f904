"""How fast the engine drains no-op tasks, against one write at a time, and tasks of 100 ms, against the ceiling.

Both handlers have a stack of their own on one engine and take turns; a rate is the median of its rounds and counts from
the first enqueue to the last finish, so it includes the submission that runs beside it.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.table import Row
from taskq_lib import workload
from taskq_lib.aws import package, queues, stack, status, submit
from taskq_lib.aws.target import connect
from taskq_lib.local import engine

SMALL, MIDDLE, LARGE = 2_000, 20_000, 50_000
N_PEER = 5_000
ROUNDS = 3
TASK_S, N_TIMED = 0.1, 1_000
PEER = Path(__file__).parent / "one_by_one"


def main() -> list[Row]:
    """Measure both; about five minutes."""
    with running_engine():
        return [*no_op_rows(), *timed_rows()]


def no_op_rows() -> list[Row]:
    """Drain no-op tasks with both handlers, in turn."""
    ours, peer = deploy("ours", {}), deploy("peer", {})
    function = peer.target.client("lambda")
    function.update_function_code(FunctionName=peer.outputs["FunctionName"], ZipFile=package.build(PEER))
    for live in (ours, peer):
        drained(live, 500, "warm")
    rates: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        for name, live, n_tasks in (("small", ours, SMALL), ("peer", peer, N_PEER), ("middle", ours, MIDDLE)):
            rates.setdefault(name, []).append(rate(drained(live, n_tasks, f"{name}{number}")))
    small, theirs, middle = (statistics.median(rates[name]) for name in ("small", "peer", "middle"))
    large = rate(drained(ours, LARGE, "large"))
    return [
        Row(
            work=f"drain {MIDDLE:,} no-op tasks", unit="tasks/s", ours=middle, theirs=theirs, better="higher", wanted=2,
            peer="one write at a time",
            why=f"The peer drains {N_PEER:,} tasks, twenty requests a batch against two; both log each task.",
        ),
        Row(
            work=f"drain {LARGE:,} no-op tasks", unit="tasks/s", ours=large, theirs=small, better="higher", wanted=0.9,
            peer=f"the same with {SMALL:,}", why="One round of the large size; flat is a ratio of 1.",
        ),
    ]  # fmt: skip


def timed_rows() -> list[Row]:
    """Drain tasks that take 100 ms each; the peer is what the concurrency allows."""
    rows = []
    for concurrency, batch_size, wanted in ((10, 1, 0.95), (2, 5, None), (10, 10, None)):
        live = deploy(f"c{concurrency}b{batch_size}", {"MaximumConcurrency": concurrency, "BatchSize": batch_size})
        drained(live, 20 * concurrency, "warm", TASK_S)
        tasks = drained(live, N_TIMED * max(1, concurrency * batch_size // 20), "run", TASK_S)
        delete(live)
        ceiling = concurrency * batch_size / TASK_S
        rows.append(
            Row(
                work=f"{len(tasks):,} tasks of 100 ms, {concurrency} batches of {batch_size} at a time", unit="tasks/s",
                ours=rate(tasks, "first_started_at"), peer="ceiling", theirs=ceiling, better="higher", wanted=wanted,
                why="From first start to last finish: a batch adds claim, record and the engine's 3 ms, and waits "
                "for the others' requests, which the engine serves one after the other.",
            )
        )  # fmt: skip
    return rows


@contextmanager
def running_engine() -> Iterator[None]:
    """Run an engine of the benchmark's own while the block does."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TASKQ_STATE_DIR"] = folder
        with engine.running():
            yield


def deploy(name: str, parameters: dict[str, object]) -> stack.Stack:
    """Deploy a stack of the benchmark's own."""
    return stack.deploy(connect("local"), name, parameters, progress=lambda _status: None)


def delete(live: stack.Stack) -> None:
    """Delete it, so that it takes no time from the next."""
    stack.delete(live, delete_table=True, progress=lambda _status: None)


def drained(live: stack.Stack, n_tasks: int, run_id: str, task_s: float = 0.0) -> pd.DataFrame:
    """Submit tasks that take `task_s` seconds each and wait until the last is final; returns their rows."""
    fields: dict[str, Any] = {"duration_median_s": task_s, "duration_sigma": 0.0}
    manifest = workload.generate(workload.Workload(n_tasks=n_tasks, **fields), run_id)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.parquet"
        manifest.to_parquet(path)
        sends = submit.send(live, path, run_id, progress=False)
    # Counting messages costs the engine next to nothing; asking for every task's status would compete with the work.
    while queues.counts(live).n_unsettled:
        time.sleep(0.5)
    tasks = status.get(live, manifest["task_id"].tolist()).tasks
    if not (tasks["state"] == "completed").sum() == n_tasks:
        raise SystemExit(f"{run_id}: not all of {n_tasks:,} tasks are completed")
    # The peer writes no enqueued_at of its own.
    return tasks.assign(enqueued_at=tasks["task_id"].map(sends.set_index("task_id")["enqueued_at"]))


def rate(tasks: pd.DataFrame, begun: str = "enqueued_at") -> float:
    """Tasks a second, from the first time in the column `begun` to the last finish."""
    return float(len(tasks) / (tasks["finished_at"].max() - tasks[begun].min()).total_seconds())
