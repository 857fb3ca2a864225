"""A stand-in that is spoken to over a WebSocket: derive from it and write `talk`."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import msgspec
import trio
import wsproto
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Message,
    Ping,
    RejectConnection,
    RejectData,
    TextMessage,
)
from wsproto.events import Request as Handshake
from wsproto.utilities import ProtocolError

from ...errors import InputError
from .standin import Fault, Gone, Request, StandIn

__all__ = ["Peer", "WebSocketStandIn"]

RECEIVE = 64 * 1024
MAX_MESSAGE = 64 * 1024 * 1024
CONTINUATION, TEXT, BINARY = 0, 1, 2
BAD_DATA, INTERNAL = 1007, 1011


class WebSocketStandIn(StandIn):
    """A loopback server of a WebSocket protocol; derive from it and write `talk`.

    As a `StandIn`; each handshake is one of its `requests`. `subprotocol` must be offered. Of the faults, SPLIT sends
    each byte as a frame of its own, TOGETHER everything at once when it is complete, CUT breaks off within a frame, and
    REFUSES answers the handshake with 500. SILENT and GARBAGE concern the handshake, or with `after_handshake` what
    comes after it: silence, and a text that is no JSON.
    """

    subprotocol: ClassVar[str | None] = None

    def __init__(self, *, after_handshake: bool = False, **script: Any) -> None:
        super().__init__(**script)
        self.after_handshake = after_handshake

    async def talk(self, peer: Peer) -> None:
        """Talk to a client: `await peer.receive()`, `await peer.send(…)`, and `await peer.end()` when all is said."""
        raise NotImplementedError

    def _url(self, port: int) -> str:
        return f"ws://127.0.0.1:{port}"

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        peer = Peer(self, stream)
        try:
            if (request := await peer.greeted()) is not None:
                self.requests.append(request)
                self._note()
                await self._met(request, peer)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ProtocolError):
            pass
        finally:
            self.connections -= 1
            self._note()
            await trio.aclose_forcefully(stream)

    async def _met(self, request: Request, peer: Peer) -> None:
        fault, later = self.fault, self.after_handshake
        if fault is Fault.REFUSES:
            await peer.refuse(500, {"error": "the model is broken"})
        elif fault is Fault.SILENT and not later:
            await peer.watched(trio.sleep_forever)
        elif fault is Fault.GARBAGE and not later:
            await peer.raw(b"\x00\xff garbage \x80\x81\r\n\r\n")
        elif self.subprotocol is not None and self.subprotocol not in peer.offered:
            self.problem(f"the subprotocol {self.subprotocol!r} is not offered, but {peer.offered}")
            await peer.refuse(400, {"error": "no such subprotocol"})
        else:
            await peer.accept(self.subprotocol)
            if fault is Fault.SILENT:
                await peer.watched(trio.sleep_forever)
            elif fault is Fault.GARBAGE:
                await peer.frame(TEXT, b"{garbage")
                await peer.watched(trio.sleep_forever)
            else:
                await peer.watched(partial(self._talked, peer))

    async def _talked(self, peer: Peer) -> None:
        try:
            await self.talk(peer)
        except (InputError, msgspec.DecodeError) as error:
            await peer.close(BAD_DATA, str(error)[:100])


class Peer:
    """A client's end of one connection, as a stand-in sees it; the stand-in's fault decides how it is answered."""

    def __init__(self, server: WebSocketStandIn, stream: trio.SocketStream) -> None:
        self._server = server
        self._stream = stream
        self._wire = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self._come: deque[str | bytes] = deque()
        self._changed = trio.Event()
        self._part: list[Any] = []
        self._held = bytearray()
        self._sending = trio.Lock()
        self._sent = 0
        self._complete = False
        self._closing = False
        self.offered: tuple[str, ...] = ()
        self.pings = 0

    async def receive(self) -> str | bytes:
        """The client's next message."""
        while not self._come:
            await self._changed.wait()
        return self._come.popleft()

    async def send(self, message: Any, *, end_mark: bool = False) -> None:
        """Send a message (str, bytes, or what JSON holds) after its time; `end_mark`: the protocol ends with it."""
        server = self._server
        await trio.sleep(server.each_s if self._sent else server.first_s)
        self._sent += 1
        is_bytes = isinstance(message, bytes)
        data = message if is_bytes else message.encode() if isinstance(message, str) else msgspec.json.encode(message)
        fault = server.fault
        if fault is Fault.NO_END and end_mark:
            return
        if fault is Fault.CUT and (self._sent == 2 or end_mark):
            await self._put(_frame(BINARY if is_bytes else TEXT, data)[: 2 + len(data) // 2])
            raise Gone
        await self.frame(BINARY if is_bytes else TEXT, data)

    async def frame(self, opcode: int, data: bytes) -> None:
        """Send a message, in as many frames as the fault wants."""
        if self._server.fault is Fault.SPLIT and len(data) > 1:
            for place in range(len(data)):
                first, last = place == 0, place == len(data) - 1
                await self._put(_frame(opcode if first else CONTINUATION, data[place : place + 1], last))
        elif self._server.fault is Fault.TOGETHER:
            self._held += _frame(opcode, data)
        else:
            await self._put(_frame(opcode, data))

    async def end(self) -> None:
        """All is said: the client may go. Send what is held."""
        self._complete = True
        if self._held:
            held, self._held = self._held, bytearray()
            await self._put(held)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in good order, or with a code that says why not."""
        await self.end()
        if not self._closing:
            self._closing = True
            await self._put(self._wire.send(CloseConnection(code, reason)))

    async def watched(self, handler: Any) -> None:
        """Run a handler while what comes is read; note when the client leaves before all is said."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_it_leaves, nursery.cancel_scope)
            try:
                await handler()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await trio.sleep(1)  # it has left; the one who reads notes it, and ends this
            except Gone:
                self._complete = True  # it is this server that leaves
                await trio.aclose_forcefully(self._stream)
            await trio.sleep_forever()  # until the one who reads sees that the connection is over

    async def greeted(self) -> Request | None:
        """The client's handshake; None if it left before."""
        while True:
            for event in self._wire.events():
                if isinstance(event, Handshake):
                    target = urlsplit(event.target)
                    self.offered = tuple(event.subprotocols)
                    headers = {name.decode(): value.decode() for name, value in event.extra_headers}
                    return Request("GET", target.path, dict(parse_qsl(target.query)), headers, b"")
            data = await self._stream.receive_some(RECEIVE)
            if not data:
                return None
            self._wire.receive_data(bytes(data))

    async def accept(self, subprotocol: str | None) -> None:
        await self._stream.send_all(self._wire.send(AcceptConnection(subprotocol=subprotocol)))

    async def refuse(self, status: int, body: Any) -> None:
        """Answer the handshake with an error."""
        data = msgspec.json.encode(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
        await self._stream.send_all(
            self._wire.send(RejectConnection(status_code=status, headers=headers, has_body=True))
            + self._wire.send(RejectData(data))
        )

    async def raw(self, data: bytes) -> None:
        """Send bytes that are no WebSocket, and end."""
        await self._stream.send_all(data)
        await self._stream.send_eof()

    async def _put(self, data: bytes | bytearray) -> None:
        async with self._sending:
            await self._stream.send_all(data)

    async def _until_it_leaves(self, scope: trio.CancelScope) -> None:
        try:
            while await self._read():
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        if not self._complete:
            self._server.left.append(trio.current_time())
        scope.cancel()

    async def _read(self) -> bool:
        """Take what the client has sent; False when it has left."""
        for event in self._wire.events():
            if isinstance(event, Message):
                self._take(event)
            elif isinstance(event, Ping):
                self.pings += 1
                if self._server.fault is not Fault.SILENT:
                    await self._put(self._wire.send(event.response()))
            elif isinstance(event, CloseConnection):
                if not self._closing:
                    self._closing = True
                    await self._put(self._wire.send(event.response()))
                return False
        data = await self._stream.receive_some(RECEIVE)
        if data:
            self._wire.receive_data(bytes(data))
        return bool(data)

    def _take(self, event: Message[Any]) -> None:
        self._part.append(event.data)
        if sum(map(len, self._part)) > MAX_MESSAGE:
            raise trio.BrokenResourceError
        if event.message_finished:
            whole = "".join(self._part) if isinstance(event, TextMessage) else b"".join(self._part)
            self._part = []
            self._come.append(whole)
            self._changed.set()
            self._changed = trio.Event()
            self._server._note()


def _frame(opcode: int, data: bytes, last: bool = True) -> bytes:
    """A frame as a server sends it; by hand, as wsproto cuts no character in two."""
    head = bytes([opcode | (0x80 if last else 0)])
    if len(data) < 126:
        return head + bytes([len(data)]) + data
    if len(data) < 1 << 16:
        return head + b"\x7e" + len(data).to_bytes(2, "big") + data
    return head + b"\x7f" + len(data).to_bytes(8, "big") + data
