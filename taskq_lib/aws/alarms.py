"""The alarms of a stack: the state of each, since when, why, and the notebook that helps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from taskq_lib.aws.frames import TIME
from taskq_lib.aws.stack import Stack

#: In the order in which they are looked at (CloudWatch API reference, MetricAlarm).
STATES = ["ALARM", "INSUFFICIENT_DATA", "OK"]
COLUMNS: dict[str, Any] = {
    "name": "str",
    "state": pd.CategoricalDtype(STATES, ordered=True),
    "since": TIME,
    "reason": "str",
    "notebook": "str",
    "has_action": "boolean",
}
_TYPE = "AWS::CloudWatch::Alarm"
#: DescribeAlarms takes so many names (CloudWatch API reference).
_NAMES = 100


def read(stack: Stack) -> pd.DataFrame:
    """Return one row an alarm of the stack, those in ALARM first; none where it was deployed with Alarms=false.

    Columns: name (as in the template), state (ALARM, INSUFFICIENT_DATA, OK), since (UTC), reason (CloudWatch's words),
    notebook (the first that its description names, "" where it names none), has_action (whether anybody is told).
    """
    pages = stack.target.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack.name)
    names = {
        entry["PhysicalResourceId"]: entry["LogicalResourceId"]
        for page in pages
        for entry in page["StackResourceSummaries"]
        if entry["ResourceType"] == _TYPE and entry.get("PhysicalResourceId")
    }
    own, described = list(names), []
    for i in range(0, len(own), _NAMES):
        answer = stack.target.client("cloudwatch").describe_alarms(AlarmNames=own[i : i + _NAMES], MaxRecords=_NAMES)
        described += answer["MetricAlarms"]
    return frame(described, names)


def frame(described: list[Mapping[str, Any]], names: Mapping[str, str]) -> pd.DataFrame:
    """Turn alarms as DescribeAlarms returns them into the frame of `read`; `names` gives each the template's name."""
    rows = [
        {
            "name": names.get(alarm["AlarmName"], alarm["AlarmName"]),
            "state": alarm["StateValue"],
            # The last change of state; the embedded engine gives the other one alone, and it is the same there.
            "since": alarm.get("StateTransitionedTimestamp") or alarm.get("StateUpdatedTimestamp"),
            "reason": alarm.get("StateReason", ""),
            "notebook": notebook(alarm.get("AlarmDescription", "")),
            "has_action": bool(alarm.get("ActionsEnabled", True) and alarm.get("AlarmActions")),
        }
        for alarm in described
    ]
    columns = {name: [row[name] for row in rows] for name in COLUMNS}
    columns["since"] = pd.to_datetime(columns["since"], utc=True).astype(TIME)
    found = pd.DataFrame({name: pd.Series(columns[name], dtype=dtype) for name, dtype in COLUMNS.items()})
    return found.sort_values(["state", "name"], ignore_index=True)


def notebook(description: str) -> str:
    """Return the first notebook that an alarm's description names, or ""."""
    found = re.search(r"\b\d\d_[a-z_]+\b", description)
    return found.group() if found else ""
