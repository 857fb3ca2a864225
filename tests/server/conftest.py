"""A running server for tests: real sockets on loopback, in this process, on a free port."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import h11
import pytest
import trio

from ezflow.server.config import Settings
from ezflow.server.run import run

# Phoenix brings two hundred packages: `nox -s phoenix` installs it beside, and runs this one test.
collect_ignore = [] if os.environ.get("TEST_PHOENIX") else ["test_traces_phoenix.py"]


class Server:
    """A client's view of a server: requests over plain sockets, a connection each."""

    def __init__(self, url: str, said: list[str], stop: trio.Event) -> None:
        self.url = url
        self.said = said
        self.stop = stop
        self.port = int(url.rpartition(":")[2])

    @asynccontextmanager
    async def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> AsyncIterator[Response]:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            connection = h11.Connection(h11.CLIENT)
            fields = list({"Host": "localhost", "Content-Length": str(len(body)), **headers}.items())
            await stream.send_all(connection.send(h11.Request(method=method, target=path, headers=fields)) or b"")
            await stream.send_all(
                (connection.send(h11.Data(body)) or b"") + (connection.send(h11.EndOfMessage()) or b"")
            )
            response = Response(connection, stream)
            await response.begin()
            yield response

    async def json(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        async with self.request(method, path, data) as response:
            return response.status, json.loads(await response.read())

    async def turn(self, path: str = "/turns", **body: Any) -> list[dict[str, Any]]:
        """All events of a turn."""
        async with self.request("POST", path, json.dumps(body).encode()) as response:
            assert response.status == 200, await response.read()
            return [event async for event in response.events()]


class Response:
    def __init__(self, connection: h11.Connection, stream: trio.SocketStream) -> None:
        self._connection = connection
        self._stream = stream
        self._rest = b""
        self.status = 0
        self.headers: dict[str, str] = {}

    async def _next(self) -> Any:
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            self._connection.receive_data(await self._stream.receive_some())
        return event

    async def begin(self) -> None:
        head = await self._next()
        self.status = head.status_code
        self.headers = {name.decode(): value.decode() for name, value in head.headers}

    async def chunk(self) -> bytes:
        """The next piece of the body; empty at its end."""
        event = await self._next()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def read(self) -> bytes:
        return b"".join([piece async for piece in Pieces(self.chunk)])

    async def event(self) -> Any:
        """The next event; None at the end."""
        while b"\n" not in self._rest:
            piece = await self.chunk()
            if not piece:
                assert not self._rest
                return None
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def events(self) -> Pieces:
        return Pieces(self.event)

    async def until(self, kind: str) -> dict[str, Any]:
        """The first event of that type."""
        async for event in self.events():
            if event["type"] == kind:
                return event
        raise AssertionError(f"no {kind} event came")


class Pieces:
    """An iterator over a method until it gives nothing; unlike a generator it may be left at any time."""

    def __init__(self, method: Callable[[], Awaitable[Any]]) -> None:
        self._method = method

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> Any:
        piece = await self._method()
        if not piece:
            raise StopAsyncIteration
        return piece


@pytest.fixture
def serving(caplog):
    """`async with serving(flow, **settings) as server:`; what Quart or hypercorn log as their own fault is one."""

    @asynccontextmanager
    async def serve(flows: Any, **settings: Any) -> AsyncIterator[Server]:
        said: list[str] = []
        stop = trio.Event()
        chosen = Settings(**{"port": 0, "grace_s": 1.0, **settings})
        async with trio.open_nursery() as nursery:
            url = await nursery.start(partial(run, flows, chosen, say=said.append, stop=stop))
            try:
                yield Server(url, said, stop)
            finally:
                stop.set()
        assert "Error in ASGI Framework" not in caplog.text
        assert "One connection failed" not in caplog.text

    return serve
