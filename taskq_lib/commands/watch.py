"""Watch a stack live: its queues once a second, what became final since, and when the backlog will be gone.

It ends by itself once the queues have been empty for three samples (exit code 0), or after --for seconds (exit code 1
where they are not empty then). What it reads costs requests: a few a sample, and in each the tasks that changed within
the function's timeout.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from taskq_lib.analysis import drain
from taskq_lib.analysis.drain import Drain
from taskq_lib.aws import live
from taskq_lib.commands import options
from taskq_lib.errors import BadInput

#: SQS's counts are approximate: one count of zero does not mean that the queues are empty.
N_EMPTY = 3
#: Rates are those of so many seconds.
RATE_S = 10.0

Sample = Mapping[str, Any]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.where(parser)
    parser.add_argument("--every", type=float, default=1.0, metavar="S", help="seconds between samples; default 1")
    parser.add_argument("--for", type=float, metavar="S", dest="for_s", help="end after so many seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON document a sample, each on a line")


def run(args: argparse.Namespace) -> int:
    """Show sample after sample: in a terminal one line that is drawn anew, else a line each."""
    for name, value in (("--every", args.every), ("--for", args.for_s)):
        if value is not None and not 0.1 <= value <= 86_400:
            raise BadInput(f"{name} {value:g} is not allowed; give 0.1 to 86,400 seconds.")
    samples = live.watch(options.stack_of(args), args.every)
    if args.json:
        return follow(samples, args.for_s, lambda *seen: print(json.dumps(document(*seen)), flush=True))
    if not sys.stdout.isatty():
        return follow(samples, args.for_s, lambda *seen: print(line(*seen), flush=True))
    try:
        return follow(samples, args.for_s, lambda *seen: print(_redrawn(line(*seen)), end="", flush=True))
    finally:
        print()


def follow(
    samples: Iterable[Sample], for_s: float | None, show: Callable[[Sample, Drain, float | None], object]
) -> int:
    """Show each sample with the estimate and the rate of what became final; returns the exit code."""
    kept: deque[Sample] = deque(maxlen=1_000)
    n_empty, begun = 0, time.monotonic()
    for sample in samples:
        kept.append(sample)
        show(sample, drain.estimate(_backlogs(kept)), _rate(kept))
        n_empty = 0 if _unsettled(sample) else n_empty + 1
        if n_empty == N_EMPTY:
            break
        if for_s is not None and time.monotonic() - begun >= for_s:
            return 1 if _unsettled(sample) else 0
    return 0


def document(sample: Sample, expected: Drain, rate: float | None) -> dict[str, Any]:
    """Return a sample for a script: its counts, null where not read, the rate of what became final, and `drain`."""
    return {
        **sample,
        "at": sample["at"].isoformat(),
        "final_per_s": None if rate is None else round(rate, 3),
        "drain": vars(expected),
    }


def line(sample: Sample, expected: Drain, rate: float | None) -> str:
    """Return a sample for a person, on one line."""
    second = "" if sample["n_visible_second"] is None else f" ({sample['n_visible_second']:,} in the second queue)"
    parts = [
        # What matters most comes first: a narrow terminal cuts the rest.
        f"{sample['at']:%H:%M:%S}  {expected.says}",
        f"visible {sample['n_visible']:,}{second}",
        f"in flight {sample['n_in_flight']:,}",
        f"delayed {sample['n_delayed']:,}",
        f"dead letters {sample['n_dead']:,}",
    ]
    if sample["n_completed"] is not None:
        parts.append(f"completed {sample['n_completed']:,}, dead-lettered {sample['n_dead_lettered']:,}")
    if rate is not None:
        parts.append(f"{rate:,.1f}/s")
    return "  ".join(parts)


def _redrawn(text: str) -> str:
    """Return what draws a line anew, cut to the terminal's width: a line that wraps could not be drawn over."""
    return f"\r{text[: shutil.get_terminal_size().columns - 1]}\x1b[K"


def _unsettled(sample: Sample) -> int:
    return int(sample["n_visible"] + sample["n_in_flight"] + sample["n_delayed"])


def _backlogs(kept: Iterable[Sample]) -> pd.DataFrame:
    rows = [(sample["at"], _unsettled(sample)) for sample in kept]
    return pd.DataFrame({"at": pd.to_datetime([at for at, _n in rows]), "backlog": [n for _at, n in rows]})


def _rate(kept: Iterable[Sample]) -> float | None:
    """Return how many tasks became final a second, lately; None where that is not known."""
    known = [sample for sample in kept if sample["n_completed"] is not None]
    recent = [one for one in known if (known[-1]["at"] - one["at"]).total_seconds() <= RATE_S]
    if len(recent) < 2:
        return None
    first, last = recent[0], recent[-1]
    final = sum(last[name] - first[name] for name in ("n_completed", "n_dead_lettered"))
    return float(final / (last["at"] - first["at"]).total_seconds())
