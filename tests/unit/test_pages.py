"""A page is self-contained, shows no code, runs nothing of what it was given, and leads nowhere that is not there."""

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape
from nbformat import v4

from taskq_lib.errors import RunDamaged
from taskq_lib.report import executed, pages, rendering, runs, runs_list, show
from taskq_lib.report.executed import Page
from taskq_lib.report.runs import Run
from tests.unit.markup import Html

SCRIPT = "<script>alert(1)</script>"
IMAGE = '<img src="x" onerror="alert(1)">'
HOSTILE = f"{SCRIPT} {IMAGE} </pre></td></section> &lt;b&gt; ' \""
PIXEL = base64.b64encode(b"not looked at").decode()
STARTED = {
    "target": "local",
    "parameters": {"n_tasks": 5},
    "started_at": "2026-11-24T02:00:00+00:00",
    "finished_at": "2026-11-24T02:01:00+00:00",
    "versions": {"taskq": "0.1.0"},
    "state": "complete",
}
LEDGER = {"submitted": 5, "completed": 4, "dead_lettered": 1, "open": 0, "lost": 0, "duplicates": 0, "closed": True}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that has been started."""
    made = runs.create("r", tmp_path / "runs")
    made.record(**STARTED)
    return made


def page(run: Run, name: str, *cells: Any, **papermill: Any) -> Page:
    """Write an executed notebook of these cells into the run's folder, with what papermill notes, and render it."""
    path = run.folder / f"{name}.ipynb"
    metadata = {"papermill": papermill} if papermill else {}
    nbformat.write(v4.new_notebook(cells=list(cells), metadata=metadata), path)  # type: ignore[no-untyped-call]
    return executed.page_of(path, str)


def prose(text: str) -> Any:
    """Make a markdown cell."""
    return v4.new_markdown_cell(text)  # type: ignore[no-untyped-call]


def code(*outputs: Any, source: str = "pass") -> Any:
    """Make an executed cell."""
    return v4.new_code_cell(source, outputs=list(outputs))  # type: ignore[no-untyped-call]


def printed(text: str, name: str = "stdout") -> Any:
    """Make an output that was printed."""
    return v4.new_output("stream", name=name, text=text)  # type: ignore[no-untyped-call]


def shown(data: dict[str, Any], **metadata: Any) -> Any:
    """Make an output that was displayed."""
    return v4.new_output("display_data", data=data, metadata=metadata)  # type: ignore[no-untyped-call]


def raised(text: str) -> Any:
    """Make the output of an exception, coloured as IPython does it."""
    traceback = [f"\x1b[31mValueError\x1b[39m: {text}", f"      1 raise ValueError({text!r})"]
    return v4.new_output("error", ename="ValueError", evalue=text, traceback=traceback)  # type: ignore[no-untyped-call]


def table(text: str) -> Any:
    """Make the output of a frame that holds the text, in a cell and as a column's name."""
    return shown({"text/html": show.table(pd.DataFrame({"error": [text], text: [1]})).data, "text/plain": "a table"})


def recorded(text: str) -> Any:
    """Make the output of a record that holds the text, as `show.record` displays it."""
    caught: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(show, "display", lambda data, **_: caught.append(data))
        show.record(None, error=text)
    return shown(caught[0])


def index(run: Run, found: Sequence[Page], failure: str = "") -> str:
    """Write the pages of a run and read the one of the whole."""
    run.record(failure=failure or None)
    return pages.write_pages(run, found).read_text()


def sources(run: Run, found: Page) -> list[str]:
    """Write the pages of a run of one notebook and read both: the notebook's own and the whole."""
    return [index(run, [found]), (run.folder / f"{found.name}.html").read_text()]


def list_of_runs(run: Run) -> str:
    """Write the list of runs and read it without its own script, the only one its policy lets run."""
    source = runs_list.write(run.folder.parent).read_text()
    script, policy = rendering.script("sort.js")
    assert source.count(f"<script>{script}</script>") == 1
    assert str(escape(policy)) in source
    return source.replace(f"<script>{script}</script>", "")


