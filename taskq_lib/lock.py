"""A lock that ends with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskq_lib.errors import RunExists


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold the lock file for this process; raises `RunExists` where another one holds it.

    The kernel keeps the lock, so that it ends with its process, however that ends; the file is no more than its name.
    """
    while True:
        with lock.open("ab") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunExists(
                    f"Run {lock.parent.name!r} is in the hands of another process.",
                    "Wait until that one ends, or end it; the same command then goes on from where it was.",
                ) from error
            # Its last holder may have removed the file after we opened it; then nobody else would see our lock.
            if os.fstat(held.fileno()).st_nlink:
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)
                return
