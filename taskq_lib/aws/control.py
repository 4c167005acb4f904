"""The event source mapping between queue and function."""

from __future__ import annotations

import time

from taskq_lib.aws.stack import Stack
from taskq_lib.errors import NotDone

SETTLE_S = 120.0


def state(stack: Stack) -> str:
    """Return the mapping's state in Lambda's own word, such as `Enabled`, `Disabled` or `Creating`."""
    answer = stack.target.client("lambda").get_event_source_mapping(UUID=stack.outputs["EventSourceMappingId"])
    return str(answer["State"])


def wait_enabled(stack: Stack) -> str:
    """Wait until the mapping hands messages to the function; raises `NotDone` where it does not come to that."""
    end = time.monotonic() + SETTLE_S
    while (found := state(stack)) != "Enabled":
        if found == "Disabled" or time.monotonic() > end:
            raise NotDone(
                f"The event source mapping of stack {stack.name!r} is {found}: tasks wait in the queue.",
                f"Enable it: aws lambda update-event-source-mapping --uuid {stack.outputs['EventSourceMappingId']} "
                "--enabled",
            )
        time.sleep(2)
    return found
