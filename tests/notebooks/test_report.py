"""The whole chain by its command: what it promises, and what it leaves behind."""

import html
import re

import pytest

from taskq_lib.aws import stack as stacks
from taskq_lib.aws.target import connect
from taskq_lib.commands.main import main
from taskq_lib.local.state import RECORD, members
from taskq_lib.report import chain, provenance, scrub
from taskq_lib.report.runs import Run
from tests.notebooks.conftest import Begin, Finish, Left, Up
from tests.notebooks.reports import NAMES, Report, Started

pytestmark = pytest.mark.notebooks

N_TASKS = 120
#: What a run keeps of its data; the last four are of what was watched.
FRAMES = ("manifest", "sends", "tasks", "attempts", "dead", "samples", "log_attempts", "reports", "metrics", "breakers")
#: A message that no producer of the kit sends, with what must not run in a page.
MALFORMED = '{"task_id": "stray", <script>alert("malformed")</script>'
#: Another, with a key that somebody sent along; and what this test's own environment holds. None of them is one.
STRAY_KEY = "AKIA" + "Q3EGRZPLMN7XWV2T"
WITH_KEY = f'{{"task_id": "with a key", {STRAY_KEY}'
KEY_ID, KEY = "AKIA" + "TESTTESTTESTTEST", "not/a/key/not/a/key/not/a/key/not/a/key+"
SHARES = ["-p", "transient_share", "0.1", "-p", "permanent_share", "0.1"]


