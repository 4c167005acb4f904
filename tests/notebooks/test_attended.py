"""Notebooks with somebody before them: cells that are interrupted and run again, forms, bars, and two at once."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskq_lib.aws import sends
from taskq_lib.report import chain, runs
from tests.kernel import Kernel, Shown, cells, kernel
from tests.notebooks.conftest import Up

pytestmark = pytest.mark.notebooks

N_TASKS = 400
#: Sent within seconds, done within more.
LOAD = {"n_tasks": N_TASKS, "arrival_rate_per_s": 100.0, "duration_median_s": 2.0, "duration_sigma": 0.0}
#: An interrupt ends what waits within so long, on a busy machine.
PROMPT_S = 15.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs of these tests' own."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def mine(up: Up) -> Iterator[Kernel]:
    """A kernel on the engine that is up."""
    with kernel({"TASKQ_STATE_DIR": str(up.state)}) as found:
        yield found


def run_cells(kernel: Kernel, code: dict[str, str], *, first: str = "", until: str = "") -> list[Shown]:
    """Run cells in their order, from `first` on and those before `until`; none of them ends with an error."""
    ids = list(code)
    chosen = ids[ids.index(first) if first else 0 : ids.index(until) if until else len(ids)]
    shown = [kernel.run(code[id_]) for id_ in chosen]
    assert [one.error for one in shown] == [""] * len(shown), [one.printed for one in shown if one.error]
    return shown


def id_of(code: dict[str, str], calls: str) -> str:
    """Return the id of the cell with this call."""
    [found] = [id_ for id_, source in code.items() if calls in source]
    return found


def interrupted(kernel: Kernel, source: str, begun: Callable[[], bool]) -> float:
    """Run a cell and interrupt it once `begun()`; returns how long it took to end by that, s."""
    sent, deadline = kernel.begin(source), time.monotonic() + 60
    while not begun():
        assert time.monotonic() < deadline, "the cell does not begin"
        time.sleep(0.02)
    at = time.monotonic()
    kernel.interrupt()
    assert kernel.finish(sent).error == "KeyboardInterrupt"
    return time.monotonic() - at


def test_what_is_interrupted_goes_on_when_the_cell_runs_again(mine: Kernel, root: Path) -> None:
    """The submit and the wait stop soon after the interrupt; the same cells again go on, and nothing is sent twice."""
    where = {"runs_dir": str(root), "run_id": "interrupted"}
    code = cells(chain.find("20_submit"), **where, **LOAD)
    action = id_of(code, "submit.send(")
    run_cells(mine, code, until=action)
    run = runs.find("interrupted", root)
    journal = run.folder / sends.JOURNAL
    assert interrupted(mine, code[action], lambda: journal.exists() and journal.stat().st_size > 1_000) < PROMPT_S
    before = run.load("sends")
    assert 0 < len(before) < N_TASKS
    run_cells(mine, code, first=action)
    after = run.load("sends")
    assert len(after) == N_TASKS == after["task_id"].nunique() == after["message_id"].nunique()
    assert set(before["message_id"]) < set(after["message_id"])
    # Once more, when there is nothing left to send.
    run_cells(mine, code, first=action)
    assert set(run.load("sends")["message_id"]) == set(after["message_id"])

    code = cells(chain.find("30_status"), **where)
    wait = id_of(code, "samples.wait(")
    run_cells(mine, code, until=wait)
    at = time.monotonic()
    assert interrupted(mine, code[wait], lambda: time.monotonic() - at > 1.5) < PROMPT_S
    n_samples = len(run.load("samples"))
    assert n_samples > 0
    run_cells(mine, code, first=wait)
    assert len(run.load("samples")) > n_samples
    account = run.results()["ledger"]
    assert (account["submitted"], account["closed"], account["duplicates"]) == (N_TASKS, True, 0)


def test_two_notebooks_on_one_engine_keep_to_their_own(up: Up, root: Path) -> None:
    """Two people submit, follow and analyse at the same time; each ledger closes over that one's tasks alone."""
    sizes = {"left": 150, "right": 230}
    variables = {"TASKQ_STATE_DIR": str(up.state)}
    with kernel(variables) as left, kernel(variables) as right:
        both = {"left": left, "right": right}
        for name in ("20_submit", "30_status", "40_latency"):
            wanted = {"runs_dir": str(root)} | ({"seed": 7} if name == "20_submit" else {})
            code = {
                one: cells(chain.find(name), **wanted, run_id=one, **({"n_tasks": n} if name == "20_submit" else {}))
                for one, n in sizes.items()
            }
            for id_ in code["left"]:
                sent = {one: both[one].begin(code[one][id_]) for one in sizes}
                shown = {one: both[one].finish(sent[one]) for one in sizes}
                assert [one.error for one in shown.values()] == ["", ""], [one.printed for one in shown.values()]
    for one, n in sizes.items():
        results = runs.find(one, root).results()
        account = results["ledger"]
        assert (account["submitted"], account["closed"], account["unknown"], account["duplicates"]) == (n, True, 0, 0)
        assert results["latency"]["end_to_end_s"]["n"] == n
