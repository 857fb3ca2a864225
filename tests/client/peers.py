"""Servers that say what a test wants: a WebSocket's other end, and an HTTP answer, byte by byte."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio
from trio_websocket import WebSocketConnection, WebSocketRequest, serve_websocket


@attrs.define(eq=False)
class Peer:
    """The server's end of a WebSocket, played by a test."""

    socket: WebSocketConnection
    frames: list[Any] = attrs.field(factory=list)

    async def says(self, *records: dict[str, Any] | bytes) -> None:
        for record in records:
            await self.socket.send_message(record if isinstance(record, bytes) else json.dumps(record))

    async def hears(self) -> Any:
        """The client's next frame: JSON, or bytes."""
        message = await self.socket.get_message()
        self.frames.append(message if isinstance(message, bytes) else json.loads(message))
        return self.frames[-1]

    async def begins(self) -> None:
        """As a server begins a live turn."""
        await self.says({"type": "ready", "session": "ann", "flow": {"name": "played"}})
        assert (await self.hears())["type"] == "start"
        await self.says({"type": "turn.started", "turn": 1, "seq": 0, "t": 0.0})


@asynccontextmanager
async def playing(play: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[str]:
    """A WebSocket server that says what `play` says: its URL."""

    async def handle(request: WebSocketRequest) -> None:
        await play(Peer(await request.accept(subprotocol="ezflow.v1")))

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, handle, "127.0.0.1", 0, ssl_context=None))
        yield f"http://127.0.0.1:{server.port}"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def answering(*pieces: bytes, then: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """An HTTP server that answers any request by these bytes, and `then` does what it likes: its URL."""

    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        for piece in pieces:
            await stream.send_all(piece)
        await then(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()
