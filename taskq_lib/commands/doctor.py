"""Check the deployed stack, not the template: each finding with its risk and what mends it. Changes nothing."""

from __future__ import annotations

import argparse
import json

from taskq_lib.analysis import doctor
from taskq_lib.analysis.findings import Finding, Severity
from taskq_lib.aws import configuration
from taskq_lib.commands import options


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.where(parser)
    parser.add_argument(
        "--fail-on", default=Severity.WARNING, type=Severity, choices=list(Severity), metavar="SEVERITY",
        help="exit code 1 from this severity on: critical, warning (default) or info",
    )  # fmt: skip
    options.as_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the findings, the worst first; returns 1 where one is at or above the threshold, else 0."""
    read = configuration.read(options.stack_of(args))
    found = doctor.examine(read)
    if args.json:
        print(json.dumps(doctor.record(read, found), indent=2))
    else:
        print("\n".join([*map(_lines, found), doctor.summary(read, found)]))
    return 1 if doctor.at_least(found, args.fail_on) else 0


def _lines(one: Finding) -> str:
    rows = {"measured": one.measured, "risk": one.risk, "mend": one.mend, "source": one.source}
    return "\n".join([f"{one.severity:<8}  {one.resource}  {one.check}", *(f"  {n:<8}  {t}" for n, t in rows.items())])


if __name__ == "__main__":
    import sys

    from taskq_lib.commands.main import main

    raise SystemExit(main(["doctor", *sys.argv[1:]]))
