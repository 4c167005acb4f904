"""Start, stop or look at the embedded engine. It listens on this machine's loopback address only."""

from __future__ import annotations

import argparse
import json

from taskq_lib.commands import options
from taskq_lib.local import engine


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("action", choices=["start", "stop", "status"])
    parser.add_argument("--port", type=int, help="loopback port for start; default any free one")
    options.as_json(parser)


def run(args: argparse.Namespace) -> int:
    """Do it and say what is there now; `status` returns 1 where no engine runs."""
    if args.action == "start":
        engine.start(args.port)
    elif args.action == "stop":
        engine.stop()
    found = engine.status()
    if args.json:
        print(json.dumps(found))
    else:
        print("engine: " + ", ".join(f"{name} {value}" for name, value in found.items()))
    return int(args.action == "status" and found["state"] != "running")
