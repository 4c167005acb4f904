"""The template states its own arithmetic: limits, rights, retention and names are as the documentation says."""

import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq_lib import PROJECT_ROOT
from taskq_lib.aws import rules, template
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.errors import BadInput
from taskq_worker import contract
from taskq_worker.contract import Retry, register
from tests.unit import plain

_TEXT = template.TEMPLATE.read_text()
_READ: dict[str, Any] = plain.read(_TEXT)
_PARAMETERS: dict[str, dict[str, Any]] = _READ["Parameters"]
_DEFAULTS = template.effective({})
# Digits of all scripts, superscripts among them, are what a careless check lets through.
_RULES = rules.rules(_TEXT)
_ASSERTIONS = [(name, assertion) for name, rule in _RULES.items() for assertion in rule["Assertions"]]
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


def allowed(name: str) -> st.SearchStrategy[str]:
    """Return every value that the template allows for a parameter, its default and the ends of its range often."""
    entry = _PARAMETERS[name]
    if "AllowedValues" in entry:
        return st.sampled_from([template._text(value) for value in entry["AllowedValues"]])
    if entry["Type"] == "Number":
        low, high, usual = entry["MinValue"], entry["MaxValue"], entry["Default"]
        return (st.sampled_from([low, high, usual]) | st.integers(low, high)).map(str)
    return st.just(entry["Default"]) | st.from_regex(entry.get("AllowedPattern", ".*"), fullmatch=True)


