"""Ways to read a streamed answer over HTTP/1.1, each behind the same function, for tests/bench/http_clients.py.

Each opens for a port and a number of connections and gives `turn(path, body, line)`: POST, and call `line` with every
line of the answer. All have their timeouts on, but the two that say so. Those of SECURE speak TLS if they get `tls`.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import h11
import httpcore2
import httpx2
import trio

from stdlib_modules.http.client import HTTPClient
from stdlib_modules.http.decoding import Lines, lines

Turn = Callable[[str, bytes, Callable[[str], None]], Awaitable[None]]
Variant = Callable[..., AbstractAsyncContextManager[Turn]]

LONG_S = 30.0
TIMEOUTS = dict.fromkeys(["connect", "read", "write", "pool"], LONG_S)


def _headers(port: int, body: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"Host", b"127.0.0.1:%d" % port),
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(body)),
    ]


def _url(port: int, tls: ssl.SSLContext | None) -> str:
    return f"{'https' if tls else 'http'}://127.0.0.1:{port}"


def _httpx2(port: int, size: int, tls: ssl.SSLContext | None) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=size, max_keepalive_connections=size, keepalive_expiry=LONG_S)
    trust: Any = tls or True
    return httpx2.AsyncClient(base_url=_url(port, tls), limits=limits, timeout=LONG_S, trust_env=False, verify=trust)


@asynccontextmanager
async def httpx2_lines(port: int, size: int, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Turn, None]:
    async with _httpx2(port, size, tls) as client:

        async def turn(path: str, body: bytes, line: Callable[[str], None]) -> None:
            async with client.stream("POST", path, content=body) as reply:
                async for each in reply.aiter_lines():
                    line(each)

        yield turn


@asynccontextmanager
async def httpx2_raw(port: int, size: int, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Turn, None]:
    async with _httpx2(port, size, tls) as client:

        async def turn(path: str, body: bytes, line: Callable[[str], None]) -> None:
            decoder = Lines()
            async with client.stream("POST", path, content=body) as reply:
                async for piece in reply.aiter_raw():
                    for each in decoder.feed(piece):
                        line(each)

        yield turn


@asynccontextmanager
async def httpcore2_pool(port: int, size: int) -> AsyncGenerator[Turn, None]:
    pool = httpcore2.AsyncConnectionPool(max_connections=size, max_keepalive_connections=size, keepalive_expiry=LONG_S)
    async with pool:

        async def turn(path: str, body: bytes, line: Callable[[str], None]) -> None:
            decoder = Lines()
            url = f"http://127.0.0.1:{port}{path}"
            more: Any = {"headers": _headers(port, body), "content": body, "extensions": {"timeout": TIMEOUTS}}
            async with pool.stream("POST", url, **more) as reply:
                async for piece in reply.aiter_stream():
                    for each in decoder.feed(piece):
                        line(each)

        yield turn


class BareStream(httpcore2.AsyncNetworkStream):
    """A trio stream without a cancel scope around each read."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return bytes(await self.stream.receive_some(max_bytes))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if buffer:
            await self.stream.send_all(buffer)

    async def aclose(self) -> None:
        await self.stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self.stream.socket.is_readable() if info == "is_readable" else None


class BareNetwork(httpcore2.AsyncNetworkBackend):
    async def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
        return BareStream(await trio.open_tcp_stream(host, port))


@asynccontextmanager
async def httpcore2_connections(
    port: int, size: int, network: httpcore2.AsyncNetworkBackend | None = None
) -> AsyncGenerator[Turn, None]:
    """httpcore2's connections (its pool is asked for them, but keeps none) in a small pool of our own."""
    maker = httpcore2.AsyncConnectionPool(keepalive_expiry=LONG_S, network_backend=network)
    places = trio.Semaphore(size)
    idle: list[httpcore2.AsyncConnectionInterface] = []

    async def turn(path: str, body: bytes, line: Callable[[str], None]) -> None:
        url = httpcore2.URL(scheme="http", host="127.0.0.1", port=port, target=path)
        request = httpcore2.Request(
            "POST", url, headers=_headers(port, body), content=body, extensions={"timeout": TIMEOUTS}
        )
        async with places:
            while idle and idle[-1].has_expired():
                await idle.pop().aclose()
            connection = idle.pop() if idle else maker.create_connection(url.origin)
            try:
                decoder = Lines()
                reply = await connection.handle_async_request(request)
                try:
                    async for piece in reply.aiter_stream():
                        for each in decoder.feed(piece):
                            line(each)
                finally:
                    with trio.CancelScope(shield=True):
                        await reply.aclose()
            finally:
                if connection.is_available():
                    idle.append(connection)
                else:
                    with trio.CancelScope(shield=True):
                        await connection.aclose()

    try:
        yield turn
    finally:
        for each in idle:
            await each.aclose()


