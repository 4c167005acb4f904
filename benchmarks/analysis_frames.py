"""Frames of a run as 30_status leaves them, made up from a seed and vectorised: what the analysis is timed on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taskq_lib.aws.frames import ATTEMPT_COLUMNS, TASK_COLUMNS
from taskq_lib.aws.queues import DEAD_COLUMNS
from taskq_worker.contract import Outcome, State

#: Sent a second, and done a second: the backlog grows while tasks are sent, and drains afterwards.
SENT_PER_S, DONE_PER_S = 2_000, 1_800
TYPES = ("IMAGE_RESIZE", "PROCESS_DATA", "SEND_EMAIL")
MEDIAN_S = np.array([0.3, 0.2, 0.05])
PRIORITIES, SHARES = np.array([1, 5, 9]), [0.1, 0.7, 0.2]
N_GROUPS, BATCH, MAX_ATTEMPTS = 20, 10, 3
#: Of all tasks: those whose first attempt alone fails, those of which all do, and those delivered twice.
RETRIED, DEAD, TWICE = 0.02, 0.01, 0.001
ERRORS = ("CorruptInput", "DependencyTimeout", "RateLimited", "RecipientUnknown")
T0_US = 1_764_000_000_000_000

Numbers = NDArray[np.int64]


class Frames(NamedTuple):
    """The four frames that the analysis notebooks read."""

    manifest: pd.DataFrame
    tasks: pd.DataFrame
    attempts: pd.DataFrame
    dead: pd.DataFrame


def make(n: int, seed: int = 0) -> Frames:
    """Make up a run of `n` tasks: three types and priorities, 20 message groups, 2 % retried, 1 % dead-lettered."""
    rng = np.random.default_rng(seed)
    # Items come by the hundred, in no order within a request.
    place = np.argsort(np.arange(n) // 100 + rng.random(n))
    kind = rng.integers(len(TYPES), size=n)
    priority = rng.choice(PRIORITIES, n, p=SHARES)
    group = rng.integers(N_GROUPS, size=n)
    fate = rng.random(n)
    n_attempts = np.where(fate < DEAD, MAX_ATTEMPTS, np.where(fate < DEAD + RETRIED, 2, 1))
    common: dict[str, Any] = {
        "task_id": _numbered("run-", place),
        "run_id": _picked(["20261124T020000Z-ab12"], np.zeros(n, dtype=np.int64)),
        "task_type": pd.Categorical.from_codes(kind, pd.Index(TYPES)),
        "priority": pd.array(priority.astype(np.int8), dtype="Int8"),
        "message_group": _picked([f"tenant-{i}" for i in range(N_GROUPS)], group),
    }
    sent = T0_US + place * 1_000_000 // SENT_PER_S + rng.integers(500, size=n)
    attempts = _attempts(rng, common, kind, n_attempts, sent)
    tasks = _tasks(rng, common, n_attempts, sent, attempts)
    manifest = pd.DataFrame({name: common[name] for name in common if name != "run_id"})
    manifest = manifest.take(np.argsort(place)).reset_index(drop=True)
    return Frames(manifest, tasks, attempts, _dead(tasks))


def _attempts(
    rng: np.random.Generator, common: dict[str, Any], kind: Numbers, n_attempts: Numbers, sent: Numbers
) -> pd.DataFrame:
    """Lay out the attempts in the order of their tasks, started about as fast as the function can."""
    task = np.repeat(np.arange(len(sent)), n_attempts)
    number = np.arange(len(task)) - np.repeat(np.cumsum(n_attempts) - n_attempts, n_attempts)
    took = np.round(rng.lognormal(np.log(MEDIAN_S[kind[task]]), 0.5) * 1e3).astype(np.int64) * 1_000
    first = np.maximum(sent + 2_000, T0_US + (sent - T0_US) * SENT_PER_S // DONE_PER_S)
    received = (first[task] + rng.integers(20_000, size=len(task)) + number * 4_000_000) // 1_000 * 1_000
    started = received + 1_000 * rng.integers(1, 4, len(task))
    failed = (n_attempts[task] == MAX_ATTEMPTS) | (number + 1 < n_attempts[task])
    error = np.where(failed, task % len(ERRORS), -1)
    lost = failed & (task % 50 == 7)
    columns: dict[str, Any] = {
        **{name: pd.Series(values).take(task).array for name, values in common.items() if name in ATTEMPT_COLUMNS},
        "redrive": _whole(np.zeros(len(task))),
        "attempt": _whole(number + 1),
        "received_at": _at(received, ~lost),
        "started_at": _at(started, ~lost),
        "finished_at": _at(started + took, ~lost),
        "outcome": pd.Categorical.from_codes(np.where(lost, 2, failed), pd.Index(_OUTCOMES)),
        "error_type": _picked(ERRORS, error),
        "error": _error_texts(common["task_id"], task, error),
        "request_id": _masked(_numbered("6ba7b810-9dad-11d1-80b4-", (task // BATCH) * MAX_ATTEMPTS + number), ~lost),
        "cold_start": pd.array(task < BATCH * 10, dtype="boolean"),
    }
    return pd.DataFrame({name: columns[name] for name in ATTEMPT_COLUMNS})


def _tasks(
    rng: np.random.Generator, common: dict[str, Any], n_attempts: Numbers, sent: Numbers, attempts: pd.DataFrame
) -> pd.DataFrame:
    """Sum the attempts of each task up, as its item does."""
    n, last = len(sent), np.cumsum(n_attempts) - 1
    first, dead = last - n_attempts + 1, n_attempts == MAX_ATTEMPTS
    # A lost attempt leaves no times in the log; the claim and the end of the lease stand in for them.
    stand_in = pd.Series(_at(sent + 5_000_000))
    times = {name: attempts[name].take(rows).reset_index(drop=True) for name, rows in
             (("started_at", first), ("finished_at", last))}  # fmt: skip
    finished = times["finished_at"].fillna(stand_in + pd.Timedelta(seconds=30))
    columns: dict[str, Any] = {
        **common,
        "state": pd.Categorical.from_codes(np.where(dead, 4, 3), pd.Index(_STATES), ordered=True),
        "n_attempts": _whole(n_attempts),
        "n_duplicates": _whole(rng.random(n) < TWICE),
        "n_redrives": _whole(np.zeros(n)),
        "reason": _picked(["max_attempts"], np.where(dead, 0, -1)),
        "error_type": attempts["error_type"].take(last).array,
        "error": attempts["error"].take(last).array,
        "result": _masked(_numbered('{"confirmation":"done","message_id":"', np.arange(n), '"}'), ~dead),
        "enqueued_at": _at(sent),
        "sent_at": _at(sent // 1_000 * 1_000),
        "first_started_at": times["started_at"].fillna(stand_in).array,
        "last_started_at": attempts["started_at"].take(last).reset_index(drop=True).fillna(stand_in).array,
        "finished_at": finished.array,
        "updated_at": finished.array,
        "lease_until": _at(sent, np.zeros(n, dtype=bool)),
    }
    return pd.DataFrame({name: columns[name] for name in TASK_COLUMNS})


def _dead(tasks: pd.DataFrame) -> pd.DataFrame:
    """Make the dead letters of these tasks: those that the function gave up, one in twenty moved by SQS."""
    rows = tasks[tasks["state"] == "dead_lettered"].reset_index(drop=True)
    n = len(rows)
    moved = np.arange(n) % 20 == 0
    columns = {name: rows[name] for name in ("task_id", "run_id", "error_type", "error", "n_attempts")}
    columns |= {
        "message_id": pd.Series(_numbered("0f1e2d3c-4b5a-6978-8796-", np.arange(n))),
        "task_type": rows["task_type"].astype("str"),
        "reason": pd.Series(_picked(["max_attempts", "receive_limit"], moved.astype(np.int64))),
        "first_at": rows["first_started_at"],
        "last_at": rows["finished_at"],
        "ticket_at": rows["lease_until"],
        "sent_at": rows["finished_at"],
        "n_receives": pd.Series(_whole(np.ones(n))),
        "body": pd.Series(_numbered('{"task_id":"run-', np.arange(n), '","type":"SEND_EMAIL","data":{}}')),
    }
    return pd.DataFrame({name: columns[name] for name in DEAD_COLUMNS}).astype(DEAD_COLUMNS)


_STATES = [str(state) for state in State]
_OUTCOMES = [str(outcome) for outcome in (Outcome.COMPLETED, Outcome.FAILED, Outcome.LOST)]


def _numbered(head: str, numbers: Numbers, tail: str = "") -> Any:
    """Return texts: `head`, the number with twelve digits, `tail`."""
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.large_string()), 12, "0")
    parts = [pa.scalar(text, pa.large_string()) for text in (head, tail, "")]
    return _text(pc.binary_join_element_wise(parts[0], digits, *parts[1:]))


def _picked(texts: list[str] | tuple[str, ...], codes: Numbers) -> Any:
    """Return the text of each code, missing for -1."""
    return _text(pa.array(list(texts), pa.large_string()).take(pa.array(codes, mask=codes < 0)))


def _error_texts(ids: Any, task: Numbers, error: Numbers) -> Any:
    """Return what each failed attempt says, with its task's id and a number in it; missing for the others."""
    rows = np.flatnonzero(error >= 0)
    said = "no answer to " + pd.Series(ids).take(task[rows]).reset_index(drop=True) + " after 30.0 s"
    place = np.full(len(error), -1)
    place[rows] = np.arange(len(rows))
    return said.array.take(place, allow_fill=True)


def _masked(texts: Any, known: NDArray[np.bool_]) -> Any:
    return pd.Series(texts).where(known).array


def _text(found: pa.Array) -> Any:
    return pd.array(found, dtype="str")


def _whole(numbers: NDArray[np.generic]) -> Any:
    return pd.array(numbers.astype(np.int32), dtype="Int32")


def _at(us: Numbers, known: NDArray[np.bool_] | None = None) -> Any:
    found = us if known is None else np.where(known, us, np.iinfo(np.int64).min)
    return pd.Series(found.view("datetime64[us]")).dt.tz_localize("UTC").array
