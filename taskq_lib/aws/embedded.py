"""The function's own metrics, counted from its log where an endpoint makes no metrics of the lines.

The lines are in CloudWatch's embedded metric format (Amazon CloudWatch User Guide, "Specification: Embedded metric
format"): a JSON object whose `_aws` says which of its members are metrics, by which dimensions, and when.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import pandas as pd

from taskq_lib.aws import log_lines
from taskq_lib.aws.metrics import METRIC_COLUMNS, OWN_STATISTICS, frame

EVENT = "taskq.metrics"


def metrics(lines: pd.DataFrame, period_s: int = 60) -> pd.DataFrame:
    """Return the metrics that CloudWatch would make of these log lines; columns and dtypes are `METRIC_COLUMNS`.

    `lines` are as `log_lines.LINE_COLUMNS`. One row a metric, dimension set, statistic and period. `resource` is the
    value of the set's last dimension: the stack's name, or a task type. What does not keep to the format is left out.
    """
    points = pd.DataFrame(
        [point for line in log_lines.objects(lines, EVENT) for point in _points(line)],
        columns=["namespace", "metric", "resource", "unit", "at_s", "value"],
    )
    if points.empty:
        return frame([])
    points["at"] = pd.to_datetime(points["at_s"] // period_s * period_s, unit="s", utc=True)
    keys = ["namespace", "metric", "resource", "unit", "at"]
    table = points.groupby(keys)["value"].agg(["count", "sum", "mean", "max"])
    table = table.set_axis(pd.Index(OWN_STATISTICS, name="statistic"), axis=1)
    long = table.melt(value_name="value", ignore_index=False).reset_index()
    long["period_s"] = period_s
    return long[list(METRIC_COLUMNS)].astype(METRIC_COLUMNS).sort_values("at", kind="stable", ignore_index=True)


def _points(line: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, int, float]]:
    """Yield each value of a line once for each of its dimension sets."""
    about = line.get("_aws")
    at_ms = about.get("Timestamp") if isinstance(about, dict) else None
    directives = about.get("CloudWatchMetrics") if isinstance(about, dict) else None
    # The years 1970 to 2262: what a timestamp can hold.
    if not _is_number(at_ms) or not 0 <= at_ms < 9.2e12 or not isinstance(directives, list):
        return
    for directive in directives:
        if not isinstance(directive, dict) or not isinstance(directive.get("Namespace"), str):
            continue
        for resource in _resources(line, directive.get("Dimensions")):
            for name, unit in _named(directive.get("Metrics")):
                values = line.get(name)
                for value in values if isinstance(values, list) else [values]:
                    if _is_number(value):
                        yield directive["Namespace"], name, resource, unit, int(at_ms) // 1000, float(value)


def _resources(line: Mapping[str, Any], sets: Any) -> Iterator[str]:
    """Yield the value of the last dimension of each set whose dimensions the line has, all of them texts."""
    for names in sets if isinstance(sets, list) else []:
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            values = [line.get(name) for name in names]
            if all(isinstance(value, str) for value in values):
                yield str(values[-1])


def _named(metrics: Any) -> Iterator[tuple[str, str]]:
    for metric in metrics if isinstance(metrics, list) else []:
        if isinstance(metric, dict) and isinstance(metric.get("Name"), str):
            unit = metric.get("Unit")
            yield metric["Name"], unit if isinstance(unit, str) else "None"


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
