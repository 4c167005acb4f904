"""Two regions of one engine, a stack each: on a replicated table, and on two tables that only share a name."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from taskq_lib.aws import control, failover, replacement, status, submit, tables, template
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput, NotDone, StackFailed
from tests.unit.events import task

pytestmark = pytest.mark.integration

HOME, AWAY = "us-east-1", "eu-west-1"


@pytest.fixture(scope="module")
def away(target: Target) -> Target:
    """The second region of the same engine."""
    session = boto3.Session("test", "test", region_name=AWAY)
    return Target(name="local", session=session, region=AWAY, endpoint_url=target.endpoint_url)


def deploy(target: Target, name: str, **parameters: Any) -> Stack:
    """Deploy silently, with retries that come at once."""
    given = {"RetryBaseSeconds": 0, **parameters}
    return stacks.deploy(target, name, given, progress=lambda _status: None)


@pytest.fixture(scope="module")
def pair(target: Target, away: Target) -> Iterator[tuple[Stack, Stack]]:
    """A stack whose table has a replica in the second region, and a stack there that uses it."""
    first = deploy(target, "pair", ReplicaRegion=AWAY)
    second = deploy(away, "pair", ExistingTableName=first.table)
    yield first, second
    stacks.delete(second, progress=lambda _status: None)
    stacks.delete(first, delete_table=True, progress=lambda _status: None)


def complete(stack: Stack, task_id: str) -> None:
    """Send a task to a stack and wait until it is final there."""
    submit.send_one(stack, task(task_id))
    assert status.wait(stack, [task_id], 30, progress=False).why == "all final"


def states(stack: Stack, *task_ids: str) -> list[str]:
    """Return the states of the tasks that the stack's own region knows."""
    found = status.get(stack, task_ids).tasks.set_index("task_id")["state"]
    return [str(found.get(task_id)) for task_id in task_ids]


def test_a_table_is_the_same_in_both_regions(pair: tuple[Stack, Stack]) -> None:
    """Key, index, expiry, backups and encryption of the replica are those of the table; each names the other."""
    described = []
    for stack, other in zip(pair, reversed(pair), strict=True):
        dynamodb = stack.target.client("dynamodb")
        table = dynamodb.describe_table(TableName=stack.table)["Table"]
        described.append(
            [
                table["KeySchema"],
                [index["IndexName"] for index in table["GlobalSecondaryIndexes"]],
                table["SSEDescription"]["SSEType"],
                dynamodb.describe_time_to_live(TableName=stack.table)["TimeToLiveDescription"],
                dynamodb.describe_continuous_backups(TableName=stack.table)["ContinuousBackupsDescription"][
                    "PointInTimeRecoveryDescription"
                ]["PointInTimeRecoveryStatus"],
            ]
        )
        found = tables.replicas(stack.target, stack.table)
        assert found["region"].tolist() == [stack.target.region, other.target.region]
        assert set(found["status"]) == {"ACTIVE"}
        tables.require_active(found, other.target.region)
    assert described[0] == described[1]
    assert described[0][4] == "ENABLED"
    assert pair[0].table == pair[1].table


def test_each_region_does_its_tasks_and_sees_those_of_the_other(pair: tuple[Stack, Stack], run_id: str) -> None:
    """Tasks complete where they were sent, and their status is read in both regions, by id and by time."""
    first, second = pair
    complete(first, f"{run_id}-home")
    complete(second, f"{run_id}-away")
    for stack in pair:
        assert states(stack, f"{run_id}-home", f"{run_id}-away") == ["completed", "completed"]
        stored = status.get(stack, [f"{run_id}-home"]).tasks.iloc[0]
        by_time = status.window(stack, stored["updated_at"].to_pydatetime()).tasks
        assert {f"{run_id}-home", f"{run_id}-away"} <= set(by_time["task_id"])


def test_a_task_that_one_region_completed_is_a_duplicate_in_the_other(pair: tuple[Stack, Stack], run_id: str) -> None:
    """Sent again to the other region once its status is there, it is not run a second time."""
    first, second = pair
    complete(first, run_id)
    before = status.get(first, [run_id]).tasks.iloc[0]
    submit.send_one(second, task(run_id))
    complete(second, f"{run_id}-after")
    after = status.get(second, [run_id]).tasks.iloc[0]
    assert (after["n_attempts"], after["updated_at"]) == (1, before["updated_at"])


def test_an_update_keeps_the_table_and_its_replica(pair: tuple[Stack, Stack], run_id: str) -> None:
    """A change of the table's own properties keeps its name and items, in both regions."""
    first, second = pair
    complete(first, run_id)
    changed = deploy(first.target, first.name, PointInTimeRecovery="false")
    assert changed.table == first.table
    for stack in pair:
        backups = stack.target.client("dynamodb").describe_continuous_backups(TableName=stack.table)
        found = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
        assert found["PointInTimeRecoveryStatus"] == "DISABLED"
        assert states(stack, run_id) == ["completed"]
    assert tables.replicas(second.target, second.table)["region"].tolist() == [AWAY, HOME]