def assert_harmless(source: str) -> None:
    """Nothing in a page runs or is fetched: no script, no handler, and no address but of a place in it or beside it."""
    found = Html(source)
    assert {tag for tag, _ in found.elements}.isdisjoint(
        {"script", "iframe", "object", "embed", "link", "base", "form"}
    )
    attributes = {name for _, names in found.elements for name in names}
    assert not [name for name in attributes if name.startswith("on")]
    assert attributes.isdisjoint({"srcset", "srcdoc", "formaction", "background", "action", "data"})
    assert all(address.startswith("data:image/png;base64,") for address in found.values("src"))
    assert not [address for address in found.values("href") if ":" in address.partition("#")[0] or "//" in address]
    assert "url(" not in source
    assert "@import" not in source


@pytest.mark.parametrize("make", [printed, raised, table, recorded], ids=lambda make: make.__name__)
@pytest.mark.parametrize("text", [SCRIPT, IMAGE, HOSTILE])
def test_what_comes_from_outside_is_shown_and_not_run(make: Callable[[str], Any], text: str, run: Run) -> None:
    """An error's text in a table, a print, a traceback or a record reaches page and index as the text it is."""
    for source in sources(run, page(run, "50_failures", code(make(text)))):
        assert_harmless(source)
        assert text.partition(" ")[0] in Html(source).text
        assert "<img" not in source


def test_plain_results_are_shown_as_text(run: Run) -> None:
    """A value's plain text, where it has no better form, is escaped as well."""
    found = page(run, "50_failures", code(shown({"text/plain": HOSTILE})))
    assert_harmless(found.body)
    assert SCRIPT in Html(found.body).text


def test_what_would_run_is_not_shown(run: Run) -> None:
    """JavaScript, SVG, widgets and Markdown that a cell displays do not reach the page; its plain text does."""
    forms = ("application/javascript", "image/svg+xml", "application/vnd.jupyter.widget-view+json", "text/markdown")
    odd = [code(shown({form: {"a": SCRIPT} if form.endswith("json") else SCRIPT})) for form in forms]
    found = page(run, "50_failures", *odd, code(shown({"text/latex": SCRIPT, "text/plain": "in words"})))
    assert_harmless(found.body)
    assert Html(found.body).words == "in words"


@pytest.mark.parametrize("tag", ["<meta http-equiv=refresh content='0;url=//x'>", "<META/http-equiv=refresh>"])
def test_no_notebook_leads_elsewhere(tag: str, run: Run) -> None:
    """A refresh in the prose or an output of a foreign notebook is text: no policy of a page could forbid it."""
    found = page(run, "40_latency", prose(f"# T\n\n{tag}"), code(shown({"text/html": tag})))
    assert "<meta" not in found.body.lower()
    assert found.body.lower().count("&lt;meta") == 2


def test_what_was_asked_for_is_shown_and_not_run(run: Run) -> None:
    """Parameters, the failure and what the results hold are escaped on the index, and on the list of runs."""
    deployment = {"region": HOSTILE, "endpoint": HOSTILE, "stack": HOSTILE}
    run.record(target=SCRIPT, parameters={"mix": HOSTILE}, deployment=deployment, state=SCRIPT, versions={"a": HOSTILE})
    source = index(run, [], failure=HOSTILE)
    assert_harmless(source)
    assert Html(source).text.count(SCRIPT) == 11
    listed = list_of_runs(run)
    assert_harmless(listed)
    assert Html(listed).text.count(SCRIPT) == 2


@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=300))
def test_any_text_in_a_table_reads_as_it_is(text: str) -> None:
    """Whatever text a frame holds, the table shows just that, and no element more."""
    plain, found = (Html(str(show.table(pd.DataFrame({"error": [t]})).data)) for t in ("", text))
    assert found.text.replace("\n", "") == plain.text.replace("\n", "") + text
    assert found.elements == plain.elements


def test_a_progress_bar_is_settled(run: Run) -> None:
    """Of a bar that was drawn many times, in many pieces, the page shows its last state, and other lines whole."""
    pieces = ["before\n", "\rsubmit:   0%|", "\rsubmit:  50%|##", "\rsubmit: 100%|####\n", "after\r\n"]
    outputs = [printed(piece, "stderr") for piece in pieces]
    outputs.insert(3, printed("a line of the other stream\n"))
    text = Html(page(run, "20_submit", code(*outputs)).body).text
    assert "submit: 100%|####" in text
    assert all(line in text for line in ("before", "after", "a line of the other stream"))
    assert " 0%" not in text
    assert "50%" not in text


