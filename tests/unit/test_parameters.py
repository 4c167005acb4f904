"""Parameters are strict before anything runs: a name that is known, a value of its own kind, within its range."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskq_lib.errors import BadInput
from taskq_lib.report.parameters import PARAMETERS, Value, check, parse

#: Any text, and texts that are almost right.
TEXTS = (
    st.text()
    | st.from_regex(r"[-+ ]?[0-9_.]{1,8}(e[0-9]{1,4})?", fullmatch=True)
    | st.from_regex(r"(BatchSize|TimeIndex|IMAGE_RESIZE|true|local|5|[:=,]|\w|-){0,6}", fullmatch=True)
)


def read(name: str, text: str) -> Value:
    """Read one text as a command line gives it."""
    return parse({name: text}, PARAMETERS)[name]


@given(name=st.sampled_from(sorted(PARAMETERS)), text=TEXTS)
@example(name="stack_parameters", text="BatchSize:²")
@example(name="n_tasks", text="9" * 5_000)
@example(name="timeout_s", text="nan")
def test_any_text_is_read_or_refused(name: str, text: str) -> None:
    """Whatever text is given, it becomes a value of the declared kind within its range, or is refused."""
    parameter = PARAMETERS[name]
    try:
        value = read(name, text)
    except BadInput:
        return
    assert type(value) is parameter.kind
    if isinstance(value, str):
        assert value == text
        assert not parameter.choices or value in parameter.choices
    elif parameter.low is not None and parameter.high is not None:
        assert parameter.low <= value <= parameter.high
    assert check({name: value}) == {name: value}


@pytest.mark.parametrize("name", ["run_id", "region", "runs_dir"])
@pytest.mark.parametrize("text", ["007", "1e3", "12e4567", "1_000", "True", "none", "", " 5 ", "0x10"])
def test_a_text_stays_a_text(name: str, text: str) -> None:
    """Where a text is meant, one that looks like a number, a truth or nothing stays as it was typed."""
    assert read(name, text) == text


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("n_tasks", "120", 120),
        ("n_tasks", "10000000", 10_000_000),
        ("seed", "007", 7),
        ("timeout_s", "900", 900.0),
        ("duration_median_s", "1e-3", 0.001),
        ("transient_share", ".5", 0.5),
        ("dry_run", "true", True),
        ("dry_run", "False", False),
        ("target", "aws", "aws"),
        ("mix", "SEND_EMAIL=1,IMAGE_RESIZE:2", "SEND_EMAIL=1,IMAGE_RESIZE:2"),
        ("stack_parameters", "BatchSize:5,TimeIndex:false", "BatchSize:5,TimeIndex:false"),
    ],
)
def test_a_text_becomes_its_kind(name: str, text: str, value: Value) -> None:
    """A whole number, a number and a truth get the type that the notebook declares; forms are checked and kept."""
    found = read(name, text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("n_tasks", "0", "a whole number from 1 to 10,000,000"),
        ("n_tasks", "-5", "a whole number from 1 to 10,000,000"),
        ("n_tasks", "ten", "a whole number from 1 to 10,000,000"),
        ("n_tasks", "1e3", "a whole number from 1 to 10,000,000"),
        ("n_tasks", "1_000", "a whole number from 1 to 10,000,000"),
        ("n_tasks", "5.0", "a whole number from 1 to 10,000,000"),
        ("n_tasks", "", "a whole number from 1 to 10,000,000"),
        ("transient_share", "1.01", "a number from 0 to 1"),
        ("transient_share", "nan", "a number from 0 to 1"),
        ("timeout_s", "inf", "a number from 0 to 86,400"),
        ("timeout_s", "12e4567", "a number from 0 to 86,400"),
        ("timeout_s", "1_0", "a number from 0 to 86,400"),
        ("dry_run", "1", "true or false"),
        ("dry_run", "yes", "true or false"),
        ("target", "azure", "local or aws"),
        ("target", "Local", "local or aws"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(name: str, text: str, allowed: str) -> None:
    """A value of another kind or out of range is refused with its name, itself and what is allowed."""
    with pytest.raises(BadInput, match=rf"^Parameter {name} is .*; allowed is {allowed}\.\n"):
        read(name, text)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("mix", "FLY:1", "mix has a part that is not allowed: 'FLY:1'"),
        ("priorities", "10:1", "priorities has a part that is not allowed: '10:1'"),
        ("stack_parameters", "BatchSise:5", "Template parameter 'BatchSise' does not exist"),
        ("stack_parameters", "BatchSize:0", "BatchSize is '0'; allowed is a whole number from 1 to 10000"),
        ("stack_parameters", "TimeIndex:maybe", "TimeIndex is 'maybe'; allowed are true, false"),
    ],
)
def test_a_text_without_its_form_is_refused(name: str, text: str, reason: str) -> None:
    """A list of weights or template parameters is refused before anything runs, naming the part that is wrong."""
    with pytest.raises(BadInput, match=reason):
        read(name, text)


def test_an_unknown_name_is_refused_with_the_near_one() -> None:
    """A parameter that no notebook declares is refused; the hint names the one that was probably meant, and all."""
    with pytest.raises(BadInput, match=r"^No notebook declares a parameter 'n_task'; nothing was run\.") as refused:
        parse({"n_task": "5"}, ["seed", "n_tasks", "mix"])
    assert refused.value.hint == "Did you mean 'n_tasks'? There are mix, n_tasks, seed."
    with pytest.raises(BadInput) as refused:
        parse({"zzz": "5"}, ["seed"])
    assert refused.value.hint == "There are seed."


def test_a_name_is_known_only_where_a_notebook_declares_it() -> None:
    """A parameter that exists, but that none of these notebooks declares, is refused as well."""
    with pytest.raises(BadInput, match="No notebook declares a parameter 'seed'"):
        parse({"seed": "5"}, ["n_tasks"])


def test_check_takes_a_notebooks_globals() -> None:
    """Of all names in a notebook only its parameters are checked and returned, in the house's order."""
    names: dict[str, Any] = {"pd": object(), "seed": 3, "_": None, "target": "local", "timeout": "x", "__name__": "m"}
    assert list(check(names).items()) == [("target", "local"), ("seed", 3)]
    assert check({}) == {}


def test_check_makes_a_whole_number_a_number() -> None:
    """A person may write 900 in a notebook where a number is meant; it becomes 900.0."""
    found = check({"timeout_s": 900})["timeout_s"]
    assert (found, type(found)) == (900.0, float)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_tasks", "120"),
        ("n_tasks", 120.0),
        ("n_tasks", True),
        ("timeout_s", True),
        ("timeout_s", None),
        ("timeout_s", float("nan")),
        ("dry_run", 1),
        ("dry_run", "false"),
        ("run_id", 7),
        ("target", "AWS"),
        ("mix", "FLY:1"),
    ],
)
def test_check_refuses_another_kind(name: str, value: object) -> None:
    """What a person typed into a notebook is as strict as what a command line gives: "false" is not False."""
    with pytest.raises(BadInput, match=name):
        check({name: value})
