"""What the engine's process runs: MiniStack, spared work that it does again and again, and given what it drops.

It splits the text of every PartiQL statement into tokens, twice, though the function's statements differ in their
parameters only; and at every receive it completes the fields of every message in the queue, though that is done once
for each. And the garbage collector walks all messages and items, which stay, again and again. None of that changes what
the engine answers.

Its CloudFormation hands the numbers of a mapping's scaling on as text, with which its poller cannot compare, so that no
mapping of the engine is polled any more; keeps a scaling that an update removes; and drops provisioned pollers and a
function's reserved concurrency. All are set as the Lambda API sets them; the poller acts on all but the pollers.

Measured in docs/decisions.md; the version is pinned, and tests hold that all of these functions are there and do so.
"""

import functools
import gc
from collections.abc import Callable
from typing import Any

from ministack.app import main
from ministack.services import _dynamodb_keywords as partiql
from ministack.services import lambda_svc, sqs
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
    """Let CloudFormation set what it drops: the scaling of a mapping, as numbers, and reserved concurrency."""
    for kind, finish in (
        ("AWS::Lambda::EventSourceMapping", _scale_mapping),
        ("AWS::Lambda::Function", _reserve_concurrency),
    ):
        handlers = _RESOURCE_HANDLERS[kind]
        # The new properties are the second of a create's arguments, and the third of an update's.
        handlers["create"] = _then(handlers["create"], finish, 1)
        handlers["update"] = _then(handlers["update"], finish, 2)


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


if __name__ == "__main__":
    spare()
    mend()
    main()