def test_a_bar_that_leaves_nothing_is_no_output(run: Run) -> None:
    """A bar that clears itself leaves no empty box."""
    body = page(
        run, "20_submit", code(printed("\rsubmit:  50%|##", "stderr"), printed("\r          \r", "stderr"))
    ).body
    assert "<pre" not in body


def test_code_is_not_shown(run: Run) -> None:
    """The page shows prose and outputs, no code and no prompts; the notebook beside it keeps all."""
    found = page(run, "40_latency", prose("# Title"), code(printed("an output"), source="secret_name = 1"))
    assert "an output" in found.body
    assert "secret_name" not in found.body
    assert "In [" not in found.body
    assert "secret_name" in (run.folder / "40_latency.ipynb").read_text()


def test_a_figure_keeps_its_alternative_text(run: Run) -> None:
    """A figure is in the page itself, with the text for who cannot see it."""
    figure = shown({"image/png": PIXEL, "text/plain": "<Figure>"}, **{"image/png": {"alt": 'The "p99" <rises>.'}})
    found = page(run, "40_latency", code(figure))
    [image] = [attributes for tag, attributes in Html(index(run, [found])).elements if tag == "img"]
    assert image["src"] == f"data:image/png;base64,{PIXEL}"
    assert image["alt"] == 'The "p99" <rises>.'


def test_a_page_asks_nothing_of_the_network(run: Run) -> None:
    """Whatever a notebook holds - formulas, code, a table, a figure - its page and the index name no other host."""
    cells = [
        prose("# Title\n\n$x^2$ and `code`\n\n```python\nprint(1)\n```\n\n- [ ] a\n\n| a | b |\n|---|---|\n| 1 | 2 |"),
        code(table("text"), shown({"image/png": PIXEL}, **{"image/png": {"alt": "a"}}), printed("\x1b[31mred\x1b[0m")),
    ]
    found = page(run, "40_latency", *cells)
    for source in (*sources(run, found), list_of_runs(run)):
        assert_harmless(source)


def test_links_between_notebooks_lead_to_their_pages(run: Run) -> None:
    """A link to a notebook leads to its page beside, and on the index to its section; one to outside is text."""
    text = "# {0}\n\n[next](30_status.ipynb), [this](40_latency.ipynb), [words](../docs/glossary.md)"
    found = [page(run, name, prose(text.format(name))) for name in ("30_status", "40_latency")]
    whole = index(run, found)
    beside = Html((run.folder / "40_latency.html").read_text()).values("href")
    assert {"30_status.html", "40_latency.html", "index.html"} <= set(beside)
    assert {"#30_status", "#40_latency"} <= set(Html(whole).values("href"))
    assert {"30_status", "40_latency"} <= set(Html(whole).values("id"))
    assert "glossary" not in "".join(beside + Html(whole).values("href"))
    assert "words" in Html(whole).text


def test_every_link_leads_somewhere(run: Run) -> None:
    """Where the chain stopped, pages that were never made are not linked, and no place in a page is missing."""
    found = page(run, "30_status", prose("# Title\n\n## Heading\n\n[why](50_failures.ipynb)"))
    for source in sources(run, found):
        ids = {f"#{name}" for name in Html(source).values("id")}
        files = {path.name for path in run.folder.iterdir()}
        assert set(Html(source).values("href")) <= ids | files


def test_an_id_stands_once_in_a_page(run: Run) -> None:
    """Notebooks that share their headings, and cells of one number, share no id on the index."""
    cells = [prose("# Title\n\n## Parameters"), code(printed("x")), prose("## Result\n\n### Result")]
    found = [page(run, name, *cells) for name in ("30_status", "40_latency", "10_deploy")]
    for source in (index(run, found), (run.folder / "30_status.html").read_text()):
        ids = Html(source).values("id")
        assert sorted(ids) == sorted(set(ids))


def test_the_index_puts_answers_first(run: Run) -> None:
    """The index holds every page once, the analysis before what was done, named by the notebook's own title."""
    names = ["10_deploy", "30_status", "90_teardown"]
    whole = Html(index(run, [page(run, name, prose(f"# The {name}\n\ntext")) for name in names]))
    sections = [attributes["id"] for tag, attributes in whole.elements if tag == "section"]
    assert sections == ["30_status", "10_deploy", "90_teardown", "provenance"]
    assert all(f"The {name}" in whole.text for name in names)


