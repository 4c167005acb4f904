"""The table: `python -m tests.chaos --tasks 20000 --seed 1`, all scenarios or one."""

from __future__ import annotations

import argparse
import signal
import sys

import pandas as pd

from taskq_lib import PROJECT_ROOT
from tests.chaos.run import Outcome, run
from tests.chaos.scenarios import SCENARIOS


def main() -> int:
    """Run the scenarios, print the table and write it to `runs/`; 1 where anything was lost or wrong."""
    # Told to end, it ends its engine and its proxy as well, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    arguments = _arguments()
    outcomes = []
    for scenario in SCENARIOS:
        if arguments.scenario in {None, scenario.name}:
            print(f"{scenario.name} ...", file=sys.stderr, flush=True)
            outcomes.append(run(scenario, min(scenario.n_tasks, arguments.tasks), arguments.seed))
    table = pd.DataFrame([outcome.row() for outcome in outcomes])
    print(table.to_string(index=False))
    path = PROJECT_ROOT / "runs" / f"chaos-{arguments.seed}.csv"
    path.parent.mkdir(exist_ok=True)
    table.to_csv(path, index=False)
    print(f"written to {path.relative_to(PROJECT_ROOT)}")
    return _report(outcomes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks of a scenario at most (default 20000)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the workload and of the faults (default 1)")
    parser.add_argument("--scenario", choices=[scenario.name for scenario in SCENARIOS], help="this one alone")
    return parser.parse_args()


def _report(outcomes: list[Outcome]) -> int:
    problems = [f"{outcome.scenario}: {problem}" for outcome in outcomes for problem in outcome.problems()]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
