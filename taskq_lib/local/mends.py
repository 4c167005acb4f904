"""What the engine leaves out of an answer and the kit relies on; each mend calls the engine's own functions."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
from ministack.core import lambda_runtime
from ministack.services import dynamodb, lambda_svc, scheduler, sqs
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


def global_tables() -> None:
    """Let CloudFormation set a global table's encryption, expiry, backups and replicas as the DynamoDB API does.

    It drops them, and makes the table anew, empty, at any update. Replication itself is the engine's own: a write is in
    the other regions at once, where DynamoDB takes about a second. It leaves out writes by PartiQL, as the function's
    are; they are handed to it.
    """
    tables = _RESOURCE_HANDLERS["AWS::DynamoDB::GlobalTable"]
    tables["create"] = _then(tables["create"], _replicate, 1)
    tables |= {"update": _then(_update_table, _replicate, 2), "update_with_logical_id": True}
    for name in ("_partiql_insert", "_partiql_update"):
        setattr(dynamodb, name, _replicated(getattr(dynamodb, name)))


def _update_table(
    table_name: str, old: dict[str, Any], new: dict[str, Any], stack_name: str, logical_id: str
) -> tuple[str, Any]:
    """Update as a table of one region is updated: by its logical id, without which it is taken for a renamed one."""
    update = _RESOURCE_HANDLERS["AWS::DynamoDB::Table"]["update"]
    plain = {name: value for name, value in new.items() if name != "Replicas"}
    made: tuple[str, Any] = update(table_name, old, plain, stack_name, logical_id)
    return made


def _replicate(table_name: str, properties: dict[str, Any]) -> None:
    home, table = dynamodb.get_region(), dynamodb._tables[table_name]  # noqa: SLF001
    backups = {one["Region"]: one.get("PointInTimeRecoverySpecification", {}) for one in properties["Replicas"]}
    there = set(dynamodb._replica_group(table)) | {home}  # noqa: SLF001
    updates = [{"Create": {"RegionName": region}} for region in sorted(backups.keys() - there)]
    updates += [{"Delete": {"RegionName": region}} for region in sorted(there - backups.keys())]
    if "TimeToLiveSpecification" in properties:
        _ask("_update_ttl", table_name, TimeToLiveSpecification=properties["TimeToLiveSpecification"])
    if "SSESpecification" in properties:
        encrypted = {"Enabled": properties["SSESpecification"]["SSEEnabled"], "SSEType": "KMS"}
        _ask("_update_table", table_name, SSESpecification=encrypted)
    if updates:
        _ask("_update_table", table_name, ReplicaUpdates=updates)
    for region, wanted in backups.items():
        enabled = str(wanted.get("PointInTimeRecoveryEnabled", False)).lower() == "true"
        specification = {"PointInTimeRecoveryEnabled": enabled}
        with dynamodb.request_scope(dynamodb.get_account_id(), region):
            _ask("_update_continuous_backups", table_name, PointInTimeRecoverySpecification=specification)


def _ask(operation: str, table_name: str, **values: Any) -> None:
    status, _headers, body = getattr(dynamodb, operation)({"TableName": table_name, **values})
    if status >= 400:
        raise ValueError(f"AWS::DynamoDB::GlobalTable: {body!r}")


def _replicated(run: Callable[..., Any]) -> Callable[..., Any]:
    def run_and_replicate(table: dict[str, Any], parsed: dict[str, Any], *rest: Any) -> Any:
        answer = run(table, parsed, *rest)
        if answer[0] == 200 and dynamodb._replica_group(table):  # noqa: SLF001
            item = parsed.get("item") or {}
            equal = {name: value for name, operator, value in parsed.get("conditions") or [] if operator == "="}
            keys = equal | item.get("M", item)
            key, sort_key = (keys[table[name]] if table[name] else None for name in ("pk_name", "sk_name"))
            rows = table["items"][dynamodb._extract_key_val(key)]  # noqa: SLF001
            new = rows[dynamodb._extract_key_val(sort_key) if sort_key else "__no_sort__"]  # noqa: SLF001
            dynamodb._replicate_write(table, "MODIFY", None, new)  # noqa: SLF001
        return answer

    return run_and_replicate


def schedules_in_pages() -> None:
    """List schedules in pages: the engine cuts a list after `MaxResults` and names no next token."""
    listed = scheduler._list_schedules  # noqa: SLF001

    def page(query: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = listed({**query, "MaxResults": 10**9})
        found = json.loads(body)["Schedules"]
        start, size = int(query.get("NextToken", 0)), int(query.get("MaxResults", 100))
        after = {"NextToken": str(start + size)} if start + size < len(found) else {}
        return status, headers, json.dumps({"Schedules": found[start : start + size], **after}).encode()

    scheduler._list_schedules = page  # noqa: SLF001
