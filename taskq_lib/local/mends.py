"""What the engine leaves out of an answer and the kit relies on; each mend calls the engine's own functions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
from ministack.core import lambda_runtime
from ministack.services import lambda_svc, sqs
from ministack.services.cloudformation import changesets
from ministack.services.cloudformation.provisioners import _RESOURCE_HANDLERS

#: So many messages the engine takes for a mapping at once, whatever its batch size.
RECEIVED_AT_ONCE = 10


def whole_batches() -> None:
    """Fill a batch of more than ten messages: the engine takes ten for it, and Lambda as many as there are."""
    receive = sqs._receive_messages_for_esm  # noqa: SLF001

    def fill(queue_url: str, n_wanted: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while len(found) < n_wanted:
            more = receive(queue_url, n_wanted - len(found))
            found += more
            if len(more) < RECEIVED_AT_ONCE:
                break
        return found

    sqs._receive_messages_for_esm = fill  # noqa: SLF001


def changes_under_conditions() -> None:
    """Leave what a condition excludes out of a change set: the engine lists it as added, and never as removed."""
    resolve = changesets._resolve_props_for_diff  # noqa: SLF001

    def resolve_and_leave_out(template: dict[str, Any], values: dict[str, Any], *stack: str) -> dict[str, Any]:
        resolved: dict[str, Any] = resolve(template, values, *stack)
        if not resolved:
            return resolved
        holds = changesets._evaluate_conditions(template, values)  # noqa: SLF001
        there = resolved["Resources"].items()
        return {"Resources": {name: one for name, one in there if holds.get(one.get("Condition"), True)}}

    changesets._resolve_props_for_diff = resolve_and_leave_out  # noqa: SLF001


def memory_of_workers() -> None:
    """Report the memory of the function's own workers: the engine reports the largest child that it ever ended.

    It is what the largest of them holds when an invocation ends; the engine bounds it by nothing.
    """
    lambda_svc._probe_peak_memory_mb = _largest_worker_mb  # noqa: SLF001


def _largest_worker_mb(function: dict[str, Any]) -> int:
    name = (function.get("config") or function).get("FunctionName")
    # Account, region, function, version.
    pools = [pool for key, pool in list(lambda_runtime._workers.items()) if key.split(":")[2] == name]  # noqa: SLF001
    held = [0]
    for worker in [worker for pool in pools for worker in list(pool)]:
        # One that ends meanwhile holds nothing.
        with suppress(AttributeError, psutil.Error):
            held.append(psutil.Process(worker._proc.pid).memory_info().rss)  # noqa: SLF001
    return max(held) // 2**20


def concurrency_of_stacks() -> None:
    """Let CloudFormation set a mapping's scaling and a function's reserved concurrency as the Lambda API does.

    It stores a mapping's maximum concurrency as text, with which the poller cannot compare: it then polls no mapping at
    all. It keeps one that an update removes, makes a text of an updated batch size or window, and drops provisioned
    pollers and reserved concurrency.
    """
    for kind, finish in (
        ("AWS::Lambda::EventSourceMapping", _scale_mapping),
        ("AWS::Lambda::Function", _reserve_concurrency),
    ):
        handlers = _RESOURCE_HANDLERS[kind]
        # The new properties are the second of a create's arguments, and the third of an update's.
        handlers["create"] = _then(handlers["create"], finish, 1)
        handlers["update"] = _then(handlers["update"], finish, 2)


def _then(handle: Callable[..., Any], finish: Callable[[str, dict[str, Any]], None], place: int) -> Callable[..., Any]:
    def handle_and_finish(*arguments: Any) -> Any:
        made = handle(*arguments)
        finish(made[0], arguments[place])
        return made

    return handle_and_finish


def _scale_mapping(mapping_id: str, properties: dict[str, Any]) -> None:
    mapping = lambda_svc._esms[mapping_id]  # noqa: SLF001
    for name in ("ScalingConfig", "ProvisionedPollerConfig"):
        numbers = {key: int(value) for key, value in (properties.get(name) or {}).items()}
        mapping.pop(name, None)
        if numbers:
            mapping[name] = numbers
    for name in ("BatchSize", "MaximumBatchingWindowInSeconds"):
        mapping[name] = int(mapping[name])


def _reserve_concurrency(function_name: str, properties: dict[str, Any]) -> None:
    reserved = properties.get("ReservedConcurrentExecutions")
    lambda_svc._functions[function_name]["concurrency"] = None if reserved is None else int(reserved)  # noqa: SLF001
