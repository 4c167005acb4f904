"""One scenario from its engine to its account: the real engine, the real function, faults on both of their ways."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from taskq_lib.aws import stack as stacks
from taskq_lib.aws import status, submit
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import connect
from taskq_lib.local import engine
from taskq_lib.workload import Workload, generate
from tests.chaos import account, proxy
from tests.chaos.account import Account
from tests.chaos.hands import at_random_times, kill_worker, stall
from tests.chaos.proxy import Proxy
from tests.chaos.scenarios import Scenario

#: Two more attempts than the default: a task that loses attempts to the faults must not die of that. One in fifty is
#: lost at the most, so that the chance that a task loses all of them is negligible.
MAX_ATTEMPTS = 5
#: All waiting is short, so that what was hit is tried again within seconds. A lost worker's batch comes again after the
#: visibility timeout; a type whose tasks fail too often, as they all do once only those built to fail are left, is
#: held back by its circuit breaker, as it is by default, but for a moment only.
PARAMETERS = {
    "FunctionTimeoutSeconds": 5,
    "VisibilityTimeoutSeconds": 10,
    "RetryBaseSeconds": 1,
    "RetryCapSeconds": 4,
    "BreakerCooldownSeconds": 2,
    "MaxAttempts": MAX_ATTEMPTS,
}
#: What the engine writes when a worker process dies in the middle of a batch.
_DIED = "errorMessage=Worker process died"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was done to a run, and what became of it."""

    scenario: str
    injected: Mapping[str, int]  #: Faults by kind, counted where they were injected
    n_requests: int  #: Requests that came by the proxy
    account: Account
    seconds: float  #: From the first message to an empty queue

    def problems(self) -> list[str]:
        """Say what must not be; a kind of fault that never happened proves nothing."""
        missing = [f"no fault of the kind {kind!r} was injected" for kind, n in self.injected.items() if n == 0]
        return [*missing, *self.account.problems()]

    def row(self) -> dict[str, object]:
        """Return the row of the table."""
        found = self.account
        return {
            "scenario": self.scenario,
            "faults": sum(self.injected.values()),
            "tasks": found.n_tasks,
            "lost": len(found.lost) + len(found.open),
            "wrong": len(found.wrong),
            "duplicated": found.n_duplicates,
            "dead twice": found.n_dead_twice,
            "extra attempts": found.n_extra_attempts,
            "requests": self.n_requests,
            "seconds": round(self.seconds),
            "injected": ", ".join(f"{kind} {n}" for kind, n in self.injected.items()),
        }


@dataclass(frozen=True, kw_only=True)
class Arena:
    """A stack of its own, and the two ways to it."""

    engine: engine.Engine
    proxy: Proxy
    direct: Stack  #: Straight to the engine
    faulty: Stack  #: By way of the proxy, as the function goes


def run(scenario: Scenario, n_tasks: int, seed: int) -> Outcome:
    """Submit a workload under the scenario's faults, wait for its end, and account for it."""
    run_id = f"chaos-{seed}"
    manifest = generate(
        Workload(n_tasks=n_tasks, seed=seed, duration_median_s=0.02, transient_share=0.1, permanent_share=0.05), run_id
    )
    with arena(scenario, seed) as place:
        start, pid = time.monotonic(), place.engine.pid
        with (
            at_random_times(partial(kill_worker, pid), scenario.kill_every_s, f"kill {seed}"),
            at_random_times(partial(stall, pid), scenario.stall_every_s, f"stall {seed}") as stalls,
        ):
            n_twice = _submit(place.faulty, manifest, run_id, scenario.twice_share, seed)
            status.wait(place.faulty, manifest["task_id"].tolist(), timeout_s=300 + n_tasks / 20, progress=False)
        found = account.close(place.direct, manifest, run_id, MAX_ATTEMPTS)
        return Outcome(
            scenario=scenario.name,
            injected=_injected(scenario, place, n_stalls=len(stalls), n_twice=n_twice),
            n_requests=place.proxy.n_requests(),
            account=found,
            seconds=time.monotonic() - start,
        )


def _injected(scenario: Scenario, place: Arena, *, n_stalls: int, n_twice: int) -> dict[str, int]:
    """Count the faults of each kind that the scenario has, where they were done."""
    injected = dict.fromkeys(scenario.faults, 0)
    for (kind, _rule), n in zip(scenario.rules(), place.proxy.fired(), strict=True):
        injected[kind] += n
    by_hand = {
        "kill": (scenario.kill_every_s, place.engine.log.read_text().count(_DIED)),
        "stall": (scenario.stall_every_s, n_stalls),
        "sent twice": (scenario.twice_share, n_twice),
    }
    return injected | {kind: n for kind, (is_wanted, n) in by_hand.items() if is_wanted}


@contextmanager
def arena(scenario: Scenario, seed: int) -> Iterator[Arena]:
    """Yield an engine of its own with a stack on it, whose function and whose users reach it by the proxy alone."""
    with ExitStack() as ends:
        folder = ends.enter_context(tempfile.TemporaryDirectory())
        ends.enter_context(_state_dir(folder))
        running = ends.enter_context(engine.running())
        target = connect("local")
        direct = stacks.deploy(target, "chaos", PARAMETERS, progress=lambda _status: None)
        rules = [rule for _kind, rule in scenario.rules()]
        between = ends.enter_context(proxy.running(running.endpoint_url, rules, seed))
        _lead_function_by(direct, between.url)
        # A target keeps its clients; one with another endpoint must not share them.
        faulty = replace(direct, target=replace(target, endpoint_url=between.url, _clients={}))
        yield Arena(engine=running, proxy=between, direct=direct, faulty=faulty)


@contextmanager
def _state_dir(folder: str) -> Iterator[None]:
    """Have the engine's record in `folder`, so that it is nobody else's."""
    before = os.environ.get("TASKQ_STATE_DIR")
    os.environ["TASKQ_STATE_DIR"] = folder
    try:
        yield
    finally:
        os.environ.pop("TASKQ_STATE_DIR")
        os.environ |= {} if before is None else {"TASKQ_STATE_DIR": before}


def _lead_function_by(stack: Stack, url: str) -> None:
    """Have the function's own clients go by `url`; the engine lets a function's variables win over its own."""
    functions, name = stack.target.client("lambda"), stack.outputs["FunctionName"]
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    functions.update_function_configuration(
        FunctionName=name, Environment={"Variables": {**variables, "AWS_ENDPOINT_URL": url}}
    )


def _submit(stack: Stack, manifest: pd.DataFrame, run_id: str, twice_share: float, seed: int) -> int:
    """Send all tasks, and a share of them once more; returns how many were sent twice."""
    again = manifest.sample(frac=twice_share, random_state=seed)
    with tempfile.TemporaryDirectory() as folder:
        for number, tasks in enumerate([manifest, again]):
            path = Path(folder) / str(number) / "manifest.parquet"
            path.parent.mkdir()
            tasks.to_parquet(path, index=False)
            submit.verify(tasks, submit.send(stack, path, run_id, progress=False))
    return len(again)
