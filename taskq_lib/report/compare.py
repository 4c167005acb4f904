"""A run beside its baseline, from their folders alone: which runs, their figures, what changed between them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from taskq_lib import workload
from taskq_lib.analysis import compare, history
from taskq_lib.analysis.compare import Margins
from taskq_lib.analysis.compare_run import Measured, measure
from taskq_lib.errors import BadInput, RunDamaged, TaskqError
from taskq_lib.report import runs
from taskq_lib.report.parameters import Value
from taskq_lib.report.runs import Run

#: So many runs at most are a baseline that was not named, and a history.
MAX_BASELINE, MAX_HISTORY = 5, 50

#: Parameters that name a run or how it is read, and change nothing of it.
_NOT_OF_THE_RUN = {
    "run_id",
    "runs_dir",
    "baseline",
    "margin_percent",
    "failure_points",
    "price_table",
    "tasks_per_month",
}

_MAX_CHARS = 200


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A run, judged."""

    run: Run
    baseline: list[Run]
    table: pd.DataFrame = field(repr=False)  #: As `analysis.compare.compare`; without rows where there is no baseline
    changed: pd.DataFrame = field(repr=False)  #: What differs between them: `what`, `ours`, `baseline` (str)
    history: pd.DataFrame = field(repr=False)  #: Comparable runs in order of time, as `analysis.history` reads them
    changes: list[str]  #: Since when a figure is another one, in sentences
    verdict: str
    says: str  #: The verdict in a sentence or two
    ours: Measured | None = field(repr=False, default=None)
    theirs: tuple[Measured, ...] = field(repr=False, default=())

    @property
    def runs(self) -> str:
        """What is compared with what, in words."""
        return f"ours, judged: {self.run.id}\nbaseline: {', '.join(run.id for run in self.baseline) or 'none'}"

    @property
    def shown(self) -> pd.DataFrame:
        """The table for people, all text: `metric`, `ours`, `baseline`, `difference`, `margin`, `effect`, `verdict`."""
        names = ["metric", "ours", "baseline", "difference", "margin", "effect", "verdict", "why"]
        return pd.DataFrame([_texts(row) for row in self.table.to_dict("records")], columns=names, dtype="str")

    def to_dict(self) -> dict[str, Any]:
        """Give `results.json` its section "compare"."""
        return {
            "verdict": self.verdict,
            "run_id": self.run.id,
            "baseline": [run.id for run in self.baseline],
            "says": self.says,
            "metrics": _records(self.table),
            "changed": self.changed.to_dict("records"),
        }

    def trend(self) -> list[dict[str, Any]]:
        """Give `results.json` its section "history"."""
        at = [None if pd.isna(at) else at.isoformat() for at in self.history["at"]]
        return _records(self.history.assign(at=pd.Series(at, index=self.history.index, dtype="object")))


def of_notebook(chosen: Mapping[str, Value]) -> Comparison:
    """Compare what a notebook's parameters name; a `baseline` that is empty is looked for.

    Raises `RunNotFound`, `RunDamaged`, or `BadInput` for what cannot be compared.
    """
    run = runs.find(str(chosen["run_id"]), str(chosen["runs_dir"]))
    margins = Margins(slower=float(chosen["margin_percent"]) / 100, failures=float(chosen["failure_points"]) / 100)
    names = [name.strip() for name in str(chosen["baseline"]).split(",") if name.strip()]
    if names:
        return of_runs(run, [runs.find(name, str(chosen["runs_dir"])) for name in names], margins)
    # Nobody asked for these, so one that is damaged is left out, and that is said.
    read, left_out, alike = [], "", like(run)
    for one in alike[:MAX_BASELINE]:
        try:
            read.append((one, _measured(one)))
        except TaskqError as error:
            left_out += f" Left out: {error.args[0]}"
    found = _judged(run, read, alike, margins)
    return dataclasses.replace(found, says=found.says + left_out)