def test_a_title_with_markup_reads_as_it_was_written(run: Run) -> None:
    """In the contents and as the page's title, markup in a title is text."""
    title = f"A *title* {SCRIPT} & `more`"
    for source in sources(run, page(run, "40_latency", prose(f"# {title}"))):
        assert title in Html(source.replace("<h1>", "")).words
        assert source.index("Content-Security-Policy") < source.index("title*")


def test_a_notebook_without_a_title_goes_by_its_name(run: Run) -> None:
    """The title is the first heading; without one it is the notebook's name."""
    assert page(run, "40_latency", prose("text"), prose("# How long\n\nmore")).title == "How long"
    assert page(run, "40_latency", prose(""), prose("## Data")).title == "40_latency"


def test_the_index_of_a_failed_run_shows_the_failure(run: Run) -> None:
    """Why the run stopped stands at the top, with the ledger as far as it is known; nothing says that all is well."""
    run.record(state="failed", ledger=LEDGER | {"completed": 2, "open": 2, "closed": False})
    found = page(run, "30_status", prose("# Where"), code(raised("The ledger is open")))
    source = index(run, [found], "30_status, cell 17: LedgerOpen: of 5 tasks 2 are still open")
    text = Html(source).words
    assert "Something is wrong: it stopped with an error; 2 tasks are still open." in text
    assert "It stopped with 30_status, cell 17: LedgerOpen: of 5 tasks 2 are still open" in text
    assert "Not yet known: 2 tasks are still open." in text
    assert "every task is accounted for" not in text
    assert "ValueError" in text
    assert source.count('class="verdict bad"') == 1


def test_the_index_of_a_good_run_shows_its_figures(run: Run) -> None:
    """The ledger and the latencies stand at the top with their units, and nothing says that it stopped."""
    row = {"n": 5, "p50": 0.0042, "p90": 1.5, "p99": 12.34, "max": 1234.5}
    run.record(
        ledger=LEDGER,
        latency={"end_to_end_s": row},
        throughput={"completed_per_s": 12.34},
        failure_rate={"tasks": 0.2, "attempts": None},
    )
    text = Html(index(run, [])).words
    assert "No: every task is accounted for. 5 submitted = 4 completed + 1 dead-lettered + 0 open + 0 lost" in text
    assert "end-to-end latency: enqueued to last finish 5 4.2 ms 1.5 s 12.3 s 1,234 s" in text
    assert "12.3 /s" in text
    assert "20.00%" in text
    assert "stopped" not in text


def test_the_index_says_what_failed_and_what_is_missing(run: Run) -> None:
    """Error signatures, attempts, redrives, lost and open ids and an open breaker stand at the top, as text."""
    counted = {"attempts": {"total": 7, "mean": 1.4, "max": 3}, "redriven": 2}
    lost = {"lost_ids": {"total": 12, "ids": [f"r-{i}" for i in range(12)]}, "open_ids": {"total": 1, "ids": ["<b>"]}}
    run.record(
        ledger=LEDGER | counted | lost,
        breakers={"SEND_EMAIL": "half_open", "IMAGE_RESIZE": "closed"},
        signatures=[
            {
                "signature_id": "5bc96056",
                "signature": "Broken: <script>",
                "reason": "max_attempts",
                "task_types": "SEND_EMAIL",
                "n_tasks": 3,
            }
        ],
        safety_net=1,
        stuck=0,
    )
    found = Html(index(run, []))
    assert "2 tasks were redriven; their attempts count from their last redrive on" in found.words
    assert "Lost: r-0, r-1, r-2, r-3, r-4, r-5, r-6, r-7, r-8, r-9 and 2 more" in found.words
    assert "Open: <b>" in found.words
    assert "A circuit breaker is half-open, its tasks wait until a probe completes: SEND_EMAIL" in found.words
    assert "IMAGE_RESIZE" not in found.words
    assert "Broken: <script> 5bc96056 max_attempts SEND_EMAIL 3" in found.words
    assert "1 of the dead letters came through the safety net" in found.words
    assert not [tag for tag, _ in found.elements if tag == "script"]


