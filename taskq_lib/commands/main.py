"""`taskq`: runs one command, and turns every failure that a person can mend into one sentence and an exit code."""

from __future__ import annotations

import argparse
import difflib
import importlib
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from botocore.exceptions import BotoCoreError, ClientError

from taskq_lib.aws.target import explain
from taskq_lib.errors import BadInput, TaskqError

#: command -> (module, what it does)
COMMANDS = {
    "report": ("report", "deploy, submit, process, analyse, and write a report of it"),
    "run": ("run", "run one notebook into a run's folder"),
    "publish": ("publish", "upload a run's report to S3"),
    "prune": ("prune", "delete old runs, once it has shown which"),
    "submit": ("submit_task", "send one task, at once or later"),
    "cancel": ("cancel", "cancel a task that is scheduled and not yet sent"),
    "status": ("check_task_status", "show the status of tasks by id"),
    "doctor": ("doctor", "check the deployed stack: risks, and what mends them"),
    "compare": ("compare", "say whether a run is worse than one or several others"),
    "watch": ("watch", "watch a stack live: queues, throughput, time to drain"),
    "deploy": ("deploy", "create or update the stack"),
    "teardown": ("teardown", "delete the stack"),
    "local": ("local", "start, stop or look at the embedded engine"),
    "lab": ("lab", "open JupyterLab on the notebooks, with the embedded engine up"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `taskq ARGV`; returns the exit code."""
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in {"-h", "--help"}:
        lines = [f"  {command:<10} {text}" for command, (_module, text) in COMMANDS.items()]
        print("usage: taskq COMMAND [OPTIONS]\n\n" + "\n".join(lines) + "\n\ntaskq COMMAND --help lists its options")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"Did you mean `taskq {near[0]}`?" if near else "`taskq --help` says what each does."
        return _fail(BadInput(f"There is no command {name!r}; there are {', '.join(COMMANDS)}.", hint))
    return run_command(name, rest)


def run_command(name: str, argv: Sequence[str]) -> int:
    """Run one command with its own arguments; returns the exit code."""
    # Whatever a command holds open (an engine, a kernel) is closed by unwinding, so a request to end must unwind.
    signal.signal(signal.SIGTERM, _unwind)
    try:
        # Imported here, so that `taskq local stop` does not wait for pandas.
        module = importlib.import_module(f"taskq_lib.commands.{COMMANDS[name][0]}")
        parser = argparse.ArgumentParser(prog=f"taskq {name}", description=module.__doc__)
        module.arguments(parser)
        return int(module.run(parser.parse_args(argv)))
    except TaskqError as error:
        return _fail(error)
    except KeyboardInterrupt as error:
        # Whoever was interrupted has noted how to go on.
        print("interrupted", *getattr(error, "__notes__", []), sep="\n  -> ", file=sys.stderr)
        return 130
    except (BotoCoreError, ClientError) as error:
        return _fail(explain(error))
    except OSError as error:
        hint = "Free space or set its permissions, then run it again; what was written before is still there."
        return _fail(TaskqError(f"A file cannot be written or read: {error}.", hint))


def _fail(error: TaskqError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code


def _unwind(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    raise SystemExit(main())
