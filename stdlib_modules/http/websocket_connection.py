"""`WebSocket`: one connection to a server, wsproto over trio's streams."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Mapping, Sequence
from enum import Enum
from math import inf
from typing import Any, Self

import trio
import wsproto
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from .errors import BackendError, BackendRefused, Faults

__all__ = ["WebSocket"]

RECEIVE = 64 * 1024
REFUSAL = 16 * 1024  # bytes of a refusal's body that are read
SOON_S = 0.05  # how long a server's goodbye is waited for
GOOD_ENDS = (1000, 1005)  # closed in good order: with that code, or with none
POLICY, TRY_LATER, OWN_CODES = 1008, 1013, 3000


class Silence(Enum):
    """Why there is no further message."""

    QUIET = "the server had time enough to say something, and has not"
    PONG = "it has nothing to say, but is there"
    CLOSED = "it has closed in good order"


class WebSocket:
    """A connection, for as long as its client's `connect` block: `async for message in socket`, `await socket.send(…)`.

    A message is a text (str) or bytes. One task reads, any may send; pings are answered while it is read. A server may
    be silent while it is being talked to and takes what it is sent; once `said_all` has been called, or while it takes
    nothing, it has `read_s` to say something. The iteration ends when the server has closed in good order.
    Raises: BackendTimeout; BackendRefused where it closes with a code of its own, or for a policy; BackendBroken for
    every other end.
    """

    def __init__(
        self,
        tcp: trio.SocketStream,
        stream: trio.abc.Stream,
        faults: Faults,
        read_s: float,
        end: float,
        max_message: int,
    ) -> None:
        self.subprotocol: str | None = None
        self.headers: dict[str, str] = {}
        self._tcp = tcp
        self._stream = stream
        self._faults = faults
        self._read_s = read_s
        self._end = end
        self._max_message = max_message
        self._wire = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._events: deque[Event] = deque()
        self._bytes, self._text, self._size = bytearray(), io.StringIO(), 0
        self._sending = trio.Lock()
        self._later: Ping | Pong | None = None  # follows the message that is on its way
        self._talking = True
        self._heard = self._over = self._torn = False
        self._limit_s = read_s  # how long the server may be silent once it owes something,
        self._owing_since = inf  # which is since then
        self._waiting_since = inf
        self._waiting: trio.CancelScope | None = None

    def __repr__(self) -> str:
        return f"<WebSocket of {self._faults.server} at {self._faults.url}>"

    @property
    def talking(self) -> bool:
        """Whether there is more to say."""
        return self._talking

    def said_all(self) -> None:
        """Nothing more will be said (but a last word that may be on its way): the server's silence counts from now."""
        self._talking = False
        self._owing_since = trio.current_time()
        self._arm()

    async def send(self, message: str | bytes) -> bool:
        """Send a message, waiting until the server takes it; cancelled half-way, nothing more can be sent.

        False where the connection has ended: whoever reads is told how.
        """
        return await self._send(TextMessage(message) if isinstance(message, str) else BytesMessage(message))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str | bytes:
        self._limit_s = self._read_s
        message = await self._next()
        if isinstance(message, str | bytes):
            return message
        raise StopAsyncIteration

    async def soon(self, within_s: float) -> str | bytes | None:
        """The next message; None if, when all is said, none comes in that time and the server is still there.

        That is for protocols in which a server does not say what its last message is. Whether it is there is asked by a
        ping. Raises: as above, and BackendBroken where it closes.
        """
        self._limit_s = within_s
        message = await self._next(until_quiet=True)
        if message is Silence.QUIET:
            self._limit_s = self._read_s
            await self._control(Ping())
            message = await self._next(until_pong=True)
        if message is Silence.CLOSED:
            raise self.broken("closed the connection before its answer was complete")
        return None if isinstance(message, Silence) else message

    def broken(self, problem: str, body: str | bytes = b"") -> BackendError:
        """The error to raise for an answer that is not what it should be. Closes the connection."""
        self.close()
        return self._faults.broken(problem, body.encode() if isinstance(body, str) else body)

    async def leave(self) -> None:
        """Say goodbye, wait for the server's for a moment, and close."""
        with trio.move_on_after(SOON_S):
            try:
                said = await self._send(CloseConnection(1000))
                while said and not any(isinstance(event, CloseConnection) for event in self._events):
                    self._events.clear()
                    await self._receive()
            except BackendError:
                pass  # it need not be polite
        self.close()

    def close(self) -> None:
        """Close the connection at once, without a word. Again, it does nothing."""
        self._over = True
        self._tcp.socket.close()

    async def greet(self, host: str, target: str, subprotocols: tuple[str, ...], headers: Mapping[str, str]) -> None:
        """The opening handshake. Raises: BackendRefused, BackendBroken, BackendTimeout."""
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send(Request(host=host, target=target, subprotocols=list(subprotocols), extra_headers=extra))
        self._owing_since = trio.current_time()
        refusal: RejectConnection | None = None
        body = bytearray()
        while True:
            try:
                while not self._events:
                    await self._receive()
            except BackendError:
                if refusal is None:
                    raise
                raise self._refused(refusal, body) from None  # what came of the body will have to do
            event = self._events.popleft()
            whole = False
            if isinstance(event, AcceptConnection):
                break
            if isinstance(event, RejectConnection):
                refusal, whole = event, not event.has_body
            elif isinstance(event, RejectData):
                body += event.data
                whole = event.body_finished or len(body) > REFUSAL
            if refusal is not None and whole:
                raise self._refused(refusal, body)
        self.subprotocol, self.headers = event.subprotocol, _decoded(event.extra_headers)
        self._owing_since = inf

    def _refused(self, refusal: RejectConnection, body: bytearray) -> BackendError:
        self.close()
        headers = _decoded(refusal.headers)
        location = headers.get("location", "") if 300 <= refusal.status_code < 400 else ""
        return self._faults.refused(refusal.status_code, bytes(body), headers.get("retry-after", ""), location)

    async def _next(self, until_quiet: bool = False, until_pong: bool = False) -> str | bytes | Silence:
        """The next message, or why there is none."""
        while not self._over:
            while self._events:
                event = self._events.popleft()
                if isinstance(event, Message):
                    if (message := self._whole(event)) is not None:
                        return message
                elif isinstance(event, Ping):
                    await self._control(event.response())
                elif isinstance(event, CloseConnection):
                    await self._closed(event)
                elif isinstance(event, Pong) and until_pong:
                    return Silence.PONG
            if not self._over and not await self._receive(until_quiet):
                return Silence.QUIET
        return Silence.CLOSED

    def _whole(self, event: Message[Any]) -> str | bytes | None:
        """A message, when all its fragments have come."""
        self._size += len(event.data)
        if self._size > self._max_message:
            raise self.broken(f"sent a message of more than {self._max_message} bytes")
        if isinstance(event, TextMessage):
            self._text.write(event.data)
        else:
            self._bytes += event.data
        if not event.message_finished:
            return None
        message = self._text.getvalue() if isinstance(event, TextMessage) else bytes(self._bytes)
        self._bytes, self._text, self._size = bytearray(), io.StringIO(), 0
        return message

    async def _closed(self, event: CloseConnection) -> None:
        """The server has closed. Raises: BackendError, if not in good order."""
        if self._wire.state is ConnectionState.OPEN:
            raise self.broken(f"does not keep to the WebSocket protocol: {event.reason}")
        with trio.move_on_after(SOON_S):
            await self._send(event.response())
        self.close()
        code = int(event.code)
        if code in GOOD_ENDS:
            return
        told = self._faults._excerpt((event.reason or "").encode())
        problem = f"closed the connection with {code}" + (f": {told}" if told else "")
        if code in (POLICY, TRY_LATER) or code >= OWN_CODES:
            raise BackendRefused(self._faults.server, self._faults.url, problem, status=code, body=told)
        raise self._faults.broken(problem, told.encode())

    async def _receive(self, until_quiet: bool = False) -> bool:
        """Read once. False if the server says nothing where it should, and that is not an error."""
        self._waiting_since = trio.current_time()
        data: bytes | bytearray | None = None
        with trio.CancelScope() as self._waiting:
            self._arm()
            try:
                data = await self._stream.receive_some(RECEIVE)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise self._cut() from error
        self._waiting = None
        if data is None:
            late = trio.current_time() >= self._end
            if until_quiet and not late and not self._talking:
                return False
            self.close()
            raise self._faults.timeout(
                "took longer than it may in all" if late else f"was silent for {self._read_s:g} s"
            )
        if not data:
            raise self._cut()
        self._heard = True
        try:
            self._wire.receive_data(bytes(data))
            self._events.extend(self._wire.events())
        except ProtocolError as error:
            raise self.broken(f"does not speak WebSocket: {error}", bytes(data)) from error
        return True

    def _cut(self) -> BackendError:
        return self.broken(
            "broke off in the middle of its answer" if self._heard else "closed the connection without an answer"
        )

    def _arm(self) -> None:
        """Let the wait for the server end when it is over its time."""
        if self._waiting is not None:
            limit_s = self._read_s if self._talking else self._limit_s
            self._waiting.deadline = min(max(self._owing_since, self._waiting_since) + limit_s, self._end)

    async def _control(self, event: Ping | Pong) -> None:
        """Send a ping or a pong; while a message is on its way, after that: reading must not wait for it."""
        if self._sending.locked():
            self._later = event
        else:
            await self._send(event)

    async def _send(self, event: Event) -> bool:
        async with self._sending:
            sent = await self._put(event)
            while sent and self._later is not None:
                event, self._later = self._later, None
                sent = await self._put(event)
            return sent

    async def _put(self, event: Event) -> bool:
        if self._over or self._torn:
            return False
        try:
            data = self._wire.send(event)
        except ProtocolError:
            return False  # it is being closed
        self._torn = True  # until all of it is sent: what would follow a part of a frame is nonsense
        if self._talking:
            self._owing_since = trio.current_time()
            self._arm()
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        if self._talking:
            self._owing_since = inf
            self._arm()
        self._torn = False
        return True


def _decoded(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("ascii").lower(): value.decode("latin-1") for name, value in headers}
