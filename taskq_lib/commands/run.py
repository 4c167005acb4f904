"""Run one notebook, of the chain or not, into a run's folder, and write its page.

On the local target the embedded engine must be up (`taskq local start`): one notebook acts on what is there already.
"""

from __future__ import annotations

import argparse
import json

from taskq_lib.aws.target import connect
from taskq_lib.commands import options
from taskq_lib.lock import alone
from taskq_lib.report import chain


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; what is not given keeps the notebook's own defaults."""
    parser.add_argument("notebook", metavar="NOTEBOOK", help="its name, such as 51_redrive")
    options.of_notebooks(parser, "run it belongs to; default a new one, or the newest where the notebook reads one")


def run(args: argparse.Namespace) -> int:
    """Run it; returns 0, or raises what says why not."""
    notebook = chain.find(args.notebook)
    given, tell = options.read_notebooks(args), options.teller(args)
    chosen = chain.checked(given, [notebook])
    if not chain.reads_a_run(notebook, chosen):
        connect(str(chosen.get("target", "local")), given.get("region")).identity()
    found = chain.folder_for(notebook, chosen)
    chosen["run_id"] = found.id
    tell(f"run {found.id}\n")
    with alone(found.folder / "run.lock"):
        index = chain.run_one(notebook, found, chosen, tell)
    print(json.dumps({"run_id": found.id, "index": str(index), "results": str(found.folder / "results.json")})
          if args.json else f"report: {index}")  # fmt: skip
    return 0
