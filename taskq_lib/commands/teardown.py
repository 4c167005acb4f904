"""Show what a teardown of the stack would delete; with --yes, delete it.

The status table is kept unless --delete-table is given.
"""

from __future__ import annotations

import argparse
import json

from taskq_lib.aws import queues, schedule, stack
from taskq_lib.commands import options


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.where(parser)
    parser.add_argument("--yes", action="store_true", help="delete it; without this it is a dry run")
    parser.add_argument("--delete-table", action="store_true", help="delete the status table as well")
    parser.add_argument(
        "--discard-messages",
        action="store_true",
        help="accept that messages in the queues, and what is scheduled, are lost",
    )
    options.as_json(parser)


def run(args: argparse.Namespace) -> int:
    """List the stack's resources and messages; delete and verify where --yes was given."""
    tell = (lambda _line: None) if args.json else print
    live = options.stack_of(args)
    counts, n_scheduled, resources = queues.counts(live), schedule.count(live), stack.resources(live)
    for resource in resources.itertuples():
        kept = resource.kept == "yes" and not args.delete_table
        tell(f"  {'keep' if kept else 'delete':<8} {resource.resource} ({resource.type})")
    tell(f"messages: {counts.n_unsettled:,} in the queue, {counts.n_dead:,} dead letters, {n_scheduled:,} scheduled")
    if args.yes:
        queues.refuse_messages(counts, n_scheduled, allowed=args.discard_messages)
        stack.delete(live, delete_table=args.delete_table, progress=tell)
    else:
        tell("dry run: nothing was changed; --yes deletes it")
    if args.json:
        names = {} if args.delete_table else {"table_kept": live.table}
        n_messages = counts.n_unsettled + counts.n_dead
        shown = {"stack": live.name, "deleted": args.yes, "messages": n_messages, "scheduled": n_scheduled}
        print(json.dumps({**shown, **names}))
    return 0
