"""What state things are in: what the start page says before anything is opened."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from taskq_lib.aws import control, queues, stack
from taskq_lib.aws.target import connect
from taskq_lib.errors import StackNotFound, TaskqError
from taskq_lib.report import looks, runs


def look(target: str, region: str, stack_name: str, runs_dir: str) -> pd.DataFrame:
    """Look at the target, the stack and its queues, and the newest run; changes nothing.

    Returns one row each: what, state, next (all str). What is not there is a state as well, and says what to do.
    """
    wanted: dict[str, Callable[[], tuple[str, str]]] = {
        "target": lambda: _target(target, region),
        "stack": lambda: _stack(target, region, stack_name),
        "newest run": lambda: _run(runs_dir),
    }
    rows = [(what, *_answer(ask)) for what, ask in wanted.items()]
    return pd.DataFrame(rows, columns=["what", "state", "next"], dtype="str")


def _answer(ask: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    try:
        return ask()
    except TaskqError as error:
        return str(error.args[0]), error.hint


def _target(target: str, region: str) -> tuple[str, str]:
    here = connect(target, region or None)
    here.identity()
    return f"{target} answers: {here.endpoint_url or 'AWS'}, {here.region}", ""


def _stack(target: str, region: str, stack_name: str) -> tuple[str, str]:
    try:
        live = stack.describe(connect(target, region or None), stack_name)
    except StackNotFound as error:
        return str(error.args[0]), "10_deploy deploys it"
    counts, mapping = queues.counts(live), control.state(live)
    held = ", ".join(f"{n:,} {what}" for what, n in counts.facts().items())
    after = "20_submit puts tasks on it" if mapping == "Enabled" else "52_pause_resume starts it again"
    if counts.n_dead:
        after = "50_failures says why tasks are dead letters, 51_redrive runs them again"
    return f"{live.name} is {live.status}, its mapping {mapping}; messages: {held}", after


def _run(runs_dir: str) -> tuple[str, str]:
    if not runs.listed(runs_dir):
        return f"none in {runs.root_folder(runs_dir)}", "20_submit makes one"
    run = runs.find("", runs_dir)
    facts, is_closed = looks.of_run(run), run.results().get("ledger", {}).get("closed")
    after = "50_failures and 40_latency look into it" if is_closed else "30_status closes its ledger"
    return f"{facts['run']}, {facts['state']}: {facts['tasks']} tasks; ledger {facts['ledger']}", after
