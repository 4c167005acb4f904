"""Run all notebooks in their order and write a report into runs/<run id>/.

A run that was interrupted, failed or killed goes on with the same command and its --run-id: what was sent is not sent
again. On the local target the embedded engine is started where it is not running, and stopped again at the end.

With --from FOLDER nothing is run: the pages of that run are rendered anew from what lies there, without AWS.
"""

from __future__ import annotations

import argparse
import json
from contextlib import AbstractContextManager, nullcontext

from taskq_lib.aws.target import connect
from taskq_lib.commands import options
from taskq_lib.errors import BadInput, RunDamaged
from taskq_lib.local import engine
from taskq_lib.lock import alone
from taskq_lib.report import chain, pages, provenance, runs


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; what is not given keeps the notebooks' own defaults."""
    options.of_notebooks(parser, "id of the run; default made from the time")
    parser.add_argument(
        "--from", dest="source", metavar="RUN", help="render the pages of this run anew: its folder, or its id"
    )
    parser.add_argument(
        "--hide-accounts", action="store_true",
        help="with --from: leave only the last four digits of account ids in notebooks, results and pages, for good",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run the chain, or render a run anew; returns 0, or raises what says why not."""
    given, tell = options.read_notebooks(args), options.teller(args)
    if args.source is not None:
        return _render(args, given)
    if args.hide_accounts:
        raise BadInput("--hide-accounts goes with --from RUN, once the run has ended; nothing was run.")
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


def _render(args: argparse.Namespace, given: dict[str, str]) -> int:
    """Render a run's pages from its folder; what was stored must be whole."""
    if given:
        raise BadInput(f"--from runs nothing, so it takes no {', '.join(sorted(given))}.")
    found = runs.at(args.source)
    with alone(found.folder / "run.lock"):
        now = provenance.data(found)
        if damaged := [entry["damaged"] for entry in now.values() if "damaged" in entry]:
            raise RunDamaged(damaged[0])
        changed = provenance.changed(found, now)
        index = pages.write_run(found, changed, hide_accounts=args.hide_accounts)
    if args.json:
        print(json.dumps({"run_id": found.id, "index": str(index), "data": provenance.whole(now), "changed": changed}))
    else:
        was = f"not those it was made of: {', '.join(changed)}" if changed else f"SHA-256 {provenance.whole(now)}"
        print(f"report: {index}\nin brief: {index.with_name('summary.md')}\ndata: {was}")
    return 0


def _hosted(target: str) -> AbstractContextManager[object]:
    """Return what must be up around the run: the engine for the local target, nothing for any other."""
    return engine.running() if target == "local" else nullcontext()
