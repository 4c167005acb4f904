"""From what AWS answers to the plain values of a configuration: one resource a function, given the service's client."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import urllib.request
import zipfile
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

from botocore.exceptions import ClientError

from taskq_lib.aws import package
from taskq_lib.configuration import (
    Account,
    Drift,
    EventSource,
    Function,
    LogGroup,
    Queue,
    Role,
    Statement,
    Table,
    Topic,
)

#: On, or about to be.
ON = {"ENABLED", "ENABLING"}


def statements(document: Any) -> tuple[Statement, ...]:
    """Return the statements of a policy, which AWS returns as text or parsed, and one of them not always in a list."""
    parsed = json.loads(document) if isinstance(document, str) and document else document or {}
    found = parsed.get("Statement", [])
    return tuple(found if isinstance(found, list) else [found])


def queue(sqs: Any, url: str, resource: str) -> Queue:
    """Return a queue's attributes (GetQueueAttributes)."""
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    redrive = json.loads(found.get("RedrivePolicy") or "{}")
    allow = json.loads(found.get("RedriveAllowPolicy") or "{}")
    return Queue(
        resource=resource,
        arn=found["QueueArn"],
        is_fifo=found["QueueArn"].endswith(".fifo"),
        visibility_timeout_s=int(found["VisibilityTimeout"]),
        retention_s=int(found["MessageRetentionPeriod"]),
        delay_s=int(found.get("DelaySeconds", 0)),
        max_message_bytes=int(found.get("MaximumMessageSize", 1_048_576)),
        is_encrypted=found.get("SqsManagedSseEnabled") == "true" or bool(found.get("KmsMasterKeyId")),
        deduplicates_by_content=found.get("ContentBasedDeduplication") == "true",
        redrive_to=redrive.get("deadLetterTargetArn"),
        max_receives=int(redrive["maxReceiveCount"]) if "maxReceiveCount" in redrive else None,
        redrive_permission=allow.get("redrivePermission", "allowAll"),
        redrive_sources=tuple(allow.get("sourceQueueArns", [])),
        policy=statements(found.get("Policy")),
    )


def function(client: Any, name: str) -> Function:
    """Return the function's configuration, its code compared with this checkout's (GetFunction)."""
    answer = client.get_function(FunctionName=name)
    found = answer["Configuration"]
    logging = found.get("LoggingConfig", {})
    return Function(
        name=found["FunctionName"],
        arn=found["FunctionArn"],
        role_arn=found["Role"],
        state=found.get("State", "Active"),
        last_update=found.get("LastUpdateStatus", "Successful"),
        runtime=found.get("Runtime", ""),
        architecture=found.get("Architectures", ["x86_64"])[0],
        memory_mb=int(found["MemorySize"]),
        timeout_s=int(found["Timeout"]),
        environment=found.get("Environment", {}).get("Variables", {}),
        log_format=logging.get("LogFormat", "Text"),
        log_group=logging.get("LogGroup", f"/aws/lambda/{name}"),
        changed_files=_changed_files(found["CodeSha256"], answer.get("Code", {}).get("Location", "")),
    )


def _changed_files(sha256: str, location: str) -> tuple[str, ...] | None:
    """Return the Python files of the deployed code that differ from this checkout's; None where it cannot be loaded.

    The AWS CLI's package of the same files is another zip, so files are compared, and only where the zips differ.
    """
    ours = package.build()
    if base64.b64encode(hashlib.sha256(ours).digest()).decode() == sha256:
        return ()
    if not location.startswith(("https://", "http://")):
        return None
    try:
        with urllib.request.urlopen(location, timeout=60) as answer:  # noqa: S310 - the scheme is checked above
            here, there = _sources(ours), _sources(answer.read())
    except (OSError, HTTPException, zipfile.BadZipFile):
        return None
    return tuple(sorted(name for name in here | there if here.get(name) != there.get(name)))


def _sources(code: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(code)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.endswith(".py")}


def mapping(client: Any, uuid: str, resource: str) -> EventSource:
    """Return a mapping of the stack (GetEventSourceMapping)."""
    return as_mapping(client.get_event_source_mapping(UUID=uuid), resource)


