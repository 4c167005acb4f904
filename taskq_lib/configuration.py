"""What a deployed stack is set to, in plain values: `aws` reads it, `analysis` judges it, and neither knows the other.

A part that is gone or could not be read is None, and stands in `missing` or `unreadable`: no check judges what nobody
saw. Resources go by their logical ids in the template.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: One statement of a policy document, as AWS returns it.
Statement = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A queue's attributes."""

    resource: str  #: Queue, SecondQueue or DeadLetterQueue
    arn: str
    is_fifo: bool = False
    visibility_timeout_s: int = 30
    retention_s: int = 345_600
    delay_s: int = 0
    max_message_bytes: int = 1_048_576
    is_encrypted: bool = True  #: By SQS's own key or by one of KMS
    deduplicates_by_content: bool = False  #: FIFO: a sender need give no id of its own
    redrive_to: str | None = None  #: ARN; None where there is no redrive policy
    max_receives: int | None = None
    redrive_permission: str = "allowAll"  #: Who may name it as dead-letter queue: allowAll, denyAll or byQueue
    redrive_sources: tuple[str, ...] = ()  #: ARNs of those that may, with byQueue
    policy: tuple[Statement, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Function:
    """The function's configuration."""

    name: str
    arn: str = ""
    role_arn: str = ""
    state: str = "Active"
    last_update: str = "Successful"
    runtime: str = "python3.14"
    architecture: str = "x86_64"
    memory_mb: int = 128
    timeout_s: int = 3
    environment: Mapping[str, str] = field(default_factory=dict)
    reserved_concurrency: int | None = None  #: None: none reserved
    log_format: str = "Text"
    log_group: str = ""
    changed_files: tuple[str, ...] | None = ()  #: Of the code, against this checkout; None where it was not compared
    policy: tuple[Statement, ...] = ()  #: Who may invoke it, beside what the account's own identities may


@dataclass(frozen=True, kw_only=True)
class EventSource:
    """An event source mapping."""

    resource: str  #: EventSourceMapping or SecondEventSourceMapping; else its id: one that the stack does not know
    source_arn: str
    function_arn: str
    state: str = "Enabled"
    batch_size: int = 10
    window_s: int = 0
    response_types: tuple[str, ...] = ()
    maximum_concurrency: int | None = None
    maximum_pollers: int | None = None
    n_filters: int = 0


@dataclass(frozen=True, kw_only=True)
class Table:
    """The status table."""

    name: str
    status: str = "ACTIVE"
    billing: str = "PAY_PER_REQUEST"
    write_units: int = 0  #: Provisioned; 0 with on-demand billing
    max_write_units: int | None = None  #: The bound of on-demand billing, where there is one
    has_own_key: bool = True  #: Encrypted by a key of KMS; without one, by a key that AWS owns
    is_restorable: bool | None = True  #: Point-in-time recovery; None where it could not be read
    is_protected: bool = False  #: From deletion
    ttl_attribute: str | None = None  #: None: nothing expires
    is_ttl_known: bool = True
    indexes: Mapping[str, str] = field(default_factory=dict)  #: Name -> status
    replica_regions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Role:
    """What the function may do, and who may be it."""

    arn: str
    inline: tuple[Statement, ...] = ()
    attached: tuple[str, ...] = ()  #: ARNs of managed policies
    trust: tuple[Statement, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LogGroup:
    """The function's log group."""

    name: str
    retention_days: int | None = None  #: None: kept for ever


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """An alarm of the stack."""

    resource: str
    state: str = "OK"
    actions: tuple[str, ...] = ()  #: ARNs that are told when it goes to ALARM
    gone_actions: tuple[str, ...] = ()  #: Of these, topics that are not there
    are_actions_enabled: bool = True
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """Where alarms are sent."""

    arn: str
    n_confirmed: int = 0
    n_pending: int = 0  #: Subscriptions that nobody confirmed yet


@dataclass(frozen=True, kw_only=True)
class Account:
    """The account's concurrency in this region."""

    concurrency: int
    unreserved: int


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A resource that is not as the template says."""

    resource: str
    differences: tuple[str, ...] = ()  #: One text a property: path, expected and actual value


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A resource that the stack lists and that is not there."""

    resource: str
    kind: str  #: CloudFormation's type, such as AWS::SQS::Queue


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """What could not be read, and so is not checked."""

    resource: str
    reason: str  #: One sentence; of a missing permission it names the action and who lacks it


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """All of it, as read at one time."""

    stack_name: str
    stack_status: str
    region: str
    read_at: datetime
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    queues: tuple[Queue, ...] = ()  #: Those that tasks are sent to: one or two
    dead_letter_queue: Queue | None = None
    function: Function | None = None
    mappings: tuple[EventSource, ...] = ()  #: Of the stack
    other_mappings: tuple[EventSource, ...] = ()  #: Of its queues or its function, and not of the stack
    table: Table | None = None
    role: Role | None = None  #: The function's
    scheduler_role: Role | None = None  #: What a schedule sends its task as
    log_group: LogGroup | None = None
    alarms: tuple[Alarm, ...] | None = None  #: None where they could not be read
    topic: Topic | None = None
    account: Account | None = None
    drifts: tuple[Drift, ...] = ()
    missing: tuple[Missing, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