def test_the_index_shows_what_others_have_found(run: Run) -> None:
    """Intervals, objectives and a comparison each have a table with their units; without them there is none."""
    row = {"n": 5, "p50": 0.5, "p90": 1.5, "p99": None, "max": 2.0, "intervals": {"p50": [0.4, 0.6], "p99": None}}
    judged = {"metric": "end-to-end p50", "unit": "s", "ours": 0.5, "baseline": 0.4, "difference": 0.25, "low": 0.1}
    failing = {
        "metric": "failure rate",
        "unit": "share",
        "ours": 0.2,
        "baseline": 0.1,
        "difference": 0.1,
        "verdict": "",
    }
    goal = {"task_type": "SEND_EMAIL", "share": 0.999, "within_s": 30.0, "n": 5, "attained": 0.8, "verdict": "missed"}
    sections = {
        "latency": {"end_to_end_s": row},
        "objectives": [goal | {"low": 0.5, "high": 0.9, "budget_used": 2.0, "burn": 3.0}],
        "compare": {
            "verdict": "fail",
            "baseline": ["a"],
            "metrics": [judged | {"high": 0.4, "margin": 0.05, "verdict": "fail"}, failing],
            "changed": [{"what": "commit", "ours": "b", "baseline": "c"}],
        },
    }
    run.record(ledger=LEDGER, **sections)
    words = Html(index(run, [])).words
    assert "5 500 ms 400 ms to 600 ms 1.5 s - 2 s" in words
    assert "SEND_EMAIL, 99.9 % within 30 s 5 80.00% 50.00% to 90.00% 200.00% 3.0 missed" in words
    assert "end-to-end p50 500 ms 400 ms +25 % +10 % to +40 % +5 % fail" in words
    assert "failure rate 20.00% 10.00% +10 points - - not judged" in words
    assert "commit b c" in words
    run.record(**dict.fromkeys(sections))
    assert "Objectives" not in Html(index(run, [])).words


def test_the_index_says_that_an_inventory_was_cut(run: Run) -> None:
    """Where dead letters were not listed, the top of the page says how many were; else it says nothing of it."""
    run.record(ledger=LEDGER, read={"n_listed": 10, "n_dead": 1200, "dead_is_whole": False})
    assert "Only 10 of about 1,200 dead letters were listed" in Html(index(run, [])).words
    run.record(read={"n_listed": 10, "n_dead": 10, "dead_is_whole": True})
    assert "dead letters were listed" not in Html(index(run, [])).words


def test_a_run_of_nothing_has_an_index(run: Run) -> None:
    """A run in which nothing finished has an index without figures that are not known."""
    unknown = dict.fromkeys(["p50", "p90", "p99", "max"])
    run.record(
        ledger=LEDGER | {"completed": 0, "dead_lettered": 0, "lost": 5, "closed": False},
        latency={"end_to_end_s": {"n": 0, **unknown}},
        throughput={"completed_per_s": None},
        failure_rate={"tasks": None, "attempts": None},
    )
    text = Html(index(run, [])).text
    assert "Yes: 5 tasks are lost." in text
    assert "None" not in text
    assert "nan" not in text


def test_the_list_of_runs_links_every_report(run: Run) -> None:
    """The list names each run that has a report, failed ones too, with what is known of it and a link."""
    run.record(ledger=LEDGER, latency={"end_to_end_s": {"n": 5, "p50": 0.5, "p90": 1.0, "p99": 2.0, "max": 2.0}})
    index(run, [])
    root = run.folder.parent
    failed = runs.create("failed:1", root)
    failed.record(**STARTED | {"state": "failed"})
    index(failed, [], "it broke")
    runs.create("without-report", root)
    found = Html(runs_list.write(root).read_text())
    assert sorted(found.values("href")) == ["failed%3A1/index.html", "r/index.html"]
    assert "r 2026-11-24 02:00:00 ! worth a look - 500 ms 2 s 5 4 1 0 complete local" in found.words
    assert "failed:1 2026-11-24 02:00:00 ✗ wrong - - - - - - - failed local" in found.words
    assert "without-report" not in found.words


# --- a notebook that ran more than once ---------------------------------------------------------------------------


