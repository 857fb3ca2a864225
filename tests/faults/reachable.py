"""A server in this process whose sessions a test can see, and clients of it that may leave at any time."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Self

import h11
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from ezflow import Flow, Service
from ezflow.place import Places
from ezflow.server.app import create_app
from ezflow.server.config import Settings
from ezflow.server.guard import GuardedConfig, serve
from ezflow.service import open_flows

WITHIN_S = 10.0
OFTEN = {"rate_per_s": 1e6, "rate_burst": 10**6}  # as often as they like


class Server:
    """A running server: its services, and the nursery that all of its tasks are below."""

    def __init__(self, services: Mapping[str, Service], url: str, nursery: trio.Nursery, stopping: trio.Event) -> None:
        self.services = services
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.nursery = nursery
        self.stopping = stopping

    @property
    def places(self) -> Places:
        """Those of all users."""
        return next(iter(self.services.values())).sessions

    @property
    def tasks(self) -> int:
        """How many tasks it has."""
        return tasks_below(self.nursery)


def tasks_below(nursery: trio.Nursery) -> int:
    """How many tasks a nursery and the nurseries of its tasks have."""
    return sum(1 + sum(map(tasks_below, task.child_nurseries)) for task in nursery.child_tasks)


def descriptors() -> int:
    """How many files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def serving(flows: Mapping[str, Flow[Any, Any]], **settings: Any) -> AsyncGenerator[Server, None]:
    """Serve the flows on a free port. Leaving the block shuts it down in order."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(_serve, nursery, flows, settings)
        try:
            yield server
        finally:
            server.stopping.set()


async def _serve(
    above: trio.Nursery, flows: Mapping[str, Flow[Any, Any]], settings: Mapping[str, Any], task_status: Any
) -> None:
    chosen = Settings(**{"port": 0, "playground": False, **OFTEN, **settings})
    stopping = trio.Event()
    config = GuardedConfig("127.0.0.1:0")
    config.graceful_timeout = 1.0
    async with open_flows(flows, chosen) as services, trio.open_nursery() as nursery:
        app = create_app(services, chosen, stopping, nursery)
        url, *_ = await nursery.start(partial(serve, app, config, shutdown_trigger=stopping.wait))
        task_status.started(Server(services, url, above, stopping))
        await stopping.wait()


async def becomes(condition: Any, what: str) -> None:
    """Wait until something is so that nothing tells of. Raises: AssertionError."""
    with trio.move_on_after(WITHIN_S):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.001)
        return
    raise AssertionError(f"never so: {what}")


class Socket:
    """A client's end of `WS /ws`."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, nursery: trio.Nursery, server: Server, flow: str, user: str) -> Self:
        """Connected, and greeted."""
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        where = (f"127.0.0.1:{server.port}", f"/{flow}/ws?user={user}")
        try:
            socket = cls(await wrap_client_stream(nursery, stream, *where, message_queue_size=100))
            ready = await socket.event()
            assert ready is not None
            assert (ready["type"], ready["session"]) == ("ready", user)
        except BaseException:  # trio-websocket leaves a stream open when it is cancelled amid the handshake
            stream.socket.close()
            raise
        return socket

    async def send(self, kind: str, **fields: Any) -> None:
        await self.send_raw(json.dumps({"type": kind, **fields}))

    async def send_raw(self, message: str | bytes) -> None:
        await self._connection.send_message(message)

    async def event(self) -> dict[str, Any] | None:
        """The next event; None when the connection has ended."""
        try:
            event: dict[str, Any] = json.loads(await self._connection.get_message())
            if event["type"] == "audio":
                assert len(await self._connection.get_message()) == event["bytes"]
        except ConnectionClosed:
            return None
        return event

    @property
    def closed_with(self) -> int | None:
        """The code that it was closed with; None while it is open."""
        return getattr(self._connection.closed, "code", None)

    async def leave(self) -> None:
        """Close it, as the protocol has it."""
        with trio.move_on_after(1):
            await self._connection.aclose()

    async def vanish(self) -> None:
        """Be gone without a word."""
        await trio.aclose_forcefully(self._connection._stream)


class Post:
    """A client's `POST`, whose answer is read as it comes."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._lines: list[bytes] = [b""]
        self.status = 0

    @classmethod
    async def to(cls, server: Server, path: str, body: Any) -> Self:
        """Sent; nothing of the answer has been read."""
        post = cls(await trio.open_tcp_stream("127.0.0.1", server.port))
        data = json.dumps(body).encode()
        head = h11.Request(
            method="POST", target=path, headers={"Host": "localhost", "Content-Length": str(len(data))}.items()
        )
        sent = [post._http.send(head), post._http.send(h11.Data(data)), post._http.send(h11.EndOfMessage())]
        try:
            await post._stream.send_all(b"".join(filter(None, sent)))
        except BaseException:
            await post.vanish()
            raise
        return post

    async def line(self) -> Any:
        """The next line of the answer, decoded; None at its end. Raises: trio.BrokenResourceError."""
        while len(self._lines) < 2:
            if self._http.their_state in (h11.DONE, h11.MUST_CLOSE):
                return None
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._stream.receive_some())
            elif isinstance(event, h11.Response):
                self.status = event.status_code
            elif isinstance(event, h11.Data):
                *whole, rest = (self._lines[-1] + bytes(event.data)).split(b"\n")
                self._lines[-1:] = [*whole, rest]
            elif isinstance(event, h11.EndOfMessage):
                rest = self._lines.pop(0) if self._lines else b""
                return json.loads(rest) if rest else None
        return json.loads(self._lines.pop(0))

    async def vanish(self) -> None:
        """Be gone without a word."""
        await trio.aclose_forcefully(self._stream)


async def interrupt(server: Server, user: str) -> int | None:
    """`POST /interrupt`: the number of the turn that it ended."""
    post = await Post.to(server, "/interrupt", {"user": user})
    try:
        answer = await post.line()
        assert post.status == 200, answer
        ended: int | None = answer["turn"]
        return ended
    finally:
        await post.vanish()
