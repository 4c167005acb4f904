"""A report as people open it: on a phone, at a desk, in the dark and on paper; and nothing of what it is given runs.

The run is made of task data, errors, names and parameters that all try to run or to reach out. What it shows is drawn
into `build/screenshots` for a person to look at.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from markupsafe import Markup
from nbformat import v4
from playwright.sync_api import Request, expect

from taskq_lib import PROJECT_ROOT
from taskq_lib.aws.queues import DEAD_COLUMNS
from taskq_lib.report import pages, rendering, runs, runs_list, show
from taskq_lib.report.runs import Run
from tests.browser import payloads
from tests.browser.visits import Visit
from tests.unit.frames import synthetic_run
from tests.unit.results import GOOD, LEDGER

TEXTS = payloads.made()
SIZES = {"phone": (360, 740), "laptop": (1280, 800), "print": (794, 1123)}
READ = {
    "at": "2026-11-24T02:05:00+00:00",
    "queue_is_empty": True,
    "n_listed": 200,
    "n_dead": 200,
    "dead_is_whole": True,
}
WATCH = (
    "window.ran = []; window.addEventListener('securitypolicyviolation', found => window.ran.push(found.blockedURI))"
)


def text(i: int) -> str:
    """Return one of the texts."""
    return TEXTS[i % len(TEXTS)]


def results() -> dict[str, Any]:
    """Make the results of a run, with the texts wherever one from outside can come."""
    rows = [
        {
            "signature_id": f"{i:08x}",
            "signature": text(i),
            "reason": text(i + 1),
            "task_types": text(i + 2),
            "n_tasks": 1,
        }
        for i in range(len(TEXTS))
    ]
    choice = {"select_type": text(5), "edit": text(6)}
    redrive = {"number": 1, "begun_at": text(12), "by": text(13), "state": text(14), "why": text(15), "choice": choice}
    return GOOD | {
        "state": text(0),
        "failure": text(1),
        "deployment": {name: text(i) for i, name in enumerate(("account", "region", "endpoint", "stack"))},
        "parameters": {f"p{i} {text(i)}": text(i) for i in range(len(TEXTS))},
        "versions": {text(7): text(8)},
        "notebooks_s": {"50_failures": text(9)},
        "read": READ,
        "ledger": LEDGER | {"completed": 300, "dead_lettered": 200, "lost_ids": {"total": 200, "ids": TEXTS}},
        "breakers": {text(10): text(11)},
        "signatures": rows,
        "redrives": [redrive],
        "compare": {
            "verdict": "fail",
            "says": text(16),
            "baseline": [text(17)],
            "metrics": [{"metric": text(18), "verdict": text(19)}],
            "changed": [{"what": text(20), "ours": text(21), "baseline": [text(22)]}],
        },
        "changes": [text(23)],
        "slowest": {"says": text(24)},
        "clocks": {"says": text(25)},
        "objectives": [{"task_type": text(26), "share": 0.9, "within_s": 1.0, "verdict": text(27)}],
    }  # fmt: skip


def save_frames(run: Run) -> None:
    """Keep data whose errors, types and bodies are the texts."""
    found = synthetic_run(600, failing=3.0, types=(*TEXTS[:3], "SEND_EMAIL"))
    tasks, attempts = found.tasks, found.attempts
    failed = tasks["error"].notna()
    tasks["lease_until"] = tasks["finished_at"]
    odd = pd.Series([text(i) for i in range(len(tasks))], dtype="str")
    tasks["error"], tasks["error_type"] = odd.where(failed), odd.where(failed)
    attempts["error"] = pd.Series([text(i) for i in range(len(attempts))], dtype="str").where(attempts["error"].notna())
    dead = tasks[tasks["state"] == "dead_lettered"].reset_index(drop=True)
    dead = dead.assign(message_id="m", body=odd, first_at=dead["enqueued_at"], last_at=dead["finished_at"])
    dead = dead.reindex(columns=[*DEAD_COLUMNS]).astype(DEAD_COLUMNS)
    for name, frame in {"manifest": found.manifest, "tasks": tasks, "attempts": attempts, "dead": dead}.items():
        run.save(name, frame)


def shown_by_a_notebook() -> Any:
    """Make a notebook that has shown each text as print, value, table, record, picture and error."""
    outputs: list[Any] = []
    for one in TEXTS:
        table = str(show.table(pd.DataFrame({one: [one]})).data)
        data = {"text/html": table, "text/plain": one, "application/javascript": one, "image/svg+xml": one}
        outputs += [
            v4.new_output("stream", name="stdout", text=one),  # type: ignore[no-untyped-call]
            v4.new_output("execute_result", {"text/plain": one}),  # type: ignore[no-untyped-call]
            v4.new_output("display_data", data),  # type: ignore[no-untyped-call]
            v4.new_output("display_data", {"image/png": ""}, metadata={"image/png": {"alt": one}}),  # type: ignore[no-untyped-call]
            v4.new_output("error", ename=one, evalue=one, traceback=[one]),  # type: ignore[no-untyped-call]
        ]
    cells = [v4.new_code_cell("pass", outputs=[one]) for one in outputs]  # type: ignore[no-untyped-call]
    metadata = {"papermill": {"start_time": TEXTS[0], "parameters": {"edit": TEXTS[1]}}}
    return v4.new_notebook(cells=cells, metadata=metadata)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run full of the texts, whose notebooks on latency and failures were executed for real."""
    made = runs.create("r", tmp_path_factory.mktemp("hostile") / "runs", **results())
    save_frames(made)
    # In a process of its own: in this one Playwright has the event loop.
    for name in ("40_latency", "50_failures"):
        command = [sys.executable, "-m", "taskq_lib.commands.main", "run", name, "--run-id", "r"]
        command += ["-p", f"runs_dir={made.folder.parent}"]
        done = subprocess.run(command, cwd=PROJECT_ROOT, env=os.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    made.record(**results())
    nbformat.write(shown_by_a_notebook(), made.folder / "60_monitor.ipynb")  # type: ignore[no-untyped-call]
    pages.write_all(made)
    return made


#: Elements that no page of ours has.
ODD = {"iframe", "object", "embed", "base", "link", "form", "input", "video", "audio", "template", "math", "animate"}
PAGES = ("index.html", "40_latency.html", "50_failures.html", "60_monitor.html", "../index.html")


def opened(visit: Callable[..., Visit], path: Path, size: str) -> Visit:
    """Open a page at a size; what runs in it, or is kept from running, notes itself."""
    seen = visit(*SIZES[size], paper=size == "print")
    seen.page.add_init_script(WATCH)
    seen.page.goto(path.resolve().as_uri())
    return seen


def stopped(seen: Visit) -> set[str]:
    """Return a set in which the addresses come that a page's policy keeps it from asking for."""
    found: set[str] = set()

    def note(request: Request) -> None:
        if request.failure == "csp":
            found.add(request.url)

    seen.page.on("requestfailed", note)
    return found


def test_the_texts_do_run_where_nothing_stops_them(visit: Callable[..., Visit], tmp_path: Path) -> None:
    """Put into a page as they are, many of the texts run or reach out: they are worth being afraid of."""
    ran, reached = set(), set()
    for i, one in enumerate(TEXTS[:42]):
        path = tmp_path / f"{i}.html"
        path.write_text(f"<!doctype html><meta charset=utf-8><body>{one}")
        seen = opened(visit, path, "laptop")
        seen.page.wait_for_timeout(30)
        reached |= set(seen.strangers)
        if "http-equiv" not in one:  # that one has left the page
            ran |= set(seen.page.evaluate("window.ran"))
    assert len(ran) >= 15
    assert len(reached) >= 4


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_none_of_200_texts_runs(name: str, size: str, run: Run, visit: Callable[..., Visit]) -> None:
    """On no page does a text run, ask for anything, leave an element, make the browser complain or the page wide."""
    assert len(set(TEXTS)) == 200
    seen = opened(visit, run.folder / name, size)
    seen.page.wait_for_timeout(100)
    assert (seen.page.evaluate("window.ran"), seen.errors, seen.strangers) == ([], [], [])
    assert all(address.startswith(("file:", "data:")) for address in seen.requests)
    made = seen.page.evaluate("""[...document.querySelectorAll('*')].flatMap(one => [one.localName.toLowerCase(),
        ...[...one.attributes].map(part => part.name + '=' + part.value.slice(0, 11))])""")
    odd = {
        "iframe",
        "object",
        "embed",
        "base",
        "link",
        "form",
        "input",
        "video",
        "audio",
        "template",
        "math",
        "animate",
    }
    assert not odd & set(made)
    assert not [part for part in made if part.startswith("on") or part.partition("=")[2].startswith("javascript:")]
    assert made.count("script") == (name == "../index.html")
    # Wide tables scroll within themselves; paper does not scroll.
    assert size == "print" or seen.page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    seen.screenshot(f"hostile_{Path(name).stem}_{size}" if name != "../index.html" else f"hostile_runs_{size}")


@pytest.mark.parametrize("name", ["index.html", "60_monitor.html"])
def test_escaping_alone_holds_them(name: str, run: Run, visit: Callable[..., Visit], tmp_path: Path) -> None:
    """Without the policy that forbids scripts nothing runs either, and every text stands on the page as a text."""
    source = (run.folder / name).read_text(encoding="utf-8")
    policy = next(line for line in source.splitlines() if "Content-Security-Policy" in line)
    (tmp_path / "page.html").write_text(source.replace(policy, ""), encoding="utf-8")
    seen = opened(visit, tmp_path / "page.html", "laptop")
    seen.page.wait_for_timeout(100)
    assert (seen.page.evaluate("window.ran"), seen.errors, seen.strangers) == ([], [], [])
    shown = " ".join(seen.page.evaluate("document.body.textContent").split())
    # Control characters are no text of HTML; what colours a terminal is taken out.
    words = [" ".join(one.split()) for one in TEXTS if one.isprintable()]
    assert len(words) > 170
    assert not [one for one in words if one not in shown]


def test_the_policy_alone_holds_them(visit: Callable[..., Visit], tmp_path: Path) -> None:
    """Were a text put into a page unescaped one day, the page's policy keeps it from running and from reaching out."""
    template, held = rendering.environment().get_template("page.html.j2"), 0
    for one in TEXTS[:42]:
        if "http-equiv" in one:
            continue  # going to another page is nothing that a policy in a page can forbid
        page = template.render(title="t", run_id="r", body=Markup(one))  # noqa: S704 - that is what is tried
        (tmp_path / "page.html").write_text(page, encoding="utf-8")
        seen = visit()
        left = stopped(seen)
        seen.page.add_init_script(WATCH)
        seen.page.goto((tmp_path / "page.html").as_uri())
        seen.page.wait_for_timeout(30)
        noted = seen.page.evaluate("window.ran")
        assert not [found for found in noted if isinstance(found, int)], one
        # What the policy stops is noted as asked for as well, and as stopped by it.
        assert left >= set(seen.strangers), one
        held += bool(noted)
    assert held >= 20


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_is_legible_in_light_and_dark(dark: bool, run: Run, visit: Callable[..., Visit]) -> None:  # noqa: FBT001
    """Every colour of text has the contrast to its paper that WCAG asks of text, 4.5 to 1; a figure's card is light."""
    seen = visit(*SIZES["laptop"], dark=dark)
    seen.page.goto((run.folder / "index.html").as_uri())
    colours = seen.page.evaluate("""['--paper', '--ink', '--soft', '--link', '--good', '--caution', '--bad',
        '--good-wash', '--caution-wash', '--bad-wash', '--wash', '--red', '--green', '--blue', '--yellow'].map(name => {
            const one = document.createElement('i'); one.style.color = `var(${name})`; document.body.append(one);
            return [name.slice(2), getComputedStyle(one).color.match(/\\d+/g).map(Number)]; })""")
    of = dict(colours)
    papers = {"good": ("paper", "good-wash"), "caution": ("paper", "caution-wash"), "bad": ("paper", "bad-wash")}
    for ink in ("ink", "soft", "link", "good", "caution", "bad", "red", "green", "blue", "yellow"):
        for paper in papers.get(ink, ("paper", "wash")):
            assert contrast(of[ink], of[paper]) >= 4.5, (ink, paper)
    assert (luminance(of["paper"]) < 0.1) is dark
    assert seen.page.evaluate("getComputedStyle(document.querySelector('img')).backgroundColor") == (
        "rgb(255, 255, 255)" if dark else "rgba(0, 0, 0, 0)"
    )


def luminance(colour: list[int]) -> float:
    """Return the relative luminance of WCAG 2.2, from 0 (black) to 1 (white)."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[int], other: list[int]) -> float:
    """Return the contrast ratio of WCAG 2.2, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_print_is_on_white_paper(run: Run, visit: Callable[..., Visit]) -> None:
    """On paper there is no dark, whatever the screen has, and each notebook begins on a page of its own."""
    seen = visit(*SIZES["print"], dark=True, paper=True)
    seen.page.goto((run.folder / "index.html").as_uri())
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    breaks = seen.page.evaluate(
        "[...document.querySelectorAll('section.page')].map(one => getComputedStyle(one).breakBefore)"
    )
    assert set(breaks) == {"page"}
    assert len(breaks) == 4


def test_runs_are_sorted_by_a_click(run: Run, visit: Callable[..., Visit], tmp_path: Path) -> None:
    """A click on a column's name sorts by its values, a second one the other way; what has no value comes last."""
    root = tmp_path / "runs"
    for name, p99 in (("a", 0.5), ("b", 12.0), ("c", None), ("d", 3.0)):
        made = runs.create(name, root, **GOOD | {"latency": {"end_to_end_s": {"n": 1, "p50": 0.1, "p99": p99}}})
        shutil.copy(run.folder / "index.html", made.folder)
    (runs.create("z", root).folder / "index.html").touch()
    (root / "z" / "results.json").write_text("{")
    runs_list.write(root)
    seen = opened(visit, root / "index.html", "laptop")
    rows = seen.page.locator("tbody tr td:first-child")
    expect(rows).to_have_text(["d", "c", "b", "a", "z"])
    for heads in (["a", "d", "b", "c", "z"], ["b", "d", "a", "c", "z"]):
        seen.page.get_by_role("button", name="p99").click()
        expect(rows).to_have_text(heads)
    assert (seen.errors, seen.page.evaluate("window.ran")) == ([], [])
    assert rendering.script("sort.js")[1].count("sha256-") == 1
    seen.screenshot("runs")
