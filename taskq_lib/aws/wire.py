"""Items of DynamoDB page by page, decoded by a typed decoder where one is given: the SDK's parser takes most of a read.

The SDK emits `before-parse` between an answer's receipt and its parsing, so that a handler may add to what is parsed.
Ours decodes the body, adds what it found, and leaves the parser an empty object. Signing, retries and pages stay the
SDK's; errors, and answers that the decoder does not know, are left to the parser whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import msgspec

from taskq_lib.errors import NotDone

Decoder = msgspec.json.Decoder[Any]

KEYS_PER_REQUEST = 100  # BatchGetItem takes no more
N_TRIES = 10

#: Clients are shared: of their answers only those are decoded that a thread asks for while this is set, for itself.
_decoder: ContextVar[Decoder | None] = ContextVar("decoder", default=None)
_Key = dict[str, dict[Literal["S", "N"], str]]


def attach(client: Any) -> None:
    """Have a client of DynamoDB ask for the decoder before it parses; without it, and where none is set, it parses."""
    for operation in ("Query", "BatchGetItem"):
        client.meta.events.register(f"before-parse.dynamodb.{operation}", _decode)


def query_decoder(item: Any) -> Decoder:
    """Return a decoder of `query`'s answers, for items of this struct."""
    return _decoder_of(("Items", list[item]), ("LastEvaluatedKey", _Key | None, None))


def batch_get_decoder(item: Any) -> Decoder:
    """Return a decoder of `batch_get`'s answers, for items of this struct."""
    return _decoder_of(("Responses", dict[str, list[item]]), ("UnprocessedKeys", dict[str, Any], {}))


def _decoder_of(*fields: Any) -> Decoder:
    # Not strict, since numbers are texts on the wire.
    return msgspec.json.Decoder(msgspec.defstruct("Answer", fields), strict=False)


def query(client: Any, decoder: Decoder | None, request: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    """Yield the items of each page: structs, or as the API returns them where the decoder does not know them."""
    pages = iter(client.get_paginator("query").paginate(**request))
    while True:
        with _decoded_by(decoder):
            page = next(pages, None)
        if page is None:
            return
        yield page["Items"]


def batch_get(client: Any, decoder: Decoder | None, table: str, request: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    """Yield the items of each answer, as `query` does; `request` has up to 100 `Keys`, and how they are to be read.

    Keys that were left unprocessed are asked for again, ever more slowly; raises `NotDone` where some stay so.
    """
    left: Mapping[str, Any] = {table: request}
    for n_try in range(N_TRIES):
        with _decoded_by(decoder):
            answer = client.batch_get_item(RequestItems=left)
        yield answer["Responses"].get(table, [])
        left = answer.get("UnprocessedKeys", {})
        if not left:
            return
        time.sleep(min(5.0, 0.05 * 2**n_try))
    raise NotDone(
        f"Table {table} left keys unread after {N_TRIES} tries: it is throttled.",
        "Wait a minute and run it again; a new on-demand table serves 12,000 read units a second at first.",
    )


@contextmanager
def _decoded_by(decoder: Decoder | None) -> Iterator[None]:
    token = _decoder.set(decoder)
    try:
        yield
    finally:
        _decoder.reset(token)


def _decode(*, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    decoder = _decoder.get()
    if decoder is None or response_dict["status_code"] != 200:
        return
    try:
        answer = decoder.decode(response_dict["body"])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    customized_response_dict.update(msgspec.structs.asdict(answer))
    response_dict["body"] = b"{}"
