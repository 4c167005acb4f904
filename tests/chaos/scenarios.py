"""What goes wrong, scenario by scenario: microburst's rules for the proxy, and what is done by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.chaos.proxy import PARTIAL

Rule = dict[str, Any]

SERVICES = ("sqs", "dynamodb")
#: Everything that is sent in batches and may fail entry by entry.
BATCHES = {
    "sqs": ("SendMessageBatch", "ChangeMessageVisibilityBatch"),
    "dynamodb": ("BatchExecuteStatement", "BatchGetItem"),
}
#: SQS's throttle has status 403 on AWS. microburst puts a namespace before its code, which the SDK does not know then;
#: with 503 the SDK tries again, as it does on AWS.
_THROTTLES = {
    "sqs": {"code": "RequestThrottled", "status": 503},
    "dynamodb": {"code": "ProvisionedThroughputExceededException", "status": 400},
}
_BROKEN = {
    "sqs": {"code": "InternalError", "status": 500},
    "dynamodb": {"code": "InternalServerError", "status": 500},
}
#: Mostly a nuisance; one in twenty outlives the invocation that asked, so that its write arrives when nobody waits.
_SLOW_MS = {"dist": "spike", "min": 20, "max": 400, "spike_ms": 6000, "spike_p": 0.05}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One row of the table."""

    name: str
    n_tasks: int
    faults: tuple[str, ...] = ()  #: Kinds of the proxy's faults
    services: tuple[str, ...] = SERVICES  #: Whose answers they spoil
    rate: float = 0.1  #: Share of the requests that each kind spoils
    kill_every_s: float = 0  #: A worker process is killed as often, on average; 0 is never
    stall_every_s: float = 0  #: The engine stops for 1 to 3 s as often, on average; 0 is never
    twice_share: float = 0  #: Share of the tasks whose message is sent twice

    def rules(self) -> list[tuple[str, Rule]]:
        """Return the proxy's rules, each with the kind of fault that it injects."""
        return [
            (kind, {**rule, "probability": self.rate})
            for kind in self.faults
            for service in self.services
            for rule in _rules(kind, service)
        ]


def _rules(kind: str, service: str) -> list[Rule]:
    if kind == "partial":
        return [
            {"service": service, "operation": operation, "response": {"set_headers": {PARTIAL: "yes"}}}
            for operation in BATCHES[service]
        ]
    effects: dict[str, Rule] = {
        "throttle": {"error": _THROTTLES[service]},
        "broken": {"error": _BROKEN[service]},
        "latency": {"latency": _SLOW_MS},
        "reset": {"reset": True},
        # The request reaches the engine, the answer's body does not come back.
        "lost answer": {"response": {"abort_bytes": 0}},
    }
    return [{"service": service, **effects[kind]}]


SCENARIOS = (
    Scenario(name="sqs errors", n_tasks=2_000, faults=("throttle", "broken"), services=("sqs",)),
    Scenario(name="dynamodb errors", n_tasks=2_000, faults=("throttle", "broken"), services=("dynamodb",)),
    Scenario(name="partial failures", n_tasks=2_000, faults=("partial",), rate=0.2),
    Scenario(name="latency", n_tasks=2_000, faults=("latency",)),
    Scenario(name="resets", n_tasks=2_000, faults=("reset",)),
    Scenario(name="lost answers", n_tasks=2_000, faults=("lost answer",)),
    Scenario(name="killed workers", n_tasks=2_000, kill_every_s=2),
    Scenario(name="sent twice", n_tasks=2_000, twice_share=0.3),
    Scenario(name="slow engine", n_tasks=2_000, stall_every_s=5),
    # Six kinds, each in 2 % of the requests, spoil over 10 % of them.
    Scenario(
        name="all together",
        n_tasks=20_000,
        faults=("throttle", "broken", "partial", "latency", "reset", "lost answer"),
        rate=0.02,
        kill_every_s=3,
        stall_every_s=15,
        twice_share=0.1,
    ),
)
