"""Checks of the status table: whether it can be restored, expires what it should, and keeps up."""

from __future__ import annotations

from collections.abc import Iterator

from taskq_lib.analysis.findings import DAY_S, DYNAMODB_API, KIT, Check, Finding, Severity, set_to
from taskq_lib.configuration import Configuration

TTL_ATTRIBUTE = "expiresAt"
TIME_INDEX = "by-time"
#: Write units of a completed task, without and with the index by time (README, What it costs).
UNITS, UNITS_WITH_INDEX = 2, 5


def table_not_active(c: Configuration) -> Iterator[Finding]:
    """A table that is being deleted, or whose key is out of reach, takes no status."""
    if c.table and c.table.status not in {"ACTIVE", "UPDATING"}:
        yield Finding(
            severity=Severity.CRITICAL,
            check="table_not_active",
            resource="Table",
            measured=f"status {c.table.status}",
            risk="No task can be claimed, so none is run; all come back until they are dead-lettered.",
            mend="see the table in the console; taskq deploy creates it where it is gone",
            source=f"{DYNAMODB_API}, DescribeTable",
        )


def point_in_time_recovery(c: Configuration) -> Iterator[Finding]:
    """Without point-in-time recovery nothing brings back what was overwritten; nor the table, unless protected."""
    if c.table and c.table.is_restorable is False:
        protected = "on" if c.table.is_protected else "off"
        also = "" if c.table.is_protected else ", and a deleted table is gone for good"
        yield Finding(
            severity=Severity.INFO if c.parameters.get("PointInTimeRecovery") == "false" else Severity.WARNING,
            check="point_in_time_recovery",
            resource="Table",
            measured=f"point-in-time recovery off, deletion protection {protected}",
            risk=f"A status that is overwritten or deleted by mistake cannot be restored{also}.",
            mend=_set_to(c, "PointInTimeRecovery", "true"),
            source=f"{DYNAMODB_API}, UpdateContinuousBackups",
        )


def time_to_live(c: Configuration) -> Iterator[Finding]:
    """The function writes when an item expires; DynamoDB must be told to look."""
    days = c.parameters.get("StatusTtlDays", "0")
    if c.table and c.table.is_ttl_known and days != "0" and c.table.ttl_attribute != TTL_ATTRIBUTE:
        found = f"on, by {c.table.ttl_attribute}" if c.table.ttl_attribute else "off"
        yield Finding(
            severity=Severity.WARNING,
            check="time_to_live",
            resource="Table",
            measured=f"time to live {found}; StatusTtlDays is {days}",
            risk=f"Items older than {days} days stay and are paid for, however old.",
            mend=f"set the table's time to live back to {TTL_ATTRIBUTE}, or StatusTtlDays=0",
            source=f"{DYNAMODB_API}, UpdateTimeToLive",
        )


def status_expires_first(c: Configuration) -> Iterator[Finding]:
    """A dead letter must find its task's status."""
    days = c.function.environment.get("TASKQ_TTL_DAYS", "0") if c.function else "0"
    kept_s = int(days) * DAY_S if days.isascii() and days.isdigit() else 0
    dead = c.dead_letter_queue
    if dead and 0 < kept_s <= dead.retention_s:
        yield Finding(
            severity=Severity.WARNING,
            check="status_expires_first",
            resource="Table",
            measured=f"status kept {days} days, dead letters {dead.retention_s / DAY_S:,.3g} days",
            risk="A dead letter outlives its task's status: a redrive of it starts as if it had never been tried.",
            mend=f"StatusTtlDays={dead.retention_s // DAY_S + 1} or more",
            source=KIT,
        )


def index_missing(c: Configuration) -> Iterator[Finding]:
    """The queries by time need the index."""
    wanted = c.parameters.get("TimeIndex") == "true"
    if c.table and wanted and (found := c.table.indexes.get(TIME_INDEX, "missing")) not in {"ACTIVE", "UPDATING"}:
        yield Finding(
            severity=Severity.CRITICAL,
            check="index_missing",
            resource="Table",
            measured=f"index {TIME_INDEX} is {found}",
            risk="Every query by time fails: 30_status by hours, and what no run's manifest names.",
            mend=_set_to(c, "TimeIndex", "true"),
            source=KIT,
        )


def billing_provisioned(c: Configuration) -> Iterator[Finding]:
    """The design is on-demand; provisioned units bound how many tasks a second can be recorded."""
    if c.table and c.table.billing != "PAY_PER_REQUEST":
        rate = c.table.write_units / _units(c)
        yield Finding(
            severity=Severity.WARNING,
            check="billing_provisioned",
            resource="Table",
            measured=f"{c.table.billing.lower()} with {c.table.write_units:,} write units",
            risk=f"Above about {rate:,.3g} tasks a second DynamoDB throttles, and tasks come back unrecorded.",
            mend="set the table's BillingMode back to PAY_PER_REQUEST",
            source=f"{DYNAMODB_API}, UpdateTable",
        )


def write_bound(c: Configuration) -> Iterator[Finding]:
    """On-demand billing may be given a bound; the template gives none."""
    if c.table and c.table.max_write_units:
        yield Finding(
            severity=Severity.WARNING,
            check="write_bound",
            resource="Table",
            measured=f"at most {c.table.max_write_units:,} write units a second",
            risk=f"Above about {c.table.max_write_units / _units(c):,.3g} tasks a second DynamoDB throttles.",
            mend="remove OnDemandThroughput from the table",
            source=f"{DYNAMODB_API}, UpdateTable",
        )


def table_key(c: Configuration) -> Iterator[Finding]:
    """Every table is encrypted; only the use of a key of KMS shows in CloudTrail."""
    if c.table and not c.table.has_own_key:
        yield Finding(
            severity=Severity.INFO,
            check="table_key",
            resource="Table",
            measured="encrypted by a key that AWS owns",
            risk="Who used the key cannot be seen in CloudTrail.",
            mend="set the table's SSESpecification back to SSEEnabled",
            source=f"{DYNAMODB_API}, SSESpecification",
        )


def replica_missing(c: Configuration) -> Iterator[Finding]:
    """A replica region that the stack names must have the table."""
    wanted = c.parameters.get("ReplicaRegion", "")
    if c.table and wanted and wanted not in c.table.replica_regions:
        yield Finding(
            severity=Severity.CRITICAL,
            check="replica_missing",
            resource="Table",
            measured=f"ReplicaRegion is {wanted}; replicas: {', '.join(c.table.replica_regions) or 'none'}",
            risk=f"A failover to {wanted} finds no status: every task there runs as if it had never been tried.",
            mend=set_to(c, "ReplicaRegion", wanted),
            source=KIT,
        )


def _set_to(c: Configuration, name: str, value: str) -> str:
    """Return what mends the table: no parameter of this stack where another made it."""
    if c.parameters.get("ExistingTableName"):
        return "set it on the table itself, or by the stack that made it"
    return set_to(c, name, value)


def _units(c: Configuration) -> int:
    return UNITS_WITH_INDEX if c.table and TIME_INDEX in c.table.indexes else UNITS


CHECKS: tuple[Check, ...] = (
    table_not_active,
    point_in_time_recovery,
    time_to_live,
    status_expires_first,
    index_missing,
    billing_provisioned,
    write_bound,
    table_key,
    replica_missing,
)
