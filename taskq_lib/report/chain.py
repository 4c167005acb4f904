"""Run the notebooks of the chain in their order, strictly, into a run's folder."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import papermill

from taskq_lib import PROJECT_ROOT
from taskq_lib.errors import BadInput, NotebookFailed, RunExists
from taskq_lib.report import kernels, pages, runs, selection, words
from taskq_lib.report.parameters import Value, parse
from taskq_lib.report.runs import Run
from taskq_lib.report.spare import started_ahead
from taskq_lib.report.versions import versions
from taskq_lib.workload import Workload

NOTEBOOKS = PROJECT_ROOT / "notebooks"
#: Sections of the results that a later call of the same run must not show before it has found them again.
_FINDINGS = (
    "read", "ledger", "breakers", "latency", "censored", "slowest", "clocks", "objectives", "throughput", "signatures",
    "failure_rate", "dead_letters", "safety_net", "stuck", "order", "monitor", "cost", "compare", "history",
    "changes", "data", "notebooks_s", "finished_at", "failure",
)  # fmt: skip


def notebooks() -> list[Path]:
    """Return the notebooks of the chain: those whose number ends in 0; their numbers are their order.

    The others are run one by one, when a person has decided to (`taskq run`).
    """
    return sorted(NOTEBOOKS.glob("[0-9]0_*.ipynb"))


def find(name: str) -> Path:
    """Return the notebook of this name, such as 51_redrive, of the chain or not; raises `BadInput`."""
    known = {path.stem: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(known)}."
        raise BadInput(f"There is no notebook {name!r}; nothing was run.", hint)
    return known[name]


def defaults(wanted: Sequence[Path]) -> dict[str, Value]:
    """Return every parameter of these notebooks with its own value there."""
    found = [papermill.inspect_notebook(str(notebook)) for notebook in wanted]
    return {name: ast.literal_eval(entry["default"]) for entries in found for name, entry in entries.items()}


def checked(given: Mapping[str, str], wanted: Sequence[Path] | None = None) -> dict[str, Value]:
    """Read parameters of the chain, or of the notebooks `wanted`, from texts as a command line gives them.

    Raises `BadInput` before anything runs.
    """
    chosen = parse(given, set().union(*(kernels.declared(notebook) for notebook in wanted or notebooks())))
    # Some values are allowed alone and not together; the workload and the selection know which.
    selection.check(chosen)
    fields = {field.name for field in dataclasses.fields(Workload)}
    Workload(**{"n_tasks": 1} | {name: value for name, value in chosen.items() if name in fields})  # type: ignore[arg-type]
    return chosen


@contextmanager
def prepared(chosen: Mapping[str, Value]) -> Iterator[Run]:
    """Yield the run to execute, which no other process executes meanwhile: a new one, or one that did not end well.

    Raises `BadInput` or `RunExists` and leaves nothing behind then.
    """
    with runs.open_for_report(str(chosen.get("run_id", "")), str(chosen.get("runs_dir", runs.DEFAULT_ROOT))) as run:
        _refuse_others(run, chosen)
        yield run


def _refuse_others(run: Run, chosen: Mapping[str, Value]) -> None:
    """Raise `RunExists` where an earlier call made other tasks than these, or sent them elsewhere."""
    own = defaults(notebooks())
    values = own | dict(chosen)
    # A run that is new, or was killed before it began, is held to nothing.
    earlier = run.results().get("parameters", values)
    names = {"target", "region", "stack_name"} | {field.name for field in dataclasses.fields(Workload)}
    if differing := sorted(name for name in names & values.keys() if earlier.get(name) != values[name]):
        told = ", ".join(f"{name} {earlier.get(name)!r} and not {values[name]!r}" for name in differing)
        given = [f"{name}={value}" for name, value in earlier.items() if name != "run_id" and value != own.get(name)]
        command = shlex.join(["taskq", "report", "--run-id", run.id, *(word for one in given for word in ("-p", one))])
        raise RunExists(
            f"Run {run.id!r} was begun with {told}.", f"`{command}` goes on with it; or choose another --run-id."
        )


def reads_a_run(notebook: Path, chosen: Mapping[str, Value]) -> bool:
    """Whether a notebook is to read a run that was submitted, and not to act or to read a time window."""
    names = kernels.declared(notebook)
    # What declares no target reads a run's folder alone, and so needs no AWS.
    return "run_id" in names and ("target" not in names or ("since_hours" in names and not chosen.get("since_hours")))


def needs_aws(notebook: Path, chosen: Mapping[str, Value]) -> bool:
    """Whether a notebook is to speak to AWS: what declares no target cannot, what reads a run need not."""
    return "target" in kernels.declared(notebook) and not reads_a_run(notebook, chosen)


def execute(run: Run, chosen: Mapping[str, Value], tell: Callable[[str], object] = print) -> Path:
    """Run the chain and write the run's pages; returns the path of `index.html`.

    What an earlier call of the same run showed and found goes first; what it submitted stays.
    `tell` is given pieces of text: when a notebook starts and when it ends, then the ledger and the report's path.
    However it ends, the pages of what ran are written. Raises `NotebookFailed`, naming notebook, cell and error of the
    first failure.
    """
    started, before = time.monotonic(), run.results()
    begun_at = before.get("started_at")
    run.record(
        **dict.fromkeys(_FINDINGS),
        state="running",
        target=chosen.get("target", "local"),
        parameters=defaults(notebooks()) | dict(chosen),
        started_at=begun_at or runs.now(),
        resumed={"at": runs.now(), "state": before.get("state")} if begun_at else None,
        versions=versions(),
    )
    for notebook in notebooks():
        for kind in (".ipynb", ".html"):
            (run.folder / notebook.with_suffix(kind).name).unlink(missing_ok=True)
    seconds: dict[str, float] = {}
    state, failure = "interrupted", "The run was interrupted; what ran until then is below."
    try:
        failed = _execute_all(run, chosen, seconds, tell)
        state, failure = ("failed", str(failed)) if failed else ("complete", "")
    finally:
        took_s = round(time.monotonic() - started, 1)
        found = {"state": state, "failure": failure or None, "notebooks_s": seconds, "duration_s": took_s}
        run.record(**found, finished_at=runs.now())
        index = pages.write_all(run)
        if ledger := run.results().get("ledger"):
            tell(f"the ledger is {'closed' if ledger['closed'] else 'open'}: {words.account(ledger)}\n")
        tell(f"in brief, for a CI job or a chat: {index.with_name('summary.md')}\nreport: {index}\n")
    if failed:
        raise failed
    return index


def _execute_all(
    run: Run, chosen: Mapping[str, Value], seconds: dict[str, float], tell: Callable[[str], object]
) -> NotebookFailed | None:
    """Run the chain, noting how long each notebook took; returns the first failure.

    Nothing acts after a failure. But where a notebook that reads has failed, as 30_status does by an open ledger, the
    others that read show what they can: whoever looks at such a run wants to know why.
    """
    first: NotebookFailed | None = None
    with started_ahead(run.folder / kernels.LOG, len(notebooks())) as spares:
        for notebook in notebooks():
            # What an earlier call has read must not be shown in place of what could not be read now.
            if first and not (reads_a_run(notebook, chosen) and "read" in run.results()):
                break
            tell(f"  {notebook.stem:<18}")
            begun = time.monotonic()
            try:
                kernels.execute(notebook, run.folder / notebook.name, run, chosen, spares)
            except NotebookFailed as error:
                first = first or error
                tell(" failed\n")
                continue
            except BaseException:
                tell(" interrupted\n")
                raise
            seconds[notebook.stem] = round(time.monotonic() - begun, 1)
            tell(f" {seconds[notebook.stem]:6.1f} s\n")
    return first
