"""The project's files agree with each other, and the code keeps to the house's layout."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from taskq_lib import PROJECT_ROOT

PROJECT: dict[str, Any] = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LIBRARY = PROJECT_ROOT / "taskq_lib"
WORKER = PROJECT_ROOT / "lambda" / "taskq_worker"
MODULES = sorted(
    path for folder in ("taskq_lib", "lambda", "benchmarks") for path in (PROJECT_ROOT / folder).rglob("*.py")
)
MAX_LINES = 400
#: The folders of the library, and what each may not know of.
ARROWS = {
    "analysis": {"taskq_lib.aws", "taskq_lib.local", "taskq_lib.report", "taskq_lib.commands", "taskq_lib.plots"},
    "plots.py": {"taskq_lib.aws", "taskq_lib.local", "taskq_lib.report", "taskq_lib.commands"},
    "plots_compare.py": {"taskq_lib.aws", "taskq_lib.local", "taskq_lib.report", "taskq_lib.commands"},
    "plots_cost.py": {"taskq_lib.aws", "taskq_lib.local", "taskq_lib.report", "taskq_lib.commands"},
    "plots_monitor.py": {"taskq_lib.aws", "taskq_lib.local", "taskq_lib.report", "taskq_lib.commands"},
    "plot_axes.py": {"taskq_lib.aws", "taskq_lib.local", "taskq_lib.report", "taskq_lib.commands"},
    "aws": {"taskq_lib.analysis", "taskq_lib.plots", "taskq_lib.plot_axes", "taskq_lib.report", "taskq_lib.commands"},
    "local": {"taskq_lib.aws", "taskq_lib.analysis", "taskq_lib.plots", "taskq_lib.report", "taskq_lib.commands"},
    "export": {"taskq_lib.report", "taskq_lib.commands", "taskq_lib.local", "taskq_lib.plots"},
    "report": {"taskq_lib.commands", "taskq_lib.local"},
}


def requirements(lines: Iterable[str]) -> dict[str, Requirement]:
    """Read requirements by their name, as package indexes spell it."""
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def bounds(found: dict[str, Requirement]) -> dict[str, tuple[str, frozenset[str]]]:
    """Return what a list of requirements asks for, whatever its order and spelling."""
    return {name: (str(requirement.specifier), frozenset(requirement.extras)) for name, requirement in found.items()}


def locked() -> list[tuple[Requirement, list[str]]]:
    """Read the lock: each requirement with its hashes."""
    text = (PROJECT_ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    lines = [line.partition("#")[0].split("--hash=") for line in text.splitlines()]
    return [(Requirement(line[0].strip()), [part.strip() for part in line[1:]]) for line in lines if line[0].strip()]


def imported(path: Path) -> set[str]:
    """Return every module that a file imports, at its top or within a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def foreign(path: Path) -> set[str]:
    """Return the packages that a file imports and Python does not bring along."""
    return {name.partition(".")[0] for name in imported(path)} - sys.stdlib_module_names


def files(name: str) -> list[Path]:
    """Return the files of a folder of the library, or the one file."""
    path = LIBRARY / name
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


# --- dependencies -------------------------------------------------------------------------------------------------


def test_conda_users_get_the_same_packages() -> None:
    """`environment.yml` lists Python and the core dependencies with the bounds of pyproject.toml, and the extras."""
    listed = yaml.safe_load((PROJECT_ROOT / "environment.yml").read_text())["dependencies"]
    *plain, pip = listed
    # conda-forge has the Python package under a name of its own: `duckdb` is the command there.
    found = requirements(line.replace("python-duckdb", "duckdb") for line in plain)
    assert str(found.pop("python").specifier) == PROJECT["requires-python"]
    assert str(found.pop("pip").specifier) == ""
    assert bounds(found) == bounds(requirements(PROJECT["dependencies"]))
    assert pip == {"pip": ["-e .[local,dev]"]}
    assert set(EXTRAS) == {"local", "dev"}


def test_every_locked_package_is_hashed() -> None:
    """Each package of the lock is pinned to one version and has at least one SHA-256."""
    found = locked()
    assert len(found) > 50
    for requirement, hashes in found:
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), requirement


@pytest.mark.parametrize("line", [*PROJECT["dependencies"], *EXTRAS["local"], *EXTRAS["dev"]])
def test_the_lock_keeps_to_every_bound(line: str) -> None:
    """Whatever pyproject.toml asks for is in the lock, once for each Python it allows, and within its bound."""
    asked = Requirement(line)
    pins = [found for found, _ in locked() if canonicalize_name(found.name) == canonicalize_name(asked.name)]
    for pin in pins:
        assert asked.specifier.contains(str(pin.specifier).removeprefix("=="), prereleases=True)
    for python in ("3.11", "3.12", "3.13", "3.14"):
        where = {"python_version": python, "python_full_version": f"{python}.0"}
        assert sum(pin.marker is None or pin.marker.evaluate(where) for pin in pins) == 1, python