def ended(**more: Any) -> dict[str, Any]:
    """What papermill notes of a notebook that came to its end."""
    return {"start_time": "2026-11-24T02:00:00", "end_time": "2026-11-24T02:00:01", "exception": None} | more


def test_the_newest_execution_stands_in_its_place(run: Run) -> None:
    """Of a notebook that ran several times the index holds the last by time; the others are linked, by number."""
    found = [
        page(run, "30_status", prose("# Where\n\nafter the resume"), **ended(start_time="2026-11-24T03:00:00")),
        *(page(run, f"30_status-{n}", prose(f"# Where\n\noutdated {n}"), **ended()) for n in (2, 10, 9)),
        page(run, "50_failures", prose("# Why\n\n[where](30_status.ipynb)"), **ended()),
    ]
    whole = Html(index(run, found))
    sections = [attributes["id"] for tag, attributes in whole.elements if tag == "section"]
    assert sections == ["30_status", "50_failures", "provenance"]
    assert "after the resume" in whole.text
    assert "outdated" not in whole.text
    earlier = [address for address in whole.values("href") if "-" in address and not address.startswith("#")]
    assert earlier == ["30_status-2.html", "30_status-9.html", "30_status-10.html"]
    assert all("outdated" in (run.folder / name).read_text() for name in earlier)
    assert "Where 30_status-2, 2026-11-24 02:00:00" in whole.words


def test_links_lead_to_the_newest_execution(run: Run) -> None:
    """A link to a notebook that ran twice leads to its second page."""
    found = [page(run, name, prose("# Redrive"), **ended()) for name in ("51_redrive", "51_redrive-2")]
    found.append(page(run, "30_status", prose("[again](51_redrive.ipynb)"), **ended()))
    assert "#51_redrive-2" in Html(index(run, found)).values("href")
    assert "51_redrive-2.html" in Html((run.folder / "30_status.html").read_text()).values("href")


def parameters(source: str) -> Any:
    """Make the cell of parameters."""
    return v4.new_code_cell(source, metadata={"tags": ["parameters"]})  # type: ignore[no-untyped-call]


def reached(source: str, end_time: str | None) -> Any:
    """Make a cell as papermill leaves it: without a time where it was never run, whatever its status says."""
    noted = {"papermill": {"end_time": end_time, "status": "completed"}}
    return v4.new_code_cell(source, metadata=noted)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("cells", "noted", "mark"),
    [
        ([], ended(), ""),
        ([parameters("dry_run = True  # shows")], ended(), "dry run"),
        ([parameters("a = 1\ndry_run = True  # shows")], ended(parameters={"dry_run": False}), "acted"),
        ([parameters("dry_run = True  # shows")], ended(parameters={"dry_run": True}), "dry run"),
        ([parameters("dry_run = True"), code(raised("no"))], ended(parameters={"dry_run": False}), "failed"),
        ([parameters("dry_run = True")], ended(exception=True), "failed"),
        ([parameters("dry_run = True")], ended(end_time=None), "interrupted"),
        ([reached("a = 1", "02:00:01"), reached("b = 2", None)], ended(), "interrupted"),
        ([reached("a = 1", "02:00:01"), reached("b = 2", "02:00:02")], ended(), ""),
        ([reached("a = 1", "02:00:01"), reached("b = 2", None)], ended(exception=True), "failed"),
    ],
)
def test_the_contents_say_how_it_ended(cells: list[Any], noted: dict[str, Any], mark: str, run: Run) -> None:
    """A notebook that may act is marked as a dry run or not, and any that failed or was killed as that."""
    found = page(run, "51_redrive", prose("# Redrive"), *cells, **noted)
    assert found.mark == mark
    assert f"Redrive 51_redrive{' , ' + mark if mark else ''} The second link" in Html(index(run, [found])).words


def test_an_interrupt_has_no_traceback(run: Run) -> None:
    """Where a person ended a cell, the page says just that."""
    error = v4.new_output("error", ename="KeyboardInterrupt", evalue="", traceback=["deep", "in a library"])  # type: ignore[no-untyped-call]
    found = page(run, "51_redrive", code(printed("as far as this"), error), **ended(exception=True))
    assert found.mark == "interrupted"
    assert "deep" not in found.body
    assert Html(found.body).words == "as far as this interrupted"


