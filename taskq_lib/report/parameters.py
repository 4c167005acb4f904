"""The parameters of all notebooks: one name, one meaning, one type and range; strict before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from taskq_lib.analysis import service_levels
from taskq_lib.aws import stack, template
from taskq_lib.errors import BadInput, did_you_mean
from taskq_lib.merge_patch import read_edit
from taskq_lib.report import selection
from taskq_lib.workload import read_groups, read_mix, read_priorities

Value = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What a notebook's parameter may be."""

    kind: type[Value]
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    form: Callable[[str], object] | None = None  #: Raises `BadInput` where a text does not have the form it needs

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        if self.choices:
            return " or ".join(self.choices)
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[self.kind]
        return f"{words} from {self.low:,} to {self.high:,}" if self.low is not None else words


PARAMETERS: dict[str, Parameter] = {
    # Where
    "target": Parameter(kind=str, choices=("local", "aws")),
    "region": Parameter(kind=str),
    "stack_name": Parameter(kind=str, form=stack.check_name),
    "run_id": Parameter(kind=str),
    "runs_dir": Parameter(kind=str),
    # Deploy and tear down
    "stack_parameters": Parameter(kind=str, form=template.read_parameters),
    "allow_replacement": Parameter(kind=bool),
    "preview_only": Parameter(kind=bool),
    "dry_run": Parameter(kind=bool),
    "delete_table": Parameter(kind=bool),
    "discard_messages": Parameter(kind=bool),
    # Fail over
    "failover_region": Parameter(kind=str),
    "table_name": Parameter(kind=str),
    "first_answers": Parameter(kind=bool),
    # The workload
    "n_tasks": Parameter(kind=int, low=1, high=10_000_000),
    "seed": Parameter(kind=int, low=0, high=2**32 - 1),
    "mix": Parameter(kind=str, form=read_mix),
    "priorities": Parameter(kind=str, form=read_priorities),
    "groups": Parameter(kind=str, form=read_groups),
    "duration_median_s": Parameter(kind=float, low=0, high=900),
    "duration_sigma": Parameter(kind=float, low=0, high=3),
    "transient_share": Parameter(kind=float, low=0, high=1),
    "permanent_share": Parameter(kind=float, low=0, high=1),
    "crash_share": Parameter(kind=float, low=0, high=1),
    "arrival_rate_per_s": Parameter(kind=float, low=0, high=100_000),
    # Reading
    "timeout_s": Parameter(kind=float, low=0, high=86_400),
    "since_hours": Parameter(kind=float, low=0, high=24 * 3650),
    "max_dead_letters": Parameter(kind=int, low=0, high=1_000_000),
    "objectives": Parameter(kind=str, form=service_levels.read),
    # An export of the table
    "export": Parameter(kind=str),
    "tables_dir": Parameter(kind=str),
    # Cost
    "price_table": Parameter(kind=str),
    "tasks_per_month": Parameter(kind=int, low=1, high=10**12),
    # Comparison
    "baseline": Parameter(kind=str),
    "margin_percent": Parameter(kind=float, low=0.1, high=99),
    "failure_points": Parameter(kind=float, low=0.01, high=99),
    # Redrive
    **{name: Parameter(kind=str, form=form) for name, form in selection.FORMS.items()},
    "select_all": Parameter(kind=bool),
    "max_messages": Parameter(kind=int, low=1, high=100_000),
    "edit": Parameter(kind=str, form=read_edit),
    "rate_per_s": Parameter(kind=float, low=0, high=10_000),
    "canary_n": Parameter(kind=int, low=0, high=10_000),
    # Pause and resume
    "action": Parameter(kind=str, choices=("pause", "resume")),
}


def check(given: Mapping[str, Any]) -> dict[str, Value]:
    """Check a notebook's parameters, called with `globals()`; returns those it has, typed.

    Raises `BadInput` that names the parameter, its value and what is allowed.
    """
    return {name: _checked(name, given[name]) for name in PARAMETERS if name in given}


def parse(given: Mapping[str, str], declared: Iterable[str]) -> dict[str, Value]:
    """Read command-line texts by the parameters' own types, so that `007` stays a text where a text is meant.

    Raises `BadInput` for a name that no notebook declares, or a value that is not allowed.
    """
    declared = sorted(declared)
    for name in given:
        if name not in declared:
            hint = f"{did_you_mean(name, declared)}There are {', '.join(declared)}."
            if name in template.parameters():
                hint = f"It is one of the stack's: -p stack_parameters {name}:{given[name]} (several: NAME:VALUE,...)."
            raise BadInput(f"No notebook declares a parameter {name!r}; nothing was run.", hint)
    return {name: _checked(name, _read(PARAMETERS[name].kind, text)) for name, text in given.items()}


def _read(kind: type[Value], text: str) -> Any:
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind is str:
        return text
    try:
        # `int` would read 1_000 as a number; what is typed must look like one.
        return text if "_" in text else kind(text)
    except ValueError:
        return text


def _checked(name: str, value: Any) -> Value:
    parameter = PARAMETERS[name]
    if parameter.kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    fits = type(value) is parameter.kind
    if fits and parameter.choices:
        fits = value in parameter.choices
    if fits and parameter.low is not None and parameter.high is not None:
        fits = parameter.low <= value <= parameter.high
    if not fits:
        raise BadInput(f"Parameter {name} is {value!r}; allowed is {parameter.allowed}.")
    if parameter.form:
        parameter.form(value)
    checked: Value = value
    return checked
