"""A server on loopback that does what a test says, with real sockets, TLS if wanted; and an HTTP proxy.

What it saw is in its lists; it waits and is waited for by events, never by time.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import attrs
import trio
import trustme
from trio.testing import MockClock

DONE = b"0\r\n\r\n"
LOST = (trio.BrokenResourceError, trio.ClosedResourceError)


def head(status: int = 200, *headers: str, chunked: bool = True) -> bytes:
    more = ["Transfer-Encoding: chunked"] if chunked else []
    return "\r\n".join([f"HTTP/1.1 {status} Said", *more, *headers, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(body: bytes, status: int = 200, *headers: str) -> bytes:
    return head(status, f"Content-Length: {len(body)}", *headers, chunked=False) + body


@attrs.define(eq=False)
class Peer:
    """One request, and the connection to answer it on."""

    stream: trio.abc.Stream
    connection: int
    line: str
    headers: dict[str, str]
    body: bytes

    async def send(self, *data: bytes) -> None:
        await self.stream.send_all(b"".join(data))

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        with suppress(*LOST):
            while await self.stream.receive_some():
                pass


Answer = Callable[[Peer], Awaitable[None]]


@attrs.define(eq=False)
class StandIn:
    answer: Answer
    scheme: str = "http"
    port: int = 0
    asked: list[Peer] = attrs.field(factory=list)
    connections: int = 0
    open: int = 0
    closed: trio.Event = attrs.field(factory=trio.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def all_closed(self) -> None:
        """Wait until no client is connected."""
        while self.open:
            await self.closed.wait()

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        self.open += 1
        number = self.connections
        try:
            with suppress(*LOST):
                while peer := await read_request(stream, number):
                    self.asked.append(peer)
                    await self.answer(peer)
        finally:
            self.open -= 1
            self.closed.set()
            self.closed = trio.Event()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)


async def read_request(stream: trio.abc.Stream, number: int) -> Peer | None:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := await stream.receive_some()):
            return None
        data += more
    first, _, body = data.partition(b"\r\n\r\n")
    line, *rest = first.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
    while len(body) < int(headers.get("content-length", 0)):
        if not (more := await stream.receive_some()):
            return None
        body += more
    return Peer(stream, number, line, headers, body)


@asynccontextmanager
async def standing(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncGenerator[StandIn, None]:
    """Serve while the block runs; ten seconds are the most that a test may take by the real clock."""
    server = StandIn(answer, "https" if tls else "http")
    with trio.fail_after(math.inf if isinstance(trio.lowlevel.current_clock(), MockClock) else 10):
        async with trio.open_nursery() as nursery:
            async with listening(nursery, partial(_secured, server.serve, tls)) as server.port:
                yield server
            nursery.cancel_scope.cancel()


async def _secured(
    serve: Callable[[trio.abc.Stream], Awaitable[None]], tls: ssl.SSLContext | None, tcp: trio.SocketStream
) -> None:
    if tls is None:
        return await serve(tcp)
    stream = trio.SSLStream(tcp, tls, server_side=True, https_compatible=True)
    try:
        await stream.do_handshake()
    except LOST:
        return await trio.aclose_forcefully(tcp)
    return await serve(stream)


@asynccontextmanager
async def listening(
    nursery: trio.Nursery, serve: Callable[[trio.SocketStream], Awaitable[None]]
) -> AsyncGenerator[int, None]:
    """Gives the port on which each connection is served."""
    listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    yield listeners[0].socket.getsockname()[1]


@attrs.define(eq=False)
class ProxyStandIn:
    """An HTTP proxy that takes every name for this machine: CONNECT is tunnelled, the rest is passed on by line."""

    port: int = 0
    refuse: int = 0
    lines: list[str] = attrs.field(factory=list)
    authorizations: list[str | None] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, client: trio.abc.Stream) -> None:
        async with client:
            with suppress(*LOST):
                request = await read_request(client, 0)
                if request is None:
                    return
                self.lines.append(request.line)
                self.authorizations.append(request.headers.get("proxy-authorization"))
                if self.refuse:
                    await client.send_all(head(self.refuse, "Content-Length: 0", chunked=False))
                    return
                method, target, _ = request.line.split()
                port = int(target.removeprefix("http://").partition("/")[0].rpartition(":")[2])
                async with await trio.open_tcp_stream("127.0.0.1", port) as server, trio.open_nursery() as nursery:
                    if method == "CONNECT":
                        await client.send_all(b"HTTP/1.1 200 Connected\r\n\r\n")
                    else:
                        path = "/" + target.removeprefix("http://").partition("/")[2]
                        length = f"Content-Length: {len(request.body)}"
                        asked = f"{method} {path} HTTP/1.1\r\nHost: {request.headers['host']}\r\n{length}\r\n\r\n"
                        await server.send_all(asked.encode() + request.body)
                    nursery.start_soon(_pass_on, server, client, nursery)
                    nursery.start_soon(_pass_on, client, server, nursery)


async def _pass_on(source: trio.abc.Stream, sink: trio.abc.Stream, nursery: trio.Nursery) -> None:
    with suppress(*LOST):
        async for data in source:
            await sink.send_all(data)
    nursery.cancel_scope.cancel()


@asynccontextmanager
async def proxying(refuse: int = 0) -> AsyncGenerator[ProxyStandIn, None]:
    proxy = ProxyStandIn(refuse=refuse)
    async with trio.open_nursery() as nursery:
        async with listening(nursery, proxy.serve) as proxy.port:
            yield proxy
        nursery.cancel_scope.cancel()


class Trust:
    """A certificate authority: `.server(*names)` is a server's context, `.client` trusts it."""

    def __init__(self) -> None:
        self._authority = trustme.CA()
        self.client = ssl.create_default_context()
        self._authority.configure_trust(self.client)

    def server(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*(names or ("127.0.0.1",))).configure_cert(context)
        return context
