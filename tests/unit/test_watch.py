"""The live view: what a watch shows and when it ends, and samples that outlive the wait in which they were taken."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from taskq_lib.analysis import drain
from taskq_lib.aws import live, logs, queues, status
from taskq_lib.aws.queues import Counts, Held
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.status import Waited
from taskq_lib.aws.target import Target
from taskq_lib.commands import options, watch
from taskq_lib.commands.main import main
from taskq_lib.errors import NotDone
from taskq_lib.report import monitor, runs, samples
from taskq_worker.contract import State

T0 = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
STACK = Stack(
    target=Target(name="aws", session=None, region="us-east-1"),
    name="s",
    status="CREATE_COMPLETE",
    parameters={"FunctionTimeoutSeconds": "300"},
    outputs={"QueueUrl": "https://q", "DeadLetterQueueUrl": "https://dead", "TableName": "t", "TimeIndexName": "i"},
)


def counts(n_visible: int, *second: int) -> Counts:
    """Return counts of the queue and, where it is given, of the second queue."""
    held = [Held(n_visible=n, n_in_flight=0, n_delayed=0) for n in (n_visible, *second)]
    return Counts(by_queue={f"q{i}": one for i, one in enumerate(held)}, n_dead=1, n_dead_hidden=0)


def sample(i: int, n_visible: int, **values: Any) -> dict[str, Any]:
    """Return a sample at second `i`."""
    return live.row(counts(n_visible), None) | {"at": T0 + timedelta(seconds=i)} | values


def follow(found: list[dict[str, Any]], for_s: float | None = None) -> tuple[int, list[str], list[dict[str, Any]]]:
    """Follow samples; returns the exit code, and what was shown to people and to scripts."""
    lines: list[str] = []
    documents: list[dict[str, Any]] = []

    def show(*seen: Any) -> None:
        lines.append(watch.line(*seen))
        documents.append(json.loads(json.dumps(watch.document(*seen))))

    return watch.follow(iter(found), for_s, show), lines, documents


def test_it_ends_when_the_queues_stay_empty() -> None:
    """One empty count is not believed, three in a row are; what comes after is not asked for."""
    backlogs = [9, 0, 4, 0, 0, 0, 7]
    code, lines, _documents = follow([sample(i, n) for i, n in enumerate(backlogs)])
    assert (code, len(lines)) == (0, 6)


def test_its_time_being_over_is_no_success_while_messages_are_there() -> None:
    """After --for seconds the exit code says whether the queues are empty."""
    assert follow([sample(0, 5), sample(1, 5)], for_s=0)[:1] == (1,)
    assert follow([sample(0, 0), sample(1, 0)], for_s=0)[:1] == (0,)


def test_it_says_when_the_backlog_will_be_gone() -> None:
    """After six samples of a steady drain the line has the time that is left, and the rate of what became final."""
    found = [sample(i, 100 - 10 * i, n_completed=9 * i, n_dead_lettered=i) for i in range(8)]
    _code, lines, documents = follow(found)
    assert lines[0] == (
        "02:00:00  no estimate yet: 1 observations, 6 are needed  visible 100  in flight 0  delayed 0  dead letters 1  "
        "completed 0, dead-lettered 0"
    )
    assert lines[-1].startswith("02:00:07  drains in about 3 s (3 to 3 s), by 10/s  visible 30  ")
    assert lines[-1].endswith("completed 63, dead-lettered 7  10.0/s")
    assert documents[-1]["final_per_s"] == 10
    assert documents[-1]["drain"]["eta_s"] == pytest.approx(3)
    assert documents[0]["n_pending"] is None


def test_a_watch_with_long_pauses_gets_its_estimate() -> None:
    """With a sample each 13 s, of which a minute holds five, the line has the time that is left from the sixth on."""
    _code, lines, _documents = follow([sample(13 * i, 1_000 - 130 * i) for i in range(6)])
    assert "no estimate yet: 5 observations" in lines[4]
    assert "drains in about 35 s" in lines[5]


def test_in_a_terminal_one_line_is_drawn_anew(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a terminal each sample replaces the one before on one line, cut to the width, and the line ends at the end."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(options, "stack_of", lambda _args: STACK)
    monkeypatch.setattr(live, "watch", lambda *_: iter([sample(i, 0) for i in range(5)]))
    assert main(["watch"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("\n")
    drawn = out.rstrip("\n").split("\r")[1:]
    expected = [f"02:00:0{i}  drained  visible 0  in flight " for i in range(3)]
    assert [one.removesuffix("\x1b[K") for one in drawn] == [one[:39] for one in expected]


def test_a_second_queue_is_told_apart() -> None:
    """Where there are two queues the line and the sample say how many of the messages are in the second."""
    row = live.row(counts(5, 2), None)
    assert (row["n_visible"], row["n_visible_second"], row["n_in_flight_second"]) == (7, 2, 0)
    assert "visible 7 (2 in the second queue)" in watch.line(row, drain.estimate(watch._backlogs([row])), None)


def watched(
    monkeypatch: pytest.MonkeyPatch, *answers: list[dict[str, Any]]
) -> tuple[list[tuple[int, int]], list[datetime]]:
    """Watch a table that has these items, one answer a reading; returns the counts, and from when on was read."""
    asked: list[datetime] = []
    given = iter(answers)

    def changed(_stack: Stack, since: datetime, *_: Any, **__: Any) -> list[dict[str, Any]]:
        asked.append(since)
        return [one for one in next(given) if one["timestamp"] >= since.timestamp()]

    monkeypatch.setattr(status, "changed", changed)
    monkeypatch.setattr(queues, "counts", lambda _stack: counts(3))
    seen = live.watch(STACK, every_s=0.01)
    rows = [next(seen) for _ in answers[1:]]
    return [(row["n_completed"], row["n_dead_lettered"]) for row in rows], asked


def item(task_id: str, status: str, ended_s: float = 0.0, **more: Any) -> dict[str, Any]:
    """Return an item whose last change, by its stamp, is `ended_s` from now."""
    return {"taskId": task_id, "status": status, "timestamp": datetime.now(UTC).timestamp() + ended_s, **more}


def test_a_watch_counts_each_task_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read again, since the windows overlap, is not counted again; what runs or waits is not counted."""
    a = item("a", "COMPLETED")
    found, _asked = watched(
        monkeypatch,
        [],
        [a, item("b", "PROCESSING")],
        [a, item("c", "FAILED", deadLettered=True)],
        [item("d", "FAILED")],
    )
    assert found == [(1, 0), (1, 1), (1, 1)]


