"""What fails, how often and how sure that figure is; what was done about it, and what nothing can be done about."""

from datetime import datetime

import numpy as np
import pandas as pd

from taskq_lib.analysis import NOT_STATED, OPEN_STATES, group_key, is_final, number, numbered, places, require
from taskq_lib.analysis.intervals import wilson
from taskq_lib.analysis.signatures import signed
from taskq_lib.analysis.throughput import interval_s_for
from taskq_lib.errors import BadInput
from taskq_worker.contract import Reason

#: What each reason means to who has to act on it.
MEANINGS = {
    str(Reason.MAX_ATTEMPTS): "every attempt of the budget failed; redrive it once the cause is mended",
    str(Reason.NON_RETRYABLE): "its error said that no retry can help; correct the task or what it works on",
    str(Reason.INVALID): "the message breaks the contract; correct its producer and submit the task anew",
    str(Reason.RECEIVE_LIMIT): "SQS moved it, the function never gave it up; see the safety net",
    NOT_STATED: "dead-lettered, and no reason was written down",
}

#: What the status of a task says of a message that SQS moved.
_SAFETY_NET = {
    "pending": "never started: each delivery was throttled, paused, or met a function that broke down before it",
    "processing": "its worker vanished: an attempt began, and no outcome was recorded",
    "retrying": "attempts are left: its receives were used up by waits and throttles, not by failures",
    "completed": "completed all the same: this message is a duplicate of one that was handled",
    "dead_lettered": "given up by the function as well: another dead letter says why",
    "redriven": "redriven, and moved before its task was opened again; redrive it once more",
}


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
    return table.join(wilson(table["n_dead_lettered"], table["n_final"]))


def attempt_failure_rate(attempts: pd.DataFrame) -> float:
    """Give the share of ended attempts that failed or were lost (0..1), NaN if none has ended."""
    require(attempts, "attempts", "outcome")
    ended = attempts["outcome"].dropna()
    return float((ended != "completed").mean()) if len(ended) else float("nan")


def over_time(attempts: pd.DataFrame, by: str | None = None) -> pd.DataFrame:
    """Give the share of attempts that failed or were lost in each interval of time: one row a group and interval.

    Columns: `group` (str; "all" when `by` is None), `at` (start of the interval), `interval_s` (its length, the same on
    every row), `n_ended`, `n_failed` (int64), and `failure_rate` with its 95 % Wilson interval `low`..`high` (0..1; NaN
    where no attempt ended). An attempt is counted when it ended or, if it was lost, when it began; one that has no time
    is not. There are 25 intervals at most, and fewer where they would hold less than 40 attempts on average. Without
    attempts there is no row.

    Raises `BadInput` for a missing column or an unknown `by`.
    """
    require(attempts, "attempts", "outcome", "received_at", "started_at", "finished_at")
    at = attempts["finished_at"].fillna(attempts["started_at"]).fillna(attempts["received_at"])
    known = (at.notna() & attempts["outcome"].notna()).to_numpy()
    key, bad = group_key(attempts, by)[known], (attempts["outcome"] != "completed").to_numpy()[known]
    us = at[known].dt.as_unit("us").astype("int64").to_numpy()
    first, last = (int(us.min()), int(us.max())) if us.size else (0, 0)
    # The ladder's interval that gives about 100, of a span that is as many times longer as there are to be fewer.
    fewer = 100 / min(25, max(5, us.size / 40))
    width = round(1e6 * interval_s_for(fewer * (last - first) / 1e6))
    start, groups = first // width * width, (key.cat.categories if us.size else key.cat.categories[:0])
    n = (last - start) // width + 1
    place = key.cat.codes.to_numpy().astype(np.int64) * n + (us - start) // width
    counts = [np.bincount(place[chosen], minlength=len(groups) * n) for chosen in (slice(None), bad)]
    table = pd.DataFrame(
        {
            "group": pd.array(np.repeat(np.asarray(groups, dtype=object), n), dtype="str"),
            "at": np.tile(pd.to_datetime(start + width * np.arange(n), unit="us", utc=True), len(groups)),
            "interval_s": width / 1e6,
            "n_ended": counts[0],
            "n_failed": counts[1],
        }
    ).astype({"at": "datetime64[us, UTC]"})
    return table.join(wilson(table["n_failed"], table["n_ended"]))


