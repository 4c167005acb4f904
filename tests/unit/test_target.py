"""Where AWS is: the standard variables say it for `aws`, the engine alone for `local`; a failure says what to do."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)
from moto import mock_aws

from taskq_lib.aws.target import Target, connect, explain, masked
from taskq_lib.errors import AwsAccess, BadInput, EngineNotRunning, TaskqError
from taskq_lib.local import engine

ENGINE_URL = "http://127.0.0.1:4566"


@pytest.fixture
def engine_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pretend that the engine runs."""
    found = engine.Engine(pid=1, port=4566, endpoint_url=ENGINE_URL, started_at=datetime.now(UTC), log=tmp_path)
    monkeypatch.setattr(engine, "find", lambda: found)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set credentials of an account."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Let a test write the profile `work` into the user's file."""

    def write(lines: str) -> None:
        (tmp_path / "config").write_text(f"[profile work]\n{lines}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_PROFILE", "work")

    return write


def url(target: Target) -> str:
    """Return where the target's SQS client sends."""
    found: str = target.client("sqs").meta.endpoint_url
    return found


def test_an_unknown_target_lists_the_known_ones() -> None:
    """A target that does not exist is refused with those that do."""
    with pytest.raises(BadInput, match=r"^Target 'azure' is not known; allowed are local, aws\."):
        connect("azure")


@pytest.mark.usefixtures("engine_runs")
def test_local_is_the_engine() -> None:
    """`local` is the running engine, in us-east-1, and needs neither credentials nor a region."""
    target = connect("local")
    assert (target.name, target.region, target.endpoint_url) == ("local", "us-east-1", ENGINE_URL)
    assert url(target) == ENGINE_URL
    assert target.session.get_credentials().access_key == "test"


@pytest.mark.usefixtures("engine_runs", "account")
@pytest.mark.parametrize("service", ["", "_SQS"])
def test_the_users_account_has_no_say_in_local(monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    """A profile that does not exist, real credentials and another endpoint in the environment do not reach `local`."""
    monkeypatch.setenv("AWS_PROFILE", "nonsense")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "example")
    monkeypatch.setenv(f"AWS_ENDPOINT_URL{service}", "https://elsewhere.example.com")
    target = connect("local")
    assert url(target) == ENGINE_URL
    credentials = target.session.get_credentials()
    assert (credentials.access_key, credentials.secret_key, credentials.token) == ("test", "test", None)


def test_local_without_an_engine_says_how_to_start_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a running engine, `local` is refused with the command that starts one."""
    monkeypatch.setenv("TASKQ_STATE_DIR", str(tmp_path))
    with pytest.raises(EngineNotRunning, match="taskq local start"):
        connect("local")


@pytest.mark.usefixtures("engine_runs", "account")
@pytest.mark.parametrize("name", ["local", "aws"])
def test_the_region_variable_is_honoured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_REGION, before AWS_DEFAULT_REGION, says the region of any target; what is asked for comes before both."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert connect(name).region == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert connect(name).region == "eu-central-1"
    target = connect(name, "ap-southeast-2")
    assert target.region == target.client("sqs").meta.region_name == "ap-southeast-2"


@pytest.mark.usefixtures("engine_runs", "account")
@pytest.mark.parametrize("name", ["local", "aws"])
@pytest.mark.parametrize(("typed", "meant"), [("eu-central1", "eu-central-1"), ("us-esat-1", "us-east-1")])
def test_an_unknown_region_suggests_near_ones(name: str, typed: str, meant: str) -> None:
    """A misspelt region is refused before anything is sent, with the region that was probably meant."""
    with pytest.raises(AwsAccess, match=rf"^Region '{typed}' is not known to the AWS SDK\.\n.*Did you mean .*{meant}"):
        connect(name, typed)


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1"])
def test_regions_of_other_partitions_are_known(region: str) -> None:
    """A region need not be of the common partition."""
    assert connect("aws", region).region == region


def test_no_credentials_say_so() -> None:
    """Without credentials `aws` is refused before anything is sent, with the ways to give some, or to need none."""
    with pytest.raises(AwsAccess, match=r"^No AWS credentials were found\.\n.*AWS_PROFILE.*--target local"):
        connect("aws", "eu-central-1")


@pytest.mark.usefixtures("account")
def test_no_region_says_so() -> None:
    """Without a region `aws` is refused, with how to give one."""
    with pytest.raises(AwsAccess, match=r"^No region is set\.\n.*--region, or set AWS_REGION"):
        connect("aws")


def test_an_unknown_profile_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that does not exist is named, with how to list those that do."""
    monkeypatch.setenv("AWS_PROFILE", "nonsense")
    with pytest.raises(AwsAccess, match=r"nonsense.*\n.*list-profiles"):
        connect("aws", "eu-central-1")


