"""The price table: dated, with a source for each row, meant to be edited, and read strictly: a wrong row is money.

`prices.csv` beside this file holds list prices of one region before free tiers. A table of one's own has the same rows.
"""

import csv
import math
from datetime import date
from pathlib import Path

import pandas as pd

from taskq_lib.errors import BadInput, did_you_mean

#: The table that is used where none is named.
TABLE = Path(__file__).with_name("prices.csv")
COLUMNS = ("item", "unit", "usd", "per", "as_of", "region", "source", "grade")
#: What each item is counted in; a table in other units would be read wrongly by a factor of a million.
UNITS = {
    "sqs_standard_request": "request",
    "sqs_fifo_request": "request",
    "sqs_fair_request": "request",
    "lambda_request": "request",
    "lambda_x86_64": "GB-s",
    "lambda_arm64": "GB-s",
    "lambda_poller": "unit-hour",
    "dynamodb_write_unit": "unit",
    "dynamodb_read_unit": "unit",
    "dynamodb_storage": "GB-month",
    "dynamodb_recovery": "GB-month",
    "logs_ingest": "GB",
    "logs_storage": "GB-month",
    "cloudwatch_metric": "metric-month",
    "cloudwatch_alarm": "alarm-month",
    "cloudwatch_dashboard": "dashboard-month",
}
#: A: AWS's own text. B: a third party that cites AWS. D: derived. M: from memory, not confirmed.
GRADES = ("A", "B", "D", "M")


def read(path: str | Path = "") -> pd.DataFrame:
    """Read a price table, ours where `path` is empty; one row an item, in the order of `UNITS`.

    Columns: `item`, `unit`, `as_of` (ISO date), `region`, `source`, `grade` (str), `usd` and `per` (float64): `usd` US
    dollars are the price of `per` units. Raises `BadInput`, one sentence that names the file and the row, for a file
    that cannot be read, a row that is missing, twice, unknown or of another unit or region than it must be, a price
    that is no number of 0 or more, or a date that is none.
    """
    file = Path(path or TABLE)
    found: dict[str, dict[str, object]] = {}
    for line, row in _rows(file):
        item = row["item"]
        if item in found:
            raise _wrong(file, line, f"item {item!r} stands here a second time", "Remove one of the two rows.")
        found[item] = _checked(file, line, row)
    if missing := [item for item in UNITS if item not in found]:
        raise BadInput(
            f"Price table {file} has no row {missing[0]!r}{_more(missing)}; every item needs one.",
            f"Copy the row from {TABLE} and set its price, 0 where you do not pay for it.",
        )
    if len(regions := sorted({str(row["region"]) for row in found.values()})) > 1:
        raise BadInput(
            f"Price table {file} mixes the regions {regions[0]!r} and {regions[1]!r}; one table is one region.",
            "Give all rows the prices and the name of one region.",
        )
    table = pd.DataFrame([found[item] for item in UNITS], columns=list(COLUMNS))
    return table.astype({name: "float64" if name in {"usd", "per"} else "str" for name in COLUMNS})


def per_unit(table: pd.DataFrame) -> "pd.Series[float]":
    """Return the price of one unit of each item, US dollars, by item."""
    return (table["usd"] / table["per"]).set_axis(pd.Index(table["item"]))


def _rows(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows with the number of their line; empty lines are passed over."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            lines = csv.reader(stream, strict=True)
            rows = [(lines.line_num, [field.strip() for field in row]) for row in lines if any(row)]
    except OSError as error:
        hint = f"Name a file that is there, or leave price_table empty for {TABLE}."
        raise BadInput(f"Price table {file} cannot be read: {error.strerror}.", hint) from error
    except (csv.Error, UnicodeDecodeError, ValueError) as error:
        hint = f"Save it as comma-separated UTF-8 text, as {TABLE} is."
        raise BadInput(f"Price table {file} is not a CSV file: {error}.", hint) from error
    if not rows or tuple(rows[0][1]) != COLUMNS:
        hint = f"Start from a copy of {TABLE}."
        raise BadInput(f"Price table {file} does not begin with the row {','.join(COLUMNS)}.", hint)
    for line, row in rows[1:]:
        if len(row) != len(COLUMNS):
            what = f"it has {len(row)} fields instead of {len(COLUMNS)}"
            raise _wrong(file, line, what, "Give each column a value, and put text with a comma in quotes.")
    return [(line, dict(zip(COLUMNS, row, strict=True))) for line, row in rows[1:]]


def _checked(file: Path, line: int, row: dict[str, str]) -> dict[str, object]:
    item = row["item"]
    if item not in UNITS:
        hint = f"{did_you_mean(item, UNITS)}There are {', '.join(UNITS)}."
        raise _wrong(file, line, f"there is no item {item[:60]!r}", hint)
    if row["unit"] != UNITS[item]:
        what = f"{item} is counted in {UNITS[item]} and not in {row['unit'][:60]!r}"
        raise _wrong(file, line, what, f"Give its price for so many {UNITS[item]} as `per` says.")
    usd, per = (_number(row[name]) for name in ("usd", "per"))
    if usd is None or usd < 0:
        what = f"usd of {item} is {row['usd'][:60]!r}, and a price is a number of 0 or more"
        raise _wrong(file, line, what, "Write it in US dollars, such as 0.40.")
    if per is None or per <= 0:
        what = f"per of {item} is {row['per'][:60]!r}, and must be a number above 0"
        raise _wrong(file, line, what, f"Write for how many {UNITS[item]} the price is, such as 1000000.")
    if not _is_date(row["as_of"]):
        what = f"as_of of {item} is {row['as_of'][:60]!r}, which is no date"
        raise _wrong(file, line, what, "Write the day on which the price was looked up, such as 2026-11-24.")
    if row["grade"] not in GRADES:
        what = f"grade of {item} is {row['grade'][:60]!r}"
        raise _wrong(file, line, what, f"Allowed are {', '.join(GRADES)}; M is a price from memory.")
    if empty := [name for name in ("region", "source") if not row[name]]:
        raise _wrong(file, line, f"{empty[0]} of {item} is empty", "Say where the price holds, and who says so.")
    return {**row, "usd": usd, "per": per}


def _number(text: str) -> float | None:
    """Read a plain decimal number; None for what is none (`1_000`, `nan` and `inf` are none either)."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _wrong(file: Path, line: int, what: str, hint: str) -> BadInput:
    return BadInput(f"Price table {file}, line {line}: {what}.", hint)


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
