"""How many invocations the template's parameters allow at a time, and what contradicts in that.

`values` is a complete set of parameters as texts, `v` those of them that are counts.
Sources: Lambda guide, "Configuring scaling behavior for SQS event source mappings"; SQS guide, queue quotas.
"""

from __future__ import annotations

from collections.abc import Mapping

#: A mapping without a bound runs at most so many invocations at a time (Lambda guide, SQS scaling).
MAPPING_CONCURRENCY = 1250
#: A provisioned poller runs at most so many invocations at a time (same page).
POLLER_CONCURRENCY = 10
#: So many messages of a queue may be in flight; beyond, SQS hands out none (SQS guide, queue quotas).
IN_FLIGHT = 120_000
#: Of the default quota of 1,000 a function can reserve no more, 100 stay unreserved (Lambda guide, concurrency).
RESERVABLE = 900


def bounds(v: Mapping[str, int], values: Mapping[str, str]) -> dict[str, int]:
    """Return how many invocations each mapping may run at a time, by what sets it; 0 where nothing does."""
    names = ["MaximumConcurrency"]
    if values["SecondQueueFor"] != "none":
        names.append("SecondQueueMaximumConcurrency")
    if not v["MaximumPollers"]:
        return {name: v[name] for name in names}
    pollers = [f"{POLLER_CONCURRENCY} x MaximumPollers", f"{POLLER_CONCURRENCY} x MaximumPollers of the second queue"]
    return dict.fromkeys(pollers[: len(names)], POLLER_CONCURRENCY * v["MaximumPollers"])


def contradictions(v: Mapping[str, int], values: Mapping[str, str]) -> list[str]:
    """Return one sentence for each contradiction between pollers, concurrency, reserved concurrency and batch size."""
    found = []
    if v["MinimumPollers"] > v["MaximumPollers"] > 0:
        found.append(f"MinimumPollers ({v['MinimumPollers']}) exceeds MaximumPollers ({v['MaximumPollers']}).")
    asked = {what: bound for what, bound in bounds(v, values).items() if bound}
    if 0 < v["ReservedConcurrency"] < sum(asked.values()):
        found.append(
            f"ReservedConcurrency ({v['ReservedConcurrency']}) is below {' + '.join(asked)} ({sum(asked.values())}): "
            "what the mappings start beyond it is throttled, and each throttle uses a receive of MaxReceiveCount, "
            "so that a task can be dead-lettered before it was ever started."
        )
    for name, (what, most) in _most(v, values).items():
        if (in_flight := most * v["BatchSize"]) > IN_FLIGHT:
            fit = IN_FLIGHT // v["BatchSize"]
            bounds_them = f"{name} bounds them"
            if v["MaximumPollers"]:
                bounds_them = f"MaximumPollers of {fit // POLLER_CONCURRENCY} at most bounds them"
            found.append(
                f"BatchSize ({v['BatchSize']}) x {what} ({most}) is {in_flight}: SQS lets {IN_FLIGHT} messages of a "
                f"queue be in flight and then hands out none. With this BatchSize {fit} invocations fit; {bounds_them}."
            )
    return found


def risks(v: Mapping[str, int], values: Mapping[str, str]) -> list[str]:
    """Return one sentence for each way in which tasks can be throttled, or a deployment refused by the quota."""
    return [*_risky_reserve(v), *_risky_bounds(v, values)]


def _risky_reserve(v: Mapping[str, int]) -> list[str]:
    if v["ReservedConcurrency"] <= RESERVABLE:
        return []
    text = (
        f"ReservedConcurrency is {v['ReservedConcurrency']}: AWS keeps 100 of the account's quota unreserved, which is "
        f"1,000 by default, and refuses the deployment where less would be left; {RESERVABLE} or less fits the default."
    )
    return [text]


def _risky_bounds(v: Mapping[str, int], values: Mapping[str, str]) -> list[str]:
    found = bounds(v, values)
    unbounded = [name for name, bound in found.items() if not bound]
    if v["ReservedConcurrency"] and unbounded:
        text = (
            f"ReservedConcurrency is {v['ReservedConcurrency']} and {' and '.join(unbounded)} 0: in a backlog Lambda "
            f"starts up to {MAPPING_CONCURRENCY} batches of a queue at a time; those beyond what is reserved are "
            f"throttled, and each throttle uses a receive. {' and '.join(found)} that add up to no more than "
            "ReservedConcurrency would remove the risk."
        )
        return [text]
    if "MaximumConcurrency" in unbounded and len(found) > 1:
        text = (
            f"SecondQueueFor is {values['SecondQueueFor']} and MaximumConcurrency 0: a backlog in the first queue can "
            "take all of the account's concurrency (1000 by default), and the second queue's tasks are throttled "
            "then. A MaximumConcurrency below the account's quota removes the risk."
        )
        return [text]
    return []


def _most(v: Mapping[str, int], values: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Return for each mapping, by the name of its own bound, what bounds it in the end and to how many invocations."""
    found = {}
    for name, bound in bounds(v, values).items():
        unset = f"the {MAPPING_CONCURRENCY} invocations that {name}=0 allows"
        limits = {name: bound, "ReservedConcurrency": v["ReservedConcurrency"]}
        limits = {what: limit for what, limit in limits.items() if limit} or {unset: MAPPING_CONCURRENCY}
        what = min(limits, key=lambda one: limits[one])
        found[name] = (what, limits[what])
    return found
