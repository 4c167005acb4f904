"""Nothing is lost, and nothing ends as it was not built to, whatever fails between library, engine and function."""

import json
import random
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from microburst.core.context import RequestContext

from tests.chaos import account
from tests.chaos.account import Account
from tests.chaos.proxy import Json, Plan, entries_of, take_some, with_refused
from tests.chaos.run import Outcome, run
from tests.chaos.scenarios import SCENARIOS

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
BY_HAND = {"kill", "stall", "sent twice"}


@pytest.mark.integration
@pytest.mark.parametrize(("name", "n_tasks"), [("all together", 1_000), ("lost answers", 300)])
def test_every_task_ends_as_it_was_built_to(name: str, n_tasks: int) -> None:
    """Under faults on both ways every task is final, in the state it was built for, and the queue is empty."""
    outcome = run(BY_NAME[name], n_tasks, seed=1)
    assert outcome.problems() == []
    assert outcome.account.n_tasks == n_tasks
    assert sum(n for kind, n in outcome.injected.items() if kind not in BY_HAND) > 0.08 * outcome.n_requests


def an_account(**more: Any) -> Account:
    """Return an account in which nothing is amiss, but for `more`."""
    counts = dict.fromkeys(("n_duplicates", "n_dead_twice", "n_extra_attempts", "n_left"), 0)
    fields: dict[str, Any] = {"n_tasks": 3, "lost": (), "open": (), "wrong": (), **counts}
    return Account(**{**fields, **more})


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"lost": ("a",)}, "1 tasks are lost, among them a"),
        ({"open": ("a", "b")}, "2 tasks are still open, among them a, b"),
        ({"wrong": ("c",)}, "1 tasks are wrong, among them c"),
        ({"n_left": 2}, "2 messages are left in the queue"),
    ],
)
def test_what_must_not_be_is_a_problem(more: dict[str, Any], problem: str) -> None:
    """A task that is lost, open or wrong, and a message that is left, fail the scenario and are named."""
    found = an_account(**more)
    outcome = Outcome(scenario="s", injected={"reset": 1}, n_requests=9, account=found, seconds=1.0)
    assert outcome.problems() == [problem]


def test_a_fault_that_never_happened_is_a_problem() -> None:
    """A scenario whose faults were not injected proves nothing, so it fails; duplicates alone fail nothing."""
    found = an_account(n_duplicates=7, n_dead_twice=1, n_extra_attempts=2)
    outcome = Outcome(scenario="s", injected={"reset": 3, "kill": 0}, n_requests=9, account=found, seconds=1.0)
    assert outcome.problems() == ["no fault of the kind 'kill' was injected"]


FAILING: Json = {"simulate": {"fail_attempts": -1}}
BUILT: dict[str, Json] = {
    "plain": {"simulate": {}},
    "twice": {"simulate": {"fail_attempts": 1}},
    "never": FAILING,
    "at once": {"simulate": {"fail_attempts": -1, "retryable": False}},
}


@pytest.mark.parametrize(
    ("task_id", "end", "reasons", "is_wrong"),
    [
        ("plain", ("completed", 1), [], False),
        ("plain", ("completed", 4), [], False),
        ("plain", ("dead_lettered", 5), ["max_attempts"], True),
        ("plain", ("completed", 1), ["max_attempts"], True),
        ("twice", ("completed", 1), [], True),
        ("never", ("dead_lettered", 5), ["max_attempts"], False),
        ("never", ("dead_lettered", 5), ["max_attempts", "max_attempts"], False),
        ("never", ("dead_lettered", 5), [], True),
        ("never", ("dead_lettered", 5), ["receive_limit"], True),
        ("never", ("dead_lettered", 4), ["max_attempts"], True),
        ("never", ("completed", 5), ["max_attempts"], True),
        ("at once", ("dead_lettered", 1), ["non_retryable"], False),
    ],
)
def test_an_end_is_held_against_what_was_built(
    task_id: str, end: tuple[str, int], reasons: list[str], *, is_wrong: bool
) -> None:
    """State, attempts and dead letters of a task must be those it was built for; a letter may come twice."""
    manifest = pd.DataFrame({"task_id": [task_id], "data": [json.dumps(BUILT[task_id])]})
    built = account.expected(manifest, max_attempts=5)
    found = pd.DataFrame([end], columns=["state", "n_attempts"], index=[task_id]).astype({"n_attempts": "Int32"})
    dead = pd.DataFrame({"task_id": [task_id] * len(reasons), "reason": reasons}, dtype="str")
    assert account.wrong_ids(found, built, dead) == ({task_id} if is_wrong else set())


