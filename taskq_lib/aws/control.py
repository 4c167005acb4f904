"""The event source mappings between queues and function: their state, and a pause of them all."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from taskq_lib.aws import queues
from taskq_lib.aws.queues import Counts, Held
from taskq_lib.aws.routing import Queue
from taskq_lib.aws.stack import Stack
from taskq_lib.errors import NotDone

SETTLE_S = 120.0
#: SQS's counts are approximate: messages in flight are at zero once they have been for this long. On AWS the counts may
#: lag up to a minute, so that a batch which began just before the pause can still be running.
STEADY_S = 10.0
#: How long the change of the queue is measured.
GROWTH_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What the queue holds, and how that changes."""

    counts: Counts
    growth_per_s: float  #: Change of all messages a second: arrivals, less completions where the mapping is enabled
    retention_h: float  #: How long the queue keeps a message that nobody takes, hours

    def facts(self) -> dict[str, float]:
        """Return it under the words that people use."""
        return {
            **self.counts.facts(),
            "change a second": self.growth_per_s,
            "hours until the oldest message expires, at most": self.retention_h,
        }


def state(stack: Stack) -> str:
    """Return the mapping's state in Lambda's own word, such as `Enabled`, `Disabled` or `Creating`.

    Of two mappings it is the state of both, or where they differ both: `Enabled and Disabled`, the first queue's first.
    """
    return _in_words(_states(stack))


def wait_enabled(stack: Stack) -> str:
    """Wait until the mapping hands messages to the function; raises `NotDone` where it does not come to that."""
    end = time.monotonic() + SETTLE_S
    while (found := state(stack)) != "Enabled":
        if "Disabled" in found or time.monotonic() > end:
            raise NotDone(
                f"The event source mapping of stack {stack.name!r} is {found}: tasks wait in the queue.",
                f"Enable it: {_command(stack, enable=True)}, or 52_pause_resume with action resume.",
            )
        time.sleep(2)
    return found


def flow(stack: Stack) -> Flow:
    """Count the messages twice, `GROWTH_S` apart; takes so long."""
    before, begun = queues.counts(stack), time.monotonic()
    time.sleep(GROWTH_S)
    after = queues.counts(stack)
    growth = (after.n_unsettled - before.n_unsettled) / (time.monotonic() - begun)
    return Flow(counts=after, growth_per_s=round(growth, 2), retention_h=round(queues.retention_s(stack) / 3600, 2))


def pause(stack: Stack, timeout_s: float) -> str:
    """Disable each mapping and wait until it is; one that is disabled stays so. Returns what was done, in words.

    What is in flight finishes, and what is delayed comes back visible; no attempt is used up. Raises `NotDone` where
    the mapping is not disabled within `timeout_s`.
    """
    return _switch(stack, timeout_s, enable=False)


def resume(stack: Stack, timeout_s: float) -> str:
    """Enable each mapping and wait until it is; one that is enabled stays so. Returns what was done, in words.

    Raises `NotDone` where it is not enabled within `timeout_s`.
    """
    return _switch(stack, timeout_s, enable=True)


def verify_paused(stack: Stack, timeout_s: float) -> Counts:
    """Wait until no message has been in flight for `STEADY_S`; returns the counts, raises `NotDone` after `timeout_s`.

    The counts are approximate on AWS. A message that waits for its retry, or that an open circuit breaker holds back,
    is in flight for SQS until its wait is over: `RetryCapSeconds` at most, unless its error or its type says otherwise.
    """
    if (found := state(stack)) != "Disabled":
        raise NotDone(f"The event source mapping of stack {stack.name!r} is {found}, not Disabled.", _way_back(stack))
    end, busy_at = time.monotonic() + timeout_s, time.monotonic()
    while True:
        counts, now = queues.counts(stack), time.monotonic()
        busy_at = now if counts.n_in_flight else busy_at
        if now - busy_at >= STEADY_S:
            return counts
        if now > end:
            raise NotDone(
                f"The mapping is disabled, and {counts.n_in_flight:,} messages are still in flight after "
                f"{timeout_s:g} s: their batches run on, or they wait for a retry, an open circuit breaker or their "
                "visibility timeout.",
                f"Run it again with a longer timeout_s. {_way_back(stack)}",
            )
        time.sleep(0.5)


def verify_resumed(stack: Stack, timeout_s: float) -> Counts:
    """Wait until messages of each queue move or it is empty; returns the counts, raises `NotDone` after `timeout_s`."""
    if (found := state(stack)) != "Enabled":
        raise NotDone(f"The event source mapping of stack {stack.name!r} is {found}, not Enabled.", _way_back(stack))
    before, end = queues.counts(stack), time.monotonic() + timeout_s
    counts = before
    while stuck := [name for name, held in counts.by_queue.items() if _stands_still(before.by_queue[name], held)]:
        if time.monotonic() > end:
            raise NotDone(
                f"The mapping is enabled, and none of {counts.by_queue[stuck[0]].n_visible:,} visible messages of "
                f"{stuck[0]} moved in {timeout_s:g} s.",
                "Look at the function's concurrency and its log; Lambda may take a minute to begin.",
            )
        time.sleep(0.5)
        counts = queues.counts(stack)
    return counts


def _stands_still(before: Held, now: Held) -> bool:
    return now.n_visible > 0 and not now.n_in_flight and now.n_visible >= before.n_visible


def _switch(stack: Stack, timeout_s: float, *, enable: bool) -> str:
    """Ask for the change of each mapping that is not there yet, then wait for all."""
    wanted, passing = ("Enabled", "Enabling") if enable else ("Disabled", "Disabling")
    states = _states(stack)
    if set(states.values()) == {wanted}:
        return f"The mapping was {wanted} already; nothing was changed."
    end, asked = time.monotonic() + timeout_s, {queue for queue, found in states.items() if found in {wanted, passing}}
    while set(states.values()) != {wanted}:
        if time.monotonic() > end:
            raise NotDone(
                f"The event source mapping of stack {stack.name!r} is {_in_words(states)}, not {wanted}, after "
                f"{timeout_s:g} s.",
                f"It may still get there: run it again to wait on. {_way_back(stack)}",
            )
        asked |= {queue for queue in states if queue not in asked and _ask(stack, queue, enable=enable)}
        time.sleep(0.2)
        states = _states(stack)
    return f"The mapping is {wanted}." if len(states) == 1 else f"The mappings of both queues are {wanted}."


def _states(stack: Stack) -> dict[Queue, str]:
    ask = stack.target.client("lambda").get_event_source_mapping
    return {queue: str(ask(UUID=queue.mapping_id)["State"]) for queue in stack.queues}


def _in_words(states: Mapping[Queue, str]) -> str:
    return " and ".join(dict.fromkeys(states.values()))


def _ask(stack: Stack, queue: Queue, *, enable: bool) -> bool:
    """Ask for the change; False where the mapping is still busy with the last one, and is to be asked again."""
    client = stack.target.client("lambda")
    try:
        client.update_event_source_mapping(UUID=queue.mapping_id, Enabled=enable)
    except client.exceptions.ResourceInUseException:
        time.sleep(1)
        return False
    return True


def _command(stack: Stack, *, enable: bool) -> str:
    """Return what the stock AWS CLI is told, of two mappings both commands."""
    switch = "--enabled" if enable else "--no-enabled"
    return " && ".join(
        f"aws lambda update-event-source-mapping --uuid {queue.mapping_id} {switch}" for queue in stack.queues
    )


def _way_back(stack: Stack) -> str:
    return f"The way back: {_command(stack, enable=True)} resumes, {_command(stack, enable=False)} pauses."
