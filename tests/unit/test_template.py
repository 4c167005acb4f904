"""The template states its own arithmetic: limits, rights, retention and names are as the documentation says."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib import PROJECT_ROOT
from taskq_lib.aws import template
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput
from taskq_worker import contract
from taskq_worker.contract import Retry, register

_TEXT = template.TEMPLATE.read_text()
_READ: dict[str, Any] = yaml.load(_TEXT, Loader=template._Loader)  # noqa: S506 - a SafeLoader
_PARAMETERS: dict[str, dict[str, Any]] = _READ["Parameters"]
_DEFAULTS = template.effective({})
# Digits of all scripts, superscripts among them, are what a careless check lets through.
_VALUES = st.text() | st.text(st.characters(categories=["N"]), min_size=1, max_size=4) | st.integers() | st.floats()


def properties(resource: str) -> dict[str, Any]:
    """Return the properties of one resource."""
    found: dict[str, Any] = _READ["Resources"][resource]["Properties"]
    return found


def default(name: str) -> int:
    """Return the default of a numeric parameter."""
    return int(_PARAMETERS[name]["Default"])


def statements(resource: str) -> Iterator[dict[str, Any]]:
    """Yield the statements of a role's own policies."""
    for policy in properties(resource)["Policies"]:
        yield from policy["PolicyDocument"]["Statement"]


def deployed(outputs: dict[str, str]) -> Stack:
    """Make a stack with these outputs."""
    target = Target(name="aws", session=None, region="us-east-1")
    return Stack(target=target, name="s", status="CREATE_COMPLETE", parameters={}, outputs=outputs)


