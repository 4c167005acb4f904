"""The function's entry point."""

from typing import Any

from taskq_worker.batch import handle_batch


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Process one batch of SQS records and return a partial batch response."""
    return handle_batch(event, context)
