"""The worker behind the queue: contract, task types, batch loop, status store."""

from taskq_worker import task_types  # noqa: F401 - importing it registers the types
