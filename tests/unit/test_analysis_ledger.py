"""The ledger: every task of the manifest is on exactly one side of the account, and nothing is hidden."""

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib.analysis import FINAL_STATES, STATES, ledger
from taskq_lib.errors import BadInput, LedgerOpen
from tests.unit.frames import dead_frame, manifest_frame, synthetic_run, tasks_frame

#: A submitted task as it may be found: its state (None: no row at all), and whether it is in the dead-letter queue.
found = st.tuples(st.sampled_from([None, *STATES]), st.booleans())


def account(
    states: dict[str, str | None], dead: list[str], *, queue_is_empty: bool = True, dead_is_whole: bool = True
) -> ledger.Ledger:
    """Close the ledger of a manifest whose tasks are found in these states."""
    tasks = tasks_frame(*({"task_id": task_id, "state": state} for task_id, state in states.items() if state))
    inventory = dead_frame(*({"task_id": task_id} for task_id in dead))
    return ledger.close(
        manifest_frame(*states), tasks, inventory, queue_is_empty=queue_is_empty, dead_is_whole=dead_is_whole
    )


def fate(state: str | None, *, in_dead: bool, queue_is_empty: bool) -> str:
    """Decide one task at a time, as the definition reads."""
    if state not in (None, "pending") and not (queue_is_empty and in_dead and state in STATES[:3]):
        return str(state)
    if in_dead:
        return "dead_lettered"
    return "lost" if queue_is_empty else "pending"


@given(st.lists(found, max_size=30), st.integers(0, 5), st.booleans())
def test_balances_for_any_partition(tasks: list[tuple[str | None, bool]], n_foreign: int, queue_is_empty: bool) -> None:  # noqa: FBT001
    """However the tasks are spread over states and queues, each is counted once, where the definition puts it."""
    states = {f"t{i}": state for i, (state, _) in enumerate(tasks)}
    dead = [f"t{i}" for i, (_, in_dead) in enumerate(tasks) if in_dead] + ["of another run"]
    table = [{"task_id": task_id, "state": state} for task_id, state in states.items() if state]
    table += [{"task_id": f"foreign-{i}"} for i in range(n_foreign)]
    result = ledger.close(
        manifest_frame(*states),
        tasks_frame(*table),
        dead_frame(*({"task_id": task_id} for task_id in dead), {"task_id": None}),
        queue_is_empty=queue_is_empty,
    )
    fates = [fate(state, in_dead=in_dead, queue_is_empty=queue_is_empty) for state, in_dead in tasks]
    assert result.by_state == {state: fates.count(state) for state in (*STATES, "lost")}
    assert result.balanced
    assert result.closed == all(name in FINAL_STATES for name in fates)
    assert (result.submitted, result.unknown) == (len(tasks), n_foreign)
    assert list(result.lost_ids) == [f"t{i}" for i, name in enumerate(fates) if name == "lost"]
    assert list(result.open_ids) == [f"t{i}" for i, name in enumerate(fates) if name in STATES[:3]]
    assert sum(result.by_reason.values()) == result.dead_lettered


def test_a_task_without_status_is_pending_while_the_queue_holds_messages() -> None:
    """A task without a status is not called lost as long as its message may still be in the queue."""
    result = account({"a": None, "b": "pending"}, [], queue_is_empty=False)
    assert (result.open, result.lost, result.closed) == (2, 0, False)


def test_a_task_in_neither_queue_is_lost() -> None:
    """A task without a status is lost once the queue is empty, and the ledger balances but does not close."""
    result = account({"a": None, "b": "pending", "c": "completed"}, [])
    assert (result.lost_ids, result.open) == (("a", "b"), 0)
    assert result.balanced
    assert not result.closed


def test_no_task_is_lost_while_dead_letters_are_not_listed() -> None:
    """A task without a status is open where its letter may be one that was not listed; what was listed counts."""
    result = account({"a": None, "b": "pending", "c": "retrying"}, ["b", "c"], dead_is_whole=False)
    assert (result.open_ids, result.lost, result.dead_lettered) == (("a",), 0, 2)


def test_an_open_status_is_believed_while_the_queue_holds_messages() -> None:
    """A task that is processing or retrying may still go on, even with a message in the dead-letter queue."""
    result = account({"a": "processing", "b": "retrying"}, ["a", "b"], queue_is_empty=False)
    assert (result.open, result.dead_lettered, result.lost) == (2, 0, 0)


