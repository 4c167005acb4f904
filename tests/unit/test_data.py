"""The data of a run comes from its folder alone, with what is known of the moment it was read."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taskq_lib.analysis import ledger
from taskq_lib.aws import status
from taskq_lib.aws.frames import attempts_frame as read_attempts
from taskq_lib.aws.frames import tasks_frame as read_tasks
from taskq_lib.report import data, runs
from tests.unit.frames import at, attempts_frame, dead_frame, manifest_frame, tasks_frame
from tests.unit.sqs import Sqs, bodies, stack


def kept(root: Path, *tasks: dict[str, Any], **sections: Any) -> data.Data:
    """Keep a run of these tasks in a folder, and load it as a notebook does."""
    run = runs.create("r", root)
    frames = {"manifest": manifest_frame("a"), "attempts": attempts_frame(), "dead": dead_frame()}
    for name, frame in (frames | {"tasks": tasks_frame(*tasks)}).items():
        run.save(name, frame)
    run.record(**sections)
    return data.load({"run_id": "", "runs_dir": str(root)})


def test_a_run_says_when_it_was_read(tmp_path: Path) -> None:
    """A run that was read knows the time, and whether the queue was empty then."""
    read_at = datetime(2026, 11, 24, 3, tzinfo=UTC)
    found = kept(tmp_path, {"updated_at": at(5)}, read={"at": read_at.isoformat(), "queue_is_empty": True})
    assert (found.read_at, found.queue_is_empty) == (read_at, True)


def test_a_redrive_since_makes_what_was_read_out_of_date(tmp_path: Path) -> None:
    """What was read before a redrive says so wherever it is shown, and what was read after it does not."""
    redrives = [{"begun_at": "2026-11-24T02:00:00+00:00"}, {"begun_at": "2026-11-24T04:00:00.000+00:00"}]
    read = {"at": "2026-11-24T03:00:00.123456+00:00", "queue_is_empty": True}
    found = kept(tmp_path / "old", {}, read=read, redrives=redrives)
    assert found.source == "run r as it was at 03:00:00 UTC; it was redriven since, and 30_status reads it again"
    assert kept(tmp_path / "new", {}, read=read, redrives=redrives[:1]).source == "run r"


@pytest.mark.parametrize(("changed_at", "read_at"), [(at(5), at(5)), (None, pd.Timestamp(0, tz="UTC"))])
def test_a_run_that_does_not_say_is_read_cautiously(tmp_path: Path, changed_at: Any, read_at: pd.Timestamp) -> None:
    """Of a run without that record, the last change is the time, and nothing is said of the queue."""
    found = kept(tmp_path, {"updated_at": changed_at})
    assert (found.read_at, found.queue_is_empty) == (read_at, False)
    assert not found.dead_is_whole
    assert found.inventory.startswith("whether all dead letters were listed is not known")


@pytest.mark.parametrize(
    ("limit", "n_hidden", "n_listed", "said"),
    [(100, 0, 12, "all 12 dead letters were"), (10, 0, 10, "only 10 of about 12"), (100, 1, 11, "only 11 of about 12")],
)
def test_an_inventory_knows_whether_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, n_hidden: int, n_listed: int, said: str
) -> None:
    """Cut short by its limit or by another reader, an inventory says so, and makes no task lost: it stays open."""
    monkeypatch.setattr(status, "get", lambda *_: status.Statuses(read_tasks([]), read_attempts([])))
    sqs = Sqs(*bodies(12))
    sqs.hidden = {f"theirs{i}": f"m{i}" for i in range(n_hidden)}
    run = runs.create("r", tmp_path)
    run.save("manifest", manifest_frame(*(f"t{i}" for i in range(12)), "t-lost"))
    found = data.collect(stack(sqs), run, limit)
    assert found.dead_is_whole is (n_listed == 12)
    assert found.inventory.startswith(said)
    told = {"n_listed": n_listed, "n_dead": 12, "dead_is_whole": found.dead_is_whole, "queue_is_empty": True}
    assert told.items() <= run.results()["read"].items()
    account = ledger.close(
        found.manifest,
        found.tasks,
        found.dead,
        queue_is_empty=found.queue_is_empty,
        dead_is_whole=found.dead_is_whole,
    )
    assert account.dead_lettered == n_listed
    assert (account.lost, account.open) == ((1, 0) if found.dead_is_whole else (0, 13 - n_listed))


def test_a_run_knows_the_queue_of_each_task(tmp_path: Path) -> None:
    """By the rule of its sends a task went to the first queue or the second; an invalid one, or an old run, first."""
    tasks: list[dict[str, Any]] = [{"priority": 9}, {"priority": 5}, {"priority": None, "task_type": None}]
    assert kept(tmp_path, *tasks).queue.tolist() == ["first"] * 3
    sends = pd.DataFrame({"task_id": ["a"]})
    sends.attrs["origin"] = {"stack": "s", "mapping": "m", "second": "m2", "takes": "priority>=7"}
    run = runs.find("r", tmp_path)
    run.save("sends", sends)
    found = data.load({"run_id": "r", "runs_dir": str(tmp_path)})
    assert found.queue.tolist() == ["second", "first", "first"]
    assert str(found.queue.dtype) == "str"
