"""What FIFO costs and a second queue gains, each against the same stack without it, in the same run on the engine.

Each case has a stack of its own, is warmed up with 100 tasks, and is measured once; the tables of docs/options.md are
of more tasks. None of it is a goal.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.table import Row
from taskq_lib import workload
from taskq_lib.analysis import latency, order
from taskq_lib.aws import control, queues, stack, status, submit
from taskq_lib.aws.target import connect
from taskq_lib.local import engine

N_TASKS, N_BACKLOG, N_URGENT = 1_000, 1_500, 50
#: Many groups, as tenants or order numbers are.
MANY_GROUPS = ",".join(f"g{i}" for i in range(100))
#: Places in the function: the same in all with and without a second queue.
ONE: dict[str, object] = {"MaximumConcurrency": 6}
SHARED: dict[str, object] = {"MaximumConcurrency": 4, "SecondQueueMaximumConcurrency": 2}


def main() -> list[Row]:
    """Compare throughput and order of standard and FIFO queues, and the waits of a few tasks behind a backlog."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TASKQ_STATE_DIR"] = folder
        with engine.running():
            by_priority: dict[str, object] = {"SecondQueueFor": "priority"} | SHARED
            by_type: dict[str, object] = {"SecondQueueFor": "type", "SecondQueueTypes": "SEND_EMAIL"} | SHARED
            return [
                *fifo(),
                overtaking("priority", {"priorities": "9"}, {"priorities": "5"}, by_priority),
                overtaking("type", {"mix": "SEND_EMAIL"}, {"mix": "IMAGE_RESIZE,PROCESS_DATA"}, by_type),
                tenants(),
            ]


def fifo() -> list[Row]:
    """Drain the same no-op tasks from standard and FIFO stacks: tasks a second, and how many were overtaken."""
    standard, in_order = throughput("standard", {}, MANY_GROUPS)
    why = "the engine runs one batch of a FIFO queue at a time, whatever its groups"
    cases: list[tuple[str, dict[str, object], str]] = [
        ("standard, one batch at a time", {"ReservedConcurrency": 1}, MANY_GROUPS),
        ("FIFO, 100 groups", {"FifoQueue": "true"}, MANY_GROUPS),
        ("FIFO, groups by type (3)", {"FifoQueue": "true"}, ""),
    ]
    rows = []
    for number, (name, parameters, groups) in enumerate(cases):
        done, overtaken = throughput(f"throughput-{number}", parameters, groups)
        told = f"{overtaken:.1%} of the tasks were overtaken, of the standard queue's {in_order:.1%}; {why}"
        rows.append(
            Row(work=f"{name}: {N_TASKS:,} no-op tasks", unit="tasks/s", ours=done, peer="standard, five at a time",
                theirs=standard, better="higher", why=told)
        )  # fmt: skip
    return rows


def throughput(name: str, parameters: dict[str, object], groups: str) -> tuple[float, float]:
    """Drain no-op tasks on a stack of their own; returns tasks a second, and the share that was overtaken."""
    live = deploy(name, parameters)
    sent(live, "warm", n_tasks=100)
    drained(live)
    manifest = sent(live, "run", n_tasks=N_TASKS, groups=groups)
    drained(live)
    tasks = status.get(live, manifest["task_id"].tolist()).tasks
    span_s = (tasks["finished_at"].max() - tasks["enqueued_at"].min()).total_seconds()
    found = order.summary(order.by_group(tasks, manifest))
    delete(live)
    return N_TASKS / span_s, found["n_overtaken"] / N_TASKS


def overtaking(by: str, few: dict[str, Any], many: dict[str, Any], two: dict[str, object]) -> Row:
    """Send a few tasks behind a backlog of many, with two queues and with one; compares how long the few waited."""
    ours, theirs = (behind(f"by-{by}-{len(options)}", options, few, many) for options in (two, ONE))
    return Row(work=f"second queue by {by}: median wait of {N_URGENT} tasks behind {N_BACKLOG:,}", unit="s",
               ours=ours[0], peer="one queue", theirs=theirs[0], better="lower",
               why=f"the backlog's median wait: {ours[1]:.1f} s, with one queue {theirs[1]:.1f} s")  # fmt: skip


def behind(name: str, parameters: dict[str, object], few: dict[str, Any], many: dict[str, Any]) -> tuple[float, float]:
    """Return the median wait of a few tasks that were sent behind many, and that of the many, s."""
    live = deploy(name, parameters)
    sent(live, "warm", n_tasks=100)
    drained(live)
    control.pause(live, 60)
    backlog = sent(live, "backlog", n_tasks=N_BACKLOG, duration_median_s=0.02, **many)
    control.resume(live, 60)
    urgent = sent(live, "urgent", n_tasks=N_URGENT, duration_median_s=0.02, seed=1, **few)
    drained(live)
    tasks = status.get(live, [*backlog["task_id"], *urgent["task_id"]]).tasks
    wait = latency.durations(tasks)["queue_wait_s"]
    is_urgent = tasks["task_id"].isin(urgent["task_id"])
    delete(live)
    return float(wait[is_urgent].median()), float(wait[~is_urgent].median())


def tenants() -> Row:
    """Send the tasks of a noisy tenant and of a quiet one to a standard queue; compares their waits."""
    live = deploy("tenants", {})
    manifest = sent(live, "tenants", n_tasks=N_TASKS, groups="noisy:19,quiet:1", duration_median_s=0.02)
    drained(live)
    found = latency.percentiles(
        latency.durations(status.get(live, manifest["task_id"].tolist()).tasks), "message_group"
    )
    waits = found[found["duration"] == "queue_wait_s"].set_index("group")["p50"]
    delete(live)
    return Row(work="fair queue: median wait of a quiet tenant", unit="s", ours=float(waits["quiet"]),
               peer="the noisy tenant, 19 times as many tasks", theirs=float(waits["noisy"]), better="lower",
               why="on AWS a standard queue with message groups is fair; the engine's is not")  # fmt: skip


def deploy(name: str, parameters: dict[str, object]) -> stack.Stack:
    """Deploy a stack of the benchmark's own."""
    return stack.deploy(connect("local"), name, parameters, progress=lambda _status: None)


def delete(live: stack.Stack) -> None:
    """Delete it, so that it takes no time from the next."""
    stack.delete(live, delete_table=True, progress=lambda _status: None)


def sent(live: stack.Stack, run_id: str, **fields: Any) -> pd.DataFrame:
    """Send a workload, no-op tasks unless told otherwise; returns its manifest."""
    manifest = workload.generate(workload.Workload(**{"duration_median_s": 0.0} | fields), f"{live.name}-{run_id}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.parquet"
        manifest.to_parquet(path)
        submit.send(live, path, f"{live.name}-{run_id}", progress=False)
    return manifest


def drained(live: stack.Stack) -> None:
    """Wait until no message is left."""
    while queues.counts(live).n_unsettled:
        time.sleep(0.2)
