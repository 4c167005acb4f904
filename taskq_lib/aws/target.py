"""Where AWS is: a session, a region and, for the embedded engine, an endpoint. Nothing else depends on it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own, which its connection failures derive from
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from taskq_lib.aws import wire
from taskq_lib.errors import AwsAccess, BadInput, TaskqError
from taskq_lib.local import engine

DEFAULT_LOCAL_REGION = "us-east-1"
_CREDENTIAL_CODES = {"InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "ExpiredToken",
                     "ExpiredTokenException", "AuthFailure"}  # fmt: skip
# SNS has a word of its own; an answer without a word is known by its status.
_DENIED_CODES = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "403"}
# Enough connections for every thread that the library runs side by side; more attempts than the default, because
# a run that fails for one throttle has to be repeated as a whole.
_CONFIG = Config(
    max_pool_connections=64,
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 6},
)
# Messages are sent by the million, and what goes into one is checked by its contract. A given user agent is not put
# together anew for each request. Together a sixth of a request's CPU.
_OFTEN = Config(parameter_validation=False, user_agent=f"taskq Boto3/{boto3.__version__}")
# Asking who one is comes first, so a wrong endpoint must be seen soon.
_QUICK = Config(retries={"mode": "standard", "total_max_attempts": 2})
_OF_SERVICE = {"sqs": _OFTEN, "sts": _QUICK}
# A configured proxy would be asked for a loopback address that only this machine can reach.
_NO_PROXY = Config(proxies={})
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, kw_only=True)
class Target:
    """An account and region that clients are made for."""

    name: str  #: "local" or "aws"
    session: Any  #: boto3.Session
    region: str
    endpoint_url: str | None = None  #: None is AWS's own
    _clients: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def client(self, service: str) -> Any:
        """Return the client of `service`; made once, so that its connections are shared. Clients are thread-safe."""
        if service not in self._clients:
            config = _CONFIG.merge(_OF_SERVICE.get(service, Config()))
            if urlsplit(self.endpoint_url or "").hostname in _LOOPBACK:
                config = config.merge(_NO_PROXY)
            client = self.session.client(service, endpoint_url=self.endpoint_url, config=config)
            if service == "dynamodb":
                wire.attach(client)
            self._clients[service] = client
        return self._clients[service]

    def identity(self) -> dict[str, str]:
        """Return `account`, `arn`, `region` and `endpoint` of the caller; raises `AwsAccess` where that fails."""
        try:
            caller = self.client("sts").get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            raise explain(error) from error
        return {
            "target": self.name,
            "account": caller["Account"],
            "arn": caller["Arn"],
            "region": self.region,
            "endpoint": self.endpoint_url or "AWS",
        }


def masked(identity: Mapping[str, str]) -> dict[str, str]:
    """Return an identity that can be shown in a report: of the account's number its last four digits."""
    account = identity["account"]
    return {name: value.replace(account, f"...{account[-4:]}") for name, value in identity.items()}


def connect(name: str = "local", region: str | None = None) -> Target:
    """Return the target `name`, "local" (the embedded engine) or "aws" (whatever the standard variables say).

    `region` falls back to AWS_REGION, AWS_DEFAULT_REGION and the profile's. Sends nothing.

    Raises `BadInput`, `EngineNotRunning` or `AwsAccess`.
    """
    if name not in _TARGETS:
        raise BadInput(f"Target {name!r} is not known; allowed are {', '.join(_TARGETS)}.")
    region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    try:
        return _TARGETS[name](region)
    except (BotoCoreError, ClientError) as error:
        raise explain(error) from error


def _local(region: str | None) -> Target:
    core = _impersonal()
    core.set_credentials("test", "test")
    region = _checked(region or DEFAULT_LOCAL_REGION)
    session = boto3.Session(botocore_session=core, region_name=region)
    return Target(name="local", session=session, region=region, endpoint_url=engine.find().endpoint_url)


def _aws(region: str | None) -> Target:
    session = boto3.Session(region_name=region)
    if session.region_name is None:
        raise AwsAccess("No region is set.", "Pass --region, or set AWS_REGION, for example AWS_REGION=eu-central-1.")
    if session.get_credentials() is None:
        raise explain(NoCredentialsError())
    region = _checked(session.region_name)
    return Target(name="aws", session=session, region=region, endpoint_url=os.environ.get("AWS_ENDPOINT_URL") or None)


_TARGETS: dict[str, Callable[[str | None], Target]] = {"local": _local, "aws": _aws}


def _impersonal() -> botocore.session.Session:
    """Return a session in which AWS_PROFILE has no say."""
    return botocore.session.Session(session_vars={"profile": (None, None, None, None)})


def _checked(region: str) -> str:
    session = _impersonal()
    known = [r for p in session.get_available_partitions() for r in session.get_available_regions("sqs", p)]
    if region not in known:
        near = difflib.get_close_matches(region, known, 3) or ["us-east-1", "eu-central-1"]
        raise AwsAccess(
            f"Region {region!r} is not known to the AWS SDK.",
            f"Did you mean {' or '.join(near)}? A region that is newer than the SDK needs `pip install -U boto3`.",
        )
    return region


def is_denied(error: ClientError) -> bool:
    """Whether AWS refused a request because the caller lacks the permission for it."""
    return error.response["Error"].get("Code", "") in _DENIED_CODES


def explain(error: BotoCoreError | ClientError) -> TaskqError:
    """Turn an error of the AWS SDK into one sentence and what to do."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        hint = (
            "Set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; or use --target local, which needs none."
        )
        return AwsAccess("No AWS credentials were found.", hint)
    if isinstance(error, ProfileNotFound):
        return AwsAccess(
            f"{error}.", "`aws configure list-profiles` lists the profiles; set AWS_PROFILE to one of them."
        )
    if isinstance(error, ConnectionError | HTTPClientError):
        return AwsAccess(
            f"AWS does not answer: {error}.", "Check the network, AWS_REGION and AWS_ENDPOINT_URL; then run it again."
        )
    if isinstance(error, ClientError):
        code = error.response["Error"].get("Code", "")
        if code in _CREDENTIAL_CODES:
            return AwsAccess(f"AWS refuses the credentials: {error}.", "Sign in again, or choose another AWS_PROFILE.")
        if is_denied(error):
            return AwsAccess(f"AWS denies it: {error}.", "The identity above lacks this permission; ask for it.")
    return TaskqError(f"AWS answered with an error: {error}.", "Correct the cause it names and run it again.")
