"""Every failure a person can mend is a `TaskqError`: one sentence on what is wrong, and a hint on what to do."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the beginning of a hint that names what is closest to a misspelt name; empty where nothing is close."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"Did you mean {near[0]!r}? " if near else ""


class TaskqError(Exception):
    """Something a person can mend; commands print it with its hint and end with its exit code."""

    #: 2: it could not run, or not go on. 1: it ran, and what it checks does not hold.
    exit_code = 2

    #: What to do next, where the raising code gives nothing more specific.
    hint = "See README.md for the commands and their options."

    def __init__(self, message: str, hint: str | None = None) -> None:
        """Keep the sentence `message` and, where given, a `hint` that fits the case better than the class's own."""
        super().__init__(message)
        self.hint = hint or self.hint

    def __str__(self) -> str:
        return f"{self.args[0]}\n  -> {self.hint}"


class BadInput(TaskqError):
    """A value from outside is not allowed; nothing was done."""

    hint = "Correct the value and run the same command again; nothing was changed."


class EngineNotInstalled(TaskqError):
    """The embedded engine is an extra that is not installed."""

    hint = "Install it with `pip install -e '.[local]'` (or run `make report`, which does), or use `--target aws`."


class EngineNotRunning(TaskqError):
    """The embedded engine is not running, or has died."""

    hint = "Start it with `taskq local start`, or use `--target aws`."


class EngineFailed(TaskqError):
    """The embedded engine could not be started or stopped."""

    hint = "Read the log file named above; `taskq local status` says what is running."


class AwsAccess(TaskqError):
    """AWS cannot be reached with these credentials, this region or this endpoint."""

    hint = "Check AWS_PROFILE, AWS_REGION and AWS_ENDPOINT_URL; `aws sts get-caller-identity` must work first."


class StackNotFound(TaskqError):
    """There is no such stack in this account and region."""

    hint = "Deploy it with notebooks/10_deploy.ipynb or `taskq deploy`, or name another with --stack-name."


class NotDone(TaskqError):
    """A check at the end of an action or a wait did not hold."""

    exit_code = 1


class StackFailed(NotDone):
    """CloudFormation refused or rolled back a change."""

    hint = "The events above name the resource and the reason; correct the parameter and deploy again."


class RunExists(TaskqError):
    """A run of this id is already there, and a run is never overwritten."""

    hint = "Choose another --run-id, or leave it out to get a new one."


class RunNotFound(TaskqError):
    """No run of this id is on this disk."""

    hint = (
        "`runs/index.html` lists the runs; --runs-dir or `-p runs_dir` names another folder of them. `taskq report` "
        "makes a new one."
    )


class RunDamaged(TaskqError):
    """A file of a run's folder cannot be read."""

    hint = "Restore the file from a copy of the run's folder, or report on the tasks again under another --run-id."


class LeakFound(NotDone):
    """What is to leave this machine holds a secret."""

    hint = "`taskq report --from RUN` scrubs the run's notebooks, results and pages again."


class LedgerOpen(NotDone):
    """The ledger does not close: a task is lost or still open."""

    hint = "notebooks/50_failures.ipynb names the tasks; notebooks/30_status.ipynb reads their status again."


class NotebookFailed(TaskqError):
    """A notebook raised; nothing that acts was run after it. Its exit code is that of what it raised."""

    hint = "The notebook's page shows the traceback; what it printed until then is above."

    def __init__(self, message: str, hint: str | None = None, exit_code: int = 1) -> None:
        """Keep the sentence, the hint and the exit code of what was raised, where that was one of these errors."""
        super().__init__(message, hint)
        self.exit_code = exit_code
