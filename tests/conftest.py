"""What every test stands on: no account, no profile and no file of the person who runs it."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

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
