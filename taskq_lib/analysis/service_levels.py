"""Service levels: which share of the tasks of a type is to be completed within a time, and what became of that."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from taskq_lib.analysis import in_seconds, require
from taskq_lib.analysis.intervals import wilson
from taskq_lib.errors import BadInput
from taskq_worker.contract import task_types

#: Names every task, whatever its type.
ALL = "all"
_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_FORM = re.compile(r"([^:]+):(\d{1,2}(?:\.\d{1,6})?)%:(\d{1,9}(?:\.\d{1,6})?)(ms|s|min|h)", re.ASCII)
#: Of the tasks that are decided, the last ones by their time of enqueueing show how fast the budget is used now.
_LAST = 5


class Objective(NamedTuple):
    """So many of these tasks are to be completed within so long of being enqueued."""

    task_type: str  #: A task type, or `ALL`
    share: float  #: 0 to 1, both excluded
    within_s: float


def read(text: str) -> list[Objective]:
    """Read objectives, `TYPE:SHARE%:TIME,...` such as `IMAGE_RESIZE:99%:30s,all:95%:5min`; an empty text has none.

    A time has the unit ms, s, min or h. Raises `BadInput` that names the part that is wrong.
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    known = {ALL, *task_types()}
    found = []
    for part in parts:
        match = _FORM.fullmatch(part)
        share, within_s = (float(match[2]) / 100, float(match[3]) * _UNITS[match[4]]) if match else (0.0, 0.0)
        if not match or match[1] not in known or not 0 < share < 1 or within_s == 0:
            raise BadInput(
                f"objectives has a part that is not allowed: {part!r}.",
                "Write objectives as TYPE:SHARE%:TIME,... such as all:99%:30s, with a type from "
                f"{', '.join(sorted(known))}, a share above 0 % and below 100 %, and a time in ms, s, min or h.",
            )
        found.append(Objective(match[1], share, within_s))
    return found


def attained(tasks: pd.DataFrame, wanted: Sequence[Objective], read_at: datetime) -> pd.DataFrame:
    """Say how far each objective was attained by the tasks that are decided: one row an objective.

    A task attains it if it is completed within the time; it misses it if it is completed later, dead-lettered, or still
    open at `read_at` and older than that. One that is open and younger is not decided, and one whose start or end is
    not known cannot be. Columns:

    - `task_type` (str), `share`, `within_s`: the objective. `n`, `n_missed` (int64): tasks that are decided.
    - `attained`, `low`, `high` (0..1): the share, with its 95 % Wilson interval, which takes tasks as independent.
    - `budget_used`: tasks that missed it, of those that may (1 - `share`); above 1 the error budget is overdrawn.
    - `burn`: the same of the last fifth of the tasks by their time of enqueueing; above 1 the budget does not last if
      it goes on like that. As in "The Site Reliability Workbook", 2018, chapter 5, with tasks in place of time.
    - `verdict` (str): "met" or "missed" where the whole interval says so, or else "not enough data".

    Raises `BadInput` for a missing column.
    """
    require(tasks, "tasks", "task_type", "state", "enqueued_at", "finished_at")
    state, completed = tasks["state"], (tasks["state"] == "completed").to_numpy()
    until = tasks["finished_at"].mask(~state.isin(["completed", "dead_lettered"]), pd.Timestamp(read_at))
    took_s = in_seconds(until - tasks["enqueued_at"]).to_numpy(dtype="float64")
    # As plain times: with their zone they would be sorted as Python objects.
    order = np.argsort(tasks["enqueued_at"].to_numpy(dtype="datetime64[us]"), kind="stable")
    dead = (state == "dead_lettered").to_numpy()
    rows = []
    for one in wanted:
        mine = np.ones(len(tasks), bool) if one.task_type == ALL else (tasks["task_type"] == one.task_type).to_numpy()
        is_missed = dead | (took_s > one.within_s)
        is_decided = mine & (dead | (~np.isnan(took_s) & (completed | is_missed)))
        in_order = is_missed[order[is_decided[order]]]
        rows.append((*one, len(in_order), int(in_order.sum()), _share_of(in_order[-_n_last(len(in_order)) :])))
    columns = ["task_type", "share", "within_s", "n", "n_missed", "last"]
    types = {"task_type": "str", "n": "int64", "n_missed": "int64"} | dict.fromkeys(
        ("share", "within_s", "last"), "float64"
    )
    return _judged(pd.DataFrame(rows, columns=columns).astype(types))


def summary(table: pd.DataFrame) -> list[dict[str, object]]:
    """Give `results.json` its "objectives": the rows of `attained`, None where there is no number."""
    rows = table.to_dict("records")
    return [{str(name): None if value != value else value for name, value in row.items()} for row in rows]  # noqa: PLR0124


def in_words(table: pd.DataFrame) -> str:
    """Say in a line what became of the objectives, from `attained`."""
    if table.empty:
        return "No objective was set; objectives such as all:99%:30s set some."
    counts = table["verdict"].value_counts()
    parts = [f"{counts.get(verdict, 0)} {verdict}" for verdict in ("met", "missed", "not enough data")]
    return f"{len(table)} objectives: {', '.join(parts)}"


def _judged(found: pd.DataFrame) -> pd.DataFrame:
    rate = wilson(found["n"] - found["n_missed"], found["n"]).rename(columns={"failure_rate": "attained"})
    missing = 1 - found["share"]
    table = found.drop(columns="last").join(rate)
    table["budget_used"] = (1 - rate["attained"]) / missing
    table["burn"] = found["last"] / missing
    sure = [rate["low"] >= found["share"], rate["high"] < found["share"]]
    table["verdict"] = pd.array(np.select(sure, ["met", "missed"], "not enough data"), dtype="str")
    return table


def _n_last(n: int) -> int:
    return max(1, n // _LAST)


def _share_of(missed: NDArray[np.bool_]) -> float:
    return float(missed.mean()) if missed.size else float("nan")