def as_mapping(found: Mapping[str, Any], resource: str) -> EventSource:
    """Return a mapping from what Lambda says of it; numbers may come as texts."""
    scaling, pollers = found.get("ScalingConfig") or {}, found.get("ProvisionedPollerConfig") or {}
    return EventSource(
        resource=resource,
        source_arn=found.get("EventSourceArn", ""),
        function_arn=found.get("FunctionArn", ""),
        state=found.get("State", ""),
        batch_size=int(found.get("BatchSize", 10)),
        window_s=int(found.get("MaximumBatchingWindowInSeconds", 0)),
        response_types=tuple(found.get("FunctionResponseTypes") or ()),
        maximum_concurrency=int(scaling["MaximumConcurrency"]) if scaling.get("MaximumConcurrency") else None,
        maximum_pollers=int(pollers["MaximumPollers"]) if pollers.get("MaximumPollers") else None,
        n_filters=len((found.get("FilterCriteria") or {}).get("Filters", [])),
    )


def table(client: Any, name: str) -> Table:
    """Return the table, but for its backups and its expiry, which are asked for apart (DescribeTable)."""
    found = client.describe_table(TableName=name)["Table"]
    bound = int(found.get("OnDemandThroughput", {}).get("MaxWriteRequestUnits", -1))
    return Table(
        name=name,
        status=found["TableStatus"],
        billing=found.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED"),
        write_units=int(found.get("ProvisionedThroughput", {}).get("WriteCapacityUnits", 0)),
        max_write_units=bound if bound > 0 else None,
        has_own_key=found.get("SSEDescription", {}).get("Status") in {*ON, "UPDATING"},
        is_protected=bool(found.get("DeletionProtectionEnabled")),
        # The engine's description of an index has no status.
        indexes={e["IndexName"]: e.get("IndexStatus", "ACTIVE") for e in found.get("GlobalSecondaryIndexes", [])},
        replica_regions=tuple(entry["RegionName"] for entry in found.get("Replicas", [])),
    )


def role(iam: Any, name: str) -> Role:
    """Return the role with its inline policies, and the names of those attached to it (GetRole and three more)."""
    found = iam.get_role(RoleName=name)["Role"]
    names = [n for page in iam.get_paginator("list_role_policies").paginate(RoleName=name) for n in page["PolicyNames"]]
    documents = [iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"] for policy in names]
    pages = iam.get_paginator("list_attached_role_policies").paginate(RoleName=name)
    return Role(
        arn=found["Arn"],
        inline=tuple(statement for document in documents for statement in statements(document)),
        attached=tuple(entry["PolicyArn"] for page in pages for entry in page["AttachedPolicies"]),
        trust=statements(found.get("AssumeRolePolicyDocument")),
    )


def log_group(logs: Any, name: str) -> LogGroup:
    """Return the log group; raises `ClientError` ResourceNotFoundException where it is gone (DescribeLogGroups)."""
    pages = logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=name)
    found = [entry for page in pages for entry in page["logGroups"] if entry["logGroupName"] == name]
    if not found:
        # Asked by a prefix, so that CloudWatch Logs answers with none where another service would say so.
        said = {"Error": {"Code": "ResourceNotFoundException", "Message": f"There is no log group {name}."}}
        raise ClientError(said, "DescribeLogGroups")
    return LogGroup(name=name, retention_days=found[0].get("retentionInDays"))


def topic(sns: Any, arn: str) -> Topic:
    """Return the topic and who listens to it (GetTopicAttributes)."""
    found = sns.get_topic_attributes(TopicArn=arn)["Attributes"]
    counts = (int(found.get(name, 0)) for name in ("SubscriptionsConfirmed", "SubscriptionsPending"))
    return Topic(arn=arn, n_confirmed=next(counts), n_pending=next(counts))


def account(client: Any, _id: str) -> Account:
    """Return the account's concurrency (GetAccountSettings)."""
    found = client.get_account_settings()["AccountLimit"]
    return Account(
        concurrency=int(found["ConcurrentExecutions"]), unreserved=int(found["UnreservedConcurrentExecutions"])
    )


def as_drift(row: Mapping[str, Any]) -> Drift | None:
    """Return a drift from a row of DescribeStackResourceDrifts; None where values are only written otherwise."""
    named = row.get("PropertyDifferences", [])
    differences = [d for d in named if _plain(d["ActualValue"]) != _plain(d["ExpectedValue"])]
    if named and not differences:
        return None
    texts = [f"{d['PropertyPath']} is {d['ActualValue']}, not {d['ExpectedValue']}" for d in differences]
    return Drift(resource=row["LogicalResourceId"], differences=tuple(texts))


def _plain(value: Any) -> Any:
    """Return a value such that two are equal that say the same: JSON parsed, numbers and booleans as texts."""
    if isinstance(value, str):
        try:
            return _plain(json.loads(value))
        except ValueError:
            return value
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)
