"""When a task is due, what its schedule says, and what is refused before anything is sent."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import boto3
import botocore.session
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from taskq_lib.aws import schedule
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_lib.commands import check_task_status
from taskq_lib.commands.main import main
from taskq_lib.due import MAX_AHEAD, read_length, read_time
from taskq_lib.errors import BadInput
from taskq_worker.contract import parse_body
from tests.unit.events import task

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
QUEUES = {
    "DeadLetterQueueArn": "arn:aws:sqs:us-east-1:123456789012:dead",
    "SchedulerRoleArn": "arn:aws:iam::123456789012:role/r",
}
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", fullmatch=True)


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """Moto's SQS and Scheduler, with a schedule group."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        made = Target(name="aws", session=boto3.Session(region_name="us-east-1"), region="us-east-1")
        made.client("scheduler").create_schedule_group(Name="group")
        yield made


def stack(target: Target, name: str = "queue", group: str | None = "group") -> Stack:
    """Make a queue, and a stack that has it."""
    fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true"} if name.endswith(".fifo") else {}
    url = target.client("sqs").create_queue(QueueName=name, Attributes=fifo)["QueueUrl"]
    outputs = {"QueueUrl": url, "QueueArn": f"arn:aws:sqs:us-east-1:123456789012:{name}", **QUEUES}
    outputs |= {"ScheduleGroupName": group} if group else {}
    return Stack(target=target, name="s", status="CREATE_COMPLETE", parameters={}, outputs=outputs)


def in_s(seconds: float) -> datetime:
    """Return the time so many seconds from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _is_a_sentence(error: BadInput) -> None:
    assert str(error.args[0]).endswith(".")


@given(
    ahead=st.timedeltas(min_value=timedelta(microseconds=1), max_value=MAX_AHEAD),
    zone=st.integers(-14 * 60, 14 * 60),
    separator=st.sampled_from("T "),
)
def test_a_time_is_read_as_it_was_meant_whatever_its_zone(ahead: timedelta, zone: int, separator: str) -> None:
    """Every time within a year, written in any zone, is read as the same moment."""
    when = NOW + ahead
    text = when.astimezone(timezone(timedelta(minutes=zone))).isoformat(sep=separator)
    assert read_time(text, NOW) == when
    assert read_time(text, NOW).utcoffset() == timedelta(0)


@given(text=st.one_of(st.text(max_size=40), st.from_regex(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?")))
def test_any_text_is_a_time_within_the_year_or_refused_in_one_sentence(text: str) -> None:
    """Nothing else comes out of the parser: no other error, no time that is past, naive or too far."""
    try:
        assert NOW < read_time(text, NOW) <= NOW + MAX_AHEAD
    except BadInput as error:
        _is_a_sentence(error)


@given(number=st.integers(1, 31_536_000), unit=st.sampled_from("smhd"))
def test_a_length_of_time_is_counted_from_now(number: int, unit: str) -> None:
    """A number and its unit are that many of it, up to a year; beyond, it is refused."""
    seconds = number * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit]
    if timedelta(seconds=seconds) > MAX_AHEAD:
        with pytest.raises(BadInput, match="over a year"):
            read_length(f"{number}{unit}", NOW)
    else:
        assert read_length(f"{number}{unit}", NOW) == NOW + timedelta(seconds=seconds)


@given(text=st.one_of(st.text(max_size=30), st.from_regex(r"\d+(\.\d+)?[smhd]", fullmatch=True)))
def test_any_text_is_a_length_within_the_year_or_refused(text: str) -> None:
    """Nothing else comes out of the parser, however large the number."""
    try:
        assert NOW < read_length(text, NOW) <= NOW + MAX_AHEAD
    except BadInput as error:
        _is_a_sentence(error)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2026-12-01T08:00:00", "has no time zone"),
        ("2026-12-01", "is not a time"),
        ("2026-02-30T08:00:00Z", "is not a time"),
        ("tomorrow", "is not a time"),
        ("2026-11-24T11:59:59Z", "is not in the future; it is 2026-11-24T12:00:00Z now"),
        ("2026-11-24T13:00:00+01:00", "is not in the future"),
        ("2036-12-01T08:00:00Z", "over a year ahead"),
        ("0001-01-01T00:00:00+14:00", "is not a time"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused_with_its_reason(text: str, says: str) -> None:
    """Naive, past, too far, or none: each in one sentence."""
    with pytest.raises(BadInput, match=re.escape(says)):
        read_time(text, NOW)


@pytest.mark.parametrize(("text", "says"), [("2 h", "not a length"), ("2", "not a length"), ("0s", "no time from now")])
def test_a_length_that_cannot_be_meant_is_refused_with_its_reason(text: str, says: str) -> None:
    """Without a unit, or of no length: each in one sentence."""
    with pytest.raises(BadInput, match=says):
        read_length(text, NOW)


@given(a=IDS, b=IDS)
def test_each_task_id_has_a_schedule_name_of_its_own_that_the_api_takes(a: str, b: str) -> None:
    """The name keeps to the API's own pattern and length, and two ids share one only where they are the same."""
    model = botocore.session.get_session().get_service_model("scheduler").shape_for("Name").metadata
    for name in (schedule.schedule_name(a), schedule.schedule_name(b)):
        assert model["min"] <= len(name) <= model["max"]
        assert re.fullmatch(model["pattern"], name)
    assert (schedule.schedule_name(a) == schedule.schedule_name(b)) is (a == b)


