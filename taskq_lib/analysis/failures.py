"""What fails, how often, and how sure that figure is."""

from statistics import NormalDist

import numpy as np
import pandas as pd

from taskq_lib.analysis import NOT_STATED, group_key, is_final, number, require

#: Standard normal quantile of a two-sided 95 % interval, 1.96.
_Z = NormalDist().inv_cdf(0.975)


def rates(tasks: pd.DataFrame, by: str | None = "task_type") -> pd.DataFrame:
    """Give the share of final tasks that were dead-lettered: one row a group.

    Columns: `group` (str; "all" when `by` is None), `n_final`, `n_dead_lettered` (int64), `failure_rate`, `low`, `high`
    (float64, 0..1; NaN for a group in which nothing is final yet). Tasks that are still open are not counted.

    `low` and `high` bound the rate with 95 % confidence: the score interval of E. B. Wilson, "Probable Inference, the
    Law of Succession, and Statistical Inference", JASA 22(158), 1927. It holds for few tasks and for a rate of 0. It
    takes the tasks as independent; failures that come together, as in an outage, leave more doubt than it shows.

    Raises `BadInput` for a missing column or an unknown `by`.
    """
    require(tasks, "tasks", "state")
    key = group_key(tasks, by)
    # observed=False keeps the groups in which nothing is final yet.
    n_final = is_final(tasks).groupby(key, observed=False).sum()
    n_dead_lettered = (tasks["state"] == "dead_lettered").groupby(key, observed=False).sum()
    table = pd.DataFrame({"n_final": n_final, "n_dead_lettered": n_dead_lettered}).astype("int64")
    table = table.rename_axis("group").reset_index().astype({"group": "str"})
    return table.join(_wilson(table["n_dead_lettered"], table["n_final"]))


def attempt_failure_rate(attempts: pd.DataFrame) -> float:
    """Give the share of ended attempts that failed or were lost (0..1), NaN if none has ended."""
    require(attempts, "attempts", "outcome")
    ended = attempts["outcome"].dropna()
    return float((ended != "completed").mean()) if len(ended) else float("nan")


def by_error(attempts: pd.DataFrame) -> pd.DataFrame:
    """Sort the attempts that failed or were lost by their error: one row an error type, the most frequent first.

    Columns: `error_type` (str), `n_attempts`, `n_tasks` (int64), `first_at`, `last_at` (when such an attempt ended or,
    if that is not known, started), `example` (str; the message of the earliest one that has a message). An attempt that
    left no error type goes by its outcome, "lost" or "failed". Raises `BadInput` for a missing column.
    """
    require(attempts, "attempts", "task_id", "outcome", "error_type", "error", "started_at", "finished_at")
    bad = attempts[attempts["outcome"].isin(["failed", "lost"])]
    bad = bad.assign(
        error_type=bad["error_type"].fillna(bad["outcome"].astype("str")),
        at=bad["finished_at"].fillna(bad["started_at"]),
    ).sort_values("at")
    table = bad.groupby("error_type").agg(
        n_attempts=("outcome", "size"),
        n_tasks=("task_id", "nunique"),
        first_at=("at", "min"),
        last_at=("at", "max"),
        example=("error", "first"),
    )
    return table.reset_index().sort_values(["n_attempts", "error_type"], ascending=[False, True], ignore_index=True)


def outcome_by_attempt(attempts: pd.DataFrame) -> pd.DataFrame:
    """Count the ended attempts by their number and outcome: `attempt` (from 1), `outcome`, `n` (int64), where `n` > 0.

    An attempt that is still running has no outcome and is not counted. Raises `BadInput` for a missing column.
    """
    require(attempts, "attempts", "attempt", "outcome")
    ended = attempts.dropna(subset=["outcome"])
    return ended.groupby(["attempt", "outcome"], observed=True).size().rename("n").reset_index()


def by_reason(tasks: pd.DataFrame, dead: pd.DataFrame) -> pd.DataFrame:
    """Count what was dead-lettered by reason: `reason` (str), `n_tasks` (of `tasks`), `n_messages` (of `dead`; int64).

    A message that names no task of these is a message only: it is malformed, or foreign to the run.
    Raises `BadInput` for a missing column.
    """
    require(tasks, "tasks", "state", "reason")
    require(dead, "dead", "reason")
    n_tasks = tasks.loc[tasks["state"] == "dead_lettered", "reason"].fillna(NOT_STATED).value_counts()
    n_messages = dead["reason"].fillna(NOT_STATED).value_counts()
    counts = pd.DataFrame({"n_tasks": n_tasks, "n_messages": n_messages}).fillna(0).astype("int64")
    return counts.rename_axis("reason").reset_index()


def summary(tasks: pd.DataFrame, attempts: pd.DataFrame) -> dict[str, object]:
    """Give `results.json` its "failure_rate": `tasks`, `attempts`, `by_type` (0..1; None where nothing has ended)."""
    by_type = rates(tasks)
    return {
        "tasks": number(rates(tasks, by=None)["failure_rate"].iloc[0]),
        "attempts": number(attempt_failure_rate(attempts)),
        "by_type": {group: number(rate) for group, rate in zip(by_type["group"], by_type["failure_rate"], strict=True)},
    }


def _wilson(n_hits: "pd.Series[int]", n: "pd.Series[int]") -> pd.DataFrame:
    """Give `failure_rate` and its 95 % Wilson interval `low`..`high` for `n_hits` out of `n`; NaN where `n` is 0."""
    known = n.where(n > 0).astype("float64")
    rate = n_hits / known
    centre = (rate + _Z**2 / (2 * known)) / (1 + _Z**2 / known)
    half = _Z * np.sqrt(rate * (1 - rate) / known + _Z**2 / (4 * known**2)) / (1 + _Z**2 / known)
    # At rates of 0 and 1 the interval touches the rate; rounding must not push it past.
    return pd.DataFrame(
        {"failure_rate": rate, "low": (centre - half).clip(0, rate), "high": (centre + half).clip(rate, 1)}
    )
