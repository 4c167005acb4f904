"""Figures read as people write them, and whatever is none reads as a dash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib.report import words

ODD: list[object] = [None, "x", True, [], {}]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0 s"),
        (0.0004, "0.4 ms"),
        (0.0042, "4.2 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (12.34, "12.3 s"),
        (999.4, "999 s"),
        (999.6, "1,000 s"),
        (86_400, "86,400 s"),
        (-0.5, "-500 ms"),
        (-3600.0, "-3,600 s"),
        *((one, "-") for one in ODD),
    ],
)
def test_a_duration_has_three_digits_and_a_unit(value: object, written: str) -> None:
    """Below a second in milliseconds, above in seconds; never in powers of ten."""
    assert words.seconds(value) == written


@given(value=st.floats(-1e6, 1e6))
def test_a_duration_reads_as_what_it_is(value: float) -> None:
    """Read back, a duration is within its three digits of what it was, however small or large."""
    number, unit = words.seconds(value).replace(",", "").split()
    read = float(number) / (1000 if unit == "ms" else 1)
    assert read == pytest.approx(value, rel=0.0051, abs=1e-300)


@pytest.mark.parametrize(
    ("value", "unit", "written", "changed"),
    [
        (1.5, "s", "1.5 s", "+150 %"),
        (0.01, "share", "1.00%", "+1 points"),
        (-0.0512, "1/s", "-0.0512 /s", "-5.12 %"),
        (12.0, "", "12", "+1,200 %"),
        (None, "s", "-", "-"),
        (None, "", "-", "-"),
    ],
)
def test_a_figure_has_its_unit(value: object, unit: str, written: str, changed: str) -> None:
    """A compared figure is written by its unit, and a difference in per cent, of a share in points."""
    assert (words.figure(value, unit), words.change(value, unit)) == (written, changed)


@pytest.mark.parametrize("value", [*ODD, [1], [1, None], "ab"])
def test_what_is_no_interval_is_nothing(value: object) -> None:
    """An interval has two numbers, or is left out."""
    assert words.between(value) == ""
    assert words.between([0.1, 2.0]) == "100 ms to 2 s"
