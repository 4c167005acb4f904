"""The function's own metrics from its log: as CloudWatch would make them of the embedded metric format."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskq_lib.aws import embedded, log_lines
from taskq_lib.aws.metrics import METRIC_COLUMNS, OWN_STATISTICS
from tests.unit.test_log_lines import json_values

T_MS = 1_795_529_628_411


def line(at_ms: int = T_MS, **values: Any) -> dict[str, Any]:
    """Return a line of one task type, as the function writes them."""
    named = [{"Name": name, "Unit": "Seconds"} for name in values]
    directive = {"Namespace": "TaskQueue", "Dimensions": [["Stack"], ["Stack", "TaskType"]], "Metrics": named}
    about = {"Timestamp": at_ms, "CloudWatchMetrics": [directive]}
    return {"event": "taskq.metrics", "_aws": about, "Stack": "s", "TaskType": "SEND_EMAIL", **values}


def read(*lines: Any) -> Any:
    """Return the metrics of these lines, indexed by metric, resource and statistic."""
    frame = log_lines.lines_frame([(T_MS, "x", json.dumps(one)) for one in lines])
    return embedded.metrics(frame).set_index(["metric", "resource", "statistic"])["value"].sort_index()


def test_the_values_of_a_minute_are_summed_up() -> None:
    """Arrays of several lines of one minute are one row a statistic, for the stack and for the type."""
    found = read(line(QueueWait=[1.0, 2.0]), line(T_MS + 1_000, QueueWait=[6.0]), line(QueueWait=3))
    for resource in ("s", "SEND_EMAIL"):
        values = found.loc["QueueWait", resource]
        assert values.to_dict() == {"SampleCount": 4.0, "Sum": 12.0, "Average": 3.0, "Maximum": 6.0}


def test_another_minute_is_another_row() -> None:
    """Rows are at the beginning of their minute, with the unit that the line says."""
    frame = log_lines.lines_frame([(T_MS, "x", json.dumps(line(at, TaskFailed=[1]))) for at in (T_MS, T_MS + 60_000)])
    found = embedded.metrics(frame)
    assert len(found) == 2 * 2 * len(OWN_STATISTICS)
    assert (found["at"].dt.second == 0).all()
    assert found["at"].nunique() == 2
    assert set(found["unit"]) == {"Seconds"}


def test_a_set_whose_dimension_is_missing_is_left_out() -> None:
    """A line without a task type counts for the stack alone."""
    one = line(TimeUsed=[40.0])
    del one["TaskType"]
    assert set(read(one).index.get_level_values("resource")) == {"s"}


@pytest.mark.parametrize(
    "change", [{"_aws": None}, {"_aws": {"Timestamp": "now"}}, {"event": "other"}, {"Stack": 7, "TaskType": 7}], ids=str
)
def test_what_is_no_metric_gives_no_row(change: dict[str, Any]) -> None:
    """A line that does not keep to the format is left out."""
    assert read(line(QueueWait=[1.0]) | change).empty


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["_aws", "Stack", "TaskType", "QueueWait"]), json_values), json_values)
def test_any_line_can_be_read(change: dict[str, Any], directive: Any) -> None:
    """Whatever a line holds, reading raises nothing, and the frame has its columns and dtypes."""
    odd = line(QueueWait=[1.0])
    odd["_aws"]["CloudWatchMetrics"].append(directive)
    frame = log_lines.lines_frame([(T_MS, "x", json.dumps(one)) for one in (odd, line(QueueWait=[1.0]) | change)])
    found = embedded.metrics(frame)
    assert {str(name): str(dtype) for name, dtype in found.dtypes.items()} == {
        name: str(dtype) for name, dtype in METRIC_COLUMNS.items()
    }