def by_signature(dead: pd.DataFrame) -> pd.DataFrame:
    """Sort the dead letters by their error signature: one row a signature, the most frequent first.

    Columns: `signature_id`, `signature` (str, see `signatures`), `reason` (str; several are separated by commas),
    `n_messages`, `n_tasks` (int64), `first_seen`, `last_seen` (when the first attempt began and the last one ended, or
    else when the message was sent), `task_types` (str, separated by commas; "" where no message names one), `example`
    (str; the id of the earliest task, or of the message where it names none, and its error).

    `dead` needs the columns of `queues.DEAD_COLUMNS` up to `sent_at`. Raises `BadInput` for a missing one.
    """
    require(dead, "dead", "message_id", "task_type", "reason", "first_at", "last_at", "sent_at")
    seen = dead.assign(
        first_seen=dead["first_at"].fillna(dead["sent_at"]),
        last_seen=dead["last_at"].fillna(dead["sent_at"]),
        named=dead["task_id"].fillna("message " + dead["message_id"]),
    )
    return _by_signature(signed(seen, "reason"), "reason", "n_messages")


def top(groups: pd.DataFrame, n: int = 10) -> list[dict[str, object]]:
    """Give `results.json` its "signatures": the first `n` rows of `by_signature`, without what is long."""
    columns = ["signature_id", "signature", "reason", "task_types", "n_tasks"]
    return [{str(name): value for name, value in row.items()} for row in groups[columns].head(n).to_dict("records")]


def attempts_by_signature(attempts: pd.DataFrame) -> pd.DataFrame:
    """Sort the attempts that failed or were lost by their error signature: one row a signature, most frequent first.

    Columns as `by_signature` has them, with `outcome` for `reason` and `n_attempts` for `n_messages`; an attempt is
    seen from its start to its end. One that left no error goes by its outcome. Raises `BadInput` for a missing column.
    """
    require(attempts, "attempts", "task_id", "task_type", "outcome", "started_at", "finished_at")
    bad = attempts[attempts["outcome"].isin(["failed", "lost"])]
    seen = bad.assign(
        first_seen=bad["started_at"].fillna(bad["finished_at"]),
        last_seen=bad["finished_at"].fillna(bad["started_at"]),
        named=bad["task_id"],
    )
    return _by_signature(signed(seen, "outcome"), "outcome", "n_attempts")


def outcome_by_attempt(attempts: pd.DataFrame) -> pd.DataFrame:
    """Count the ended attempts by their number and outcome: `attempt` (from 1), `outcome`, `n` (int64), where `n` > 0.

    An attempt that is still running has no outcome and is not counted. Raises `BadInput` for a missing column.
    """
    require(attempts, "attempts", "attempt", "outcome")
    ended = attempts.dropna(subset=["outcome"])
    return ended.groupby(["attempt", "outcome"], observed=True).size().rename("n").reset_index()


def by_reason(tasks: pd.DataFrame, dead: pd.DataFrame) -> pd.DataFrame:
    """Count what was dead-lettered by reason: one row a reason, the one of the most messages first.

    Columns: `reason` (str), `n_tasks` (of `tasks`), `n_messages` (of `dead`; int64), `meaning` (str, from `MEANINGS`).
    A message that names no task of these is a message only: it is malformed, or foreign to the run. A task of which
    SQS moved the message is a message only, too: its status does not say so, `safety_net` does.
    Raises `BadInput` for a missing column.
    """
    require(tasks, "tasks", "state", "reason")
    require(dead, "dead", "reason")
    n_tasks = tasks.loc[tasks["state"] == "dead_lettered", "reason"].fillna(NOT_STATED).value_counts()
    n_messages = dead["reason"].fillna(NOT_STATED).value_counts()
    counts = pd.DataFrame({"n_tasks": n_tasks, "n_messages": n_messages}).fillna(0).astype("int64")
    counts = counts.rename_axis("reason").reset_index().astype({"reason": "str"})
    counts = counts.sort_values(["n_messages", "reason"], ascending=[False, True], ignore_index=True)
    return counts.assign(meaning=counts["reason"].map(MEANINGS).astype("str"))


