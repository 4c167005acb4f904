"""The live view: counts of the queues and of what became final, about once a second, where CloudWatch has a minute."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from taskq_lib.aws import queues, status
from taskq_lib.aws.frames import TIME, state_of
from taskq_lib.aws.queues import Counts
from taskq_lib.aws.stack import Stack
from taskq_worker.contract import State

#: samples: column -> dtype. The messages as `queues.Counts` has them, of all queues and again of the second alone,
#: where there is one; then tasks by state: of a run all its tasks, of a stack those that became final since the watch
#: began. What was not read at that moment is missing.
SAMPLE_COLUMNS: dict[str, Any] = {
    "at": TIME,
    "n_visible": "Int64",
    "n_in_flight": "Int64",
    "n_delayed": "Int64",
    "n_dead": "Int64",
    "n_visible_second": "Int64",
    "n_in_flight_second": "Int64",
    **{f"n_{state}": "Int64" for state in State},
}
#: The index by time has when an attempt ended, and all of a batch are written at its end: as late as the function may
#: run. This on top is for the index, which follows its table within a second, usually, and for clocks that differ.
MARGIN = timedelta(seconds=5)
_FINAL = (State.COMPLETED, State.DEAD_LETTERED)


def row(counts: Counts, by_state: Mapping[State, int] | None) -> dict[str, Any]:
    """Return one sample, taken now, as a row of `SAMPLE_COLUMNS`; `by_state` None where the states were not read."""
    tasks = dict.fromkeys(State) if by_state is None else {state: by_state.get(state, 0) for state in State}
    second = list(counts.by_queue.values())[1:]
    return {
        "at": datetime.now(UTC),
        "n_visible": counts.n_visible,
        "n_in_flight": counts.n_in_flight,
        "n_delayed": counts.n_delayed,
        "n_dead": counts.n_dead,
        "n_visible_second": second[0].n_visible if second else None,
        "n_in_flight_second": second[0].n_in_flight if second else None,
        **{f"n_{state}": n for state, n in tasks.items()},
    }


def frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return samples as a frame; columns and dtypes are `SAMPLE_COLUMNS`."""
    columns = {name: [one[name] for one in rows] for name in SAMPLE_COLUMNS}
    typed = {name: pd.array(columns[name], dtype="Int64") for name in SAMPLE_COLUMNS if name != "at"}
    return pd.DataFrame({"at": pd.to_datetime(pd.Series(columns["at"]), utc=True).astype(TIME), **typed})


def watch(stack: Stack, every_s: float = 1.0) -> Iterator[dict[str, Any]]:
    """Yield a sample of the stack about every `every_s` seconds, for as long as it is asked.

    A sample counts the queues and, where the stack has the index by time, reads what changed lately: one query a shard,
    each change again for as long as the function may run, so the cost follows the traffic and that time, and not the
    table's size. At most a quarter of the time is spent asking.
    """
    seen = _Final()
    if stack.time_index is not None:
        # What was final before is known from now on, and not counted.
        _newly_final(stack, seen)
        seen.n = dict.fromkeys(_FINAL, 0)
    while True:
        asked_at = time.monotonic()
        final = {} if stack.time_index is None else _newly_final(stack, seen)
        yield row(queues.counts(stack), None) | {f"n_{state}": n for state, n in final.items()}
        took_s = time.monotonic() - asked_at
        time.sleep(max(every_s - took_s, 3 * took_s, 0.0))


@dataclass(kw_only=True)
class _Final:
    """What a watch has seen become final."""

    n: dict[State, int] = field(default_factory=lambda: dict.fromkeys(_FINAL, 0))
    ids: dict[str, float] = field(default_factory=dict)  #: Task id -> Unix seconds of its last change; recent ones


def _newly_final(stack: Stack, seen: _Final) -> dict[State, int]:
    """Read what changed since the last call, and return how many tasks became final since the watch began."""
    asked_at = datetime.now(UTC)
    since = asked_at - timedelta(seconds=int(stack.parameters["FunctionTimeoutSeconds"])) - MARGIN
    # Clocks differ: what the function stamps later than ours is read as well.
    until = asked_at + timedelta(hours=1)
    for item in status.changed(stack, since, until, ProjectionExpression="taskId, #status, deadLettered, #at"):
        state = state_of(item)
        if state in _FINAL and item["taskId"] not in seen.ids:
            seen.n[state] += 1
            seen.ids[item["taskId"]] = item["timestamp"]
    # What is older than this cannot be read again.
    seen.ids = {task_id: at for task_id, at in seen.ids.items() if at >= since.timestamp()}
    return dict(seen.n)
