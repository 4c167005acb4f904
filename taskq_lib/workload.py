"""A workload from one seed: which tasks, how urgent, how long they take, which fail, and when they arrive."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from taskq_lib.errors import BadInput
from taskq_worker.contract import PRIORITY_MAX, PRIORITY_MIN, is_id, task_type, task_types

MAX_TASKS = 10_000_000
#: What a transient failure is called: each fails one attempt and then completes.
TRANSIENT_ERRORS = ("DependencyTimeout", "RateLimited")
#: What a permanent failure is called, and whether the task's code says that retrying cannot help.
PERMANENT_ERRORS = (("CorruptInput", True), ("RecipientUnknown", False))

#: SQS takes more punctuation in a message group; the list keeps some of it for itself.
_GROUP = re.compile(r"[A-Za-z0-9_.-]{1,128}")

# The data of each task type, for task number i; a type without an entry gets a plain value for each field it needs.
_DATA: dict[str, Callable[[int], dict[str, Any]]] = {
    "IMAGE_RESIZE": lambda i: {"filename": f"photo-{i:06d}.jpg", "width": 800, "height": 600},
    "SEND_EMAIL": lambda i: {"to": f"user{i}@example.com"},
    "PROCESS_DATA": lambda i: {"record_count": 100 + i % 900, "source": "workload"},
}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What to generate; the same values make the same tasks."""

    n_tasks: int
    seed: int = 0
    mix: str = "IMAGE_RESIZE:1,SEND_EMAIL:1,PROCESS_DATA:1"  #: TYPE:WEIGHT,...
    priorities: str = "1:1,5:7,9:2"  #: PRIORITY:WEIGHT,...
    groups: str = ""  #: GROUP:WEIGHT,...: message groups; empty gives the tasks none
    duration_median_s: float = 0.05  #: Median of the simulated processing time
    duration_sigma: float = 0.5  #: Log-normal spread; 0 makes every task take the median
    transient_share: float = 0.0  #: Share of tasks whose first attempt fails
    permanent_share: float = 0.0  #: Share of tasks that fail always
    crash_share: float = 0.0  #: Share of tasks that kill their worker's process, always
    arrival_rate_per_s: float = 0.0  #: Poisson arrivals at this mean rate; 0 is a burst

    def __post_init__(self) -> None:
        """Refuse what cannot be generated."""
        _within("n_tasks", self.n_tasks, 1, MAX_TASKS)
        _within("seed", self.seed, 0, 2**32 - 1)
        _within("duration_median_s", self.duration_median_s, 0, 900)
        _within("duration_sigma", self.duration_sigma, 0, 3)
        _within("transient_share", self.transient_share, 0, 1)
        _within("permanent_share", self.permanent_share, 0, 1)
        _within("crash_share", self.crash_share, 0, 1)
        shares = self.transient_share + self.permanent_share + self.crash_share
        _within("transient_share + permanent_share + crash_share", shares, 0, 1)
        _within("arrival_rate_per_s", self.arrival_rate_per_s, 0, 100_000)


#: What makes tasks of one kind: all but the seed, which only draws others.
KIND = tuple(field.name for field in fields(Workload) if field.name != "seed")


def generate(workload: Workload, run_id: str) -> pd.DataFrame:
    """Generate the tasks of a run.

    Returns one row a task, in order of arrival: task_id (str), task_type (category), priority (Int8), message_group
    (str, missing without `groups`), data (str, JSON), offset_s (float64: arrival after the start of the run, 0 in a
    burst).
    """
    if not is_id(run_id) or len(run_id) > 100:
        raise BadInput(f"run_id {run_id!r} is not allowed: at most 100 letters, digits or any of _ . : -")
    n, random = workload.n_tasks, np.random.default_rng(workload.seed)
    types = _draw(random, n, read_mix(workload.mix))
    priorities = _draw(random, n, read_priorities(workload.priorities))
    seconds = workload.duration_median_s * np.exp(random.normal(0.0, 1.0, n) * workload.duration_sigma)
    fate = random.random(n)
    flavour = random.integers(0, 2, n)
    rate = workload.arrival_rate_per_s
    offsets = random.exponential(1 / rate, n).cumsum() if rate else np.zeros(n)
    # Drawn last, so that the same seed makes the same tasks with and without groups.
    groups = _draw(random, n, read_groups(workload.groups)) if workload.groups.strip() else [None] * n
    data = [
        json.dumps({**_data(kind, i), "simulate": _simulate(workload, s, f, v)}, separators=(",", ":"))
        for i, (kind, s, f, v) in enumerate(zip(types, seconds.tolist(), fate.tolist(), flavour.tolist(), strict=True))
    ]
    return pd.DataFrame(
        {
            "task_id": pd.array([f"{run_id}-{i:07d}" for i in range(n)], dtype="str"),
            "task_type": pd.Categorical(types, categories=task_types()),
            "priority": pd.array(priorities.astype(np.int8), dtype="Int8"),
            "message_group": pd.array(groups, dtype="str"),
            "data": pd.array(data, dtype="str"),
            "offset_s": offsets,
        }
    )


