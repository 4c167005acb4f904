"""Files into an S3 bucket that is somebody's own: first whether all the world can read it, then the upload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from taskq_lib.aws.target import Target, is_denied
from taskq_lib.errors import BadInput

#: What a browser needs to know of each kind of file; without it a page is downloaded instead of shown.
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".json": "application/json",
    ".ipynb": "application/x-ipynb+json",
    ".parquet": "application/vnd.apache.parquet",
}
#: S3's own names for "anybody", and for "anybody who has an AWS account".
_EVERYBODY = ("http://acs.amazonaws.com/groups/global/AllUsers",
              "http://acs.amazonaws.com/groups/global/AuthenticatedUsers")  # fmt: skip
#: Settings of the public access block that together close a bucket, whatever its policy and ACL say.
_BLOCKS = {"IgnorePublicAcls", "RestrictPublicBuckets"}


def split(address: str) -> tuple[str, str]:
    """Read s3://BUCKET/PREFIX as (bucket, prefix), the prefix without slashes around it; raises `BadInput`."""
    scheme, _, rest = address.partition("://")
    bucket, _, prefix = rest.partition("/")
    parts = prefix.strip("/").split("/")
    if scheme != "s3" or not 3 <= len(bucket) <= 63 or not bucket.replace("-", "").replace(".", "").isalnum():
        raise BadInput(
            f"{address!r} is no place in S3.",
            "Write s3://BUCKET/PREFIX; a bucket's name has 3 to 63 letters, digits, - or .",
        )
    if any(part in {".", ".."} for part in parts):
        raise BadInput(f"The prefix of {address!r} has a part that is a dot or two; browsers would leave it out.")
    return bucket, "/".join(part for part in parts if part)


def check_private(target: Target, bucket: str) -> list[str]:
    """Refuse a bucket that anybody can read; returns sentences on what could not be checked.

    Raises `BadInput` where it is public or not there. S3's own verdict counts: the public access block, then the
    policy's status, then the ACL.
    """
    s3 = target.client("s3")
    block = _asked(s3.get_public_access_block, bucket, {})
    held = (block or {}).get("PublicAccessBlockConfiguration", {})
    if {name for name, is_on in held.items() if is_on} >= _BLOCKS:
        return []
    status = _asked(s3.get_bucket_policy_status, bucket, {})
    acl = _asked(s3.get_bucket_acl, bucket, {})
    grants = (acl or {}).get("Grants", [])
    is_open = (status or {}).get("PolicyStatus", {}).get("IsPublic", False)
    if is_open or any(grant.get("Grantee", {}).get("URI") in _EVERYBODY for grant in grants):
        raise BadInput(
            f"Bucket {bucket!r} can be read by anybody; nothing was uploaded.",
            "Block public access to it (`aws s3api put-public-access-block`), or name another bucket.",
        )
    unknown = [
        what for what, answer in {"policy": status, "ACL": acl, "public access block": block}.items() if answer is None
    ]
    return [f"whether bucket {bucket!r} is public by its {what} could not be checked" for what in unknown]


def upload(target: Target, bucket: str, files: Sequence[tuple[Path, str]]) -> None:
    """Put files under their keys, in their order, each with the content type of its ending."""
    s3 = target.client("s3")
    for path, key in files:
        s3.put_object(
            Bucket=bucket, Key=key, Body=path.read_bytes(), ContentType=CONTENT_TYPES[path.suffix],
            ServerSideEncryption="AES256",
        )  # fmt: skip


def _asked(ask: Any, bucket: str, nothing: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Ask S3 of a bucket: `nothing` where it has no such setting, None where that may not or cannot be asked."""
    try:
        answer: Mapping[str, Any] = ask(Bucket=bucket)
    except ClientError as error:
        code = error.response["Error"].get("Code", "")
        if code == "NoSuchBucket":
            raise BadInput(f"There is no bucket {bucket!r}.", "Create it first, or correct the name.") from error
        if code.startswith("NoSuch"):
            return nothing
        if is_denied(error) or code in {"NotImplemented", "MethodNotAllowed"}:
            return None
        raise
    return answer
