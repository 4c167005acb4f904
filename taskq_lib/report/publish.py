"""What of a run leaves this machine, and that no secret goes with it."""

from __future__ import annotations

from pathlib import Path

from taskq_lib.errors import LeakFound, RunNotFound
from taskq_lib.report import scrub
from taskq_lib.report.runs import Run

#: What is uploaded, and what of it only with the data: task data and error texts as they came.
_PAGES, _DATA = ("*.html", "summary.md", "results.json"), ("*.parquet", "[0-9][0-9]_*.ipynb")


def files(run: Run, *, with_data: bool = False) -> list[Path]:
    """Return the files to publish, `index.html` last, so that it appears once all that it links to is there.

    Raises `RunNotFound` where the run has no report.
    """
    patterns = _PAGES + _DATA * with_data
    index = run.folder / "index.html"
    if not index.is_file():
        raise RunNotFound(f"Run {run.id!r} has no report yet.", "`taskq report --from RUN` renders one.")
    return [*sorted({path for pattern in patterns for path in run.folder.glob(pattern)} - {index}), index]


def check_clean(paths: list[Path]) -> None:
    """Raise `LeakFound` where one of these files of text holds a secret, naming files and kinds, never the secret."""
    own = scrub.environment()
    found = {
        path.name: kinds
        for path in paths
        if path.suffix != ".parquet" and (kinds := scrub.leaks(path.read_text(encoding="utf-8", errors="replace"), own))
    }
    if found:
        told = "; ".join(f"{name}: {', '.join(kinds)}" for name, kinds in found.items())
        raise LeakFound(f"What is to be published holds secrets, and nothing was uploaded: {told}.")
