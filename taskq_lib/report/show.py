"""How notebooks show things: tables that escape what they hold, figures with a text for who cannot see them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, display
from markupsafe import escape
from matplotlib.axes import Axes
from pandas.api import types

from taskq_lib import plots
from taskq_lib.report.rendering import environment
from taskq_lib.report.runs import Run, plain

_MAX_CHARS = 300


def table(frame: pd.DataFrame, max_rows: int = 20) -> HTML:
    """Return a frame as an HTML table: text escaped, numbers right-aligned, cut rows counted."""
    shown = frame.head(max_rows)
    numeric = {
        name for name in frame.columns if types.is_numeric_dtype(frame[name]) and not types.is_bool_dtype(frame[name])
    }
    rows = [list(zip(frame.columns, map(text, row), strict=True)) for row in shown.itertuples(index=False, name=None)]
    rendered = (
        environment()
        .get_template("table.html.j2")
        .render(names=frame.columns, numeric=numeric, rows=rows, n_more=len(frame) - len(shown))
    )
    return HTML(rendered)  # type: ignore[no-untyped-call]


def facts(values: Mapping[str, Any]) -> HTML:
    """Return names and values as a table of two columns."""
    return table(
        pd.DataFrame({"name": list(values), "value": [text(value) for value in values.values()]}, dtype="str"), 100
    )


def figure(axes: Axes) -> None:
    """Display the figure of `axes` with a text for who cannot see it, and close it."""
    alternative = {"image/png": {"alt": " ".join(plots.describe(one) for one in axes.figure.axes)}}
    display(axes.figure, metadata=alternative)  # type: ignore[no-untyped-call]
    plt.close(axes.figure)  # type: ignore[arg-type]


def record(run: Run | None, **sections: Any) -> None:
    """Display a machine-readable record and, within a run, keep it in `results.json`."""
    readable = {name: plain(value) if isinstance(value, Mapping) else value for name, value in sections.items()}
    if run is not None:
        run.record(**readable)
    written = json.dumps(readable, indent=2)
    shown = f"<details><summary>Record</summary><pre>{escape(written)}</pre></details>"
    display({"text/html": shown, "text/plain": written, "application/json": readable}, raw=True)  # type: ignore[no-untyped-call]


def text(value: Any) -> str:
    """Write one value for people: numbers with separators and four digits, truths as words, what is missing as ""."""
    # Masked columns hand out numpy's scalars.
    value = value.item() if isinstance(value, np.generic) else value
    match value:
        case bool():
            written = "yes" if value else "no"
        case list() | dict():
            written = str(value)
        case _ if pd.isna(value):
            written = ""
        case float():
            written = f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
        case int():
            written = f"{value:,}"
        case pd.Timestamp():
            written = f"{value:%Y-%m-%d %H:%M:%S}"
        case _:
            written = str(value)
    return written if len(written) <= _MAX_CHARS else f"{written[:_MAX_CHARS]}... [cut, {len(written):,} characters]"
