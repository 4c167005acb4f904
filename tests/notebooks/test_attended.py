"""Notebooks with somebody before them: cells that are interrupted and run again, forms, bars, and two at once."""

import ast
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
WIDGET = "application/vnd.jupyter.widget-view+json"
#: Shows the form anew and keeps its fields, and what stands beside each.
FIELDS = """
import ipywidgets
form.ask(chosen)
boxes = [one for one in ipywidgets.Widget.widgets.values() if isinstance(one, ipywidgets.HBox) and one.children]
rows = {box.children[0].description: box for box in boxes if hasattr(box.children[0], "description")}
fields = {name: box.children[0] for name, box in rows.items()}
beside = {name: box.children[1] for name, box in rows.items()}
"""
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


@pytest.fixture(scope="module")
def opened() -> Iterator[Kernel]:
    """A kernel that has run the first two code cells of 20_submit, with somebody before it."""
    with kernel({}) as found:
        code = cells(chain.find("20_submit"))
        run_cells(found, code, until=list(code)[2])
        yield found


def value(kernel: Kernel, expression: str) -> object:
    """Return the value of an expression that is a literal."""
    found: object = ast.literal_eval(kernel.run(f"print(repr({expression}))").printed)
    return found


def test_parameters_are_a_form_for_a_person_and_a_table_for_a_page(opened: Kernel) -> None:
    """To somebody a form is shown; to papermill, which asks nobody anything, the table of a page and no widget."""
    [form] = opened.run("form.ask(chosen)").bundles
    [page] = opened.run("form.ask(chosen)", attended=False).bundles
    assert WIDGET in form
    assert WIDGET not in page
    # A notebook that is read without its kernel shows what a page does.
    assert form["text/html"] == page["text/html"]
    assert '<td style="text-align:left">n_tasks</td>' in page["text/html"]
    assert "n_tasks             1,000" in form["text/plain"]


def test_what_is_entered_counts_for_the_cells_below(opened: Kernel) -> None:
    """Each kind of field writes a typed value into the notebook's names and into what `data.load` is given."""
    opened.run(FIELDS)
    opened.run("fields['n_tasks'].value, fields['target'].value, fields['transient_share'].value = '12', 'aws', '1'")
    assert value(opened, "(n_tasks, target, transient_share)") == (12, "aws", 1.0)
    assert value(opened, "[chosen[name] for name in ('n_tasks', 'target', 'transient_share')]") == [12, "aws", 1.0]
    assert value(opened, "type(transient_share).__name__") == "float"
    assert "tasks to submit, 1 or more" in str(value(opened, "beside['n_tasks'].value"))


def test_what_is_not_allowed_is_explained_and_not_taken(opened: Kernel) -> None:
    """A value out of range, of another kind or without its form leaves what was; the reason is shown, escaped."""
    opened.run(FIELDS)
    before = value(opened, "(chosen['n_tasks'], mix)")
    opened.run("fields['n_tasks'].value, fields['mix'].value = '0', '<script>:1'")
    assert value(opened, "(chosen['n_tasks'], mix)") == before
    assert "allowed is a whole number from 1 to 10,000,000. It stays" in str(value(opened, "beside['n_tasks'].value"))
    told = str(value(opened, "beside['mix'].value"))
    assert "&lt;script&gt;" in told
    assert "<script>" not in told
    # The next value that is allowed takes the reason away.
    opened.run("fields['n_tasks'].value = '5'")
    assert value(opened, "n_tasks") == 5
    assert "allowed is" not in str(value(opened, "beside['n_tasks'].value"))


def test_a_bar_is_a_widget_for_a_person_and_text_for_a_page(opened: Kernel) -> None:
    """Progress is a widget where somebody looks on; under papermill, whose page would show it empty, it is text."""
    code = "with attended.bar(4, 'task', 'submit') as bar:\n    bar.update(4)"
    opened.run("from taskq_lib import attended")
    seen, page = opened.run(code), opened.run(code, attended=False)
    assert [WIDGET in bundle for bundle in seen.bundles] == [True]
    assert page.bundles == []
    assert "submit: 100%" in page.printed
    assert "4/4" in page.printed


def test_a_value_of_the_kit_is_a_table_and_completes(opened: Kernel) -> None:
    """A cell that ends with one of the kit's values shows a table; Tab lists its public names, and ? explains them."""
    opened.run("plan = workload.Workload(n_tasks=3, mix='SEND_EMAIL:1')")
    [shown] = opened.run("plan").bundles
    assert '<td style="text-align:left">mix</td><td style="text-align:left">SEND_EMAIL:1</td>' in shown["text/html"]
    assert "mix                 SEND_EMAIL:1" in shown["text/plain"]
    for code, names in {
        "plan.": {"n_tasks", "mix"},
        "show.": {"table", "facts", "figure"},
        "runs.Run.": {"load"},
    }.items():
        answer = opened.client.complete(code, reply=True, timeout=60)
        offered = {match.rpartition(".")[2] for match in answer["content"]["matches"]}
        assert names <= offered
        assert not {name for name in offered if name.startswith("_")}
    told = opened.client.inspect("submit.send", reply=True, timeout=60)["content"]["data"]["text/plain"]
    assert "Returns one row a message" in told
