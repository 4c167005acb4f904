"""What 60_monitor looks at: a run's tasks, the samples of its wait, the function's log, and CloudWatch's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pandas as pd
from botocore.exceptions import BotoCoreError, ClientError

from taskq_lib.aws import embedded, live, log_lines, logs, metrics, stack
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import connect, explain
from taskq_lib.errors import TaskqError
from taskq_lib.report import data, samples
from taskq_lib.report.data import Data
from taskq_lib.report.parameters import Value
from taskq_lib.report.runs import Run

#: What is read of the log and of CloudWatch, empty; kept in the run's folder under these names.
_EMPTY = {
    "log_attempts": log_lines.attempts(log_lines.lines_frame([])),
    "reports": log_lines.reports(log_lines.lines_frame([])),
    "metrics": metrics.frame([]),
}


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What there is to look at; what an endpoint does not have is an empty frame, and `sources` says so."""

    data: Data
    samples: pd.DataFrame = field(repr=False)  #: As `live.SAMPLE_COLUMNS`
    log_attempts: pd.DataFrame = field(repr=False)  #: As `log_lines.ATTEMPT_COLUMNS`, of this run
    reports: pd.DataFrame = field(repr=False)  #: As `log_lines.REPORT_COLUMNS`, of all that ran meanwhile
    metrics: pd.DataFrame = field(repr=False)  #: As `metrics.METRIC_COLUMNS`
    sources: pd.DataFrame = field(repr=False)  #: source, rows, says


def look(chosen: Mapping[str, Value]) -> Watched:
    """Read what a notebook's parameters name, and the log and the metrics of the time that its tasks cover.

    What was read of a run is kept in its folder; where the stack cannot be reached any more, it is read from there.
    """
    found = data.load(chosen)
    window = _window(found.tasks)
    try:
        there = stack.describe(connect(str(chosen["target"]), str(chosen["region"]) or None), str(chosen["stack_name"]))
        read, said = _read_log(there, window)
        measured, published = _read_metrics(there, window, read.pop("own"))
        read["metrics"] = measured
    except TaskqError as error:
        read, said, published = {}, [("log", f"not read: {error.args[0]}")], []
    frames = _kept(found.run, read)
    if found.run is not None:
        own = frames["log_attempts"]
        frames["log_attempts"] = own[own["run_id"] == found.run.id].reset_index(drop=True)
    taken = samples.load(found.run) if found.run else live.frame([])
    sources = [
        ("status table", len(found.attempts), "attempts, each with its times: the control room is drawn from these"),
        ("samples", len(taken), "of queues and states, taken while 30_status waited"),
        *[(name, len(frames["log_attempts"]), says) for name, says in said],
        *[(name, int((frames["metrics"]["namespace"] == name).sum()), says) for name, says in published],
    ]
    return Watched(
        data=found, samples=taken, **frames, sources=pd.DataFrame(sources, columns=["source", "rows", "says"])
    )


def _window(tasks: pd.DataFrame) -> tuple[datetime, datetime]:
    """Return the time that tasks cover, or the last minute where none has a time."""
    first, last = tasks["enqueued_at"].min(), tasks["updated_at"].max()
    now = pd.Timestamp(datetime.now(UTC))
    first = now - pd.Timedelta(minutes=1) if pd.isna(first) else first
    return first.to_pydatetime(), (now if pd.isna(last) else max(first, last)).to_pydatetime()


def _read_log(there: Stack, window: tuple[datetime, datetime]) -> tuple[dict[str, pd.DataFrame], list[tuple[str, str]]]:
    """Read the log; `own` are the function's own metrics in it."""
    try:
        log = logs.read(there, *window)
    except (BotoCoreError, ClientError, TaskqError) as error:
        why = error if isinstance(error, TaskqError) else explain(error)
        return {"own": metrics.frame([])}, [("log", f"not read: {why.args[0]}")]
    lacks = [
        words
        for column, words in (("init_s", "how long cold starts took"), ("max_memory_mb", "how much memory was used"))
        if log.reports[column].isna().all()
    ]
    said = f"attempts, by {log.how}; {len(log.reports):,} platform reports"
    silent = f", which do not say {' nor '.join(lacks)}" if lacks and len(log.reports) else ""
    frames = {"log_attempts": log.attempts, "reports": log.reports, "own": embedded.metrics(log.lines)}
    return frames, [("log", said + silent)]


def _read_metrics(
    there: Stack, window: tuple[datetime, datetime], own: pd.DataFrame
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Read the metrics; our own stand in from the log where CloudWatch has none of them."""
    wanted = metrics.queries(there)
    try:
        found = metrics.read(there, wanted, *window)
    except (BotoCoreError, ClientError) as error:
        return own, [("CloudWatch", f"not read: {explain(error).args[0]}")]
    says = metrics.missing(wanted, found).set_index("namespace")["says"].to_dict()
    for name in own["namespace"].unique():
        if name not in set(found["namespace"]):
            found = metrics.joined(found, own[own["namespace"] == name])
            says[name] = "published none in this window: counted from the function's log lines instead"
    return found, [(str(name), str(words)) for name, words in says.items()]


def _kept(run: Run | None, read: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Keep what was read in the run's folder, and return it with what was kept there before and is not there now.

    A log is gone with its stack, and another of the same name knows nothing of this run.
    """
    frames = dict(_EMPTY) | dict(read)
    if run is None:
        return frames
    for name, frame in frames.items():
        if frame.empty and (run.folder / f"{name}.parquet").is_file():
            frames[name] = run.load(name)
        elif name in read:
            run.save(name, frame)
    return frames