def refs(node: Any) -> set[str]:
    """Return the parameters that an expression of a rule looks at."""
    if isinstance(node, dict):
        return {node["Ref"]} if "Ref" in node else set().union(*map(refs, node.values()))
    return set().union(*map(refs, node)) if isinstance(node, list) else set()


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
    assert (_DEFAULTS["FifoQueue"], _DEFAULTS["SecondQueueFor"], _DEFAULTS["FunctionArchitecture"]) == (
        "false", "none", "x86_64",
    )  # fmt: skip
    for name in ("MaximumConcurrency", "ReservedConcurrency", "MinimumPollers", "MaximumPollers"):
        assert default(name) == 0


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
        ({"BatchSize": "11"}, "A BatchSize over 10 needs BatchWindowSeconds of at least 1"),
        ({"FifoQueue": "true", "BatchSize": "11"}, "FifoQueue=true takes a BatchSize of 10 at most"),
        ({"FifoQueue": "true", "BatchWindowSeconds": "1"}, "FifoQueue=true needs BatchWindowSeconds=0"),
        ({"FifoDeduplication": "content"}, "FifoDeduplication=content needs FifoQueue=true"),
        ({"MaximumConcurrency": "1"}, "MaximumConcurrency is 0 (no bound) or 2 to 1000"),
        ({"SecondQueueMaximumConcurrency": "2"}, "SecondQueueMaximumConcurrency needs SecondQueueFor=priority or type"),
        ({"SecondQueueTypes": "SEND_EMAIL"}, "SecondQueueTypes needs SecondQueueFor=type"),
        ({"SecondQueueFor": "type"}, "SecondQueueFor=type needs SecondQueueTypes"),
        (
            {"SecondQueueFor": "type", "SecondQueueTypes": "SEND_EMAIL,send_email"},
            "SecondQueueTypes names send_email: no such task type; there are IMAGE_RESIZE, PROCESS_DATA, SEND_EMAIL",
        ),
        ({"MinimumPollers": "2"}, "MinimumPollers and MaximumPollers are set together"),
        ({"MaximumPollers": "2"}, "MinimumPollers and MaximumPollers are set together"),
        ({"MinimumPollers": "5", "MaximumPollers": "4"}, "MinimumPollers (5) exceeds MaximumPollers (4)"),
        (
            {"MinimumPollers": "2", "MaximumPollers": "4", "MaximumConcurrency": "40"},
            "MaximumConcurrency excludes MinimumPollers and MaximumPollers",
        ),
        (
            {"MaximumConcurrency": "10", "ReservedConcurrency": "9"},
            "ReservedConcurrency (9) is below MaximumConcurrency (10): what the mappings start beyond it is throttled",
        ),
        (
            {
                "MaximumConcurrency": "10",
                "ReservedConcurrency": "12",
                "SecondQueueFor": "priority",
                "SecondQueueMaximumConcurrency": "3",
            },
            "ReservedConcurrency (12) is below MaximumConcurrency + SecondQueueMaximumConcurrency (13)",
        ),
        (
            {"MinimumPollers": "2", "MaximumPollers": "4", "ReservedConcurrency": "39"},
            "ReservedConcurrency (39) is below 10 x MaximumPollers (40)",
        ),
        (
            {
                "MinimumPollers": "2",
                "MaximumPollers": "4",
                "ReservedConcurrency": "79",
                "SecondQueueFor": "priority",
            },
            "ReservedConcurrency (79) is below 10 x MaximumPollers + 10 x MaximumPollers of the second queue (80)",
        ),
        (
            {"BatchSize": "97", "BatchWindowSeconds": "1"},
            "BatchSize (97) x the 1250 invocations that MaximumConcurrency=0 allows (1250) is 121250: SQS lets 120000",
        ),
        (
            {"BatchSize": "1000", "BatchWindowSeconds": "1", "MaximumConcurrency": "121"},
            "BatchSize (1000) x MaximumConcurrency (121) is 121000",
        ),
        (
            {"BatchSize": "1000", "BatchWindowSeconds": "1", "ReservedConcurrency": "121"},
            "BatchSize (1000) x ReservedConcurrency (121) is 121000",
        ),
        (
            {"MinimumPollers": "2", "MaximumPollers": "1201"},
            "BatchSize (10) x 10 x MaximumPollers (12010) is 120100",
        ),
        (
            {
                "BatchSize": "100",
                "BatchWindowSeconds": "1",
                "MaximumConcurrency": "1000",
                "SecondQueueFor": "priority",
            },
            "BatchSize (100) x the 1250 invocations that SecondQueueMaximumConcurrency=0 allows (1250) is 125000",
        ),
        ({"DeadLetterRetentionSeconds": "345600"}, "DeadLetterRetentionSeconds must exceed MessageRetentionSeconds"),
        ({"MaxReceiveCount": "5", "MaxAttempts": "5"}, "MaxReceiveCount must exceed MaxAttempts (5)"),
        (
            {"FifoQueue": "true", "MaxReceiveCount": "21"},
            "MaxReceiveCount (21) must exceed BatchSize (10) x (MaxAttempts (3) - 1) + 1 with FifoQueue=true",
        ),
        ({"RetryCapSeconds": "43200", "MaxAttempts": "8"}, "RetryCapSeconds x MaxAttempts (345600) must be below"),
        ({"StatusTtlDays": "14"}, "StatusTtlDays must exceed DeadLetterRetentionSeconds"),
        ({"AlarmEmail": "a@example.com", "Alarms": "false"}, "AlarmEmail needs Alarms=true"),
        ({"AgeAlarmSeconds": "345600"}, "AgeAlarmSeconds (345600) must be below MessageRetentionSeconds (345600)"),
        ({"BreakerCooldownSeconds": "301"}, "BreakerCooldownSeconds (301) must be 300 at most with Alarms=true"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_contradiction_is_named(values: dict[str, str], says: str) -> None:
    """Each pair of values that cannot work together is named in a sentence of its own."""
    [sentence] = template.contradictions(template.effective(values))
    assert sentence.startswith(says)


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ({"MaximumConcurrency": "1000"}, "200 invocations fit; MaximumConcurrency bounds them."),
        (
            {"MinimumPollers": "2", "MaximumPollers": "21"},
            "200 invocations fit; MaximumPollers of 20 at most bounds them.",
        ),
        (
            {"SecondQueueFor": "priority", "MaximumConcurrency": "9"},
            "200 invocations fit; SecondQueueMaximumConcurrency bounds them.",
        ),
    ],
)
def test_too_many_in_flight_names_the_parameter_that_bounds_them(values: dict[str, str], advice: str) -> None:
    """The advice is the bound of the mapping that is meant, and of pollers how many: the two exclude each other."""
    large = {"BatchSize": "600", "BatchWindowSeconds": "1"}
    [sentence] = template.contradictions(template.effective(large | values))
    assert sentence.endswith(advice)


