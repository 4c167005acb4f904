"""How the kit's own values look where a cell ends with one: a table in a notebook, lines of text in a terminal.

IPython is told here, by the name of each class: the classes themselves know nothing of HTML, and none is loaded for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from taskq_lib import attended
from taskq_lib.report import show

if TYPE_CHECKING:
    from taskq_lib.analysis.ledger import Ledger
    from taskq_lib.aws.stack import Preview, Stack
    from taskq_lib.aws.status import Statuses
    from taskq_lib.aws.target import Target
    from taskq_lib.report.data import Data
    from taskq_lib.report.runs import Run

#: What a value is, in names and values.
Facts = Mapping[str, Any]


def register() -> None:
    """Tell IPython, if this runs in it, how to show each; a second time changes nothing."""
    shell = attended.shell()
    if shell is None or shell.display_formatter is None:
        return
    html, plain = (shell.display_formatter.formatters[kind] for kind in ("text/html", "text/plain"))
    for (module, name), facts in BY_NAME.items():
        html.for_type_by_name(module, name, lambda value, facts=facts: show.facts(facts(value)).data)
        plain.for_type_by_name(
            module, name, lambda value, printer, _cycle, facts=facts: printer.text(text(facts(value)))
        )


def text(facts: Facts) -> str:
    """Write facts as lines of text, the values one below the other."""
    width = max(map(len, facts), default=0)
    return "\n".join(f"{name:<{width}}  {show.text(value)}" for name, value in facts.items())


def _target(target: Target) -> Facts:
    return {"target": target.name, "region": target.region, "endpoint": target.endpoint_url or "AWS"}


def _stack(stack: Stack) -> Facts:
    """Its names; none of them holds the account's number."""
    first, *second = stack.queues
    return {
        "stack": stack.name,
        "status": stack.status,
        **_target(stack.target),
        "queue": first.name,
        **{f"queue for {queue.takes}": queue.name for queue in second},
        "dead-letter queue": stack.dead_letter_queue_url.rpartition("/")[2],
        "status table": stack.table,
        "index by time": stack.time_index or "none",
    }


def _preview(preview: Preview) -> Facts:
    changes = preview.changes
    named = [f"{row.action} {row.resource} ({row.type})" for row in changes.head(5).itertuples()]
    more = [f"and {len(changes) - 5:,} more"] * (len(changes) > 5)
    return {"stack": preview.name, "change": preview.kind, "resources": ", ".join([*named, *more]) or "none"}


def of_run(run: Run) -> Facts:
    """Return what a run's folder says of it: run, state, created, tasks, ledger, folder."""
    results = run.results()
    there = run.manifest.is_file()
    ledger = results.get("ledger")
    facts = {
        "run": run.id,
        "state": results.get("state", "by hand"),
        "created": results.get("created_at", "not known"),
        "tasks": pq.read_metadata(run.manifest).num_rows if there else "none submitted",
        "ledger": "not closed yet",
        "folder": run.folder,
    }
    if ledger:
        counts = ", ".join(f"{ledger[name]:,} {name.replace('_', '-')}" for name in _SIDES)
        facts["ledger"] = f"{'closed' if ledger['closed'] else 'open'}: {counts}"
    return facts


_SIDES = ("submitted", "completed", "dead_lettered", "open", "lost")


def _ledger(ledger: Ledger) -> Facts:
    named = {"open tasks": ledger.open_ids, "lost tasks": ledger.lost_ids}
    return {
        "ledger": "closed" if ledger.closed else "open",
        **{name.replace("_", "-"): getattr(ledger, name) for name in _SIDES},
        **{name: ", ".join(ids[:10]) for name, ids in named.items() if ids},
        "duplicate deliveries": ledger.duplicates,
        "attempts": ledger.attempts,
        "redriven tasks": ledger.redriven,
    }


def _data(data: Data) -> Facts:
    """How much there is of what; the frames themselves are its attributes."""
    return {
        "source": data.source,
        "tasks": len(data.tasks),
        "attempts": len(data.attempts),
        "dead letters": len(data.dead),
        "window": data.window,
        "inventory": data.inventory,
    }


def _statuses(found: Statuses) -> Facts:
    """All that is known of one task; of several, how many are in which state."""
    tasks = found.tasks
    if len(tasks) == 1:
        return {str(name): value for name, value in tasks.iloc[0].items() if show.text(value)}
    states = tasks["state"].value_counts()
    return {
        "tasks": len(tasks),
        **{str(state): int(n) for state, n in states.items() if n},
        "attempts": len(found.attempts),
    }


def _fields(value: Any) -> Facts:
    """Its fields, those of a task or of what makes many."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


#: Module and name of a class, and what is said of a value of it.
BY_NAME: dict[tuple[str, str], Callable[[Any], Facts]] = {
    ("taskq_lib.aws.target", "Target"): _target,
    ("taskq_lib.aws.stack", "Stack"): _stack,
    ("taskq_lib.aws.stack", "Preview"): _preview,
    ("taskq_lib.aws.status", "Statuses"): _statuses,
    ("taskq_lib.aws.status", "Waited"): _fields,
    ("taskq_lib.aws.queues", "Counts"): lambda counts: counts.facts(),
    ("taskq_lib.analysis.ledger", "Ledger"): _ledger,
    ("taskq_lib.report.runs", "Run"): of_run,
    ("taskq_lib.report.data", "Data"): _data,
    ("taskq_lib.workload", "Workload"): _fields,
    ("taskq_worker.contract", "Task"): _fields,
}
