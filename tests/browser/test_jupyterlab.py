"""JupyterLab as a person has it from `taskq lab`: opened, clicked through and looked at, in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from taskq_lib import PROJECT_ROOT
from taskq_lib.commands.lab import START
from taskq_lib.report import runs
from tests.browser.visits import Visit

pytestmark = pytest.mark.notebooks

N_TASKS = 120
#: Longer than anything here takes on a busy machine.
DEADLINE_S = 60.0
expect.set_options(timeout=DEADLINE_S * 1000)
#: What JupyterLab is made of here: a copy, since it writes into the notebooks that it runs.
PARTS = ["taskq_lib", "lambda", "notebooks", "docs", "cloudformation.yaml", "README.md"]


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A JupyterLab that is up, on a copy of the project, with an engine and the stack on it."""

    project: Path
    address: str  #: Of its start page, with its token

    def open(self, visit: Callable[..., Visit], name: str) -> Visit:
        """Open a notebook in a window of its own, and wait until its kernel is there."""
        seen = visit(1280, 900)
        seen.page.set_default_timeout(DEADLINE_S * 1000)
        # A workspace of its own: what another test left open is none of this one's business.
        path = f"/lab/workspaces/{name}-{time.monotonic_ns()}/tree/notebooks/{name}.ipynb"
        seen.page.goto(re.sub(r"/lab/tree/[^?]+", path, self.address))
        expect(seen.page.locator(".jp-StatusBar-Widget")).to_contain_text("| Idle")
        return seen

    def saved(self, page: Page, name: str) -> list[Any]:
        """Save the notebook; returns its code cells as they are on disk then."""
        path, deadline = self.project / "notebooks" / f"{name}.ipynb", time.monotonic() + DEADLINE_S
        while True:
            page.keyboard.press("Control+s")
            page.wait_for_timeout(500)
            cells = nbformat.read(path, as_version=4).cells  # type: ignore[no-untyped-call]
            code = [cell for cell in cells if cell.cell_type == "code"]
            if all(cell.execution_count for cell in code):
                return code
            assert time.monotonic() < deadline, [cell.source for cell in code if not cell.execution_count]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, whose 20_submit sends a few tasks only."""
    folder = tmp_path_factory.mktemp("project")
    for part in PARTS:
        copy = shutil.copytree if (PROJECT_ROOT / part).is_dir() else shutil.copy
        copy(PROJECT_ROOT / part, folder / part)
    submit = folder / "notebooks" / "20_submit.ipynb"
    submit.write_text(submit.read_text().replace("n_tasks = 1000 ", f"n_tasks = {N_TASKS} "))
    return folder


@pytest.fixture(scope="module")
def lab(browser: object, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """`taskq lab` as a process of its own, and the stack deployed; both are gone at the end, and all kernels."""
    assert browser, "without one there is nothing to look at it with"
    own = tmp_path_factory.mktemp("own")
    variables = {
        "TASKQ_STATE_DIR": str(own / "state"),
        "PYTHONPATH": f"{project}:{project / 'lambda'}",
        "HOME": str(own),
    }
    variables |= {f"JUPYTER_{kind}_DIR": str(own / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    variables |= {f"JUPYTERLAB_{kind}_DIR": str(own / kind.lower()) for kind in ("SETTINGS", "WORKSPACES")}
    taskq = [sys.executable, "-m", "taskq_lib.commands.main"]
    log = own / "log"
    with log.open("w") as sink:
        process = subprocess.Popen(
            [*taskq, "lab", "--no-browser"], env=os.environ | variables, cwd=own, stdout=sink, stderr=sink
        )
    try:
        address = _address(process, log)
        subprocess.run(
            [*taskq, "deploy", "-p", "RetryBaseSeconds", "0"], env=os.environ | variables, cwd=own, check=True
        )
        yield Lab(project=project, address=address)
    finally:
        process.terminate()
        assert process.wait(timeout=DEADLINE_S) == 143


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the address that JupyterLab prints once it is up."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := re.search(r"http://127\.0\.0\.1:\d+/\S+\?token=\w+", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return found[0]


def run_menu(page: Page, item: str) -> None:
    """Click an item of the Run menu."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=item).first.click()


def run_all(page: Page) -> None:
    """Run all cells by the menu, and wait for the last of them."""
    run_menu(page, "Run All Cells")
    expect(page.locator(".jp-CodeCell .jp-InputPrompt").last).to_have_text(re.compile(r"\[\d+\]:"))


