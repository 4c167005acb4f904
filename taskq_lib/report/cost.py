"""What a run costs, from its folder: the bill of its own setup, and of the setups that a user would weigh."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from taskq_lib.analysis import bill, prices, usage
from taskq_lib.aws import rules, template
from taskq_lib.errors import BadInput
from taskq_lib.report.data import Data
from taskq_lib.report.parameters import Value
from taskq_lib.report.runs import Run
from taskq_worker.contract import METRICS

#: Metrics that have no dimension for the task type.
_OF_STACK_ONLY = {"TimeUsed"}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The bill of a run."""

    prices: pd.DataFrame = field(repr=False)  #: As `prices.read`
    items: pd.DataFrame = field(repr=False)  #: As `bill.priced`, of the setup that the run had
    alternatives: pd.DataFrame = field(
        repr=False
    )  #: The same for each setup, the run's own first; column `alternative`
    n_tasks: int
    n_open: int  #: Tasks that are not final yet: what becomes of them is missing

    @property
    def by_alternative(self) -> pd.DataFrame:
        """One row a setup: `alternative`, and US dollars for a million tasks, `from_usd` and `to_usd`."""
        sums = self.alternatives.groupby("alternative", sort=False, observed=True)
        found = sums[["usd_per_million", "usd_per_million_high"]].sum().reset_index()
        return found.set_axis(["alternative", "from_usd", "to_usd"], axis="columns")

    @property
    def dated(self) -> str:
        """Of when and where the prices are, in words."""
        table = self.prices
        n_memory = int(table["grade"].eq("M").sum())
        return (
            f"prices of {table['region'].iloc[0]} in US dollars, looked up {table['as_of'].min()} to "
            f"{table['as_of'].max()}, before free tiers; {n_memory} of {len(table)} are from memory"
        )

    def to_dict(self) -> dict[str, Any]:
        """Give `results.json` its section."""
        items = self.items[["item", "quantity", "quantity_high", "unit", "per", "source", "usd", "usd_per_million"]]
        return {
            "prices": {"region": self.prices["region"].iloc[0], "as_of": self.prices["as_of"].max()},
            "usd_per_million": float(self.items["usd_per_million"].sum()),
            "usd_per_million_high": float(self.items["usd_per_million_high"].sum()),
            "items": items.to_dict("records"),
            "alternatives": self.by_alternative.to_dict("records"),
        }


def of_run(found: Data, chosen: Mapping[str, Value]) -> Cost:
    """Price a run that `data.load` has read, by the parameters `price_table` and `tasks_per_month`.

    Raises `BadInput` for a price table that is not in order, or a run without tasks or without its template's values.
    """
    table = prices.read(str(chosen["price_table"]))
    if found.run is None or found.manifest is None:
        raise BadInput("A cost is that of a run, and no run is read.", "Give a run_id, or leave it out for the newest.")
    values = found.run.results().get("template")
    if values is None:
        raise BadInput(
            f"Run {found.run.id!r} does not say how its stack was deployed.",
            "Only a run of `taskq report`, or one into which 10_deploy has written, can be priced.",
        )
    own = setup(values)
    work = usage.of_run(
        found.tasks,
        found.attempts,
        found.run.load("sends"),
        body_bytes(found.manifest, found.run.id),
        is_burst=not found.manifest["offset_s"].any(),
        billed_s=_billed_s(found.run),
    )
    per_month = int(chosen["tasks_per_month"])
    bills = {
        name: bill.priced(bill.quantities(work, own, other), table, work.n_tasks, per_month)
        for name, other in bill.alternatives(own).items()
    }
    names = pd.CategoricalDtype(list(bills), ordered=True)
    parts = [
        frame.assign(alternative=pd.Categorical([name] * len(frame), names.categories)) for name, frame in bills.items()
    ]
    return Cost(
        prices=table,
        items=next(iter(bills.values())),
        alternatives=pd.concat(parts, ignore_index=True),
        n_tasks=work.n_tasks,
        n_open=int((~found.tasks["state"].isin(["completed", "dead_lettered"])).sum()),
    )


def setup(values: Mapping[str, str]) -> usage.Setup:
    """Read the template's values, as `results.json` keeps them, as a setup; one that it lacks has its default."""
    known = {name: str(entry.get("Default", "")) for name, entry in template.parameters().items()} | dict(values)
    names = METRICS if known["Metrics"] == "true" else {}
    text = template.TEMPLATE.read_text()
    return usage.Setup(
        batch_size=int(known["BatchSize"]),
        memory_mb=int(known["FunctionMemoryMb"]),
        architecture=known["FunctionArchitecture"],
        is_fifo=known["FifoQueue"] == "true",
        n_mappings=rules.n_resources(text, "AWS::Lambda::EventSourceMapping", known),
        has_maximum_concurrency=known["MaximumConcurrency"] != "0",
        minimum_pollers=int(known["MinimumPollers"]),
        has_index=known["TimeIndex"] == "true",
        has_recovery=known["PointInTimeRecovery"] == "true",
        has_breakers=known["BreakerFailurePercent"] != "0",
        ttl_days=int(known["StatusTtlDays"]),
        log_days=int(known["LogRetentionDays"]),
        metrics_of_stack=len(names),
        metrics_of_type=len(names.keys() - _OF_STACK_ONLY),
        n_alarms=rules.n_resources(text, "AWS::CloudWatch::Alarm", known),
        n_dashboards=rules.n_resources(text, "AWS::CloudWatch::Dashboard", known),
        n_regions=2 if known["ReplicaRegion"] else 1,
    )


def body_bytes(manifest: pd.DataFrame, run_id: str) -> pd.Series[int]:
    """Return the bytes of each task's message body, by task id; a byte less where its time ends in a zero."""
    filled = {"task_id": "", "type": "", "data": {}, "priority": 0, "run_id": run_id, "enqueued_at": 1_764_000_000.123}
    empty = len(json.dumps(filled, separators=(",", ":"))) - len("{}")
    columns = [manifest[name].astype("str").str.len() for name in ("task_id", "task_type", "data")]
    sizes = empty + sum(column.to_numpy(dtype="int64") for column in columns)
    return pd.Series(sizes, index=pd.Index(manifest["task_id"]), dtype="int64")


def _billed_s(run: Run) -> pd.Series[float] | None:
    """Return what Lambda billed of each invocation, by request id; None where the run keeps no platform reports."""
    if not (run.folder / "reports.parquet").is_file():
        return None
    reports = run.load("reports").dropna(subset=["billed_s"]).drop_duplicates("request_id")
    if reports.empty:
        return None
    billed: pd.Series[float] = pd.Series(reports["billed_s"].to_numpy(), index=pd.Index(reports["request_id"]))
    return billed
