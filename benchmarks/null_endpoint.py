"""An endpoint that answers at once, or after a set latency, with what it was told: what is left is the client's cost.

It speaks as much HTTP/1.1 as the AWS SDK needs and runs in a process of its own, on loopback.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

#: operation, such as "SendMessageBatch", and body -> the answer's body; a function of a module, since it is pickled
Respond = Callable[[str, bytes], bytes]


@contextmanager
def running(respond: Respond, latency_s: float = 0.0, sigma: float = 0.0) -> Iterator[str]:
    """Serve on a free port while the block runs; yields the endpoint's URL.

    `latency_s` is the median; `sigma` above 0 spreads it log-normally, as a network does.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, respond, latency_s, sigma), daemon=True)
    process.start()
    theirs.close()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(told: Connection, respond: Respond, latency_s: float, sigma: float) -> None:
    chance = random.Random(0)  # noqa: S311 - a network, not a secret
    latency: Callable[[], float] = lambda: latency_s * (chance.lognormvariate(0, sigma) if sigma else 1)  # noqa: E731

    async def until_closed() -> None:
        loop, closed = asyncio.get_running_loop(), asyncio.Event()
        server = await loop.create_server(lambda: _Connection(respond, latency), "127.0.0.1", 0, backlog=512)
        told.send(server.sockets[0].getsockname()[1])
        loop.add_reader(told.fileno(), closed.set)  # readable is at its end: nothing is ever sent
        await closed.wait()

    asyncio.run(until_closed())


class _Connection(asyncio.Protocol):
    """One connection of the client, which sends a request only when the one before is answered."""

    def __init__(self, respond: Respond, latency: Callable[[], float]) -> None:
        self.respond, self.latency, self.held = respond, latency, bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type alone
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.held += data
        end = self.held.find(b"\r\n\r\n")
        if end < 0:
            return
        lines = bytes(self.held[:end]).lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        if len(self.held) < end + 4 + length:
            return
        # The operation's name has capitals: read from the original.
        head, body = bytes(self.held[:end]), bytes(self.held[end + 4 :])
        self.held.clear()
        start = head.lower().find(b"x-amz-target:")
        operation = head[start:].split(b"\r\n", 1)[0].rpartition(b".")[2].decode()
        if latency_s := self.latency():
            asyncio.get_running_loop().call_later(latency_s, self._answer, operation, body)
        else:
            self._answer(operation, body)

    def _answer(self, operation: str, body: bytes) -> None:
        content = self.respond(operation, body)
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nx-amzn-RequestId: 0\r\n"
            f"x-amz-crc32: {zlib.crc32(content)}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        if not self.transport.is_closing():
            self.transport.write(head.encode() + content)
