"""Show which old runs would be deleted; --yes deletes them. A run that a process is at stays."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime, timedelta

from taskq_lib.commands import options
from taskq_lib.errors import BadInput
from taskq_lib.report import prune, runs, runs_list


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--keep", type=int, metavar="N", help="all but the newest N runs")
    which.add_argument("--older-than", type=float, metavar="DAYS", help="runs made more than so many days ago")
    parser.add_argument(
        "--runs-dir", default=runs.DEFAULT_ROOT, help=f"folder of the runs; default {runs.DEFAULT_ROOT}"
    )
    parser.add_argument("--yes", action="store_true", help="delete them; without it nothing is changed")
    options.as_json(parser)


def run(args: argparse.Namespace) -> int:
    """Show or delete; returns 0."""
    if args.keep is not None and args.keep < 0:
        raise BadInput(f"--keep is {args.keep}; it is a number of runs, 0 or more.")
    if not (folder := runs.root_folder(args.runs_dir)).is_dir():
        raise BadInput(f"There is no folder {folder}.", "--runs-dir names the folder of the runs.")
    before = _before(args.older_than) if args.older_than is not None else None
    chosen = prune.choose(args.runs_dir, keep=args.keep, before=before)
    lines = [f"{run.id}  {runs.created_at(run)[:19]}  {prune.size(run) / 1e6:,.1f} MB" for run in chosen.old]
    taken = prune.delete(chosen.old) if args.yes else []
    gone = [run.id for run in chosen.old if run not in taken] if args.yes else []
    held = [run.id for run in [*chosen.held, *taken]]
    if gone:
        runs_list.write(args.runs_dir)
    if args.json:
        print(json.dumps({"old": [run.id for run in chosen.old], "deleted": gone, "held": held}))
        return 0
    said = f"deleted: {_runs(len(gone))}" if args.yes else f"to be deleted with --yes: {_runs(len(lines))}"
    print("\n".join([*lines, *(f"{name}  stays: a process is at it" for name in held), said]))
    return 0


def _runs(n: int) -> str:
    return "1 run" if n == 1 else f"{n:,} runs"


def _before(days: float) -> datetime:
    if not 0 <= days <= 36_500:
        raise BadInput(f"--older-than is {days:g}; it is a number of days, 0 to 36500.")
    return datetime.now(UTC) - timedelta(days=days)
