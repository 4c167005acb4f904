"""The function's own metrics, as log lines that CloudWatch takes as metrics: no request, no library, no wait.

After the CloudWatch guide, "Specification: Embedded metric format".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from taskq_worker.contract import METRIC_NAMESPACE, METRICS, Outcome
from taskq_worker.log import log, together
from taskq_worker.store import Result, Verdict

#: An array of a metric holds no more values (the specification).
MAX_VALUES = 100

Values = dict[str, list[float]]


@dataclass(kw_only=True)
class Tally:
    """What an invocation has to report, and has not reported yet."""

    stack: str  #: The stack's name
    began_at: float  #: Unix seconds
    ends_at: float  #: Unix seconds: when the function is killed at the latest
    kinds: set[str] = field(default_factory=set)  #: The task types of the batch
    results: list[tuple[Result, bool]] = field(default_factory=list)  #: And whether the table took them
    n_invalid: int = 0  #: Messages that hold no task and are dead-lettered

    def report(self, is_open: Callable[[str], bool], *, at_end: bool = True) -> None:
        """Print what there is, a line a task type and, at the end of an invocation, one for itself; never raises.

        `is_open` says of a task type whether its circuit breaker lets no task through.
        """
        try:
            with together():
                self._report(is_open, at_end=at_end)
        except Exception as error:  # noqa: BLE001 - what tells of the work must not stop it
            log("taskq.metrics_failed", level="ERROR", error=repr(error))
        self.kinds.clear()
        self.results.clear()
        self.n_invalid = 0

    def _report(self, is_open: Callable[[str], bool], *, at_end: bool) -> None:
        now, values = time.time(), self._by_type()
        for kind in sorted(self.kinds):
            of_type = values.get(kind, {}) | {"BreakerOpen": [int(is_open(kind))]}
            for line in lines(self.stack, of_type, now, kind):
                log("taskq.metrics", **line)
        own: Values = {"TaskFailed": [1] * self.n_invalid}
        if at_end:
            own["TimeUsed"] = [round(100 * (now - self.began_at) / (self.ends_at - self.began_at), 2)]
        for line in lines(self.stack, own, now):
            log("taskq.metrics", **line)

    def _by_type(self) -> dict[str, Values]:
        values: dict[str, Values] = {}
        for result, is_recorded in self.results:
            of_type = values.setdefault(result.claim.delivery.task.type, {})
            for name, value in _values(result, is_recorded=is_recorded):
                of_type.setdefault(name, []).append(value)
        return values


def lines(
    stack: str, values: Mapping[str, list[float]], now: float, kind: str | None = None
) -> Iterator[dict[str, Any]]:
    """Return the members of as many log lines as these values take; `now` in Unix seconds.

    Each metric is there for the whole stack and, where `kind` is given, for that task type.
    """
    names = {"Stack": stack} | ({"TaskType": kind} if kind else {})
    dimensions = [["Stack"], ["Stack", "TaskType"]] if kind else [["Stack"]]
    for start in range(0, max(map(len, values.values())), MAX_VALUES):
        part = {name: some for name, every in values.items() if (some := every[start : start + MAX_VALUES])}
        metrics = [{"Name": name, "Unit": METRICS[name]} for name in part]
        directive = {"Namespace": METRIC_NAMESPACE, "Dimensions": dimensions, "Metrics": metrics}
        yield {**names, **part, "_aws": {"Timestamp": round(now * 1000), "CloudWatchMetrics": [directive]}}


def _values(result: Result, *, is_recorded: bool) -> Iterator[tuple[str, float]]:
    claim, has_failed = result.claim, int(result.outcome is not Outcome.COMPLETED)
    # An attempt that vanished is told by nobody who saw it end.
    if claim.verdict is not Verdict.EXHAUSTED:
        yield "AttemptFailed", has_failed
        yield "ProcessingTime", round(result.finished_at - result.started_at, 3)
        if claim.attempt == 1 and not claim.redrive:
            enqueued_at = claim.delivery.task.enqueued_at
            yield "QueueWait", round(result.started_at - (enqueued_at or claim.delivery.sent_at), 3)
    if is_recorded and (not has_failed or result.reason):
        yield "TaskFailed", has_failed
