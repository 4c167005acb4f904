"""What the template tells the function through its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from taskq_worker.contract import Retry


@dataclass(frozen=True, kw_only=True)
class BreakerSettings:
    """When the circuit breaker of a task type opens, and for how long."""

    failure_percent: float  #: It opens where at least so many of 100 attempts fail; 0 turns it off
    minimum_tasks: int  #: Fewer attempts than these in a window say nothing
    window_s: float  #: Attempts are counted in windows of this length
    cooldown_s: float  #: How long it stays open before one task is let through as a probe


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The function's settings; names and units as in `cloudformation.yaml`."""

    table: str  #: The status table's name
    queue_urls: tuple[str, ...]  #: Of every queue that has a mapping to the function
    dead_letter_queue_url: str
    retry: Retry  #: Of every task type that does not say otherwise; complete
    breaker: BreakerSettings
    stack: str  #: The stack's name
    has_metrics: bool  #: Whether the function prints its own metrics
    ttl_days: int  #: Status items expire this long after their last attempt began; 0 keeps them

    @property
    def max_attempts(self) -> int:
        """The attempt budget of a task whose type does not say otherwise."""
        return self.retry.max_attempts or 1

    def queue_url(self, arn: str) -> str:
        """Return the URL of the queue with this ARN: both end in the queue's name.

        Raises `KeyError` where the template names no such queue: it is wrong then, and no batch may be touched.
        """
        name = arn.rpartition(":")[2]
        return {url.rpartition("/")[2]: url for url in self.queue_urls}[name]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings; a missing name is a `KeyError`: the template is wrong, and no batch may be touched."""
        return cls(
            table=environment["TASKQ_TABLE"],
            queue_urls=tuple(environment["TASKQ_QUEUE_URLS"].split(",")),
            dead_letter_queue_url=environment["TASKQ_DEAD_LETTER_QUEUE_URL"],
            retry=Retry(
                max_attempts=int(environment["TASKQ_MAX_ATTEMPTS"]),
                base_s=float(environment["TASKQ_RETRY_BASE_S"]),
                factor=float(environment["TASKQ_RETRY_FACTOR"]),
                cap_s=float(environment["TASKQ_RETRY_CAP_S"]),
            ),
            breaker=BreakerSettings(
                failure_percent=float(environment["TASKQ_BREAKER_FAILURE_PERCENT"]),
                minimum_tasks=int(environment["TASKQ_BREAKER_MINIMUM_TASKS"]),
                window_s=float(environment["TASKQ_BREAKER_WINDOW_S"]),
                cooldown_s=float(environment["TASKQ_BREAKER_COOLDOWN_S"]),
            ),
            stack=environment["TASKQ_STACK"],
            has_metrics=environment["TASKQ_METRICS"] == "true",
            ttl_days=int(environment["TASKQ_TTL_DAYS"]),
        )
