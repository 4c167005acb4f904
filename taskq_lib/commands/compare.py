"""Say whether a run is worse than its baseline, from their folders alone: `taskq compare RUN BASELINE [BASELINE ...]`.

RUN, the first, is judged; the others are what it is held to. Exit code 0: pass, no figure is worse by more than its
margin. 1: fail, a figure is worse and beyond its margin. 3: not enough data for either. Several baseline runs show how
much runs differ among themselves; a single one cannot. docs/compare.md says what the verdicts promise.
"""

from __future__ import annotations

import argparse
import json

from taskq_lib.analysis import compare
from taskq_lib.commands import options
from taskq_lib.errors import BadInput
from taskq_lib.report import runs
from taskq_lib.report.compare import Comparison, of_runs

EXIT_CODES = {compare.PASS: 0, compare.FAIL: 1, compare.UNSURE: 3}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", help="id of the run that is judged")
    parser.add_argument("baseline", metavar="BASELINE", nargs="+", help="ids of the runs it is held to; five are good")
    parser.add_argument("--runs-dir", default=runs.DEFAULT_ROOT, help="folder of the runs; default runs")
    parser.add_argument(
        "--margin", type=float, default=5.0, metavar="PERCENT",
        help="how much longer p50 and p90 may be and steady goodput lower, of p99 twice as much; default 5",
    )  # fmt: skip
    parser.add_argument(
        "--failure-margin", type=float, default=1.0, metavar="POINTS",
        help="by how many percentage points the failure rate may be higher; default 1",
    )  # fmt: skip
    options.as_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the figures side by side and the verdict; returns its exit code."""
    for name in (args.run, *args.baseline):
        if not name:
            raise BadInput("The id of a run is empty.", "`runs/index.html` lists the runs.")
    margins = compare.Margins(slower=args.margin / 100, failures=args.failure_margin / 100)
    baseline = [runs.find(name, args.runs_dir) for name in args.baseline]
    found = of_runs(runs.find(args.run, args.runs_dir), baseline, margins)
    if args.json:
        print(json.dumps({**found.to_dict(), "history": found.trend(), "changes": found.changes}, indent=2))
    else:
        print("\n".join(_lines(found)))
    return EXIT_CODES[found.verdict]


def _lines(found: Comparison) -> list[str]:
    cells = [tuple(found.shown.columns), *found.shown.itertuples(index=False, name=None)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    changed = [f"  {what}: {ours}; baseline {theirs}" for what, ours, theirs in found.changed.itertuples(index=False)]
    return [
        found.runs,
        "",
        *lines,
        "",
        "changed between them:" if changed else "nothing that is recorded changed between them",
        *changed,
        *found.changes,
        "",
        f"verdict: {found.verdict}",
        found.says,
    ]


if __name__ == "__main__":
    import sys

    from taskq_lib.commands.main import main

    raise SystemExit(main(["compare", *sys.argv[1:]]))