def remedies(tasks: pd.DataFrame, attempts: pd.DataFrame) -> dict[str, object]:
    """Say in words and numbers what was done about failures, and whether it helped.

    Tasks with a failed or lost attempt, how many of them a retry or a redrive completed, how many are dead or open;
    retries in all, and the median back-off, from the end of an attempt to the start of its retry (None without one).
    Raises `BadInput` for a missing column.
    """
    require(tasks, "tasks", "task_id", "state")
    require(attempts, "attempts", "task_id", "attempt", "outcome", "started_at", "finished_at")
    of_tasks, task = numbered(tasks["task_id"], attempts["task_id"])
    is_bad = np.zeros(max(of_tasks.max(initial=-1), task.max(initial=-1)) + 1, dtype=bool)
    is_bad[task[attempts["outcome"].isin(["failed", "lost"]).to_numpy()]] = True
    failing = tasks[is_bad[of_tasks]]
    state, completed = failing["state"], failing["state"] == "completed"
    was_redriven = failing.get("n_redrives", pd.Series(0, index=failing.index)) > 0
    # Most tasks have one attempt, and wait for no other.
    several = np.bincount(task)[task] > 1
    in_order = attempts.loc[several, ["attempt", "started_at", "finished_at"]].assign(task=task[several])
    in_order = in_order.sort_values(["task", "started_at"], kind="stable")
    waited = in_order["started_at"] - in_order.groupby("task")["finished_at"].shift()
    return {
        "tasks with a failed attempt": len(state),
        "of these completed by a retry": int((completed & ~was_redriven).sum()),
        "of these completed after a redrive": int((completed & was_redriven).sum()),
        "of these dead-lettered": int((state == "dead_lettered").sum()),
        "of these still open": int(state.isin(OPEN_STATES).sum()),
        "retries": int((attempts["attempt"] > 1).sum()),
        # An attempt 1 that is not the task's first follows a redrive, which people time.
        "median back-off before a retry, s": number(waited[in_order["attempt"] > 1].dt.total_seconds().median()),
    }


def safety_net(tasks: pd.DataFrame, dead: pd.DataFrame) -> pd.DataFrame:
    """List what SQS moved to the dead-letter queue by itself, and what the status table says of it.

    One row a message with the reason "receive_limit": the function attached nothing, so it did not give the task up.
    Columns: `task_id`, `message_id` (str), `n_receives` (Int32; by readers of the dead-letter queue as well), `state`
    (str; missing where no status was found), `n_attempts` (Int32), `what` (str; a sentence). Of a time window, a task
    without a status may also be one that did not change within it. Raises `BadInput` for a missing column.
    """
    require(dead, "dead", "task_id", "message_id", "n_receives", "reason", "ticket_at")
    require(tasks, "tasks", "task_id", "state", "n_attempts", "error_type", "lease_until", "finished_at")
    moved = dead.loc[dead["reason"] == str(Reason.RECEIVE_LIMIT), ["task_id", "message_id", "n_receives", "ticket_at"]]
    columns = ["task_id", "state", "n_attempts", "error_type", "lease_until", "finished_at"]
    # A merge numbers every id of both sides; few are wanted.
    of_moved = tasks.loc[tasks["task_id"].isin(moved["task_id"]), columns]
    found = moved.merge(of_moved.astype({"state": "str"}), on="task_id", how="left")
    # What was claimed and given back before its start has a status, and no attempt.
    begun = found["state"].notna() & (found["n_attempts"].fillna(0) > 0)
    # A letter whose ticket could open its task still is one that was redriven, and the death is the one before.
    redriven = (found["state"] == "dead_lettered") & (found["finished_at"] <= found["ticket_at"])
    what = found["state"].where(begun, "pending").mask(redriven, "redriven").map(_SAFETY_NET).astype("str")
    lease = "; its lease ran to " + found["lease_until"].dt.strftime("%Y-%m-%d %H:%M:%S UTC")
    last = "; its last error was " + found["error_type"]
    what += lease.where(begun & (found["state"] == "processing")).fillna("")
    what += last.where(begun & (found["state"] == "retrying")).fillna("")
    found["what"] = what.mask(found["task_id"].isna(), "never reached the function, and its body names no task")
    return found[["task_id", "message_id", "n_receives", "state", "n_attempts", "what"]]


