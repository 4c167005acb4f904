"""What a page in a browser said and asked for, and which browser there is."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from taskq_lib import PROJECT_ROOT

if TYPE_CHECKING:  # a session without tests of this folder need not load it
    from playwright.sync_api import Page

#: What a test has drawn, for a person to look at; it is not in git.
SCREENSHOTS = PROJECT_ROOT / "build" / "screenshots"
MISSING = "there is no Chromium: `apt-get install chromium` brings it"
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_HERE = re.compile(r"(https?|wss?)://(127\.0\.0\.1|localhost)[:/]|(file|data|blob|about|chrome):")


def program() -> str | None:
    """Return the path of this machine's Chromium, None where there is none."""
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


def is_here(address: str) -> bool:
    """Whether an address is on this machine."""
    return bool(_HERE.match(address))


@dataclass(frozen=True)
class Visit:
    """A page in a window of its own, with what it said and asked for from its start."""

    page: Page
    errors: list[str] = field(default_factory=list)  #: What it wrote to the console as an error, or did not catch
    requests: list[str] = field(default_factory=list)  #: The addresses it asked for, those of web sockets as well

    @property
    def strangers(self) -> list[str]:
        """The addresses that are not on this machine; none of them was reached."""
        return [address for address in self.requests if not is_here(address)]

    def screenshot(self, name: str, *, whole: bool = False) -> Path:
        """Draw what is seen, or the whole page, into `build/screenshots/<name>.png`."""
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path, full_page=whole)
        return path
