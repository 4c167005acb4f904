"""A queue with several servers, first come, first served, with slow periods: runs whose truth is known."""

from __future__ import annotations

import heapq
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from taskq_lib.analysis import STATES

N_SERVERS = 10
MEDIAN_S, SIGMA = 0.1, 0.5
#: A task's mean processing time, and of the load that the servers can do, the share that arrives.
MEAN_S, LOAD = MEDIAN_S * float(np.exp(SIGMA**2 / 2)), 0.7
#: How much longer tasks take in a slow period, and how long such a period and the time between two are, on average.
SLOW_FACTOR, SLOW_S, FAST_S = 1.5, 0.5, 5.0
FAILING = 0.01
SENT_PER_S = 800
T0 = pd.Timestamp("2026-11-24T02:00:00Z")

Arrivals = Literal["paced", "burst", "waves"]
Floats = NDArray[np.float64]


def simulate(n: int, seed: int, arrivals: Arrivals = "paced", *, slower: float = 1.0, between: float = 0.0) -> Any:
    """Run `n` tasks through the queue; returns a `tasks` frame with what comparisons read.

    `paced` tasks come at random at 70 % of what the servers can do, a `burst` at once (800 a second), `waves` in ten
    bursts with pauses. All take `slower` times as long, and a run as a whole exp(N(0, `between`)) times: the noise
    of the machine that no run sees.
    """
    random = np.random.default_rng(seed)
    came = _arrivals(random, n, arrivals)
    took = random.lognormal(np.log(MEDIAN_S), SIGMA, n) * slower * np.exp(random.normal(0, 1) * between)
    started, took = _served(came, took, _slow_periods(random, float(came[-1]) + n * MEAN_S))
    us = {name: np.round(values * 1e6).astype(np.int64) for name, values in
          {"enqueued_at": came, "first_started_at": started, "finished_at": started + took}.items()}  # fmt: skip
    times = {name: pd.Series(T0 + pd.to_timedelta(values, unit="us")).astype("datetime64[us, UTC]")
             for name, values in us.items()}  # fmt: skip
    dead = random.random(n) < FAILING
    return pd.DataFrame(
        {
            "task_id": pd.array(np.char.add("task-", np.arange(n).astype(str)), dtype="str"),
            "task_type": pd.Categorical.from_codes(np.zeros(n, dtype=np.int8), pd.Index(["SEND_EMAIL"])),
            "priority": pd.array(np.full(n, 5, dtype=np.int8), dtype="Int8"),
            "state": pd.Categorical(np.where(dead, "dead_lettered", "completed"), categories=STATES, ordered=True),
            **times,
            "last_started_at": times["first_started_at"],
            "updated_at": times["finished_at"],
        }
    )


def _arrivals(random: np.random.Generator, n: int, arrivals: Arrivals) -> Floats:
    rate = LOAD * N_SERVERS / MEAN_S
    if arrivals == "paced":
        return random.exponential(1 / rate, n).cumsum()
    if arrivals == "burst":
        return np.arange(n) / SENT_PER_S
    wave = np.arange(n) // max(1, n // 10)
    return wave * (max(1, n // 10) / rate) + (np.arange(n) - wave * max(1, n // 10)) / SENT_PER_S


def _slow_periods(random: np.random.Generator, until: float) -> Floats:
    """Return when the servers change between fast and slow, from fast on."""
    n = int(until / (SLOW_S + FAST_S)) * 2 + 50
    return random.exponential(np.tile([FAST_S, SLOW_S], n // 2)).cumsum()


def _served(came: Floats, took: Floats, changes: Floats) -> tuple[Floats, Floats]:
    """Hand each task, in turn, to the server that is free first; returns when it starts and how long it takes."""
    free = [0.0] * N_SERVERS
    ends, passed = [*changes.tolist(), np.inf], 0
    starts, lasts = [], []
    for at, needs in zip(came.tolist(), took.tolist(), strict=True):
        start = max(at, free[0])
        while ends[passed] <= start:
            passed += 1
        lasted = needs * (SLOW_FACTOR if passed % 2 else 1.0)
        heapq.heapreplace(free, start + lasted)
        starts.append(start)
        lasts.append(lasted)
    return np.array(starts), np.array(lasts)