def test_the_engine_is_an_extra_of_its_own() -> None:
    """The engine is pinned to one version, in the extra [local] alone: it pins the AWS SDK in its turn."""
    [engine] = EXTRAS["local"]
    assert re.fullmatch(r"ministack==[\d.]+", engine)
    assert "ministack" not in requirements([*PROJECT["dependencies"], *EXTRAS["dev"]])


def test_every_import_is_declared() -> None:
    """What the library imports, pyproject.toml lists among the core dependencies, and what it lists is imported.

    The engine's own process alone imports the engine, an extra.
    """
    used = set().union(*(foreign(path) for path in (*LIBRARY.rglob("*.py"), *WORKER.rglob("*.py"))))
    names = {"yaml": "pyyaml", "IPython": "ipython"}
    used = {canonicalize_name(names.get(name, name)) for name in used - {"taskq_lib", "taskq_worker", "botocore"}}
    declared = set(requirements(PROJECT["dependencies"]))
    # Run as programs: the kernel and the laboratory.
    assert used - {"ministack"} == declared - {"ipykernel", "jupyterlab"}
    elsewhere = [path for path in LIBRARY.rglob("*.py") if path.name not in {"serve.py", "mends.py"}]
    assert "ministack" not in set().union(*(foreign(path) for path in elsewhere))


# --- what CI runs -------------------------------------------------------------------------------------------------


def workflow_commands() -> list[str]:
    """Return every command of the workflow's steps."""
    workflow = yaml.safe_load((PROJECT_ROOT / ".github" / "workflows" / "ci.yml").read_text())
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


def script_commands() -> list[str]:
    """Return every line of the script that stands for the workflow on a bare machine."""
    return [line.strip() for line in (PROJECT_ROOT / ".ci" / "run").read_text().splitlines()]


@pytest.mark.parametrize("commands", [workflow_commands, script_commands])
def test_ci_runs_what_a_developer_runs(commands: Any) -> None:
    """Both forms of CI run the linters, the tests and a report, by the targets that the Makefile has."""
    found = commands()
    assert {"make check", "make test"} <= set(found)
    assert any(line.startswith("make report") for line in found)
    targets = set(re.findall(r"^([a-z]+):", (PROJECT_ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {line.split()[1] for line in found if line.startswith("make ")} <= targets


def test_the_script_stops_at_the_first_failure() -> None:
    """The script can be run as it is, and ends at the first command that fails."""
    assert os.access(PROJECT_ROOT / ".ci" / "run", os.X_OK)
    assert "set -euo pipefail" in script_commands()


def test_ci_runs_the_oldest_python_that_is_allowed() -> None:
    """The oldest Python that pyproject.toml allows is among those that CI runs."""
    workflow = yaml.safe_load((PROJECT_ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert PROJECT["requires-python"].removeprefix(">=") in workflow["jobs"]["test"]["strategy"]["matrix"]["python"]


# --- the layout ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT_ROOT)))
def test_a_module_is_short(path: Path) -> None:
    """No module is longer than 400 lines."""
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("part", ARROWS)
def test_arrows_point_one_way(part: str) -> None:
    """A part of the library imports nothing of the parts that build on it, or that it is to know nothing of."""
    for path in files(part):
        for name in imported(path):
            assert not {name} & ARROWS[part], path
            assert not [beyond for beyond in ARROWS[part] if name.startswith(f"{beyond}.")], path


@pytest.mark.parametrize(
    "part", ["analysis", "export", "plots.py", "plots_cost.py", "plots_monitor.py", "plot_axes.py"]
)
def test_the_analysis_knows_nothing_of_aws(part: str) -> None:
    """Neither the analysis nor the plots import the AWS SDK, nor does what reads an export."""
    assert all(foreign(path).isdisjoint({"boto3", "botocore"}) for path in files(part))


def test_the_analysis_loads_without_the_aws_sdk() -> None:
    """Nor do they by way of what they import: loading all of them loads no AWS SDK."""
    names = [f"taskq_lib.analysis.{path.stem}" for path in files("analysis") if path.stem != "__init__"]
    names += [f"taskq_lib.{path.stem}" for path in LIBRARY.glob("plots*.py")] + ["taskq_lib.export.summaries"]
    code = f"import sys, {', '.join(names)}; print([m for m in sys.modules if 'boto' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_function_needs_the_aws_sdk_alone() -> None:
    """What is deployed imports the standard library and the AWS SDK, which the runtime brings along."""
    for path in (WORKER.parent / "handler.py", *sorted(WORKER.rglob("*.py"))):
        assert foreign(path) <= {"boto3", "botocore", "taskq_worker"}, path


def test_the_contract_needs_nothing() -> None:
    """The contract, which everybody reads, imports the standard library only."""
    assert foreign(WORKER / "contract.py") == set()


def test_the_library_reads_the_function_by_its_contract() -> None:
    """Of the function's code the library reads the contract and the form of its items; the rest is the function's."""
    read = {
        ".".join(name.split(".")[:2])
        for path in LIBRARY.rglob("*.py")
        for name in imported(path)
        if "taskq_worker" in name
    }
    assert read <= {"taskq_worker.contract", "taskq_worker.attributes"}
