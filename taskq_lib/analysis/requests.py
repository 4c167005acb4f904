"""The requests of a run by operation, and how many of them SQS bills."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from taskq_lib.analysis import places, require
from taskq_lib.analysis.claims import FIRST, REDRIVEN, SUSPECT
from taskq_worker.contract import MAX_BODY_BYTES

#: SQS takes no more messages in one request of any kind (SQS API reference).
MESSAGES = 10
#: A payload is billed as one request for each 64 KiB begun (SQS pricing).
CHUNK_BYTES = 65_536
#: `BatchExecuteStatement` takes no more (DynamoDB API reference).
STATEMENTS = 25

Counts = NDArray[np.int64]

#: Who sends what. The mapping's own are not seen by anybody but AWS's bill.
PRODUCER, MAPPING, FUNCTION = "producer", "mapping", "function"


def of_run(batches: pd.DataFrame, sends: pd.DataFrame, body_bytes: "pd.Series[int]", *, is_burst: bool) -> pd.DataFrame:
    """Return the requests of a run from its `batches` (`of_batches`), its `sends`, and `body_bytes` by task id.

    `is_burst` says that the producer sent all tasks at once; else they came over time.

    One row a kind: `by` ("producer", "mapping" or "function"), `operation` (str), `n` (requests), `billed` (the same in
    chunks of 64 KiB; 0 for DynamoDB, which bills units), `source` ("computed" or "assumed"), int64 and str.

    The mapping's are assumed: that each receive brings ten messages, or all of its batch, and each delete takes ten.
    Requests that were repeated after an error are not among them, but for the producer's; nor is what leaves no trace
    in the items (see `writes.statements`). Deliveries that no attempt names are taken to have come alone: a second one
    of a final task, the one that gives up a task whose attempt vanished, and an invalid message.
    """
    taken = batches["n_records"]
    chunks = np.maximum(_requests(taken), -(-batches["n_bytes"] // CHUNK_BYTES))
    dead = np.maximum(batches["n_dead_requests"], -(-batches["n_dead_bytes"] // CHUNK_BYTES))
    ended = _requests(batches["n_ended"])
    visibility = batches["n_visibility"]
    sent, sent_billed = _sent(sends, body_bytes, is_burst=is_burst)
    rows = [
        (PRODUCER, "SendMessageBatch", sent, sent_billed, "computed" if is_burst else "assumed"),
        (MAPPING, "ReceiveMessage", _requests(taken).sum(), chunks.sum(), "assumed"),
        (MAPPING, "DeleteMessageBatch", ended.sum(), ended.sum(), "assumed"),
        (FUNCTION, "ChangeMessageVisibilityBatch", visibility.sum(), visibility.sum(), "computed"),
        (FUNCTION, "SendMessageBatch", batches["n_dead_requests"].sum(), dead.sum(), "computed"),
        (FUNCTION, "BatchExecuteStatement", batches["n_executes"].sum(), 0, "computed"),
    ]
    found = pd.DataFrame(rows, columns=["by", "operation", "n", "billed", "source"])
    return found.astype({"by": "str", "operation": "str", "n": "int64", "billed": "int64", "source": "str"})


def of_batches(tasks: pd.DataFrame, rows: pd.DataFrame, body_bytes: "pd.Series[int]") -> pd.DataFrame:
    """Return one row an invocation, the ones that no attempt names at the end; `rows` as by `classify`.

    Columns: `batch` (its request id, or a name of its own), `is_seen` (bool: an attempt names it), `n_types` (of tasks
    in it), `n_records`, `n_ended` (messages that are deleted after it), `n_dead`, `n_bytes` and `n_dead_bytes` (of
    bodies), `n_executes`, `n_visibility`, `n_dead_requests` (requests that it sends), all int64; `duration_s` (float64:
    from its begin to the end of its last task, missing where none is known) and `is_cold` (bool).
    """
    require(tasks, "tasks", "task_id", "state", "n_attempts", "n_duplicates")
    lost = rows["outcome"].eq("lost")
    suspect, failed = rows["claimed_as"].eq(SUSPECT), rows["outcome"].eq("failed")
    size = pd.Series(_sizes(rows["task_id"], body_bytes), index=rows.index)
    dead = rows["is_dead"] & ~lost
    marks: dict[str, pd.Series[Any]] = {
        "n_records": pd.Series(1, index=rows.index),
        "n_known": ~rows["claimed_as"].eq(FIRST),
        "n_reopened": rows["claimed_as"].eq(REDRIVEN),
        "n_suspect": suspect,
        "n_suspect_ended": suspect & ~lost,
        "n_recorded": ~suspect & ~lost,
        "n_ended": dead | rows["outcome"].eq("completed"),
        "n_dead": dead,
        "n_dead_alone": dead & suspect,
        "n_again": failed & ~dead & ~suspect,
        "n_again_alone": failed & ~dead & suspect,
        "n_bytes": size,
        "n_dead_bytes": size.where(dead, 0),
    }
    batch, names = pd.factorize(rows["batch"])
    found = pd.DataFrame({name: np.bincount(batch, mark, len(names)) for name, mark in marks.items()}).astype("int64")
    found.insert(0, "batch", pd.Series(names, dtype="str"))
    executes = _steps(found["n_records"]) + _steps(found["n_known"]) + _steps(found["n_reopened"])
    found["n_executes"] = executes + found["n_suspect"] + found["n_suspect_ended"] + _steps(found["n_recorded"])
    found["n_visibility"] = _requests(found["n_again"]) + found["n_again_alone"]
    found["n_dead_requests"] = _requests(found["n_dead"] - found["n_dead_alone"]) + found["n_dead_alone"]
    begun, ended = (rows[name].groupby(batch, sort=True) for name in ("received_at", "finished_at"))
    found["duration_s"] = (ended.max() - begun.min()).dt.total_seconds().to_numpy()
    is_cold = rows["cold_start"].fillna(value=False).to_numpy(dtype=bool)
    found["is_cold"] = np.bincount(batch[is_cold], minlength=len(names)) > 0
    found["is_seen"] = ~found["batch"].str.startswith("lost-")
    kind, kinds = pd.factorize(rows["task_type"])
    pairs = pd.unique(batch[kind >= 0] * len(kinds) + kind[kind >= 0])
    found["n_types"] = np.bincount(pairs // max(1, len(kinds)), minlength=len(names))
    kept = ["batch", "is_seen", "n_types", "n_records", "n_ended", "n_dead", "n_bytes", "n_dead_bytes", "n_executes"]
    kept += ["n_visibility", "n_dead_requests", "duration_s", "is_cold"]
    return pd.concat([found[kept], _unseen(tasks, rows, body_bytes)[kept]], ignore_index=True)


def _unseen(tasks: pd.DataFrame, rows: pd.DataFrame, body_bytes: "pd.Series[int]") -> pd.DataFrame:
    """Return the deliveries that no attempt names, each as an invocation of its own."""
    n_twice = tasks["n_duplicates"].fillna(0).to_numpy(dtype="int64")
    never = (tasks["n_attempts"].fillna(0) == 0) & tasks["state"].eq("dead_lettered")
    given_up = rows.loc[rows["is_dead"] & rows["outcome"].eq("lost"), "task_id"]
    # Requests to the table: a claim that is refused twice and a note; the same and a record; the note alone.
    kinds = [
        (tasks["task_id"].repeat(n_twice.tolist()), "duplicate", 3, 0),
        (given_up, "given up", 3, 1),
        (tasks.loc[never, "task_id"], "invalid", 1, 1),
    ]
    parts = []
    for ids, name, n_executes, n_dead in kinds:
        size = _sizes(ids, body_bytes)
        part = pd.DataFrame({"n_bytes": size, "n_dead_bytes": size * n_dead, "n_executes": n_executes})
        part = part.assign(n_dead=n_dead, n_dead_requests=n_dead, n_records=1, n_ended=1, n_visibility=0)
        part = part.assign(duration_s=np.nan, is_cold=False, is_seen=False, n_types=1)
        parts.append(part.assign(batch=[f"{name} {i}" for i in range(len(part))]))
    return pd.concat(parts, ignore_index=True).astype({"batch": "str"})


def _sent(sends: pd.DataFrame, body_bytes: "pd.Series[int]", *, is_burst: bool) -> tuple[int, int]:
    """Return the producer's requests, and how many are billed.

    A burst fills each request, in the manifest's order, with ten messages or 1 MiB, whichever comes first. Messages
    that arrive over time are taken to be sent alone: an upper bound, since those that are due together share one. Each
    further try of a message is taken for a request as well.
    """
    require(sends, "sends", "task_id", "n_tries")
    sizes = _sizes(sends["task_id"], body_bytes)
    packed = _packed(sizes) if is_burst else sizes
    more = int((sends["n_tries"] - 1).clip(lower=0).sum())
    return len(packed) + more, int(np.maximum(1, -(-packed // CHUNK_BYTES)).sum()) + more


def _sizes(ids: "pd.Series[str]", body_bytes: "pd.Series[int]") -> Counts:
    """Return the bytes of each task's body, 0 where they are not known."""
    place = places(ids, pd.Series(body_bytes.index, dtype="str"))
    return np.append(body_bytes.fillna(0).to_numpy(dtype="int64"), 0)[place]


def _packed(sizes: Counts) -> Counts:
    """Return the bytes of each request that the submitter packs of messages of these sizes."""
    if MESSAGES * sizes.max(initial=0) <= MAX_BODY_BYTES:  # then ten always fit
        return np.add.reduceat(sizes, np.arange(0, len(sizes), MESSAGES)) if len(sizes) else sizes
    found: list[int] = []
    n = 0
    for size in sizes.tolist():
        if n in {0, MESSAGES} or found[-1] + size > MAX_BODY_BYTES:
            found.append(0)
            n = 0
        found[-1] += size
        n += 1
    return np.array(found, dtype=np.int64)


def _requests(n: "pd.Series[int]") -> Counts:
    """Return in how many requests of ten so many messages go."""
    return np.asarray(-(-n.to_numpy(dtype="int64") // MESSAGES), dtype=np.int64)


def _steps(n: "pd.Series[int]") -> Counts:
    """Return in how many requests so many statements go."""
    return np.asarray(-(-n.to_numpy(dtype="int64") // STATEMENTS), dtype=np.int64)
