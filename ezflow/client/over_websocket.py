"""One WebSocket for one live turn: a task that reads it, and one that alone writes, so that no frame is cut."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import attrs
import trio

from ..errors import flat
from .address import Address, naming
from .errors import Closed, ConnectFailed, ProtocolError, Refused, too_large, why
from .over_http import headers_of, refusal
from .reception import LAST_WORDS_S, Reception
from .wire import Reader

if TYPE_CHECKING:
    from trio_websocket import WebSocketConnection

__all__ = ["OverWebSocket"]

# Messages that have come and are not taken; then the connection itself holds up the server.
AHEAD = 4
RECEIVE_BYTES = 64 * 1024

Message = str | bytes


@attrs.define(eq=False)
class OverWebSocket:
    """A live turn's connection; `start` is the frame that begins it, `say` takes the frames for the server."""

    address: Address
    user: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    start: str
    reader: Reader
    connect_s: float
    limit: int
    flow: Mapping[str, Any] = attrs.field(factory=dict, init=False, repr=False)
    say: trio.MemorySendChannel[Message] = attrs.field(init=False, repr=False)
    _said: trio.MemoryReceiveChannel[Message] = attrs.field(init=False, repr=False)
    _silenced: set[int] = attrs.field(factory=set, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.say, self._said = trio.open_memory_channel[Message](0)

    async def receive(self, tls: ssl.SSLContext | None, to: Reception) -> None:
        """Have the turn performed, and hand each of its events over. Raises: ClientError.

        `tls` is for a secure address.
        """
        failure: Exception | None = None
        with self._said:
            stream = await self._dialed(tls)
            try:
                async with trio.open_nursery() as nursery:
                    await self._converse(nursery, stream, to)
                    nursery.cancel_scope.cancel()
            except* Exception as group:  # noqa: BLE001  (of the connection's tasks: it is raised again below)
                failure = flat(group)[0]  # type: ignore[assignment]  # of a group of Exceptions
            finally:
                await trio.aclose_forcefully(stream)
        if failure is not None and not to.complete and not to.unwanted.is_set():
            raise self._fault(failure)

    async def _dialed(self, tls: ssl.SSLContext | None) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
        host, port = self.address.host, self.address.port
        with trio.move_on_after(self.connect_s):
            try:
                if not self.address.secure:
                    return await trio.open_tcp_stream(host, port)
                stream = await trio.open_ssl_over_tcp_stream(host, port, ssl_context=tls, https_compatible=True)
                try:
                    await stream.do_handshake()
                except BaseException:
                    await trio.aclose_forcefully(stream)
                    raise
                return stream
            except (OSError, trio.BrokenResourceError) as error:
                raise ConnectFailed(self.address.url, why(error)) from error
        raise ConnectFailed(self.address.url, f"no answer within {self.connect_s:g} s")

    async def _converse(
        self, nursery: trio.Nursery, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream], to: Reception
    ) -> None:
        try:
            with trio.fail_after(self.connect_s):
                socket = await self._shaken(nursery, stream)
                ready = self._record(await socket.get_message())
        except trio.TooSlowError:
            raise ConnectFailed(self.address.url, f"no WebSocket within {self.connect_s:g} s") from None
        reading = trio.CancelScope()
        nursery.start_soon(_cancel_when, to.unwanted, reading)
        with reading:
            await self._read(nursery, socket, ready, to)
        with trio.move_on_after(LAST_WORDS_S):
            await socket.aclose()

    async def _shaken(
        self, nursery: trio.Nursery, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]
    ) -> WebSocketConnection:
        from trio_websocket import wrap_client_stream

        reader = _Reader(nursery)
        with reader.lasts:
            return await wrap_client_stream(
                cast("trio.Nursery", reader),
                stream,
                self.address.netloc,
                f"{self.address.path}{naming('/ws', self.user)}",
                subprotocols=["ezflow.v1"],
                extra_headers=[(name.encode(), value.encode()) for name, value in self.headers.items()],
                message_queue_size=AHEAD,
                max_message_size=self.limit,
                receive_buffer_size=RECEIVE_BYTES,
            )
        raise ConnectFailed(self.address.url, "the connection broke off before it was a WebSocket")

    async def _read(
        self, nursery: trio.Nursery, socket: WebSocketConnection, ready: Mapping[str, Any], to: Reception
    ) -> None:
        if ready["type"] != "ready":
            raise ProtocolError("the socket does not begin with `ready`: is this an ezflow server?")
        self.flow = ready.get("flow", {})
        await socket.send_message(self.start)
        nursery.start_soon(self._write, socket)
        while not to.complete:
            await self._take(self._record(await socket.get_message()), socket, to)

    async def _write(self, socket: WebSocketConnection) -> None:
        from trio_websocket import ConnectionClosed

        try:
            async for message in self._said:
                await socket.send_message(message)
        except ConnectionClosed:
            return  # who reads says so

    async def _take(self, record: Mapping[str, Any], socket: WebSocketConnection, to: Reception) -> None:
        """Hand one event over; nothing of a run that was interrupted."""
        if record["type"] == "pong":
            return
        if record["type"] == "error" and "turn" not in record and not to.turn:  # it is the start that does not fit
            raise Refused(None, str(record.get("error")), str(record.get("message")), str(record.get("path", "")))
        pcm = await self._sound(record["bytes"], socket) if "bytes" in record else None
        event = self.reader.event(record, pcm)
        if event.type == "interrupted" and event.run is not None:
            self._silenced.add(event.run)
        elif event.run in self._silenced:
            return
        await to.tell(event)

    async def _sound(self, size: int, socket: WebSocketConnection) -> bytes:
        pcm = await socket.get_message()
        if not isinstance(pcm, bytes) or len(pcm) != size:
            raise ProtocolError("an audio event is not followed by the sound that it names.")
        return pcm

    def _record(self, message: Message) -> dict[str, Any]:
        if isinstance(message, bytes):
            raise ProtocolError("the server sent sound that belongs to no event.")
        return self.reader.decode(message)

    def _fault(self, error: Exception) -> Exception:
        import h11  # what wsproto's handshake is made of
        from trio_websocket import ConnectionClosed, ConnectionRejected
        from wsproto.utilities import LocalProtocolError, RemoteProtocolError

        if isinstance(error, ConnectionRejected):
            return refusal(error.status_code, headers_of(error), error.body or b"")
        if isinstance(error, ConnectionClosed):
            code, reason = (error.reason.code, error.reason.reason or "") if error.reason else (1006, "")
            # Our own end of the connection closes it at `limit`, with these words.
            return too_large(self.limit) if "maximum message size" in reason else Closed(code, reason)
        if isinstance(error, LocalProtocolError | RemoteProtocolError | h11.ProtocolError):
            return ProtocolError(f"the server does not speak the WebSocket protocol: {error}.")
        return error


class _Reader:
    """The nursery in which trio-websocket starts its reader; `lasts` is cancelled when that ends.

    trio-websocket 0.12.2 waits for ever for the handshake of a connection that has ended.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.lasts = trio.CancelScope()

    def start_soon(self, read: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, read)

    async def _run(self, read: Callable[[], Awaitable[None]]) -> None:
        try:
            await read()
        finally:
            self.lasts.cancel()


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