def errors(cells: list[Any]) -> list[Any]:
    """Return the errors that cells ended with."""
    return [output for cell in cells for output in cell.outputs if output.output_type == "error"]


def test_it_opens_on_a_start_page(lab: Lab, visit: Callable[..., Visit]) -> None:
    """It opens on the notebooks by intent; run, it says that engine and stack are there; its links open notebooks."""
    seen = visit(1280, 900)
    seen.page.set_default_timeout(DEADLINE_S * 1000)
    assert f"/lab/tree/{START}?" in lab.address
    seen.page.goto(lab.address)
    expect(seen.page.get_by_role("heading", name="Start here")).to_be_visible()
    expect(seen.page.locator(".jp-StatusBar-Widget")).to_contain_text("| Idle")
    # Nobody is asked about news of JupyterLab's makers, and the package index is asked for nothing.
    expect(seen.page.locator(".Toastify__toast, .jp-Dialog")).to_have_count(0)
    told = json.loads(seen.page.locator("#jupyter-config-data").text_content() or "")
    assert "@jupyterlab/apputils-extension:announcements" in told["disabledExtensions"]
    assert told["extensionManager"]["name"] == "read-only"
    run_all(seen.page)
    table = seen.page.locator(".jp-OutputArea table").last
    expect(table).to_contain_text("local answers: http://127.0.0.1:")
    expect(table).to_contain_text("taskq is CREATE_COMPLETE, its mapping Enabled")
    seen.screenshot("lab-start")
    seen.page.get_by_role("link", name="50_failures").first.click()
    expect(seen.page.get_by_role("heading", name="What failed, and why")).to_be_visible()
    assert (seen.errors, seen.strangers) == ([], [])


def test_the_parameters_are_a_form(lab: Lab, visit: Callable[..., Visit]) -> None:
    """A value that is not allowed is explained beside its field; one that is counts for the cells below."""
    seen = lab.open(visit, "20_submit")
    page = seen.page
    page.locator(".jp-CodeCell").first.click()
    for _ in range(2):
        page.keyboard.press("Shift+Enter")
    field = page.get_by_label("n_tasks")
    expect(field).to_have_value(str(N_TASKS))
    expect(page.get_by_label("target")).to_have_value("local")
    field.fill("ten")
    field.press("Enter")
    wrong = page.get_by_role("alert")
    expect(wrong).to_have_text(
        f"Parameter n_tasks is 'ten'; allowed is a whole number from 1 to 10,000,000. It stays {N_TASKS}."
    )
    seen.screenshot("lab-form")
    field.fill("7")
    field.press("Enter")
    expect(wrong).to_have_count(0)
    page.get_by_role("heading", name="Preconditions").click()
    run_menu(page, "Run Selected Cell and All Below")
    expect(page.locator(".jp-OutputArea")).to_contain_text(["7 tasks acknowledged within"])
    assert errors(lab.saved(page, "20_submit")) == []
    assert len(runs.find("", lab.project / "runs").load("manifest")) == 7
    assert (seen.errors, seen.strangers) == ([], [])


def test_a_run_from_submit_to_latency(lab: Lab, visit: Callable[..., Visit]) -> None:
    """20_submit, 30_status and 40_latency run by the menu: no cell ends with an error, and every figure is seen."""
    pictures, bars = {}, {}
    for name in ("20_submit", "30_status", "40_latency"):
        seen = lab.open(visit, name)
        run_all(seen.page)
        cells = lab.saved(seen.page, name)
        assert errors(cells) == []
        pictures[name] = sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
        images = seen.page.locator(".jp-OutputArea img")
        for n in range(images.count()):
            images.nth(n).scroll_into_view_if_needed()
            assert images.nth(n).evaluate("one => one.complete && one.naturalWidth") > 300
        assert images.count() == pictures[name]
        progress = seen.page.locator(".jupyter-widgets [role=progressbar], .widget-hprogress")
        bars[name] = progress.count()
        # The last figure, or else the bar, is in the picture.
        for bar in progress.all() * 2:
            # Cells are drawn as they come into view, which moves them: so twice.
            bar.scroll_into_view_if_needed()
            seen.page.wait_for_timeout(300)
        seen.screenshot(f"lab-{name}")
        assert (seen.errors, seen.strangers) == ([], [])
    assert pictures["40_latency"] >= 5
    assert bars == {"20_submit": 1, "30_status": 1, "40_latency": 0}
    run = runs.find("", lab.project / "runs")
    assert run.results()["ledger"]["closed"]
    assert pd.notna(run.load("tasks")["finished_at"]).all()
    assert len(run.load("tasks")) == N_TASKS
