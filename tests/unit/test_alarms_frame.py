"""Alarms as CloudWatch describes them become a typed frame, the raised ones first."""

from datetime import UTC, datetime
from typing import Any

import pytest

from taskq_lib.aws import alarms
from taskq_lib.aws.frames import TIME

AT = datetime(2026, 11, 24, 12, 0, 0, 250_000, tzinfo=UTC)


def described(name: str, state: str, **fields: Any) -> dict[str, Any]:
    """Return an alarm as DescribeAlarms does."""
    return {
        "AlarmName": f"s-{name}-1A2B",
        "StateValue": state,
        "StateReason": "Threshold Crossed",
        "StateUpdatedTimestamp": AT,
        "AlarmDescription": "Tasks were given up. 50_failures says why, 51_redrive runs them again.",
        "ActionsEnabled": True,
        "AlarmActions": ["arn:aws:sns:eu-central-1:123456789012:topic"],
        **fields,
    }


def test_what_is_raised_comes_first() -> None:
    """Alarms in ALARM stand above those without data and those at rest, each by its name in the template."""
    states = {"Quiet": "OK", "Worst": "ALARM", "Unknown": "INSUFFICIENT_DATA", "Bad": "ALARM"}
    names = {f"s-{name}-1A2B": name for name in states}
    found = alarms.frame([described(name, state) for name, state in states.items()], names)
    assert found["name"].tolist() == ["Bad", "Worst", "Unknown", "Quiet"]
    assert found["state"].tolist() == ["ALARM", "ALARM", "INSUFFICIENT_DATA", "OK"]
    assert found["since"].tolist() == [AT] * 4
    assert set(found["notebook"]) == {"50_failures"}


def test_the_change_of_state_counts_not_its_confirmation() -> None:
    """Where CloudWatch says when the state changed, that is since when; an update of the reason is not."""
    before = datetime(2026, 11, 24, 11, tzinfo=UTC)
    found = alarms.frame([described("A", "ALARM", StateTransitionedTimestamp=before)], {})
    assert found["since"].tolist() == [before]
    assert found["name"].tolist() == ["s-A-1A2B"]


@pytest.mark.parametrize("fields", [{"AlarmActions": []}, {"ActionsEnabled": False}])
def test_an_alarm_that_tells_nobody_is_seen(fields: dict[str, Any]) -> None:
    """An alarm without action, or with its actions off, is marked."""
    found = alarms.frame([described("A", "OK"), described("B", "OK", **fields)], {})
    assert found["has_action"].tolist() == [True, False]


def test_a_stack_without_alarms_has_an_empty_frame() -> None:
    """The columns and their types are the same without any row, and hold no object."""
    empty, full = alarms.frame([], {}), alarms.frame([described("A", "OK")], {})
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict() == {name: full[name].dtype for name in alarms.COLUMNS}
    assert full["since"].dtype == TIME
    assert "object" not in {str(dtype) for dtype in empty.dtypes}


@pytest.mark.parametrize(("text", "name"), [("see 60_monitor.", "60_monitor"), ("after 300 s", ""), ("", "")])
def test_the_notebook_is_read_from_the_description(text: str, name: str) -> None:
    """The first notebook that a description names is the one that helps; a number alone names none."""
    assert alarms.notebook(text) == name
