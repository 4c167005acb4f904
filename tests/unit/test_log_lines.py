"""Lines of the function's log as frames: whatever else stands in a log, it is told from what is ours."""

import json
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskq_lib.aws import log_lines
from taskq_lib.aws.log_lines import ATTEMPT_COLUMNS, LINE_COLUMNS, REPORT_COLUMNS

T_MS = 1_795_529_628_442
ATTEMPT: dict[str, Any] = {
    "event": "taskq.attempt",
    "level": "ERROR",
    "time": 1795529628.412,
    "taskId": "run-12",
    "runId": "run",
    "taskType": "SEND_EMAIL",
    "attempt": 2,
    "outcome": "failed",
    "processingS": 0.156,
    "receiveCount": 3,
    "errorType": "RateLimited",
    "error": "no",
    "stackTrace": "Traceback ...",
    "requestId": "cc2b595f-d01a-4174-b93d-efc1e37d6f50",
}
#: As AWS Lambda writes it with LogFormat Text, and as the embedded engine does.
TEXT = (
    "REPORT RequestId: cc2b595f-d01a-4174-b93d-efc1e37d6f50\tDuration: 3174.25 ms\tBilled Duration: 3175 ms\t"
    "Memory Size: 128 MB\tMax Memory Used: 67 MB\tInit Duration: 412.10 ms\t\nXRAY TraceId: 1-2 SegmentId: 3"
)
ENGINE = (
    "REPORT RequestId: cc2b595f-d01a-4174-b93d-efc1e37d6f50\tDuration: 3174 ms\tBilled Duration: 3174 ms\t"
    "Memory Size: 128 MB\tMax Memory Used: 0 MB"
)
#: As AWS Lambda writes it with LogFormat JSON.
RECORD = {
    "time": "2026-11-24T14:13:48.442Z",
    "type": "platform.report",
    "record": {
        "requestId": "cc2b595f-d01a-4174-b93d-efc1e37d6f50",
        "metrics": {
            "durationMs": 3174.25,
            "billedDurationMs": 3175,
            "memorySizeMB": 128,
            "maxMemoryUsedMB": 67,
            "initDurationMs": 412.10,
        },
        "status": "success",
    },
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just("\ud83d"),
    lambda inner: (
        st.just("\ud83d") | st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def lines(*messages: str, stream: str = "s") -> pd.DataFrame:
    """Return these messages as lines of one stream, a second apart."""
    return log_lines.lines_frame([(T_MS + 1000 * i, stream, message) for i, message in enumerate(messages)])


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    """Return the dtypes of a frame in words."""
    return {str(name): str(dtype) for name, dtype in frame.dtypes.items()}


def test_an_attempt_is_read_whole() -> None:
    """Every value of an attempt's line is in its row, typed, and its time is the function's own."""
    [row] = log_lines.attempts(lines(json.dumps(ATTEMPT))).to_dict("records")
    assert (row["task_id"], row["run_id"], row["attempt"], row["n_receives"]) == ("run-12", "run", 2, 3)
    assert (row["outcome"], row["processing_s"], row["error_type"]) == ("failed", 0.156, "RateLimited")
    assert row["logged_at"] == pd.Timestamp("2026-11-24T14:13:48.412Z")
    assert (row["stack_trace"], row["request_id"]) == ("Traceback ...", ATTEMPT["requestId"])
    assert pd.isna(row["reason"])


@pytest.mark.parametrize("message", [TEXT, json.dumps(RECORD)], ids=["text", "JSON"])
def test_both_forms_of_a_report_say_the_same(message: str) -> None:
    """A platform report in the text form and one in the JSON form give the same durations and memory."""
    [row] = log_lines.reports(lines(message)).to_dict("records")
    assert row["request_id"] == "cc2b595f-d01a-4174-b93d-efc1e37d6f50"
    assert (row["duration_s"], row["billed_s"], row["init_s"]) == pytest.approx((3.17425, 3.175, 0.4121))
    assert (row["memory_mb"], row["max_memory_mb"]) == (128, 67)


def test_what_a_platform_does_not_say_is_missing() -> None:
    """The engine's report has no start-up time, and memory of 0 MB was not measured."""
    [row] = log_lines.reports(lines(ENGINE)).to_dict("records")
    assert (row["duration_s"], row["memory_mb"]) == (3.174, 128)
    assert pd.isna(row["init_s"])
    assert pd.isna(row["max_memory_mb"])


def test_a_report_of_a_timeout_says_so() -> None:
    """The status of an invocation that was killed is kept."""
    [row] = log_lines.reports(lines(ENGINE + "\tStatus: timeout")).to_dict("records")
    assert row["status"] == "timeout"


@pytest.mark.parametrize(
    "change",
    [
        {"taskId": None},
        {"attempt": "2"},
        {"attempt": True},
        {"attempt": 2**40},
        {"outcome": "exploded"},
        {"outcome": ["failed"]},
        {"time": 1e300},
        {"time": None},
        {"processingS": "long"},
        {"receiveCount": -1},
        {"error": {"not": "text"}},
        {"error": "half a \ud800"},
    ],
    ids=str,
)
def test_a_line_with_a_value_that_cannot_be_is_no_attempt(change: dict[str, Any]) -> None:
    """A task's own code may print what it likes: a line with a value that the function never writes is left out."""
    found = log_lines.attempts(lines(json.dumps(ATTEMPT | change), json.dumps(ATTEMPT)))
    assert found["task_id"].tolist() == ["run-12"]


def test_numbers_that_json_does_not_know_are_refused() -> None:
    """NaN in a line, which json would read, is no number of ours."""
    assert log_lines.attempts(lines(json.dumps(ATTEMPT | {"processingS": float("nan")}))).empty


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.text(max_size=60)
        | st.tuples(st.sampled_from([TEXT[:40], ENGINE, "{", '{"event": "taskq.attempt"']), st.text()).map("".join)
        | json_values.map(json.dumps)
        | st.dictionaries(st.sampled_from(sorted(ATTEMPT)), json_values).map(lambda some: json.dumps(ATTEMPT | some))
        | st.dictionaries(st.sampled_from(["type", "record"]), json_values).map(lambda some: json.dumps(RECORD | some))
        | st.just("[" * 5_000),
        max_size=8,
    )
)
def test_any_text_may_stand_in_a_log(messages: list[str]) -> None:
    """Whatever a log holds, reading it raises nothing, and every frame has its columns and dtypes."""
    frame = lines(*messages)
    reports = log_lines.reports(frame)
    found = log_lines.attempts(frame)
    assert dtypes(frame) == {name: str(dtype) for name, dtype in LINE_COLUMNS.items()}
    assert dtypes(reports) == {name: str(dtype) for name, dtype in REPORT_COLUMNS.items()}
    assert dtypes(found) == {name: str(dtype) for name, (_key, dtype) in ATTEMPT_COLUMNS.items()}
    assert len(found) + len(reports) <= len(messages)
