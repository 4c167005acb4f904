"""Sections of `results.json` for tests: those of a run in which all went well."""

from typing import Any

LEDGER: dict[str, Any] = {
    "submitted": 500,
    "completed": 500,
    "dead_lettered": 0,
    "open": 0,
    "lost": 0,
    "duplicates": 0,
    "closed": True,
}
GOOD: dict[str, Any] = {
    "state": "complete",
    "target": "local",
    "parameters": {"n_tasks": 500},
    "started_at": "2026-11-24T02:00:00+00:00",
    "finished_at": "2026-11-24T02:01:00+00:00",
    "versions": {"taskq": "0.1.0", "commit": "abc", "template": "0123456789abcdef", "function_code": "fedcba98"},
    "deployment": {"account": "...0000", "region": "us-east-1", "endpoint": "AWS", "stack": "taskq"},
    "ledger": LEDGER,
    "latency": {
        "end_to_end_s": {
            "n": 500,
            "p50": 1.2,
            "p90": 2.0,
            "p99": 4.0,
            "max": 5.0,
            "n_censored": 0,
            "intervals": {"p50": [1.1, 1.3], "p90": [1.8, 2.1], "p99": [3.5, 5.0]},
        }
    },
    "failure_rate": {"tasks": 0.0, "attempts": 0.0},
}
