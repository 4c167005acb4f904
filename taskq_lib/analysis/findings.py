"""What a check of a configuration finds, and the words and rules that the checks share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from typing import Any

import pandas as pd

from taskq_lib.configuration import Configuration, Statement

DAY_S = 86_400


class Severity(StrEnum):
    """How bad it is; in the order of their weight."""

    CRITICAL = "critical"  #: Tasks are or will be lost, stand still, or are open to others
    WARNING = "warning"  #: It works and carries a risk
    INFO = "info"  #: Worth knowing


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    severity: Severity
    check: str  #: Name of the check
    resource: str  #: Logical id in the template
    measured: str  #: What was measured, in words
    risk: str  #: What can come of it, one sentence
    mend: str  #: The template's parameter and the value that mends it, or what else to do
    source: str  #: Where AWS, or this kit, says so


Check = Callable[[Configuration], Iterator[Finding]]

LAMBDA_SQS = "AWS Lambda guide, Configuring an SQS event source (services-sqs-configure)"
LAMBDA_SCALING = "AWS Lambda guide, Scaling of SQS event sources (services-sqs-scaling)"
LAMBDA_ERRORS = "AWS Lambda guide, Errors of SQS event sources (services-sqs-errorhandling)"
LAMBDA_FILTER = "AWS Lambda guide, Event filtering (invocation-eventfiltering)"
LAMBDA_CONCURRENCY = "AWS Lambda API, PutFunctionConcurrency"
LAMBDA_RUNTIMES = "AWS Lambda guide, Runtimes (lambda-runtimes)"
SQS_DEAD_LETTERS = "AWS SQS guide, Dead-letter queues (sqs-dead-letter-queues)"
SQS_QUOTAS = "AWS SQS guide, Quotas (quotas-queues)"
SQS_API = "AWS SQS API, SetQueueAttributes"
SQS_SECURITY = "AWS SQS guide, Security best practices (sqs-security-best-practices)"
DYNAMODB_API = "AWS DynamoDB API"
IAM = "AWS IAM guide, Security best practices: least privilege"
LOGS = "AWS CloudWatch Logs API, PutRetentionPolicy"
ALARMS = "AWS CloudWatch API, PutMetricAlarm"
CLOUDFORMATION = "AWS CloudFormation API, DetectStackDrift"
_TLS = "aws:securetransport"
KIT = "cloudformation.yaml and docs/decisions.md of this kit"


def throttled_share(p: float, max_receives: int) -> float:
    """Return the share of messages that throttling alone dead-letters, 0 to 1.

    Each receive is throttled with probability `p`, independent of the others, and SQS moves a message once it was
    received `max_receives` times: p ** max_receives.
    """
    return p**max_receives


def share(value: float) -> str:
    """Return a share as a percentage of two digits; one below a millionth is only said to be that."""
    return f"{value * 100:.2g} %" if value >= 1e-6 else "under 0.0001 %"


def set_to(configuration: Configuration, name: str, value: object) -> str:
    """Return what sets a template parameter; says so where the stack's value is right and only the resource is not."""
    if configuration.parameters.get(name) == str(value):
        return f"{name}={value}, as the stack has it: the resource was changed by hand; set it back"
    return f"{name}={value}"


def texts(value: Any) -> list[str]:
    """Return what a policy holds at a place where AWS allows one text or a list of them."""
    if isinstance(value, str):
        return [value]
    return [str(one) for one in value] if isinstance(value, list | tuple) else []


def words(statement: Statement, name: str) -> str:
    """Return what a statement names at a place, such as its actions, in words."""
    return ", ".join(texts(statement.get(name))) or "nothing"


def conditions(statement: Statement) -> list[tuple[str, str, list[str]]]:
    """Return the conditions of a statement: operator and key, both in small letters, and values."""
    found = statement.get("Condition")
    held = found.items() if isinstance(found, Mapping) else ()
    pairs = [(operator, key, value) for operator, one in held if isinstance(one, Mapping) for key, value in one.items()]
    # A condition on a boolean may come as one.
    return [
        (str(operator).lower(), str(key).lower(), texts(value) or [str(value).lower()])
        for operator, key, value in pairs
    ]


def is_of_all(statement: Statement) -> bool:
    """Whether a statement of a resource's policy is of everybody."""
    principal = statement.get("Principal")
    named = [one for value in principal.values() for one in texts(value)] if isinstance(principal, Mapping) else []
    return "*" in [*texts(principal), *named]


def is_of_plain(statement: Statement) -> bool:
    """Whether a statement is of what comes without TLS, and of all of it."""
    found = [(key, [value.lower() for value in values]) for _operator, key, values in conditions(statement)]
    return found == [(_TLS, ["false"])]


def is_open(statement: Statement) -> bool:
    """Whether a statement of a resource's policy lets everybody in; that it demands TLS keeps nobody out."""
    keys = {key for _operator, key, _values in conditions(statement)}
    return statement.get("Effect") == "Allow" and is_of_all(statement) and keys <= {_TLS}


def frame(found: Iterable[Finding]) -> pd.DataFrame:
    """Return findings as a table, the worst first: the fields of `Finding`, all str but severity, a category."""
    names = [field.name for field in fields(Finding)]
    rows = pd.DataFrame([astuple(one) for one in found], columns=names, dtype="str")
    order = pd.CategoricalDtype([str(one) for one in Severity], ordered=True)
    rows["severity"] = rows["severity"].astype(order)
    return rows.sort_values("severity", kind="stable", ignore_index=True)
