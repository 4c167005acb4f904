"""The template as text: its parameters, what contradicts in them, and the risks that documented defaults carry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from taskq_lib import PROJECT_ROOT
from taskq_lib.errors import BadInput, did_you_mean
from taskq_worker.contract import task_type, task_types

TEMPLATE = PROJECT_ROOT / "cloudformation.yaml"
#: AWS advises this many function timeouts as the visibility timeout (Lambda guide, SQS event source mappings).
ADVISED_TIMEOUTS = 6
_CODE_LINE = "Code: lambda/"


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms (`!Ref`, `!If`, ...) as plain values; only parameters are looked at."""


_Loader.add_multi_constructor("!", lambda loader, _suffix, node: _plain(loader, node))


def _plain(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node)
    return loader.construct_mapping(node)  # type: ignore[arg-type]


def parameters() -> dict[str, dict[str, Any]]:
    """Return the template's parameters: name -> Type, Default, Description, MinValue, MaxValue, AllowedValues."""
    template = yaml.load(TEMPLATE.read_text(), Loader=_Loader)  # noqa: S506 - a SafeLoader
    found: dict[str, dict[str, Any]] = template["Parameters"]
    return found


def with_code(bucket: str, key: str) -> str:
    """Return the template's text with the code's folder replaced by its place in S3."""
    text = TEMPLATE.read_text()
    if text.count(_CODE_LINE) != 1:
        raise BadInput(f"{TEMPLATE.name} must name the code once, as {_CODE_LINE!r}.")
    return text.replace(_CODE_LINE, f"Code: {{S3Bucket: {bucket}, S3Key: {key}}}")


def read_parameters(text: str) -> dict[str, str]:
    """Read `Name:Value,Name:Value`, as a notebook's parameter gives it (`=` serves as well), and check it."""
    pairs = [part.replace("=", ":", 1).partition(":") for part in text.split(",") if part.strip()]
    return check({name.strip(): value.strip() for name, _, value in pairs})


def check(given: Mapping[str, object]) -> dict[str, str]:
    """Check values against the template; returns them as the strings that CloudFormation takes.

    Raises `BadInput` for an unknown name, a value out of range, or values that contradict each other.
    """
    known = parameters()
    for name, value in given.items():
        if name not in known:
            hint = f"{did_you_mean(name, known)}Correct the name; nothing was changed."
            raise BadInput(f"Template parameter {name!r} does not exist; there are {', '.join(known)}.", hint)
        _check_value(name, _text(value), known[name])
    return {name: _text(value) for name, value in given.items()}


def contradictions(values: Mapping[str, str]) -> list[str]:
    """Return one sentence for each pair of values (a complete set) that cannot work together."""
    v = {name: int(value) for name, value in values.items() if _is_count(value)}
    found = []
    if v["FunctionTimeoutSeconds"] > v["VisibilityTimeoutSeconds"]:
        found.append(
            f"FunctionTimeoutSeconds ({v['FunctionTimeoutSeconds']}) exceeds VisibilityTimeoutSeconds "
            f"({v['VisibilityTimeoutSeconds']}): Lambda refuses such a mapping."
        )
    if v["BatchSize"] > 10 and v["BatchWindowSeconds"] == 0:
        found.append(f"BatchSize {v['BatchSize']} is over 10 and needs BatchWindowSeconds of at least 1.")
    if v["MaximumConcurrency"] == 1:
        found.append("MaximumConcurrency is 0 (no bound) or 2 to 1000.")
    if v["DeadLetterRetentionSeconds"] <= v["MessageRetentionSeconds"]:
        found.append("DeadLetterRetentionSeconds must exceed MessageRetentionSeconds: a move keeps the first time.")
    budgets = {"MaxAttempts": v["MaxAttempts"]}
    budgets |= {f"the budget of {kind}": task_type(kind).retry.max_attempts or 0 for kind in task_types()}
    for name, attempts in budgets.items():
        if v["MaxReceiveCount"] <= attempts:
            found.append(f"MaxReceiveCount must exceed {name} ({attempts}): it is the net behind the attempt budget.")
    if (waits := v["RetryCapSeconds"] * v["MaxAttempts"]) >= v["MessageRetentionSeconds"]:
        found.append(
            f"RetryCapSeconds x MaxAttempts ({waits}) must be below MessageRetentionSeconds, or SQS drops tasks."
        )
    if 0 < v["StatusTtlDays"] * 86_400 <= v["DeadLetterRetentionSeconds"]:
        found.append("StatusTtlDays must exceed DeadLetterRetentionSeconds: a dead letter must find its task's status.")
    return found + _silent_alarms(values)


def _silent_alarms(values: Mapping[str, str]) -> list[str]:
    """Return one sentence for each pair of values with which an alarm can never reach anybody."""
    if values["Alarms"] == "false":
        return (
            ["AlarmEmail needs Alarms=true; without alarms there is nothing to send."] if values["AlarmEmail"] else []
        )
    if (age := int(values["AgeAlarmSeconds"])) >= (kept := int(values["MessageRetentionSeconds"])):
        return [f"AgeAlarmSeconds ({age}) must be below MessageRetentionSeconds ({kept}): no message gets that old."]
    return []


def risks(values: Mapping[str, str]) -> list[str]:
    """Return one sentence for each value (of a complete set) that works and is not what AWS advises."""
    timeout, visible = int(values["FunctionTimeoutSeconds"]), int(values["VisibilityTimeoutSeconds"])
    advised = ADVISED_TIMEOUTS * timeout + int(values["BatchWindowSeconds"])
    found = []
    if visible < advised:
        found.append(
            f"VisibilityTimeoutSeconds is {visible} s and the function may run {timeout} s: a throttled or slow batch "
            f"can be delivered a second time while the first still runs. VisibilityTimeoutSeconds={advised} removes "
            "the risk."
        )
    return found


def effective(given: Mapping[str, str], deployed: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the complete set that a deployment would have: given, else as deployed, else the default."""
    defaults = {name: _text(entry["Default"]) for name, entry in parameters().items()}
    return {**defaults, **{n: v for n, v in (deployed or {}).items() if n in defaults}, **given}


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_value(name: str, value: str, entry: Mapping[str, Any]) -> None:
    allowed = [_text(option) for option in entry.get("AllowedValues", [])]
    if allowed and value not in allowed:
        raise BadInput(f"{name} is {value!r}; allowed are {', '.join(allowed)}.")
    if not re.fullmatch(entry.get("AllowedPattern", "(?s).*"), value):
        raise BadInput(f"{name} is {value!r}. {entry['ConstraintDescription']}")
    if entry["Type"] != "Number":
        return
    low, high = entry.get("MinValue", 0), entry.get("MaxValue", 2**31)
    if not _is_count(value) or not low <= int(value) <= high:
        raise BadInput(f"{name} is {value!r}; allowed is a whole number from {low} to {high}.")
