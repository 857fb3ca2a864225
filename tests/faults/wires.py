"""The wires between a stand-in and its clients, which may stop in the middle of an answer, and how they go on."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from ezflow.testing.backends import StandIn
from ezflow.testing.backends.websocket import WebSocketStandIn

__all__ = ["Way", "Wires", "cut", "garbage", "go_on", "reset", "slowly"]

SLOW_S = 0.6  # each of the long waits of a slow server
WAITS = 4
CRUMBS = 20  # after each
GARBAGE = b"\x00\xff garbage \x80\x81\r\n\r\n" * 200
AT_ONCE = struct.pack("ii", 1, 0)

# How a wire goes on: it is given the socket, and what is left of the piece in which it has stopped.
Way = Callable[[trio.SocketStream, bytes], Awaitable[None]]


class Wires:
    """The wires of one stand-in.

    `hold`: of the next answers so many stop, and `held` have; `go_on(way)` says how they are to end. `pieces` is how
    many each answer had, its head among them.
    """

    def __init__(self, standin: StandIn) -> None:
        self._left = 0
        self._at = 0
        self._between = False
        self._way: Way = go_on
        self._told = trio.Event()
        self._changed = trio.Event()
        self.held = 0
        self.pieces: list[int] = []
        is_websocket, serve = isinstance(standin, WebSocketStandIn), standin._serve
        standin._serve = lambda stream: serve(Wire(self, stream, is_websocket))  # type: ignore[assignment,arg-type,method-assign]

    def hold(self, many: int, at: int, *, between: bool = False) -> None:
        """Have so many answers stop, half way through their piece `at`; `between`: before it."""
        self._left, self._at, self._between = many, at, between
        self.held, self._told = 0, trio.Event()

    async def until_held(self, many: int) -> None:
        while self.held < many:
            await self._changed.wait()

    def go_on(self, way: Way) -> None:
        self._way = way
        self._told.set()

    async def send(self, stream: trio.SocketStream, piece: bytes, number: int) -> None:
        """Send a piece of an answer, the first of which is number 1."""
        if number == 1:
            self.pieces.append(0)
        self.pieces[-1] += 1
        if self._left and number == self._at:
            self._left -= 1
            half = 0 if self._between else len(piece) // 2
            await stream.send_all(piece[:half])
            self.held += 1
            self._changed.set()
            self._changed = trio.Event()
            await self._told.wait()
            await self._way(stream, piece[half:])
        else:
            await stream.send_all(piece)


class Wire(trio.abc.HalfCloseableStream):
    """A stand-in's end of one connection."""

    def __init__(self, wires: Wires, stream: trio.SocketStream, is_websocket: bool) -> None:
        self._wires = wires
        self._stream = stream
        self._is_websocket = is_websocket
        self._pieces = 0

    async def send_all(self, data: Any) -> None:
        self._pieces += 1
        await self._wires.send(self._stream, bytes(data), self._pieces)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytes(await self._stream.receive_some(max_bytes))
        if not self._is_websocket:
            self._pieces = 0  # another request
        return data

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def go_on(stream: trio.SocketStream, rest: bytes) -> None:
    """As if nothing had been."""
    await stream.send_all(rest)


async def slowly(stream: trio.SocketStream, rest: bytes) -> None:
    """In crumbs, mostly of a byte, with long waits among them."""
    for part in range(WAITS):
        await trio.sleep(SLOW_S)
        some = rest[part * len(rest) // WAITS : (part + 1) * len(rest) // WAITS]
        size = len(some) // CRUMBS + 1
        for place in range(0, len(some), size):
            await stream.send_all(some[place : place + size])


async def cut(stream: trio.SocketStream, rest: bytes) -> None:
    """Not at all: the server closes."""
    await trio.aclose_forcefully(stream)
    raise trio.ClosedResourceError


async def reset(stream: trio.SocketStream, rest: bytes) -> None:
    """Not at all: the connection is torn down, as by a machine that has lost its memory of it."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    await cut(stream, rest)


async def garbage(stream: trio.SocketStream, rest: bytes) -> None:
    """With bytes that nobody can read."""
    await stream.send_all(GARBAGE)
    await cut(stream, rest)
