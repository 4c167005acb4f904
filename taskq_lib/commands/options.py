"""Options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence

from taskq_lib.aws.stack import DEFAULT_NAME, Stack, describe
from taskq_lib.aws.target import Target, connect
from taskq_lib.errors import BadInput


def target(parser: argparse.ArgumentParser) -> None:
    """Add --target and --region."""
    parser.add_argument(
        "--target", default="local", help="local (the embedded engine, default) or aws (AWS_PROFILE, AWS_REGION)"
    )
    parser.add_argument("--region", default=None, help="AWS region; default AWS_REGION, on the engine us-east-1")


def where(parser: argparse.ArgumentParser) -> None:
    """Add --target, --region and --stack-name."""
    target(parser)
    parser.add_argument("--stack-name", default=DEFAULT_NAME, help=f"CloudFormation stack; default {DEFAULT_NAME}")


def as_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON document for a script")


def pairs(parser: argparse.ArgumentParser, what: str) -> None:
    """Add -p NAME VALUE, also -p NAME=VALUE, any number of times."""
    parser.add_argument(
        "-p", "--parameter", nargs="+", action="append", default=[], metavar=("NAME", "VALUE"),
        help=f"{what}; -p NAME VALUE or -p NAME=VALUE, any number of times",
    )  # fmt: skip


def read_pairs(given: Iterable[Sequence[str]]) -> dict[str, str]:
    """Read what `pairs` collected; a name given twice is refused, since one of the two was not meant."""
    found: dict[str, str] = {}
    for words in given:
        name, separator, value = words[0].partition("=")
        if len(words) == 2 and not separator:
            value = words[1]
        elif len(words) != 1 or not separator:
            raise BadInput(f"-p {' '.join(words)} is not a parameter.", "Write -p NAME VALUE or -p NAME=VALUE.")
        if name in found:
            raise BadInput(f"Parameter {name!r} is given twice.")
        found[name] = value
    return found


def of_notebooks(parser: argparse.ArgumentParser, run_id_help: str) -> None:
    """Add what runs notebooks: --target, --region, --stack-name, --run-id, -p and --json; None where not given."""
    parser.add_argument("--target", help="local (the embedded engine, default) or aws (AWS_PROFILE, AWS_REGION)")
    parser.add_argument("--region", help="AWS region; default AWS_REGION, on the engine us-east-1")
    parser.add_argument("--stack-name", help=f"CloudFormation stack; default {DEFAULT_NAME}")
    parser.add_argument("--run-id", help=run_id_help)
    pairs(parser, "a notebook's parameter, such as n_tasks, mix or seed")
    as_json(parser)


def read_notebooks(args: argparse.Namespace) -> dict[str, str]:
    """Read what `of_notebooks` declared as parameters of notebooks; a value that is given twice must be the same."""
    given = read_pairs(args.parameter)
    for name in ("target", "region", "stack_name", "run_id"):
        value = getattr(args, name)
        if value is not None and given.setdefault(name, value) != value:
            raise BadInput(f"{name} is given twice, as {value!r} and as {given[name]!r}.")
    return given


def teller(args: argparse.Namespace) -> Callable[[str], object]:
    """Return what prints pieces of text as they come; nothing with --json."""
    return (lambda _text: None) if args.json else (lambda text: print(text, end="", flush=True))


def target_of(args: argparse.Namespace) -> Target:
    """Return the target of --target and --region; asks who the caller is, so that a wrong one is seen at once."""
    found = connect(args.target, args.region)
    found.identity()
    return found


def stack_of(args: argparse.Namespace) -> Stack:
    """Return the deployed stack that --target, --region and --stack-name name."""
    return describe(target_of(args), args.stack_name)