def test_a_profile_gives_region_and_credentials(profile: Callable[[str], None]) -> None:
    """The profile that AWS_PROFILE names says region and credentials."""
    profile("region = eu-north-1\naws_access_key_id = AKIAWORK\naws_secret_access_key = work")
    target = connect("aws")
    assert (target.region, target.session.get_credentials().access_key) == ("eu-north-1", "AKIAWORK")
    assert target.endpoint_url is None
    assert url(target) == "https://sqs.eu-north-1.amazonaws.com"


@pytest.mark.usefixtures("account")
def test_the_endpoint_variable_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_ENDPOINT_URL sends `aws` to any other endpoint that speaks AWS; set to nothing, it says nothing."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4577")
    target = connect("aws", "eu-central-1")
    assert url(target) == target.endpoint_url == "http://127.0.0.1:4577"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "")
    assert url(connect("aws", "eu-central-1")) == "https://sqs.eu-central-1.amazonaws.com"


@pytest.mark.usefixtures("account")
def test_a_client_is_made_once() -> None:
    """The client of a service is made once, so that its connections are shared."""
    target = connect("aws", "eu-central-1")
    assert target.client("sqs") is target.client("sqs")


@pytest.mark.usefixtures("account")
def test_the_identity_names_account_and_place() -> None:
    """The identity says who is asking, where, and through which endpoint."""
    with mock_aws():
        target = Target(name="aws", session=boto3.Session(region_name="eu-central-1"), region="eu-central-1")
        identity = target.identity()
    assert identity.pop("arn").startswith("arn:aws:sts::123456789012:")
    assert identity == {"target": "aws", "account": "123456789012", "region": "eu-central-1", "endpoint": "AWS"}


def test_an_identity_can_be_shown() -> None:
    """For a report the account's number is cut to its last four digits wherever it stands."""
    identity = {"account": "123456789012", "arn": "arn:aws:iam::123456789012:user/me", "region": "eu-central-1"}
    assert masked(identity) == {"account": "...9012", "arn": "arn:aws:iam::...9012:user/me", "region": "eu-central-1"}


@pytest.mark.usefixtures("account")
def test_an_endpoint_that_does_not_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens at the endpoint, the identity cannot be had, and one is told what to check."""
    monkeypatch.setattr("taskq_lib.aws.target._CONFIG", Config(retries={"total_max_attempts": 1}))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    target = connect("aws", "us-east-1")
    with pytest.raises(AwsAccess, match=r"^AWS does not answer: .*127\.0\.0\.1:9.*\n.*AWS_ENDPOINT_URL"):
        target.identity()


def refused(code: str) -> ClientError:
    """Make AWS's answer of this code."""
    return ClientError({"Error": {"Code": code, "Message": "the reason"}}, "GetCallerIdentity")


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (NoCredentialsError(), AwsAccess, r"^No AWS credentials.*\n.*AWS_PROFILE"),
        (PartialCredentialsError(provider="env", cred_var="x"), AwsAccess, r"^No AWS credentials"),
        (ProfileNotFound(profile="work"), AwsAccess, r"work.*\n.*list-profiles"),
        (EndpointConnectionError(endpoint_url="http://x"), AwsAccess, r"^AWS does not answer: .*\n.*AWS_ENDPOINT_URL"),
        (refused("ExpiredToken"), AwsAccess, r"^AWS refuses the credentials: .*the reason.*\n.*Sign in again"),
        (refused("InvalidClientTokenId"), AwsAccess, r"^AWS refuses the credentials: "),
        (refused("AccessDeniedException"), AwsAccess, r"^AWS denies it: .*the reason.*\n.*permission"),
        (refused("LimitExceeded"), TaskqError, r"^AWS answered with an error: .*the reason"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_of_the_sdk_is_explained(
    error: BotoCoreError | ClientError, kind: type[TaskqError], says: str
) -> None:
    """Each kind of failure becomes one sentence that holds the cause, and a hint that fits it."""
    explained = explain(error)
    assert type(explained) is kind
    with pytest.raises(kind, match=says):
        raise explained
