"""What a change set would take away: a queue or a table that is replaced, or deleted."""

from __future__ import annotations

import pandas as pd

from taskq_lib.aws import queues, schedule, stack
from taskq_lib.aws.stack import Preview
from taskq_lib.errors import BadInput

_QUEUE = "AWS::SQS::Queue"
_TABLES = ("AWS::DynamoDB::GlobalTable", "AWS::DynamoDB::Table")


def refuse(planned: Preview, *, allowed: bool) -> None:
    """Raise `BadInput` and discard the change set where it would replace or remove a queue, the table or its replica.

    By the template's policies a replaced queue or table is kept, as is a table that is removed; a queue that is removed
    is deleted, as is a replica. `allowed` accepts that, but not that messages are deleted (counted at this moment,
    which is approximate on AWS), nor that scheduled tasks are sent to a queue that is gone or not read.
    """
    if planned.kind == "update":
        try:
            _refuse(planned, allowed=allowed)
        except Exception:
            stack.discard(planned)
            raise


def _refuse(planned: Preview, *, allowed: bool) -> None:
    changes = planned.changes
    is_removed, is_queue = changes["action"] == "Remove", changes["type"] == _QUEUE
    ends = is_removed | (changes["replacement"] == "True")
    removed = changes.loc[is_removed & is_queue, "resource"].tolist()
    kept = changes.loc[ends & (is_queue & ~is_removed | changes["type"].isin(_TABLES)), "resource"].tolist()
    if (ends & is_queue).any():
        _refuse_losses(planned, changes.loc[ends & is_queue, "resource"], removed)
    lost = [f"{name} is no longer read, but kept with its content" for name in kept]
    lost += [f"{name} is deleted; it is empty" for name in removed]
    lost += [f"the table's replica in {planned.ended_replica} is deleted"] if planned.ended_replica else []
    if lost and not allowed:
        raise BadInput(
            f"The change would replace or remove what holds tasks: {', '.join(lost)}.",
            "Leave that parameter as it is deployed, or set allow_replacement to True.",
        )


def _refuse_losses(planned: Preview, ended: pd.Series, removed: list[str]) -> None:
    """Raise `BadInput` where a removed queue holds messages, or tasks are scheduled while a queue of theirs ends."""
    live = stack.describe(planned.target, planned.name)
    for name in removed:
        if n_messages := sum(queues.held(live, live.outputs[f"{name}Url"])):
            raise BadInput(
                f"The change removes {name}, which is deleted with its {n_messages:,} messages.",
                "Stop what sends to it and let it drain (52_pause_resume resumes it), then deploy again; "
                "allow_replacement does not allow this.",
            )
    if n_scheduled := schedule.count(live):
        raise BadInput(
            f"The change ends {' and '.join(ended)}, and {n_scheduled:,} tasks are scheduled, each for the queue that "
            "there was then: they would never be read.",
            "Wait until they are due, or cancel them (`taskq cancel ID`), then deploy again; allow_replacement does "
            "not allow this.",
        )
