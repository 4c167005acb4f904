"""Each notebook by itself, as a person runs it: with its defaults, the newest run, and an engine only where needed."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from taskq_lib.aws import queues
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import connect
from taskq_lib.commands.main import main
from taskq_lib.errors import StackNotFound
from taskq_lib.report import chain, runs
from taskq_lib.report.runs import Run
from tests.notebooks.conftest import Up

pytestmark = pytest.mark.notebooks

NOTEBOOKS = {path.stem: path for path in chain.notebooks()}
N_TASKS = 60


def execute(name: str, folder: Path, state: Path, **parameters: Any) -> Any:
    """Execute a notebook as papermill does, with the engine of a state folder; returns it as it ran."""
    output = folder / f"{name}.ipynb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKQ_STATE_DIR", str(state))
        papermill.execute_notebook(
            str(NOTEBOOKS[name]), str(output), parameters=parameters, kernel_name="python3", progress_bar=False
        )
    return nbformat.read(output, as_version=4)  # type: ignore[no-untyped-call]


def printed(notebook: Any) -> str:
    """Return what an executed notebook printed."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


def recorded(notebook: Any) -> dict[str, Any]:
    """Return what an executed notebook recorded for a machine."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    records = [output.data["application/json"] for output in outputs if "application/json" in output.get("data", {})]
    return {name: section for record in records for name, section in record.items()}


def pictures(notebook: Any) -> int:
    """Count the figures of an executed notebook."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that begins empty."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def ran(up: Up, root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The notebooks one after the other, each told no more than where runs are kept.

    40 and 50, which analyse a run that was read, have no engine at all.
    """
    folder = tmp_path_factory.mktemp("ran")
    found = {"10_deploy": execute("10_deploy", folder, up.state)}
    found["20_submit"] = execute("20_submit", folder, up.state, runs_dir=str(root), n_tasks=N_TASKS)
    found["30_status"] = execute("30_status", folder, up.state, runs_dir=str(root))
    found["60_monitor"] = execute("60_monitor", folder, up.state, runs_dir=str(root))
    for name in ("40_latency", "50_failures"):
        found[name] = execute(name, folder, folder / "no-engine", runs_dir=str(root))
    return found


@pytest.fixture
def run(ran: dict[str, Any], root: Path) -> Run:
    """The run that the notebooks made."""
    assert ran
    return runs.find("", root)


@pytest.fixture
def doomed(up: Up, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A stack of its own with a dead letter that nobody has looked at."""
    monkeypatch.setenv("TASKQ_STATE_DIR", str(up.state))
    live = stacks.deploy(connect("local"), "doomed", progress=lambda _: None)
    live.target.client("sqs").send_message(QueueUrl=live.dead_letter_queue_url, MessageBody="a dead letter")
    return live


@pytest.fixture
def same_signals() -> Iterator[None]:
    """Give the test's own process its handler back, which a command sets for its own."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def test_a_deploy_says_what_there_is(ran: dict[str, Any]) -> None:
    """By itself the deploy finds the stack as it should be, waits for its mapping, and records both."""
    assert "none: 0 resources change in stack 'taskq'" in printed(ran["10_deploy"])
    assert "event source mapping: Enabled" in printed(ran["10_deploy"])
    deployment = recorded(ran["10_deploy"])["deployment"]
    assert (deployment["stack"], deployment["change"], deployment["preview_only"]) == ("taskq", "none", False)


def test_a_submit_makes_the_run_that_the_others_find(ran: dict[str, Any], run: Run, root: Path) -> None:
    """Without an id the submit makes one run, which the others take for being the newest."""
    assert runs.listed(root) == [run]
    assert recorded(ran["20_submit"])["submitted"]["n_tasks"] == N_TASKS == len(run.load("manifest"))
    for name in ("30_status", "40_latency", "50_failures", "60_monitor"):
        assert f"run {run.id}" in printed(ran[name])


def test_nothing_is_there_for_somebody_to_click(ran: dict[str, Any]) -> None:
    """What papermill ran has no form and no other widget, which a page would show empty: tables and text instead."""
    for notebook in ran.values():
        outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        assert not [output for output in outputs if any("widget" in kind for kind in output.get("data", {}))]
        assert '<td style="text-align:left">runs_dir</td>' in outputs[0]["data"]["text/html"]
    said = "".join(
        output["text"] for cell in ran["20_submit"].cells for output in cell.get("outputs", []) if "text" in output
    )
    assert f"submit: 100%|██████████| {N_TASKS}/{N_TASKS}" in said


def test_the_status_closes_the_ledger(ran: dict[str, Any], run: Run) -> None:
    """By itself the status waits for the newest run's tasks and accounts for each."""
    ledger = run.results()["ledger"]
    assert ledger == recorded(ran["30_status"])["ledger"]
    assert (ledger["submitted"], ledger["open"], ledger["lost"], ledger["closed"]) == (N_TASKS, 0, 0, True)
    assert "The ledger is closed." in printed(ran["30_status"])


def test_a_finished_run_needs_no_engine(ran: dict[str, Any], run: Run) -> None:
    """Latency and failures of a run that was read are shown from its folder alone, with every figure and record."""
    results = run.results()
    assert results["latency"]["end_to_end_s"]["n"] == N_TASKS
    assert results["latency"] == recorded(ran["40_latency"])["latency"]
    assert results["failure_rate"] == recorded(ran["50_failures"])["failure_rate"]
    assert (pictures(ran["40_latency"]), pictures(ran["50_failures"])) == (5, 2)


def test_the_control_room_says_where_its_numbers_come_from(ran: dict[str, Any], run: Run) -> None:
    """By itself 60_monitor reads samples, log and metrics, draws one figure, and records what it found."""
    found = recorded(ran["60_monitor"])["monitor"]
    assert found == run.results()["monitor"]
    assert pictures(ran["60_monitor"]) == 1
    assert found["max_backlog"] > 0
    assert found["n_log_attempts"] == len(run.load("attempts")) == len(run.load("log_attempts"))
    assert found["n_samples"] == len(run.load("samples")) > 0
    assert found["cold_starts"]["n_invocations"] > 0
    assert set(run.load("metrics")["namespace"]) == {"TaskQueue"}


def test_a_control_room_without_its_stack_shows_what_was_kept(run: Run, root: Path, tmp_path: Path) -> None:
    """Where the engine is gone the log and the metrics are those that were read before, and the page says so."""
    before = run.results()["monitor"]
    notebook = execute("60_monitor", tmp_path, tmp_path / "no-engine", runs_dir=str(root))
    assert recorded(notebook)["monitor"] == before
    assert "not read: The embedded engine is not running" in "".join(
        output["data"].get("text/html", "")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "data" in output
    )


@pytest.mark.parametrize(
    ("name", "section"),
    [("30_status", "ledger"), ("40_latency", "latency"), ("50_failures", "failure_rate"), ("60_monitor", "monitor")],
)
def test_the_last_hours_need_no_run(name: str, section: str, run: Run, up: Up, root: Path, tmp_path: Path) -> None:
    """With `since_hours` what changed in that time is read from the stack, whatever runs there are; no run changes."""
    before = run.results()
    notebook = execute(name, tmp_path, up.state, runs_dir=str(root), since_hours=1)
    assert "stack taskq in us-east-1, tasks that changed in the last 1 h" in printed(notebook)
    assert section in recorded(notebook)
    if name == "30_status":
        account = recorded(notebook)["ledger"]
        assert account["submitted"] >= N_TASKS
        assert account["from_manifest"] is False
    assert (runs.listed(root), run.results()) == ([run], before)


def test_a_teardown_shows_and_keeps(doomed: Stack, tmp_path: Path, up: Up) -> None:
    """As a dry run, its default, a teardown lists what would go, says what is kept, and changes nothing."""
    notebook = execute("90_teardown", tmp_path, up.state, stack_name="doomed")
    assert "dry run: nothing was changed" in printed(notebook)
    assert recorded(notebook)["teardown"]["dry_run"] is True
    assert stacks.describe(doomed.target, "doomed").status == doomed.status
    assert queues.counts(doomed).n_dead >= 1


def test_a_teardown_refuses_messages_until_it_is_told(doomed: Stack, tmp_path: Path, up: Up) -> None:
    """Messages stop a teardown, which then changes nothing; told to discard them it deletes, and keeps the table."""
    with pytest.raises(PapermillExecutionError, match=r"(?s)BadInput.*the dead-letter queue [1-9].*discard_messages"):
        execute("90_teardown", tmp_path, up.state, stack_name="doomed", dry_run=False)
    assert queues.counts(stacks.describe(doomed.target, "doomed")).n_dead >= 1
    notebook = execute("90_teardown", tmp_path, up.state, stack_name="doomed", dry_run=False, discard_messages=True)
    assert f"gone; the status table {doomed.table} is kept" in printed(notebook)
    with pytest.raises(StackNotFound):
        stacks.describe(doomed.target, "doomed")
    urls = doomed.target.client("sqs").list_queues().get("QueueUrls", [])
    assert {doomed.queue_url, doomed.dead_letter_queue_url}.isdisjoint(urls)
    tables = doomed.target.client("dynamodb").list_tables()["TableNames"]
    assert doomed.table in tables


@pytest.mark.usefixtures("same_signals")
def test_the_commands_do_the_same(up: Up, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Deploy, submit, status and teardown by the command line, each telling a script what it did."""
    monkeypatch.setenv("TASKQ_STATE_DIR", str(up.state))

    def taskq(*argv: str) -> tuple[int, Any]:
        code = main([*argv, "--stack-name", "mine", "--json"])
        out, err = capsys.readouterr()
        assert err == ""
        return code, json.loads(out)

    def done(*argv: str) -> Any:
        code, found = taskq(*argv)
        assert code == 0
        return found

    assert done("deploy", "--dry-run")["status"] == "dry run"
    deployed = done("deploy", "-p", "RetryBaseSeconds=0")
    assert (deployed["stack"], deployed["change"], deployed["status"]) == ("mine", "create", "CREATE_COMPLETE")
    assert {"QueueUrl", "DeadLetterQueueUrl", "TableName"} <= deployed["outputs"].keys()
    assert done("deploy")["change"] == "none"

    sent = done("submit", "--type", "SEND_EMAIL", "--data", '{"to": "a@example.com"}', "--task-id", "one")
    assert sent["task_id"] == "one"
    assert taskq("status", "none") == (1, [{"task_id": "none", "state": "pending or unknown"}])
    deadline = time.monotonic() + 60
    while (row := taskq("status", "one")[1][0])["state"] != "completed":
        assert time.monotonic() < deadline, row
        time.sleep(0.2)
    assert (row["task_id"], row["task_type"], row["n_attempts"]) == ("one", "SEND_EMAIL", 1)
    assert row["result"]["message_id"]

    shown = done("teardown")
    assert (shown["deleted"], shown["messages"]) == (False, 0)
    assert done("teardown", "--yes", "--delete-table")["deleted"] is True
    assert main(["status", "one", "--stack-name", "mine"]) == 2
    assert "No stack 'mine'" in capsys.readouterr().err
