"""The clients' end: HTTP and WebSocket on bare sockets, so that they can break off anywhere; and what is heard."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any, Self

import msgspec
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, RejectConnection, Request, TextMessage

from ..bench.served.answers import Answer
from ..bench.served.work import fault_of

__all__ = ["Event", "Hearing", "Http", "Lost", "Socket"]

RECEIVE = 65536


class Lost(Exception):
    """The server has closed a connection before its time."""


class Event(msgspec.Struct):
    type: str
    text: str = ""
    data: bytes = b""
    reason: str = ""
    seq: int = -1
    run: int = 0
    turn: int | None = None
    length: int = msgspec.field(name="bytes", default=0)


read_event = msgspec.json.Decoder(Event).decode


class Hearing:
    """What a turn has said: `fault` tells what is wrong with it."""

    def __init__(self, marker: str) -> None:
        self.marker = marker
        self.first_text_at: float | None = None
        self.reason = ""
        self._text: list[str] = []
        self._sound: list[bytes] = []
        self._next = 0
        self._gap = False

    def hear(self, event: Event) -> None:
        self._gap |= event.seq != self._next
        self._next += 1
        if event.type == "text":
            if self.first_text_at is None:
                self.first_text_at = monotonic()
            self._text.append(event.text)
        elif event.type == "audio":
            self._sound.append(event.data)
        elif event.type == "turn.ended":
            self.reason = event.reason

    def fault(self) -> str:
        if self._gap:
            return "events out of order"
        if self.reason != "done":
            return f"ended by {self.reason or 'nothing'}"
        return fault_of("".join(self._text), b"".join(self._sound), self.marker, "wide")


class Connection:
    """A TCP connection to the server. `abort` has the system reset it instead of closing it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(await trio.open_tcp_stream("127.0.0.1", port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.aclose_forcefully(self.stream)

    def abort(self) -> None:
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def send(self, data: bytes) -> None:
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise Lost from error

    async def receive(self) -> bytes:
        try:
            data = await self.stream.receive_some(RECEIVE)
        except trio.BrokenResourceError as error:
            raise Lost from error
        if not data:
            raise Lost
        return bytes(data)


class Http(Connection):
    """Requests, one after the other."""

    async def ask(self, method: str, path: str, body: Any = None) -> None:
        """`body` is sent as it is if it is bytes, as JSON else."""
        encoded = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        await self.send(f"{head}Content-Length: {len(encoded)}\r\n\r\n".encode() + encoded)
        self.answer = Answer()

    async def lines(self) -> AsyncIterator[bytes]:
        """Those of the answer, as they come, each with the status in `answer.status`."""
        while not self.answer.ended:
            for line in self.answer.feed(await self.receive()):
                yield line

    async def answered(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Ask, and wait for the whole answer: its status and body."""
        await self.ask(method, path, body)
        found = [line async for line in self.lines()]
        return self.answer.status, b"\n".join([*found, self.answer.rest])


class Socket(Connection):
    """A WebSocket: shake hands, then send and hear."""

    async def begin(self, path: str) -> None:
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []
        self._parts: list[str | bytes] = []
        self._sound: Event | None = None
        await self.send(self._ws.send(Request(host="127.0.0.1", target=path)))

    async def tell(self, frame: Any) -> None:
        """`frame` is sent as it is if it is text or bytes, as JSON else."""
        if isinstance(frame, bytes):
            message: BytesMessage | TextMessage = BytesMessage(frame)
        else:
            message = TextMessage(frame if isinstance(frame, str) else json.dumps(frame))
        await self.send(self._ws.send(message))

    async def hear(self) -> Event:
        """The next event; that of a sound with the sound."""
        while not self._events:
            self._ws.receive_data(await self.receive())
            for found in self._ws.events():
                match found:
                    case TextMessage() | BytesMessage():
                        self._parts.append(found.data if isinstance(found, TextMessage) else bytes(found.data))
                        if found.message_finished:
                            self._message(self._parts)
                            self._parts = []
                    case Ping():
                        await self.send(self._ws.send(found.response()))
                    case CloseConnection() | RejectConnection():
                        raise Lost
                    case AcceptConnection() | _:
                        pass
        return self._events.pop(0)

    async def hear_until(self, *kinds: str) -> Event:
        """The first event that is one of these."""
        while True:
            event = await self.hear()
            if event.type in kinds:
                return event

    def _message(self, parts: list[Any]) -> None:
        if isinstance(parts[0], str):
            event = read_event("".join(parts))
            if event.length:
                self._sound = event
            else:
                self._events.append(event)
        else:
            assert self._sound is not None
            self._sound.data = b"".join(parts)
            self._events.append(self._sound)
            self._sound = None
