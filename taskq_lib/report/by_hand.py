"""Run one notebook by hand, of the chain or not: into a run's folder, beside what is there."""

from __future__ import annotations

import itertools as it
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from taskq_lib.errors import NotebookFailed
from taskq_lib.lock import alone
from taskq_lib.report import chain, executed, kernels, pages, runs
from taskq_lib.report.parameters import Value
from taskq_lib.report.runs import Run
from taskq_lib.report.versions import versions

#: What these do, or look at, belongs to the stack: where no run is named they leave no folder.
_OF_THE_STACK = {"01_start", "11_doctor", "52_pause_resume", "90_teardown"}


def keeps_a_run(notebook: Path, chosen: Mapping[str, Value]) -> bool:
    """Whether what one notebook shows and records is kept in a run's folder."""
    return bool(chosen.get("run_id")) or notebook.stem not in _OF_THE_STACK


@contextmanager
def folder_for(notebook: Path, chosen: Mapping[str, Value]) -> Iterator[Run]:
    """Yield the run whose folder one notebook goes into, held by this process alone.

    One that is named must be there, unless it is to be submitted. Where none is named, a notebook that reads a run
    takes the newest, as it does by hand, and another gets a new one; but what is done to the stack alone, one that is
    gone afterwards.
    """
    named, root = str(chosen.get("run_id", "")), str(chosen.get("runs_dir", runs.DEFAULT_ROOT))
    with tempfile.TemporaryDirectory() as nowhere:
        if named and notebook.stem == "20_submit":
            run = runs.open_for_submit(named, root)
        elif named or chain.reads_a_run(notebook, chosen):
            run = runs.find(named, root)
        else:
            run = runs.create("", root if keeps_a_run(notebook, chosen) else nowhere)
        with alone(run.folder / "run.lock"):
            yield run


def execute(notebook: Path, run: Run, chosen: Mapping[str, Value], tell: Callable[[str], object] = print) -> Path:
    """Run one notebook into a run's folder and write the run's pages; returns the path of its own.

    What the folder's report says of itself stays, and so does the notebook as it ran before: it is evidence, and the
    new one gets a number. `tell` is given what the notebook printed as well. Raises `NotebookFailed`, naming notebook,
    cell and error.
    """
    before = run.results()
    run.record(
        state=before.get("state", "by hand"),
        target=before.get("target") or chosen.get("target", "local"),
        parameters=before.get("parameters") or chain.defaults([notebook]) | dict(chosen),
        started_at=before.get("started_at") or runs.now(),
        versions=before.get("versions") or versions(),
    )
    names = it.chain([notebook.stem], (f"{notebook.stem}-{n}" for n in it.count(2)))
    output = next(path for name in names if not (path := run.folder / f"{name}.ipynb").exists())
    page, end = output.with_suffix(".html"), "interrupted"
    try:
        tell(f"  {output.stem:<18}")
        begun = time.monotonic()
        kernels.execute(notebook, output, run, chosen)
        end = f"{time.monotonic() - begun:6.1f} s"
    except NotebookFailed:
        end = "failed"
        raise
    finally:
        run.record(finished_at=runs.now())
        pages.write_all(run)
        tell(f" {end}\n{executed.printed(output)}")
        if chosen.get("run_id"):
            tell(f"report: {page}\n")
    return page
