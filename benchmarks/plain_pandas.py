"""The analysis of a run as a competent user writes it in plain pandas: the peer of the benchmark `analysis`.

The same tables and figures, each by the method that pandas has for it and no loop over rows. It does less where pandas
has no method: it counts who was overtaken in a message group but no inversions, gives rates no interval of confidence,
masks numbers in errors by one rule instead of ten, bounds no clock, and checks nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.analysis_frames import Frames

DURATIONS = ["queue_wait_s", "processing_s", "retry_delay_s", "end_to_end_s"]
GROUPS = ("task_type", "priority", "message_group")
QUANTILES = [0.5, 0.9, 0.99]


def analyse(frames: Frames, folder: Path) -> dict[str, Any]:
    """Make all tables, draw all figures into `folder`, and return what the two ways can be compared by."""
    manifest, tasks, attempts, dead = frames
    tasks.groupby(["task_type", "state"], observed=True).size().unstack(fill_value=0)
    account = ledger(manifest, tasks, dead)
    took = durations(tasks)
    tables: dict[str | None, Any] = {
        by: percentiles(took, by) for by in (None, "task_type", "priority", "message_group")
    }
    rates = per_interval(tasks, attempts)
    order = overtaken(manifest, tasks)
    # Another notebook, as it is with us: it closes the ledger anew.
    account = ledger(manifest, tasks, dead)
    failed = failures(tasks, attempts, dead)
    by_band, _by_attempt = parts(took, attempts)
    draw_latencies(took, tables, by_band, folder)
    draw_over_time(took, rates, folder)
    draw_failures(failed, attempts, folder)
    return {
        "completed": int(account["completed"]),
        "dead_lettered": int(account["dead_lettered"]),
        "p99": tables[None].loc[("end_to_end_s", "p99"), "all"],
        "p90 by type": tables["task_type"].loc[("processing_s", "p90")].tolist(),
        "overtaken": int(order.sum()),
        "signatures": len(failed["signatures"]),
        "retries": int(failed["n_retries"]),
        "median back-off": round(float(failed["backoff_s"]), 6),
    }


def ledger(manifest: pd.DataFrame, tasks: pd.DataFrame, dead: pd.DataFrame) -> pd.Series[int]:
    """Count the tasks of the manifest by state; one without a status is dead-lettered or lost."""
    book = manifest[["task_id"]].merge(tasks[["task_id", "state", "reason"]], on="task_id", how="left")
    state = book["state"].astype("str").fillna("pending")
    in_dead = book["task_id"].isin(dead["task_id"])
    state = state.mask((state == "pending") & in_dead, "dead_lettered").mask((state == "pending") & ~in_dead, "lost")
    book[state == "dead_lettered"]["reason"].value_counts()
    return state.value_counts()


def durations(tasks: pd.DataFrame) -> pd.DataFrame:
    """Measure each task in seconds."""
    took = tasks[["task_id", "task_type", "priority", "message_group", "state", "enqueued_at"]].copy()
    took["is_final"] = tasks["state"].isin(["completed", "dead_lettered"])
    took["queue_wait_s"] = (tasks["first_started_at"] - tasks["enqueued_at"]).dt.total_seconds()
    took["processing_s"] = (tasks["finished_at"] - tasks["last_started_at"]).dt.total_seconds()
    took["end_to_end_s"] = (tasks["finished_at"] - tasks["enqueued_at"]).dt.total_seconds()
    took["retry_delay_s"] = took["end_to_end_s"] - took["queue_wait_s"] - took["processing_s"]
    return took


def percentiles(took: pd.DataFrame, by: str | None) -> pd.DataFrame:
    """Give the percentiles, the count and the maximum of the finished tasks, one column a group."""
    finished = took[took["is_final"]]
    grouped: Any = finished.assign(all="all").groupby(by or "all", observed=True)[DURATIONS]
    table = grouped.quantile(QUANTILES).unstack()
    table.columns = pd.MultiIndex.from_tuples([(name, f"p{100 * q:g}") for name, q in table.columns])
    table = table.join(grouped.agg(["count", "max", n_negative]))
    transposed: pd.DataFrame = table.T
    return transposed


def n_negative(values: pd.Series[float]) -> int:
    """Count durations below 0."""
    return int((values < 0).sum())


def per_interval(tasks: pd.DataFrame, attempts: pd.DataFrame) -> pd.DataFrame:
    """Count in about 100 intervals what was sent, finished and completed, and what waits at the end of each."""
    span_s = (tasks["finished_at"].max() - tasks["enqueued_at"].min()).total_seconds()
    rule = pd.Timedelta(milliseconds=max(1, round(span_s * 10)))

    def count(times: pd.Series[pd.Timestamp]) -> pd.Series[int]:
        return pd.Series(1, index=times.dropna()).resample(rule, origin="epoch").count()

    final = tasks[tasks["state"].isin(["completed", "dead_lettered"])]
    found = pd.DataFrame(
        {
            "offered": count(tasks["sent_at"]),
            "throughput": count(attempts["finished_at"]),
            "goodput": count(tasks[tasks["state"] == "completed"]["finished_at"]),
            "entered": count(tasks["enqueued_at"]),
            "left": count(final["finished_at"]),
        }
    ).fillna(0)
    return found.assign(backlog=(found["entered"] - found["left"]).cumsum())


def overtaken(manifest: pd.DataFrame, tasks: pd.DataFrame) -> pd.Series[Any]:
    """Count in each message group the tasks that one sent later began before."""
    place = manifest.reset_index().rename(columns={"index": "place"})[["task_id", "place"]]
    rows = tasks[["task_id", "message_group", "first_started_at"]].dropna().merge(place, on="task_id")
    rows = rows.sort_values("place", ascending=False)
    rows["started"] = rows["first_started_at"].astype("int64")
    later = rows.groupby("message_group")["started"].cummin().groupby(rows["message_group"]).shift()
    return (later < rows["started"]).groupby(rows["message_group"]).sum()


def failures(tasks: pd.DataFrame, attempts: pd.DataFrame, dead: pd.DataFrame) -> dict[str, Any]:
    """Give what failed by signature, reason, type and attempt, what retries did, and what is stuck."""
    bad = attempts[attempts["outcome"].isin(["failed", "lost"])]
    rows = attempts.sort_values(["task_id", "started_at"])
    waited = (rows["started_at"] - rows.groupby("task_id")["finished_at"].shift()).dt.total_seconds()
    moved = dead[dead["reason"] == "receive_limit"].merge(tasks, on="task_id", how="left", suffixes=("", "_task"))
    ended = attempts[attempts["outcome"].notna()]
    return {
        "signatures": by_signature(dead),
        "attempts": by_signature(bad),
        "reasons": dead["reason"].value_counts(),
        "dead of the failing": tasks[tasks["task_id"].isin(bad["task_id"])]["state"].value_counts(),
        "n_retries": (rows["attempt"] > 1).sum(),
        "backoff_s": waited[rows["attempt"] > 1].median(),
        "outcomes": ended.groupby(["attempt", "outcome"], observed=True).size(),
        "rates": tasks.assign(bad=tasks["state"] == "dead_lettered").groupby("task_type", observed=True)["bad"].mean(),
        "safety net": moved[["task_id", "message_id", "n_receives", "state", "n_attempts"]],
        "stuck": tasks[(tasks["state"] == "retrying") & ~tasks["task_id"].isin(dead["task_id"])],
        "dead": dead.sort_values("sent_at"),
    }


def by_signature(errors: pd.DataFrame) -> pd.DataFrame:
    """Group errors by their text with numbers and ids masked."""
    masked = errors["error"].fillna("").apply(lambda text: re.sub(r"[\w.-]*\d[\w.-]*", "<n>", text))
    signature = errors["error_type"].fillna("not stated") + ": " + masked
    grouped = errors.assign(signature=signature).groupby("signature")
    return grouped.agg(n=("task_id", "size"), n_tasks=("task_id", "nunique"), example=("error", "first"))


def parts(took: pd.DataFrame, attempts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give the mean parts of the latency by its percentile, and how long each attempt, and its hand-over, took."""
    finished = took[took["is_final"]].dropna(subset=["end_to_end_s"])
    bands = pd.qcut(finished["end_to_end_s"].rank(method="first"), [0, 0.5, 0.9, 0.99, 1])
    by_band = finished.groupby(bands, observed=True)[DURATIONS].mean()
    rows = attempts.sort_values(["task_id", "attempt"])
    spans = {
        "handover_s": rows["started_at"] - rows["received_at"],
        "processing_s": rows["finished_at"] - rows["started_at"],
        "gap_s": rows.groupby("task_id")["started_at"].shift(-1) - rows["finished_at"],
    }
    measured = pd.DataFrame({name: span.dt.total_seconds() for name, span in spans.items()})
    return by_band, measured.groupby(rows["attempt"]).quantile(pd.Series([0.5, 0.99]))


