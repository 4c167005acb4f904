"""Samples of the queues and of a run's tasks, kept in the run's folder while somebody waits for the run."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd

from taskq_lib.aws import live, status
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.status import Waited
from taskq_lib.report.runs import Run

#: How often what was sampled is written, s; at the end of a wait, however it ends, all is.
WRITE_S = 15.0


def wait(stack: Stack, run: Run, timeout_s: float) -> Waited:
    """Wait as `status.wait` does for a run's tasks; what it sees is added to the run's `samples.parquet`."""
    earlier = load(run)
    rows: list[dict[str, Any]] = []
    written_at = time.monotonic()

    def note(*seen: Any) -> None:
        nonlocal written_at
        rows.append(live.row(*seen))
        if time.monotonic() - written_at > WRITE_S:
            _save(run, earlier, rows)
            written_at = time.monotonic()

    try:
        return status.wait(stack, run.load("manifest")["task_id"].tolist(), timeout_s, note=note)
    finally:
        _save(run, earlier, rows)


def load(run: Run) -> pd.DataFrame:
    """Return the samples of a run, in order of time; none where nobody waited for it. As `live.SAMPLE_COLUMNS`."""
    return run.load("samples") if (run.folder / "samples.parquet").is_file() else live.frame([])


def _save(run: Run, earlier: pd.DataFrame, rows: list[dict[str, Any]]) -> None:
    fresh = live.frame(rows)
    run.save("samples", fresh if earlier.empty else pd.concat([earlier, fresh], ignore_index=True))