def test_the_place_of_an_error_has_an_id_of_its_own(run: Run) -> None:
    """Two notebooks that failed each lead to their own error, on the index as well."""
    cells = [
        prose('<span>see <a href="#papermill-error-cell">In [1]</a></span>'),
        prose('<span id="papermill-error-cell">here</span>'),
    ]
    whole = Html(index(run, [page(run, name, *cells) for name in ("30_status", "40_latency")]))
    assert {"30_status-error", "40_latency-error"} <= set(whole.values("id")) == set(whole.values("id"))
    assert {"#30_status-error", "#40_latency-error"} <= set(whole.values("href"))
    assert len(whole.values("id")) == len(set(whole.values("id")))


def test_what_was_printed_is_read_again(run: Run) -> None:
    """All that a notebook printed, in order, without bars and tables; nothing of one that was not begun."""
    page(run, "51_redrive", prose("# Redrive"), code(printed("one\n\n"), printed("a bar", "stderr"), table("two")))
    page(run, "30_status", code(printed("one\n")), code(printed("two")))
    assert executed.printed(run.folder / "51_redrive.ipynb") == "one\n"
    assert executed.printed(run.folder / "30_status.ipynb") == "one\ntwo\n"
    assert executed.printed(run.folder / "40_latency.ipynb") == ""


# --- what a run's own record tells --------------------------------------------------------------------------------

CHOICE = {"stack_name": "taskq", "select_signature": "", "select_type": "", "select_all": False, "edit": ""}
REDRIVE = {
    "number": 2,
    "by": "arn:aws:iam::...:user/ann",
    "begun_at": "2026-11-24T03:00:00.000+00:00",
    "state": "finished",
    "why": None,
    "choice": CHOICE | {"select_signature": "5bc96056", "select_type": "SEND_EMAIL", "edit": '{"priority": 9}'},
    "messages": {"deleted": 3, "absent": 1},
    "canary": {"completed": 1, "dead-lettered again": 0, "still open": 0},
    "outcomes": {"completed": 2, "dead-lettered again": 1, "still open": 0},
}


def test_the_index_says_what_was_redriven(run: Run) -> None:
    """Each redrive has a row: by whom, when, of what, with which edit, and what became of it."""
    stopped = REDRIVE | {"number": 1, "state": "stopped", "why": "superseded", "choice": CHOICE | {"select_all": True}}
    del stopped["outcomes"]
    run.record(redrives=[REDRIVE, stopped])
    words = Html(index(run, [])).words
    begun = "2026-11-24 03:00:00 arn:aws:iam::...:user/ann"
    assert f"1 {begun} all - 3 sent, 1 absent 1 completed (canary) stopped: superseded" in words
    assert (
        f'2 {begun} signature 5bc96056, type SEND_EMAIL {{"priority": 9}} 3 sent, 1 absent '
        "2 completed, 1 dead-lettered again finished"
    ) in words
    assert words.index("1 2026-11-24 03") < words.index("2 2026-11-24 03")


def test_without_a_redrive_there_is_no_table_of_them(run: Run) -> None:
    """A run from which nothing was redriven says nothing of it."""
    assert "What was redriven" not in Html(index(run, [])).words


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("running", "the first process did not end"),
        ("interrupted", "it was interrupted"),
        ("failed", "it had failed"),
    ],
)
def test_the_index_says_that_a_run_was_resumed(state: str, said: str, run: Run) -> None:
    """Beside the whole run's time stands when it went on, and why it had to."""
    assert "resumed" not in Html(index(run, [])).words
    run.record(resumed={"at": "2026-11-24T02:00:30+00:00", "state": state})
    words = Html(index(run, [])).words
    assert f"2026-11-24 02:00:00 to 2026-11-24 02:01:00 UTC, resumed at 2026-11-24 02:00:30: {said}" in words


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": 3}', '{"cells": [3], "nbformat": 4}', "\udcff"])
def test_a_damaged_notebook_is_one_sentence(text: str, run: Run) -> None:
    """A cut or foreign notebook in a run's folder is named, and no page is written."""
    (run.folder / "40_latency.ipynb").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunDamaged, match=r"^40_latency\.ipynb of run 'r' is damaged: [^\n]*\n  -> "):
        pages.write_run(run)
    assert not list(run.folder.glob("*.html"))
