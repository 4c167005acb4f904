"""README and glossary: what they name is there, and what is there they name."""

import re
import tomllib
from pathlib import Path

import pytest

from taskq_lib import PROJECT_ROOT
from taskq_lib.analysis import latency
from taskq_lib.aws import template
from taskq_lib.commands import options
from taskq_lib.commands.main import COMMANDS
from taskq_lib.report.chain import NOTEBOOKS, checked, find
from taskq_worker.contract import Outcome, Reason, State, Status, task_type, task_types

README = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
GLOSSARY = (PROJECT_ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
DECISIONS = (PROJECT_ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
OPTIONS = (PROJECT_ROOT / "docs" / "options.md").read_text(encoding="utf-8")
PAGES = [PROJECT_ROOT / "README.md", *sorted((PROJECT_ROOT / "docs").glob("*.md"))]


def typed(program: str) -> list[list[str]]:
    """Return the words after `program` of every command line that the README shows."""
    lines = re.findall(rf"^\$ {program} (.*?)(?:#.*)?$", README, re.MULTILINE)
    return [line.split() for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    """A link or picture of the documentation that is no web address names a file of the project."""
    links = re.findall(r"\]\(([^)#]+?)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("http") and not (page.parent / link).exists()] == []


def test_the_two_commands_come_first() -> None:
    """The README's first block shows `make report` and `make test`, and nothing else."""
    block = re.search(r"```console\n(.*?)```", README, re.DOTALL)
    assert block is not None
    assert re.findall(r"^\$ (make \w+)", block.group(1), re.MULTILINE) == ["make report", "make test"]


def test_make_targets_that_are_named_are_there() -> None:
    """Every `make TARGET` of the README is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (PROJECT_ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|\$ )make ([a-z]+)\b", README)) <= targets


def test_every_notebook_is_in_the_table_by_intent() -> None:
    """The README's table leads to every notebook, in the order of their numbers."""
    assert re.findall(r"\((notebooks/\S+?\.ipynb)\)", README) == [
        f"{NOTEBOOKS.name}/{path.name}" for path in sorted(NOTEBOOKS.glob("*.ipynb"))
    ]


def test_commands_that_are_shown_can_be_given() -> None:
    """Every `taskq` line of the README names a command that is there, and parameters that are taken."""
    shown = typed("taskq")
    described = {"report", "run", "local", "deploy", "submit", "status", "cancel", "watch", "doctor", "teardown"}
    described |= {"compare", "publish", "prune"}
    assert {words[0] for words in shown} == described
    assert {words[0] for words in shown} <= set(COMMANDS)
    for words in shown:
        pairs = [rest.split() for rest in re.findall(r"-p (\S+(?: [^-\s]\S*)?)", " ".join(words[1:]))]
        given = options.read_pairs(pairs)
        if words[0] == "report":
            checked(given)
        elif words[0] == "run":
            checked(given, [find(words[1])])
        elif given:
            template.check(given)


def test_the_task_types_are_described() -> None:
    """The README's table of task types has every registered type, with the fields that it takes."""
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", README, re.MULTILINE))
    assert sorted(rows) == task_types()
    for name, fields in rows.items():
        assert re.findall(r"`(\w+)`", fields) == list(task_type(name).fields)


def test_template_parameters_that_are_named_are_there() -> None:
    """A `Parameter=value` of the documentation is a parameter of the template, with a value that it takes."""
    named = re.findall(r"`([A-Z][A-Za-z]+)=(\w+)`", README + DECISIONS + OPTIONS)
    assert named
    for name, value in named:
        template.check({name: value})


def test_the_options_are_those_of_the_template() -> None:
    """The table of options names parameters that are there, with their defaults, and all that scale the mappings."""
    known = template.parameters()
    named = dict(re.findall(r"`([A-Z][A-Za-z]+)` \(([^)]*)\)", OPTIONS[: OPTIONS.index("## ")]))
    assert named == {name: str(known[name]["Default"]) or "empty" for name in named}
    scaling = {name for name in known if re.match(r"Fifo|Second|Batch|M\w+Pollers|\w+Concurrency$", name)}
    assert scaling | {"FunctionArchitecture", "FunctionRuntime", "FunctionMemoryMb", "UrgentPriority"} <= named.keys()


@pytest.mark.parametrize("word", [*State, *Reason, *Outcome, *Status, "receive_limit", *latency.DURATIONS])
def test_every_word_of_the_data_is_in_the_glossary(word: str) -> None:
    """A value or column that a reader meets in the data is explained in the glossary."""
    assert re.search(rf"\b{re.escape(word).replace('_', '[_ -]')}\b", GLOSSARY), word


def test_glossary_terms_stand_once() -> None:
    """A term has one entry, and so one meaning."""
    terms = re.findall(r"^- \*\*(.+?)\*\*", GLOSSARY, re.MULTILINE)
    assert len(terms) > 30
    assert len(terms) == len(set(terms))


def test_every_dependency_is_explained() -> None:
    """The decisions give a reason for every package that pyproject.toml asks for."""
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    names = {re.split(r"[\[>=<]", line)[0] for line in [*project["dependencies"], *extras]}
    table = DECISIONS[DECISIONS.index("## Dependencies") :]
    missing = [name for name in names if name.lower() not in table.lower() and not name.startswith("types-")]
    assert missing == []
