"""What the template tells the function through its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The function's settings; names and units as in `cloudformation.yaml`."""

    table: str  #: The status table's name
    queue_url: str
    dead_letter_queue_url: str
    max_attempts: int  #: The attempt budget: the first attempt and its retries
    retry_base_s: float  #: Mean of the first retry's delay is half of this (full jitter)
    retry_cap_s: float  #: No retry waits longer
    ttl_days: int  #: Status items expire this long after their last attempt began; 0 keeps them

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings; a missing name is a `KeyError`: the template is wrong, and no batch may be touched."""
        return cls(
            table=environment["TASKQ_TABLE"],
            queue_url=environment["TASKQ_QUEUE_URL"],
            dead_letter_queue_url=environment["TASKQ_DEAD_LETTER_QUEUE_URL"],
            max_attempts=int(environment["TASKQ_MAX_ATTEMPTS"]),
            retry_base_s=float(environment["TASKQ_RETRY_BASE_S"]),
            retry_cap_s=float(environment["TASKQ_RETRY_CAP_S"]),
            ttl_days=int(environment["TASKQ_TTL_DAYS"]),
        )
