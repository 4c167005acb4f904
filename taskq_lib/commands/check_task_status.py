"""Show the status of tasks by id.

Exit code 1 where one has no status: it is scheduled for later, still pending, or was never sent.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from botocore.exceptions import ClientError

from taskq_lib.aws import schedule, status
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import is_denied
from taskq_lib.commands import options
from taskq_lib.errors import BadInput
from taskq_worker.contract import ID_RULE, is_id

_SHOWN = ["task_id", "task_type", "state", "n_attempts", "updated_at", "due_at", "error_type", "error", "result"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.where(parser)
    parser.add_argument("ids", nargs="+", metavar="ID", help="task ids")
    options.as_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print one line, or with --json one object, a task."""
    for task_id in args.ids:
        if not is_id(task_id):
            raise BadInput(f"Task id {task_id[:100]!r} is not allowed: {ID_RULE}.")
    stack = options.stack_of(args)
    tasks = status.get(stack, args.ids).tasks
    missing = [task_id for task_id in args.ids if task_id not in set(tasks["task_id"])]
    rows = json.loads(tasks.to_json(orient="records", date_format="iso"))
    for row in rows:
        row["result"] = json.loads(row["result"]) if row["result"] else None
    rows += [_without_status(stack, task_id) for task_id in missing]
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print("  ".join(f"{name}={row[name]}" for name in _SHOWN if row.get(name) is not None))
    return 1 if missing else 0


def _without_status(stack: Stack, task_id: str) -> dict[str, Any]:
    try:
        due_at = schedule.due_at(stack, task_id)
    except ClientError as error:
        if not is_denied(error):
            raise
        return {"task_id": task_id, "state": "pending or unknown (schedules may not be read)"}
    if due_at is None:
        return {"task_id": task_id, "state": "pending or unknown"}
    return {"task_id": task_id, "state": "scheduled", "due_at": due_at.isoformat()}


if __name__ == "__main__":
    import sys

    from taskq_lib.commands.main import main

    raise SystemExit(main(["status", *sys.argv[1:]]))
