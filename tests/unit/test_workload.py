"""A workload is made from its seed alone, keeps to the shares it was asked for, and is one that the function takes."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib.errors import BadInput
from taskq_lib.workload import PERMANENT_ERRORS, TRANSIENT_ERRORS, Workload, generate, read_mix
from taskq_worker.contract import Task, task_types

_DTYPES = {
    "task_id": pd.StringDtype(na_value=np.nan),
    "task_type": pd.CategoricalDtype(["IMAGE_RESIZE", "PROCESS_DATA", "SEND_EMAIL"]),
    "priority": pd.Int8Dtype(),
    "message_group": pd.StringDtype(na_value=np.nan),
    "data": pd.StringDtype(na_value=np.nan),
    "offset_s": np.dtype("float64"),
}


def made(**fields: Any) -> pd.DataFrame:
    """Generate the tasks of run `r`."""
    return generate(Workload(**fields), "r")


def simulated(tasks: pd.DataFrame) -> pd.DataFrame:
    """Return what each task is told to simulate, one column a setting."""
    return pd.DataFrame([json.loads(data)["simulate"] for data in tasks["data"]])


@given(
    n_tasks=st.integers(1, 50),
    seed=st.integers(0, 2**32 - 1),
    duration_sigma=st.floats(0, 3),
    transient_share=st.floats(0, 0.5),
    permanent_share=st.floats(0, 0.5),
    arrival_rate_per_s=st.floats(0.001, 1_000) | st.just(0.0),
)
def test_every_task_keeps_to_the_contract(**fields: Any) -> None:
    """Whatever workload is asked for, each row is a task that the function takes, typed, under an id of its own."""
    tasks = made(**fields)
    assert dict(tasks.dtypes) == _DTYPES
    assert len(tasks) == fields["n_tasks"]
    assert tasks["task_id"].is_unique
    for row in tasks.to_dict("records"):
        data = json.loads(row["data"])
        Task(task_id=row["task_id"], type=row["task_type"], data=data, priority=row["priority"], run_id="r")


def test_groups_change_nothing_else() -> None:
    """The same seed makes the same tasks with groups as without, and the groups have the shares that were asked for."""
    plain, grouped = made(n_tasks=4_000, seed=5), made(n_tasks=4_000, seed=5, groups="a:3,tenant-7:1")
    assert plain["message_group"].isna().all()
    pd.testing.assert_frame_equal(plain.drop(columns="message_group"), grouped.drop(columns="message_group"))
    assert set(grouped["message_group"]) == {"a", "tenant-7"}
    assert 0.72 < (grouped["message_group"] == "a").mean() < 0.78


@pytest.mark.parametrize("text", ["a b:1", ":1", "a:-1", "a:1,a:2", "a:0", "a:x", "ä:1", "a," + "b" * 129])
def test_groups_that_sqs_would_refuse_are_refused(text: str) -> None:
    """A group that is no name, comes twice, or a list without weight is refused before a task is made."""
    with pytest.raises(BadInput, match="groups has"):
        made(n_tasks=3, groups=text)


def test_an_equals_sign_serves_as_well() -> None:
    """Weights may be written with = or with a colon, and a name alone weighs 1."""
    assert read_mix("IMAGE_RESIZE=2,SEND_EMAIL:0.5,PROCESS_DATA") == {
        "IMAGE_RESIZE": 2.0,
        "SEND_EMAIL": 0.5,
        "PROCESS_DATA": 1.0,
    }


def test_a_seed_makes_the_same_tasks() -> None:
    """The same values make the same frame, whatever the run is called; another seed makes another."""
    fields: dict[str, Any] = {"n_tasks": 200, "transient_share": 0.2, "arrival_rate_per_s": 5}
    pd.testing.assert_frame_equal(made(seed=7, **fields), made(seed=7, **fields))
    other_run = generate(Workload(seed=7, **fields), "other")
    assert other_run["task_id"].tolist() == [f"other-{i:07d}" for i in range(200)]
    pd.testing.assert_frame_equal(made(seed=7, **fields).drop(columns="task_id"), other_run.drop(columns="task_id"))
    assert not made(seed=7, **fields)["data"].equals(made(seed=8, **fields)["data"])


def test_shares_are_about_right() -> None:
    """Types, priorities and failures come in the shares that were asked for, within what chance allows."""
    tasks = made(
        n_tasks=20_000,
        mix="IMAGE_RESIZE:3,SEND_EMAIL:1,PROCESS_DATA:0",
        priorities="1:1,9:4",
        transient_share=0.2,
        permanent_share=0.1,
        crash_share=0.05,
    )
    types = tasks["task_type"].value_counts(normalize=True)
    assert types["IMAGE_RESIZE"] == pytest.approx(0.75, abs=0.02)
    assert types["PROCESS_DATA"] == 0
    assert (tasks["priority"] == 9).mean() == pytest.approx(0.8, abs=0.02)
    simulate = simulated(tasks)
    transient, permanent = simulate["fail_attempts"] == 1, simulate["fail_attempts"] == -1
    assert transient.mean() == pytest.approx(0.2, abs=0.02)
    assert permanent.mean() == pytest.approx(0.1, abs=0.02)
    assert (simulate["crash_attempts"] == -1).mean() == pytest.approx(0.05, abs=0.01)
    assert simulate.loc[simulate["crash_attempts"] == -1, "fail_attempts"].isna().all()
    assert set(simulate.loc[transient, "error"]) == set(TRANSIENT_ERRORS)
    assert simulate.loc[transient, "retryable"].isna().all()
    told = simulate.loc[permanent, ["error", "retryable"]].fillna({"retryable": True})
    assert set(told.itertuples(index=False, name=None)) == set(PERMANENT_ERRORS)


def test_durations_are_log_normal() -> None:
    """Processing times have the median and the spread that were asked for; a spread of 0 makes all the same."""
    seconds = simulated(made(n_tasks=20_000, duration_median_s=0.4, duration_sigma=0.5))["seconds"]
    assert seconds.median() == pytest.approx(0.4, rel=0.03)
    assert np.log(seconds).std() == pytest.approx(0.5, rel=0.03)
    assert set(simulated(made(n_tasks=50, duration_median_s=0.25, duration_sigma=0))["seconds"]) == {0.25}


def test_arrivals_follow_one_another() -> None:
    """Arrivals are in order, at the mean rate that was asked for; without a rate all tasks arrive at once."""
    offsets = made(n_tasks=10_000, arrival_rate_per_s=50)["offset_s"]
    assert offsets.iloc[0] > 0
    assert (offsets.diff().dropna() > 0).all()
    assert offsets.iloc[-1] == pytest.approx(200, rel=0.05)
    assert (made(n_tasks=10)["offset_s"] == 0).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_tasks", 0),
        ("n_tasks", -5),
        ("n_tasks", 10_000_001),
        ("seed", -1),
        ("seed", 2**32),
        ("duration_median_s", -0.1),
        ("duration_median_s", 901),
        ("duration_median_s", float("nan")),
        ("duration_sigma", -1),
        ("duration_sigma", 4),
        ("transient_share", 1.1),
        ("permanent_share", -0.1),
        ("crash_share", 2.0),
        ("permanent_share", float("nan")),
        ("arrival_rate_per_s", -1),
        ("arrival_rate_per_s", float("inf")),
    ],
)
def test_a_number_out_of_range_is_refused(name: str, value: float) -> None:
    """A number that makes no workload is refused, with its name and what is allowed."""
    fields: dict[str, Any] = {"n_tasks": 1, name: value}
    with pytest.raises(BadInput, match=rf"^{name} is .*; allowed is "):
        Workload(**fields)


def test_shares_beyond_the_whole_are_refused() -> None:
    """Failing shares that add up to more than all tasks are refused."""
    with pytest.raises(BadInput, match=r"^transient_share \+ permanent_share \+ crash_share is 1.2; allowed is 0 to 1"):
        Workload(n_tasks=1, transient_share=0.6, permanent_share=0.6)


@pytest.mark.parametrize(
    "fields",
    [
        {"mix": "FLY:1"},
        {"mix": ""},
        {"mix": "IMAGE_RESIZE:-1"},
        {"mix": "IMAGE_RESIZE:nan"},
        {"mix": "IMAGE_RESIZE:inf"},
        {"mix": "IMAGE_RESIZE:a"},
        {"mix": "IMAGE_RESIZE:1,IMAGE_RESIZE:2"},
        {"mix": "IMAGE_RESIZE:0"},
        {"mix": "IMAGE_RESIZE:1,"},
        {"priorities": "10:1"},
        {"priorities": "-1:1"},
        {"priorities": "5:0,9:0"},
    ],
    ids=str,
)
def test_a_mix_that_is_none_is_refused(fields: dict[str, str]) -> None:
    """Weights with unknown or repeated names, or no weight above 0, are refused with how to write them."""
    [name] = fields
    with pytest.raises(BadInput, match=rf"^{name} has .*\n.*Write {name} as NAME:WEIGHT,\.\.\. with names from "):
        made(n_tasks=1, **fields)


@given(text=st.text() | st.from_regex(r"(IMAGE_RESIZE|SEND_EMAIL|,|:|=|[0-9.e-]){0,8}", fullmatch=True))
def test_any_mix_is_read_or_refused(text: str) -> None:
    """Whatever text is given as a mix, it is read as weights with a sum above 0, or refused; nothing else is raised."""
    try:
        weights = read_mix(text)
    except BadInput:
        return
    assert sum(weights.values()) > 0
    assert set(weights) <= set(task_types())
    assert len(made(n_tasks=3, mix=text)) == 3


@pytest.mark.parametrize("run_id", ["", "a b", "-a", "a" * 101, "a/b"])
def test_a_run_id_that_makes_no_task_ids_is_refused(run_id: str) -> None:
    """A run id that no task id can begin with is refused."""
    with pytest.raises(BadInput, match=r"run_id .* is not allowed"):
        generate(Workload(n_tasks=1), run_id)
