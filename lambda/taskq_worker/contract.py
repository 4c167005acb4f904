"""The contract between producer, function and analysis: the message body, the task types, the status item's names.

Imports the standard library only, since the library reads it from the same file as the function does.
"""

from __future__ import annotations

import inspect
import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, get_origin, get_type_hints

#: SQS takes at most 1 MiB a message and a batch (SQS API reference, SendMessage; since 2025-08).
MAX_BODY_BYTES = 1_048_576
PRIORITY_MIN, PRIORITY_MAX, PRIORITY_DEFAULT = 0, 9, 5
#: The index on the status table is spread over this many keys; one key would cap it at 1,000 writes a second.
N_SHARDS = 8

#: Longer attempt logs would push an item over the 1 KB that one write unit pays for many times over.
MAX_LOGGED_ATTEMPTS = 20

METRIC_NAMESPACE = "TaskQueue"
#: The function's own metrics and their units.
METRICS = {
    "TaskFailed": "Count",  #: 0 or 1 a task that became final; 1 is dead-lettered
    "AttemptFailed": "Count",  #: 0 or 1 an attempt
    "QueueWait": "Seconds",  #: Enqueued -> started, of first attempts
    "ProcessingTime": "Seconds",  #: Started -> ended, of every attempt
    "BreakerOpen": "Count",  #: 0 or 1 a batch and task type
    "TimeUsed": "Percent",  #: Of the function's timeout, by an invocation
}

_ERROR_NAME = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
ID_RULE = "1 to 128 letters, digits or any of _ . : - , the first a letter or digit"
_PRIORITY_RULE = f"priority must be a whole number from {PRIORITY_MIN} to {PRIORITY_MAX}"


class Status(StrEnum):
    """What the status item says of a task; a task without an item is pending, which is derived and never stored."""

    PROCESSING = "PROCESSING"  #: A worker holds the lease
    COMPLETED = "COMPLETED"  #: Done; final
    FAILED = "FAILED"  #: The last attempt failed; final once `deadLettered` is true


class State(StrEnum):
    """What a reader sees of a task, in the order of its life; derived from the item, never stored."""

    PENDING = "pending"  #: Submitted, and no item yet
    PROCESSING = "processing"
    RETRYING = "retrying"  #: Failed with attempts left
    COMPLETED = "completed"  #: Final
    DEAD_LETTERED = "dead_lettered"  #: Final


class Reason(StrEnum):
    """Why a task was dead-lettered."""

    MAX_ATTEMPTS = "max_attempts"  #: The attempt budget is used up
    NON_RETRYABLE = "non_retryable"  #: The error said that another attempt cannot help
    INVALID = "invalid"  #: The message does not keep to this contract
    #: SQS itself moved the message, by the redrive policy. The function never writes this; readers derive it.
    RECEIVE_LIMIT = "receive_limit"


class BreakerState(StrEnum):
    """What the circuit breaker of a task type does."""

    CLOSED = "closed"  #: Tasks run
    OPEN = "open"  #: Tasks wait, and use no attempt
    HALF_OPEN = "half_open"  #: One task runs as a probe, the others wait


