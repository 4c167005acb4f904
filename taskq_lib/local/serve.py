"""What the engine's process runs: MiniStack, spared work that it does again and again, and given what it drops.

It splits the text of every PartiQL statement into tokens, twice, though the function's statements differ in their
parameters only; and at every receive it completes the fields of every message in the queue, though that is done once
for each. And the garbage collector walks all messages and items, which stay, again and again. None of that changes what
the engine answers.

Its CloudFormation hands the numbers of a mapping's scaling on as text, with which its poller cannot compare, so that no
mapping of the engine is polled any more; keeps a scaling that an update removes; and drops provisioned pollers and a
function's reserved concurrency. All are set as the Lambda API sets them; the poller acts on all but the pollers.

It makes the table of an AWS::DynamoDB::GlobalTable without its encryption, its expiry and what stands under `Replicas`,
and makes it anew, empty, at any update. All are set as the DynamoDB API sets them, which the engine has: a write is
then replicated, at once, where DynamoDB takes about a second. It replicates no write by PartiQL, as the function's are:
they are handed to the same replication. Its list of schedules ends after one page: it is given the next ones.

Measured in docs/decisions.md; the version is pinned, and tests hold that all of these functions are there and do so.
"""

import functools
import gc
import json
from collections.abc import Callable
from typing import Any

from ministack.app import main
from ministack.services import _dynamodb_keywords as partiql
from ministack.services import dynamodb, lambda_svc, scheduler, sqs
from ministack.services.cloudformation.provisioners import _RESOURCE_HANDLERS

#: The field that is completed last: a message that has it has all of them.
LAST_FIELD = "seq"


def spare() -> None:
    """Remember how statements are split, complete the fields of a message once, and collect garbage more rarely."""
    gc.set_threshold(200_000, 50, 1000)
    partiql._tokenize = functools.lru_cache(maxsize=1024)(partiql._tokenize)  # noqa: SLF001
    complete = sqs._ensure_msg_fields  # noqa: SLF001

    def complete_once(message: dict[str, Any]) -> None:
        if LAST_FIELD not in message:
            complete(message)

    sqs._ensure_msg_fields = complete_once  # noqa: SLF001


def mend() -> None:
    """Let CloudFormation set what it drops of mappings, functions and tables, and give schedules in pages."""
    tables = _RESOURCE_HANDLERS["AWS::DynamoDB::GlobalTable"]
    tables |= {"update": _update_table, "update_with_logical_id": True}
    for kind, finish in (
        ("AWS::Lambda::EventSourceMapping", _scale_mapping),
        ("AWS::Lambda::Function", _reserve_concurrency),
        ("AWS::DynamoDB::GlobalTable", _replicate),
    ):
        handlers = _RESOURCE_HANDLERS[kind]
        # The new properties are the second of a create's arguments, and the third of an update's.
        handlers["create"] = _then(handlers["create"], finish, 1)
        handlers["update"] = _then(handlers["update"], finish, 2)
    for name in ("_partiql_insert", "_partiql_update"):
        setattr(dynamodb, name, _replicated(getattr(dynamodb, name)))
    scheduler._list_schedules = _in_pages(scheduler._list_schedules)  # noqa: SLF001


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


def _reserve_concurrency(function_name: str, properties: dict[str, Any]) -> None:
    reserved = properties.get("ReservedConcurrentExecutions")
    lambda_svc._functions[function_name]["concurrency"] = None if reserved is None else int(reserved)  # noqa: SLF001


def _update_table(
    table_name: str, old: dict[str, Any], new: dict[str, Any], stack_name: str, logical_id: str
) -> tuple[str, Any]:
    """Update as a table of one region is updated: by its logical id, without which it is taken for a renamed one."""
    update = _RESOURCE_HANDLERS["AWS::DynamoDB::Table"]["update"]
    plain = {name: value for name, value in new.items() if name != "Replicas"}
    made: tuple[str, Any] = update(table_name, old, plain, stack_name, logical_id)
    return made


def _replicate(table_name: str, properties: dict[str, Any]) -> None:
    table, home = {"TableName": table_name}, dynamodb.get_region()
    wanted = {replica["Region"]: replica["PointInTimeRecoverySpecification"] for replica in properties["Replicas"]}
    there = set(dynamodb._replica_group(dynamodb._tables[table_name])) | {home}  # noqa: SLF001
    updates = [{"Create": {"RegionName": region}} for region in sorted(wanted.keys() - there)]
    updates += [{"Delete": {"RegionName": region}} for region in sorted(there - wanted.keys())]
    _done(dynamodb._update_ttl({**table, "TimeToLiveSpecification": properties["TimeToLiveSpecification"]}))  # noqa: SLF001
    encryption = {"Enabled": properties["SSESpecification"]["SSEEnabled"], "SSEType": "KMS"}
    _done(dynamodb._update_table({**table, "SSESpecification": encryption}))  # noqa: SLF001
    if updates:
        _done(dynamodb._update_table({**table, "ReplicaUpdates": updates}))  # noqa: SLF001
    for region, backups in wanted.items():
        enabled = str(backups["PointInTimeRecoveryEnabled"]).lower() == "true"
        with dynamodb.request_scope(dynamodb.get_account_id(), region):
            _done(
                dynamodb._update_continuous_backups(  # noqa: SLF001
                    {**table, "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": enabled}}
                )
            )


def _replicated(run: Callable[..., Any]) -> Callable[..., Any]:
    def run_and_replicate(table: dict[str, Any], parsed: dict[str, Any], *rest: Any) -> Any:
        answer = run(table, parsed, *rest)
        if answer[0] == 200 and dynamodb._replica_group(table):  # noqa: SLF001
            item = parsed.get("item") or {}
            key = item.get("M", item).get(table["pk_name"]) or next(
                value for name, operator, value in parsed["conditions"] if (name, operator) == (table["pk_name"], "=")
            )
            # The status table has no sort key.
            new = table["items"][dynamodb._extract_key_val(key)]["__no_sort__"]  # noqa: SLF001
            dynamodb._replicate_write(table, "MODIFY", None, new)  # noqa: SLF001
        return answer

    return run_and_replicate


def _done(answer: tuple[int, Any, Any]) -> None:
    if answer[0] >= 400:
        raise ValueError(f"AWS::DynamoDB::GlobalTable: {answer[2]!r}")


def _in_pages(listed: Callable[..., Any]) -> Callable[..., Any]:
    def page(query: dict[str, Any]) -> Any:
        status, headers, body = listed({**query, "MaxResults": 10**9})
        found = json.loads(body)["Schedules"]
        start, size = int(query.get("NextToken", 0)), int(query.get("MaxResults", 100))
        after = {"NextToken": str(start + size)} if start + size < len(found) else {}
        return status, headers, json.dumps({"Schedules": found[start : start + size], **after}).encode()

    return page


if __name__ == "__main__":
    spare()
    mend()
    main()
