"""Redrive on the engine: what is selected runs again, once, and all else lies where it was, after interruptions too."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from botocore.exceptions import ClientError

from taskq_lib.aws import journal, queues, status, submit
from taskq_lib.aws import redrive as moving
from taskq_lib.aws import stack as stacks
from taskq_lib.aws.frames import tasks_frame
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target, masked
from taskq_lib.errors import AwsAccess, BadInput, NotDone, RunExists
from taskq_lib.report import redrive, redrive_outcomes, redrive_plan, runs
from tests.integration.test_flow import wait_until
from tests.unit.events import task

pytestmark = pytest.mark.integration

#: A notebook's parameters, as they are by default.
DEFAULTS: dict[str, Any] = {
    "stack_name": "redrive",
    "run_id": "",
    **dict.fromkeys(
        ["select_signature", "select_type", "select_reason", "select_ids", "select_since", "select_until"], ""
    ),
    "select_all": False,
    "max_messages": 10_000,
    "edit": "",
}
MENDED = '{"data": {"simulate": null}}'
DOOMED = {"fail_attempts": -1, "retryable": False}
Choose = Callable[..., dict[str, Any]]
Doom = Callable[..., list[str]]


@pytest.fixture(scope="module")
def own(target: Target) -> Iterator[Stack]:
    """A stack of this module's own, since a redrive looks at the whole dead-letter queue."""
    parameters = {"RetryBaseSeconds": 0, "FunctionTimeoutSeconds": 5, "VisibilityTimeoutSeconds": 30}
    live = stacks.deploy(target, "redrive", parameters, progress=lambda _status: None)
    yield live
    stacks.delete(live, delete_table=True, progress=lambda _status: None)


@pytest.fixture(autouse=True)
def _empty(own: Stack) -> None:
    """Each test begins with an empty dead-letter queue."""
    own.target.client("sqs").purge_queue(QueueUrl=own.dead_letter_queue_url)


@pytest.fixture
def choose(tmp_path: Path) -> Choose:
    """Give a notebook's parameters: the defaults, but for those that are named."""
    return lambda **given: DEFAULTS | {"runs_dir": str(tmp_path)} | given


@pytest.fixture
def doom(own: Stack, run_id: str) -> Doom:
    """Submit tasks that are dead-lettered at once, each with its error; returns their ids."""

    def submit_them(*errors: str) -> list[str]:
        ids = [f"{run_id}-{error}-{i}" for i, error in enumerate(errors)]
        for task_id, error in zip(ids, errors, strict=True):
            submit.send_one(own, task(task_id, simulate=DOOMED | {"error": error}))
        assert status.wait(own, ids, timeout_s=30, progress=False).why == "all final"
        return ids

    return submit_them


