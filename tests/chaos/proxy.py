"""The fault proxy: microburst in a process of its own, with draws that a seed repeats and answers that fail in part.

microburst renders AWS's errors, delays, cuts connections and swallows answers. Two things it cannot do are added here:
its draws come from one unseeded source, and it never looks into an answer, so no entry of a batch can fail alone.
"""

from __future__ import annotations

import argparse
import http.client
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from microburst.app import make_app
from microburst.core.context import RequestContext
from microburst.core.pipeline import Microburst
from microburst.forward import ResponseFault, Upstream
from microburst.rules import Decision, RuleEngine

from taskq_lib import PROJECT_ROOT

LOOPBACK = "127.0.0.1"
END_TIMEOUT_S = 10.0
#: A rule whose response sets this header makes some entries of a batch fail; the header never leaves the proxy.
PARTIAL = "x-chaos-partial"
#: What AWS says of an entry or a statement that failed for reasons of its own.
_REFUSED_ENTRY = {"SenderFault": False, "Code": "InternalError", "Message": "injected"}
_REFUSED_STATEMENT = {"Error": {"Code": "ThrottlingError", "Message": "injected"}}

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A running proxy."""

    port: int

    @property
    def url(self) -> str:
        """What a client's endpoint must be to go through it."""
        return f"http://{LOOPBACK}:{self.port}"

    def fired(self) -> list[int]:
        """Count how often each rule has fired, in the order of the rules."""
        return [rule["fired_count"] for rule in self._get("rules")]

    def n_requests(self) -> int:
        """Count the requests that came."""
        return int(self._get("health")["requests_seen"])

    def _get(self, what: str) -> Any:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=END_TIMEOUT_S)
        try:
            connection.request("GET", f"/_microburst/{what}")
            return json.load(connection.getresponse())
        finally:
            connection.close()


@contextmanager
def running(upstream: str, rules: Sequence[Json], seed: int) -> Iterator[Proxy]:
    """Yield a proxy before `upstream` (a URL) with microburst's `rules`; it ends with the block, or with its caller."""
    command = [sys.executable, "-m", "tests.chaos.proxy", upstream, json.dumps(rules), str(seed)]
    child = subprocess.Popen(command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield Proxy(port=int(child.stdout.readline()))
    finally:
        child.stdin.close()
        try:
            child.wait(END_TIMEOUT_S)
        finally:
            child.kill()
            child.wait()
            child.stdout.close()


class Plan(RuleEngine):  # type: ignore[misc] # microburst ships no types
    """Rules whose every draw depends on the seed, the operation and its requests so far, and on nothing else."""

    def __init__(self, seed: int) -> None:
        """Start without rules."""
        super().__init__()
        self.seed = seed
        self.n_requests: Counter[str | None] = Counter()

    def decide(self, info: RequestContext) -> Decision | None:
        """Decide on one request."""
        self.n_requests[info.operation] += 1
        random.seed(f"{self.seed}/{info.operation}/{self.n_requests[info.operation]}")
        decision = super().decide(info)
        if decision and decision.response_fault and PARTIAL in decision.response_fault.set_headers:
            decision.response_fault.set_headers[PARTIAL] = str(random.random())  # noqa: S311 - a seed for the cut
        return decision


class PartialUpstream(Upstream):  # type: ignore[misc] # microburst ships no types
    """Forwards a request; of a batch that shall fail in part, what does not fail."""

    async def relay(
        self, request: web.Request, body: bytes | None, mutator: ResponseFault | None = None, data: Any = None
    ) -> web.StreamResponse:
        """Forward `request` and return its answer."""
        if mutator is None or PARTIAL not in mutator.set_headers or body is None:
            return await super().relay(request, body, mutator, data)  # type: ignore[no-any-return]
        asked = json.loads(body)
        refused = take_some(entries_of(asked), random.Random(mutator.set_headers[PARTIAL]))  # noqa: S311
        answer: Json = {}
        if entries_of(asked):
            # Not the bytes that were signed; the engine does not check signatures.
            response = await self.session.post(
                self.base_url + request.path, data=json.dumps(asked), headers=self._outbound_headers(request)
            )
            answer = json.loads(await response.read())
            if response.status != http.HTTPStatus.OK:
                return web.json_response(answer, status=response.status)
        return web.json_response(with_refused(answer, asked, refused))


def entries_of(asked: Json) -> list[Json]:
    """Return the entries of a batch request, the list itself: of SQS, of PartiQL, or the keys of one table."""
    if "RequestItems" in asked:
        [keys] = asked["RequestItems"].values()
        return keys["Keys"]  # type: ignore[no-any-return]
    return asked["Statements"] if "Statements" in asked else asked["Entries"]  # type: ignore[no-any-return]


def take_some(entries: list[Json], draw: random.Random) -> dict[int, Json]:
    """Take at least one entry out of the list; returns what was taken, by its place."""
    places = sorted(draw.sample(range(len(entries)), draw.randint(1, len(entries))))
    taken = {place: entries[place] for place in places}
    entries[:] = [entry for place, entry in enumerate(entries) if place not in taken]
    return taken


def with_refused(answer: Json, asked: Json, refused: dict[int, Json]) -> Json:
    """Add to the answer of a batch what it says of the entries that failed."""
    if "Statements" in asked:
        answers = answer.get("Responses", [])
        for place in sorted(refused):
            answers.insert(place, _REFUSED_STATEMENT)
        return {"Responses": answers}
    if "RequestItems" in asked:
        [(table, keys)] = asked["RequestItems"].items()
        left = {table: {**keys, "Keys": list(refused.values())}}
        return {"Responses": answer.get("Responses", {}), "UnprocessedKeys": left}
    failed = [{"Id": entry["Id"], **_REFUSED_ENTRY} for entry in refused.values()]
    return {"Successful": answer.get("Successful", []), "Failed": [*answer.get("Failed", []), *failed]}


def _serve(upstream: str, rules: Sequence[Json], seed: int) -> None:
    proxy = Microburst(upstream)
    proxy.upstream = PartialUpstream(upstream)
    proxy.engine = Plan(seed)
    proxy.engine.set_rules(rules)
    # A caller that was killed, or that a rule cut off, is no error of the proxy's; all others are shown.
    logging.getLogger("aiohttp.server").addFilter(
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], ConnectionResetError))
    )
    listener = socket.create_server((LOOPBACK, 0))
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=_end_with_caller, daemon=True).start()
    web.run_app(make_app(proxy), sock=listener, print=None, access_log=None)


def _end_with_caller() -> None:
    """End this process once its caller has closed the pipe, or has died."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream")
    parser.add_argument("rules", type=json.loads)
    parser.add_argument("seed", type=int)
    arguments = parser.parse_args()
    _serve(arguments.upstream, arguments.rules, arguments.seed)
