"""Going over to another region: a stack there on its replica of the status table, and a task that proves it works."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping

from taskq_lib.aws import status, submit, template
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput, NotDone
from taskq_worker.contract import State, Task

#: DynamoDB replicates a write within about a second (its developer guide, global tables); so long is waited for it.
REPLICATION_S = 15.0


def table_of(first: Stack | None, table_name: str, there: Target, failover_region: str) -> str:
    """Return the status table's name: the one given, else that of the first region's stack.

    Raises `BadInput` where neither is known, or `there`, which `failover_region` names, is the first region itself.
    """
    if not failover_region or (first is not None and there.region == first.target.region):
        raise BadInput(
            "failover_region must name a region other than the first one's.",
            "Name the one that has the replica, such as `-p failover_region eu-west-1`; nothing was changed.",
        )
    if table_name or first is not None:
        return table_name or first.table  # type: ignore[union-attr]
    raise BadInput("The first region is not asked (first_answers), so table_name must say what its table is called.")


def values_for(first: Stack | None, given: Mapping[str, str], table: str) -> dict[str, str]:
    """Return the template's parameters for the second stack: as the first, but for `given` and the table.

    Where the first region is not asked, what is not given stays as the second stack has it, else it is the default.
    """
    own = {**given, "ReplicaRegion": "", "ExistingTableName": table}
    return template.effective(own, first.parameters) if first else own


def probe(stack: Stack, timeout_s: float) -> str:
    """Send a task that does nothing and wait until it is completed; returns its id. Raises `NotDone` where not."""
    task = Task(task_id=f"failover-{uuid.uuid4()}", type="PROCESS_DATA", data={"record_count": 0})
    submit.send_one(stack, task)
    status.wait(stack, [task.task_id], timeout_s, progress=False)
    states = status.get(stack, [task.task_id]).tasks["state"].tolist()
    if states != [State.COMPLETED]:
        raise NotDone(
            f"Task {task.task_id} in {stack.target.region} is {states[0] if states else 'pending'} after "
            f"{timeout_s:g} s.",
            "50_failures, with the second region, says what failed. The first region was paused, if it was asked; "
            "52_pause_resume resumes it.",
        )
    return task.task_id


def seen_after_s(stack: Stack, task_id: str, timeout_s: float = REPLICATION_S) -> float | None:
    """Wait until another region's task shows in this stack's replica; returns the seconds, None where it does not."""
    begun = time.monotonic()
    while time.monotonic() - begun < timeout_s:
        if len(status.get(stack, [task_id]).tasks):
            return round(time.monotonic() - begun, 1)
        time.sleep(0.5)
    return None
