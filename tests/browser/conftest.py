"""A headless Chromium that reaches this machine alone, and takes notes of what a page says and asks for.

It is driven by Playwright and is the system's own: none is downloaded. Where there is none, the tests that need one are
left out, which `make test` says in one line at its end; with TASKQ_BROWSER=required, as in CI, they fail.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Route, sync_playwright

from tests.browser.visits import MISSING, Visit, is_here, program

#: Chromium itself resolves no name either, whichever way a page asks.
NO_NAMES = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser of one file of tests.

    Not of the session: while Playwright is at work, nothing else in its process can run an event loop, so a test of
    this folder that runs notebooks does it in a process of its own.
    """
    path = program()
    if path is None:
        (pytest.fail if os.environ.get("TASKQ_BROWSER") == "required" else pytest.skip)(MISSING)
    # Its own sandbox refuses root, as one is in a container.
    options = [NO_NAMES, *["--no-sandbox"] * (os.geteuid() == 0)]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=options)
        yield found
        found.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Open windows: `visit(width, height, dark=..., paper=...)`; `paper` is what a printer sees.

    They close with the test.
    """
    contexts = []

    def opened(width: int = 1280, height: int = 800, *, dark: bool = False, paper: bool = False) -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            # What one asks for would pass by the route below.
            service_workers="block",
        )
        contexts.append(context)
        page = context.new_page()
        found = Visit(page)
        page.on("console", lambda said: found.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: found.errors.append(str(error)))
        page.on("websocket", lambda socket: found.requests.append(socket.url))
        page.on("request", lambda request: found.requests.append(request.url))
        page.route("**/*", _only_here)
        page.emulate_media(media="print" if paper else "screen")
        return found

    yield opened
    for context in contexts:
        context.close()


def _only_here(route: Route) -> None:
    if is_here(route.request.url):
        route.continue_()
    else:
        route.abort()
