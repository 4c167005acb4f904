"""The tables of the analysis, of tasks that are too many to be loaded: the same frames, by queries.

Each function takes the folder that `convert` made, and gives what the function of the same name in
`taskq_lib.analysis` gives of the same tasks: columns, dtypes and values.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from taskq_lib.analysis import STATES, require_group, require_shares
from taskq_lib.analysis.intervals import carried, wilson
from taskq_lib.analysis.latency import DURATIONS
from taskq_lib.analysis.throughput import interval_s_for
from taskq_lib.aws.frames import ATTEMPT_COLUMNS, TASK_COLUMNS
from taskq_lib.errors import BadInput
from taskq_lib.export import queries
from taskq_lib.export.convert import connected, literal
from taskq_worker.contract import Outcome


def states(tables: Path) -> pd.DataFrame:
    """Count the tasks by their state: one row a state, and of `dead_lettered` one a reason.

    Columns: `state`, `reason` (str; missing but for dead-lettered tasks), `n_tasks`, `n_attempts` (since the last
    redrive), `n_duplicates`, `n_redriven` (int64). An export knows nothing of tasks without an item.
    """
    with _opened(tables) as connection:
        found = connection.execute(queries.text("states")).df()
    found["place"] = found["state"].map({state: place for place, state in enumerate(STATES)})
    found = found.sort_values(["place", "n_tasks"], ascending=[True, False], kind="stable", ignore_index=True)
    counts = dict.fromkeys(["n_tasks", "n_attempts", "n_duplicates", "n_redriven"], "int64")
    return found.drop(columns="place").astype({"state": "str", "reason": "str"} | counts)


def percentiles(tables: Path, by: str | None = None, q: Sequence[float] = (0.5, 0.9, 0.99)) -> pd.DataFrame:
    """Give the percentiles of the finished tasks as `latency.percentiles` does: exact, type 7, without intervals."""
    require_shares(q)
    shares = ", ".join(f"(CAST('{share!r}' AS DOUBLE))" for share in map(float, q))
    with _opened(tables) as connection:
        groups = _groups(connection, by)
        found = connection.execute(queries.text("percentiles", key=_key(by), shares=shares)).df()
    whole = pd.MultiIndex.from_product([groups["label"], DURATIONS], names=["group", "duration"])
    per_share = {share: rows.set_index(["label", "duration"]) for share, rows in found.groupby("share")}
    nothing = found.head(0).set_index(["label", "duration"])
    first = per_share.get(float(q[0]), nothing).reindex(whole)
    table = pd.DataFrame({"n": first["n"].fillna(0)}, index=whole)
    for share in q:
        table[f"p{100 * share:g}"] = _interpolated(per_share.get(float(share), nothing).reindex(whole), share)
    table["max"] = first["max_ms"] / 1000
    table["n_negative"] = first["n_negative"].fillna(0)
    table = table.reset_index()
    table["n_censored"] = table["group"].map((groups["n"] - groups["n_final"]).set_axis(groups["label"]))
    counts = dict.fromkeys(["n", "n_negative", "n_censored"], "int64")
    return carried(table.astype({"group": "str", "duration": "str", "max": "float64"} | counts), q)


def rates(tables: Path, by: str | None = "task_type") -> pd.DataFrame:
    """Give the share of final tasks that were dead-lettered as `failures.rates` does."""
    with _opened(tables) as connection:
        groups = _groups(connection, by)
    table = groups.rename(columns={"label": "group"})[["group", "n_final", "n_dead_lettered"]]
    return table.join(wilson(table["n_dead_lettered"], table["n_final"]))


def outcome_by_attempt(tables: Path) -> pd.DataFrame:
    """Count the ended attempts by their number and outcome as `failures.outcome_by_attempt` does."""
    with _opened(tables) as connection:
        found = connection.execute(queries.text("outcomes")).df()
    outcomes = pd.CategoricalDtype([str(outcome) for outcome in Outcome])
    return found.astype({"attempt": "Int32", "outcome": outcomes, "n": "int64"})


def per_interval(tables: Path) -> pd.DataFrame:
    """Count what happened in each interval of time as `throughput.per_interval` does, which chooses their length."""
    with _opened(tables) as connection:
        connection.execute(f"CREATE VIEW events AS {queries.text('events')}")
        [(first, last)] = connection.execute("SELECT MIN(ms), MAX(ms) FROM events").fetchall()
        first, last = first or 0, last or 0
        width = round(1000 * interval_s_for((last - first) / 1000))
        start = first // width * width
        counted = f"SELECT event, (ms - MOD(ms - {start}, {width})) AS ms, COUNT(*) AS n FROM events GROUP BY 1, 2"  # noqa: S608 - numbers
        found = connection.execute(counted).df()
    times = np.arange(start, last + 1, width) if len(found) else np.arange(0)
    count = found.pivot_table("n", "ms", "event", "sum").reindex(times).fillna(0)
    count = count.reindex(columns=["sent", "finished", "completed", "entered", "left"], fill_value=0)
    per_s = 1000 / width
    columns = {
        "at": pd.to_datetime(times, unit="ms", utc=True).astype("datetime64[us, UTC]"),
        "interval_s": np.full(len(times), width / 1000),
        "offered": count["sent"].to_numpy(float) * per_s,
        "throughput": count["finished"].to_numpy(float) * per_s,
        "goodput": count["completed"].to_numpy(float) * per_s,
        "backlog": (count["entered"] - count["left"]).cumsum().to_numpy("int64"),
    }
    return pd.DataFrame(columns)


@contextmanager
def _opened(tables: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the tables as the queries know them: `tasks` and `attempts`, with times in whole milliseconds as well."""
    with tempfile.TemporaryDirectory() as spill, connected(Path(spill)) as connection:
        for name, columns in {"tasks": TASK_COLUMNS, "attempts": ATTEMPT_COLUMNS}.items():
            path = tables / f"{name}.parquet"
            if not path.is_file():
                raise BadInput(f"There is no {path}.", "Make it of an export with notebooks/41_export.ipynb.")
            relation = connection.read_parquet(literal(path))
            relation.project(f"*, {queries.in_ms(columns)}").create_view(name)
        yield connection


def _groups(connection: duckdb.DuckDBPyConnection, by: str | None) -> pd.DataFrame:
    found = connection.execute(queries.text("groups", key=_key(by))).df()
    if by is None and found.empty:
        found = pd.DataFrame([("all", 0, 0, 0)], columns=found.columns)
    return found.astype({"label": "str"} | dict.fromkeys(["n", "n_final", "n_dead_lettered"], "int64"))


def _key(by: str | None) -> str:
    """Return the expression that the tasks are grouped by."""
    require_group(by)
    return by or "'all'"


def _interpolated(found: pd.DataFrame, share: float) -> pd.Series[float]:
    """Give the percentile between two order statistics, in seconds."""
    below, above = found["below_ms"] / 1000, found["above_ms"] / 1000
    result: pd.Series[float] = below + (above - below) * ((found["n"] - 1) * share % 1)
    return result.astype("float64")
