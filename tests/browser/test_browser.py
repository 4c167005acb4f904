"""The browser that tests use sees what a page does, and lets nothing leave this machine."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from taskq_lib import PROJECT_ROOT
from tests.browser.visits import Visit

PAGE = """<!doctype html><title>Page</title>
<style>p {{ color: rgb(0, 0, 1) }} @media (prefers-color-scheme: dark) {{ p {{ color: rgb(0, 0, 2) }} }}
@media print {{ p {{ color: rgb(0, 0, 3) }} }}</style>
<p>text</p><script>{script}</script>"""


@pytest.fixture
def page(tmp_path: Path) -> Callable[[str], str]:
    """Write a page with this script; returns its address."""

    def written(script: str = "") -> str:
        path = tmp_path / "page.html"
        path.write_text(PAGE.format(script=script))
        return path.as_uri()

    return written


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("console.error('said')", "said"),
        ("throw new Error('thrown')", "thrown"),
        ("Promise.reject(new Error('left alone'))", "left alone"),
    ],
)
def test_an_error_of_a_page_is_seen(
    script: str, error: str, visit: Callable[..., Visit], page: Callable[[str], str]
) -> None:
    """What a page writes as an error, throws or leaves rejected is noted; a page without is noted for nothing."""
    seen, quiet = visit(), visit()
    seen.page.goto(page(script))
    seen.page.wait_for_timeout(100)
    assert [error in found for found in seen.errors] == [True]
    quiet.page.goto(page("console.log('fine')"))
    assert quiet.errors == []


@pytest.mark.parametrize(
    "script",
    [
        "fetch('https://example.com/a').catch(() => 0)",
        "new Image().src = 'http://192.0.2.1/a'",
        "new WebSocket('wss://example.com/a')",
        "document.write('<script src=\"//example.com/a\"><' + '/script>')".replace("//", "https://"),
    ],
)
def test_a_request_that_would_leave_is_seen_and_goes_nowhere(
    script: str, visit: Callable[..., Visit], page: Callable[[str], str]
) -> None:
    """A request to another machine, of whatever kind, is noted and fails; one for a file of this machine does not."""
    seen = visit()
    seen.page.goto(page(script))
    seen.page.wait_for_timeout(100)
    assert len(seen.strangers) == 1
    assert len(seen.errors) >= 1
    assert len(seen.requests) == 2


@pytest.mark.parametrize(
    ("options", "blue"), [({}, 1), ({"dark": True}, 2), ({"paper": True}, 3), ({"dark": True, "paper": True}, 3)]
)
def test_a_window_is_light_dark_or_paper(
    options: dict[str, bool], blue: int, visit: Callable[..., Visit], page: Callable[[str], str]
) -> None:
    """A window has the size, the colours and the medium that a test asks for."""
    seen = visit(390, 844, **options)
    seen.page.goto(page(""))
    assert seen.page.evaluate("getComputedStyle(document.querySelector('p')).color") == f"rgb(0, 0, {blue})"
    assert seen.page.evaluate("[innerWidth, innerHeight]") == [390, 844]


@pytest.mark.parametrize(
    ("required", "status", "tally"), [("", 0, "4 left out in"), ("required", 1, "4 errors in")], ids=["there", "in CI"]
)
def test_without_a_browser_one_line_says_so(required: str, status: int, tally: str, tmp_path: Path) -> None:
    """Without a browser one line counts what was left out and says how to get it; where one is required, tests fail."""
    chosen = ["tests/browser/test_browser.py", "-k", "test_a_window_is", "--numprocesses", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *chosen],
        cwd=PROJECT_ROOT,
        env=os.environ | {"PATH": str(tmp_path), "TASKQ_BROWSER": required},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == status
    assert tally in lines[-1]
    said = [line for line in lines if "there is no Chromium: `apt-get install chromium` brings it" in line]
    assert [line.startswith("LEFT OUT 4 tests in a browser; ") for line in said] == [True] or required
    assert len(said) >= 1
