"""Exports of the status table for tests: items written as DynamoDB writes them, into files and manifests."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.generate_export import write_manifests
from taskq_worker.attributes import to_attribute


def export_of(folder: Path, *files: Sequence[Mapping[str, Any]]) -> Path:
    """Write an export of these items, as the API has them, one file for each sequence; returns its folder."""
    export = folder / "AWSDynamoDB" / "01795500000000-0a1b2c3d"
    (export / "data").mkdir(parents=True)
    names = []
    for number, items in enumerate(files):
        text = "".join(json.dumps({"Item": item}) + "\n" for item in items)
        (export / "data" / f"{number}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=number))
        names.append((f"{number}.json.gz", len(items)))
    write_manifests(export, names)
    return export


def written(item: Mapping[str, Any]) -> dict[str, Any]:
    """Write an item of plain values as the API has it."""
    return {name: to_attribute(value) for name, value in item.items()}


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort a frame by all that it holds, since no order is promised."""
    as_text = frame.astype("object").map(lambda value: "" if pd.isna(value) else str(value))
    return frame.loc[as_text.sort_values(list(frame.columns), kind="stable").index].reset_index(drop=True)
