"""A report by its command, as a program of its own: begun, ended, and what it wrote."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from taskq_lib.report import chain
from tests.notebooks.conftest import Begin, Finish

#: The notebooks of the chain.
NAMES = [path.stem for path in chain.notebooks()]


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report that ended, and where it wrote."""

    state: Path  #: Its TASKQ_STATE_DIR
    folder: Path  #: Its run's folder
    code: int
    out: str
    err: str

    @property
    def results(self) -> dict[str, Any]:
        """What a machine reads."""
        found: dict[str, Any] = json.loads((self.folder / "results.json").read_text())
        return found

    def page(self, name: str) -> str:
        """Return a page's source."""
        return (self.folder / f"{name}.html").read_text()

    def frame(self, name: str) -> pd.DataFrame:
        """Return a frame that the run kept."""
        return pd.read_parquet(self.folder / f"{name}.parquet")

    @property
    def pages(self) -> set[str]:
        """Return the names of the pages that are there."""
        return {path.stem for path in self.folder.glob("*.html")}


class Started:
    """A report that was begun, under the id `r`, in a folder of its own."""

    def __init__(self, begin: Begin, base: Path, *argv: str, **options: Any) -> None:
        """Begin it; `state` is its state folder where it is not to have one of its own."""
        self.state: Path = options.pop("state", base / "state")
        self.folder = base / "runs" / "r"
        argv = ("report", "--run-id", "r", "-p", "runs_dir", str(base / "runs"), *argv)
        self.process = begin(self.state, *argv, **options)

    def ended(self, finish: Finish) -> Report:
        """Wait for its end."""
        done = finish(self.process)
        return Report(state=self.state, folder=self.folder, code=done.returncode, out=done.stdout, err=done.stderr)
