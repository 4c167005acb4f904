"""The queries over an export, and what DuckDB and Athena do not have in common."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template
from typing import Any

from taskq_lib.analysis import NOT_STATED
from taskq_lib.aws.frames import ATTEMPT_COLUMNS, TASK_COLUMNS, TIME
from taskq_worker.contract import WORKER_LOST, Outcome, breaker_key

#: Attribute -> dtype of its column, which says how DynamoDB writes it.
ITEM: dict[str, Any] = {attribute: dtype for attribute, dtype in TASK_COLUMNS.values() if attribute}
ITEM |= {"status": "str", "deadLettered": "boolean", "redrives": "Int32", "startedAt": TIME}
ENTRY: dict[str, Any] = {key: dtype for key, dtype in ATTEMPT_COLUMNS.values() if key} | {"redrive": "Int32"}

#: How an anonymous function of one log entry begins.
_LAMBDA = {"duckdb": "lambda one:", "athena": "one ->"}
#: A row an entry of an attempt log: Athena makes a column of each field of what it unnests, and the one field is M.
_ENTRIES = {
    "duckdb": """
        SELECT Item, UNNEST([one.M FOR one IN Item.attemptLog.L]) AS entry,
               GENERATE_SUBSCRIPTS(Item.attemptLog.L, 1) AS i
        FROM export""",
    "athena": """
        SELECT Item, entry, i
        FROM export CROSS JOIN UNNEST(Item.attemptLog.L) WITH ORDINALITY AS log (entry, i)""",
}
#: Names of Athena's that DuckDB lacks.
MACROS = "CREATE OR REPLACE MACRO element_at(list, place) AS list[place]"
_SQL_TYPES = {"Int8": "TINYINT", "Int32": "INTEGER"}
_ATHENA_TYPES = {"S": "string", "N": "string", "BOOL": "boolean"}
#: Later than any time that a task has; what lies beyond goes the slow way.
_LAST_S = 253_402_300_799


def text(name: str, dialect: str = "duckdb", **given: str) -> str:
    """Return a query of `sql/` in a dialect, "duckdb" or "athena", with what it leaves open filled in."""
    template = Template((Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8"))
    lost = {"lost_type": WORKER_LOST[0], "lost_error": WORKER_LOST[1]}
    return template.substitute({"one": _LAMBDA[dialect], "not_stated": NOT_STATED} | lost | given)


def entries(dialect: str = "duckdb") -> str:
    """Return the query of the attempt logs' entries, which `attempts` builds on."""
    return _ENTRIES[dialect].strip()


def structure() -> str:
    """Return the JSON text of what DuckDB is to take out of a line of an export."""
    types = {"S": "VARCHAR", "N": "VARCHAR", "BOOL": "BOOLEAN"}
    item = {name: {_kind(dtype): types[_kind(dtype)]} for name, dtype in ITEM.items()}
    entry = {name: {_kind(dtype): types[_kind(dtype)]} for name, dtype in ENTRY.items()}
    return json.dumps({"Item": item | {"attemptLog": {"L": [{"M": entry}]}}})


def is_odd() -> str:
    """Return the condition that an item, `Item`, is not as the function writes them: SQL would lose of it.

    An attribute of another type, a number that its column does not hold, an attempt log that is not in order.
    """
    marks = "[COALESCE(TRY_CAST(one.M.redrive.N AS INTEGER), 0) FOR one IN Item.attemptLog.L]"
    outcomes = ", ".join(f"'{outcome}'" for outcome in Outcome)
    entry = [_is_odd(f"entry.M.{name}", dtype) for name, dtype in ENTRY.items()]
    entry += ["entry.M IS NULL", f"COALESCE(entry.M.outcome.S NOT IN ({outcomes}), TRUE)"]
    conditions = [
        *(_is_odd(f"Item.{name}", dtype) for name, dtype in ITEM.items()),
        "(Item.attemptLog IS NOT NULL AND Item.attemptLog.L IS NULL)",
        f"LEN(FILTER(Item.attemptLog.L, lambda entry: {' OR '.join(entry)})) > 0",
        f"{marks} <> LIST_SORT({marks})",
        "(LEN(Item.attemptLog.L) > 0 AND (Item.attempts IS NULL OR Item.status IS NULL))",
    ]
    return f"(Item.taskId.S NOT LIKE '{breaker_key('')}%' AND COALESCE({' OR '.join(conditions)}, FALSE))"