def test_cfn_lint_is_content() -> None:
    """The template has no error and no warning by AWS's own schemas."""
    command = Path(sys.executable).with_name("cfn-lint")
    ran = run([command, template.TEMPLATE], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_defaults_are_the_documented_ones() -> None:
    """Out of the box the system is as its architecture states it."""
    assert default("VisibilityTimeoutSeconds") == 300
    assert default("MessageRetentionSeconds") == 4 * 86_400
    assert default("FunctionMemoryMb") == 128
    assert default("FunctionTimeoutSeconds") == 300
    assert default("BatchSize") == 10
    assert default("MaxAttempts") == 3  # the first and two retries
    assert _PARAMETERS["FunctionRuntime"]["Default"] == "python3.11"
    assert properties("Table")["BillingMode"] == "PAY_PER_REQUEST"
    assert properties("Table")["KeySchema"] == [{"AttributeName": "taskId", "KeyType": "HASH"}]
    assert "FifoQueue" not in properties("Queue")


def test_defaults_do_not_contradict_each_other() -> None:
    """Timeout, retention, receives and attempts stand in the relation that SQS and Lambda need."""
    assert template.contradictions(_DEFAULTS) == []
    assert default("VisibilityTimeoutSeconds") >= default("FunctionTimeoutSeconds")
    assert default("DeadLetterRetentionSeconds") > default("MessageRetentionSeconds")
    assert default("MaxReceiveCount") > default("MaxAttempts")
    assert default("MaxReceiveCount") >= 5
    assert _PARAMETERS["MaxReceiveCount"]["MinValue"] >= 5


def test_the_risk_of_the_defaults_is_told_with_the_safe_value() -> None:
    """The documented visibility timeout is below AWS's advice: one sentence says what may happen and what is safe."""
    [risk] = template.risks(_DEFAULTS)
    assert "delivered a second time" in risk
    assert "VisibilityTimeoutSeconds=1800 removes" in risk
    safe = template.effective({"VisibilityTimeoutSeconds": "1800"})
    assert template.risks(safe) == []
    assert template.contradictions(safe) == []
    assert template.risks({**safe, "BatchWindowSeconds": "5"}) != []
    assert template.risks({**safe, "BatchWindowSeconds": "5", "VisibilityTimeoutSeconds": "1805"}) == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"FunctionTimeoutSeconds": "301"}, "FunctionTimeoutSeconds (301) exceeds VisibilityTimeoutSeconds (300)"),
        ({"BatchSize": "11"}, "BatchSize 11 is over 10 and needs BatchWindowSeconds of at least 1"),
        ({"MaximumConcurrency": "1"}, "MaximumConcurrency is 0 (no bound) or 2 to 1000"),
        ({"DeadLetterRetentionSeconds": "345600"}, "DeadLetterRetentionSeconds must exceed MessageRetentionSeconds"),
        ({"MaxReceiveCount": "5", "MaxAttempts": "5"}, "MaxReceiveCount must exceed MaxAttempts (5)"),
        ({"RetryCapSeconds": "43200", "MaxAttempts": "8"}, "RetryCapSeconds x MaxAttempts (345600) must be below"),
        ({"StatusTtlDays": "14"}, "StatusTtlDays must exceed DeadLetterRetentionSeconds"),
        ({"AlarmEmail": "a@example.com", "Alarms": "false"}, "AlarmEmail needs Alarms=true"),
        ({"AgeAlarmSeconds": "345600"}, "AgeAlarmSeconds (345600) must be below MessageRetentionSeconds (345600)"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_contradiction_is_named(values: dict[str, str], says: str) -> None:
    """Each pair of values that cannot work together is named in a sentence of its own."""
    [sentence] = template.contradictions(template.effective(values))
    assert sentence.startswith(says)


def test_the_net_lies_behind_the_budget_of_every_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task type with a budget of its own that the safety net would cut short is named."""
    monkeypatch.setattr(contract, "_TYPES", dict(contract._TYPES))
    register("PATIENT", retry=Retry(max_attempts=20))(lambda _context: {})
    [sentence] = template.contradictions(template.effective({"MaxReceiveCount": "20"}))
    assert sentence.startswith("MaxReceiveCount must exceed the budget of PATIENT (20)")


def test_every_parameter_is_described_and_grouped_once() -> None:
    """Each parameter has a sentence and a default, and stands in exactly one group of the console's form."""
    for name, entry in _PARAMETERS.items():
        assert entry.get("Description"), name
        assert "Default" in entry, name
        assert entry["Type"] == "String" or {"MinValue", "MaxValue"} <= entry.keys() or "AllowedValues" in entry, name
    groups = _READ["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(_PARAMETERS)


def test_defaults_pass_their_own_check() -> None:
    """Every default is a value that the deployment accepts."""
    assert template.check(_DEFAULTS) == _DEFAULTS


def test_the_role_may_do_no_more_than_it_needs() -> None:
    """No right is granted on every resource or by a wildcard, and none but those that the function uses."""
    rights = {}
    for statement in statements("Role"):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not any("*" in action for action in actions)
        # A `!GetAtt` is read as its text: the Arn of one resource of this stack.
        resource, _, attribute = statement["Resource"].partition(".")
        assert resource in _READ["Resources"]
        assert attribute == "Arn"
        rights[resource] = sorted(actions)
    assert rights == {
        "Queue": ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"],
        "DeadLetterQueue": ["sqs:SendMessage"],
        "Table": ["dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate"],
        "LogGroup": ["logs:CreateLogStream", "logs:PutLogEvents"],
    }


def test_no_name_is_fixed() -> None:
    """No resource is given a name, so that a second stack stands beside the first; names leave through the outputs."""
    named = {"QueueName", "TableName", "RoleName", "LogGroupName", "AlarmName", "TopicName", "DashboardName"}
    for resource, entry in _READ["Resources"].items():
        assert not named & entry["Properties"].keys(), resource
    assert "FunctionName" not in properties("Function")
    assert all("Export" not in output for output in _READ["Outputs"].values())


def test_the_mapping_reports_each_record() -> None:
    """One failed task does not bring its whole batch again: the mapping takes a partial batch response."""
    assert properties("EventSourceMapping")["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_logs_and_items_do_not_stay_for_ever() -> None:
    """The log group is the stack's own and has a retention; status items expire by their own attribute."""
    assert properties("LogGroup")["RetentionInDays"] == "LogRetentionDays"
    assert properties("Function")["LoggingConfig"]["LogGroup"] == "LogGroup"
    assert properties("Table")["TimeToLiveSpecification"] == {"AttributeName": "expiresAt", "Enabled": True}


def test_everything_is_encrypted_and_tls_only() -> None:
    """Queues and table are encrypted at rest, and both queues refuse requests without TLS."""
    assert properties("Queue")["SqsManagedSseEnabled"] is True
    assert properties("DeadLetterQueue")["SqsManagedSseEnabled"] is True
    assert properties("Table")["SSESpecification"] == {"SSEEnabled": True}
    for queue in ("Queue", "DeadLetterQueue"):
        policy = properties(f"{queue}Policy")
        [statement] = policy["PolicyDocument"]["Statement"]
        assert policy["Queues"] == [queue]
        assert (statement["Effect"], statement["Resource"]) == ("Deny", f"{queue}.Arn")
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_what_holds_tasks_has_a_policy_for_its_end() -> None:
    """Table and queues say what becomes of them at a teardown and at a replacement; the record outlives the stack."""
    assert _READ["Resources"]["Table"]["DeletionPolicy"] == "RetainExceptOnCreate"
    for resource in ("Queue", "DeadLetterQueue", "Table", "LogGroup"):
        assert "DeletionPolicy" in _READ["Resources"][resource]
        assert _READ["Resources"][resource]["UpdateReplacePolicy"] == "Retain"


def test_the_outputs_cover_what_the_library_reads() -> None:
    """Every name that the library takes from a stack is one of its outputs, and each output says what it is."""
    read = {"QueueUrl", "DeadLetterQueueUrl", "TableName", "TimeIndexName", "EventSourceMappingId"}
    assert read <= _READ["Outputs"].keys()
    assert all(output["Description"] for output in _READ["Outputs"].values())
    stack = deployed({name: name for name in _READ["Outputs"]})
    assert (stack.queue_url, stack.dead_letter_queue_url) == ("QueueUrl", "DeadLetterQueueUrl")
    assert (stack.table, stack.time_index) == ("TableName", "TimeIndexName")
    assert deployed({}).time_index is None


def test_the_function_is_told_all_its_settings() -> None:
    """The environment of the function in the template is the one that the function reads."""
    source = (PROJECT_ROOT / "lambda" / "taskq_worker" / "settings.py").read_text()
    variables = properties("Function")["Environment"]["Variables"]
    assert {name for name in variables if f'environment["{name}"]' in source} == variables.keys()
    assert source.count('environment["') == len(variables)


def test_the_code_is_put_in_its_place() -> None:
    """For a deployment the code's folder is replaced by its place in S3, and nothing else changes."""
    text = template.with_code("bucket", "stack/code.zip")
    read = yaml.load(text, Loader=template._Loader)  # noqa: S506 - a SafeLoader
    assert read["Resources"]["Function"]["Properties"].pop("Code") == {"S3Bucket": "bucket", "S3Key": "stack/code.zip"}
    expected = yaml.load(_TEXT, Loader=template._Loader)  # noqa: S506 - a SafeLoader
    assert expected["Resources"]["Function"]["Properties"].pop("Code") == "lambda/"
    assert read == expected
    assert len(text) <= 51_200  # what CloudFormation takes inline


def test_values_become_the_strings_that_cloudformation_takes() -> None:
    """Numbers, texts and truth values may be given; they are sent as text."""
    given_ = {"BatchSize": 5, "TimeIndex": False, "FunctionRuntime": "python3.13", "RetryBaseSeconds": "0"}
    assert template.check(given_) == {
        "BatchSize": "5",
        "TimeIndex": "false",
        "FunctionRuntime": "python3.13",
        "RetryBaseSeconds": "0",
    }


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("Speed", 1, "Template parameter 'Speed' does not exist; there are VisibilityTimeoutSeconds, "),
        ("BatchSize", 0, "BatchSize is '0'; allowed is a whole number from 1 to 10000"),
        ("BatchSize", 10_001, "BatchSize is '10001'; allowed is"),
        ("BatchSize", -1, "BatchSize is '-1'; allowed is"),
        ("BatchSize", 1.5, "BatchSize is '1.5'; allowed is"),
        ("BatchSize", "many", "BatchSize is 'many'; allowed is"),
        ("BatchSize", None, "BatchSize is 'None'; allowed is"),
        ("BatchSize", True, "BatchSize is 'true'; allowed is"),
        ("BatchSize", "\u00b2", "BatchSize is '\u00b2'; allowed is"),
        ("BatchSize", "\u0663", "BatchSize is '\u0663'; allowed is"),
        ("LogRetentionDays", 2, "LogRetentionDays is '2'; allowed are 1, 3, 5, 7"),
        ("FunctionRuntime", "python2.7", "FunctionRuntime is 'python2.7'; allowed are python3.11, "),
        ("TimeIndex", "yes", "TimeIndex is 'yes'; allowed are true, false"),
        ("AlarmEmail", "team", "AlarmEmail is 'team'. AlarmEmail must be one e-mail address, such as team@example.com"),
        ("AlarmEmail", "a@b", "AlarmEmail is 'a@b'. AlarmEmail must be"),
        ("AlarmEmail", "a@example.com\n", "AlarmEmail is 'a@example.com\\n'. AlarmEmail must be"),
        ("AlarmEmail", "a@example.com;b@example.com", "AlarmEmail is 'a@example.com;b@example.com'. AlarmEmail must"),
        ("AlarmEmail", "\u00e4@example.com", "AlarmEmail is '\u00e4@example.com'. AlarmEmail must be"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(name: str, value: object, says: str) -> None:
    """A parameter that does not exist or a value out of its range is refused with what is allowed."""
    with pytest.raises(BadInput) as refused:
        template.check({name: value})
    assert str(refused.value).startswith(says)


@given(name=st.sampled_from(sorted(_PARAMETERS)), value=_VALUES)
def test_any_value_is_accepted_or_refused(name: str, value: object) -> None:
    """Whatever value is given, it is refused, or text with which contradictions and risks can be worked out."""
    # The template is parsed once for all examples, not twice for each.
    with pytest.MonkeyPatch.context() as patch, suppress(BadInput):
        patch.setattr(template, "parameters", lambda: _PARAMETERS)
        values = template.effective(template.check({name: value}))
        assert values[name].isascii()
        assert template.contradictions(values) is not None
        assert template.risks(values) is not None


@pytest.mark.parametrize("value", ["", "team@example.com", "first.last+queue@mail.example.co.uk"])
def test_an_address_or_none_is_accepted(value: str) -> None:
    """One e-mail address may be told of alarms, or nobody; without alarms only nobody."""
    values = template.effective(template.check({"AlarmEmail": value}))
    assert template.contradictions(values) == []
    assert template.contradictions({**template.effective({}), "Alarms": "false"}) == []


def test_what_is_given_comes_before_what_is_deployed() -> None:
    """A value is the one given, else the deployed one, else the default; parameters of old templates are left out."""
    values = template.effective({"BatchSize": "5"}, {"BatchSize": "7", "MaxAttempts": "4", "OldParameter": "1"})
    assert values == {**_DEFAULTS, "BatchSize": "5", "MaxAttempts": "4"}
