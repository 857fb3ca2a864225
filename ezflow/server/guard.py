"""hypercorn 0.18, hardened: no client can end the server, fill its memory or hold a connection for ever.

`serve` runs hypercorn's own worker with `GuardedServer` in place of its `TCPServer`: each connection is a
cancel scope whose faults are logged and end nothing else; it speaks HTTP/1.1 and WebSocket, and leaves HTTP/2
to a reverse proxy; each wait for the client has a deadline, but to a response it may listen in silence. While it
listens, it may send its next requests, of up to 64 KiB; it is read from all the time, so that its leaving is seen.
A WebSocket ends with a close frame that says why, and in a way that lets the client read it.

Nothing in hypercorn is replaced: two of its functions are copied, each with global names of its own, the
rest are subclasses (those of its protocols, in protocols.py). What they override is private, so hypercorn is
pinned exactly. tests/server/test_guard.py shows each defect beside its cure, and that a plain server in the
same process is as it was (`test_a_plain_server_beside_a_guarded_one_still_speaks_http2`).

Source: hypercorn 0.18.0, trio/{run,tcp_server,task_group,worker_context}.py.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, cast

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11WSConnection
from hypercorn.trio.run import worker_serve
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import EventWrapper, WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from ..channels import breathe
from .protocols import HTTP11, WebSocket, with_names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from hypercorn.typing import AppWrapper, ASGIFramework, ASGIReceiveEvent, ASGISendEvent, Scope

__all__ = ["FIRST_REQUEST_S", "GuardedConfig", "GuardedContext", "GuardedServer", "serve"]

log = logging.getLogger("ezflow.server")

# A write's deadline starts anew with each piece: a large body may take a slow client long, a piece may not.
PIECE_BYTES = 64 * 1024
# What a client may send ahead of a response's end: it is held until then, and who sends more is cut off.
AHEAD_BYTES = 64 * 1024
# Of so many parts of an interval, each pings its share of the WebSockets.
PING_ROUNDS = 16
# How long an application may go on once its client has left, or has its whole response.
DISCONNECT_PATIENCE_S = 1.0
# How long a closed WebSocket is read from, for nothing: with unread bytes in its buffer TCP would reset the
# connection, and the close frame might be lost on its way.
LINGER_S = 1.0
# What a connection has for its first request that was accepted just before the end.
FIRST_REQUEST_S = 0.5


class GuardedConfig(Config):
    """hypercorn's settings with defaults that bound what one client can hold, and three more, in seconds.

    `write_timeout_s`: the client must take 64 KiB within it. `head_timeout_s`: from the first byte of a
    request's head to its last. `body_timeout_s`: between two reads of a request's body. (hypercorn's own
    `read_timeout` would end a response whose listener is silent.) A WebSocket client that sends nothing, not
    even a pong, for two `websocket_ping_interval` is taken for gone.

    Takes addresses to bind ("127.0.0.1:0", "[::]:3421", "unix:/run/ezflow.sock"), and PEM files for TLS.
    """

    def __init__(self, *bind: str, certfile: str | None = None, keyfile: str | None = None) -> None:
        self.bind = list(bind) or self.bind
        self.certfile, self.keyfile = certfile, keyfile
        self.write_timeout_s = self.head_timeout_s = 10.0
        self.body_timeout_s = 30.0
        self.alpn_protocols = ["http/1.1"]
        self.backlog = 1024
        self.errorlog = log
        self.graceful_timeout = 5.0
        self.h11_max_incomplete_size = 16 * 1024
        self.include_server_header = False
        self.keep_alive_timeout = 30.0
        self.ssl_handshake_timeout = 10.0
        self.websocket_max_message_size = 8 * 1024 * 1024
        self.websocket_ping_interval = 20.0


async def serve(
    app: ASGIFramework,
    config: GuardedConfig,
    *,
    shutdown_trigger: Callable[..., Awaitable[None]],
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI application until `shutdown_trigger` returns, as `hypercorn.trio.serve` does.

    Listens before it reports its URLs. Then takes no new connection, closes the idle ones (one that has asked for
    nothing yet, FIRST_REQUEST_S later), and cancels the others `config.graceful_timeout` later, whatever their clients
    do. No exception of a connection leaves it.
    Raises: OSError for an address that cannot be bound; hypercorn's LifespanFailureError.
    """
    options = {"sockets": None, "shutdown_trigger": shutdown_trigger, "task_status": task_status}
    context = GuardedContext(config)
    worker = with_names(worker_serve, TCPServer=GuardedServer, WorkerContext=lambda _: context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(context.ping)
        await worker(ASGIWrapper(app), config, **options)
        nursery.cancel_scope.cancel()


class Terminated(EventWrapper):
    """The server's shutdown, which ends the connections that wait for a request."""

    def __init__(self, connections: Iterable[GuardedServer]) -> None:
        super().__init__()
        self._connections = connections

    async def set(self) -> None:
        await super().set()
        for connection in self._connections:
            connection.end_if_idle()


class GuardedContext(WorkerContext):
    """The connections of one server. What it does for them all takes a task less in each."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.max_requests)
        self._interval_s = config.websocket_ping_interval or inf
        self._due: dict[GuardedServer, float] = {}  # in order: the interval is the same for all
        self._some = trio.Event()
        self.terminated = Terminated(self._due)

    def add(self, connection: GuardedServer) -> None:
        """Care for a connection, until it is discarded."""
        self._due[connection] = trio.current_time() + self._interval_s
        self._some.set()

    def discard(self, connection: GuardedServer) -> None:
        self._due.pop(connection, None)

    async def ping(self) -> None:
        """Ping each WebSocket once an interval, several at a time: to wake up for each costs more than a ping."""
        while True:
            while not self._due:
                self._some = trio.Event()
                await self._some.wait()
            await trio.sleep_until(next(iter(self._due.values())) + self._interval_s / PING_ROUNDS)
            now = trio.current_time()
            for connection in [connection for connection, due in self._due.items() if due <= now]:
                self.discard(connection)
                self.add(connection)
                connection.ping()


class Applications(TaskGroup):
    """Starts a connection's applications, in a nursery that the connection enters and leaves.

    As a context manager, hypercorn's drops what its nursery's `__aexit__` returns, so a Cancelled leaks out.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    async def spawn_app(
        self, app: AppWrapper, config: Config, scope: Scope, send: Callable[[ASGISendEvent | None], Any]
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start one; gives what puts an event into its queue, and waits while that is full.

        One whose client has left, and that may be too far behind to read of it, is soon cancelled.
        """
        into, out_of = trio.open_memory_channel[Any](config.max_app_queue_size)
        app_scope = trio.CancelScope()

        async def run(scope: Scope, receive: object, *send_and_threads: Any, **_: Any) -> None:
            with app_scope, out_of:
                await app(scope, out_of.receive, *send_and_threads)

        async def put(event: ASGIReceiveEvent) -> None:
            if event["type"] in ("http.disconnect", "websocket.disconnect"):
                app_scope.deadline = trio.current_time() + DISCONNECT_PATIENCE_S
            with suppress(trio.BrokenResourceError):
                await into.send(event)

        await super().spawn_app(cast("AppWrapper", run), config, scope, send)
        return put


class GuardedServer(TCPServer):
    """One connection, from its handshake to its end; trio.serve_listeners closes the stream after it."""

    context: GuardedContext
    _writes = 0
    _is_idle = False
    _is_new = True
    _head_begun = False
    _left = False  # the client has: an application that ends its response later begins no time of idleness

    def __init__(self, *others: Any) -> None:
        super().__init__(*others)
        del self.idle_task  # its part is that of the reader's deadline

    async def run(self) -> None:
        """Serve it; an exception is logged and goes no further."""
        self._limits = cast("GuardedConfig", self.config)
        self._reading = trio.CancelScope()
        try:
            await self._serve_stream()
        except* Exception as faults:
            log.error("One connection failed; the others go on.", exc_info=faults)

    def end_if_idle(self) -> None:
        """End it if it waits for a request: a first one may be on its way."""
        if self._is_idle and self._is_new:
            self._reading.deadline = min(self._reading.deadline, trio.current_time() + FIRST_REQUEST_S)
        elif self._is_idle:
            self._reading.cancel()

    def ping(self) -> None:
        """Ping the client if it has a WebSocket, as soon as it takes what was sent before."""
        if isinstance(stream := self._http.stream, WebSocket):
            self._task_group.spawn(stream.ping)

    async def _serve_stream(self) -> None:
        stream = cast("trio.SSLStream[trio.SocketStream] | trio.SocketStream", self.stream)
        try:
            if tls := isinstance(stream, trio.SSLStream):
                with trio.fail_after(self.config.ssl_handshake_timeout):
                    await stream.do_handshake()
            self._plain = stream if os.name == "posix" and isinstance(stream, trio.SocketStream) else None
            self._transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
            socket = self._transport.socket
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
        except (trio.BrokenResourceError, trio.TooSlowError, OSError):
            return  # it speaks no TLS, or has left
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            self._task_group = tasks = Applications(nursery)
            where = (ConnectionState(self.state), tls, client, server)
            self._http = HTTP11(self.app, self.config, self.context, tasks, *where, self.protocol_send)
            self._await_request(self._limits.keep_alive_timeout)
            self.context.add(self)
            try:
                with self._reading:
                    await self._read_data()
            finally:
                self.context.discard(self)
            self._left = True
            await self._http.handle(Closed())

    async def protocol_send(self, event: Event) -> None:
        """Do what the protocol asks for: write, close, begin or end a time of idleness."""
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Closed):
            if isinstance(self._http.connection, H11WSConnection):
                await self._linger()
            else:
                await trio.aclose_forcefully(self.stream)
            await self._http.handle(event)
        elif isinstance(event, Updated):
            self._head_begun = False
            self._is_idle = self._is_new = False
            self._reading.deadline = inf
            if event.idle and not self._left:
                self._await_request(self._limits.keep_alive_timeout)
                self._task_group.spawn(self._resume)

    def _await_request(self, limit_s: float) -> None:
        """End the connection unless a whole request head comes within that time, and before a shutdown."""
        self._reading.deadline = trio.current_time() + limit_s
        self._is_idle = True
        if self.context.terminated.is_set():
            self.end_if_idle()

    async def _write(self, data: bytes) -> None:
        """Write all or end the connection: a caller that is cancelled meanwhile leaves no half frame.

        What the socket takes at once costs no trip through the scheduler; what it does not is written by a task
        of the connection's own, which ends with the connection, and not with the caller.
        """
        self._writes += 1
        await breathe(self._writes)
        rest: bytes | memoryview = data
        if self.send_lock.locked():
            await self.send_lock.acquire()
        else:
            if not (rest := self._write_now(data)):
                return
            self.send_lock.acquire_nowait()
        try:
            written = trio.Event()
            self._task_group.spawn(self._write_rest, rest, written)
            with trio.CancelScope(shield=True):
                await written.wait()
        finally:
            self.send_lock.release()

    def _write_now(self, data: bytes) -> bytes | memoryview:
        """What the socket does not take at once; all of it where that is not to be known."""
        if not data or self._scope.cancel_called:
            return b""
        if self._plain is None:
            return data
        try:
            taken = os.write(self._plain.socket.fileno(), data)
        except OSError:  # it takes nothing now, or is broken or closed, as `send_all` will find
            return data
        return memoryview(data)[taken:] if taken < len(data) else b""

    async def _write_rest(self, data: bytes | memoryview, written: trio.Event) -> None:
        whole = False
        try:
            with trio.CancelScope() as limit, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                for start in range(0, len(data), PIECE_BYTES):
                    limit.deadline = trio.current_time() + self._limits.write_timeout_s
                    await self.stream.send_all(data[start : start + PIECE_BYTES])
                whole = True
        finally:
            if not whole:
                self._scope.cancel()
            written.set()

    async def _linger(self) -> None:
        """Say no more, and give the client, which is read from until then, a while to end the connection."""
        self._reading.deadline = trio.current_time() + LINGER_S
        async with self.send_lock:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._transport.send_eof()

    async def _read_data(self) -> None:
        while True:
            data: bytes | bytearray = b""
            with trio.CancelScope(deadline=trio.current_time() + self._patience()) as silence:
                try:
                    data = await self.stream.receive_some(MAX_RECV)
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    return
            if silence.cancelled_caught:
                return
            await self._http.handle(RawData(bytes(data)))
            if data == b"" or len(self._http.connection.trailing_data[0]) > AHEAD_BYTES:
                return
            self._time_head()

    async def _resume(self) -> None:
        await self._http.resume()
        self._time_head()

    def _time_head(self) -> None:
        connection = self._http.connection
        in_head = connection.their_state is h11.IDLE and connection.trailing_data[0] != b""
        if in_head and not self._head_begun:
            self._head_begun = True
            self._await_request(self._limits.head_timeout_s)

    def _patience(self) -> float:
        """How long the client may be silent, but for between requests and amid their heads."""
        connection = self._http.connection
        if isinstance(connection, H11WSConnection):
            return 2 * (self.config.websocket_ping_interval or inf)
        return self._limits.body_timeout_s if connection.their_state is h11.SEND_BODY else inf