def httpcore2_bare(port: int, size: int) -> AbstractAsyncContextManager[Turn]:
    return httpcore2_connections(port, size, BareNetwork())


@asynccontextmanager
async def h11_scopes(port: int, size: int) -> AsyncGenerator[Turn, None]:
    """h11 on trio's streams in a small pool, a cancel scope around each read."""
    places = trio.Semaphore(size)
    idle: list[tuple[trio.SocketStream, h11.Connection]] = []

    async def turn(path: str, body: bytes, line: Callable[[str], None]) -> None:
        async with places:
            while idle and idle[-1][0].socket.is_readable():
                idle.pop()[0].socket.close()
            stream, http = (
                idle.pop() if idle else (await trio.open_tcp_stream("127.0.0.1", port), h11.Connection(h11.CLIENT))
            )
            try:
                head = http.send(h11.Request(method="POST", target=path, headers=_headers(port, body))) or b""
                await stream.send_all(
                    head + (http.send(h11.Data(data=body)) or b"") + (http.send(h11.EndOfMessage()) or b"")
                )
                decoder = Lines()
                while not isinstance(event := http.next_event(), h11.EndOfMessage):
                    if event is h11.NEED_DATA:
                        with trio.fail_after(LONG_S):
                            http.receive_data(bytes(await stream.receive_some(65536)))
                    elif isinstance(event, h11.Data):
                        for each in decoder.feed(bytes(event.data)):
                            line(each)
                http.start_next_cycle()
                idle.append((stream, http))
            except BaseException:
                stream.socket.close()
                raise

    try:
        yield turn
    finally:
        for stream, _ in idle:
            stream.socket.close()


@asynccontextmanager
async def ezflow(port: int, size: int, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Turn, None]:
    async with HTTPClient(_url(port, tls), max_connections=size, idle_s=LONG_S, read_s=LONG_S, tls=tls) as http:

        async def turn(path: str, body: bytes, line: Callable[[str], None]) -> None:
            async with http.stream("POST", path, content=body, user="u") as reply:
                async for each in lines(reply):
                    line(each)

        yield turn


@asynccontextmanager
async def by_hand(port: int, size: int, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Turn, None]:
    """The least that trio's streams can cost: bytes split at newlines, chunk headers skipped by how they look, no
    timeouts.
    """
    places = trio.Semaphore(size)
    idle: list[trio.abc.Stream] = []

    async def opened() -> trio.abc.Stream:
        tcp = await trio.open_tcp_stream("127.0.0.1", port)
        return trio.SSLStream(tcp, tls, server_hostname="127.0.0.1", https_compatible=True) if tls else tcp

    async def turn(path: str, body: bytes, line: Callable[[str], None]) -> None:
        async with places:
            stream = idle.pop() if idle else await opened()
            try:
                await stream.send_all(f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                decoder = Lines()
                data = b""
                while not data.endswith(b"0\r\n\r\n"):
                    data = bytes(await stream.receive_some(65536))
                    for each in decoder.feed(data):
                        if each.startswith("{"):
                            line(each)
                idle.append(stream)
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise

    try:
        yield turn
    finally:
        for stream in idle:
            await trio.aclose_forcefully(stream)


VARIANTS: dict[str, Variant] = {
    "bytes by hand, no HTTP, no timeouts": by_hand,
    "ezflow's HTTPClient: llhttp, one watch": ezflow,
    "h11 on trio, a scope around each read": h11_scopes,
    "httpcore2 connections, no timeouts": httpcore2_bare,
    "httpcore2 connections": httpcore2_connections,
    "httpcore2 pool": httpcore2_pool,
    "httpx2 aiter_raw": httpx2_raw,
    "httpx2 aiter_lines": httpx2_lines,
}
SECURE = {name: variant for name, variant in VARIANTS.items() if variant in (by_hand, ezflow, httpx2_raw, httpx2_lines)}
