"""The template as text: its parameters, what contradicts in them, and the risks that documented defaults carry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from taskq_lib import PROJECT_ROOT
from taskq_lib.aws import concurrency, rules
from taskq_lib.errors import BadInput, did_you_mean
from taskq_worker.contract import task_type, task_types

TEMPLATE = PROJECT_ROOT / "cloudformation.yaml"
#: AWS advises this many function timeouts as the visibility timeout (Lambda guide, SQS event source mappings).
ADVISED_TIMEOUTS = 6
#: CPU that this package needs for a task that does nothing, on one vCPU (s); measured, see docs/decisions.md.
TASK_CPU_S = 0.75e-3
#: A function has one vCPU at this much memory (MB), and a share of it below (Lambda guide, memory).
VCPU_MB = 1769
#: What BreakerAlarm looks at, s: its periods times their number; an open breaker is not silent for longer.
BREAKER_ALARM_S = 600
_CODE_LINE = "Code: lambda/"


def parameters() -> dict[str, dict[str, Any]]:
    """Return the template's parameters: name -> Type, Default, Description, MinValue, MaxValue, AllowedValues."""
    found: dict[str, dict[str, Any]] = rules.read(TEMPLATE.read_text())["Parameters"]
    return found


def with_code(bucket: str, key: str) -> str:
    """Return the template's text with the code's folder replaced by its place in S3."""
    text = TEMPLATE.read_text()
    if text.count(_CODE_LINE) != 1:
        raise BadInput(f"{TEMPLATE.name} must name the code once, as {_CODE_LINE!r}.")
    return text.replace(_CODE_LINE, f"Code: {{S3Bucket: {bucket}, S3Key: {key}}}")


def read_parameters(text: str) -> dict[str, str]:
    """Read `Name:Value,Name:Value`, as a notebook's parameter gives it (`=` serves as well), and check it.

    A part that is neither `Name:Value` nor a parameter's name belongs to the value before: `SecondQueueTypes:A,B`.
    """
    known = parameters()
    pairs: list[tuple[str, str]] = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        name, separator, value = part.replace("=", ":", 1).partition(":")
        if pairs and not separator and name not in known:
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]},{part}")
        else:
            pairs.append((name.strip(), value.strip()))
    return check(dict(pairs))


def check(given: Mapping[str, object]) -> dict[str, str]:
    """Check values against the template; returns them as the strings that CloudFormation takes.

    Raises `BadInput` for an unknown name or a value that is not allowed.
    """
    known = parameters()
    for name in given:
        if name not in known:
            hint = f"{did_you_mean(name, known)}Correct the name; nothing was changed."
            raise BadInput(f"Template parameter {name!r} does not exist; there are {', '.join(known)}.", hint)
    return {name: _checked(name, _text(value), known[name]) for name, value in given.items()}


def contradictions(values: Mapping[str, str]) -> list[str]:
    """Return one sentence for each combination of values (a complete set) that cannot work together.

    The template's own rules come first; they compare for equality only, and what needs arithmetic follows.
    """
    v = _counts(values)
    return [
        *rules.broken(rules.rules(TEMPLATE.read_text()), values),
        *_contradicting_times(v),
        *_contradicting_budgets(v, values),
        *concurrency.contradictions(v, values),
        *_contradicting_types(values),
        *_silent_alarms(v, values),
    ]


def _contradicting_times(v: Mapping[str, int]) -> list[str]:
    found = []
    if v["FunctionTimeoutSeconds"] > v["VisibilityTimeoutSeconds"]:
        found.append(
            f"FunctionTimeoutSeconds ({v['FunctionTimeoutSeconds']}) exceeds VisibilityTimeoutSeconds "
            f"({v['VisibilityTimeoutSeconds']}): Lambda refuses such a mapping."
        )
    if v["DeadLetterRetentionSeconds"] <= v["MessageRetentionSeconds"]:
        found.append("DeadLetterRetentionSeconds must exceed MessageRetentionSeconds: a move keeps the first time.")
    if (waits := v["RetryCapSeconds"] * v["MaxAttempts"]) >= v["MessageRetentionSeconds"]:
        found.append(
            f"RetryCapSeconds x MaxAttempts ({waits}) must be below MessageRetentionSeconds, or SQS drops tasks."
        )
    if 0 < v["StatusTtlDays"] * 86_400 <= v["DeadLetterRetentionSeconds"]:
        found.append("StatusTtlDays must exceed DeadLetterRetentionSeconds: a dead letter must find its task's status.")
    return found


def _contradicting_budgets(v: Mapping[str, int], values: Mapping[str, str]) -> list[str]:
    budgets = {"MaxAttempts": v["MaxAttempts"]}
    budgets |= {f"the budget of {kind}": task_type(kind).retry.max_attempts or 0 for kind in task_types()}
    if values["FifoQueue"] == "true":
        return _contradicting_fifo_budget(v, *max(budgets.items(), key=lambda one: one[1]))
    return [
        f"MaxReceiveCount must exceed {name} ({attempts}): it is the net behind the attempt budget."
        for name, attempts in budgets.items()
        if v["MaxReceiveCount"] <= attempts
    ]


