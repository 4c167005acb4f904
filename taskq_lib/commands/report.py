"""Run all notebooks in their order and write a report into runs/<run id>/.

A run that was interrupted, failed or killed goes on with the same command and its --run-id: what was sent is not sent
again. On the local target the embedded engine is started where it is not running, and stopped again at the end.
"""

from __future__ import annotations

import argparse
import json
from contextlib import AbstractContextManager, nullcontext

from taskq_lib.aws.target import connect
from taskq_lib.commands import options
from taskq_lib.local import engine
from taskq_lib.report import chain


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; what is not given keeps the notebooks' own defaults."""
    options.of_notebooks(parser, "id of the run; default made from the time")


def run(args: argparse.Namespace) -> int:
    """Run the chain; returns 0, or raises what says why not."""
    given, tell = options.read_notebooks(args), options.teller(args)
    chosen = chain.checked(given)
    target = str(chosen.get("target", "local"))
    with _hosted(target):
        connect(target, given.get("region")).identity()
        with chain.prepared(chosen) as run_:
            chosen["run_id"] = run_.id
            tell(f"run {run_.id}\n")
            index = chain.execute(run_, chosen, tell)
    if args.json:
        print(json.dumps({"run_id": run_.id, "index": str(index), "results": str(run_.folder / "results.json")}))
    return 0


def _hosted(target: str) -> AbstractContextManager[object]:
    """Return what must be up around the run: the engine for the local target, nothing for any other."""
    return engine.running() if target == "local" else nullcontext()