@pytest.fixture(scope="module")
def together(begin: Begin, finish: Finish, up: Up, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Report]:
    """Two reports at the same time: one on an engine of its own, one on an endpoint that the variables name.

    A malformed message waits in the queue of the second.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKQ_STATE_DIR", str(up.state))
        live = stacks.describe(connect("local"))
    for body in (MALFORMED, WITH_KEY):
        live.target.client("sqs").send_message(QueueUrl=live.queue_url, MessageBody=body)
    n_tasks = ["-p", f"n_tasks={N_TASKS}"]
    first = Started(
        begin,
        tmp_path_factory.mktemp("first"),
        *(*n_tasks, *SHARES, "-p", "stack_parameters", "RetryBaseSeconds:0", "-p", "objectives", "all:50%:1h"),
    )
    second = Started(
        begin,
        tmp_path_factory.mktemp("second"),
        *("--target", "aws", *n_tasks, *SHARES),
        AWS_ENDPOINT_URL=up.url,
        AWS_REGION="us-east-1",
        AWS_ACCESS_KEY_ID=KEY_ID,
        AWS_SECRET_ACCESS_KEY=KEY,
    )
    return first.ended(finish), second.ended(finish)


@pytest.fixture(scope="module")
def complete(together: tuple[Report, Report]) -> Report:
    """A report of 120 tasks on an engine that it started itself."""
    return together[0]


@pytest.fixture(scope="module")
def elsewhere(together: tuple[Report, Report]) -> Report:
    """The same on another endpoint, as `--target aws`."""
    return together[1]


def assert_ledger_closed(report: Report) -> None:
    """Every task is accounted for, by the record and by the frames that it was made from."""
    ledger, tasks = report.results["ledger"], report.frame("tasks")
    assert ledger["submitted"] == N_TASKS == len(report.frame("manifest")) == tasks["task_id"].nunique() == len(tasks)
    assert (ledger["open"], ledger["lost"], ledger["duplicates"]) == (0, 0, 0)
    assert ledger["completed"] == (tasks["state"] == "completed").sum() > N_TASKS / 2
    assert ledger["dead_lettered"] == (tasks["state"] == "dead_lettered").sum() > 0
    assert ledger["closed"] is True
    assert len(report.frame("attempts")) == tasks["n_attempts"].sum() > N_TASKS


def test_a_report_ends_well(complete: Report) -> None:
    """The command ends with 0, names each notebook and the report, and writes nothing to stderr."""
    assert (complete.code, complete.err) == (0, "")
    first, *told, ledger, brief, last = complete.out.splitlines()
    assert first == "run r"
    assert ledger.startswith(f"the ledger is closed: {N_TASKS} submitted = ")
    assert brief == f"in brief, for a CI job or a chat: {complete.folder / 'summary.md'}"
    assert last == f"report: {complete.folder / 'index.html'}"
    assert [line.split()[0] for line in told] == NAMES


def test_a_report_accounts_for_every_task(complete: Report) -> None:
    """Of 120 tasks each is completed or dead-lettered; none is open, lost or done twice."""
    assert_ledger_closed(complete)


def test_the_results_hold_what_is_promised(complete: Report) -> None:
    """A machine finds what was asked, where, what came out, and the versions that made it."""
    results = complete.results
    assert (results["run_id"], results["target"], results["state"]) == ("r", "local", "complete")
    asked = {"n_tasks": N_TASKS, "transient_share": 0.1, "permanent_share": 0.1, "run_id": "r"}
    assert asked.items() <= results["parameters"].items()
    assert {"submitted", "completed", "dead_lettered", "open", "lost", "duplicates"} <= results["ledger"].keys()
    assert set(results["latency"]) == {"queue_wait_s", "processing_s", "retry_delay_s", "end_to_end_s"}
    for row in results["latency"].values():
        assert {"n", "p50", "p90", "p99", "max"} <= row.keys()
        assert row["n"] == N_TASKS
        assert 0 <= row["p50"] <= row["p90"] <= row["max"]
        assert all(row["intervals"][name][0] <= row[name] <= row["intervals"][name][1] for name in ("p50", "p90"))
        assert (row["p99"], row["intervals"]["p99"]) == (None, None)
        assert row["why_not"] == {"p99": f"needs 368 tasks, there are {N_TASKS}"}
    assert "censored" not in results
    assert results["slowest"]["says"].startswith("The slowest task took ")
    assert results["clocks"]["n_negative"] == 0
    # One machine has one clock; what bounds it are the times of messages and of looks at the table.
    assert results["clocks"]["at_least_s"] <= 0 <= results["clocks"]["at_most_s"]
    [objective] = results["objectives"]
    assert (objective["task_type"], objective["n"], objective["verdict"]) == ("all", N_TASKS, "met")
    assert {"offered_per_s", "attempts_per_s", "completed_per_s", "max_backlog"} <= results["throughput"].keys()
    assert set(results["failure_rate"]) == {"tasks", "attempts", "by_type"}
    assert {"prices", "usd_per_million", "items", "alternatives"} <= results["cost"].keys()
    assert {row["source"] for row in results["cost"]["items"]} == {"counted", "computed", "assumed"}
    assert results["cost"]["usd_per_million"] > 0
    assert {"taskq", "commit", "function_code", "template", "python", "pandas"} <= results["versions"].keys()
    assert set(results["notebooks_s"]) == set(NAMES)
    assert results["teardown"]["dry_run"] is True


def test_the_figures_can_be_computed_again(complete: Report) -> None:
    """Latency, failure rates and throughput follow from the frames beside them, by their definitions."""
    results, tasks, attempts = complete.results, complete.frame("tasks"), complete.frame("attempts")
    end_to_end = (tasks["finished_at"] - tasks["enqueued_at"]).dt.total_seconds()
    wait = (tasks["first_started_at"] - tasks["enqueued_at"]).dt.total_seconds()
    assert results["latency"]["end_to_end_s"]["p50"] == pytest.approx(end_to_end.median())
    assert results["latency"]["end_to_end_s"]["max"] == pytest.approx(end_to_end.max())
    assert results["latency"]["queue_wait_s"]["p90"] == pytest.approx(wait.quantile(0.9))
    dead = tasks["state"] == "dead_lettered"
    assert results["failure_rate"]["tasks"] == pytest.approx(dead.mean())
    assert results["failure_rate"]["attempts"] == pytest.approx((attempts["outcome"] != "completed").mean())
    assert results["dead_letters"] == dead.sum() == len(complete.frame("dead"))
    rate = results["throughput"]["completed_per_s"] * results["throughput"]["window_s"]
    assert rate == pytest.approx((~dead).sum())


def test_the_folder_holds_every_notebook_and_frame(complete: Report) -> None:
    """Beside the index lie each notebook as it ran, its page, and the data as parquet; nothing half-written."""
    files = {path.name for path in complete.folder.iterdir()} - {"kernels.log"}
    expected = {f"{name}.{kind}" for name in NAMES for kind in ("ipynb", "html")} | {"index.html", "results.json"}
    expected |= {f"{name}.parquet" for name in FRAMES} | {"summary.md"}
    assert files == expected


def test_the_index_is_the_one_page_to_share(complete: Report) -> None:
    """The index holds every figure with a text, asks nothing of another host, and links to its notebooks' pages."""
    index = complete.page("index")
    images = re.findall(r"<img\b[^>]*>", index)
    # Those of 80_compare are of runs with a baseline.
    drawing = [path for path in chain.notebooks() if path.stem != "80_compare"]
    code = [line for path in drawing for line in path.read_text().splitlines()]
    # One, the queue wait by tenant, is of runs with message groups only.
    assert len(images) == sum("show.figure(" in line for line in code) - 1 == 9
    for image in images:
        assert re.search(r'src="data:image/png;base64,[A-Za-z0-9+/=]{1000}', image)
        assert re.search(r'alt="[^"]{20,}"', image)
    beside = {link for link in re.findall(r'href="([^"]*)"', index) if not link.startswith("#")}
    assert beside == {f"{name}.html" for name in NAMES}
    assert len(index) < 5_000_000
    assert re.findall(r'src="(?!data:)|url\(|@import|<script|<link|<iframe', index) == []
    assert set(re.findall(r'<section class="page" id="(\d\d_\w+)"', index)) == set(NAMES)
    assert "No: every task is accounted for." in index
    assert f"{N_TASKS} submitted" in index


