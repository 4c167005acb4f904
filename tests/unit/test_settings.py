"""What the function reads from its environment."""

import pytest

from taskq_worker.settings import Settings


def settings(**environment: str) -> Settings:
    """Read settings from an environment that lacks nothing."""
    plain = {
        "TABLE": "t",
        "QUEUE_URLS": "q",
        "DEAD_LETTER_QUEUE_URL": "d",
        "MAX_ATTEMPTS": "3",
        "TTL_DAYS": "0",
        "STACK": "s",
    }
    plain |= {
        "METRICS": "true",
        "RETRY_BASE_S": "2",
        "RETRY_FACTOR": "2",
        "RETRY_CAP_S": "300",
        "BREAKER_FAILURE_PERCENT": "0",
    }
    plain |= {"BREAKER_MINIMUM_TASKS": "20", "BREAKER_WINDOW_S": "60", "BREAKER_COOLDOWN_S": "30"}
    return Settings.from_environment({f"TASKQ_{name}": value for name, value in (plain | environment).items()})


def test_the_queue_of_a_record_is_found_by_its_arn() -> None:
    """Of several queues the one is meant whose name the ARN ends in, whatever the names have in common."""
    urls = ["https://sqs.us-east-1.amazonaws.com/123456789012/" + name for name in ("q", "q-urgent", "q.fifo")]
    read = settings(QUEUE_URLS=",".join(urls))
    assert [
        read.queue_url(f"arn:aws:sqs:us-east-1:123456789012:{name}") for name in ("q", "q-urgent", "q.fifo")
    ] == urls


def test_an_unknown_queue_is_refused() -> None:
    """A record of a queue that the template does not name is an error, before any record is touched."""
    with pytest.raises(KeyError, match="other"):
        settings(QUEUE_URLS="https://sqs/1/q").queue_url("arn:aws:sqs:us-east-1:1:other")
