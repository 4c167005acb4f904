"""How often `taskq compare` calls an identical run worse, and how often it finds one whose tasks all take 10 % longer.

Runs are simulated (benchmarks/queue_simulator.py): ten servers, first come, first served, half as slow again for an
eleventh of the time, 1 % of the tasks fail. Of 200 pairs for false alarms and 100 for power; a verdict is that on all
judged figures together, with the default margins.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from benchmarks.queue_simulator import Arrivals, simulate
from benchmarks.table import Row
from taskq_lib.analysis import compare
from taskq_lib.analysis.compare_run import measure

PAIRS, POWER_PAIRS = 200, 100
SIZES = (500, 1_000, 2_000, 5_000, 10_000, 20_000)
#: By how much a run as a whole differs from the next one, of the same machine.
BETWEEN = 0.03


def main() -> list[Row]:
    """Simulate and compare; about a quarter of an hour."""
    return [*false_alarms(), *power()]


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
