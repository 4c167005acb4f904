"""Run one notebook, of the chain or not, into a run's folder, print what it printed, and write its page.

On the local target the embedded engine must be up (`taskq local start`): one notebook acts on what is there already.
"""

from __future__ import annotations

import argparse
import json

from taskq_lib.aws.target import connect
from taskq_lib.commands import options
from taskq_lib.report import by_hand, chain


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; what is not given keeps the notebook's own defaults."""
    parser.add_argument("notebook", metavar="NOTEBOOK", help="its name, such as 51_redrive")
    what = "run it belongs to; default a new one, the newest where the notebook reads one, none for 52 and 90"
    options.of_notebooks(parser, what)


def run(args: argparse.Namespace) -> int:
    """Run it; returns 0, or raises what says why not."""
    notebook = chain.find(args.notebook)
    given, tell = options.read_notebooks(args), options.teller(args)
    chosen = chain.checked(given, [notebook])
    if chain.needs_aws(notebook, chosen):
        connect(str(chosen.get("target", "local")), given.get("region")).identity()
    kept = by_hand.keeps_a_run(notebook, chosen)
    with by_hand.folder_for(notebook, chosen) as found:
        chosen["run_id"] = found.id if kept else ""
        if kept:
            tell(f"run {found.id}\n")
        page = by_hand.execute(notebook, found, chosen, tell)
    if args.json:
        files = {"page": page, "index": found.folder / "index.html", "results": found.folder / "results.json"}
        kept_files = {name: str(path) for name, path in files.items()} if kept else {}
        print(json.dumps({"run_id": found.id if kept else None} | kept_files))
    return 0
