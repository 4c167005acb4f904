"""The status table over regions: its replicas, and whether a stack may use one."""

from __future__ import annotations

import difflib

import pandas as pd

from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput, NotDone

#: What a stack is made of; a region that lacks one of them cannot have it.
SERVICES = ("cloudformation", "dynamodb", "lambda", "scheduler", "sqs")
INDEX = "by-time"


def replicas(target: Target, table: str) -> pd.DataFrame:
    """Return where the table is, the target's region first: region, status, index (all str).

    `status` is DynamoDB's own word, such as ACTIVE, CREATING or REGION_DISABLED. One row is a table of one region.
    Asked in any region that has a replica, so it needs none of the others. Raises `BadInput` where this one has none.
    """
    dynamodb = target.client("dynamodb")
    try:
        found = dynamodb.describe_table(TableName=table)["Table"]
    except dynamodb.exceptions.ResourceNotFoundException as error:
        raise BadInput(
            f"There is no table {table!r} in {target.region}.",
            f"The first region's stack makes its replica here: `taskq deploy -p ReplicaRegion {target.region}` there.",
        ) from error
    index = "yes" if any(one["IndexName"] == INDEX for one in found.get("GlobalSecondaryIndexes", [])) else "no"
    rows = [{"region": target.region, "status": found["TableStatus"], "index": index}]
    rows += [
        {"region": one["RegionName"], "status": one.get("ReplicaStatus", "ACTIVE"), "index": index}
        for one in found.get("Replicas", [])
        if one["RegionName"] != target.region
    ]
    return pd.DataFrame(rows, columns=["region", "status", "index"], dtype="str")


def require_active(found: pd.DataFrame, region: str) -> None:
    """Raise `NotDone` unless the replica in `region` can be read and written, as `replicas` found it."""
    status = found.loc[found["region"] == region, "status"].tolist()
    if status != ["ACTIVE"]:
        raise NotDone(
            f"The table has {'a replica that is ' + status[0] if status else 'no replica'} in {region}.",
            "Set ReplicaRegion on the stack that owns the table, and wait until its replica is ACTIVE.",
        )


def check_regions(target: Target, replica_region: str, table: str, *, time_index: bool) -> None:
    """Raise `BadInput` where a stack cannot be in the target's region, replicate to another, or use this table.

    `replica_region` and `table` are the template's ReplicaRegion and ExistingTableName; empty is none. Sends nothing
    unless there is a table to look at.
    """
    partition = target.session.get_partition_for_region(target.region)
    for service in SERVICES:
        there = target.session.get_available_regions(service, partition)
        if target.region not in there:
            raise BadInput(f"Region {target.region!r} has no {service}, which a stack needs.", "Choose another region.")
        if replica_region and replica_region not in there:
            near = difflib.get_close_matches(replica_region, there, 3) or there[:3]
            raise BadInput(
                f"ReplicaRegion {replica_region!r} is no region of {partition} that has {service}.",
                f"Did you mean {' or '.join(near)}? Nothing was changed.",
            )
    if table:
        [index] = replicas(target, table)["index"].head(1)
        if (index == "yes") is not time_index:
            has = "has an index by time" if index == "yes" else "has no index by time"
            raise BadInput(f"TimeIndex is {str(time_index).lower()}, and the table of ExistingTableName {has}.")
