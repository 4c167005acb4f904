"""What FIFO costs and a second queue gains, each against the same stack without it, in the same run on the engine."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from taskq_lib import workload
from taskq_lib.analysis import latency, order
from taskq_lib.aws import control, queues, stack, status, submit
from taskq_lib.aws.target import connect
from taskq_lib.local import engine

N_TASKS, N_BACKLOG, N_URGENT = 2_000, 5_000, 100
#: Many groups, as tenants or order numbers are.
MANY_GROUPS = ",".join(f"g{i}" for i in range(100))
#: Places in the function: the same in all with and without a second queue.
ONE: dict[str, object] = {"MaximumConcurrency": 6}
SHARED: dict[str, object] = {"MaximumConcurrency": 4, "SecondQueueMaximumConcurrency": 2}


def main() -> None:
    """Print throughput and order of standard and FIFO queues, and the waits of a few tasks behind a backlog."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TASKQ_STATE_DIR"] = folder
        with engine.running():
            fifo()
            by_priority: dict[str, object] = {"SecondQueueFor": "priority"} | SHARED
            overtaking("by priority", {"priorities": "9"}, {"priorities": "5"}, by_priority)
            by_type: dict[str, object] = {"SecondQueueFor": "type", "SecondQueueTypes": "SEND_EMAIL"} | SHARED
            overtaking("by type", {"mix": "SEND_EMAIL"}, {"mix": "IMAGE_RESIZE,PROCESS_DATA"}, by_type)
            tenants()


def fifo() -> None:
    """Drain the same no-op tasks from a standard and a FIFO stack; print tasks a second and how many were overtaken."""
    cases: list[tuple[str, dict[str, object], str]] = [
        ("standard", {}, MANY_GROUPS),
        ("standard, one batch at a time", {"ReservedConcurrency": 1}, MANY_GROUPS),
        ("FIFO, 100 groups", {"FifoQueue": "true"}, MANY_GROUPS),
        ("FIFO, groups by type (3)", {"FifoQueue": "true"}, ""),
    ]
    standard = (0.0, 0.0)
    for number, (name, parameters, groups) in enumerate(cases):
        live = deploy(f"throughput-{number}", parameters)
        sent(live, f"warm{number}", n_tasks=100)
        drained(live)
        manifest, took_s = sent(live, f"run{number}", n_tasks=N_TASKS, groups=groups)
        drained(live)
        tasks = status.get(live, manifest["task_id"].tolist()).tasks
        span_s = (tasks["finished_at"].max() - tasks["enqueued_at"].min()).total_seconds()
        done, sending = N_TASKS / span_s, N_TASKS / took_s
        standard = (done, sending) if number == 0 else standard
        found = order.summary(order.by_group(tasks, manifest))
        print(
            f"{name}: {done:.0f} tasks/s done (ratio {done / standard[0]:.2f}), {sending:.0f}/s sent "
            f"(ratio {sending / standard[1]:.2f}), {found['n_overtaken'] / N_TASKS:.1%} of the tasks overtaken "
            f"in {found['n_groups']} groups"
        )
        delete(live)


def overtaking(name: str, few: dict[str, Any], many: dict[str, Any], two: dict[str, object]) -> None:
    """Send a few tasks behind a backlog of many, with one queue and with two; print the waits of both."""
    for number, (queues_are, parameters) in enumerate((("one queue", ONE), ("two queues", two))):
        live = deploy(f"{name.replace(' ', '-')}-{number}", parameters)
        sent(live, f"warm{number}", n_tasks=100)
        drained(live)
        control.pause(live, 60)
        backlog, _ = sent(live, f"backlog{number}", n_tasks=N_BACKLOG, duration_median_s=0.02, **many)
        control.resume(live, 60)
        urgent, _ = sent(live, f"urgent{number}", n_tasks=N_URGENT, duration_median_s=0.02, seed=1, **few)
        drained(live)
        tasks = status.get(live, [*backlog["task_id"], *urgent["task_id"]]).tasks
        is_urgent = tasks["task_id"].isin(urgent["task_id"])
        wait = latency.durations(tasks)["queue_wait_s"]
        print(
            f"second queue {name}, {queues_are}: {N_URGENT} tasks behind {N_BACKLOG:,} waited p50 "
            f"{wait[is_urgent].median():.2f} s, max {wait[is_urgent].max():.2f} s; the backlog p50 "
            f"{wait[~is_urgent].median():.2f} s, all done after "
            f"{(tasks['finished_at'].max() - tasks['first_started_at'].min()).total_seconds():.1f} s"
        )
        delete(live)


def tenants() -> None:
    """Send the tasks of a noisy tenant and of a quiet one to a standard queue; print the waits of both."""
    live = deploy("tenants", {})
    manifest, _ = sent(live, "tenants", n_tasks=N_TASKS, groups="noisy:19,quiet:1", duration_median_s=0.02)
    drained(live)
    waits = latency.percentiles(
        latency.durations(status.get(live, manifest["task_id"].tolist()).tasks), "message_group"
    )
    for row in waits[waits["duration"] == "queue_wait_s"].to_dict("records"):
        print(
            f"fair queue, {row['group']} ({row['n']} tasks): queue wait p50 {row['p50']:.2f} s, max {row['max']:.2f} s"
        )
    delete(live)


def deploy(name: str, parameters: dict[str, object]) -> stack.Stack:
    """Deploy a stack of the benchmark's own."""
    return stack.deploy(connect("local"), name, parameters, progress=lambda _status: None)


def delete(live: stack.Stack) -> None:
    """Delete it, so that it takes no time from the next."""
    stack.delete(live, delete_table=True, progress=lambda _status: None)


def sent(live: stack.Stack, run_id: str, **fields: Any) -> tuple[pd.DataFrame, float]:
    """Send a workload, no-op tasks unless told otherwise; returns its manifest, and how long that took in seconds."""
    manifest = workload.generate(workload.Workload(**{"duration_median_s": 0.0} | fields), f"{live.name}-{run_id}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.parquet"
        manifest.to_parquet(path)
        begun = time.perf_counter()
        submit.send(live, path, f"{live.name}-{run_id}", progress=False)
        return manifest, time.perf_counter() - begun


def drained(live: stack.Stack) -> None:
    """Wait until no message is left."""
    while queues.counts(live).n_unsettled:
        time.sleep(0.2)
