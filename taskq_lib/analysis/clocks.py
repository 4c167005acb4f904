"""What a task's times can be trusted for: when its wait began, and how far the clocks that wrote them differ.

`enqueued_at` is the producer's clock, `sent_at` SQS's, and the times of attempts are those of the function's hosts. A
message is received after it was sent, and a task is seen to be final after it has finished: each such order bounds how
far one clock is ahead of another, and that is all that can be known of it. The hosts of the function are taken for one
clock, and the reader's for the producer's; where the bounds contradict each other, one of these differ.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pandas as pd

from taskq_lib.analysis import in_seconds, is_final, number, require, seconds
from taskq_lib.analysis.intervals import carried
from taskq_lib.analysis.latency import SHARES


def bounds(tasks: pd.DataFrame, samples: pd.DataFrame | None, read_at: datetime) -> pd.DataFrame:
    """Bound how far the function's clock is ahead of the producer's and of SQS's: two rows.

    Columns: `clocks` (str), `at_least_s`, `at_most_s` (float64, seconds; negative: behind; NaN where nothing bounds it)
    and `says` (str). At most as far as the shortest wait shows, since no task starts before it is enqueued or sent. At
    least as far as finishes are later than the moment at which the tasks were seen to be final, by the reader's clock,
    which is taken for the producer's: at `read_at`, and in each of a run's `samples` (`at`, `n_completed`,
    `n_dead_lettered`).

    A `read_at` that is the last change of `tasks` is that of a run which does not say when it was read, and bounds
    nothing. A redriven task counts for neither the samples nor SQS, whose time of sending is then that of the redrive.
    Raises `BadInput` for a missing column.
    """
    require(tasks, "tasks", "state", "enqueued_at", "sent_at", "first_started_at", "finished_at", "updated_at")
    redriven = tasks["n_redrives"].fillna(0).to_numpy() > 0 if "n_redrives" in tasks else np.zeros(len(tasks), bool)
    started = tasks["first_started_at"]
    of_producer = in_seconds(started - tasks["enqueued_at"]).min()
    of_sqs = in_seconds(started - tasks["sent_at"])[~redriven].min()
    seen_at = [pd.Timestamp(read_at)] if tasks["updated_at"].max() != pd.Timestamp(read_at) else []
    least = _least(tasks["finished_at"][is_final(tasks)], None if redriven.any() else samples, seen_at)
    rows = [("function and producer", least, of_producer), ("function and SQS", float("nan"), of_sqs)]
    table = pd.DataFrame(rows, columns=["clocks", "at_least_s", "at_most_s"])
    table = table.astype({"clocks": "str", "at_least_s": "float64", "at_most_s": "float64"})
    whose = ("the producer's", "that of SQS")
    says = [_bound_in_words(*row) for row in zip(whose, table["at_least_s"], table["at_most_s"], strict=True)]
    return table.assign(says=pd.array(says, dtype="str"))


def summary(durations: pd.DataFrame, bounds: pd.DataFrame) -> dict[str, object]:
    """Give `results.json` its "clocks".

    `n_negative` (tasks whose queue wait or end-to-end latency is below 0), `largest_negative_s` (the most negative of
    them, None without any), `at_least_s` and `at_most_s` (how far the function's clock is ahead of the producer's, None
    where not known) and `says`, a sentence.
    """
    shortest = durations[["queue_wait_s", "end_to_end_s"]].min(axis=1)
    n_negative = int((shortest < 0).sum())
    largest = float(shortest.min()) if n_negative else None
    row = bounds.iloc[0]
    told = "No latency is negative."
    if largest is not None:
        told = f"{n_negative:,} of {len(durations):,} tasks have a negative latency, down to {seconds(largest)}."
    return {
        "n_negative": n_negative,
        "largest_negative_s": largest,
        **{name: number(row[name]) for name in ("at_least_s", "at_most_s")},
        "says": f"{told} {row['says']}",
    }


def start_in_words(manifest: pd.DataFrame | None) -> str:
    """Say which start the latencies of a run are measured from; `manifest` is None for a time window."""
    if manifest is None or "offset_s" not in manifest:
        return "Latency counts from the time that each message carries: when it was handed to a request, or was due."
    if not (manifest["offset_s"] > 0).any():
        return "Closed loop: all tasks were sent at once, and latency counts from when each was handed to a request."
    return (
        "Open loop: arrivals were paced, and latency counts from when each task was due, not from when the producer "
        "got to it. A producer that falls behind adds to the wait; it hides none of it."
    )


def lateness(tasks: pd.DataFrame, manifest: pd.DataFrame | None) -> pd.DataFrame:
    """Say how late the producer was, where arrivals were paced: one row, from due (`enqueued_at`) to sent (`sent_at`).

    Columns: `n`, `p50`, `p90`, `p99` (NaN where `n` cannot carry them), `max` (float64, seconds). It includes a request
    and what SQS's clock differs by; redriven tasks are left out, since SQS has forgotten their first time. No row where
    nothing was paced. Raises `BadInput` for a missing column.
    """
    require(tasks, "tasks", "enqueued_at", "sent_at")
    columns = ["n", *(f"p{100 * share:g}" for share in SHARES), "max"]
    if manifest is None or "offset_s" not in manifest or not (manifest["offset_s"] > 0).any():
        return pd.DataFrame(columns=columns, dtype="float64").astype({"n": "int64"})
    first = tasks[tasks["n_redrives"].fillna(0) == 0] if "n_redrives" in tasks else tasks
    late = in_seconds(first["sent_at"] - first["enqueued_at"]).dropna()
    row = [[len(late), *late.quantile(list(SHARES)), late.max()]]
    return carried(pd.DataFrame(row, columns=columns).astype({"n": "int64"}), SHARES)


def _least(finished: "pd.Series[pd.Timestamp]", samples: pd.DataFrame | None, seen_at: Sequence[pd.Timestamp]) -> float:
    """Return how far the function's clock is ahead at least: the latest finish, less when it was seen to be over.

    Of a sample with n final tasks, at least the n-th earliest finish was over; NaN where nothing was seen.
    """
    ends = np.sort(finished.dropna().to_numpy(dtype="datetime64[us]").astype(np.int64)) / 1e6
    if not ends.size:
        return float("nan")
    seen = [float(ends[-1]) - at.timestamp() for at in seen_at]
    if samples is not None and len(samples):
        read = samples[["at", "n_completed", "n_dead_lettered"]].dropna()
        n = (read["n_completed"] + read["n_dead_lettered"]).to_numpy(dtype=np.int64)
        at = read["at"].to_numpy(dtype="datetime64[us]").astype(np.int64) / 1e6
        some = (n > 0) & (n <= len(ends))
        seen += (ends[n[some] - 1] - at[some]).tolist()
    return max(seen, default=float("nan"))


def _bound_in_words(whose: str, least: float, most: float) -> str:
    """Say in a sentence how far the function's clock is ahead of another one."""
    if pd.isna(most):
        return f"How far the function's clock differs from {whose} is not known."
    if least > most:
        return (
            "The times contradict each other: two clocks among those of the producer, the reader and the function's "
            f"hosts differ by at least {seconds((least - most) / 2)}."
        )
    if most < 0:
        end = "" if pd.isna(least) else f" and at most {seconds(-least)}"
        return f"The function's clock is at least {seconds(-most)}{end} behind {whose}."
    if least > 0:
        return f"The function's clock is at least {seconds(least)} and at most {seconds(most)} ahead of {whose}."
    end = "" if pd.isna(least) else f" and at most {seconds(-least)} behind"
    return f"The function's clock is at most {seconds(most)} ahead of{end} {whose}."