class Failing:
    """A client that passes everything on, and fails at one call of one method, before or after it is made."""

    def __init__(self, client: Any, method: str, n: int, *, after: bool) -> None:
        """Fail the `n`-th call of `method`."""
        self._client, self._method, self._left, self._after = client, method, n, after

    def __getattr__(self, name: str) -> Any:
        """Return the client's own method, or the one that fails."""
        call = getattr(self._client, name)
        return self._fail(call) if name == self._method else call

    def _fail(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def failing(**arguments: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise KeyboardInterrupt
            answer = call(**arguments)
            if self._left == 0:
                raise KeyboardInterrupt
            return answer

        return failing


def failing(live: Stack, method: str, n: int, *, after: bool) -> Stack:
    """Return the stack with an SQS client that fails once."""
    sqs = Failing(live.target.client("sqs"), method, n, after=after)
    found = replace(live.target, _clients={**live.target._clients, "sqs": sqs})
    return replace(live, target=found)


def states(live: Stack, ids: list[str]) -> pd.DataFrame:
    """Return state, attempts and number of redrives of tasks, in the order of their ids."""
    items = {item["taskId"]: item for item in status.items(live, ids)}
    tasks = tasks_frame([items[task_id] for task_id in ids])[["state", "n_attempts"]]
    return tasks.assign(n_redrives=[items[task_id].get("redrives", 0) for task_id in ids])


def n_visible(live: Stack) -> int:
    """Count the dead letters that can be received at once."""
    answer = live.target.client("sqs").get_queue_attributes(
        QueueUrl=live.dead_letter_queue_url, AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def test_a_dry_run_plans_and_changes_nothing(own: Stack, choose: Choose, doom: Doom) -> None:
    """A plan groups what is selected by signature and is on disk; all dead letters are visible and untouched."""
    ids = doom("Red", "Red", "Blue")
    job = redrive.prepare(own, choose(select_all=True, edit=MENDED))
    assert sorted(job.chosen["task_id"]) == sorted(ids)
    found = redrive_plan.groups(job.plan)
    assert sorted(zip(found["n"], found["reason"], strict=True)) == [(1, "non_retryable"), (2, "non_retryable")]
    assert json.loads(job.example["before"])["data"].keys() == {"to", "simulate"}
    assert json.loads(job.example["after"])["data"].keys() == {"to"}
    pd.testing.assert_frame_equal(job.run.load("redrive-01"), job.plan)
    assert (n_visible(own), queues.counts(own).n_dead) == (3, 3)
    assert set(states(own, ids)["n_redrives"]) == {0}
    assert not job.journal.exists()


def test_a_signature_is_redriven_with_an_edit_behind_a_canary(own: Stack, choose: Choose, doom: Doom) -> None:
    """The tasks of one signature complete after their edit, by their ticket; the others stay; the audit says it all."""
    ids = doom(*["Red"] * 13, *["Blue"] * 4)
    everything = redrive.prepare(own, choose(select_all=True)).plan
    [red] = everything.loc[everything["error_type"] == "Red", "signature_id"].unique()
    job = redrive.prepare(own, choose(select_signature=red, edit=MENDED))
    redrive.act(job, 0.0, 2, 30.0)
    found = redrive.outcomes(job, 30.0)
    redrive_outcomes.verify(found)
    assert redrive_outcomes.by_signature(found).to_dict("records") == [
        {
            "signature_id": red,
            "signature": "Red: simulated failure of attempt <n>",
            "completed": 13,
            "dead-lettered again": 0,
            "still open": 0,
        }
    ]
    after = states(own, ids)
    assert after["state"].tolist() == ["completed"] * 13 + ["dead_lettered"] * 4
    assert after["n_redrives"].tolist() == [1] * 13 + [0] * 4
    assert (n_visible(own), queues.counts(own).n_unsettled) == (4, 0)
    [audit] = job.run.results()["redrives"]
    assert (audit["state"], audit["messages"], audit["canary"]["completed"]) == ("finished", {"deleted": 13}, 2)
    assert audit["outcomes"] == {"completed": 13, "dead-lettered again": 0, "still open": 0}
    assert (audit["choice"]["select_signature"], audit["choice"]["edit"]) == (red, MENDED)


def test_a_canary_that_fails_leaves_the_rest(own: Stack, choose: Choose, doom: Doom) -> None:
    """Where a canary's task fails again, nothing else is sent; the next redrive is another one, with other values."""
    ids = doom(*["Red"] * 5)
    job = redrive.prepare(own, choose(select_all=True))
    with pytest.raises(NotDone, match="The canary did not pass: 0 completed, 2 dead-lettered again, 0 still open"):
        redrive.act(job, 0.0, 2, 30.0)
    assert sorted(states(own, ids)["n_redrives"]) == [0, 0, 0, 1, 1]
    assert n_visible(own) == 5
    assert job.run.results()["redrives"][0]["state"] == "stopped"
    again = redrive.prepare(own, choose(select_all=True, edit=MENDED, run_id=job.run.id))
    assert (again.name, again.resumed, len(again.chosen)) == ("redrive-02", False, 5)
    redrive.act(again, 0.0, 0, 30.0)
    assert set(redrive.outcomes(again, 30.0)["outcome"]) == {"completed"}
    assert [entry["state"] for entry in again.run.results()["redrives"]] == ["stopped", "finished"]


def test_what_fails_again_is_an_answer(own: Stack, choose: Choose, doom: Doom) -> None:
    """A task that is dead-lettered again is reported as that, after its full budget, and fails no verification."""
    ids = doom("Red")
    job = redrive.prepare(own, choose(select_ids=ids[0], edit='{"data": {"simulate": {"retryable": true}}}'))
    redrive.act(job, 0.0, 0, 30.0)
    found = redrive.outcomes(job, 30.0)
    redrive_outcomes.verify(found)
    assert found["outcome"].tolist() == ["dead-lettered again"]
    assert states(own, ids).iloc[0].tolist() == ["dead_lettered", 3, 1]
    assert n_visible(own) == 1


@pytest.mark.parametrize(
    ("method", "n", "after"),
    [
        ("send_message_batch", 2, False),
        ("send_message_batch", 2, True),
        ("delete_message_batch", 1, False),
        ("delete_message_batch", 2, True),
    ],
)
def test_an_interrupted_redrive_goes_on(
    own: Stack, choose: Choose, doom: Doom, method: str, n: int, *, after: bool
) -> None:
    """Wherever it was interrupted, the same call finishes it: every task reopened once, and the queue is left empty."""
    ids = doom(*["Red"] * 25)
    chosen = choose(select_all=True, edit=MENDED)
    job = redrive.prepare(own, chosen)
    with pytest.raises(KeyboardInterrupt):
        redrive.act(replace(job, live=failing(own, method, n, after=after)), 0.0, 0, 30.0)
    [audit] = job.run.results()["redrives"]
    assert (audit["state"], audit["by"]) == ("unfinished", masked(own.target.identity())["arn"])
    chosen["run_id"] = job.run.id
    with pytest.raises(BadInput, match="redrive-01 of this run is not finished, and was begun with max_messages 10000"):
        redrive.prepare(own, chosen | {"max_messages": 5})
    again = redrive.prepare(own, chosen)
    assert (again.name, again.resumed) == ("redrive-01", True)
    n_sent = sum(journal.read(job.journal).state(one) in {"sent", "deleted"} for one in job.chosen["message_id"])
    assert f"goes on where it stopped, with {n_sent} messages sent already" in str(again)
    redrive.act(again, 0.0, 0, 30.0)
    redrive_outcomes.verify(redrive.outcomes(again, 30.0))
    after_all = states(own, ids)
    assert set(after_all["state"]) == {"completed"}
    assert set(after_all["n_redrives"]) == {1}
    assert queues.counts(own).n_dead == 0
    assert again.run.results()["redrives"][0]["messages"] == {"deleted": 25}


def test_letters_that_a_killed_redrive_hides_are_waited_for(
    own: Stack, choose: Choose, doom: Doom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Letters hidden by a walk whose answer was lost are not taken for gone: the redrive says so, and goes on later."""
    monkeypatch.setattr(queues, "PEEK_S", 6)
    monkeypatch.setattr(moving, "SETTLE_S", 0.0)
    ids = doom(*["Red"] * 15)
    chosen = choose(select_all=True, edit=MENDED)
    job = redrive.prepare(own, chosen)
    with pytest.raises(KeyboardInterrupt):
        redrive.act(replace(job, live=failing(own, "receive_message", 2, after=True)), 0.0, 0, 30.0)
    again = redrive.prepare(own, chosen | {"run_id": job.run.id})
    with pytest.raises(NotDone, match=r"^5 messages were not met, and 5 dead letters are hidden by some reader"):
        redrive.act(again, 0.0, 0, 30.0)
    wait_until(lambda: n_visible(own) == 5, "the letters show again")
    redrive.act(again, 0.0, 0, 30.0)
    redrive_outcomes.verify(redrive.outcomes(again, 30.0))
    assert set(states(own, ids)["n_redrives"]) == {1}
    assert queues.counts(own).n_dead == 0


def test_what_must_not_be_sent_is_skipped(own: Stack, choose: Choose, doom: Doom, run_id: str) -> None:
    """Letters whose task is completed, whose ticket is missing, and that break the contract stay, each with its why."""
    [dead] = doom("Red")
    done = f"{run_id}-done"
    submit.send_one(own, task(done))
    assert status.wait(own, [done], timeout_s=30, progress=False).why == "all final"
    sqs = own.target.client("sqs")
    for body in (task(done).to_body(), task(dead).to_body(), "no JSON"):
        sqs.send_message(QueueUrl=own.dead_letter_queue_url, MessageBody=body)
    job = redrive.prepare(own, choose(select_all=True))
    assert sorted(job.plan["action"]) == [
        "redrive",
        "skipped: already completed",
        "skipped: breaks the contract",
        "skipped: its ticket is spent",
    ]
    assert job.chosen["task_id"].tolist() == [dead]
    redrive.act(job, 0.0, 0, 30.0)
    assert redrive.outcomes(job, 30.0)["outcome"].tolist() == ["dead-lettered again"]
    assert n_visible(own) == 4


def test_an_invalid_message_is_mended(own: Stack, choose: Choose, run_id: str) -> None:
    """A message that broke the contract completes once an edit mends it; an edit that does not is refused before."""
    body = json.dumps({"task_id": f"{run_id}-bad", "type": "SEND_EMAIL", "data": {}})
    own.target.client("sqs").send_message(QueueUrl=own.queue_url, MessageBody=body)
    assert status.wait(own, [f"{run_id}-bad"], timeout_s=30, progress=False).why == "all final"
    with pytest.raises(BadInput, match=rf"After the edit 1 messages break the contract, the first is {run_id}-bad: d"):
        redrive.prepare(own, choose(select_all=True, edit='{"data": {"too": "a@example.com"}}'))
    assert n_visible(own) == 1
    job = redrive.prepare(own, choose(select_reason="invalid", edit='{"data": {"to": "a@example.com"}}'))
    redrive.act(job, 0.0, 0, 30.0)
    assert redrive.outcomes(job, 30.0)["outcome"].tolist() == ["completed"]


def test_a_run_redrives_its_own_tasks(own: Stack, choose: Choose, doom: Doom, tmp_path: Path) -> None:
    """Within a run that submitted tasks, only those are meant, whatever else the selectors fit."""
    ids = doom("Red", "Red", "Red")
    run = runs.create("mine", tmp_path)
    run.save("manifest", pd.DataFrame({"task_id": ids[:2]}))
    job = redrive.prepare(own, choose(select_all=True, run_id="mine"))
    assert sorted(job.chosen["task_id"]) == ids[:2]


def test_no_selector_selects_nothing(own: Stack, choose: Choose, doom: Doom) -> None:
    """Without a selector and without `select_all` the plan is empty, and acting on it is refused."""
    doom("Red")
    job = redrive.prepare(own, choose())
    assert job.plan.empty
    with pytest.raises(BadInput, match="Nothing is selected, of 1 dead letters"):
        redrive.act(job, 0.0, 0, 30.0)
    assert not job.journal.exists()
    assert n_visible(own) == 1


def test_what_is_not_there_is_not_redriven(own: Stack, choose: Choose, doom: Doom) -> None:
    """Where one of the ids has no dead letter, the plan shows the others, and acting on it is refused."""
    [task_id] = doom("Red")
    job = redrive.prepare(own, choose(select_ids=f"{task_id},nowhere"))
    assert job.chosen["task_id"].tolist() == [task_id]
    with pytest.raises(BadInput, match=rf"is of task nowhere; nothing was sent\.\n  -> There are {task_id}\."):
        redrive.act(job, 0.0, 0, 30.0)
    assert not job.journal.exists()
    assert n_visible(own) == 1


def test_another_redrive_supersedes_one_that_left_nothing_in_doubt(own: Stack, choose: Choose, doom: Doom) -> None:
    """Where each message was either sent and deleted or not sent, other values begin the next redrive and end this."""
    ids = doom(*["Red"] * 15)
    job = redrive.prepare(own, choose(select_all=True, edit=MENDED))
    with pytest.raises(KeyboardInterrupt):
        redrive.act(replace(job, live=failing(own, "receive_message", 2, after=False)), 0.0, 0, 30.0)
    again = redrive.prepare(own, choose(select_type="SEND_EMAIL", edit=MENDED, run_id=job.run.id))
    assert (again.name, again.resumed, len(again.chosen)) == ("redrive-02", False, 5)
    assert job.run.results()["redrives"][0]["state"] == "unfinished"
    assert redrive.act(again, 0.0, 0, 30.0) == "5 messages were sent."
    first, second = job.run.results()["redrives"]
    assert (first["state"], first["why"], second["state"]) == ("stopped", "superseded by redrive-02", "finished")
    redrive_outcomes.verify(redrive.outcomes(again, 30.0))
    assert status.wait(own, ids, timeout_s=30, progress=False).why == "all final"
    assert set(states(own, ids)["n_redrives"]) == {1}


def test_a_canary_that_was_interrupted_is_awaited(
    own: Stack, choose: Choose, doom: Doom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A canary whose wait was interrupted is the canary still: where its tasks fail, nothing else is sent."""
    ids = doom(*["Red"] * 5)
    job = redrive.prepare(own, choose(select_all=True))

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(redrive_outcomes, "awaited", interrupted)
        with pytest.raises(KeyboardInterrupt):
            redrive.act(job, 0.0, 2, 30.0)
    again = redrive.prepare(own, choose(select_all=True, run_id=job.run.id))
    assert again.resumed
    with pytest.raises(NotDone, match=r"0 completed, 2 dead-lettered again, 0 still open\. The other 3 messages"):
        redrive.act(again, 0.0, 1, 30.0)
    assert sorted(states(own, ids)["n_redrives"]) == [0, 0, 0, 1, 1]


def test_letters_that_are_gone_are_no_canary(own: Stack, choose: Choose, doom: Doom) -> None:
    """Where somebody deleted the first letters, the next ones are the canary, and the absent ones are named."""
    doom(*["Red"] * 5)
    job = redrive.prepare(own, choose(select_all=True))
    gone = job.chosen.head(2)
    with queues.shown_again(own) as handles:
        for message in queues.walk(own, handles):
            if message["MessageId"] in set(gone["message_id"]):
                receipt = handles.pop(message["MessageId"])
                own.target.client("sqs").delete_message(QueueUrl=own.dead_letter_queue_url, ReceiptHandle=receipt)
    with pytest.raises(NotDone, match=r"0 completed, 2 dead-lettered again, 0 still open\. The other 1 messages"):
        redrive.act(job, 0.0, 2, 30.0)
    assert job.run.results()["redrives"][0]["messages"] == {"absent": 2, "deleted": 2, "planned": 1}
    last = redrive.prepare(own, choose(select_ids=gone["task_id"].iloc[0], edit=MENDED, run_id=job.run.id))
    assert last.plan.empty


class Silent:
    """A client whose answers say nothing of their last entry, by one method."""

    def __init__(self, client: Any, method: str) -> None:
        """Pass everything on."""
        self._client, self._method = client, method

    def __getattr__(self, name: str) -> Any:
        """Return the client's own method, or the one whose answers are cut."""
        call = getattr(self._client, name)
        return (lambda **given: self._cut(call(**given))) if name == self._method else call

    def _cut(self, answer: dict[str, Any]) -> dict[str, Any]:
        return {"Successful": answer["Successful"][:-1]}


@pytest.mark.parametrize("method", ["send_message_batch", "delete_message_batch"])
def test_what_no_answer_tells_is_not_finished(own: Stack, choose: Choose, doom: Doom, method: str) -> None:
    """An entry that an answer neither takes nor refuses keeps the redrive unfinished; the next call settles it."""
    ids = doom(*["Red"] * 3)
    job = redrive.prepare(own, choose(select_all=True, edit=MENDED))
    sqs = Silent(own.target.client("sqs"), method)
    silent = replace(own, target=replace(own.target, _clients={**own.target._clients, "sqs": sqs}))
    with pytest.raises(NotDone, match="Of 1 messages no answer says that they were sent and deleted"):
        redrive.act(replace(job, live=silent), 0.0, 0, 30.0)
    assert job.run.results()["redrives"][0]["state"] == "unfinished"
    assert status.wait(own, ids, timeout_s=30, progress=False).why == "all final"
    again = redrive.prepare(own, choose(select_all=True, edit=MENDED, run_id=job.run.id))
    assert redrive.act(again, 0.0, 0, 30.0).startswith("3 messages were sent")
    redrive_outcomes.verify(redrive.outcomes(again, 30.0))
    assert set(states(own, ids)["n_redrives"]) == {1}
    assert queues.counts(own).n_dead == 0


def test_what_is_gone_is_told(own: Stack, choose: Choose, doom: Doom) -> None:
    """A letter that somebody deleted since the plan does not keep the redrive from its end, and is named there."""
    [first, _second] = sorted(doom("Red", "Red"))
    job = redrive.prepare(own, choose(select_all=True, edit=MENDED))
    own.target.client("sqs").purge_queue(QueueUrl=own.dead_letter_queue_url)
    told = redrive.act(job, 0.0, 1, 30.0)
    assert told == f"0 messages were sent; 2 were gone, the first of task {job.chosen['task_id'].iloc[0]}."
    assert job.run.results()["redrives"][0]["messages"] == {"absent": 2}
    assert first in set(job.chosen["task_id"])


@pytest.mark.parametrize("torn", [b"", b'{"at": "2026-'])
def test_a_journal_that_never_began_is_begun(own: Stack, choose: Choose, doom: Doom, torn: bytes) -> None:
    """A redrive that was killed before its journal had a line has not begun: it is planned anew, with any values."""
    doom("Red")
    job = redrive.prepare(own, choose(select_all=True))
    job.journal.write_bytes(torn)
    again = redrive.prepare(own, choose(select_type="SEND_EMAIL", edit=MENDED, run_id=job.run.id))
    assert (again.name, again.resumed) == ("redrive-01", False)
    assert redrive.act(again, 0.0, 0, 30.0) == "1 messages were sent."


def test_one_plan_at_a_time_is_acted_on(own: Stack, choose: Choose, doom: Doom) -> None:
    """Of two plans of one run the second is refused once the first has begun, and cannot overwrite what it keeps."""
    doom("Red", "Red")
    job = redrive.prepare(own, choose(select_all=True, edit=MENDED))
    other = redrive.prepare(own, choose(select_all=True, edit=MENDED, max_messages=1, run_id=job.run.id))
    redrive.act(job, 0.0, 0, 30.0)
    with pytest.raises(RunExists, match=r"redrive-01 of run .* has begun since this one was planned"):
        redrive.act(other, 0.0, 0, 30.0)
    pd.testing.assert_frame_equal(job.run.load("redrive-01"), job.plan)


class Expired:
    """Credentials that run out after so many questions."""

    def __init__(self, client: Any, n: int) -> None:
        """Answer `n` times."""
        self.client, self.n = client, n

    def get_caller_identity(self) -> Any:
        """Answer, or not any more."""
        self.n -= 1
        if self.n < 0:
            raise ClientError({"Error": {"Code": "ExpiredToken"}}, "GetCallerIdentity")
        return self.client.get_caller_identity()


@pytest.mark.parametrize(("n_answers", "error", "state"), [(0, AwsAccess, None), (1, KeyboardInterrupt, "unfinished")])
def test_credentials_that_run_out_mask_no_error(
    own: Stack, choose: Choose, doom: Doom, n_answers: int, error: type[BaseException], state: str | None
) -> None:
    """Who acts is asked before anything is sent, and not again where the end of it is recorded."""
    doom("Red")
    job = redrive.prepare(own, choose(select_all=True, edit=MENDED))
    live = failing(own, "send_message_batch", 1, after=False)
    clients = {**live.target._clients, "sts": Expired(own.target.client("sts"), n_answers)}
    with pytest.raises(error):
        redrive.act(replace(job, live=replace(live, target=replace(live.target, _clients=clients))), 0.0, 0, 30.0)
    assert [entry["state"] for entry in job.run.results().get("redrives", [])] == ([state] if state else [])


def test_a_plan_says_what_it_leaves_out(own: Stack, choose: Choose, doom: Doom) -> None:
    """Letters beyond the bound are counted with their why, and so are those that some reader hides."""
    doom(*["Red"] * 4)
    own.target.client("sqs").receive_message(QueueUrl=own.dead_letter_queue_url, VisibilityTimeout=60)
    job = redrive.prepare(own, choose(select_all=True, max_messages=2))
    assert (len(job.plan), len(job.chosen)) == (3, 2)
    assert "2 messages to redrive, 1 skipped: beyond max_messages, about 1 not listed: hidden by some" in str(job)


def test_a_redriven_letter_that_sqs_moves_is_redriven_again(own: Stack, choose: Choose, doom: Doom) -> None:
    """Moved by SQS before its task was opened, a letter is told by that, and its old ticket still opens the task."""
    [dead] = doom("Red")
    sqs = own.target.client("sqs")
    arn = sqs.get_queue_attributes(QueueUrl=own.dead_letter_queue_url, AttributeNames=["QueueArn"])["Attributes"]
    policy = json.dumps({"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": 1})
    url = sqs.create_queue(QueueName=f"held-{dead}", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    with queues.shown_again(own) as handles:
        [letter] = queues.walk(own, handles)
        sqs.send_message(QueueUrl=url, MessageBody=letter["Body"], MessageAttributes=letter["MessageAttributes"])
        sqs.delete_message(QueueUrl=own.dead_letter_queue_url, ReceiptHandle=handles.pop(letter["MessageId"]))
    for _ in range(2):
        sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
    sqs.delete_queue(QueueUrl=url)
    [row] = queues.dead_letters(own).to_dict("records")
    assert (row["task_id"], row["reason"]) == (dead, "receive_limit")
    assert pd.isna(row["error_type"])
    job = redrive.prepare(own, choose(select_reason="receive_limit", edit=MENDED))
    assert job.plan["action"].tolist() == ["redrive"]
    redrive.act(job, 0.0, 0, 30.0)
    assert redrive.outcomes(job, 30.0)["outcome"].tolist() == ["completed"]
    assert states(own, [dead]).iloc[0].tolist() == ["completed", 1, 1]
