"""12_failover's action, cell by cell: what is done to the first region, and when."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from taskq_lib import PROJECT_ROOT
from taskq_lib.errors import StackFailed

CELLS = json.loads((PROJECT_ROOT / "notebooks" / "12_failover.ipynb").read_text())["cells"]


def source(of: str) -> str:
    """Return the one code cell that calls this."""
    [found] = [
        text for text in ("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code") if of in text
    ]
    return found


def names(done: list[str], *, fails: bool) -> dict[str, Any]:
    """Return what the cell refers to; each call is added to `done`."""

    def execute(_planned: object) -> SimpleNamespace:
        done.append("execute")
        if fails:
            raise StackFailed("It ended as ROLLBACK_COMPLETE.")
        return SimpleNamespace(name="s", status="CREATE_COMPLETE")

    def call(what: str) -> Any:
        def called(*_: object, **__: object) -> str:
            done.append(what)
            return what

        return called

    return {
        "dry_run": False, "planned": None, "first": "first", "timeout_s": 1.0,
        "there": SimpleNamespace(region="eu-west-1"),
        "stack": SimpleNamespace(execute=execute),
        "replacement": SimpleNamespace(refuse=call("refuse")),
        "control": SimpleNamespace(pause=call("pause"), wait_enabled=call("wait_enabled")),
    }  # fmt: skip


def test_the_first_region_is_paused_once_the_second_can_work() -> None:
    """The second stack is deployed and takes messages before the first is paused."""
    done: list[str] = []
    exec(source("stack.execute"), names(done, fails=False))  # noqa: S102 - the notebook's own cell
    assert done == ["refuse", "execute", "wait_enabled", "pause"]


def test_the_first_region_works_on_where_the_second_cannot_be_deployed() -> None:
    """A deployment that fails leaves the first region as it is: nothing pauses it."""
    done: list[str] = []
    with pytest.raises(StackFailed):
        exec(source("stack.execute"), names(done, fails=True))  # noqa: S102 - the notebook's own cell
    assert done == ["refuse", "execute"]


def test_the_plan_shows_every_parameter_of_the_second_stack() -> None:
    """Without the first region what is not given is a default, so all that would be deployed is shown before."""
    shown: list[object] = []
    parameters = {"MaxAttempts": "3"}
    exec(  # noqa: S102 - the notebook's own cell
        source("planned.parameters"),
        {"planned": SimpleNamespace(parameters=parameters), "show": SimpleNamespace(facts=shown.append)},
    )
    assert shown == [parameters]
    plan = next(text for text in ("".join(cell["source"]) for cell in CELLS) if "with all of its parameters" in text)
    assert "must be given in `stack_parameters`" in plan
