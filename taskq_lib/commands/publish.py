"""Upload a run's report to S3: its pages, summary and results. Refuses a bucket that anybody can read, and secrets.

The tasks' data and the executed notebooks go only with --with-data; Parquet files are not scrubbed.
"""

from __future__ import annotations

import argparse
import json

from taskq_lib.aws import bucket
from taskq_lib.commands import options
from taskq_lib.report import publish, runs


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", help="its folder, such as runs/ID, or its id")
    parser.add_argument("place", metavar="s3://BUCKET/PREFIX", help="the run goes to PREFIX/<run id>/")
    options.target(parser)
    parser.add_argument("--with-data", action="store_true", help="the Parquet files and executed notebooks as well")
    options.as_json(parser)


def run(args: argparse.Namespace) -> int:
    """Upload it; returns 0, or raises what says why not, and nothing was uploaded then."""
    name, prefix = bucket.split(args.place)
    found = runs.at(args.run)
    paths = publish.files(found, with_data=args.with_data)
    publish.check_clean(paths)
    target = options.target_of(args)
    unknown = bucket.check_private(target, name)
    folder = "/".join(part for part in (prefix, found.id) if part)
    bucket.upload(target, name, [(path, f"{folder}/{path.name}") for path in paths])
    index = f"s3://{name}/{folder}/index.html"
    if args.json:
        print(json.dumps({"run_id": found.id, "index": index, "n_files": len(paths), "unchecked": unknown}))
    else:
        print("\n".join([*(f"note: {sentence}" for sentence in unknown), f"{len(paths)} files: {index}"]))
    return 0