def test_a_hashed_name_cannot_be_claimed_by_an_id_that_looks_like_one() -> None:
    """An id that is another one's hashed name is hashed itself."""
    hashed = schedule.schedule_name("a:b")
    assert hashed.startswith("sha-")
    assert schedule.schedule_name(hashed) != hashed


def test_a_schedule_sends_the_tasks_body_once_as_the_scheduler_role(target: Target) -> None:
    """One time in UTC, no window, deleted afterwards, retried, undeliverable ones to the dead-letter queue."""
    live = stack(target)
    placed = schedule.at(live, task("t1"), in_s(86_400))
    made = target.client("scheduler").get_schedule(GroupName="group", Name="t1")
    assert made["ScheduleExpression"] == f"at({placed.due_at:%Y-%m-%dT%H:%M:%S})"
    assert (made["ScheduleExpressionTimezone"], made["ActionAfterCompletion"]) == ("UTC", "DELETE")
    assert made["FlexibleTimeWindow"] == {"Mode": "OFF"}
    goal = made["Target"]
    assert (goal["Arn"], goal["RoleArn"]) == (live.outputs["QueueArn"], QUEUES["SchedulerRoleArn"])
    assert goal["DeadLetterConfig"] == {"Arn": QUEUES["DeadLetterQueueArn"]}
    assert goal["RetryPolicy"] == {"MaximumEventAgeInSeconds": 86_400, "MaximumRetryAttempts": 185}
    assert "SqsParameters" not in goal
    sent = parse_body(goal["Input"])
    assert (sent.task_id, sent.enqueued_at) == ("t1", placed.due_at.timestamp())


def test_on_fifo_every_task_that_starts_later_is_scheduled_in_its_group(target: Target) -> None:
    """A FIFO queue delays no single message, and cannot be a schedule's dead-letter queue."""
    live = stack(target, "queue.fifo")
    for task_id, group in (("t1", None), ("t2", "tenant")):
        assert schedule.at(live, task(task_id), in_s(60), group).message_id is None
    groups = []
    for name in ("t1", "t2"):
        goal = target.client("scheduler").get_schedule(GroupName="group", Name=name)["Target"]
        assert "DeadLetterConfig" not in goal
        groups.append(goal["SqsParameters"]["MessageGroupId"])
    assert groups == [task("t1").type, "tenant"]


def test_a_schedule_goes_to_the_queue_that_takes_the_task(target: Target) -> None:
    """Of two queues, the one that a task sent now would go to."""
    first = stack(target)
    second = {"SecondQueueUrl": "https://second", "SecondQueueArn": "arn:aws:sqs:us-east-1:123456789012:second"}
    live = replace(first, outputs={**first.outputs, **second, "SecondQueueTakes": "priority>=7"})
    for task_id, priority in (("urgent", 7), ("normal", 6)):
        schedule.at(live, task(task_id, priority=priority), in_s(3600))
    get = target.client("scheduler").get_schedule
    sent_to = [get(GroupName="group", Name=name)["Target"]["Arn"] for name in ("urgent", "normal")]
    assert sent_to == [second["SecondQueueArn"], live.outputs["QueueArn"]]


