"""What is asked of an export's tables without loading them is what the analysis finds in the loaded frames."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.generate_export import generate
from taskq_lib.analysis import failures, latency, throughput
from taskq_lib.aws.frames import attempts_frame, read_items, tasks_frame
from taskq_lib.errors import BadInput
from taskq_lib.export import summaries
from taskq_lib.export.convert import convert, load
from tests.unit.test_export import USUAL, named

_GROUPS = [None, "task_type", "priority", "message_group"]


def assert_agree(tables: Path, tasks: pd.DataFrame, attempts: pd.DataFrame, q: list[float]) -> None:
    """Every summary equals that of pandas."""
    durations = latency.durations(tasks)
    for by in _GROUPS:
        expected = latency.percentiles(durations, by, q)
        expected = expected.drop(columns=[name for name in expected.columns if str(name).endswith(("_low", "_high"))])
        pd.testing.assert_frame_equal(summaries.percentiles(tables, by, q), expected, rtol=1e-12, atol=1e-9)
        pd.testing.assert_frame_equal(summaries.rates(tables, by), failures.rates(tasks, by))
    pd.testing.assert_frame_equal(summaries.outcome_by_attempt(tables), failures.outcome_by_attempt(attempts))
    pd.testing.assert_frame_equal(summaries.per_interval(tables), throughput.per_interval(tasks, attempts))
    states = summaries.states(tables)
    counts = tasks["state"].value_counts()
    assert states.groupby("state")["n_tasks"].sum().to_dict() == counts[counts > 0].to_dict()
    assert states[["n_attempts", "n_duplicates"]].sum().tolist() == [
        tasks["n_attempts"].sum(),
        tasks["n_duplicates"].sum(),
    ]
    assert states["n_redriven"].sum() == (tasks["n_redrives"] > 0).sum()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose tables are written anew for each example."""
    return tmp_path_factory.mktemp("tables")


@settings(max_examples=3, deadline=None)
@given(
    items=st.lists(USUAL, max_size=15),
    q=st.lists(
        st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)),
        min_size=1,
        max_size=3,
        unique_by=lambda share: f"{100 * share:g}",
    ),
)
def test_the_summaries_are_those_of_the_frames(folder: Path, items: list[dict[str, Any]], q: list[float]) -> None:
    """Whatever the tasks hold or lack, for each grouping and any percentiles."""
    plain = read_items(named(items))
    tasks, attempts = tasks_frame(plain), attempts_frame(plain)
    tasks.to_parquet(folder / "tasks.parquet", index=False)
    attempts.to_parquet(folder / "attempts.parquet", index=False)
    assert_agree(folder, tasks, attempts, q)


def test_the_summaries_of_many_tasks(tmp_path: Path) -> None:
    """They agree for an export of more than a thousand tasks as well."""
    tables = convert(generate(tmp_path, 1_500, n_per_file=500), progress=False)
    assert_agree(tables, *load(tables), [0.5, 0.9, 0.99, 0.999])


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    """A grouping, a percentile or a folder that is not there is refused, with what is allowed."""
    with pytest.raises(BadInput, match="cannot be grouped by 'state'; allowed are task_type, priority"):
        summaries.rates(convert(generate(tmp_path, 10), progress=False), "state")
    with pytest.raises(BadInput, match=r"percentiles q=\[2\] are not allowed"):
        summaries.percentiles(tmp_path, q=[2])
    with pytest.raises(BadInput, match=r"There is no .*tasks\.parquet") as refused:
        summaries.states(tmp_path)
    assert "41_export" in refused.value.hint