def test_an_open_status_ends_where_the_queue_is_empty() -> None:
    """What SQS moved by its redrive policy is dead-lettered by the receive limit: nothing can bring it back."""
    result = account({"a": "processing", "b": "retrying", "c": "processing"}, ["a", "b"])
    assert (result.open, result.dead_lettered, result.by_reason) == (1, 2, {"receive_limit": 2})


def test_a_completed_task_stays_completed_with_a_message_in_the_dead_letter_queue() -> None:
    """A stray duplicate in the dead-letter queue does not undo a completed task."""
    result = account({"a": "completed"}, ["a"])
    assert result.closed
    assert result.completed == 1


def test_reasons_come_from_the_status_then_the_queue_then_the_receive_limit() -> None:
    """Each dead-lettered task has the best-founded reason there is, and one without any is said to have none."""
    tasks = tasks_frame(
        {"task_id": "status", "state": "dead_lettered", "reason": "non_retryable"},
        {"task_id": "queue", "state": "dead_lettered"},
        {"task_id": "none", "state": "dead_lettered"},
    )
    dead = dead_frame(
        {"task_id": "status", "reason": "invalid"},
        {"task_id": "queue", "reason": "max_attempts"},
        {"task_id": "no status"},
        {"task_id": "no status, but a reason"},
        {"task_id": "no status, but a reason", "reason": "invalid"},
    )
    manifest = manifest_frame("status", "queue", "none", "no status", "no status, but a reason")
    result = ledger.close(manifest, tasks, dead, queue_is_empty=True)
    expected = {"non_retryable": 1, "max_attempts": 1, "not stated": 1, "receive_limit": 1, "invalid": 1}
    assert result.by_reason == expected
    assert result.closed


def test_a_balance_that_does_not_hold_is_seen() -> None:
    """`balanced` adds the counts up; it does not take them on trust."""
    good = account({"a": "completed"}, [])
    bad = ledger.Ledger(**{**vars(good), "submitted": 2})
    assert good.closed
    assert not bad.balanced
    assert not bad.closed


def test_a_repeated_id_is_one_task() -> None:
    """A task that the manifest names twice was submitted once: its id is what makes it a task."""
    result = ledger.close(manifest_frame("a", "a"), tasks_frame({"task_id": "a"}), dead_frame(), queue_is_empty=True)
    assert (result.submitted, result.closed) == (1, True)


def test_duplicates_are_summed_over_the_tasks_of_the_run() -> None:
    """Duplicate deliveries are counted for the tasks of the manifest, not for foreign ones."""
    tasks = tasks_frame(*({"task_id": name, "n_duplicates": 3} for name in ("a", "b", "foreign")))
    result = ledger.close(manifest_frame("a", "b", "c"), tasks, dead_frame(), queue_is_empty=False)
    assert (result.duplicates, result.unknown) == (6, 1)


def test_without_a_manifest_the_table_is_the_account() -> None:
    """For a time window the tasks seen are the tasks submitted, and the report says that losses cannot be seen."""
    result = ledger.close(None, tasks_frame({}, {"state": "retrying"}), dead_frame(), queue_is_empty=True)
    assert (result.submitted, result.completed, result.open, result.unknown) == (2, 1, 1, 0)
    assert not result.from_manifest
    assert ledger.to_frame(result)["entry"].str.contains("cannot be seen").sum() == 1


def test_the_frame_has_a_line_for_each_count() -> None:
    """The table for a report holds the account in its order, typed, the reasons below what they add up to."""
    tasks = tasks_frame(
        {"task_id": "a", "n_attempts": 3, "n_duplicates": 2},
        {"task_id": "b", "n_attempts": 2, "state": "dead_lettered", "reason": "max_attempts"},
        {"task_id": "c", "n_attempts": 1, "state": "dead_lettered", "reason": "non_retryable"},
        {"task_id": "d", "n_attempts": 2, "state": "retrying"},
        {"task_id": "foreign", "n_attempts": 50},
    )
    table = ledger.to_frame(ledger.close(manifest_frame(*"abcde"), tasks, dead_frame(), queue_is_empty=True))
    assert table[["entry", "n"]].to_numpy().tolist() == [
        ["submitted", 5],
        ["completed", 1],
        ["dead-lettered", 2],
        ["\u2003dead-lettered: max_attempts", 1],
        ["\u2003dead-lettered: non_retryable", 1],
        ["still open", 1],
        ["lost", 1],
        ["duplicate deliveries (no effect)", 2],
        ["attempts (1.60 a task, at most 3)", 8],
        ["redriven tasks", 0],
        ["in the status table, not in the manifest", 1],
    ]
    assert table["ids"].tolist() == [""] * 5 + ["d", "e"] + [""] * 4
    assert table.dtypes.astype("str").to_dict() == {"entry": "str", "n": "int64", "ids": "str"}


