"""Tasks that start later, on the engine: held until they are due, sent once, or cancelled and never sent."""

import json
import math
import time
from datetime import UTC, datetime, timedelta

import pytest

from taskq_lib.aws import queues, replacement, schedule, status
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.commands.main import main
from taskq_lib.errors import BadInput, NotDone
from taskq_worker.contract import Task

pytestmark = pytest.mark.integration


def email(task_id: str) -> Task:
    """Make a task."""
    return Task(task_id=task_id, type="SEND_EMAIL", data={"to": "a@example.com"})


def in_s(seconds: float) -> datetime:
    """Return the time so many seconds from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def test_a_task_due_beyond_fifteen_minutes_is_pending_until_it_is_cancelled(stack: Stack, run_id: str) -> None:
    """Such a task is listed with its due time; cancelled, it is gone, and a second cancel says so."""
    when = in_s(3600)
    placed = schedule.at(stack, email(run_id), when)
    assert placed.message_id is None
    assert timedelta(0) <= placed.due_at - when < timedelta(seconds=1)
    row = schedule.pending(stack).set_index("task_id").loc[run_id]
    assert (row["task_type"], row["due_at"]) == ("SEND_EMAIL", placed.due_at)
    assert schedule.due_at(stack, run_id) == placed.due_at
    with pytest.raises(BadInput, match="is scheduled already"):
        schedule.at(stack, email(run_id), when)
    assert schedule.cancel(stack, run_id) == placed.due_at
    assert run_id not in set(schedule.pending(stack)["task_id"])
    with pytest.raises(NotDone, match="is not scheduled: it never was"):
        schedule.cancel(stack, run_id)


def test_a_scheduled_task_is_sent_when_it_is_due_and_completed(stack: Stack, run_id: str) -> None:
    """Its message is like any other, its wait begins at the due time, and the schedule is gone."""
    due_s = math.ceil(time.time()) + 2
    schedule._schedule(stack, email(run_id), due_s)  # what `at` calls for what is due beyond 15 minutes
    assert status.wait(stack, [run_id], 45, progress=False).why == "all final"
    task = status.get(stack, [run_id]).tasks.iloc[0]
    assert (task["state"], task["enqueued_at"].timestamp()) == ("completed", due_s)
    assert 0 <= task["first_started_at"].timestamp() - due_s < 30
    assert schedule.due_at(stack, run_id) is None
    with pytest.raises(NotDone, match="it was sent, and is completed"):
        schedule.cancel(stack, run_id)


def test_a_task_due_within_fifteen_minutes_waits_in_the_queue_itself(stack: Stack, run_id: str) -> None:
    """Its message is delayed, not scheduled, and no attempt begins before the due time."""
    placed = schedule.at(stack, email(run_id), in_s(2))
    assert placed.message_id
    assert schedule.due_at(stack, run_id) is None
    assert status.wait(stack, [run_id], 30, progress=False).why == "all final"
    assert status.get(stack, [run_id]).tasks.iloc[0]["first_started_at"] >= placed.due_at


def test_more_schedules_than_one_page_are_all_listed(stack: Stack, run_id: str) -> None:
    """130 schedules, a page is 100: none is missing, in the order of their due times."""
    made = [f"{run_id}-{i:03}" for i in range(130)]
    last_s = math.ceil(time.time()) + 4000
    for i, task_id in enumerate(made):
        schedule._schedule(stack, email(task_id), last_s - i)
    listed = schedule.pending(stack)
    assert schedule.count(stack) == len(listed)
    assert [one for one in listed["task_id"] if one.startswith(run_id)] == made[::-1]
    for task_id in made:
        schedule.cancel(stack, task_id)


def test_the_commands_schedule_show_and_cancel(
    target: Target, stack: Stack, run_id: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`submit --in` schedules, `status` says when it is due, `cancel` takes it back, and says when it cannot."""
    monkeypatch.setattr("taskq_lib.commands.options.connect", lambda _name, _region: target)
    where = ["--stack-name", stack.name]
    data = ["--type", "SEND_EMAIL", "--data", '{"to": "a@example.com"}', "--task-id", run_id]
    assert main(["submit", *where, *data, "--in", "2h", "--json"]) == 0
    sent = json.loads(capsys.readouterr().out)
    assert sent["message_id"] is None
    assert main(["status", *where, run_id, "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == [{"task_id": run_id, "state": "scheduled", "due_at": sent["due_at"]}]
    assert main(["cancel", *where, run_id]) == 0
    assert sent["due_at"] in capsys.readouterr().out
    assert main(["cancel", *where, run_id]) == 1
    assert "it never was, or it was sent" in capsys.readouterr().err
    assert main(["status", *where, run_id]) == 1
    assert "pending or unknown" in capsys.readouterr().out


def test_a_teardown_counts_what_is_scheduled_and_takes_it_along(target: Target) -> None:
    """A scheduled task stops a teardown as a message does, and a change to FIFO; with the stack its schedule goes."""
    live = stacks.deploy(target, "later", progress=lambda _line: None)
    schedule.at(live, email("later"), in_s(7200))
    counts = queues.counts(live)
    with pytest.raises(BadInput, match="1 tasks are scheduled"):
        queues.refuse_messages(counts, schedule.count(live), allowed=False)
    queues.refuse_messages(counts, schedule.count(live), allowed=True)
    with pytest.raises(BadInput, match=r"ends .*Queue, and 1 tasks are scheduled"):
        replacement.refuse(stacks.preview(target, "later", {"FifoQueue": "true"}), allowed=True)
    stacks.delete(live, delete_table=True, progress=lambda _line: None)
    groups = target.client("scheduler").list_schedule_groups()["ScheduleGroups"]
    assert live.outputs["ScheduleGroupName"] not in {group["Name"] for group in groups}
    assert schedule.count(live) == 0


def test_on_a_fifo_stack_a_scheduled_task_is_sent_in_its_group(target: Target) -> None:
    """A FIFO queue delays no message, so a schedule holds even what is due in seconds, and sends it to its group."""
    live = stacks.deploy(target, "ordered", {"FifoQueue": "true"}, progress=lambda _line: None)
    placed = [schedule.at(live, email(name), in_s(2), group) for name, group in (("t1", None), ("t2", "tenant"))]
    assert [one.message_id for one in placed] == [None, None]
    assert status.wait(live, ["t1", "t2"], 45, progress=False).why == "all final"
    tasks = status.get(live, ["t1", "t2"]).tasks.set_index("task_id")
    assert tasks["state"].tolist() == ["completed", "completed"]
    assert tasks["message_group"].to_dict() == {"t1": "SEND_EMAIL", "t2": "tenant"}
    assert schedule.count(live) == 0
    stacks.delete(live, delete_table=True, progress=lambda _line: None)