def stuck(tasks: pd.DataFrame, dead: pd.DataFrame, now: datetime, *, queue_is_empty: bool) -> pd.DataFrame:
    """List the tasks that nothing seems to move any more: one row a task, the longest overdue first.

    A task is stuck if it has no dead letter, is processing, and its lease ran out before `now` (with a time zone): its
    worker vanished. With an empty queue, a retrying task is stuck as well: no message is left that could retry it.
    Columns: `task_id`, `task_type`, `state`, `n_attempts`, `lease_until` (of a retrying task the end of its last
    attempt), `overdue_s` (float64, since then).

    What it cannot know: SQS cannot be asked whether it holds a given message. While the queue holds any, one may be
    the task's: a worker that vanished leaves its message hidden until the visibility timeout ends, and then the task
    goes on by itself. With an empty queue there is no such doubt, but for the minute that its counts lag behind on AWS;
    they must have been taken before `tasks` was read. `dead` must be the whole inventory.

    Raises `BadInput` for a missing column or a `now` without a time zone.
    """
    require(tasks, "tasks", "task_id", "task_type", "state", "n_attempts", "lease_until")
    require(dead, "dead", "task_id")
    if now.tzinfo is None:
        raise BadInput(f"`now` is {now}, without a time zone; leases end at a time in UTC.")
    is_stuck = (tasks["state"] == "processing") & (tasks["lease_until"] < now)
    if queue_is_empty:
        is_stuck |= tasks["state"] == "retrying"
    columns = ["task_id", "task_type", "state", "n_attempts", "lease_until"]
    found: pd.DataFrame = tasks.loc[is_stuck, columns]
    found = found[places(found["task_id"], dead["task_id"].dropna()) < 0]
    found = found.assign(overdue_s=(now - found["lease_until"]).dt.total_seconds())
    return found.sort_values("overdue_s", ascending=False, kind="stable", ignore_index=True)


def summary(tasks: pd.DataFrame, attempts: pd.DataFrame) -> dict[str, object]:
    """Give `results.json` its "failure_rate": `tasks`, `attempts`, `by_type` (0..1; None where nothing has ended)."""
    by_type = rates(tasks)
    return {
        "tasks": number(rates(tasks, by=None)["failure_rate"].iloc[0]),
        "attempts": number(attempt_failure_rate(attempts)),
        "by_type": {group: number(rate) for group, rate in zip(by_type["group"], by_type["failure_rate"], strict=True)},
    }


def _by_signature(seen: pd.DataFrame, kind: str, n: str) -> pd.DataFrame:
    """Group `signed` rows: columns `first_seen`, `last_seen`, `named`, and `kind`, of which the values are listed."""
    seen = seen.sort_values("first_seen", kind="stable")
    seen["example"] = seen["named"] + (": " + seen["error"]).fillna("")
    groups = seen.groupby("signature", sort=False)
    table: pd.DataFrame = groups.agg(
        signature_id=("signature_id", "first"),
        **{n: ("signature", "size")},
        n_tasks=("task_id", "nunique"),
        first_seen=("first_seen", "min"),
        last_seen=("last_seen", "max"),
        example=("example", "first"),
    )
    for name, column in ((kind, kind), ("task_types", "task_type")):
        values = seen[["signature"]].assign(value=seen[column].astype("str")).dropna().drop_duplicates()
        listed = values.sort_values("value").groupby("signature")["value"].agg(", ".join)
        table[name] = listed.reindex(table.index).fillna("").astype("str")
    columns = ["signature_id", "signature", kind, n, "n_tasks", "first_seen", "last_seen", "task_types", "example"]
    return table.reset_index()[columns].sort_values([n, "signature"], ascending=[False, True], ignore_index=True)
