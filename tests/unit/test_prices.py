"""A price table is read strictly: what is wrong with it is one sentence that names the file, the row and what to do."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskq_lib.analysis import prices
from taskq_lib.errors import BadInput

TEXT = prices.TABLE.read_text(encoding="utf-8")
ROWS = list(csv.reader(io.StringIO(TEXT)))


def written(rows: list[list[str]], folder: Path) -> Path:
    """Write rows as a table; returns its path."""
    path = folder / "own.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


def changed(item: str, /, **values: str) -> list[list[str]]:
    """Return our table with values of one row changed."""
    found = [list(row) for row in ROWS]
    row = next(row for row in found if row[0] == item)
    for name, value in values.items():
        row[prices.COLUMNS.index(name)] = value
    return found


def refusal(rows: list[list[str]], folder: Path) -> BadInput:
    """Return why a table is refused."""
    with pytest.raises(BadInput) as refused:
        prices.read(written(rows, folder))
    return refused.value


def test_our_table_is_in_order() -> None:
    """Every item has a price, a date, a region and a source; a price from memory says so."""
    table = prices.read()
    assert table["item"].tolist() == list(prices.UNITS)
    assert set(table["region"]) == {"us-east-1"}
    assert table["source"].str.len().min() >= 5
    assert (table["source"].str.contains("from memory") == table["grade"].eq("M")).all()
    assert prices.per_unit(table)["sqs_standard_request"] == pytest.approx(0.4e-6)
    assert prices.per_unit(table)["lambda_x86_64"] == pytest.approx(1.66667e-5)
    assert {str(dtype) for dtype in table.dtypes} == {"str", "float64"}


def test_a_table_of_ones_own_is_read(tmp_path: Path) -> None:
    """Changed prices hold, in any order of the rows, with empty lines, a byte order mark and spaces around values."""
    rows = changed("sqs_standard_request", usd=" 0.42 ", region="us-east-1")
    path = written([rows[0], [], *reversed(rows[1:])], tmp_path)
    path.write_text("\ufeff" + path.read_text())
    table = prices.read(str(path))
    assert table["item"].tolist() == list(prices.UNITS)
    assert prices.per_unit(table)["sqs_standard_request"] == pytest.approx(0.42e-6)


def test_a_missing_row_is_named(tmp_path: Path) -> None:
    """A table without a row names the file, the row, and where to copy it from."""
    error = refusal([row for row in ROWS if row[0] != "lambda_arm64"], tmp_path)
    assert error.args[0] == f"Price table {tmp_path / 'own.csv'} has no row 'lambda_arm64'; every item needs one."
    assert str(prices.TABLE) in error.hint
    assert "(and 15 more)" in refusal(ROWS[:1], tmp_path).args[0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"usd": "cheap"}, r"usd of lambda_request is 'cheap', and a price is a number of 0 or more"),
        ({"usd": "-0.2"}, r"usd of lambda_request is '-0.2', and a price is a number of 0 or more"),
        ({"usd": "nan"}, r"usd of lambda_request is 'nan'"),
        ({"usd": "1e999"}, r"usd of lambda_request is '1e999'"),
        ({"usd": "0_2"}, r"usd of lambda_request is '0_2'"),
        ({"usd": ""}, r"usd of lambda_request is ''"),
        ({"per": "0"}, r"per of lambda_request is '0', and must be a number above 0"),
        ({"per": "a million"}, r"per of lambda_request is 'a million'"),
        ({"as_of": "24.11.2026"}, r"as_of of lambda_request is '24.11.2026', which is no date"),
        ({"as_of": "2026-02-30"}, r"as_of of lambda_request is '2026-02-30', which is no date"),
        ({"as_of": "20261124"}, r"as_of of lambda_request is '20261124', which is no date"),
        ({"grade": "Z"}, r"grade of lambda_request is 'Z'"),
        ({"source": " "}, r"source of lambda_request is empty"),
        ({"unit": "thousand"}, r"lambda_request is counted in request and not in 'thousand'"),
        ({"item": "lambda_requests"}, r"there is no item 'lambda_requests'"),
        ({"item": "lambda_x86_64", "unit": "GB-s"}, r"item 'lambda_x86_64' stands here a second time"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(values: dict[str, str], said: str, tmp_path: Path) -> None:
    """A value that cannot be meant is refused with the file, the line, the value, and what is allowed."""
    error = refusal(changed("lambda_request", **values), tmp_path)
    n_line = 1 + next(i for i, row in enumerate(ROWS) if row[0] == "lambda_request")
    n_line += "second time" in said
    assert error.args[0].startswith(f"Price table {tmp_path / 'own.csv'}, line {n_line}: {said}")
    assert "\n" not in error.args[0]
    assert error.hint


def test_a_table_is_of_one_region(tmp_path: Path) -> None:
    """Prices of two regions in one table are refused."""
    error = refusal(changed("lambda_request", region="eu-central-1"), tmp_path)
    assert "mixes the regions 'eu-central-1' and 'us-east-1'" in error.args[0]


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    """A file that is not there, a folder, bytes, other columns or a row too short are refused as such."""
    for path, said in ((tmp_path / "none.csv", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(BadInput, match=f"cannot be read: {said}"):
            prices.read(path)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="is not a CSV file"):
        prices.read(tmp_path / "bytes.csv")
    assert "does not begin with the row item,unit," in refusal([["item", "usd"]], tmp_path).args[0]
    assert "line 2: it has 2 fields instead of 8" in refusal([ROWS[0], ["lambda_request", "0.2"]], tmp_path).args[0]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    row=st.integers(0, len(ROWS) - 1),
    column=st.integers(0, len(prices.COLUMNS) - 1),
    value=st.one_of(
        st.text(max_size=30), st.floats().map(str), st.dates().map(str), st.sampled_from(list(prices.UNITS))
    ),
)
def test_any_value_in_any_place_is_read_or_refused(row: int, column: int, value: str, tmp_path: Path) -> None:
    """Whatever stands in a field, the table is read with prices of 0 or more, or refused by one sentence."""
    rows = [list(one) for one in ROWS]
    rows[row][column] = value
    path = written([], tmp_path)
    with path.open("w", encoding="utf-8", errors="replace", newline="") as stream:
        csv.writer(stream).writerows(rows)
    said, table = "", None
    try:
        table = prices.read(path)
    except BadInput as error:
        said = error.args[0]
    if table is None:
        assert str(path) in said
        assert len(said.splitlines()) == 1
    else:
        assert len(table) == len(prices.UNITS)
        assert (prices.per_unit(table) >= 0).all()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_file_is_refused(content: bytes, tmp_path: Path) -> None:
    """Bytes that are no table never get further than one sentence."""
    path = tmp_path / "any.csv"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="Price table") as refused:
        prices.read(path)
    assert len(refused.value.args[0].splitlines()) == 1