def test_a_batch_that_is_written_late_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that ended long before their batch did are counted once it is written, up to the function's timeout."""
    late = [item("a", "COMPLETED", -290.0), item("b", "COMPLETED", -20.0)]
    found, asked = watched(monkeypatch, [], [], late, late)
    assert found == [(0, 0), (2, 0), (2, 0)]
    assert all((datetime.now(UTC) - since).total_seconds() >= 305 for since in asked)


def test_what_was_final_before_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch counts from its beginning, however far back it reads."""
    before = item("a", "COMPLETED", -60.0)
    found, _asked = watched(monkeypatch, [before], [before], [before, item("b", "COMPLETED")])
    assert found == [(0, 0), (1, 0)]


@pytest.mark.parametrize("argv", [["--every", "0"], ["--for", "nan"], ["--for", "1e9"]], ids=str)
def test_seconds_that_make_no_sense_are_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A time outside of what is allowed is refused before anything is asked."""
    assert main(["watch", *argv]) == 2
    assert "allowed; give 0.1 to 86,400 seconds" in capsys.readouterr().err


def test_an_interrupt_ends_it_as_it_ends_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C gives exit code 130 and one word, after the lines that were shown."""

    def interrupted(*_: Any) -> Iterator[dict[str, Any]]:
        yield sample(0, 5)
        raise KeyboardInterrupt

    monkeypatch.setattr(options, "stack_of", lambda _args: STACK)
    monkeypatch.setattr(live, "watch", interrupted)
    assert main(["watch"]) == 130
    out, err = capsys.readouterr()
    assert out.startswith("02:00:00  no estimate yet")
    assert err == "interrupted\n"


def test_samples_outlive_an_interrupted_wait(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever ends a wait, what it saw is in the run's folder, after what earlier waits saw; typed."""
    run = runs.create("r", tmp_path)
    run.save("manifest", pd.DataFrame({"task_id": ["a"]}))
    assert samples.load(run).empty

    def wait(_stack: Stack, ids: list[str], _timeout_s: float, *, note: status.Note) -> Waited:
        assert ids == ["a"]
        note(counts(4), {State.COMPLETED: 2})
        note(counts(3), None)
        raise KeyboardInterrupt

    monkeypatch.setattr(status, "wait", wait)
    for n in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            samples.wait(STACK, run, 1.0)
        found = samples.load(run)
        assert len(found) == n
    assert {str(name): str(dtype) for name, dtype in found.dtypes.items()} == {
        name: str(dtype) for name, dtype in live.SAMPLE_COLUMNS.items()
    }
    assert found["n_visible"].tolist() == [4, 3, 4, 3]
    assert found["n_completed"].isna().tolist() == [False, True, False, True]
    assert found["at"].is_monotonic_increasing


def test_what_a_runs_log_said_outlives_its_stack(tmp_path: Path) -> None:
    """What was read is kept; a later reading that finds nothing, of another stack of the name, does not replace it."""
    run = runs.create("r", tmp_path)
    said = monitor._EMPTY["reports"].reindex(range(2))
    for read in ({"reports": said}, {"reports": said[:0]}, {}):
        found = monitor._kept(run, read)
        assert len(found["reports"]) == len(run.load("reports")) == 2
        assert found["metrics"].empty
    assert monitor._kept(None, {})["reports"].empty


def test_an_unreadable_log_leaves_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the log cannot be read, for whatever reason, the sources say why, and the metrics are read all the same."""

    def unread(*_: Any) -> None:
        raise NotDone("Log group g has 10,000 events in one millisecond.", "Read a window without it.")

    monkeypatch.setattr(logs, "read", unread)
    read, said = monitor._read_log(STACK, (T0, T0))
    assert said == [("log", "not read: Log group g has 10,000 events in one millisecond.")]
    assert read["own"].empty
