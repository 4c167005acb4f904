"""How fast the engine drains no-op tasks through the real function, at two sizes, and against a one-by-one handler."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from taskq_lib import workload
from taskq_lib.aws import package, queues, stack, status, submit
from taskq_lib.aws.target import connect
from taskq_lib.local import engine

SMALL, LARGE = 2_000, 20_000
PEER = Path(__file__).parent / "one_by_one"


def main() -> None:
    """Print tasks a second for both sizes and the peer, and their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TASKQ_STATE_DIR"] = folder
        with engine.running():
            live = stack.deploy(connect("local"), progress=lambda _status: None)
            drained(live, 200, "warm")
            small, large = drained(live, SMALL, "small"), drained(live, LARGE, "large")
            print(f"{SMALL:,} tasks: {small:.0f}/s; {LARGE:,} tasks: {large:.0f}/s; ratio {large / small:.2f}")
            function = live.target.client("lambda")
            function.update_function_code(FunctionName=live.outputs["FunctionName"], ZipFile=package.build(PEER))
            drained(live, 200, "peer-warm")
            peer = drained(live, SMALL, "peer")
            print(f"one-by-one handler, {SMALL:,} tasks: {peer:.0f}/s; ratio {small / peer:.2f}")


def drained(live: stack.Stack, n_tasks: int, run_id: str) -> float:
    """Submit no-op tasks and wait until the last is final; returns tasks a second, first enqueued to last finished."""
    manifest = workload.generate(workload.Workload(n_tasks=n_tasks, duration_median_s=0.0), run_id)
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
    return float(n_tasks / (tasks["finished_at"].max() - sends["enqueued_at"].min()).total_seconds())
