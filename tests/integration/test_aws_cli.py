"""The template as it is, deployed by the stock AWS CLI: what the kit does is nothing that others cannot do."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskq_lib import PROJECT_ROOT
from taskq_lib.aws import stack, status, submit
from taskq_lib.aws.target import Target
from taskq_lib.errors import StackNotFound
from tests.unit.events import task

pytestmark = pytest.mark.integration

Aws = Callable[..., str]
Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(target: Target) -> Cli:
    """Let a test call the AWS CLI from the project's folder, whatever comes of it."""
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": target.region,
        "AWS_DEFAULT_REGION": target.region,
        # Not --endpoint-url: `package` does not pass it on to S3.
        "AWS_ENDPOINT_URL": target.endpoint_url or "",
        "no_proxy": "127.0.0.1,localhost",
    }

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("aws")), *arguments]
        return subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False)

    return call


@pytest.fixture
def aws(cli: Cli) -> Aws:
    """Let a test call the AWS CLI; returns what it prints, and it must succeed."""

    def call(*arguments: str) -> str:
        ran = cli(*arguments)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return call


@pytest.fixture
def bucket(target: Target) -> Iterator[str]:
    """A bucket for code."""
    name = f"code-{uuid.uuid4().hex}"
    s3 = target.client("s3")
    s3.create_bucket(Bucket=name)
    yield name
    for entry in s3.list_objects_v2(Bucket=name).get("Contents", []):
        s3.delete_object(Bucket=name, Key=entry["Key"])
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def packaged(aws: Aws, bucket: str, tmp_path: Path) -> str:
    """The template as `package` leaves it: a file that `deploy` takes."""
    path = str(tmp_path / "packaged.yaml")
    aws(
        "cloudformation", "package", "--template-file", "cloudformation.yaml", "--s3-bucket", bucket,
        "--output-template-file", path,
    )  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["FifoQueue=true", "BatchWindowSeconds=1"], "FifoQueue=true needs BatchWindowSeconds=0"),
        (
            ["MaximumConcurrency=5", "MinimumPollers=2", "MaximumPollers=4"],
            "MaximumConcurrency excludes MinimumPollers and MaximumPollers",
        ),
        (["SecondQueueFor=type"], "SecondQueueFor=type needs SecondQueueTypes"),
    ],
    ids=["fifo", "pollers", "types"],
)
def test_the_aws_cli_is_refused_a_contradiction(
    cli: Cli, packaged: str, bucket: str, target: Target, values: list[str], says: str
) -> None:
    """Options that contradict each other are refused by the template itself: no stack and no queue comes to be."""
    name = f"cli-{uuid.uuid4().hex[:8]}"
    refused = cli(
        "cloudformation", "deploy", "--template-file", packaged, "--s3-bucket", bucket, "--stack-name", name,
        "--capabilities", "CAPABILITY_IAM", "--parameter-overrides", *values,
    )  # fmt: skip
    assert refused.returncode != 0
    assert says in refused.stderr
    with pytest.raises(StackNotFound):
        stack.describe(target, name)
    assert target.client("sqs").list_queues(QueueNamePrefix=name).get("QueueUrls", []) == []


def test_the_aws_cli_deploys_and_deletes(aws: Aws, packaged: str, bucket: str, target: Target) -> None:
    """Package and deploy give a stack that completes a task and that the library describes; delete removes it."""
    name = f"cli-{uuid.uuid4().hex[:8]}"
    aws(
        "cloudformation", "deploy", "--template-file", packaged, "--s3-bucket", bucket, "--stack-name", name,
        "--capabilities", "CAPABILITY_IAM", "--parameter-overrides", "VisibilityTimeoutSeconds=1800",
    )  # fmt: skip
    deployed = stack.describe(target, name)
    assert deployed.parameters["VisibilityTimeoutSeconds"] == "1800"

    submit.send_one(deployed, task(f"{name}-a"))
    waited = status.wait(deployed, [f"{name}-a"], timeout_s=30, progress=False)
    assert waited.why == "all final"
    assert status.get(deployed, [f"{name}-a"]).tasks["state"].tolist() == ["completed"]

    aws("cloudformation", "delete-stack", "--stack-name", name)
    aws("cloudformation", "wait", "stack-delete-complete", "--stack-name", name)
    stack.verify_gone(deployed)
    target.client("dynamodb").delete_table(TableName=deployed.table)
