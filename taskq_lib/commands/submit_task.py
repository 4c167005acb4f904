"""Send one task to the queue, at once or when it is due, and print its id."""

from __future__ import annotations

import argparse
import json
import time
import uuid
from datetime import UTC, datetime

from taskq_lib import due
from taskq_lib.aws import routing, schedule, submit
from taskq_lib.commands import options
from taskq_lib.errors import BadInput
from taskq_worker.contract import PRIORITY_DEFAULT, InvalidMessage, Task, task_types


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.where(parser)
    parser.add_argument("--type", required=True, help=f"task type: {', '.join(task_types())}")
    parser.add_argument("--data", required=True, help='the type\'s fields as JSON, such as \'{"to": "a@example.com"}\'')
    parser.add_argument("--priority", type=int, default=PRIORITY_DEFAULT, help="0 to 9, 9 most urgent; default 5")
    parser.add_argument(
        "--group", metavar="KEY", help="message group: what keeps its order on FIFO queues (default the type), "
        "and the tenant on standard ones (default none)",
    )  # fmt: skip
    parser.add_argument("--task-id", help="the idempotency key; default a new one")
    parser.add_argument("--run-id", help="a run the task belongs to; default none")
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--at", metavar="TIME", help="when it is due, with its zone: 2026-12-01T08:00:00Z; default at once"
    )
    when.add_argument("--in", dest="in_", metavar="LENGTH", help="how long from now it is due: 90s, 15m, 2h or 3d")
    options.as_json(parser)


def run(args: argparse.Namespace) -> int:
    """Send the task; one that breaks the contract, or its due time, is refused before AWS is asked anything."""
    task, when = _task(args), _when(args)
    stack = options.stack_of(args)
    placed = schedule.at(stack, task, when, args.group) if when else None
    message_id = placed.message_id if placed else submit.send_one(stack, task, args.group)
    if args.json:
        at = {"due_at": placed.due_at.isoformat()} if placed else {}
        print(json.dumps({"task_id": task.task_id, "message_id": message_id, **at}))
    else:
        print(task.task_id)
    return 0


def _when(args: argparse.Namespace) -> datetime | None:
    now = datetime.now(UTC)
    if args.at is not None:
        return due.read_time(args.at, now)
    return due.read_length(args.in_, now) if args.in_ is not None else None


def _task(args: argparse.Namespace) -> Task:
    try:
        task = Task(
            task_id=args.task_id or str(uuid.uuid4()),
            type=args.type,
            data=json.loads(args.data),
            priority=args.priority,
            run_id=args.run_id,
            enqueued_at=round(time.time(), 3),
        )
        task.to_body()
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadInput(f"--data is not JSON: {error}.", 'Quote it for the shell: --data \'{"to": "a@b.c"}\'') from error
    except InvalidMessage as error:
        raise BadInput(f"The task cannot be sent: {error}.") from error
    if args.group is not None:
        routing.check_group(args.group)
    return task


if __name__ == "__main__":
    import sys

    from taskq_lib.commands.main import main

    raise SystemExit(main(["submit", *sys.argv[1:]]))