class Outcome(StrEnum):
    """How one attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"  #: The worker vanished: its lease ran out and nothing was recorded


#: Error type and text of an attempt that left none, since its worker vanished.
WORKER_LOST = ("WorkerLost", "the worker vanished: its lease ran out and nothing was recorded")


class InvalidMessage(ValueError):
    """A message that breaks the contract; it can never succeed, so it is never retried."""

    def __init__(self, why: str, task_id: str | None = None, run_id: str | None = None) -> None:
        """Keep the reason and, where they could be read, the ids that let the failure be found again."""
        super().__init__(why)
        self.task_id = task_id
        self.run_id = run_id


class TaskError(Exception):
    """An error of a task's own code; it says whether another attempt may help, and when at the earliest."""

    def __init__(self, message: str, *, retryable: bool = True, retry_after_s: float = 0.0) -> None:
        """Keep the message, whether the function should try again, and how long it must wait before it does."""
        super().__init__(message)
        self.retryable = retryable
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How a failed task is tried again. For a task type, None takes the template's parameter."""

    max_attempts: int | None = None  #: The attempt budget: the first attempt and its retries
    base_s: float | None = None  #: A retry waits a random time between 0 and base x factor ^ (attempt - 1)
    factor: float | None = None
    cap_s: float | None = None  #: No retry waits longer

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, when the type is registered."""
        if self.max_attempts is not None and not 1 <= self.max_attempts <= MAX_LOGGED_ATTEMPTS:
            raise ValueError(f"max_attempts is {self.max_attempts}; allowed is 1 to {MAX_LOGGED_ATTEMPTS}")
        for name, low in (("base_s", 0), ("factor", 1), ("cap_s", 0)):
            value = getattr(self, name)
            if value is not None and not low <= value < 1e9:
                raise ValueError(f"{name} is {value}; allowed is {low} or more")

    def over(self, default: Retry) -> Retry:
        """Return these values, with `default` where there is none."""
        return replace(default, **{name: value for name, value in vars(self).items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class Simulate:
    """How the simulated processing behaves (`data.simulate`)."""

    seconds: float = 0.0  #: How long each attempt takes
    fail_attempts: int = 0  #: How many of the first attempts fail; -1 is every one
    error: str = "SimulatedError"  #: The error type the failing attempts report
    retryable: bool = True  #: False dead-letters the task at its first failure
    retry_after_s: float = 0.0  #: How long the failing attempts ask to be left alone
    crash_attempts: int = 0  #: How many of the first attempts kill their worker's process; -1 is every one

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated; millions are made, so a message only where it is needed."""
        for name, value in (("seconds", self.seconds), ("retry_after_s", self.retry_after_s)):
            if not (_is_number(value) and 0 <= value <= 900):
                raise InvalidMessage(f"simulate.{name} must be a number from 0 to 900")
        for name, count in (("fail_attempts", self.fail_attempts), ("crash_attempts", self.crash_attempts)):
            if not (_is_int(count) and count >= -1):
                raise InvalidMessage(f"simulate.{name} must be a whole number, -1 or more")
        _require(
            isinstance(self.error, str) and _ERROR_NAME.fullmatch(self.error) is not None,
            "simulate.error must be a name of at most 64 letters, digits and _",
        )
        _require(isinstance(self.retryable, bool), "simulate.retryable must be true or false")

    def fails(self, attempt: int) -> bool:
        """Whether attempt number `attempt` (from 1) is one of those that fail."""
        return self.fail_attempts == -1 or attempt <= self.fail_attempts

    def crashes(self, attempt: int) -> bool:
        """Whether attempt number `attempt` (from 1) is one of those that kill their worker."""
        return self.crash_attempts == -1 or attempt <= self.crash_attempts


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task, as its message carries it."""

    task_id: str  #: Chosen by the producer; the idempotency key
    type: str  #: A registered task type
    data: dict[str, Any]  #: The type's own fields, and optionally `simulate`
    priority: int = PRIORITY_DEFAULT  #: 0 to 9, 9 most urgent
    run_id: str | None = None  #: The run that submitted it
    enqueued_at: float | None = None  #: Unix seconds by the producer's clock; SQS loses its own at a redrive

    def __post_init__(self) -> None:
        """Refuse what the function would refuse, so that both sides judge alike."""
        _require(is_id(self.task_id), "task_id must be " + ID_RULE)
        _require(self.run_id is None or is_id(self.run_id), "run_id must be " + ID_RULE)
        _require(_is_int(self.priority) and PRIORITY_MIN <= self.priority <= PRIORITY_MAX, _PRIORITY_RULE)
        # To the year 2100, where only milliseconds mistaken for seconds get; from 1970 plus a second, since DynamoDB
        # refuses numbers that are all but 0.
        _require(
            self.enqueued_at is None or (_is_number(self.enqueued_at) and 1 <= self.enqueued_at < 4_102_444_800),
            "enqueued_at must be Unix seconds",
        )
        task_type(self.type).check(self.data)

    @property
    def simulate(self) -> Simulate:
        """How this task is simulated; all defaults where the message says nothing."""
        return Simulate(**self.data.get("simulate", {}))

    @property
    def arguments(self) -> dict[str, Any]:
        """The fields of `data` that the task type's function takes."""
        return {name: value for name, value in self.data.items() if name != "simulate"}

    def to_body(self) -> str:
        """Write the message body: compact JSON.

        Raises `InvalidMessage` where it is over 1 MiB or holds what JSON cannot.
        """
        fields = {name: value for name, value in vars(self).items() if value is not None}
        try:
            body = json.dumps(fields, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidMessage(
                f"the message cannot be written as JSON: {error}", self.task_id, self.run_id
            ) from error
        # ASCII only (`json.dumps` escapes the rest), so characters are bytes.
        if len(body) > MAX_BODY_BYTES:
            why = f"the message has {len(body):,} bytes, at most {MAX_BODY_BYTES:,} (1 MiB) are allowed"
            raise InvalidMessage(why, self.task_id, self.run_id)
        return body


def parse_body(body: str) -> Task:
    """Read a message body.

    Raises `InvalidMessage` with the reason, and with the ids where the body names usable ones.
    """
    try:
        fields = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(f"the body is not JSON: {error or 'nested too deep'}") from error
    if not isinstance(fields, dict):
        raise InvalidMessage(f"the body must be a JSON object, not {type(fields).__name__}")
    task_id, run_id = (fields.get(name) if is_id(fields.get(name)) else None for name in ("task_id", "run_id"))
    known = Task.__dataclass_fields__
    try:
        for name in ("task_id", "type", "data"):
            _require(name in fields, f"{name} is missing")
        # Unknown fields are let through: a newer producer may add some.
        return Task(**{name: value for name, value in fields.items() if name in known})
    except InvalidMessage as error:
        raise InvalidMessage(str(error), task_id, run_id) from error


# --- task types -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TaskContext:
    """What a task's code is told about its attempt."""

    task_id: str  #: For making side effects idempotent: delivery is at least once
    attempt: int  #: From 1


@dataclass(frozen=True, kw_only=True)
class TaskType:
    """A registered task type: its code, and the schema that the code's own signature states."""

    name: str
    run: Callable[..., dict[str, Any]]  #: run(context, **arguments) -> result
    fields: Mapping[str, type] = field(default_factory=dict)  #: Argument -> type
    required: frozenset[str] = frozenset()
    retry: Retry = Retry()  #: Where it differs from the template's parameters

    @property
    def _takes(self) -> str:
        return ", ".join([*self.fields, "simulate"])

    def check(self, data: object) -> None:
        """Raise `InvalidMessage` unless `data` has the required fields, known fields only, and their types."""
        if not isinstance(data, dict):
            raise InvalidMessage("data must be a JSON object")
        if missing := self.required - data.keys():
            raise InvalidMessage(f"data.{min(missing)} is missing; {self.name} takes {self._takes}")
        for name, value in data.items():
            if name == "simulate":
                check_simulate(value)
            elif name not in self.fields:
                raise InvalidMessage(f"data has an unknown field {_shown(name)}; {self.name} takes {self._takes}")
            elif not _is_a(value, self.fields[name]):
                raise InvalidMessage(f"data.{name} must be {_WORDS[self.fields[name]]}")


_TYPES: dict[str, TaskType] = {}
_AS_THE_TEMPLATE = Retry()
#: The types that a field of `data` may have, and how an error calls them.
_WORDS = {
    str: "a string that is not empty",
    int: "a whole number, 0 or more",
    float: "a number",
    bool: "true or false",
    list: "a JSON array",
    dict: "a JSON object",
}


def register(
    name: str, retry: Retry = _AS_THE_TEMPLATE
) -> Callable[[Callable[..., dict[str, Any]]], Callable[..., dict[str, Any]]]:
    """Register the decorated function as task type `name`; its parameters after the first are the fields of `data`.

    `retry` says where its retries differ from the template's parameters.
    """

    def decorate(run: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        hints = get_type_hints(run)
        parameters = list(inspect.signature(run).parameters.values())[1:]
        fields = {p.name: get_origin(hints[p.name]) or hints[p.name] for p in parameters}
        for field_name, kind in fields.items():
            if kind not in _WORDS:
                allowed = ", ".join(known.__name__ for known in _WORDS)
                raise TypeError(f"field {field_name!r} of task type {name} is a {kind}; allowed are {allowed}")
        _TYPES[name] = TaskType(
            name=name,
            run=run,
            fields=fields,
            required=frozenset(p.name for p in parameters if p.default is inspect.Parameter.empty),
            retry=retry,
        )
        return run

    return decorate


def task_type(name: object) -> TaskType:
    """Return the registered type; raise `InvalidMessage` that lists the known ones."""
    if not isinstance(name, str) or name not in _TYPES:
        raise InvalidMessage(f"unknown task type {_shown(name)}; known are {', '.join(task_types())}")
    return _TYPES[name]


def budget(task: Task, max_attempts: int) -> int:
    """Return how many attempts a task has: its type's own number, else `max_attempts`."""
    return task_type(task.type).retry.max_attempts or max_attempts


def task_types() -> list[str]:
    """Return the names of the registered task types, sorted."""
    return sorted(_TYPES)


def check_simulate(value: object) -> None:
    """Raise `InvalidMessage` unless `value` is a usable `data.simulate`."""
    known = Simulate.__dataclass_fields__
    if not isinstance(value, dict) or not value.keys() <= known.keys():
        raise InvalidMessage(f"data.simulate must be a JSON object with some of {', '.join(known)}")
    Simulate(**value)


# --- small checks -----------------------------------------------------------------------------------------------


def is_id(value: object) -> bool:
    """Whether `value` can be a task or run id."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def breaker_key(kind: str) -> str:
    """Return the key of a task type's breaker in the status table; no task id can be equal to it."""
    return f"#breaker:{kind}"


def shard_of(task_id: str) -> int:
    """Return the index shard of a task: stable, evenly spread, the same in every process (unlike `hash`)."""
    return zlib.crc32(task_id.encode()) % N_SHARDS


def _shown(value: object) -> str:
    """Quote a value of somebody else; escaped, one character may become ten."""
    return repr(str(value)[:64])[:200]


def _require(holds: bool, why: str) -> None:  # noqa: FBT001 - a condition, not a switch
    if not holds:
        raise InvalidMessage(why)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    # Compared, not `math.isfinite`: that overflows on an integer of 400 digits. NaN and infinity fail it as well.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e300 < value < 1e300


def _is_a(value: object, kind: type) -> bool:
    if kind is int:
        # DynamoDB numbers hold 38 digits; a count beyond 2**53 is an error of the producer.
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
    if kind is str:
        # A lone surrogate is legal in JSON and refused by every AWS service.
        return isinstance(value, str) and value != "" and not _SURROGATE.search(value)
    if kind is float:
        return _is_number(value)
    return isinstance(value, kind)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
