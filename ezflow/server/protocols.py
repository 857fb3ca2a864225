"""HTTP/1.1 and WebSocket as the guarded server speaks them: hypercorn's protocols, less what a client could abuse.

Source: hypercorn 0.18.0, protocol/{h11,ws_stream}.py. See guard.py.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import h11
import trio
from h11._writers import ChunkedWriter
from hypercorn.events import Event, RawData
from hypercorn.protocol.events import Body, Data, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import ASGIWebsocketState, FrameTooLargeError, WSStream
from wsproto.events import CloseConnection, Message, Ping
from wsproto.frame_protocol import CloseReason

from ..channels import breathe

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypercorn.config import Config
    from hypercorn.typing import AppWrapper

__all__ = ["HTTP11", "WebSocket", "with_names"]


def with_names(function: Callable[..., Any], **names: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of a function of hypercorn's for which these global names mean other classes."""
    original = cast("FunctionType", function)
    return FunctionType(original.__code__, {**original.__globals__, **names})


class Requests(h11.Connection):
    """Reads requests; what comes ahead of a response's end waits here, and hypercorn does not wait for it."""

    @property
    def sends_chunks(self) -> bool:
        """Is a body on its way that is chunked?"""
        return self.our_state is h11.SEND_BODY and isinstance(self._writer, ChunkedWriter)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event; "more data is needed" until the response has ended, and after the last request."""
        if self.their_state is h11.MUST_CLOSE:
            return h11.NEED_DATA  # bytes after `Connection: close` are no request, nor a fault of the one before
        while self.their_state is h11.IDLE and self.trailing_data[0].startswith(b"\r\n"):
            self._receive_buffer.maybe_extract_at_most(2)  # an empty line before a request, as RFC 9112 2.2 has it
        event = super().next_event()
        if isinstance(event, h11.Request) and not _is_target(event.target):
            raise h11.RemoteProtocolError("the request target is neither a path nor a URL")
        return h11.NEED_DATA if event is h11.PAUSED else event


def _is_target(target: bytes) -> bool:
    """Is it one that Quart can read? Another would be answered by a traceback in the log."""
    try:
        return urlsplit(target).scheme in (b"http", b"https") or target.startswith(b"/")
    except ValueError:
        return False


class WebSocket(WSStream):
    """Ends with the close code that is due.

    Of a client that breaks the protocol hypercorn just drops the connection, and that of one whose message is
    too big it keeps, and stores what follows. One that sends before it was accepted it refuses, but does not tell
    the application.
    """

    _pinging = False

    async def handle(self, event: StreamEvent) -> None:
        """Take what the client sent, or its leaving."""
        if not isinstance(event, Data) or self.closed or self.handshake.accepted:
            await super().handle(event)
        elif self.state is ASGIWebsocketState.HANDSHAKE:
            assert self.app_put is not None
            self.closed = True
            await self._send_error_response(400)
            await self.app_put({"type": "websocket.disconnect", "code": CloseReason.ABNORMAL_CLOSURE.value})
            await self.send(StreamClosed(stream_id=self.stream_id))

    async def _send_pings(self) -> None:
        """Nothing: the server pings all of its sockets."""

    async def ping(self) -> None:
        """Send a ping, unless the one before still waits for the client to take what was sent before it."""
        if self.state is ASGIWebsocketState.CONNECTED and not self._pinging:
            self._pinging = True
            await self._send_wsproto_event(Ping())
            self._pinging = False

    async def _handle_events(self) -> None:
        assert self.app_put is not None
        for count, event in enumerate(self.connection.events(), 1):
            await breathe(count)  # what is read at once may be ten thousand frames of a byte
            if isinstance(event, Message):
                try:
                    self.buffer.extend(event)
                except FrameTooLargeError:
                    await self._end(CloseConnection(code=CloseReason.MESSAGE_TOO_BIG))
                    return
                if event.message_finished:
                    await self.app_put(self.buffer.to_message())
                    self.buffer.clear()
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                await self._end(event)

    async def _end(self, close: CloseConnection) -> None:
        """Send the close frame, be it wsproto's verdict or the client's own given back; none goes out twice."""
        await self._send_wsproto_event(close)
        await self.send(StreamClosed(stream_id=self.stream_id))


class HTTP11(H11Protocol):
    """HTTP/1.1 and WebSocket, and nothing else that a client may propose."""

    _start_stream = with_names(H11Protocol._create_stream, WSStream=WebSocket)

    def __init__(self, app: AppWrapper, config: Config, *others: Any) -> None:
        super().__init__(app, config, *others)
        self.connection = Requests(h11.SERVER, max_incomplete_event_size=config.h11_max_incomplete_size)
        self._parsing = trio.Lock()

    async def handle(self, event: Event) -> None:
        """Take what the client sent, or its leaving."""
        if not isinstance(event, RawData):
            await super().handle(event)
            return
        if self._parsing.locked():
            await self._parsing.acquire()
        else:
            self._parsing.acquire_nowait()  # to wait for what is free costs a trip through the scheduler
        try:
            await super().handle(event)
        finally:
            self._parsing.release()

    async def resume(self) -> None:
        """Go on to what the client sent ahead of the response that has just ended."""
        async with self._parsing:
            await self._handle_events()

    async def stream_send(self, event: StreamEvent) -> None:
        """Send a part of a response. h11 keeps no account of chunks: they need not pass through it."""
        if isinstance(event, Body) and isinstance(self.connection, Requests) and self.connection.sends_chunks:
            await self.send(RawData(b"%x\r\n%b\r\n" % (len(event.data), event.data)))
        else:
            await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Leave every request to HTTP/1.1: hypercorn answers `Upgrade: h2c` and `PRI *` with HTTP/2."""

    async def _create_stream(self, request: h11.Request) -> None:
        """Hide permessage-deflate, with which a frame dropped by a cancelled send spoils every later one."""
        kept = [header for header in request.headers if header[0] != b"sec-websocket-extensions"]
        if len(kept) < len(request.headers):
            method, target, version = request.method, request.target, request.http_version
            request = h11.Request(method=method, headers=kept, target=target, http_version=version)
        await self._start_stream(request)
