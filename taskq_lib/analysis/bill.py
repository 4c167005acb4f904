"""The items of a bill: what a run's work comes to in a setup, its own or another, and what that costs."""

from dataclasses import replace

import pandas as pd

from taskq_lib.analysis import prices
from taskq_lib.analysis.requests import MESSAGES
from taskq_lib.analysis.usage import (
    METRICS_ATTEMPT_BYTES,
    METRICS_LINE_BYTES,
    PLATFORM_BYTES,
    READS_PER_TASK,
    Setup,
    Work,
)
from taskq_lib.errors import BadInput

GB = 2**30
MONTH_H = 730
#: What AWS's long poll waits, assumed (AWS does not say for a mapping), and the pollers of a quiet one (Lambda guide).
POLL_S, QUIET_POLLERS, POLLERS = 20, 2, 5
#: An item has so many bytes more in storage, and so has its entry in an index (developer guide, item sizes).
STORED_BYTES = 100

COUNTED, COMPUTED, ASSUMED = "counted", "computed", "assumed"
#: "run": the quantity is this run's. "month": it is a month's, whatever is done in it.
RUN, MONTH = "run", "month"
_COLUMNS = ["item", "quantity", "quantity_high", "unit", "per", "source", "price"]


def quantities(work: Work, was: Setup, now: Setup) -> pd.DataFrame:
    """Return what `work`, which was done in the setup `was`, comes to in the setup `now`; one row an item.

    Columns: `item` (str), `quantity` and `quantity_high` (float64: at least and at most; alike where it is one number),
    `unit` (str), `per` ("run" or "month"), `source` ("counted" in the run, "computed" from what was counted, or
    "assumed"), `price` (the item of the price table).
    """
    rows = [*_sqs(work, was, now), *_lambda(work, was, now), *_dynamodb(work, now), *_cloudwatch(work, was, now)]
    found = pd.DataFrame(rows, columns=_COLUMNS)
    texts = dict.fromkeys(("item", "unit", "per", "source", "price"), "str")
    return found.astype(texts | dict.fromkeys(("quantity", "quantity_high"), "float64"))


def priced(found: pd.DataFrame, table: pd.DataFrame, n_tasks: int, tasks_per_month: int) -> pd.DataFrame:
    """Return `quantities` with their price by `table` (`prices.read`).

    Further columns, float64, in US dollars: `usd` and `usd_high` of the run or of a month, as `per` says, and
    `usd_per_million` and `usd_per_million_high` of a million tasks, of which there are `tasks_per_month`.
    Raises `BadInput` where there are no tasks.
    """
    if n_tasks < 1 or tasks_per_month < 1:
        raise BadInput(f"A cost by task needs tasks; here are {n_tasks:,}, and {tasks_per_month:,} a month.")
    unit = found["price"].map(prices.per_unit(table))
    share = found["per"].map({RUN: 1e6 / n_tasks, MONTH: 1e6 / tasks_per_month})
    usd, high = found["quantity"] * unit, found["quantity_high"] * unit
    return found.assign(usd=usd, usd_high=high, usd_per_million=usd * share, usd_per_million_high=high * share)


def alternatives(now: Setup) -> dict[str, Setup]:
    """Return setups that a user would weigh against `now`, which comes first, each with one change, by their name."""
    found = {"as it is": now}
    found["index by time off" if now.has_index else "index by time on"] = replace(now, has_index=not now.has_index)
    for size in (10, 100):
        if size != now.batch_size and not (now.is_fifo and size > MESSAGES):
            found[f"batches of {size}"] = replace(now, batch_size=size)
    for memory in (128, 512):
        if memory != now.memory_mb:
            found[f"{memory} MB"] = replace(now, memory_mb=memory)
    other = "arm64" if now.architecture == "x86_64" else "x86_64"
    found[other] = replace(now, architecture=other)
    # A FIFO queue gives a batch of at most ten.
    as_fifo = replace(now, is_fifo=not now.is_fifo, batch_size=min(now.batch_size, MESSAGES))
    found["standard queue" if now.is_fifo else "FIFO queue"] = as_fifo
    if now.metrics_of_stack or now.metrics_of_type:
        found["own metrics off"] = replace(now, metrics_of_stack=0, metrics_of_type=0)
    return found


def _sqs(work: Work, was: Setup, now: Setup) -> list[tuple[object, ...]]:
    kind = "sqs_fifo_request" if now.is_fifo else "sqs_standard_request"
    # A mapping receives ten at a time, however large its batches are.
    counts = [
        ("SQS: send", work.sends, work.sends_source),
        ("SQS: receive", work.receives, ASSUMED),
        ("SQS: delete", work.deletes, ASSUMED),
        ("SQS: change visibility", work.visibility_changes, COMPUTED),
        ("SQS: send dead letters", work.dead_letter_sends, COMPUTED),
    ]
    rows: list[tuple[object, ...]] = [(item, n, n, "request", RUN, source, kind) for item, n, source in counts]
    # The groups of a FIFO queue are its order; a standard queue instead of it is taken to be a plain one.
    if work.grouped_sends and not (was.is_fifo or now.is_fifo):
        n = work.grouped_sends
        rows.append(("SQS: message groups", n, n, "request", RUN, COMPUTED, "sqs_fair_request"))
    polls = MONTH_H * 3600 / POLL_S
    least = POLLERS if now.has_maximum_concurrency else QUIET_POLLERS
    low, high = (now.minimum_pollers,) * 2 if now.minimum_pollers else (least, POLLERS)
    n_low, n_high = (n * polls * now.n_mappings for n in (low, high))
    rows.append(("SQS: polls of an idle queue", n_low, n_high, "request", MONTH, ASSUMED, kind))
    return rows


