"""The data of a run comes from its folder alone, with what is known of the moment it was read."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taskq_lib.report import data, runs
from tests.unit.frames import at, attempts_frame, dead_frame, manifest_frame, tasks_frame


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


@pytest.mark.parametrize(("changed_at", "read_at"), [(at(5), at(5)), (None, pd.Timestamp(0, tz="UTC"))])
def test_a_run_that_does_not_say_is_read_cautiously(tmp_path: Path, changed_at: Any, read_at: pd.Timestamp) -> None:
    """Of a run without that record, the last change is the time, and nothing is said of the queue."""
    found = kept(tmp_path, {"updated_at": changed_at})
    assert (found.read_at, found.queue_is_empty) == (read_at, False)
