"""The task types: one decorated function each.

Its parameters after the first are the fields of `data`, with their types and defaults: producer and function read the
schema from here. The work itself is simulated; replace a body with real code and keep the signature.
"""

from __future__ import annotations

from typing import Any

from taskq_worker.contract import TaskContext, register


@register("IMAGE_RESIZE")
def image_resize(context: TaskContext, filename: str, width: int = 800, height: int = 600) -> dict[str, Any]:
    """Resize an image; returns the confirmation and the dimensions."""
    return {"message": f"{context.task_id}: resized", "filename": filename, "width": width, "height": height}


@register("SEND_EMAIL")
def send_email(context: TaskContext, to: str) -> dict[str, Any]:
    """Send an e-mail; returns the confirmation and the message id."""
    # The id is made from the task's own, so that a second attempt names the same mail.
    return {"message": "sent", "to": to, "message_id": f"{context.task_id}@taskq"}


@register("PROCESS_DATA")
def process_data(context: TaskContext, record_count: int, source: str = "inline") -> dict[str, Any]:
    """Transform records; returns the confirmation and the record count."""
    return {"message": f"{context.task_id}: processed", "record_count": record_count, "source": source}