def _lambda(work: Work, was: Setup, now: Setup) -> list[tuple[object, ...]]:
    """Price the invocations.

    Batches of another size: at best they are as full as those were, and all that is in one runs side by side, so that
    it takes as long as one did; at worst they hold no more than before, or take as much longer as they hold more.
    Another memory: at best the work takes less time in proportion to the CPU, which grows with memory; at worst, where
    it waits for others, as long as before. Whether arm64 is faster or slower is not known here, so it is taken alike.
    """
    low, high = _invocations(work, was, now)
    seconds = work.duration_s
    memory, memory_was = now.memory_mb, was.memory_mb
    gb_s = (seconds * memory_was / 1024, seconds * memory / 1024)
    first, second = sorted(gb_s)
    # Fewer and larger batches save time only where their tasks wait side by side.
    share = low / max(1, work.n_seen + work.n_unseen)
    first, second = (first * min(1.0, share), second * max(1.0, high / max(1, work.n_seen + work.n_unseen)))
    is_same = (memory, now.batch_size) == (memory_was, was.batch_size)
    calls = COUNTED if is_same and not work.n_unseen else COMPUTED if is_same else ASSUMED
    time = work.duration_source if is_same else ASSUMED
    rows: list[tuple[object, ...]] = [
        ("Lambda: requests", low, high, "request", RUN, calls, "lambda_request"),
        ("Lambda: duration", first, second, "GB-s", RUN, time, f"lambda_{now.architecture}"),
    ]
    if now.minimum_pollers:
        hours = now.minimum_pollers * MONTH_H * now.n_mappings
        rows.append(("Lambda: event pollers", hours, hours, "unit-hour", MONTH, COMPUTED, "lambda_poller"))
    return rows


def _invocations(work: Work, was: Setup, now: Setup) -> tuple[float, float]:
    n = work.n_seen + work.n_unseen
    if now.batch_size == was.batch_size:
        return n, n
    as_full = work.n_seen * was.batch_size / now.batch_size
    return tuple(sorted((max(1.0, as_full) + work.n_unseen, float(n))))  # type: ignore[return-value]


def _dynamodb(work: Work, now: Setup) -> list[tuple[object, ...]]:
    """Price the table: writes, storage and recovery in each of its regions, reads in one.

    A replicated write costs as much as one at home. A refused one is not replicated, and is taken to be.
    """
    writes, n_regions = "dynamodb_write_unit", now.n_regions
    n = work.table_units * n_regions
    rows: list[tuple[object, ...]] = [("DynamoDB: write items", n, n, "unit", RUN, COMPUTED, writes)]
    if now.has_index:
        n = work.index_units * n_regions
        rows.append(("DynamoDB: write the index by time", n, n, "unit", RUN, COMPUTED, writes))
    if now.has_breakers:
        least, most = (n * n_regions for n in work.breaker_units)
        rows.append(("DynamoDB: write breakers", least, most, "unit", RUN, ASSUMED, writes))
    reads = READS_PER_TASK * work.n_tasks
    rows.append(("DynamoDB: read status", reads, reads, "unit", RUN, ASSUMED, "dynamodb_read_unit"))
    months = (now.ttl_days or 30) / 30
    whole = (work.stored_bytes + work.n_tasks * STORED_BYTES) / GB * months * n_regions
    stored = whole * (2 if now.has_index else 1)
    source = COMPUTED if now.ttl_days else ASSUMED
    rows.append(("DynamoDB: storage", stored, stored, "GB-month", RUN, source, "dynamodb_storage"))
    if now.has_recovery:
        rows.append(("DynamoDB: point-in-time recovery", whole, whole, "GB-month", RUN, source, "dynamodb_recovery"))
    return rows


def _cloudwatch(work: Work, was: Setup, now: Setup) -> list[tuple[object, ...]]:
    low, high = _invocations(work, was, now)
    n_seen = max(1, work.n_seen + work.n_unseen)
    has_metrics = now.metrics_of_stack or now.metrics_of_type
    # Each invocation has at least a line of the platform, and one of metrics a type.
    each = PLATFORM_BYTES + (METRICS_LINE_BYTES * work.n_metrics_lines / n_seen if has_metrics else 0)
    lines = work.line_bytes + (METRICS_ATTEMPT_BYTES * work.n_attempts if has_metrics else 0)
    first, second = ((lines + each * n) / GB for n in (low, high))
    months = now.log_days / 30
    metrics = now.metrics_of_stack + now.metrics_of_type * work.n_types
    return [
        ("Logs: ingest", first, second, "GB", RUN, ASSUMED, "logs_ingest"),
        ("Logs: storage", first * months, second * months, "GB-month", RUN, ASSUMED, "logs_storage"),
        ("CloudWatch: own metrics", metrics, metrics, "metric-month", MONTH, COMPUTED, "cloudwatch_metric"),
        ("CloudWatch: alarms", now.n_alarms, now.n_alarms, "alarm-month", MONTH, COUNTED, "cloudwatch_alarm"),
        (
            "CloudWatch: dashboard", now.n_dashboards, now.n_dashboards, "dashboard-month", MONTH, COUNTED,
            "cloudwatch_dashboard",
        ),
    ]  # fmt: skip
