"""The function's zip: the same sources make the same bytes, and each code is put where its stack finds it, once."""

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from taskq_lib import PROJECT_ROOT
from taskq_lib.aws import package
from taskq_lib.aws.target import Target
from taskq_lib.errors import AwsAccess

BUCKET = "taskq-code-123456789012-eu-central-1"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with two modules."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "handler.py").write_text("handler = print\n")
    (tmp_path / "inner" / "deep.py").write_text("x = 1\n")
    return tmp_path


@pytest.fixture
def target() -> Iterator[Target]:
    """An account in memory, in a region whose buckets need their place named."""
    with mock_aws():
        yield Target(name="aws", session=boto3.Session(region_name="eu-central-1"), region="eu-central-1")


def keys(target: Target) -> list[str]:
    """Return what is in the code bucket."""
    return [entry["Key"] for entry in target.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def names(code: bytes) -> list[str]:
    """Return the names in a zip."""
    return zipfile.ZipFile(io.BytesIO(code)).namelist()


def test_same_sources_same_bytes(sources: Path) -> None:
    """Times, modes and the order in which files were made do not change the zip; their content and names do."""
    code = package.build(sources)
    os.utime(sources / "handler.py", (1, 1))
    (sources / "handler.py").chmod(0o600)
    (sources / "inner" / "deep.py").unlink()
    (sources / "inner" / "deep.py").write_text("x = 1\n")
    assert package.build(sources) == code
    (sources / "inner" / "deep.py").write_text("x = 2\n")
    changed = package.build(sources)
    (sources / "inner" / "deep.py").rename(sources / "inner" / "other.py")
    renamed = package.build(sources)
    assert len({package.digest(one) for one in (code, changed, renamed)}) == 3


def test_only_python_files_are_packed(sources: Path) -> None:
    """Compiled files, notes and folders of other tools stay out, so that running the code does not change it."""
    code = package.build(sources)
    (sources / "__pycache__").mkdir()
    for name in ("__pycache__/handler.cpython-311.pyc", "handler.pyc", ".DS_Store", "notes.txt"):
        (sources / name).write_bytes(b"x")
    assert package.build(sources) == code
    assert names(code) == ["handler.py", "inner/deep.py"]


def test_the_digest_is_short_and_hexadecimal() -> None:
    """A code's version is the first 16 hex digits of its SHA-256."""
    assert package.digest(b"") == "e3b0c44298fc1c14"


def test_the_zip_runs_by_itself(tmp_path: Path) -> None:
    """What is deployed is the project's function with all its modules: it is imported from the zip alone."""
    path = tmp_path / "code.zip"
    path.write_bytes(package.build())
    modules = sorted((PROJECT_ROOT / "lambda").rglob("*.py"))
    assert names(path.read_bytes()) == [module.relative_to(PROJECT_ROOT / "lambda").as_posix() for module in modules]
    code = f"import sys; sys.path.insert(0, {str(path)!r}); import handler, taskq_worker; print(taskq_worker.__file__)"
    ran = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == f"{path}/taskq_worker/__init__.py\n"


def test_code_is_uploaded_once(target: Target) -> None:
    """The same code is put once, encrypted, in a bucket that is closed to the public; other code is put beside it."""
    assert package.upload(target, "one", b"code") == (BUCKET, "one/5694d08a2e53ffca.zip")
    s3 = target.client("s3")
    first = s3.head_object(Bucket=BUCKET, Key=keys(target)[0])
    package.upload(target, "one", b"code")
    assert s3.head_object(Bucket=BUCKET, Key=keys(target)[0])["LastModified"] == first["LastModified"]
    assert first["ServerSideEncryption"] == "AES256"
    assert set(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values()) == {True}
    package.upload(target, "one", b"other code")
    assert len(keys(target)) == 2


def test_a_stack_takes_its_own_code_along(target: Target) -> None:
    """Removing a stack's code leaves the other stacks' code; the bucket goes with the last of it, and only once."""
    for stack, code in (("one", b"a"), ("one", b"b"), ("one-more", b"a")):
        package.upload(target, stack, code)
    assert package.remove(target, "one") == 2
    assert [key.split("/")[0] for key in keys(target)] == ["one-more"]
    assert package.remove(target, "one") == 0
    assert package.remove(target, "one-more") == 1
    assert target.client("s3").list_buckets()["Buckets"] == []
    assert package.remove(target, "one-more") == 0


def test_another_region_has_another_bucket(target: Target) -> None:
    """The bucket's name holds account and region, since the code must be where its stack is."""
    assert package.upload(target, "one", b"code")[0] == BUCKET
    other = Target(name="aws", session=boto3.Session(region_name="us-east-1"), region="us-east-1")
    assert package.upload(other, "one", b"code")[0] == "taskq-code-123456789012-us-east-1"


def test_every_request_for_code_names_the_owner(target: Target) -> None:
    """A bucket whose name somebody else took first is refused by S3, so that their code cannot pass as ours."""
    named: list[str] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        # Creating and listing buckets speak of the caller's own account.
        if model.name not in {"CreateBucket", "ListBuckets"}:
            named.append(params["headers"].get("x-amz-expected-bucket-owner", model.name))

    target.client("s3").meta.events.register("before-call.s3", note)
    package.upload(target, "one", b"code")
    package.remove(target, "one")
    assert named
    assert set(named) == {"123456789012"}


def test_a_bucket_of_somebody_else_is_named(target: Target) -> None:
    """A bucket that S3 denies is said to be another account's, and nothing is uploaded."""
    with Stubber(target.client("s3")) as stubber:
        stubber.add_client_error("head_bucket", "403", http_status_code=403)
        with pytest.raises(AwsAccess, match="belongs to another account"):
            package.upload(target, "one", b"code")
