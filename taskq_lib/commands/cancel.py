"""Cancel a scheduled task before it is sent. Exit code 1 where there is nothing to cancel: the message says why."""

from __future__ import annotations

import argparse
import json

from taskq_lib.aws import schedule
from taskq_lib.commands import options
from taskq_lib.errors import BadInput
from taskq_worker.contract import ID_RULE, is_id


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.where(parser)
    parser.add_argument("id", metavar="TASK_ID", help="the id that `taskq submit --at` or `--in` printed")
    options.as_json(parser)


def run(args: argparse.Namespace) -> int:
    """Delete the task's schedule and say when it was due."""
    if not is_id(args.id):
        raise BadInput(f"Task id {args.id[:100]!r} is not allowed: {ID_RULE}.")
    due_at = schedule.cancel(options.stack_of(args), args.id).isoformat()
    print(json.dumps({"task_id": args.id, "due_at": due_at}) if args.json else f"cancelled; it was due at {due_at}")
    return 0
