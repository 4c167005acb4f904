"""Run all notebooks in their order and write a report into runs/<run id>/.

On the local target the embedded engine is started where it is not running, and stopped again at the end.
"""

from __future__ import annotations

import argparse
import json
from contextlib import AbstractContextManager, nullcontext

from taskq_lib.aws.target import connect
from taskq_lib.commands import options
from taskq_lib.errors import BadInput
from taskq_lib.local import engine
from taskq_lib.report import chain


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; what is not given keeps the notebooks' own defaults."""
    parser.add_argument("--target", help="local (the embedded engine, default) or aws (AWS_PROFILE, AWS_REGION)")
    parser.add_argument("--region", help="AWS region; default AWS_REGION, on the engine us-east-1")
    parser.add_argument("--stack-name", help="CloudFormation stack; default taskq")
    parser.add_argument("--run-id", help="id of the run; default made from the time")
    options.pairs(parser, "a notebook's parameter, such as n_tasks, mix or seed")
    options.as_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the chain; returns 0, or raises what says why not."""
    given = options.read_pairs(args.parameter)
    for name in ("target", "region", "stack_name", "run_id"):
        value = getattr(args, name)
        if value is not None and given.setdefault(name, value) != value:
            raise BadInput(f"{name} is given twice, as {value!r} and as {given[name]!r}.")
    tell = (lambda _text: None) if args.json else _write
    chosen = chain.checked(given)
    target = str(chosen.get("target", "local"))
    with _hosted(target):
        connect(target, given.get("region")).identity()
        prepared = chain.prepare(chosen)
        chosen["run_id"] = prepared.id
        tell(f"run {prepared.id}\n")
        index = chain.execute(prepared, chosen, tell)
    print(json.dumps({"run_id": prepared.id, "index": str(index), "results": str(prepared.folder / "results.json")})
          if args.json else f"report: {index}")  # fmt: skip
    return 0


def _write(text: str) -> None:
    print(text, end="", flush=True)


def _hosted(target: str) -> AbstractContextManager[object]:
    """Return what must be up around the run: the engine for the local target, nothing for any other."""
    return engine.running() if target == "local" else nullcontext()