@pytest.mark.parametrize(("seconds", "scheduled"), [(1, False), (898, False), (902, True)])
def test_a_standard_queue_delays_up_to_fifteen_minutes_itself(target: Target, seconds: int, scheduled: bool) -> None:  # noqa: FBT001
    """Below SQS's own limit the message waits in the queue, above it a schedule holds the task."""
    live = stack(target)
    placed = schedule.at(live, task("t1"), in_s(seconds))
    assert (placed.message_id is None) is scheduled
    assert schedule.count(live) == int(scheduled)
    delayed = target.client("sqs").get_queue_attributes(
        QueueUrl=live.queue_url, AttributeNames=["ApproximateNumberOfMessagesDelayed"]
    )["Attributes"]["ApproximateNumberOfMessagesDelayed"]
    assert delayed == str(int(not scheduled))


def test_what_breaks_the_contract_or_the_clock_is_refused_and_nothing_is_made(target: Target) -> None:
    """A past or naive time, a body that is too large, a stack without a group: one sentence, no schedule."""
    live = stack(target)
    for when in (in_s(-1), datetime(2030, 1, 1), in_s(400 * 86_400)):
        with pytest.raises(BadInput):
            schedule.at(live, task("t1"), when)
    with pytest.raises(BadInput, match="1 MiB"):
        schedule.at(live, task("t1", data={"to": "x" * 1_100_000}), in_s(3600))
    with pytest.raises(BadInput, match="has no schedule group"):
        schedule.at(stack(target, group=None), task("t1"), in_s(3600))
    assert schedule.count(live) == 0
    assert schedule.count(stack(target, group=None)) == 0


def test_pending_has_its_columns_where_nothing_is_scheduled(target: Target) -> None:
    """The frame of no tasks has the same columns and dtypes as that of some."""
    live = stack(target)
    empty = schedule.pending(live)
    schedule.at(live, task("t1"), in_s(3600))
    assert len(empty) == 0
    assert empty.dtypes.astype(str).to_dict() == schedule.pending(live).dtypes.astype(str).to_dict()


def test_a_schedule_of_somebody_else_hides_no_task(target: Target) -> None:
    """One in the group that the kit did not make is listed without what it does not say."""
    live = stack(target)
    schedule.at(live, task("t1"), in_s(3600))
    target.client("scheduler").create_schedule(
        Name="other",
        GroupName="group",
        ScheduleExpression="rate(1 hour)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": live.outputs["QueueArn"], "RoleArn": QUEUES["SchedulerRoleArn"], "Input": "hello"},
    )
    found = schedule.pending(live)
    assert found["task_id"].isna().tolist() == [False, True]
    assert found["due_at"].isna().tolist() == [False, True]
    assert schedule.count(live) == 2


@pytest.mark.parametrize("given", [["--at", "2020-01-01T00:00:00Z"], ["--at", "2030-01-01T00:00:00"], ["--in", "2"]])
def test_a_due_time_is_refused_before_aws_is_asked(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No target is reachable here, and the sentence is about the time."""
    data = ["--type", "SEND_EMAIL", "--data", '{"to": "a@example.com"}']
    assert main(["submit", "--target", "nowhere", *data, *given]) == 2
    assert "time" in capsys.readouterr().err


@pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException"])
def test_a_status_needs_no_right_to_read_schedules(code: str, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where schedules may not be read the status says so; any other error is one."""

    def refuse(*_: object) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "GetSchedule")

    monkeypatch.setattr(schedule, "due_at", refuse)
    if code == "ThrottlingException":
        with pytest.raises(ClientError):
            check_task_status._without_status(stack(target), "t")
    else:
        found = check_task_status._without_status(stack(target), "t")
        assert found == {"task_id": "t", "state": "pending or unknown (schedules may not be read)"}
