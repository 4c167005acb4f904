"""Regions: one that lacks a service, a table without its replica, a replica that is not ready, each in one sentence."""

from typing import Any

import pandas as pd
import pytest

from taskq_lib.aws import tables
from taskq_lib.aws.failover import table_of, values_for
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput, NotDone

HOME, AWAY = "us-east-1", "eu-west-1"


class Session:
    """A session of one partition, in which a region lacks a service."""

    def __init__(self, lacks: tuple[str, str] = ("", "")) -> None:
        """Let `lacks` name the region and the service."""
        self.lacks = lacks

    def get_partition_for_region(self, region: str) -> str:
        """Return the partition."""
        assert region
        return "aws"

    def get_available_regions(self, service: str, partition: str) -> list[str]:
        """Return the regions that have a service."""
        assert partition == "aws"
        return [region for region in (HOME, AWAY, "eu-west-2") if (region, service) != self.lacks]


class Dynamodb:
    """Describes one table."""

    class exceptions:  # noqa: N801 - boto3's own name
        """As boto3's."""

        class ResourceNotFoundException(Exception):
            """As boto3's."""

    def __init__(self, *replicas: dict[str, str], index: bool = True) -> None:
        """Have these replicas elsewhere, and an index by time or none."""
        self.table: dict[str, Any] = {"TableStatus": "ACTIVE", "Replicas": list(replicas)}
        self.table["GlobalSecondaryIndexes"] = [{"IndexName": "by-time"}] * index

    def describe_table(self, *, TableName: str) -> dict[str, Any]:  # noqa: N803 - boto3's own name
        """Describe it."""
        if TableName != "table":
            raise self.exceptions.ResourceNotFoundException
        return {"Table": self.table}


def target(session: Any = None, dynamodb: Any = None, region: str = HOME) -> Target:
    """Make a target of the fakes."""
    return Target(name="aws", session=session or Session(), region=region, _clients={"dynamodb": dynamodb})


@pytest.mark.parametrize("service", tables.SERVICES)
def test_a_region_without_a_service_is_refused_by_name(service: str) -> None:
    """A stack cannot be where one of its services is not, nor can its replica; the sentence names both."""
    with pytest.raises(BadInput, match=f"Region '{HOME}' has no {service}, which a stack needs"):
        tables.check_regions(target(Session((HOME, service))), "", "", time_index=True)
    with pytest.raises(BadInput, match=f"ReplicaRegion '{AWAY}' is no region of aws that has {service}"):
        tables.check_regions(target(Session((AWAY, service))), AWAY, "", time_index=True)
    tables.check_regions(target(), AWAY, "", time_index=True)


def test_an_unknown_region_is_answered_with_what_was_meant() -> None:
    """A misspelt region is named with those that are close."""
    with pytest.raises(BadInput, match="is no region") as refused:
        tables.check_regions(target(), "eu-wset-1", "", time_index=True)
    assert "Did you mean eu-west-1" in refused.value.hint


def test_replicas_are_listed_with_their_state() -> None:
    """The region that is asked comes first; one that is being made cannot be gone over to yet."""
    found = tables.replicas(target(dynamodb=Dynamodb({"RegionName": AWAY, "ReplicaStatus": "CREATING"})), "table")
    assert found.to_dict("list") == {"region": [HOME, AWAY], "status": ["ACTIVE", "CREATING"], "index": ["yes", "yes"]}
    tables.require_active(found, HOME)
    with pytest.raises(NotDone, match=f"a replica that is CREATING in {AWAY}"):
        tables.require_active(found, AWAY)
    with pytest.raises(NotDone, match="no replica in eu-west-2"):
        tables.require_active(found, "eu-west-2")


@pytest.mark.parametrize("index", [True, False])
def test_an_existing_table_and_the_index_go_together(index: bool) -> None:  # noqa: FBT001
    """TimeIndex must say what the table has, in both directions."""
    there = target(dynamodb=Dynamodb(index=index))
    tables.check_regions(there, "", "table", time_index=index)
    with pytest.raises(BadInput, match="TimeIndex is"):
        tables.check_regions(there, "", "table", time_index=not index)
    with pytest.raises(BadInput, match="There is no table 'other' in us-east-1"):
        tables.check_regions(there, "", "other", time_index=index)


def test_going_over_needs_another_region_and_a_table() -> None:
    """Without a second region, or with the first one as such, or without a table's name: one sentence."""
    outputs = {"TableName": "its-table"}
    first = Stack(target=target(), name="s", status="", parameters={"MaxAttempts": "5"}, outputs=outputs)
    assert table_of(first, "", target(region=AWAY), AWAY) == "its-table"
    assert table_of(None, "given", target(region=AWAY), AWAY) == "given"
    for there, region in ((target(), HOME), (target(region=AWAY), "")):
        with pytest.raises(BadInput, match="failover_region must name a region other"):
            table_of(first, "", there, region)
    with pytest.raises(BadInput, match="table_name must say"):
        table_of(None, "", target(region=AWAY), AWAY)


def test_the_second_stack_is_as_the_first_but_for_its_table() -> None:
    """What the first has is taken over; where it is not asked, only what is given is set."""
    parameters = {"MaxAttempts": "5", "ReplicaRegion": AWAY}
    first = Stack(target=target(), name="s", status="", parameters=parameters, outputs={})
    found = values_for(first, {"BatchSize": "5"}, "table")
    assert (found["MaxAttempts"], found["BatchSize"]) == ("5", "5")
    assert (found["ReplicaRegion"], found["ExistingTableName"]) == ("", "table")
    alone = {"BatchSize": "5", "ReplicaRegion": "", "ExistingTableName": "table"}
    assert values_for(None, {"BatchSize": "5"}, "table") == alone


def test_a_table_of_one_region_has_one_row() -> None:
    """No replica is a table of one region, not an error."""
    found = tables.replicas(target(dynamodb=Dynamodb()), "table")
    expected = {"region": [HOME], "status": ["ACTIVE"], "index": ["yes"]}
    pd.testing.assert_frame_equal(found, pd.DataFrame(expected, dtype="str"))
