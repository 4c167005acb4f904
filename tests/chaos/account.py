"""What became of every task, held against what it was built for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from taskq_lib.analysis import ledger
from taskq_lib.aws import queues, status
from taskq_lib.aws.frames import with_pending
from taskq_lib.aws.stack import Stack

#: After the last task is final: a copy of a message, or one whose deletion went wrong, shows again after the
#: visibility timeout, and has to be dealt with as well.
SETTLE_S = 150.0
MAX_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class Account:
    """The end of a run; ids in the order of the manifest."""

    n_tasks: int
    lost: tuple[str, ...]  #: No status, and in neither queue
    open: tuple[str, ...]  #: Not final
    wrong: tuple[str, ...]  #: Final in another way than it was built for, or in two ways
    n_duplicates: int  #: Deliveries of tasks that were final; they changed nothing
    n_dead_twice: int  #: Dead letters beyond the first of their task
    n_extra_attempts: int  #: Attempts beyond those that the tasks were built to need
    n_left: int  #: Messages that are still in the queue

    def problems(self) -> list[str]:
        """Say what must not be, naming ids; an empty list is a pass."""
        found = [
            f"{len(ids)} tasks are {what}, among them {', '.join(ids[:MAX_NAMED])}"
            for what, ids in (("lost", self.lost), ("still open", self.open), ("wrong", self.wrong))
            if ids
        ]
        return found + ([f"{self.n_left} messages are left in the queue"] if self.n_left else [])


def close(stack: Stack, manifest: pd.DataFrame, run_id: str, max_attempts: int) -> Account:
    """Wait until the queue is empty, read everything, and hold it against the manifest.

    `stack` must lead to the engine itself: what is checked here shall not be under fault.
    """
    n_left = _settled(stack)
    ids = manifest["task_id"].tolist()
    tasks = with_pending(status.get(stack, ids).tasks, manifest, run_id)
    dead = queues.dead_letters(stack, limit=10 * len(ids))
    account = ledger.close(manifest, tasks, dead, queue_is_empty=n_left == 0)
    built = expected(manifest, max_attempts)
    found = tasks.set_index("task_id").reindex(built.index)
    return Account(
        n_tasks=account.submitted,
        lost=account.lost_ids,
        open=account.open_ids,
        wrong=tuple(_in_order(ids, wrong_ids(found, built, dead) - {*account.lost_ids, *account.open_ids})),
        n_duplicates=account.duplicates,
        n_dead_twice=int(dead["task_id"].duplicated().sum()),
        n_extra_attempts=int((found["n_attempts"] - built["n_attempts"]).clip(lower=0).sum()),
        n_left=n_left,
    )


def expected(manifest: pd.DataFrame, max_attempts: int) -> pd.DataFrame:
    """Return how each task is built to end: index task_id; state (str), n_attempts (Int32, the fewest it can need)."""
    told = [json.loads(data)["simulate"] for data in manifest["data"]]
    ends = [
        _end(one.get("fail_attempts", 0), retryable=one.get("retryable", True), budget=max_attempts) for one in told
    ]
    built = pd.DataFrame(ends, columns=["state", "n_attempts"], index=pd.Index(manifest["task_id"]))
    return built.astype({"state": "str", "n_attempts": "Int32"})


def _end(fail_attempts: int, *, retryable: bool, budget: int) -> tuple[str, int]:
    if fail_attempts == -1:
        return "dead_lettered", budget if retryable else 1
    return "completed", fail_attempts + 1


def wrong_ids(found: pd.DataFrame, built: pd.DataFrame, dead: pd.DataFrame) -> set[str]:
    """Return the ids whose end is not the one they were built for, or whose dead letter contradicts it."""
    differs = (found["state"].astype("str") != built["state"]) | (found["n_attempts"] < built["n_attempts"])
    letters, failing = set(dead["task_id"]), set(built.index[built["state"] == "dead_lettered"])
    # The function says why; a letter without its word was moved by SQS, which gave up before the budget was used.
    unsaid = set(dead.loc[~dead["reason"].isin(["max_attempts", "non_retryable"]), "task_id"])
    return {*found.index[differs.fillna(value=True)], *(letters ^ failing), *unsaid}


def _in_order(ids: list[str], some: set[str]) -> Iterable[str]:
    return (task_id for task_id in ids if task_id in some)


def _settled(stack: Stack) -> int:
    """Wait for an empty queue; returns how many messages are left in it at the end."""
    end = time.monotonic() + SETTLE_S
    while (n_left := queues.counts(stack).n_unsettled) and time.monotonic() < end:
        time.sleep(0.5)
    return n_left
