"""What no proxy can do: kill worker processes and stop the engine for a while, at times that a seed repeats."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import psutil

#: How long the engine stands still, seconds: less than the function's timeout.
STALL_S = (1.0, 3.0)
#: A younger worker process is still starting and holds no batch; to kill it tries the engine alone.
GROWN_UP_S = 2.0


@contextmanager
def at_random_times(act: Callable[[random.Random], None], mean_s: float, seed: str) -> Iterator[list[float]]:
    """Do `act` in a thread, on average every `mean_s` seconds, until the block ends; 0 is never.

    Yields when it was done so far, Unix seconds.
    """
    draw, done, end = random.Random(seed), list[float](), threading.Event()  # noqa: S311 - a plan, not a secret

    def work() -> None:
        while not end.wait(draw.expovariate(1 / mean_s)):
            act(draw)
            done.append(time.time())

    with ThreadPoolExecutor(1) as pool:
        acting = pool.submit(work) if mean_s else None
        try:
            yield done
        finally:
            end.set()
            if acting is not None:
                acting.result()


def kill_worker(engine_pid: int, draw: random.Random) -> None:
    """Kill one of the engine's worker processes, if any is at work, in whatever it is doing."""
    workers = sorted(filter(_is_at_work, psutil.Process(engine_pid).children()), key=lambda worker: worker.pid)
    if workers:
        with suppress(psutil.NoSuchProcess):
            draw.choice(workers).kill()


def stall(engine_pid: int, draw: random.Random) -> None:
    """Let the engine stand still, and everything that waits for it; its workers go on."""
    engine = psutil.Process(engine_pid)
    engine.suspend()
    try:
        time.sleep(draw.uniform(*STALL_S))
    finally:
        engine.resume()


def _is_at_work(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        is_worker = any(part.endswith("_worker.py") for part in process.cmdline())
        return is_worker and time.time() - process.create_time() > GROWN_UP_S
    return False
