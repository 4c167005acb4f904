"""Where the time goes: the parts of the end-to-end latency by task, by attempt, and in the slowest tasks."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from taskq_lib.analysis import in_seconds, number, numbered, require, seconds
from taskq_lib.analysis.intervals import carried
from taskq_lib.analysis.latency import DURATIONS

#: The parts that add up to the end-to-end latency of a task, in the order in which they begin.
PARTS = DURATIONS[:3]

#: The parts of an attempt, and what passes until the next one starts.
ATTEMPT_PARTS = ("handover_s", "processing_s", "gap_s")

#: Where one band of tasks, ordered by their end-to-end latency, ends and the next begins.
_EDGES = (0.0, 0.5, 0.9, 0.99, 1.0)
_BANDS = ("fastest half", "50 % to 90 %", "90 % to 99 %", "slowest 1 %")

_NAMES = {"queue_wait_s": "queue wait", "processing_s": "processing", "retry_delay_s": "retry delay"}


def by_band(durations: pd.DataFrame) -> pd.DataFrame:
    """Say what tasks spend their time on, the faster and the slower: one row a band of the end-to-end latency.

    Finished tasks whose parts are all known, from `latency.durations`, are put in order of their end-to-end latency;
    the last band is the slowest 1 %, at least one task. Columns: `band` (str), `n` (int64), `from_s`, `to_s` (its
    shortest and longest end-to-end latency), and the means of `queue_wait_s`, `processing_s`, `retry_delay_s` and
    `end_to_end_s` (float64, seconds), of which the first three add up to the last. A band without a task has no row.

    Raises `BadInput` for a missing column.
    """
    require(durations, "durations", "is_final", *DURATIONS)
    parts = durations.loc[durations["is_final"], list(DURATIONS)].dropna()
    total = parts["end_to_end_s"].to_numpy()
    order, n = np.argsort(total, kind="stable"), len(parts)
    ends = [min(round(edge * n), n - 1) for edge in _EDGES[:-1]] + [n]
    rows = []
    for band, start, end in zip(_BANDS, ends, ends[1:], strict=False):
        if 0 <= start < end:
            of_band = parts.iloc[order[start:end]]
            shortest, longest = total[order[start]], total[order[end - 1]]
            rows.append((band, end - start, shortest, longest, *of_band.mean()))
    columns = ["band", "n", "from_s", "to_s", *DURATIONS]
    types = {"band": "str", "n": "int64"} | dict.fromkeys(columns[2:], "float64")
    return pd.DataFrame(rows, columns=columns).astype(types)


def by_attempt(attempts: pd.DataFrame) -> pd.DataFrame:
    """Say how long the first, second, ... attempts took, part by part: a row for each number and part that occurs.

    Columns: `attempt` (int64, from 1 after each redrive), `part`, `n` (attempts of which it is known), `p50`, `p99`
    (NaN where `n` cannot carry them) and `max` (float64, seconds). The parts, of an attempt:

    - `handover_s`: received by the function -> started: parsed, claimed, and a thread was free.
    - `processing_s`: started -> finished.
    - `gap_s`: finished -> start of the task's next attempt: back-off, the queue, and the next hand-over.

    All by the function's clocks; a negative one means that two of its hosts disagree. Raises `BadInput` for a missing
    column.
    """
    require(attempts, "attempts", "task_id", "attempt", "received_at", "started_at", "finished_at")
    number, rows = attempts["attempt"].to_numpy(dtype="int64", na_value=0), []
    # One part after the other: of ten million attempts each takes 80 MB.
    for part in ATTEMPT_PARTS:
        values = in_seconds(_spans(attempts, part)).to_numpy(dtype="float64")
        for attempt in np.flatnonzero(np.bincount(number)):
            known = values[number == attempt]
            known = known[~np.isnan(known)]
            if known.size:
                rows.append((attempt, part, known.size, *np.quantile(known, (0.5, 0.99)), known.max()))
    columns = ["attempt", "part", "n", "p50", "p99", "max"]
    types = dict.fromkeys(columns, "float64") | {"attempt": "int64", "part": "str", "n": "int64"}
    table = pd.DataFrame(rows, columns=columns).astype(types).sort_values("attempt", kind="stable", ignore_index=True)
    return carried(table, (0.5, 0.99))


def slowest(bands: pd.DataFrame) -> dict[str, object] | None:
    """Give `results.json` its "slowest", from `by_band`; None where no task has finished.

    `n`, `share` (0.01), the means `queue_wait_s`, `processing_s`, `retry_delay_s` and `end_to_end_s`, and `says`, a
    sentence.
    """
    if bands.empty:
        return None
    row: Mapping[str, float] = bands.iloc[-1].to_dict()  # type: ignore[assignment]
    total, n = row["end_to_end_s"], int(row["n"])
    many = f"The slowest 1 % ({n:,} tasks) took {seconds(total)} on average"
    whose = many if n > 1 else f"The slowest task took {seconds(total)}"
    largest = sorted(PARTS, key=lambda part: row[part], reverse=True)
    if total > 0 and min(row[part] for part in PARTS) >= 0:
        words = ", ".join(f"{_percent(row[part] / total)} {_NAMES[part]}" for part in largest)
        says = f"{whose}: {words}."
    else:
        words = ", ".join(f"{_NAMES[part]} {seconds(row[part])}" for part in largest)
        says = f"{whose}: {words}; a negative part means that clocks disagree."
    return {"n": n, "share": 0.01, **{name: number(row[name]) for name in DURATIONS}, "says": says}


def _spans(attempts: pd.DataFrame, part: str) -> "pd.Series[pd.Timedelta]":
    """Return a part of each attempt, NaT where it is not known."""
    if part == "gap_s":
        return _gaps(attempts)
    begin, end = ("received_at", "started_at") if part == "handover_s" else ("started_at", "finished_at")
    return attempts[end] - attempts[begin]


def _gaps(attempts: pd.DataFrame) -> "pd.Series[pd.Timedelta]":
    """Return for each attempt how long after its end the next attempt of its task started; NaT for the last one.

    What a redrive starts is not the next attempt: people time it.
    """
    [task] = numbered(attempts["task_id"])
    redrive = attempts["redrive"].to_numpy() if "redrive" in attempts else np.zeros(len(attempts), dtype=np.int64)
    several = np.flatnonzero(np.bincount(task)[task] > 1)  # most tasks have one attempt
    rows = attempts[["attempt", "started_at", "finished_at"]].iloc[several]
    rows = rows.assign(task=task[several], redrive=redrive[several], row=several)
    rows = rows.sort_values(["task", "redrive", "attempt"], kind="stable")
    follows = rows.groupby(["task", "redrive"])["attempt"].shift(-1) == rows["attempt"] + 1
    gap = (rows["started_at"].shift(-1) - rows["finished_at"]).where(follows)
    found = np.full(len(attempts), np.timedelta64("NaT", "us"))
    found[rows["row"].to_numpy()] = gap.to_numpy(dtype="timedelta64[us]")
    return pd.Series(found, index=attempts.index)


def _percent(share: float) -> str:
    # A part that is there does not round to none.
    return "less than 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"
