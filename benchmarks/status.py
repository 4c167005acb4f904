"""Reading the status of all tasks that changed in a window into DataFrames, from an endpoint that answers at once.

Ours is `status.window`: two typed frames, of tasks and of attempts. The peers query the same eight shards of the
index and return one untyped frame of tasks, the attempt log a column of lists. Each reads in a process of its own, in
turn, after a warm-up: 100,000 items twice, of which the faster counts, 1,000,000 once (`Table.query`, which lies
between the others, is left out of that). What counts is CPU, all threads of a process together: it is what bounds
every reader here, and is less disturbed by what else runs. Memory is the peak above what the process held before it
read.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
from boto3.dynamodb.conditions import ConditionBase, Key

from benchmarks import null_endpoint, status_table
from benchmarks.table import Row
from taskq_lib.aws import status
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_worker.attributes import from_attributes
from taskq_worker.contract import N_SHARDS

SMALL, LARGE, N_ROUNDS = 100_000, 1_000_000, 2
_SINCE, _UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
_INDEX = "by-time"

#: CPU seconds, and bytes of memory at the peak
Measured = tuple[float, float]


def ours(target: Target, table: str) -> int:
    """Read with the kit."""
    outputs = {"TableName": table, "TimeIndexName": _INDEX}
    stack = Stack(target=target, name="s", status="CREATE_COMPLETE", parameters={}, outputs=outputs)
    found = status.window(stack, _SINCE, _UNTIL)
    return len(found.tasks)


def wrangler(target: Target, table: str) -> int:
    """Read with awswrangler, a shard a call."""
    import awswrangler  # noqa: PLC0415 - two seconds, and no other reader's memory

    awswrangler.config.dynamodb_endpoint_url = target.endpoint_url
    schema = [{"AttributeName": "shard", "KeyType": "HASH"}, {"AttributeName": "timestamp", "KeyType": "RANGE"}]
    read: Callable[[int], pd.DataFrame] = lambda shard: awswrangler.dynamodb.read_items(  # noqa: E731
        table, index_name=_INDEX, key_condition_expression=_condition(shard), key_schema=schema,
        boto3_session=target.session,
    )  # fmt: skip
    return len(pd.concat([read(shard) for shard in range(N_SHARDS)], ignore_index=True))


def resource(target: Target, table: str) -> int:
    """Read with boto3's `Table.query`, page after page."""
    queried = target.session.resource("dynamodb", endpoint_url=target.endpoint_url).Table(table)
    items: list[dict[str, Any]] = []
    for shard in range(N_SHARDS):
        request: dict[str, Any] = {"IndexName": _INDEX, "KeyConditionExpression": _condition(shard)}
        while True:
            answer = queried.query(**request)
            items += answer["Items"]
            if "LastEvaluatedKey" not in answer:
                break
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
    return len(pd.DataFrame(items))


def paginator(target: Target, table: str) -> int:
    """Read with the paginator of boto3's client, and turn the attribute values into plain ones."""
    client = target.session.client("dynamodb", endpoint_url=target.endpoint_url)
    items: list[dict[str, Any]] = []
    for shard in range(N_SHARDS):
        pages = client.get_paginator("query").paginate(
            TableName=table,
            IndexName=_INDEX,
            KeyConditionExpression="#s = :s AND #t BETWEEN :a AND :b",
            ExpressionAttributeNames={"#s": "shard", "#t": "timestamp"},
            ExpressionAttributeValues={
                ":s": {"N": str(shard)},
                ":a": {"N": str(int(_SINCE.timestamp()))},
                ":b": {"N": str(int(_UNTIL.timestamp()))},
            },
        )
        items += [from_attributes(item) for page in pages for item in page["Items"]]
    return len(pd.DataFrame(items))


def _condition(shard: int) -> ConditionBase:
    between = Key("timestamp").between(int(_SINCE.timestamp()), int(_UNTIL.timestamp()))
    return Key("shard").eq(shard) & between


Reader = Callable[[Target, str], int]
READERS: dict[str, Reader] = {
    "ours": ours,
    "awswrangler read_items": wrangler,
    "boto3 Table.query": resource,
    "boto3 paginator": paginator,
}
_WANTED = {"awswrangler read_items": 10.0, "boto3 paginator": 7.0}


def main() -> list[Row]:
    """Return how many times as fast as each peer, and in how much less memory, the kit reads both sizes."""
    long = {name: read for name, read in READERS.items() if read is not resource}
    with null_endpoint.running(status_table.respond) as url:
        small, large = measured(READERS, url, SMALL, N_ROUNDS), measured(long, url, LARGE, 1)
    return [*_rows(small, SMALL), *_rows(large, LARGE)]


def rate(n_items: int) -> tuple[float, float]:
    """Return rows a CPU second and bytes of memory at the peak of reading so many items, in a process of its own."""
    with null_endpoint.running(status_table.respond) as url, _process() as pool:
        seconds, peak = pool.submit(_read, ours, url, n_items).result()
    return n_items / seconds, peak


def measured(readers: Mapping[str, Reader], url: str, n_items: int, n_rounds: int) -> dict[str, Measured]:
    """Read so many items with each reader in turn; returns of each its fastest time and its highest peak."""
    with ExitStack() as processes:
        pools = {name: processes.enter_context(_process()) for name in readers}
        runs = [
            {name: pools[name].submit(_read, read, url, n_items).result() for name, read in readers.items()}
            for _ in range(n_rounds)
        ]
    return {name: (min(run[name][0] for run in runs), max(run[name][1] for run in runs)) for name in readers}


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _read(read: Reader, url: str, n_items: int) -> Measured:
    """Read once few items, to warm up, and then so many."""
    session = boto3.Session("test", "test", region_name="us-east-1")
    target = Target(name="local", session=session, region="us-east-1", endpoint_url=url)
    read(target, "taskq-800")
    held = _memory("VmRSS")
    begun = time.process_time()
    n_read = read(target, f"taskq-{n_items}")
    seconds = time.process_time() - begun
    if n_read != n_items:
        raise SystemExit(f"{read.__name__} read {n_read:,} of {n_items:,} items")
    return seconds, _memory("VmHWM") - held


def _memory(name: str) -> float:
    """Return bytes of this process; `VmRSS` now or `VmHWM` at the peak; `getrusage` has the parent's peak in it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    [line] = [line for line in lines if line.startswith(f"{name}:")]
    return 1024.0 * int(line.split()[1])


def _rows(found: dict[str, Measured], n_items: int) -> Iterator[Row]:
    work, (seconds, peak) = f"{n_items:,} items", found["ours"]
    peers = {name: one for name, one in found.items() if name != "ours"}
    for peer, (their_seconds, _) in peers.items():
        yield Row(
            work=f"read {work}",
            unit="rows/CPU s",
            ours=n_items / seconds,
            peer=peer,
            theirs=n_items / their_seconds,
            better="higher",
            wanted=_WANTED.get(peer),
        )
    leanest = min(peers, key=lambda peer: peers[peer][1])
    yield Row(
        work=f"memory for {work}",
        unit="MB",
        ours=peak / 1e6,
        peer=leanest,
        theirs=peers[leanest][1] / 1e6,
        better="lower",
        wanted=1.0,
        why=f"{peak / n_items:,.0f} bytes an item; the peer is the one that needs least.",
    )
