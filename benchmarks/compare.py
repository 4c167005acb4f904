"""How often `taskq compare` calls an identical run worse, and how often it finds one whose tasks all take 10 % longer.

Runs are simulated (benchmarks/queue_simulator.py): ten servers, first come, first served, half as slow again for an
eleventh of the time, 1 % of the tasks fail. Of 200 pairs for false alarms, 100 for power and 50 for passing; a verdict
is that on all judged figures together, with the default margins.
"""

from __future__ import annotations

import sys
from collections import Counter
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.queue_simulator import Arrivals, simulate
from benchmarks.table import Row
from taskq_lib.analysis import compare
from taskq_lib.analysis.compare_run import measure
from taskq_lib.analysis.latency import durations

PAIRS, POWER_PAIRS = 200, 100
SIZES = (500, 1_000, 2_000, 5_000, 10_000, 20_000)
PASS_SIZES, PASS_PAIRS = (5_000, 20_000, 50_000), 50
#: By how much a run as a whole differs from the next one, of the same machine.
BETWEEN = 0.03


def main() -> list[Row]:
    """Simulate and compare; about twenty minutes on an idle core."""
    return [*false_alarms(), *one_by_one(), *power(), *passes()]


def false_alarms() -> list[Row]:
    """Compare runs that differ by chance alone; then those of a machine that is not always as fast."""
    cases: list[tuple[str, int, Arrivals, float, int]] = [
        *((f"{arrivals}, {n:,} tasks", n, arrivals, 0.0, 1)
          for n in (1_000, 5_000) for arrivals in ("paced", "burst", "waves")),
        *((f"burst, 5,000 tasks, runs differ by {BETWEEN:.0%}, baseline of {k}", 5_000, "burst", BETWEEN, k)
          for k in (1, 5)),
    ]  # fmt: skip
    rows = []
    for name, n, arrivals, between, k in cases:
        found = outcomes(n, arrivals, PAIRS, between=between, n_baselines=k)
        rows.append(
            Row(
                work=f"identical: {name}", unit="% not called worse", ours=100 - _percent(found, compare.FAIL),
                peer="the stated level", theirs=95, better="higher", wanted=None if between else 1, why=_says(found),
            )
        )  # fmt: skip
        _tell(rows[-1])
    return rows


def one_by_one() -> list[Row]:
    """Compare the same identical runs as if their tasks were independent of each other."""
    rows = []
    for arrivals in ("paced", "burst", "waves"):
        n_worse = sum(
            naively_worse(*(simulate(1_000, 1_000 * pair + 3 + i, arrivals) for i in range(2))) for pair in range(PAIRS)
        )
        rows.append(
            Row(
                work=f"identical: {arrivals}, 1,000 tasks, tasks redrawn one by one", unit="% not called worse",
                ours=100 - 100 * n_worse / PAIRS, peer="the stated level", theirs=95, better="higher",
                why="What blocks are for: the same rule for the six latencies, with a bootstrap of single tasks.",
            )
        )  # fmt: skip
        _tell(rows[-1])
    return rows


def naively_worse(ours: pd.DataFrame, theirs: pd.DataFrame) -> bool:
    """Whether a percentile of `ours` is worse by the rule of `compare`, its tasks redrawn one by one, 300 times."""
    shares, random = [0.5, 0.9, 0.99], np.random.default_rng(0)
    quantile, margins = NormalDist().inv_cdf(1 - 0.05 / 8 / 2), np.array([0.05, 0.05, 0.1])
    for name in ("end_to_end_s", "processing_s"):
        logs, variances = [], []
        for tasks in (ours, theirs):
            values = durations(tasks)[name].to_numpy()
            drawn = values[random.integers(len(values), size=(300, len(values)))]
            logs.append(np.log(np.quantile(values, shares)))
            variances.append(np.log(np.quantile(drawn, shares, axis=1)).var(axis=1, ddof=1))
        difference, half = logs[0] - logs[1], quantile * np.sqrt(variances[0] + variances[1])
        if ((difference - half > 0) & (np.expm1(difference) > margins)).any():
            return True
    return False


def power() -> list[Row]:
    """Compare runs whose tasks take 10 % longer with runs whose do not."""
    rows = []
    for arrivals in ("paced", "burst"):
        for n in SIZES:
            found = outcomes(n, arrivals, POWER_PAIRS, slower=1.1)
            rows.append(
                Row(
                    work=f"10 % slower: {arrivals}, {n:,} tasks", unit="% called worse",
                    ours=_percent(found, compare.FAIL), peer="the usual goal", theirs=80, better="higher",
                    wanted=1 if n == SIZES[-1] else None, why=_says(found),
                )
            )  # fmt: skip
            _tell(rows[-1])
    return rows


def passes() -> list[Row]:
    """Compare runs that differ by chance alone, to see with how many tasks that can be told."""
    rows = []
    for arrivals in ("paced", "burst"):
        for n in PASS_SIZES:
            found = outcomes(n, arrivals, PASS_PAIRS)
            rows.append(
                Row(
                    work=f"identical: {arrivals}, {n:,} tasks, passes", unit="% that pass",
                    ours=_percent(found, compare.PASS), peer="the usual goal", theirs=80, better="higher",
                    why=_says(found),
                )
            )  # fmt: skip
            _tell(rows[-1])
    return rows


def outcomes(
    n: int, arrivals: Arrivals, pairs: int, *, slower: float = 1.0, between: float = 0.0, n_baselines: int = 1
) -> Counter[str]:
    """Count the verdicts over so many pairs of a run, `slower` than it was, and a baseline."""
    verdicts: Counter[str] = Counter()
    for pair in range(pairs):
        seed = 1_000 * pair + n % 997
        ours = measure(simulate(n, seed, arrivals, slower=slower, between=between))
        theirs = [measure(simulate(n, seed + 1 + i, arrivals, between=between)) for i in range(n_baselines)]
        verdicts[compare.verdict(compare.compare(ours, theirs))] += 1
    return verdicts


def _percent(found: Counter[str], verdict: str) -> float:
    return 100 * found[verdict] / found.total()


def _says(found: Counter[str]) -> str:
    return ", ".join(f"{name} {found[name]}" for name in (compare.PASS, compare.FAIL, compare.UNSURE)) + " pairs."


def _tell(row: Any) -> None:
    print(row, row.why, file=sys.stderr, flush=True)
