"""What an export says of itself, and whether all of it is there: files, numbers of items, checksums."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskq_lib import PROJECT_ROOT
from taskq_lib.errors import BadInput

_FETCH = "Fetch one with `aws s3 sync s3://BUCKET/PREFIX/AWSDynamoDB/EXPORT_ID FOLDER`, and name that folder."
SUMMARY, FILES = "manifest-summary.json", "manifest-files.json"


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """One file of items, as the manifest lists it."""

    path: Path
    n_items: int
    md5: str  #: In base64


@dataclass(frozen=True, kw_only=True)
class Export:
    """A full export in DynamoDB JSON, all of whose files are there."""

    folder: Path  #: Holds the manifests and `data/`
    n_items: int
    exported_at: str  #: The instant of the table that it holds, ISO 8601
    table_arn: str
    location: str  #: Of its data files, s3://...
    files: tuple[DataFile, ...]

    def facts(self) -> dict[str, object]:
        """Return what it is, for a reader."""
        size = sum(one.path.stat().st_size for one in self.files)
        files = f"{len(self.files):,}, {size / 1e6:,.0f} MB compressed"
        return {"table": self.table_arn, "as it was at": self.exported_at, "items": self.n_items, "files": files}


def read(folder: Path | str) -> Export:
    """Read the manifests of the export in `folder`, or in the one folder below it that holds one.

    A relative `folder` lies in the project. Raises `BadInput`, naming the file, where one is missing, listed twice, or
    there without being listed, and for what is no full export in DynamoDB JSON.
    """
    if not str(folder):
        raise BadInput("No export is named.", _FETCH)
    folder = _find(PROJECT_ROOT / folder)
    summary = _document(folder / SUMMARY)
    _refuse_others(folder, summary)
    lines = _text(folder / FILES).splitlines()
    files = tuple(_file(folder, _parsed(folder / FILES, line)) for line in lines if line.strip())
    bucket, key = summary.get("s3Bucket", "BUCKET"), str(summary.get("manifestFilesS3Key", FILES))
    place = f"s3://{bucket}/{key.removesuffix(FILES)}"
    hint = f"Fetch it again, `aws s3 sync {place} {folder}`; nothing was converted."
    _refuse_doubled(folder, files, hint)
    n_items, n_said = sum(one.n_items for one in files), summary.get("itemCount")
    if n_items != n_said:
        what = f"{FILES} lists {n_items} items and {SUMMARY} {n_said}: one of the two in {folder} is not whole."
        raise BadInput(what, hint)
    at, arn = str(summary.get("exportTime", "")), str(summary.get("tableArn", ""))
    return Export(folder=folder, n_items=n_items, exported_at=at, table_arn=arn, location=f"{place}data/", files=files)


def verify(file: DataFile) -> None:
    """Raise `BadInput`, naming the file, unless its MD5 is the one that the manifest has."""
    with file.path.open("rb") as content:
        found = base64.b64encode(hashlib.file_digest(content, "md5").digest()).decode()
    if found != file.md5:
        raise BadInput(
            f"{file.path} is not what DynamoDB wrote (MD5 {found}, {file.md5} in {FILES}): cut off, or changed since.",
            "Delete it and run the same `aws s3 sync` again; nothing was converted.",
        )


def _find(folder: Path) -> Path:
    """Return the one folder with a summary."""
    found = [path.parent for path in sorted(folder.rglob(SUMMARY))]
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadInput(
            f"There is no export in {folder}: no {SUMMARY} in it or below.",
            _FETCH,
        )
    raise BadInput(f"There are {len(found)} exports in {folder}.", f"Name one of them, such as {found[0]}.")


def _refuse_others(folder: Path, summary: Mapping[str, Any]) -> None:
    if summary.get("exportType") == "INCREMENTAL_EXPORT" or "exportFromTime" in summary:
        raise BadInput(
            f"{folder} is an incremental export: it has what changed in a time, not every task.",
            "Request a full one: `aws dynamodb export-table-to-point-in-time --export-type FULL_EXPORT ...`.",
        )
    if summary.get("outputFormat") != "DYNAMODB_JSON":
        raise BadInput(
            f"{folder} is an export in the format {summary.get('outputFormat')}; only DYNAMODB_JSON can be read.",
            "Request it once more with `--export-format DYNAMODB_JSON`.",
        )


def _file(folder: Path, line: Mapping[str, Any]) -> DataFile:
    try:
        path = folder / "data" / Path(str(line["dataFileS3Key"])).name
        return DataFile(path=path, n_items=int(line["itemCount"]), md5=str(line["md5Checksum"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"A line of {folder / FILES} lacks dataFileS3Key, itemCount or md5Checksum.", "Fetch it again."
        ) from error


def _refuse_doubled(folder: Path, files: tuple[DataFile, ...], hint: str) -> None:
    """Hold the list and the folder against each other."""
    seen: dict[str, Path] = {}
    for one in files:
        # Equal content under two names is the same items twice; only files without items may be equal.
        for key in {str(one.path), one.md5 if one.n_items else str(one.path)}:
            if key in seen:
                raise BadInput(f"{one.path} has the items of {seen[key]} once more: {FILES} lists both.", hint)
            seen[key] = one.path
        if not one.path.is_file():
            raise BadInput(f"{one.path} is missing.", hint)
    strangers = sorted(set((folder / "data").glob("*")) - {one.path for one in files})
    if strangers:
        raise BadInput(
            f"{strangers[0]} is not in {FILES}: {len(strangers):,} of the files do not belong to this export.",
            "Move what is not the export's out of its folder, or fetch it into an empty one.",
        )


def _document(path: Path) -> Mapping[str, Any]:
    return _parsed(path, _text(path))


def _text(path: Path) -> str:
    if not path.is_file():
        raise BadInput(f"{path} is missing.", "Fetch the whole export, with its manifests; nothing was converted.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text: {error}.", "Fetch it again; nothing was converted.") from error


def _parsed(path: Path, text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{path} is cut off or no JSON: {error}.", "Fetch it again; nothing was converted.") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path} holds no JSON objects.", "Fetch it again; nothing was converted.")
    return found