def at_the_edge(columns: dict[str, tuple[str | None, Any]]) -> str:
    """Return what selects the columns of a frame from a query whose times are whole milliseconds."""
    return ", ".join(
        f"MAKE_TIMESTAMPTZ(1000 * {ms(name)}) AS {name}" if dtype == TIME else name
        for name, (_attribute, dtype) in columns.items()
    )


def in_ms(columns: dict[str, tuple[str | None, Any]]) -> str:
    """Return what selects the times of a frame's columns as whole milliseconds: the way back."""
    return ", ".join(
        f"EPOCH_MS({name}) AS {ms(name)}" for name, (_attribute, dtype) in columns.items() if dtype == TIME
    )


def ms(name: str) -> str:
    """Return what a column of times is called in the queries: `enqueued_at` is `enqueued_ms`."""
    return f"{name.removesuffix('_at')}_ms"


def athena(location: str) -> str:
    """Return the statements by which Athena answers what `summaries` does, of the data files at `location`.

    The table `export` over the files as they are, the views `entries`, `tasks`, `attempts` and `events`, and the
    queries; one a statement, since Athena takes one at a time.
    """
    entry = ",".join(f"{name}:{_struct(dtype)}" for name, dtype in ENTRY.items())
    item = [f"{name}:{_struct(dtype)}" for name, dtype in ITEM.items()]
    item.append(f"attemptLog:struct<L:array<struct<M:struct<{entry}>>>>")
    table = (
        f"CREATE EXTERNAL TABLE export (\n  Item struct<\n    {(',' + chr(10) + '    ').join(item)}>\n)\n"
        f"ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'\nLOCATION '{location.replace(chr(39), 2 * chr(39))}'"
    )
    views = {name: text(name, "athena") for name in ("tasks", "attempts", "events")}
    made = [
        f"CREATE OR REPLACE VIEW {name} AS\n{query}" for name, query in ({"entries": entries("athena")} | views).items()
    ]
    asked = {"key": "task_type", "shares": "(CAST(0.5 AS DOUBLE)), (CAST(0.9 AS DOUBLE)), (CAST(0.99 AS DOUBLE))"}
    made += [text(name, "athena", **asked) for name in ("states", "groups", "percentiles", "outcomes")]
    return ";\n\n".join([table, *(one.strip() for one in made)]) + ";\n"


def _kind(dtype: Any) -> str:
    """Return the type that DynamoDB gives to the values of a column."""
    return "S" if dtype in ("str", "category") else "BOOL" if dtype == "boolean" else "N"


def _struct(dtype: Any) -> str:
    return f"struct<{_kind(dtype)}:{_ATHENA_TYPES[_kind(dtype)]}>"


def _is_odd(path: str, dtype: Any) -> str:
    """Return the condition that an attribute is there, and of another type or range than its column."""
    value = f"{path}.{_kind(dtype)}"
    if dtype == TIME:
        wrong = f"COALESCE(TRY_CAST({value} AS DOUBLE) NOT BETWEEN 0 AND {_LAST_S}, TRUE)"
    elif _kind(dtype) == "N":
        wrong = f"COALESCE(TRY_CAST({value} AS DOUBLE) <> TRY_CAST({value} AS {_SQL_TYPES[dtype]}), TRUE)"
    else:
        wrong = f"{value} IS NULL"
    return f"({path} IS NOT NULL AND {wrong})"