def test_no_page_shows_an_error(complete: Report) -> None:
    """Neither a traceback nor an error, nor a bar that is not at its end, is on a page; the engine logged no error."""
    for name in complete.pages:
        body = complete.page(name).partition("<body>")[2]
        assert not re.search(r"Traceback|ERROR|Exception|ansi-red|output_stderr[^>]*>\s*<pre>(?!submit|final)", body)
    bars = [complete.page(name) for name in ("20_submit", "30_status")]
    assert all(re.findall(r"\b\d+%\|", bar) == ["100%|"] for bar in bars)
    assert "ERROR" not in (complete.state / "engine.log").read_text()


def test_no_secret_leaves_with_a_report(elsewhere: Report) -> None:
    """Neither the environment's own keys nor one that came in a message is on a page, in a notebook or in the results.

    The message with the key was shown, so it is the scrubbing that is seen here.
    """
    shared = [path for path in elsewhere.folder.iterdir() if path.suffix in {".html", ".ipynb", ".md", ".json"}]
    assert len(shared) == 2 * len(NAMES) + 3
    for path in shared:
        text = path.read_text()
        assert scrub.leaks(text, [KEY_ID, KEY, STRAY_KEY]) == [], path.name
        assert not [secret for secret in (KEY_ID, KEY, STRAY_KEY) if secret in text]
    assert "[scrubbed: AWS access key id]" in elsewhere.page("50_failures")
    assert STRAY_KEY in elsewhere.frame("dead")["body"].str.cat()


def test_a_report_can_be_rendered_anew(complete: Report) -> None:
    """From what a report left, without AWS, the same pages come again, to the byte."""
    names = [*complete.pages, "index"]
    before = [complete.page(name) for name in names]
    assert main(["report", "--from", str(complete.folder)]) == 0
    assert [complete.page(name) for name in names] == before
    facts = provenance.facts(Run(id="r", folder=complete.folder), complete.results)
    assert {"account", "template", "function code", "data window", "data hash"} <= facts.keys()
    assert facts["account"] == "...0000"


def test_the_list_of_runs_names_it(complete: Report) -> None:
    """The page above lists the run with a link to its report."""
    listed = (complete.folder.parent / "index.html").read_text()
    assert re.findall(r'href="([^"]*)"', listed) == ["r/index.html"]
    assert f'<td class="n" data-value="{N_TASKS}">{N_TASKS}</td>' in listed
    assert "<td>complete</td>" in listed


def test_a_report_stops_the_engine_that_it_started(complete: Report, left: Left) -> None:
    """After a report no engine, worker or kernel of it runs, and the engine's record is gone."""
    assert left(complete.state) == []
    assert not members(complete.state)
    assert not (complete.state / RECORD).exists()


def test_another_endpoint_serves_as_well(elsewhere: Report, up: Up, left: Left) -> None:
    """As `aws`, with the standard variables alone, the same chain runs on any endpoint, and starts no engine."""
    assert (elsewhere.code, elsewhere.err) == (0, "")
    results = elsewhere.results
    assert (results["target"], results["state"]) == ("aws", "complete")
    assert results["deployment"]["endpoint"] == up.url
    assert_ledger_closed(elsewhere)
    assert not elsewhere.state.exists()
    assert left(elsewhere.state) == []
    assert members(up.state)


def test_a_malformed_message_fails_alone(elsewhere: Report) -> None:
    """A message that is no task is dead-lettered with its reason, beside the run's own, and spoils no task."""
    dead = elsewhere.frame("dead")
    assert len(dead) == elsewhere.results["ledger"]["dead_lettered"] + 2 == elsewhere.results["dead_letters"]
    [stray] = dead[dead["body"] == MALFORMED].to_dict("records")
    assert stray["reason"] == "invalid"
    assert stray["error"].startswith("the body is not JSON: ")
    assert stray["n_receives"] >= 1


def test_a_malformed_message_is_explained(elsewhere: Report) -> None:
    """The page on failures shows it as text, with its reason, and so does the index."""
    for source in (elsewhere.page("50_failures"), elsewhere.page("index")):
        [row] = [row for row in re.findall(r"<tr>.*?</tr>", source) if "alert(" in row]
        assert MALFORMED in html.unescape(row)
        assert ">invalid</td>" in row
        assert "the body is not JSON" in row
        assert "<script" not in source
        assert re.search(
            r"<tr><td[^>]*>invalid</td><td[^>]*>0</td><td[^>]*>2</td><td[^>]*>the message breaks the contract", source
        )