def of_runs(run: Run, baseline: Sequence[Run], margins: Margins | None = None) -> Comparison:
    """Compare a run with one or several others.

    Raises `BadInput` for a run that is named twice or whose frame lacks a column, `RunDamaged` for one that cannot be
    read, `RunNotFound` where there is none.
    """
    names = [run.id, *(one.id for one in baseline)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(
            f"Run {twice!r} is named twice; a run says nothing about how runs differ from itself.",
            "Name other runs for the baseline; `runs/index.html` lists them.",
        )
    return _judged(run, [(one, _measured(one)) for one in baseline], like(run), margins)


def _judged(
    run: Run, read: Sequence[tuple[Run, Measured]], alike: Sequence[Run], margins: Margins | None
) -> Comparison:
    """Judge a run by the figures of others; without any the verdict is `no baseline`, which is no failure."""
    past = _history([*reversed(alike), run])
    known: dict[str, Any] = {"run": run, "history": past, "changes": history.in_words(history.changes(past))}
    if not read:
        nothing = pd.DataFrame(columns=["what", "ours", "baseline"], dtype="str")
        says = "There is no earlier complete run of the same target, stack and workload to compare with."
        return Comparison(
            **known, baseline=[], table=pd.DataFrame(), changed=nothing, verdict=compare.NO_BASELINE, says=says
        )
    ours, baseline, theirs = _measured(run), [one for one, _ in read], tuple(one for _, one in read)
    table, changed = compare.compare(ours, theirs, margins), _changed(run, baseline)
    named = f"run {baseline[0].id}" if len(baseline) == 1 else f"{len(baseline)} runs"
    return Comparison(
        **known, baseline=baseline, table=table, changed=changed, verdict=compare.verdict(table),
        says=compare.in_words(table, named) + _caution(changed), ours=ours, theirs=theirs,
    )  # fmt: skip


def like(run: Run, limit: int = MAX_HISTORY - 1) -> list[Run]:
    """Return the newest complete runs before this one, of its folder, target, stack and workload, whatever the seed."""
    own = run.results()
    if "parameters" not in own:
        return []
    found = []
    for other in runs.listed(run.folder.parent):
        try:
            theirs = other.results()
        except RunDamaged:
            continue
        is_like = theirs.get("state") == "complete" and runs.kind_of(theirs) == runs.kind_of(own)
        earlier = str(theirs.get("created_at", "")) < str(own.get("created_at", ""))
        if is_like and earlier and (other.folder / "tasks.parquet").is_file():
            found.append(other)
            if len(found) == limit:
                break
    return found


def _texts(row: dict[Any, Any]) -> tuple[str, ...]:
    is_share = row["unit"] == "share"
    margin = "" if math.isnan(row["margin"]) else f"{100 * row['margin']:g} {'pt' if is_share else '%'}"
    effect = "" if math.isnan(row["effect"]) else f"{row['effect']:+.2f}"
    values = [
        "-" if math.isnan(value) else f"{value:.2%}" if is_share else f"{value:,.4g} {row['unit']}"
        for value in (row["ours"], row["baseline"])
    ]
    return row["metric"], *values, compare.change(row), margin, effect, row["verdict"], row["why"]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [runs.plain({str(name): value for name, value in row.items()}) for row in frame.to_dict("records")]


def _measured(run: Run) -> Measured:
    try:
        return measure(run.load("tasks"))
    except BadInput as error:
        raise BadInput(f"Run {run.id!r} cannot be compared: {error.args[0]}", error.hint) from error


def _changed(run: Run, baseline: Sequence[Run]) -> pd.DataFrame:
    """List what differs between the run and any of the baseline: target, parameters and versions."""
    ours, theirs = _circumstances(run), [_circumstances(one) for one in baseline]
    rows = []
    for name in dict.fromkeys([*ours, *(name for one in theirs for name in one)]):
        others = [one.get(name, "not recorded") for one in theirs]
        own = ours.get(name, "not recorded")
        if any(other != own for other in others):
            rows.append((name, own, ", ".join(dict.fromkeys(others))[:_MAX_CHARS]))
    return pd.DataFrame(rows, columns=["what", "ours", "baseline"], dtype="str")


def _circumstances(run: Run) -> dict[str, str]:
    results = run.results()
    parameters = {name: value for name, value in results.get("parameters", {}).items() if name not in _NOT_OF_THE_RUN}
    named = {f"parameter {name}": value for name, value in parameters.items() if name != "target"}
    named |= {f"version of {name}": value for name, value in results.get("versions", {}).items()}
    return {name: _plain(value) for name, value in {"target": results.get("target", ""), **named}.items()}


def _plain(value: object) -> str:
    """Return a value as one short line: a terminal must not obey what a run's record holds."""
    return "".join(char if char.isprintable() else "?" for char in str(value)[:_MAX_CHARS])


def _caution(changed: pd.DataFrame) -> str:
    """Say where what was asked of the runs differs, so that it is not taken for what became of it."""
    names = {f"parameter {name}": name for name in workload.KIND} | {"target": "target"}
    differing = [names[what] for what in changed["what"] if what in names]
    return f" Not the same was asked of them ({', '.join(differing)} differ)." if differing else ""


def _history(of: Sequence[Run]) -> pd.DataFrame:
    """Return the headline figures of runs, from their results: `run_id`, `at` and what `history.FIGURES` names."""
    rows = []
    for run in of:
        results = run.results()
        took = results.get("latency", {}).get("end_to_end_s", {})
        rows.append(
            {
                "run_id": run.id,
                "at": pd.Timestamp(str(results.get("created_at", "NaT"))),
                "p50": took.get("p50"),
                "p99": took.get("p99"),
                "failure_rate": results.get("failure_rate", {}).get("tasks"),
                "completed_per_s": results.get("throughput", {}).get("completed_per_s"),
            }
        )
    return pd.DataFrame(rows).astype(dict.fromkeys(history.FIGURES, "float64"))