def _simulate(workload: Workload, seconds: float, fate: float, flavour: int) -> dict[str, Any]:
    """Return `data.simulate` of one task; defaults are left out, so that a usual body stays small."""
    simulate: dict[str, Any] = {"seconds": round(min(seconds, 900.0), 4)}
    if fate < workload.permanent_share:
        error, retryable = PERMANENT_ERRORS[flavour]
        simulate |= {"fail_attempts": -1, "error": error} | ({} if retryable else {"retryable": False})
    elif fate < workload.permanent_share + workload.transient_share:
        simulate |= {"fail_attempts": 1, "error": TRANSIENT_ERRORS[flavour]}
    elif fate < workload.permanent_share + workload.transient_share + workload.crash_share:
        simulate |= {"crash_attempts": -1}
    return simulate


def _data(kind: str, index: int) -> dict[str, Any]:
    if kind in _DATA:
        return _DATA[kind](index)
    plain: dict[type, Any] = {str: f"value-{index}", int: index, dict: {}}
    return {name: plain[task_type(kind).fields[name]] for name in sorted(task_type(kind).required)}


def read_mix(text: str) -> dict[str, float]:
    """Read `TYPE:WEIGHT,...` (`=` serves as well); raises `BadInput` that names the known types."""
    return _weights("mix", text, set(task_types()))


def read_priorities(text: str) -> dict[str, float]:
    """Read `PRIORITY:WEIGHT,...` likewise; raises `BadInput`."""
    return _weights("priorities", text, {str(priority) for priority in range(PRIORITY_MIN, PRIORITY_MAX + 1)})


def read_groups(text: str) -> dict[str, float]:
    """Read `GROUP:WEIGHT,...` likewise, with names of letters, digits, _ . and -; an empty text names none.

    Raises `BadInput`.
    """
    return _weights("groups", text, None) if text.strip() else {}


def _draw(random: np.random.Generator, n: int, weights: dict[str, float]) -> Any:
    shares = np.array(list(weights.values()))
    return random.choice(list(weights), size=n, p=shares / shares.sum())


def _weights(name: str, text: str, allowed: set[str] | None) -> dict[str, float]:
    """Read names and weights; where no names are given as allowed, any that is a group is."""
    names = "of 1 to 128 letters, digits, _ . and -" if allowed is None else f"from {', '.join(sorted(allowed))}"
    hint = f"Write {name} as NAME:WEIGHT,... with names {names} and weights of 0 or more."
    weights: dict[str, float] = {}
    for part in text.split(","):
        key, _, weight = (piece.strip() for piece in part.replace("=", ":", 1).partition(":"))
        try:
            value = float(weight or "1")
        except ValueError:
            value = -1.0
        known = _GROUP.fullmatch(key) if allowed is None else key in allowed
        if not known or not 0 <= value < 1e9 or key in weights:
            raise BadInput(f"{name} has a part that is not allowed: {part.strip()!r}.", hint)
        weights[key] = value
    if sum(weights.values()) == 0:
        raise BadInput(f"{name} has no weight above 0: {text!r}.", hint)
    return weights


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise BadInput(f"{name} is {value!r}; allowed is {low:,} to {high:,}.")