def draw_latencies(took: pd.DataFrame, tables: dict[str | None, Any], by_band: pd.DataFrame, folder: Path) -> None:
    """Draw the share of tasks done in at most so long: of all, by type and priority; percentiles by message group."""
    figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    done = took[took["is_final"]]
    for name in DURATIONS:
        ax.ecdf(done[name].dropna(), label=name)
    ax.set_xscale("log")
    ax.legend(loc="lower right")
    save(figure, folder, "ecdf")
    groups = [rows for by in ("task_type", "priority") for _, rows in done.groupby(by, observed=True)]
    figure, axes = plt.subplots(2, 3, sharex=True, sharey=True, figsize=(8, 4), layout="constrained")
    for ax, rows in zip(axes.ravel(), groups, strict=False):
        for name in ("queue_wait_s", "end_to_end_s"):
            ax.ecdf(rows[name].dropna())
        ax.set_xscale("log")
    save(figure, folder, "panels")
    tenants = tables["message_group"].loc["queue_wait_s"].T[["p50", "p90", "p99"]]
    for table, name in ((by_band, "parts"), (tenants, "tenants")):
        figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
        table.plot.barh(ax=ax, stacked=name == "parts")
        save(figure, folder, name)


def draw_over_time(took: pd.DataFrame, rates: pd.DataFrame, folder: Path) -> None:
    """Draw a heat map of the latency, and how many tasks had come and gone, over time."""
    figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    done = took[took["is_final"]].dropna(subset=["end_to_end_s"])
    # As numbers: of a million times with a zone matplotlib makes Python objects, which takes it 10 s.
    ax.hist2d(done["enqueued_at"].astype("int64"), done["end_to_end_s"], bins=(100, 40), norm="log")
    save(figure, folder, "over_time")
    figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    rates[["entered", "left"]].cumsum().plot.area(ax=ax, stacked=False)
    save(figure, folder, "flow")


def draw_failures(failed: dict[str, Any], attempts: pd.DataFrame, folder: Path) -> None:
    """Draw how attempts ended, and the share that failed over time: of all, by type and by priority."""
    figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    failed["outcomes"].unstack().plot.bar(ax=ax)
    save(figure, folder, "outcomes")
    bad = (
        attempts.assign(bad=attempts["outcome"] != "completed").dropna(subset=["finished_at"]).set_index("finished_at")
    )
    groups = [bad, *(rows for by in ("task_type", "priority") for _, rows in bad.groupby(by, observed=True))]
    figure, axes = plt.subplots(4, 2, sharex=True, sharey=True, figsize=(8, 7), layout="constrained")
    rule = (bad.index.max() - bad.index.min()) / 20
    for ax, rows in zip(axes.ravel(), groups, strict=False):
        rows["bad"].resample(rule).mean().plot(ax=ax)
    save(figure, folder, "failures")


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as PNG and close it."""
    figure.savefig(folder / f"{name}.png", dpi=120)
    plt.close(figure)
