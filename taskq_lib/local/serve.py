"""What the engine's process runs: MiniStack, spared work that it does again and again, and mended (`mends`).

It splits the text of every PartiQL statement into tokens, twice, though the function's statements differ in their
parameters only; and at every receive it completes the fields of every message in the queue, though that is done once
for each. And the garbage collector walks all messages and items, which stay, again and again. None of that changes what
the engine answers. Measured in docs/decisions.md; the version is pinned, and a test holds that
both functions are there and idempotent.
"""

import functools
import gc
from typing import Any

from ministack.app import main
from ministack.services import _dynamodb_keywords as partiql
from ministack.services import sqs

from taskq_lib.local import mends

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


if __name__ == "__main__":
    spare()
    mends.changes_under_conditions()
    mends.concurrency_of_stacks()
    mends.global_tables()
    mends.schedules_in_pages()
    mends.whole_batches()
    mends.memory_of_workers()
    main()
