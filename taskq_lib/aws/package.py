"""The function's code as a zip: the same sources make the same bytes, so what is unchanged is not deployed again."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

from botocore.exceptions import ClientError

from taskq_lib import PROJECT_ROOT
from taskq_lib.aws.target import Target
from taskq_lib.errors import AwsAccess

SOURCES = PROJECT_ROOT / "lambda"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold
_MODE = 0o644 << 16


def build(sources: Path = SOURCES) -> bytes:
    """Return the zip of every Python file under `sources`: sorted names, fixed times and modes, no compiled files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(sources.rglob("*.py")):
            entry = zipfile.ZipInfo(path.relative_to(sources).as_posix(), _EPOCH)
            entry.external_attr = _MODE
            entry.create_system = 3  # Unix, wherever it is built
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()


def digest(code: bytes) -> str:
    """Return the code's version: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(code).hexdigest()[:16]


def _place(target: Target) -> tuple[str, dict[str, str]]:
    """Return the bucket for code, one an account and region, and the argument that holds S3 to its owner.

    The name can be guessed, so somebody else may have it: without the owner, their code would be deployed as ours.
    """
    account = target.identity()["account"]
    return f"taskq-code-{account}-{target.region}", {"ExpectedBucketOwner": account}


def upload(target: Target, stack_name: str, code: bytes) -> tuple[str, str]:
    """Put the code where CloudFormation can read it, unless it is there; returns (bucket, key)."""
    s3, (bucket, owner), key = target.client("s3"), _place(target), f"{stack_name}/{digest(code)}.zip"
    _ensure_bucket(target, bucket, owner)
    try:
        s3.head_object(Bucket=bucket, Key=key, **owner)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        s3.put_object(Bucket=bucket, Key=key, Body=code, ServerSideEncryption="AES256", **owner)
    return bucket, key


def remove(target: Target, stack_name: str) -> int:
    """Delete a stack's code, and the bucket once it is empty; returns how many objects went."""
    s3, (bucket, owner) = target.client("s3"), _place(target)
    try:
        pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **owner))
    except s3.exceptions.NoSuchBucket:
        return 0
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    mine = [key for key in keys if key.startswith(f"{stack_name}/")]
    for key in mine:
        s3.delete_object(Bucket=bucket, Key=key, **owner)
    if len(mine) == len(keys):
        s3.delete_bucket(Bucket=bucket, **owner)
    return len(mine)


def _ensure_bucket(target: Target, bucket: str, owner: dict[str, str]) -> None:
    s3 = target.client("s3")
    try:
        s3.head_bucket(Bucket=bucket, **owner)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 403:
            raise AwsAccess(
                f"The bucket for code, {bucket}, belongs to another account, or access to it is denied.",
                "Ask for s3:* on that bucket; if it is somebody else's, report it and deploy in another region.",
            ) from error
        if status != 404:
            raise
        place = {} if target.region == "us-east-1" else {"LocationConstraint": target.region}
        s3.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": place} if place else {}))
    closed = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=closed, **owner)