def test_what_would_lose_a_replica_or_anothers_table_is_refused(pair: tuple[Stack, Stack]) -> None:
    """An update that ends the replica needs to be allowed, and the second stack cannot delete the table."""
    first, second = pair
    planned = stacks.preview(first.target, first.name, {"ReplicaRegion": ""})
    with pytest.raises(BadInput, match=f"the table's replica in {AWAY} is deleted"):
        replacement.refuse(planned, allowed=False)
    assert len(tables.replicas(first.target, first.table)) == 2
    with pytest.raises(BadInput, match="belongs to another stack"):
        stacks.delete(second, delete_table=True)
    assert stacks.describe(second.target, second.name).status.endswith("COMPLETE")
    kept = stacks.resources(second)
    assert "Table" not in set(kept["resource"])


def test_going_over_pauses_the_first_region_and_proves_the_second(pair: tuple[Stack, Stack]) -> None:
    """The second stack is as the first, on its replica; a task completes there and shows in the first region."""
    first, second = pair
    table = failover.table_of(first, "", second.target, AWAY)
    values = failover.values_for(first, {"MaxAttempts": "4"}, table)
    assert values["RetryBaseSeconds"] == "0"
    assert (values["MaxAttempts"], values["ReplicaRegion"], values["ExistingTableName"]) == ("4", "", first.table)
    assert template.contradictions(values) == []
    control.pause(first, 30)
    try:
        tried = failover.probe(second, 30)
        assert failover.seen_after_s(first, tried) is not None
        with pytest.raises(NotDone, match="is pending after 1 s"):
            failover.probe(first, 1)
    finally:
        control.resume(first, 30)


def test_two_tables_of_one_name_are_two_tables(target: Target, away: Target, run_id: str) -> None:
    """Without replication each region does its own tasks and knows nothing of the other's; a replica is missed."""
    first = deploy(target, "apart")
    given = first.target.client("dynamodb").describe_table(TableName=first.table)["Table"]
    index = {name: given["GlobalSecondaryIndexes"][0][name] for name in ("IndexName", "KeySchema", "Projection")}
    away.client("dynamodb").create_table(
        TableName=first.table,
        KeySchema=given["KeySchema"],
        AttributeDefinitions=given["AttributeDefinitions"],
        GlobalSecondaryIndexes=[index],
        BillingMode="PAY_PER_REQUEST",
    )
    second = deploy(away, "apart", ExistingTableName=first.table)
    complete(first, f"{run_id}-home")
    complete(second, f"{run_id}-away")
    assert states(first, f"{run_id}-home", f"{run_id}-away") == ["completed", "None"]
    assert states(second, f"{run_id}-home", f"{run_id}-away") == ["None", "completed"]
    assert failover.seen_after_s(first, f"{run_id}-away", 1) is None
    found = tables.replicas(target, first.table)
    assert found.to_dict("records") == [{"region": HOME, "status": "ACTIVE", "index": "yes"}]
    with pytest.raises(NotDone, match=f"no replica in {AWAY}"):
        tables.require_active(found, AWAY)
    stacks.delete(second, progress=lambda _status: None)
    assert states(second, f"{run_id}-away") == ["completed"]
    stacks.delete(first, delete_table=True, progress=lambda _status: None)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"ReplicaRegion": HOME}, "ReplicaRegion is the region of the stack itself"),
        ({"ReplicaRegion": "eu-west-9"}, r"ReplicaRegion 'eu-west-9' is no region of aws .*\n.*Did you mean eu-west-"),
        ({"ReplicaRegion": "cn-north-1"}, "ReplicaRegion 'cn-north-1' is no region of aws"),
        ({"ReplicaRegion": "Ireland"}, "ReplicaRegion is 'Ireland'"),
        ({"ExistingTableName": "nowhere"}, "There is no table 'nowhere' in us-east-1"),
        ({"ReplicaRegion": AWAY, "ExistingTableName": "nowhere"}, "ReplicaRegion excludes ExistingTableName"),
    ],
    ids=str,
)
def test_regions_that_cannot_work_are_refused_first(target: Target, parameters: dict[str, str], says: str) -> None:
    """The own region, an unknown one, a table that is not there, or both at once: one sentence, and no stack."""
    with pytest.raises(BadInput, match=says):
        deploy(target, "never", **parameters)
    names = {one["StackName"] for one in target.client("cloudformation").describe_stacks()["Stacks"]}
    assert "never" not in names


def test_the_template_refuses_its_own_region_by_itself(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever tool deploys it, the template's rule knows the region that it is deployed in."""
    monkeypatch.setattr(template, "contradictions", lambda _values: [])
    with pytest.raises((ClientError, StackFailed), match="ReplicaRegion is the region of the stack itself"):
        deploy(target, "never", ReplicaRegion=HOME)


def test_an_existing_table_must_have_the_index_that_the_stack_reads(target: Target, stack: Stack) -> None:
    """A table with an index by time needs TimeIndex=true, so that the queries by time are not lost unseen."""
    with pytest.raises(BadInput, match="TimeIndex is false, and the table of ExistingTableName has an index by time"):
        deploy(target, "never", ExistingTableName=stack.table, TimeIndex="false")


def test_a_table_that_a_stack_left_serves_the_next_one(target: Target, run_id: str) -> None:
    """A stack that is torn down leaves its table, and a new one goes on with it."""
    before = deploy(target, "left")
    complete(before, run_id)
    stacks.delete(before, progress=lambda _status: None)
    after = deploy(target, "taken", ExistingTableName=before.table)
    complete(after, f"{run_id}-2")
    assert states(after, run_id, f"{run_id}-2") == ["completed", "completed"]
    stacks.delete(after, progress=lambda _status: None)
