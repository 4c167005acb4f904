"""What a run used of each thing that AWS bills, and what it would have used in another setup.

Three steps, each a frame or a value that can be looked at: `of_run` sums up the work of a run (`Work`), a `Setup` says
how the stack is deployed, and `quantities` turns the two into one row for each item of a bill.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
import pandas as pd

from taskq_lib.analysis import requests, writes
from taskq_lib.analysis.claims import classify

#: A log event is counted with so many bytes beside its text (CloudWatch Logs API reference, PutLogEvents).
EVENT_BYTES = 26
#: Of an invocation, the platform's two lines in JSON, start and report (Lambda guide, JSON log format); an estimate.
PLATFORM_BYTES = 2 * EVENT_BYTES + 420
#: The stack trace in the line of an attempt that failed; an estimate, since it is not kept in the item.
TRACE_BYTES = 400
#: A line of metrics and what each attempt adds to it; estimates.
METRICS_LINE_BYTES, METRICS_ATTEMPT_BYTES = EVENT_BYTES + 470, 25
#: The attempt's line without the texts in it, and what an error adds.
ATTEMPT_LINE_BYTES, ERROR_BYTES = EVENT_BYTES + 250, 60
#: How often a process reports to the breaker of a type at most (s): it does where attempts fail.
REPORT_S = 1.0
#: So many reports it takes a process at most to know the window that is counted in.
N_TO_KNOW = 3
#: Reads of each task's status, strongly consistent, one unit up to 4 KB: while it is waited for, and at the end.
READS_PER_TASK = 2
_IN_LINE = ("outcome", "task_id", "run_id", "task_type", "error", "error_type")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a stack is deployed, as far as it changes the bill."""

    batch_size: int = 10
    memory_mb: int = 128
    architecture: str = "x86_64"
    is_fifo: bool = False
    n_mappings: int = 1
    has_maximum_concurrency: bool = False
    minimum_pollers: int = 0  #: 0 is the standard mode
    has_index: bool = True
    has_recovery: bool = True
    has_breakers: bool = True
    ttl_days: int = 30  #: 0 keeps items for ever; then a month is priced
    log_days: int = 14
    metrics_of_stack: int = 0  #: Custom metrics that the function emits for the stack
    metrics_of_type: int = 0  #: And for each task type
    n_alarms: int = 0
    n_dashboards: int = 0
    n_regions: int = 1  #: That keep the table


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run did, in sums; requests of SQS in chunks of 64 KiB, as they are billed."""

    n_tasks: int
    n_types: int
    sends: int
    sends_source: str  #: "computed" or "assumed"
    grouped_sends: int  #: Of these, the ones with a MessageGroupId: the share of tasks that have one, at least
    receives: int
    deletes: int
    visibility_changes: int
    dead_letter_sends: int
    n_seen: int  #: Invocations that an attempt names
    n_unseen: int  #: Those that none does, each taken to have held one message
    n_attempts: int
    duration_s: float  #: Of all invocations
    duration_source: str  #: "counted" where it is what Lambda billed, else "computed"
    table_units: int
    index_units: int  #: With an index by time, whether there is one or not
    breaker_units: tuple[int, int]  #: At least and at most
    stored_bytes: int  #: Of all items at the end
    line_bytes: int  #: Of the attempts' log lines
    n_metrics_lines: int


def of_run(
    tasks: pd.DataFrame,
    attempts: pd.DataFrame,
    sends: pd.DataFrame,
    body_bytes: "pd.Series[int]",
    *,
    is_burst: bool = True,
    billed_s: "pd.Series[float] | None" = None,
) -> Work:
    """Sum up the work of a run; `body_bytes` by task id, `billed_s`, where there is any, by request id.

    Without `billed_s` an invocation takes from its begin to the end of its last task: what it does afterwards, and
    what a cold start took before, is missing. Raises `BadInput` for a missing column.
    """
    rows = classify(tasks, attempts)
    batches = requests.of_batches(tasks, rows, body_bytes)
    asked = requests.of_run(batches, sends, body_bytes, is_burst=is_burst)
    billed = {(by, what): n for by, what, n in asked[["by", "operation", "billed"]].itertuples(index=False)}
    sizes = writes.item_bytes(rows)
    written = writes.statements(tasks, rows, sizes)
    seen = batches["is_seen"]
    n_grouped = int(tasks["message_group"].notna().sum()) if "message_group" in tasks.columns else 0
    n_sent = int(billed[requests.PRODUCER, "SendMessageBatch"])
    return Work(
        n_tasks=len(tasks),
        n_types=int(tasks["task_type"].nunique()),
        sends=n_sent,
        sends_source=str(asked["source"].iloc[0]),
        grouped_sends=ceil(n_sent * n_grouped / max(1, len(tasks))),
        receives=int(billed[requests.MAPPING, "ReceiveMessage"]),
        deletes=int(billed[requests.MAPPING, "DeleteMessageBatch"]),
        visibility_changes=int(billed[requests.FUNCTION, "ChangeMessageVisibilityBatch"]),
        dead_letter_sends=int(billed[requests.FUNCTION, "SendMessageBatch"]),
        n_seen=int(seen.sum()),
        n_unseen=int((~seen).sum()),
        n_attempts=len(rows),
        duration_s=_duration_s(batches, billed_s),
        duration_source="computed" if billed_s is None else "counted",
        table_units=int(written["table_units"].sum()),
        index_units=int(written["index_units"].sum()),
        breaker_units=_breaker_units(rows, batches),
        stored_bytes=int(writes.stored_bytes(tasks, rows, sizes).sum()),
        line_bytes=_line_bytes(rows.loc[rows["outcome"].ne("lost"), list(_IN_LINE)]),
        n_metrics_lines=int(batches["n_types"].sum()) + len(batches),
    )


def _duration_s(batches: pd.DataFrame, billed_s: "pd.Series[float] | None") -> float:
    """Return what is billed of all invocations; one of which nothing is known is taken to be as long as most."""
    known = batches["duration_s"] if billed_s is None else batches["batch"].map(billed_s).fillna(batches["duration_s"])
    whole_ms = np.ceil(known.to_numpy(dtype="float64") * 1000 - 1e-6) / 1000
    usual = float(np.nanmedian(whole_ms)) if known.notna().any() else 0.0
    return float(np.nansum(np.where(np.isnan(whole_ms), usual, whole_ms)))


def _breaker_units(rows: pd.DataFrame, batches: pd.DataFrame) -> tuple[int, int]:
    """Return the least and the most reports to the breakers' items, each a write of one unit that no index takes.

    Each type is reported at least once. A process reports a type at most once a batch: with each until it knows the
    window that is counted in, which takes three at most, then at most once a second.
    """
    n_types = int(rows["task_type"].nunique())
    span_s = (rows["finished_at"].max() - rows["received_at"].min()).total_seconds() if len(rows) else 0.0
    n_processes = max(1, int(batches["is_cold"].sum()))
    often = n_processes * n_types * (N_TO_KNOW + int((0.0 if np.isnan(span_s) else max(0.0, span_s)) / REPORT_S))
    return n_types, max(n_types, min(int(batches["n_types"].sum()), often))


def _n_characters(texts: "pd.Series[str]") -> int:
    if isinstance(texts.dtype, pd.CategoricalDtype):
        n_of = texts.cat.codes.value_counts()
        return sum(len(str(text)) * int(n_of.get(code, 0)) for code, text in enumerate(texts.cat.categories))
    return int(texts.astype("str").str.len().sum())


def _line_bytes(rows: pd.DataFrame) -> int:
    """Return the bytes of the attempts' log lines, by the texts in them; one that vanished has written none."""
    failed = rows["outcome"].eq("failed")
    texts = sum(_n_characters(rows[name]) for name in ("task_id", "run_id", "task_type"))
    errors = rows.loc[failed, "error"].str.len().sum() + rows.loc[failed, "error_type"].str.len().sum()
    n_failed = int(failed.sum())
    return int(texts + errors + len(rows) * ATTEMPT_LINE_BYTES + n_failed * (ERROR_BYTES + TRACE_BYTES))
