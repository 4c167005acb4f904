"""The plan of a redrive: the dead letters that are meant, and what is to be done with each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from taskq_lib.analysis import signatures
from taskq_lib.aws import queues, redrive, status
from taskq_lib.aws.stack import Stack
from taskq_lib.errors import BadInput
from taskq_lib.merge_patch import edited, read_edit
from taskq_lib.report import selection
from taskq_lib.report.runs import Run
from taskq_worker.contract import Reason, State

#: Under SQS's 120,000 messages in flight, beyond which a walk would see an empty queue.
MAX_LISTED = 100_000
REDRIVE, COMPLETED, BROKEN, SPENT, BEYOND = (
    "redrive", "skipped: already completed", "skipped: breaks the contract", "skipped: its ticket is spent",
    "skipped: beyond max_messages",
)  # fmt: skip
#: Of the letter, then of its task's status when the plan was made (`updated_at` is missing where it had none).
PLAN_COLUMNS = [
    "message_id", "task_id", "run_id", "task_type", "reason", "error_type", "error", "signature", "signature_id",
    "n_attempts", "last_at", "sent_at", "at", "state", "updated_at", "action",
]  # fmt: skip


def make(live: Stack, run: Run, chosen: Mapping[str, Any]) -> tuple[pd.DataFrame, int, BadInput | None]:
    """Return the dead letters that are selected, and in a submitted run are of its tasks, the oldest first.

    Columns as `PLAN_COLUMNS` lists them, and `body` (its beginning). Beside them: how many dead letters were not listed
    at all, since some reader hides them or the inventory was too long; approximate on AWS; and why the selectors are
    not to be acted on, if so. Raises `BadInput` where an edit breaks the contract for one that is to be sent.
    """
    patch = read_edit(str(chosen["edit"]))
    n_dead = queues.counts(live).n_dead
    letters = queues.dead_letters(live, MAX_LISTED, lambda message: redrive.fault(message, patch))
    n_unlisted = max(0, n_dead - len(letters))
    letters = signatures.signed(letters).assign(at=letters["last_at"].fillna(letters["sent_at"]))
    if run.manifest.is_file():
        letters = letters[letters["task_id"].isin(run.load("manifest")["task_id"])]
    refusal = selection.refusal(letters, chosen)
    letters = letters[selection.selected(letters, chosen)].sort_values("at", kind="stable")
    tasks = status.get(live, letters["task_id"].dropna().unique().tolist()).tasks
    tasks = tasks[["task_id", "state", "updated_at", "finished_at", "n_attempts", "reason"]]
    tasks = tasks.astype({"state": "str"}).rename(columns={"n_attempts": "n_tried", "reason": "task_reason"})
    letters = letters.merge(tasks, on="task_id", how="left")
    letters["action"] = _actions(letters)
    # The bound is on what is sent; what is skipped must not use it up.
    sent = letters["action"] == REDRIVE
    letters["action"] = letters["action"].mask(sent & (sent.cumsum() > int(chosen["max_messages"])), BEYOND)
    broken = letters[letters["action"] == BROKEN]
    if patch and len(broken):
        first = broken.iloc[0]
        named = first["message_id"] if pd.isna(first["task_id"]) else first["task_id"]
        raise BadInput(
            f"After the edit {len(broken):,} messages break the contract, the first is {named}: {first['fault']}."
        )
    return letters[[*PLAN_COLUMNS, "body"]].reset_index(drop=True), n_unlisted, refusal


def groups(plan: pd.DataFrame) -> pd.DataFrame:
    """Count a plan by what failed: signature_id, task_type, reason, action, n, example (a task's id) and its error."""
    keys = ["signature_id", "task_type", "reason", "action"]
    found = plan.groupby(keys, dropna=False, sort=False).agg(
        n=("message_id", "size"), example=("task_id", "first"), error=("error", "first")
    )
    return found.reset_index().sort_values("n", ascending=False, ignore_index=True)


def example(letters: pd.DataFrame, edit: str) -> dict[str, str]:
    """Return one body `before` and `after` the edit; none without an edit, or where no body was listed whole."""
    whole = letters[(letters["action"] == REDRIVE) & (letters["body"].str.len() <= queues.MAX_BODY_CHARS)]
    if not edit or whole.empty:
        return {}
    body = str(whole["body"].iloc[0])
    return {"before": body, "after": edited(body, read_edit(edit))}


def _actions(letters: pd.DataFrame) -> pd.Series[str]:
    """Say what is to be done with each letter."""
    dead = letters["state"] == State.DEAD_LETTERED
    # The function's own rule: the ticket opens the task that died no later than the ticket says, and a task that was
    # only ever named by an invalid message needs none. Another message is a duplicate: sending it would lose it.
    never_tried = (letters["task_reason"] == Reason.INVALID) & (letters["n_tried"].fillna(0) == 0)
    spent = dead & ~never_tried & ~(letters["finished_at"] <= letters["ticket_at"])
    action = pd.Series(REDRIVE, index=letters.index, dtype="str")
    action = action.mask(spent, SPENT).mask(letters["fault"].notna(), BROKEN)
    return action.mask(letters["state"] == State.COMPLETED, COMPLETED)
