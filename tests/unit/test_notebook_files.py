"""The committed notebooks are procedures: short, without outputs, with parameters that can be listed and checked."""

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

from taskq_lib import PROJECT_ROOT
from taskq_lib.commands import lab
from taskq_lib.errors import BadInput
from taskq_lib.report import chain, kernels
from taskq_lib.report.parameters import PARAMETERS, check

NOTEBOOKS = sorted(chain.NOTEBOOKS.glob("*.ipynb"))
ACTING = [path for path in NOTEBOOKS if path.stem[:2] in {"10", "12", "20", "51", "52", "90"}]
ANATOMY = ["Parameters", "Preconditions", "Plan", "Action", "Verification", "Result", "Related"]
INTENTS = ["deploy", "submit", "look", "triage", "compare", "act", "tear down"]
MAX_CELLS, MAX_CODE_LINES, MAX_CELL_LINES = 25, 80, 15
#: A list of literals reads at a glance, line by line.
MAX_PARAMETERS = 20

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_acting = pytest.mark.parametrize("path", ACTING, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[Any]:
    """Return the cells of a kind, "code" or "markdown"."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def lines(path: Path) -> list[str]:
    """Return the lines of the one cell that is tagged `parameters`."""
    [cell] = [cell for cell in cells(path, "code") if "parameters" in cell.metadata.get("tags", [])]
    found: list[str] = cell.source.splitlines()
    return found


def defaults(path: Path) -> dict[str, object]:
    """Return the parameters and their defaults."""
    return {line.partition(" = ")[0]: ast.literal_eval(line.partition(" = ")[2]) for line in lines(path)}


def headings(path: Path, level: int) -> list[str]:
    """Return the headings of a level, in their order."""
    prose = [line for cell in cells(path, "markdown") for line in cell.source.splitlines()]
    return [line.removeprefix("#" * level + " ") for line in prose if line.startswith("#" * level + " ")]


def test_the_chain_is_the_tens() -> None:
    """The chain runs every notebook whose number ends in 0, in their order; the others are found by name."""
    names = "10_deploy 20_submit 30_status 40_latency 50_failures 60_monitor 70_cost 80_compare 90_teardown"
    assert [path.stem for path in chain.notebooks()] == names.split()
    assert [path for path in NOTEBOOKS if path.stem[1] == "0"] == chain.notebooks()
    assert [chain.find(path.stem) for path in NOTEBOOKS] == NOTEBOOKS
    with pytest.raises(BadInput, match="There is no notebook '51_redrivee'; nothing was run") as refused:
        chain.find("51_redrivee")
    assert refused.value.hint == "Did you mean '51_redrive'?"


@each
def test_a_notebook_is_valid(path: Path) -> None:
    """The file keeps to the notebook format, and its cells have ids of their own."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(ids) == len(set(ids))


@each
def test_nothing_that_ran_is_committed(path: Path) -> None:
    """No cell has an output or a count of its executions."""
    for cell in cells(path, "code"):
        assert cell.outputs == []
        assert cell.execution_count is None


@each
def test_a_notebook_is_short(path: Path) -> None:
    """At most 25 cells, 80 lines of code, 15 lines in a cell, and 20 parameters."""
    code = [len(cell.source.splitlines()) for cell in cells(path, "code")]
    assert len(code) + len(cells(path, "markdown")) <= MAX_CELLS
    assert sum(code) <= MAX_CODE_LINES
    assert code[0] == len(lines(path)) <= MAX_PARAMETERS
    assert max(code[1:]) <= MAX_CELL_LINES


@each
def test_the_library_does_the_work(path: Path) -> None:
    """Code defines nothing and imports the kit alone: no AWS SDK, no pandas, no shell."""
    for cell in cells(path, "code"):
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if isinstance(node, ast.Import):
                assert all(alias.name.startswith("taskq_lib") for alias in node.names)
            if isinstance(node, ast.ImportFrom):
                assert str(node.module).partition(".")[0] == "taskq_lib"


@each
def test_parameters_are_literals_with_their_help(path: Path) -> None:
    """One parameter a line: a literal, then its help in a comment, and no second = that would hide it."""
    names = []
    for line in lines(path):
        [node] = ast.parse(line).body
        assert isinstance(node, ast.Assign)
        [name] = node.targets
        assert isinstance(name, ast.Name)
        ast.literal_eval(node.value)
        names.append(name.id)
        assert line.count("=") == 1, line
        assert re.search(r"  # .{10,}$", line), line
    assert len(names) == len(set(names))


@each
def test_parameters_are_known_and_of_their_kind(path: Path) -> None:
    """Each parameter is one that is checked, and its default is of the kind that the check expects, and passes it."""
    found = defaults(path)
    for name, value in found.items():
        assert type(value) is PARAMETERS[name].kind, name
    assert check(found) == found


@each
def test_papermill_finds_every_parameter(path: Path) -> None:
    """What papermill lists of a notebook is what its cell declares: name, default and help."""
    found = papermill.inspect_notebook(str(path))
    assert list(found) == list(defaults(path))
    assert len(found) == len(lines(path))
    for line in lines(path):
        name = line.partition(" = ")[0]
        assert ast.literal_eval(found[name]["default"]) == defaults(path)[name]
        assert found[name]["help"] == line.partition("  # ")[2]
    assert kernels.declared(path) == set(found)


def test_every_known_parameter_is_declared() -> None:
    """No parameter is checked that no notebook has."""
    assert set().union(*(defaults(path) for path in NOTEBOOKS)) == set(PARAMETERS)


@each
def test_the_parameters_are_checked_and_shown(path: Path) -> None:
    """The first thing a notebook does is to check its parameters and to show them, since a page has no code."""
    first = [cell.source.splitlines() for cell in cells(path, "code")][1]
    assert "chosen = parameters.check(globals())" in first
    assert first[-1] == "form.ask(chosen)"


@each
def test_a_notebook_says_what_it_is_for(path: Path) -> None:
    """The first cell is the title, with what the notebook changes and how long it takes."""
    first = cells(path, "markdown")[0].source
    assert first.startswith("# ")
    assert len(headings(path, 1)) == 1
    assert "**Changes**" in first
    assert "**Takes**" in first
    assert ("**When**" in first and "**Undo**" in first) if path in ACTING else "**Question**" in first


@each_acting
def test_a_notebook_that_acts_has_the_parts_of_a_runbook(path: Path) -> None:
    """Parameters, preconditions, plan, action, verification, result and what is related stand in this order."""
    assert headings(path, 2) == ANATOMY


@each_acting
def test_a_verification_states_its_criterion(path: Path) -> None:
    """What a verification demands stands in words beside it."""
    [cell] = [cell for cell in cells(path, "markdown") if cell.source.startswith("## Verification")]
    assert "**Passes if**" in cell.source


def test_what_destroys_is_a_dry_run_unless_it_is_told() -> None:
    """The teardown changes nothing by default, keeps the table and discards no messages; nor do the others act."""
    [teardown] = [path for path in ACTING if path.stem == "90_teardown"]
    found = defaults(teardown)
    assert (found["dry_run"], found["delete_table"], found["discard_messages"]) == (True, False, False)
    assert all(defaults(path)["dry_run"] is True for path in ACTING if path not in chain.notebooks())


def test_the_start_page_leads_to_every_notebook() -> None:
    """The page that JupyterLab opens on has a link to each other notebook, once, in the order of what one wants."""
    first = cells(PROJECT_ROOT / lab.START, "markdown")[0].source
    links = re.findall(r"\]\((\d\d_\w+\.ipynb)\)", first)
    assert sorted(links) == [path.name for path in NOTEBOOKS if path.name != Path(lab.START).name]
    assert re.findall(r"^\| \*\*(.+?)\*\*", first, re.MULTILINE) == INTENTS


@each
def test_links_lead_to_files(path: Path) -> None:
    """Every link in the prose leads to a file of the project."""
    found = [link for cell in cells(path, "markdown") for link in re.findall(r"\]\(([^)#]+)[^)]*\)", cell.source)]
    assert found
    missing = [link for link in found if not (path.parent / link).resolve().is_file()]
    assert missing == []
