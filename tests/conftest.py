"""What every test stands on: no account, no profile and no file of the person who runs it."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.browser.visits import MISSING

# A test measures what the code does, not how fast this machine draws examples.
settings.register_profile("taskq", deadline=None, max_examples=50)
# What `make chaos` draws; a test that says itself how many it takes draws as many in both.
settings.register_profile("thorough", deadline=None, max_examples=200)
settings.load_profile("taskq")


@pytest.fixture(autouse=True, scope="session")
def _nobodys_account() -> Iterator[None]:
    """Hide the caller's AWS settings, so that no test can reach a real account or depend on a real profile."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield


def pytest_report_teststatus(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, str] | None:
    """Count a test that found no browser among those left out, which have a line of their own."""
    return ("left out", "o", "LEFT OUT") if report.skipped and MISSING in str(report.longrepr) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was left out, and how to get it."""
    if left_out := terminalreporter.stats.get("left out"):
        terminalreporter.write_line(f"LEFT OUT {len(left_out)} tests in a browser; {MISSING}")
