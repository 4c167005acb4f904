"""Statements of PartiQL against the status table, any number in one call, each with its own answer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from taskq_worker.attributes import from_attributes, to_attribute
from taskq_worker.log import log

#: `BatchExecuteStatement` takes no more (its API reference; not atomic: each statement has its own answer).
MAX_STATEMENTS = 25
N_TRIES = 4

_PASSING = {"ThrottlingError", "ProvisionedThroughputExceeded", "RequestLimitExceeded", "InternalServerError",
            "TransactionConflict"}  # fmt: skip

Statement = dict[str, Any]
Answer = Mapping[str, Any]

_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table and the client that speaks to it."""

    client: Any
    name: str

    def insert(self, item: Mapping[str, Any]) -> Statement:
        """Insert an item that is not there yet; the answer's code is `DuplicateItem` where it is."""
        names = ", ".join(f"'{name}': ?" for name in item)
        return _statement(f'INSERT INTO "{self.name}" VALUE {{{names}}}', list(item.values()))

    def update(self, changes: Mapping[str, Any], removed: Sequence[str], last: str, values: Sequence[Any]) -> Statement:
        """Set `changes`, remove `removed`; `last` is the rest of the statement, `values` its parameters."""
        sets = " ".join(f'SET "{name}" = ?' for name in changes)
        removes = " ".join(f'REMOVE "{name}"' for name in removed)
        return _statement(f'UPDATE "{self.name}" {removes} {sets} {last}', [*changes.values(), *values])

    def execute(self, statements: Sequence[Statement], riders: Sequence[Statement] = ()) -> list[Answer]:
        """Execute any number of statements; one answer each, in order. Passing errors are tried again.

        `riders` go with the first request and are answered last; nobody waits for them, so they have one try.
        """
        every = [*statements, *riders]
        answers: list[Answer] = [{"Error": {"Code": "InternalServerError"}}] * len(every)
        open_ = list(range(len(every)))
        for n_try in range(N_TRIES):
            if n_try:
                time.sleep(0.05 * 2 ** (n_try - 1))
            for chunk in _chunks(open_, MAX_STATEMENTS):
                for i, answer in zip(chunk, self._request([every[i] for i in chunk]), strict=True):
                    answers[i] = answer
            open_ = [i for i in open_ if i < len(statements) and code_of(answers[i]) in _PASSING]
            if not open_:
                break
        if open_:
            # A batch gives its messages back for this, without an error that Lambda counts: only the log says so.
            log("taskq.store_refused", level="ERROR", error=answers[open_[0]]["Error"], nStatements=len(open_))
        return answers

    def _request(self, statements: Sequence[Statement]) -> Sequence[Answer]:
        """Send one request; if all of it fails, every statement's answer is that error: a batch is never raised for."""
        answers: Sequence[Answer] = []
        why = "the endpoint did not answer each statement"
        try:
            answers = self.client.batch_execute_statement(Statements=statements).get("Responses", [])
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            why = str(error)
        if len(answers) != len(statements):
            log("taskq.store_failed", level="ERROR", error=why, nStatements=len(statements))
            return [{"Error": {"Code": "RequestFailed", "Message": why}}] * len(statements)
        for answer in answers:
            if code_of(answer) not in {None, "DuplicateItem", "ConditionalCheckFailed", *_PASSING}:
                log("taskq.store_refused", level="ERROR", error=answer["Error"])
        return answers


def write_at_once(client: Any) -> None:
    """Have this client write statements as JSON in one go; all else of a request stays the SDK's.

    Its own serializer looks every value up in the service model, which took a fifth of a task's CPU time. Not for a
    client that validates parameters, which it compares with the same model; one of another protocol is left as it is.
    """
    model = client.meta.service_model
    # An older SDK knows one protocol a service, and resolves none.
    if getattr(model, "resolved_protocol", model.metadata["protocol"]) != "json":
        return
    client.meta.events.register("provide-client-params.dynamodb.BatchExecuteStatement", _take_statements)
    client.meta.events.register("before-call.dynamodb.BatchExecuteStatement", _write_statements)


def _take_statements(params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> dict[str, Any]:
    context["statements"] = params["Statements"]
    return {**params, "Statements": []}


def _write_statements(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    rest = json.loads(params["body"])
    params["body"] = _encode(rest | {"Statements": context.pop("statements")}).encode()


def code_of(answer: Answer) -> str | None:
    """Return the error code of an answer; None where the statement took effect."""
    error = answer.get("Error")
    return error.get("Code") if error else None


def item_of(answer: Answer) -> dict[str, Any] | None:
    """Return the item that an answer holds: as it is now, or, of a refused condition, as it was found."""
    found = answer["Error"].get("Item") if code_of(answer) else answer.get("Item")
    return None if found is None else from_attributes(found)


def _chunks(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (values[i : i + size] for i in range(0, len(values), size))


def _statement(text: str, values: Sequence[Any]) -> Statement:
    return {
        "Statement": text,
        "Parameters": [to_attribute(value) for value in values],
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
