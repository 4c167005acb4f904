"""What of a run SQS has acknowledged: a journal while it is sent, which a kill cannot undo, then one frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import msgspec
import pandas as pd

from taskq_lib.aws import routing
from taskq_lib.aws.stack import Stack
from taskq_lib.errors import RunExists, RunNotFound

#: Beside the manifest: one line a request while it is sent, then one frame.
JOURNAL, RECORD = "sends.jsonl", "sends.parquet"
N_ROWS_AT_A_TIME = 10_000
Row = tuple[str, str, float, int]  #: As `COLUMNS`, the time in Unix seconds
COLUMNS = {"task_id": "str", "message_id": "str", "enqueued_at": "datetime64[us, UTC]", "n_tries": "Int32"}


def sent(stack: Stack, manifest: Path) -> pd.DataFrame:
    """Return what is acknowledged so far, one row a message as `send` returns it.

    None where the stack was made anew since: its queue has none of these messages, and the old one's are gone with it.
    Where only the second queue was made anew or removed, what was sent to that one is left out.
    Raises `RunExists` where they were sent to a stack of another name, region, account or target.
    """
    found, here = _kept(manifest), origin_of(stack)
    origin = found.attrs.get("origin") or here
    if origin["stack"] != here["stack"]:
        raise RunExists(
            f"Run {manifest.parent.name!r} was submitted to {origin['stack']}; this is {here['stack']}.",
            "Name that one to go on with the run, or choose another run id.",
        )
    if origin["mapping"] != here["mapping"]:
        found = found.head(0)
    elif origin.get("second", "") not in {"", here["second"]}:
        found = found[~found["task_id"].isin(_of_second(manifest, origin["takes"]))].reset_index(drop=True)
    found.attrs["origin"] = here
    return found


def _of_second(manifest: Path, takes: str) -> list[str]:
    """Return the ids of the manifest's tasks that a second queue with this rule took."""
    tasks = pd.read_parquet(manifest, columns=["task_id", "task_type", "priority"])
    rows = zip(*(tasks[name].tolist() for name in tasks), strict=True)
    return [task_id for task_id, kind, priority in rows if routing.holds(takes, kind, priority)]


def refuse_gone(stack: Stack, manifest: Path) -> None:
    """Raise `RunNotFound` where the stack's status table is not the one that the run was submitted to, or made anew.

    Other queues on the same table, as after a change to FIFO, know of the run. A run of an earlier version of this kit
    does not name its table; where the stack's mapping is another one, it is refused.
    Raises `RunExists` as `sent` does. Reading such a run would find all of its tasks lost.
    """
    found = _kept(manifest)
    if not len(found):
        return
    known, origin = not sent(stack, manifest).empty, found.attrs.get("origin") or {}
    if "table" in origin:
        is_same = origin["table"] == stack.table
        known = is_same and (known or not _is_made_since(stack, found["enqueued_at"].min()))
    if not known:
        raise RunNotFound(
            f"Run {manifest.parent.name!r} was submitted to a stack that is gone; {stack.name!r} was made anew since.",
            "40_latency and 50_failures show what was read of it before. To redrive or look again, the engine has to "
            "stay: `taskq local start` before the report.",
        )


def _is_made_since(stack: Stack, first_at: pd.Timestamp) -> bool:
    # The engine makes a table's name of the stack's, so a new table can have the name of one that is gone.
    table = stack.target.client("dynamodb").describe_table(TableName=stack.table)["Table"]
    return bool(pd.Timestamp(table["CreationDateTime"]) > first_at)


def begin(journal: Path, earlier: pd.DataFrame) -> IO[bytes]:
    """Return the journal to append to; it is written anew, without a torn line and without messages that are gone."""

    def write(partial: Path) -> None:
        with partial.open("wb") as out:
            out.write(line(earlier.attrs["origin"]))
            for first in range(0, len(earlier), N_ROWS_AT_A_TIME):
                part = earlier.iloc[first : first + N_ROWS_AT_A_TIME]
                rows = zip(*(part[name].tolist() for name in COLUMNS), strict=True)
                out.write(line([(id_, message_id, at.timestamp(), n_tries) for id_, message_id, at, n_tries in rows]))

    _whole(journal, write)
    return journal.open("ab")


def end(journal: Path) -> pd.DataFrame:
    """Keep what the journal has as a frame beside it, and return that; the journal stays."""
    found = read(journal)
    _whole(journal.with_name(RECORD), found.to_parquet)
    return found


def read(journal: Path) -> pd.DataFrame:
    """Read the journal; what follows its last newline is a line that a kill has torn, and no line of it."""
    with journal.open("rb") as lines:
        whole = (msgspec.json.decode(entry) for entry in lines if entry.endswith(b"\n"))
        origin = next(whole, None)
        rows = chain.from_iterable(whole)
        # Some at a time: as Python objects all of them would take several times the frame's memory.
        parts = [frame(part) for part in iter(lambda: list(islice(rows, N_ROWS_AT_A_TIME)), [])]
    found = pd.concat(parts, ignore_index=True) if parts else frame([])
    found.attrs["origin"] = origin
    return found


def _kept(manifest: Path) -> pd.DataFrame:
    """Return what the run's folder says; the journal is there from the first message until the record is whole."""
    journal, record = manifest.with_name(JOURNAL), manifest.with_name(RECORD)
    return read(journal) if journal.exists() else pd.read_parquet(record) if record.exists() else frame([])


def line(entry: object) -> bytes:
    """Return a line of the journal: where the messages go (the first), or the rows of one request."""
    return msgspec.json.encode(entry) + b"\n"


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Return one row a message, with the columns of `COLUMNS`."""
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    # Through whole milliseconds, as the body has them: seconds as floats are cut to the microsecond below.
    found["enqueued_at"] = pd.to_datetime((found["enqueued_at"] * 1000).round().astype("int64"), unit="ms", utc=True)
    return found.astype(COLUMNS)


def origin_of(stack: Stack) -> dict[str, str]:
    """Return whom messages are sent to: which stack, its status table, and its mappings.

    The ids of mappings are new each time one is made. `second` and `takes`, the mapping and the rule of the second
    queue, are empty where there is none.
    """
    account = urlsplit(stack.queue_url).path.strip("/").partition("/")[0]
    where = f"stack {stack.name} in {stack.target.region} ({stack.target.name}), account ...{account[-4:]}"
    first, *others = stack.queues
    second, takes = (others[0].mapping_id, others[0].takes) if others else ("", "")
    return {
        "stack": where, "table": stack.table, "mapping": first.mapping_id, "second": second, "takes": takes,
    }  # fmt: skip


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_suffix(".partial")
    write(partial)
    partial.replace(path)