BATCHES: dict[str, Any] = {
    "Entries": lambda n: {"QueueUrl": "q", "Entries": [{"Id": str(i)} for i in range(n)]},
    "Statements": lambda n: {"Statements": [{"Statement": str(i)} for i in range(n)]},
    "RequestItems": lambda n: {"RequestItems": {"t": {"Keys": [{"taskId": {"S": str(i)}} for i in range(n)]}}},
}


def answered(asked: Json) -> Json:
    """Answer a batch of which everything takes effect."""
    if "Statements" in asked:
        return {"Responses": [{"Item": one["Statement"]} for one in asked["Statements"]]}
    if "RequestItems" in asked:
        return {"Responses": {"t": entries_of(asked)}, "UnprocessedKeys": {}}
    return {"Successful": [{"Id": one["Id"]} for one in asked["Entries"]]}


def places(answer: Json) -> tuple[list[str], list[str]]:
    """Return which entries an answer says took effect, and which it says did not."""
    if "UnprocessedKeys" in answer:
        read, left = answer["Responses"].get("t", []), answer["UnprocessedKeys"]["t"]["Keys"]
        return [key["taskId"]["S"] for key in read], [key["taskId"]["S"] for key in left]
    if "Responses" in answer:
        numbered = [(str(i), one) for i, one in enumerate(answer["Responses"])]
        assert all(one["Item"] == i for i, one in numbered if "Item" in one)
        return [i for i, one in numbered if "Item" in one], [i for i, one in numbered if "Error" in one]
    return [one["Id"] for one in answer["Successful"]], [one["Id"] for one in answer["Failed"]]


@given(kind=st.sampled_from(sorted(BATCHES)), n=st.integers(1, 25), seed=st.integers())
def test_a_partial_answer_speaks_of_every_entry(kind: str, n: int, seed: int) -> None:
    """At least one entry is kept from the engine, and the answer says of each, in its place, whether it took effect."""
    asked = BATCHES[kind](n)
    refused = take_some(entries_of(asked), random.Random(seed))  # noqa: S311 - a plan, not a secret
    assert len(entries_of(asked)) + len(refused) == n
    done, failed = places(with_refused(answered(asked) if entries_of(asked) else {}, asked, refused))
    assert failed == [str(place) for place in refused] != []
    assert sorted([*done, *failed], key=int) == [str(i) for i in range(n)]


def test_one_seed_gives_one_plan() -> None:
    """Which requests of an operation fail depends on the seed and their number, not on what comes between."""
    rule = {"service": "sqs", "probability": 0.3, "reset": True}

    def plan(seed: int, between: int) -> list[bool]:
        engine = Plan(seed)
        engine.set_rules([rule])
        fired = []
        for _ in range(200):
            fired.append(engine.decide(RequestContext(service="sqs", operation="SendMessageBatch")) is not None)
            for _ in range(between):
                engine.decide(RequestContext(service="sqs", operation="ReceiveMessage"))
        return fired

    assert plan(1, between=0) == plan(1, between=3)
    assert plan(1, between=0) != plan(2, between=0)
    assert 30 < sum(plan(1, between=0)) < 90