def test_the_frame_names_ten_tasks_of_a_kind() -> None:
    """Open and lost tasks are named in the table, the first ten of them."""
    table = ledger.to_frame(account({f"t{i}": None for i in range(250)}, [])).set_index("entry")
    assert table["ids"].to_dict()["lost"] == "t0, t1, t2, t3, t4, t5, t6, t7, t8, t9"


def test_redriven_tasks_are_counted() -> None:
    """Tasks that were redriven are counted once each, and none in frames that do not know redrives."""
    tasks = tasks_frame(*({"task_id": name} for name in "abcd"))
    known = tasks.assign(n_redrives=pd.array([0, 2, 1, None], dtype="Int32"))
    manifest = manifest_frame(*"abcde")
    counted = [ledger.close(manifest, frame, dead_frame(), queue_is_empty=True).redriven for frame in (known, tasks)]
    assert counted == [2, 0]


def test_attempts_are_those_of_the_submitted_tasks() -> None:
    """The mean of the attempts is over every submitted task, also one without a status; no task, no attempt."""
    tasks = tasks_frame({"task_id": "a", "n_attempts": 3}, {"task_id": "b", "state": "pending", "n_attempts": None})
    result = ledger.close(manifest_frame("a", "b", "c"), tasks, dead_frame(), queue_is_empty=False)
    assert (result.attempts, result.mean_attempts, result.max_attempts) == (3, 1.0, 3)
    assert ledger.to_dict(result)["attempts"] == {"total": 3, "mean": 1.0, "max": 3}
    nothing = ledger.close(manifest_frame(), tasks_frame(), dead_frame(), queue_is_empty=True)
    assert (nothing.attempts, nothing.mean_attempts, nothing.max_attempts) == (0, 0.0, 0)


def test_the_dict_is_json_and_cuts_long_lists_openly() -> None:
    """`results.json` gets at most 100 ids of a kind, and the total beside them."""
    result = ledger.to_dict(account({f"t{i}": None for i in range(250)}, []))
    assert json.loads(json.dumps(result)) == result
    assert result["lost_ids"] == {"total": 250, "ids": [f"t{i}" for i in range(100)]}
    assert (result["lost"], result["balanced"], result["closed"]) == (250, True, False)


def test_a_whole_run_closes() -> None:
    """A run in which every task ended closes, with the counts of its frames."""
    run = synthetic_run(2_000)
    result = ledger.close(run.manifest, run.tasks, run.dead, queue_is_empty=True)
    assert result.closed
    assert (result.submitted, result.dead_lettered) == (2_000, len(run.dead))
    assert result.by_reason == {"max_attempts": len(run.dead)}


def test_verify_names_what_keeps_the_ledger_open() -> None:
    """A closed ledger passes; an open one raises, with the number and the ids of the tasks that are missing."""
    ledger.verify(account({"a": "completed", "b": "dead_lettered"}, []))
    with pytest.raises(LedgerOpen, match="of 3 tasks 1 are still open and 1 lost; the first are gone, stuck"):
        ledger.verify(account({"a": "completed", "stuck": "retrying", "gone": None}, []))


@pytest.mark.parametrize(
    ("tasks", "problem"),
    [
        (tasks_frame({"task_id": "a"}, {"task_id": "a"}), "two rows"),
        (tasks_frame({"task_id": "a", "state": None}), "none of pending"),
        (tasks_frame().drop(columns="state"), "no column state"),
    ],
)
def test_frames_that_would_make_a_count_wrong_are_refused(tasks: pd.DataFrame, problem: str) -> None:
    """A repeated task, an unknown state or a missing column is an error, not a wrong count."""
    with pytest.raises(BadInput, match=problem):
        ledger.close(manifest_frame("a"), tasks, dead_frame(), queue_is_empty=True)
