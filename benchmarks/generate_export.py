"""Exports of a status table as DynamoDB writes them, generated: items in the form in which the function leaves them.

`python -m benchmarks.generate_export 100000 FOLDER` writes one to look at; 5,000,000 items are 600 MB.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb

N_PER_FILE = 100_000

#: Of ten thousand tasks: ended by which attempt and how. What is not named here completes with its first attempt.
_ITEMS = """
    WITH drawn AS (
        SELECT
            i,
            'run-20261124-' || lpad(CAST(i AS VARCHAR), 10, '0') AS id,
            ['IMAGE_RESIZE', 'SEND_EMAIL', 'PROCESS_DATA'][1 + draw(i, 11, 3)] AS kind,
            draw(i, 23, 10000) AS fate,
            1795500000000 + 2 * i AS enqueued,
            CAST(-3000 * ln(1 - (draw(i, 37, 999983)) / 1e6) AS BIGINT) AS wait,
            CAST(exp(3.5 + 2.5 * (draw(i, 53, 999983)) / 1e6) AS BIGINT) AS work
        FROM range($first, $last) AS numbers (i)
    ), lived AS (
        SELECT
            *,
            CASE WHEN fate < 100 THEN 'dead' WHEN fate < 105 THEN 'invalid' WHEN fate < 115 THEN 'redriven'
                 WHEN fate < 120 THEN 'processing' WHEN fate < 125 THEN 'retrying' ELSE 'completed' END AS life,
            CASE life WHEN 'dead' THEN 3 WHEN 'redriven' THEN 4 WHEN 'invalid' THEN 0 WHEN 'processing' THEN 0
                 WHEN 'retrying' THEN 1 ELSE CAST(fate < 300 AS INTEGER) + 1 END AS n_logged,
            life IN ('dead', 'retrying') AS fails,
            enqueued + 40 + wait AS started,
            started + greatest(0, n_logged - 1) * (work + 9000) + work AS finished,
            CAST(hash(i // 10 + 7) AS VARCHAR) || '-ab12-4c3d-9e8f' AS request
        FROM drawn
    )
    SELECT concat(
        '{"Item":{"taskId":{"S":"', id, '"},"status":{"S":"',
        CASE WHEN life = 'processing' THEN 'PROCESSING' WHEN fails OR life = 'invalid' THEN 'FAILED'
             ELSE 'COMPLETED' END,
        '"},"updatedAt":{"S":"', strftime(make_timestamp(1000 * finished), '%Y-%m-%dT%H:%M:%S.%g+00:00'),
        '"},"timestamp":', seconds(finished), ',"runId":{"S":"run-20261124"},"shard":{"N":"', draw(i, 71, 8),
        '"},"duplicates":{"N":"', CAST(draw(i, 83, 500) = 0 AS INTEGER), '"},"expiresAt":{"N":"1798092000"}',
        CASE life WHEN 'invalid' THEN concat(
            ',"attempts":{"N":"0"},"deadLettered":{"BOOL":true},"reason":{"S":"invalid"},"errorType":{"S":"InvalidMessage"}',
            ',"error":{"S":"no task type \\"', kind, '\\" takes this"},"finishedAt":', seconds(finished))
        ELSE concat(
            ',"taskType":{"S":"', kind, '"},"priority":{"N":"', 1 + draw(i, 97, 9),
            '"},"attempts":{"N":"', CASE life WHEN 'redriven' THEN 1 WHEN 'processing' THEN 1 ELSE n_logged END,
            '"},"enqueuedAt":', seconds(enqueued), ',"sentAt":', seconds(enqueued + 40),
            ',"startedAt":', seconds(started), ',"claimedBy":{"S":"', request, '"}',
            CASE WHEN life IN ('processing', 'retrying') THEN concat(',"leaseUntil":', seconds(finished + 60000)) END,
            CASE WHEN life <> 'processing' THEN concat(
                ',"finishedAt":', seconds(finished), ',"attemptLog":{"L":[',
                array_to_string(list_transform(range(n_logged), lambda k: concat(
                    '{"M":{"received":', seconds(started + k * (work + 9000) - 2), ',"requestId":{"S":"', request,
                    '"},"started":', seconds(started + k * (work + 9000)),
                    ',"finished":', seconds(started + k * (work + 9000) + work),
                    CASE WHEN fate % 50 = 7 THEN ',"coldStart":{"BOOL":true}' END,
                    CASE WHEN life = 'redriven' AND k = 3 THEN ',"redrive":{"N":"1"}' END,
                    ',"outcome":{"S":"', CASE WHEN fails OR k < n_logged - 1 THEN concat(
                        'failed"},"errorType":{"S":"DependencyTimeout"},"error":{"S":"no answer after ', work, ' ms"}')
                    ELSE 'completed"}' END,
                    '}}')), ','), ']}') END,
            CASE WHEN life IN ('completed', 'redriven') THEN concat(
                ',"result":{"S":"{\\"message\\": \\"', id, ': done\\", \\"n\\": ', work, '}"}') END,
            CASE WHEN life = 'redriven' THEN ',"redrives":{"N":"1"}' END,
            CASE WHEN fails THEN concat(
                ',"errorType":{"S":"DependencyTimeout"},"error":{"S":"no answer after ', work, ' ms"}') END,
            CASE WHEN life = 'dead' THEN ',"deadLettered":{"BOOL":true},"reason":{"S":"max_attempts"}' END)
        END, '}}')
    FROM lived
"""
#: A number below n that looks random; and Unix milliseconds as DynamoDB writes the seconds, without zeros at the end.
_MACROS = """
    CREATE MACRO draw(i, salt, n) AS CAST(hash(1000 * i + salt) % n AS BIGINT);
    CREATE MACRO seconds(ms) AS '{"N":"' || rtrim(rtrim(CAST(ms / 1000.0 AS VARCHAR), '0'), '.') || '"}'
"""


def main() -> int:
    """Write an export of so many items into a folder."""
    print(generate(Path(sys.argv[2]), int(sys.argv[1])))
    return 0


def generate(folder: Path, n_items: int, n_per_file: int = N_PER_FILE) -> Path:
    """Write an export of `n_items` items; returns its folder, the one that holds the manifests."""
    export = folder / "AWSDynamoDB" / "01795500000000-0a1b2c3d"
    (export / "data").mkdir(parents=True)
    ranges = [(first, min(first + n_per_file, n_items)) for first in range(0, n_items, n_per_file)]
    with duckdb.connect(config={"threads": 1}) as connection, ThreadPoolExecutor(2) as pool:
        connection.execute(_MACROS)
        write = pool.map(lambda one: _write(connection.cursor(), export / "data", *one), ranges)
        files = list(write)
    write_manifests(export, files)
    return export


def write_manifests(export: Path, files: list[tuple[str, int]]) -> None:
    """Write both manifests for these data files, each with its number of items."""
    prefix = f"AWSDynamoDB/{export.name}"
    lines = [
        {
            "itemCount": n,
            "md5Checksum": base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode(),
            "etag": f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}-1",
            "dataFileS3Key": f"{prefix}/data/{name}",
        }
        for name, n in files
        for data in [(export / "data" / name).read_bytes()]
    ]
    summary = {
        "version": "2020-06-30",
        "exportTime": "2026-11-24T10:00:00.000Z",
        "tableArn": "arn:aws:dynamodb:us-east-1:123456789012:table/taskq-status",
        "manifestFilesS3Key": f"{prefix}/manifest-files.json",
        "itemCount": sum(n for _name, n in files),
        "outputFormat": "DYNAMODB_JSON",
    }
    (export / "manifest-files.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (export / "manifest-summary.json").write_text(json.dumps(summary))


def _write(cursor: duckdb.DuckDBPyConnection, data: Path, first: int, last: int) -> tuple[str, int]:
    """Write the items of these numbers into one file."""
    name = f"{first:012d}.json.gz"
    items = _ITEMS.replace("$first", str(first)).replace("$last", str(last))
    lines = data / f"{name}.lines"
    cursor.execute(f"COPY ({items}) TO '{lines}' (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\t')")
    # DuckDB compresses as it copies, and takes six times as long for it.
    (data / name).write_bytes(gzip.compress(lines.read_bytes(), 1, mtime=0))
    lines.unlink()
    return name, last - first


if __name__ == "__main__":
    raise SystemExit(main())
