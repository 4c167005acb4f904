"""What a notebook's or a terminal's last value looks like: facts for people, escaped, and no account's number."""

import importlib
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import boto3
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from markupsafe import escape

from taskq_lib import attended
from taskq_lib.analysis import ledger
from taskq_lib.aws.queues import Counts, Held
from taskq_lib.aws.stack import Preview, Stack
from taskq_lib.aws.status import Statuses, Waited
from taskq_lib.aws.target import Target
from taskq_lib.report import looks, runs
from taskq_lib.report.data import Data
from taskq_lib.workload import Workload, generate
from taskq_worker.contract import Task
from tests.unit.frames import at, attempts_frame, dead_frame, manifest_frame, tasks_frame

ACCOUNT = "123456789012"
CHANGES = pd.DataFrame(
    {"action": "Modify", "resource": [f"Queue{n}" for n in range(12)], "type": "AWS::SQS::Queue", "replacement": "no"}
)
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def formatter(monkeypatch: pytest.MonkeyPatch) -> DisplayFormatter:
    """IPython's own formatter, told as a notebook tells it; twice, as two notebooks' cells do."""
    found = DisplayFormatter()
    monkeypatch.setattr(attended, "shell", lambda: SimpleNamespace(display_formatter=found))
    looks.register()
    looks.register()
    return found


def target() -> Target:
    """A target whose session holds credentials."""
    keys = {"aws_access_key_id": "AKIASECRET", "aws_secret_access_key": "hidden"}
    session = boto3.Session(**keys, region_name="us-east-1")
    return Target(name="local", session=session, region="us-east-1", endpoint_url="http://127.0.0.1:1")


def stack(**more: str) -> Stack:
    """A stack whose outputs name an account."""
    url = f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/taskq"
    outputs = {"QueueUrl": f"{url}-queue", "DeadLetterQueueUrl": f"{url}-dead", "TableName": HOSTILE} | more
    return Stack(target=target(), name="taskq", status="CREATE_COMPLETE", parameters={}, outputs=outputs)


def shown(formatter: DisplayFormatter, value: object) -> tuple[str, str]:
    """Return what is shown of a value, as HTML and as text."""
    bundle, _metadata = formatter.format(value)  # type: ignore[no-untyped-call]
    return bundle["text/html"], bundle["text/plain"]


def data(run: runs.Run | None = None) -> Data:
    """What a run of two tasks left, one of them open."""
    tasks = tasks_frame({"enqueued_at": at(0), "updated_at": at(5)}, {"state": "retrying", "error": HOSTILE})
    return Data(
        source=HOSTILE, tasks=tasks, attempts=attempts_frame({}), dead=dead_frame(), read_at=datetime.now(UTC),
        queue_is_empty=True, n_listed=0, n_dead=0, run=run,
    )  # fmt: skip


def account() -> ledger.Ledger:
    """The ledger of two tasks, one of which is open."""
    tasks = tasks_frame({}, {"state": "retrying"})
    return ledger.close(manifest_frame("task-0", "task-1"), tasks, dead_frame(), queue_is_empty=False)


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (target(), ["target    local", "region    us-east-1", "endpoint  http://127.0.0.1:1"]),
        (stack(), ["stack              taskq", "dead-letter queue  taskq-dead", "index by time      none"]),
        (
            stack(SecondQueueUrl="https://sqs/1/fast", SecondQueueTakes="priority>=7"),
            ["queue for priority>=7  fast"],
        ),
        (account(), ["ledger                open", "open                  1", "open tasks            task-1"]),
        (data(), ["tasks         2", "attempts      1", "inventory     all 0 dead letters were listed"]),
        (Statuses(data().tasks, data().attempts), ["tasks      2", "completed  1", "retrying   1", "attempts   1"]),
        (Counts(by_queue={"q": Held(3, 1, 0)}, n_dead=2, n_dead_hidden=0), ["visible       3", "dead letters  2"]),
        (Waited(n_final=9, n_open=1, waited_s=2.5, why="deadline"), ["waited_s  2.5", "why       deadline"]),
        (Workload(n_tasks=1_000), ["n_tasks             1,000", "groups              "]),
        (Task(task_id="a", type="SEND_EMAIL", data={"to": "x"}), ["task_id      a", "data         {'to': 'x'}"]),
        (
            Preview(target=target(), name="s", kind="update", parameters={}, changes=CHANGES),
            ["change     update", "resources  Modify Queue0 (AWS::SQS::Queue), "],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_says_in_lines_and_in_a_table_what_it_is(
    value: object, lines: list[str], formatter: DisplayFormatter
) -> None:
    """Each shows the same names and values as text and as HTML, and no secret or account number in either."""
    html, text = shown(formatter, value)
    for line in lines:
        assert any(found.startswith(line) for found in text.splitlines()), text
        name, _gap, rest = line.partition("  ")
        assert f">{escape(name)}</td>" in html
        assert str(escape(rest.strip())) in html
    assert "<script>" not in html
    for secret in (ACCOUNT, "AKIASECRET", "hidden"):
        assert secret not in html + text


def test_of_one_task_all_is_said(formatter: DisplayFormatter) -> None:
    """What `status.get` returns for one id is that task: its state, its error, and nothing that is not known of it."""
    tasks = tasks_frame({"state": "dead_lettered", "reason": "max_attempts", "error": HOSTILE})
    html, text = shown(formatter, Statuses(tasks, attempts_frame()))
    assert "state         dead_lettered" in text
    assert "finished_at" not in text
    assert "&lt;script&gt;" in html
    assert "<script>" not in html


def test_a_run_says_how_far_it_is(formatter: DisplayFormatter, tmp_path: Path) -> None:
    """A run shows how many tasks it submitted, and its ledger once there is one; an empty one shows neither."""
    run = runs.create("r", tmp_path)
    _html, text = shown(formatter, run)
    assert "tasks    none submitted" in text
    assert "ledger   not closed yet" in text
    run.save("manifest", generate(Workload(n_tasks=12), "r"))
    run.record(state="complete", ledger=ledger.to_dict(account()) | {"closed": False})
    _html, text = shown(formatter, run)
    assert "tasks    12" in text
    assert "ledger   open: 2 submitted, 1 completed, 0 dead-lettered, 1 open, 0 lost" in text


def test_many_changes_are_counted(formatter: DisplayFormatter) -> None:
    """Of a change set the first five changes are named and the others counted."""
    preview = Preview(target=target(), name="s", kind="update", parameters={}, changes=CHANGES)
    _html, text = shown(formatter, preview)
    assert text.count("Modify") == 5
    assert text.endswith("and 7 more")


def test_a_class_that_is_gone_would_be_noticed() -> None:
    """Every class is told to IPython by a name that leads to it."""
    for module, name in looks.BY_NAME:
        assert isinstance(getattr(importlib.import_module(module), name), type)


def test_outside_of_ipython_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that imports this has no IPython to tell, and goes on."""
    monkeypatch.setattr(attended, "shell", lambda: None)
    looks.register()
    assert attended.is_attended() is False