@pytest.mark.parametrize(
    "values",
    [
        {"BreakerCooldownSeconds": "300"},
        {"BreakerCooldownSeconds": "3600", "Alarms": "false"},
        {"BreakerCooldownSeconds": "3600", "Metrics": "false"},
        {"BreakerCooldownSeconds": "3600", "BreakerFailurePercent": "0"},
        {"FifoQueue": "true", "FifoDeduplication": "content", "BatchSize": "10"},
        {"FifoQueue": "true", "MaxReceiveCount": "22"},
        {"FifoQueue": "true", "MaxReceiveCount": "5", "BatchSize": "1"},
        {"BatchSize": "96", "BatchWindowSeconds": "1"},
        {"BatchSize": "10000", "BatchWindowSeconds": "1", "MaximumConcurrency": "12", "FunctionMemoryMb": "1769"},
        {"BatchSize": "100", "BatchWindowSeconds": "1", "ReservedConcurrency": "1000"},
        {"MaximumConcurrency": "10", "ReservedConcurrency": "10"},
        {"SecondQueueFor": "priority", "MaximumConcurrency": "8", "SecondQueueMaximumConcurrency": "2",
         "ReservedConcurrency": "10"},
        {"SecondQueueFor": "type", "SecondQueueTypes": "SEND_EMAIL,PROCESS_DATA"},
        {"MinimumPollers": "2", "MaximumPollers": "1200", "FunctionArchitecture": "arm64"},
        {"MinimumPollers": "4", "MaximumPollers": "4", "ReservedConcurrency": "40"},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_what_just_fits_is_accepted(values: dict[str, str]) -> None:
    """Options at the edge of what they allow together are deployed."""
    assert template.contradictions(template.effective(template.check(values))) == []


@pytest.mark.parametrize(
    ("rule", "assertion"), _ASSERTIONS, ids=[f"{rule}-{n}" for n, (rule, _) in enumerate(_ASSERTIONS)]
)
def test_every_assertion_can_fail_and_names_what_it_compares(rule: str, assertion: dict[str, Any]) -> None:
    """Each assertion of the template's rules refuses some allowed values and not the defaults, and names parameters.

    One that compares two, in its rule's condition or itself, names two.
    """
    condition = _RULES[rule].get("RuleCondition", {"Fn::Equals": ["", ""]})
    looked_at = sorted(refs(condition) | refs(assertion["Assert"]))
    options = [
        [template._text(value) for value in known.get("AllowedValues", ("0", "1", "2", "11", "", "A"))]
        for known in (_PARAMETERS.get(name, {}) for name in looked_at)
    ]
    one = {rule: {"RuleCondition": condition, "Assertions": [assertion]}}
    outcomes = [rules.broken(one, dict(zip(looked_at, values, strict=True))) for values in itertools.product(*options)]
    assert [assertion["AssertDescription"]] in outcomes
    assert rules.broken(one, _DEFAULTS) == []
    own = [name for name in looked_at if name in _PARAMETERS]
    named = [name for name in own if name in assertion["AssertDescription"]]
    assert len(named) >= min(len(own), 2)


@given(st.fixed_dictionaries({name: allowed(name) for name in _PARAMETERS}))
def test_any_allowed_values_are_judged(values: dict[str, str]) -> None:
    """With any values that are allowed each for itself, what contradicts and what is risky is said in sentences."""
    checked = template.check(values)
    for sentence in template.contradictions(checked) + template.risks(checked):
        assert sentence.endswith(".")


def test_a_rule_with_an_unknown_function_is_an_error() -> None:
    """A function that the library does not evaluate is named, so that no rule is passed over in silence."""
    with pytest.raises(ValueError, match="Fn::ValueOf is not a function that the rules"):
        rules.evaluate({"Fn::ValueOf": ["Vpc", "Name"]}, {})
    assert rules.evaluate({"Fn::EachMemberIn": [["a", "b"], ["b", "c", "a"]]}, {}) is True
    assert rules.evaluate({"Fn::EachMemberIn": [["a", "d"], ["b", "c", "a"]]}, {}) is False


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"ReservedConcurrency": "50"}, "ReservedConcurrency is 50 and MaximumConcurrency 0: in a backlog Lambda"),
        (
            {"ReservedConcurrency": "50", "MaximumConcurrency": "40", "SecondQueueFor": "priority"},
            "ReservedConcurrency is 50 and SecondQueueMaximumConcurrency 0: ",
        ),
        ({"SecondQueueFor": "priority"}, "SecondQueueFor is priority and MaximumConcurrency 0: a backlog in the first"),
        (
            {"SecondQueueFor": "priority", "UrgentPriority": "0", "MaximumConcurrency": "9"},
            "UrgentPriority is 0: every task is urgent",
        ),
        (
            {
                "SecondQueueFor": "type", "SecondQueueTypes": "IMAGE_RESIZE,PROCESS_DATA,SEND_EMAIL",
                "MaximumConcurrency": "9",
            },
            "SecondQueueTypes names every task type: no task goes to the first queue.",
        ),
        (
            {
                "BatchSize": "10000", "BatchWindowSeconds": "1", "MaximumConcurrency": "9",
                "FunctionTimeoutSeconds": "200", "VisibilityTimeoutSeconds": "1201",
            },
            "BatchSize is 10000 and FunctionMemoryMb 128: to claim and record a whole batch takes about 104 s of",
        ),
        ({"SecondQueueFor": "priority", "MaximumConcurrency": "9"}, None),
        ({"MinimumPollers": "2", "MaximumPollers": "5", "SecondQueueFor": "priority"}, None),
        ({"ReservedConcurrency": "9", "MaximumConcurrency": "9"}, None),
        ({"ReservedConcurrency": "900", "MaximumConcurrency": "9"}, None),
        (
            {"ReservedConcurrency": "901", "MaximumConcurrency": "9"},
            "ReservedConcurrency is 901: AWS keeps 100 of the account's quota unreserved, which is 1,000 by default",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_a_risk_is_told(values: dict[str, str], says: str | None) -> None:
    """What works and is not advised is said in one sentence; what bounds itself carries no risk."""
    told = template.risks(template.effective({"VisibilityTimeoutSeconds": "1800"} | values))
    assert [sentence[: len(says or "")] for sentence in told] == ([says] if says else [])


def test_the_net_lies_behind_the_budget_of_every_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task type with a budget of its own that the safety net would cut short is named."""
    monkeypatch.setattr(contract, "_TYPES", dict(contract._TYPES))
    register("PATIENT", retry=Retry(max_attempts=20))(lambda _context: {})
    [sentence] = template.contradictions(template.effective({"MaxReceiveCount": "20"}))
    assert sentence.startswith("MaxReceiveCount must exceed the budget of PATIENT (20)")
    [sentence] = template.contradictions(template.effective({"FifoQueue": "true"}))
    assert "exceed BatchSize (10) x (the budget of PATIENT (20) - 1) + 1 with" in sentence
    assert sentence.endswith("Set MaxReceiveCount=192.")


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
        listed = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        if listed[0] == "HasOwnTable":  # the stack's own table, else the one that is named, in this region
            assert listed.pop().endswith(":dynamodb:${AWS::Region}:${AWS::AccountId}:table/${ExistingTableName}")
            listed = [listed]
        for one in listed:
            # A `!GetAtt` is read as its text, the Arn of one resource of this stack; an `!If` as condition and both.
            resource, _, attribute = (one if isinstance(one, str) else one[1]).partition(".")
            assert resource in _READ["Resources"]
            assert attribute == "Arn"
            assert isinstance(one, str) or one[0] == _READ["Resources"][resource]["Condition"]
            rights[resource] = sorted(actions)
    take = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
    assert rights == {
        "Queue": take,
        "SecondQueue": take,
        "DeadLetterQueue": ["sqs:SendMessage"],
        "Table": ["dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate"],
        "LogGroup": ["logs:CreateLogStream", "logs:PutLogEvents"],
    }


def test_a_schedule_may_send_to_the_queues_and_do_nothing_else() -> None:
    """The role of schedules is for those of this stack's own group, and sends messages to its queues."""
    policy = properties("SchedulerRole")["AssumeRolePolicyDocument"]
    [trust] = policy["Statement"]
    assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert trust["Condition"]["StringEquals"] == {
        "aws:SourceAccount": "AWS::AccountId", "aws:SourceArn": "ScheduleGroup.Arn"
    }  # fmt: skip
    [statement] = statements("SchedulerRole")
    assert statement["Action"] == "sqs:SendMessage"
    sent_to = ["Queue.Arn", ["HasSecondQueue", "SecondQueue.Arn", "AWS::NoValue"], "DeadLetterQueue.Arn"]
    assert statement["Resource"] == sent_to


def test_a_replica_is_asked_for_or_there_is_none() -> None:
    """One region by default; with ReplicaRegion a second, each with its backups, and the stream that it needs."""
    assert (_DEFAULTS["ReplicaRegion"], _DEFAULTS["ExistingTableName"]) == ("", "")
    home, (condition, other, none) = properties("Table")["Replicas"]
    assert (home["Region"], condition, other["Region"], none) == (
        "AWS::Region", "HasReplica", "ReplicaRegion", "AWS::NoValue"
    )  # fmt: skip
    assert home["PointInTimeRecoverySpecification"] == other["PointInTimeRecoverySpecification"]
    assert properties("Table")["StreamSpecification"][0] == "HasReplica"
    both = template.effective({"ReplicaRegion": "eu-west-1", "ExistingTableName": "a-table"})
    [sentence] = template.contradictions(both)
    assert sentence.startswith("ReplicaRegion excludes ExistingTableName")
    home_again = {**template.effective({"ReplicaRegion": "eu-west-1"}), "AWS::Region": "eu-west-1"}
    assert template.contradictions(home_again) == [
        "ReplicaRegion is the region of the stack itself, which has the table already; name another."
    ]


def test_no_name_is_fixed() -> None:
    """No resource is given a name, so that a second stack stands beside the first; names leave through the outputs."""
    named = {"QueueName", "TableName", "RoleName", "LogGroupName", "AlarmName", "TopicName", "DashboardName", "Name"}
    for resource, entry in _READ["Resources"].items():
        if entry["Type"] != "AWS::Logs::MetricFilter":  # it names the log group that it reads
            assert not named & entry.get("Properties", {}).keys(), resource
    assert "FunctionName" not in properties("Function")
    assert all("Export" not in output for output in _READ["Outputs"].values())


def test_the_mapping_reports_each_record() -> None:
    """One failed task does not bring its whole batch again: the mapping takes a partial batch response."""
    assert properties("EventSourceMapping")["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_the_second_queue_is_as_the_first() -> None:
    """Queue and mapping of the second differ from the first in the queue itself and in its own concurrency."""
    assert properties("SecondQueue") == properties("Queue")
    text = json.dumps(properties("SecondEventSourceMapping"))
    for own in ("Queue.Arn", "MaximumConcurrency"):
        text = text.replace(f'"Second{own}"', f'"{own}"').replace(f'"HasSecond{own}"', f'"Has{own}"')
    text = text.replace('"SecondQueueMaximumConcurrency"', '"MaximumConcurrency"')
    assert json.loads(text) == properties("EventSourceMapping")
    of_second = [name for name, entry in _READ["Resources"].items() if entry.get("Condition") == "HasSecondQueue"]
    assert sorted(of_second) == ["SecondEventSourceMapping", "SecondQueue", "SecondQueuePolicy"]


def test_a_fifo_stack_is_fifo_throughout() -> None:
    """All three queues are FIFO together, deduplicate by content unless told otherwise, and have high throughput."""
    for queue in ("Queue", "SecondQueue", "DeadLetterQueue"):
        found = {name: value for name, value in properties(queue).items() if "IsFifo" in str(value)}
        assert found == {
            "FifoQueue": ["IsFifo", True, "AWS::NoValue"],
            "ContentBasedDeduplication": ["IsFifo", True, "AWS::NoValue"],
            "DeduplicationScope": ["IsFifo", "messageGroup", "AWS::NoValue"],
            "FifoThroughputLimit": ["IsFifo", "perMessageGroupId", "AWS::NoValue"],
        }


def test_logs_and_items_do_not_stay_for_ever() -> None:
    """The log group is the stack's own and has a retention; status items expire by their own attribute."""
    assert properties("LogGroup")["RetentionInDays"] == "LogRetentionDays"
    assert properties("Function")["LoggingConfig"]["LogGroup"] == "LogGroup"
    assert properties("Table")["TimeToLiveSpecification"] == {"AttributeName": "expiresAt", "Enabled": True}


def test_everything_is_encrypted_and_tls_only() -> None:
    """Queues and table are encrypted at rest, and both queues refuse requests without TLS."""
    assert properties("Queue")["SqsManagedSseEnabled"] is True
    assert properties("SecondQueue")["SqsManagedSseEnabled"] is True
    assert properties("DeadLetterQueue")["SqsManagedSseEnabled"] is True
    assert properties("Table")["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS"}
    for queue in ("Queue", "SecondQueue", "DeadLetterQueue"):
        policy = properties(f"{queue}Policy")
        [statement] = policy["PolicyDocument"]["Statement"]
        assert policy["Queues"] == [queue]
        assert (statement["Effect"], statement["Resource"]) == ("Deny", f"{queue}.Arn")
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_what_holds_tasks_has_a_policy_for_its_end() -> None:
    """Table and queues say what becomes of them at a teardown and at a replacement; the record outlives the stack."""
    assert _READ["Resources"]["Table"]["DeletionPolicy"] == "RetainExceptOnCreate"
    for resource in ("Queue", "SecondQueue", "DeadLetterQueue", "Table", "LogGroup"):
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
    read = plain.read(text)
    assert read["Resources"]["Function"]["Properties"].pop("Code") == {"S3Bucket": "bucket", "S3Key": "stack/code.zip"}
    expected = plain.read(_TEXT)
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
    assert template.check({"BatchSize": "010"}) == {"BatchSize": "10"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("BatchSize:5, TimeIndex=false", {"BatchSize": "5", "TimeIndex": "false"}),
        ("SecondQueueTypes:A,B", {"SecondQueueTypes": "A,B"}),
        ("SecondQueueFor:type, SecondQueueTypes: A , B ,BatchSize:5",
         {"SecondQueueFor": "type", "SecondQueueTypes": "A,B", "BatchSize": "5"}),
        ("SecondQueueTypes:,SecondQueueFor:none", {"SecondQueueTypes": "", "SecondQueueFor": "none"}),
    ],
)  # fmt: skip
def test_a_value_with_commas_is_read_whole(text: str, values: dict[str, str]) -> None:
    """In a notebook's text a part without a name of its own belongs to the value before."""
    assert template.read_parameters(text) == values


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A,SecondQueueTypes:B", "Template parameter 'A' does not exist"),
        ("BatchSize:5,Sped:3", "Template parameter 'Sped' does not exist"),
        ("SecondQueueTypes:A,TimeIndex", "TimeIndex is ''; allowed are true, false"),
        ("BatchSize:5,6", "BatchSize is '5,6'; allowed is a whole number"),
    ],
)
def test_a_text_that_is_no_list_of_values_is_refused(text: str, says: str) -> None:
    """A name that does not exist or has no value is refused, and no value takes it for its own."""
    with pytest.raises(BadInput) as refused:
        template.read_parameters(text)
    assert str(refused.value).startswith(says)


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
        ("MinimumPollers", 201, "MinimumPollers is '201'; allowed is a whole number from 0 to 200"),
        ("BatchSize", "9" * 5000, "BatchSize is '999"),
        ("SecondQueueTypes", "A, B", "SecondQueueTypes is 'A, B'. SecondQueueTypes must be task types with commas"),
        ("SecondQueueTypes", "A,", "SecondQueueTypes is 'A,'. SecondQueueTypes must be"),
        ("SecondQueueTypes", "A\n", "SecondQueueTypes is 'A\\n'. SecondQueueTypes must be"),
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
