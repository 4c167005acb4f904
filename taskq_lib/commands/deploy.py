"""Create or update the stack; without a change it says so and is a success."""

from __future__ import annotations

import argparse
import json

from taskq_lib.aws import control, replacement, stack, template
from taskq_lib.commands import options


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.where(parser)
    options.pairs(parser, "a parameter of cloudformation.yaml, such as VisibilityTimeoutSeconds")
    parser.add_argument("--dry-run", action="store_true", help="show the changes and make none")
    parser.add_argument(
        "--allow-replacement", action="store_true", help="let a queue or the table be replaced or removed"
    )
    options.as_json(parser)


def run(args: argparse.Namespace) -> int:
    """Preview, refuse a replacement that was not allowed, execute, and wait for the mapping."""
    tell = (lambda _line: None) if args.json else print
    parameters = template.check(options.read_pairs(args.parameter))
    planned = stack.preview(options.target_of(args), args.stack_name, parameters)
    tell(f"{planned.kind}: {len(planned.changes)} resources change in stack {args.stack_name!r}")
    for change in planned.changes.itertuples():
        tell(f"  {change.action:<8} {change.resource} ({change.type})")
    for risk in template.risks(planned.parameters):
        tell(f"risk: {risk}")
    replacement.refuse(planned, allowed=args.allow_replacement)
    if args.dry_run:
        stack.discard(planned)
        outputs, state = {}, "dry run"
    else:
        live = stack.execute(planned, tell)
        control.wait_enabled(live)
        outputs, state = dict(live.outputs), live.status
    if args.json:
        print(json.dumps({"stack": args.stack_name, "change": planned.kind, "status": state, "outputs": outputs}))
    else:
        print(f"stack {args.stack_name}: {state}")
    return 0
