"""A report is published to the engine's own S3, as to AWS."""

import json
from pathlib import Path

import pytest

from taskq_lib.aws.target import Target
from taskq_lib.commands.main import main
from taskq_lib.report import pages, runs
from tests.unit.results import GOOD

pytestmark = pytest.mark.integration


@pytest.fixture
def variables(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the engine as the endpoint of AWS."""
    assert target.endpoint_url is not None
    for name, value in {"ENDPOINT_URL": target.endpoint_url, "REGION": target.region}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "test")


@pytest.mark.usefixtures("variables")
def test_a_report_is_published(target: Target, run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What lies in the bucket is what lies in the folder, typed for a browser; a bucket open to all gets nothing."""
    s3, run = target.client("s3"), runs.create(run_id, tmp_path, **GOOD)
    pages.write_run(run)
    s3.create_bucket(Bucket=f"private-{run_id}")
    s3.create_bucket(Bucket=f"public-{run_id}", ObjectOwnership="ObjectWriter")
    s3.put_bucket_acl(Bucket=f"public-{run_id}", ACL="public-read")
    argv = ["publish", str(run.folder), f"s3://private-{run_id}/reports", "--target", "aws", "--json"]
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out)["index"] == f"s3://private-{run_id}/reports/{run_id}/index.html"
    for name in ("index.html", "summary.md", "results.json"):
        found = s3.get_object(Bucket=f"private-{run_id}", Key=f"reports/{run_id}/{name}")
        assert found["Body"].read() == (run.folder / name).read_bytes()
        assert found["ContentType"].partition(";")[0] in {"text/html", "text/markdown", "application/json"}
    argv[2] = f"s3://public-{run_id}/reports"
    assert main(argv) == 2
    assert "can be read by anybody; nothing was uploaded" in capsys.readouterr().err
    assert "Contents" not in s3.list_objects_v2(Bucket=f"public-{run_id}")
