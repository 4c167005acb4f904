"""Publishing takes a run's pages to a private bucket, and nothing that is secret, raw or not there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from taskq_lib.aws import bucket
from taskq_lib.aws.target import Target
from taskq_lib.commands.main import main
from taskq_lib.errors import BadInput
from taskq_lib.report import runs
from taskq_lib.report.runs import Run
from tests.unit.results import GOOD

CLOSED = dict.fromkeys(["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"], True)
EVERYBODY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::reports/*"}
    ],
}
SHARED = {"index.html", "40_latency.html", "summary.md", "results.json"}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """S3 with a bucket `reports` that is closed to the public."""
    for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="reports")
        client.put_public_access_block(Bucket="reports", PublicAccessBlockConfiguration=CLOSED)
        yield client


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with a report and data."""
    made = runs.create("r", tmp_path / "runs", **GOOD)
    for name in SHARED - {"results.json"}:
        (made.folder / name).write_text(name)
    for name in ("tasks.parquet", "40_latency.ipynb", "kernels.log", "redrive-01.jsonl"):
        (made.folder / name).write_text("{}")
    return made


def keys(s3: Any) -> set[str]:
    """Return what lies in the bucket."""
    return {found["Key"] for found in s3.list_objects_v2(Bucket="reports").get("Contents", [])}


def published(run: Run, *argv: str, place: str = "s3://reports/team/") -> int:
    """Publish a run to AWS as moto plays it; returns the exit code."""
    return main(["publish", str(run.folder), place, "--target", "aws", *argv])


def test_the_report_is_uploaded_and_the_data_are_not(run: Run, s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Pages, summary and results go under the run's id, each with its content type; data and notebooks stay here."""
    assert published(run, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "run_id": "r",
        "index": "s3://reports/team/r/index.html",
        "n_files": 4,
        "unchecked": [],
    }
    assert keys(s3) == {f"team/r/{name}" for name in SHARED}
    types = {key.rpartition("/")[2]: s3.get_object(Bucket="reports", Key=key)["ContentType"] for key in keys(s3)}
    assert types["index.html"] == "text/html; charset=utf-8"
    assert types["summary.md"] == "text/markdown; charset=utf-8"
    assert types["results.json"] == "application/json"


def test_the_data_go_where_they_are_asked_for(run: Run, s3: Any) -> None:
    """--with-data takes the Parquet files and the notebooks along, and neither logs nor journals."""
    assert published(run, "--with-data", place="s3://reports") == 0
    assert keys(s3) == {f"r/{name}" for name in SHARED | {"tasks.parquet", "40_latency.ipynb"}}


@pytest.mark.parametrize("how", ["by its policy", "by its ACL"])
def test_a_public_bucket_is_refused(how: str, run: Run, s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A bucket that anybody can read gets nothing, and the message says how to close it."""
    s3.delete_public_access_block(Bucket="reports")
    if how == "by its policy":
        s3.put_bucket_policy(Bucket="reports", Policy=json.dumps(EVERYBODY))
    else:
        s3.put_bucket_acl(Bucket="reports", ACL="public-read")
    assert published(run) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: Bucket 'reports' can be read by anybody; nothing was uploaded.\n  -> Block public")
    assert keys(s3) == set()


def test_a_bucket_that_is_not_public_and_has_no_block_is_taken(run: Run, s3: Any) -> None:
    """Neither policy nor ACL opens it: that it has no public access block is no reason to refuse it."""
    s3.delete_public_access_block(Bucket="reports")
    assert published(run) == 0
    assert len(keys(s3)) == 4


class Refusing:
    """An S3 that lets its caller put objects, and ask nothing."""

    def __getattr__(self, name: str) -> Any:
        """Refuse whatever is asked."""

        def refuse(**_: Any) -> None:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, name)

        return refuse


def test_what_may_not_be_asked_is_told() -> None:
    """Where the caller may not ask whether a bucket is public, that is said, for each way a bucket can be."""
    target = Target(name="aws", session=None, region="us-east-1")
    target._clients["s3"] = Refusing()
    assert [sentence.partition(" by its ")[2] for sentence in bucket.check_private(target, "b")] == [
        "policy could not be checked",
        "ACL could not be checked",
        "public access block could not be checked",
    ]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("reports", "'reports' is no place in S3.\n  -> Write s3://BUCKET/PREFIX"),
        ("s3://", "'s3://' is no place in S3"),
        ("s3://a_b/c", "'s3://a_b/c' is no place in S3"),
        ("https://reports/x", "'https://reports/x' is no place in S3"),
        ("s3://reports/../x", "has a part that is a dot or two"),
        ("s3://nowhere/x", "There is no bucket 'nowhere'."),
    ],
)
def test_a_place_that_is_none_is_refused(
    place: str, said: str, run: Run, s3: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no bucket, or none that is there, is refused in one sentence, and nothing is uploaded."""
    assert published(run, place=place) == 2
    assert said in capsys.readouterr().err
    assert keys(s3) == set()


def test_a_leak_is_not_published(run: Run, s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A page that holds a secret stops all of it, names the file and the kind, and not the secret."""
    secret = "AKIA" + "Q3EGRZPLMN7XWV2T"
    (run.folder / "40_latency.html").write_text(f"<p>{secret}</p>")
    assert published(run) == 1
    err = capsys.readouterr().err
    assert "nothing was uploaded: 40_latency.html: AWS access key id." in err
    assert secret not in err
    assert keys(s3) == set()


def test_a_run_without_a_report_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Without an index there is nothing to publish, and the message says how to get it."""
    (run.folder / "index.html").unlink()
    assert published(run) == 2
    assert "Run 'r' has no report yet.\n  -> `taskq report --from RUN` renders one." in capsys.readouterr().err


@pytest.mark.parametrize("place", ["s3://abc", "s3://abc/", "s3://abc//x//y/"])
def test_a_prefix_has_no_empty_parts(place: str) -> None:
    """However many slashes are typed, keys have single ones between their parts."""
    assert bucket.split(place) in {("abc", ""), ("abc", "x/y")}


def test_a_prefix_that_leads_up_is_refused() -> None:
    """A browser would drop such a part, so that no link of the page led anywhere."""
    with pytest.raises(BadInput, match="a dot or two"):
        bucket.split("s3://abc/a/./b")