def _contradicting_fifo_budget(v: Mapping[str, int], name: str, attempts: int) -> list[str]:
    """Each head of a group that uses up its budget gives the rest of its batch back `attempts` - 1 times."""
    most, limit = v["BatchSize"] * (attempts - 1) + 1, v["MaxReceiveCount"]
    if limit > most:
        return []
    text = (
        f"MaxReceiveCount ({limit}) must exceed BatchSize ({v['BatchSize']}) x ({name} ({attempts}) - 1) + 1 with "
        "FifoQueue=true: what stands behind a failing task of its group is given back with it, and each time uses a "
        f"receive, so that SQS would dead-letter it before its own budget is used. Set MaxReceiveCount={most + 1}."
    )
    return [text]


def _contradicting_types(values: Mapping[str, str]) -> list[str]:
    unknown = [kind for kind in values["SecondQueueTypes"].split(",") if kind and kind not in task_types()]
    if not unknown:
        return []
    return [f"SecondQueueTypes names {', '.join(unknown)}: no such task type; there are {', '.join(task_types())}."]


def _silent_alarms(v: Mapping[str, int], values: Mapping[str, str]) -> list[str]:
    if values["Alarms"] == "false":
        return []
    found = []
    age, kept, cooldown = v["AgeAlarmSeconds"], v["MessageRetentionSeconds"], v["BreakerCooldownSeconds"]
    if age >= kept:
        found.append(
            f"AgeAlarmSeconds ({age}) must be below MessageRetentionSeconds ({kept}): no message gets that old."
        )
    if values["Metrics"] == "true" and v["BreakerFailurePercent"] and cooldown > BREAKER_ALARM_S / 2:
        found.append(
            f"BreakerCooldownSeconds ({cooldown}) must be {BREAKER_ALARM_S // 2} at most with Alarms=true and "
            "Metrics=true: held tasks come back after twice that, and BreakerAlarm would end while a breaker is open."
        )
    return found


def risks(values: Mapping[str, str]) -> list[str]:
    """Return one sentence for each value (of a complete set) that works and is not what is advised."""
    v = _counts(values)
    timeout, visible = v["FunctionTimeoutSeconds"], v["VisibilityTimeoutSeconds"]
    advised = ADVISED_TIMEOUTS * timeout + v["BatchWindowSeconds"]
    found = []
    if visible < advised:
        found.append(
            f"VisibilityTimeoutSeconds is {visible} s and the function may run {timeout} s: a throttled or slow batch "
            f"can be delivered a second time while the first still runs. VisibilityTimeoutSeconds={advised} removes "
            "the risk."
        )
    own_s = v["BatchSize"] * TASK_CPU_S * max(VCPU_MB / v["FunctionMemoryMb"], 1)
    if own_s > timeout / 2:
        found.append(
            f"BatchSize is {v['BatchSize']} and FunctionMemoryMb {v['FunctionMemoryMb']}: to claim and record a whole "
            f"batch takes about {own_s:.0f} s of FunctionTimeoutSeconds ({timeout}), and what is left at its end goes "
            "back unstarted. More memory or a smaller batch removes the risk."
        )
    return [*found, *concurrency.risks(v, values), *_risky_second_queue(v, values)]


def _risky_second_queue(v: Mapping[str, int], values: Mapping[str, str]) -> list[str]:
    found = []
    if values["SecondQueueFor"] == "priority" and v["UrgentPriority"] == 0:
        found.append("UrgentPriority is 0: every task is urgent, and none goes to the first queue.")
    if set(task_types()) <= set(values["SecondQueueTypes"].split(",")):
        found.append("SecondQueueTypes names every task type: no task goes to the first queue.")
    return found


def effective(given: Mapping[str, str], deployed: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the complete set that a deployment would have: given, else as deployed, else the default."""
    defaults = {name: _text(entry["Default"]) for name, entry in parameters().items()}
    return {**defaults, **{n: v for n, v in (deployed or {}).items() if n in defaults}, **given}


def _counts(values: Mapping[str, str]) -> dict[str, int]:
    return {name: int(values[name]) for name, entry in parameters().items() if entry["Type"] == "Number"}


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _checked(name: str, value: str, entry: Mapping[str, Any]) -> str:
    """Return a value as CloudFormation takes it, a number without leading zeros, for which its rules are not made."""
    allowed = [_text(option) for option in entry.get("AllowedValues", [])]
    if allowed and value not in allowed:
        raise BadInput(f"{name} is {value!r}; allowed are {', '.join(allowed)}.")
    if not re.fullmatch(entry.get("AllowedPattern", "(?s).*"), value):
        raise BadInput(f"{name} is {value!r}. {entry['ConstraintDescription']}")
    if entry["Type"] != "Number":
        return value
    low, high = entry.get("MinValue", 0), entry.get("MaxValue", 2**31)
    # `int` refuses a text of thousands of digits.
    if not _is_count(value) or len(value) > 20 or not low <= int(value) <= high:
        raise BadInput(f"{name} is {value!r}; allowed is a whole number from {low} to {high}.")
    return str(int(value))
