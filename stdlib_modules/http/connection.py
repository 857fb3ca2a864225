"""One HTTP/1.1 connection, and the watch over all that wait for their server."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from math import inf

import trio

from .answer import Answer
from .errors import Expired

__all__ = ["Connection", "Watch"]

RECEIVE = 64 * 1024
CLOSED = -1


class Watch:
    """Tells the connections whose deadline has passed; those that wait for their server close.

    A cancel scope around each wait for the next piece costs a tenth to a quarter of all that reading a stream costs
    (tests/bench/http_clients.py). Noting a number costs nothing, and one sleeping task serves all connections.
    """

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self._alarm = trio.CancelScope()
        self._next = inf
        self._closed = False

    def open(self) -> None:
        trio.lowlevel.spawn_system_task(self._run, name="the watch over an HTTPClient's connections")

    def close(self) -> None:
        """Close every connection; whoever waits at one sees it broken."""
        self._closed = True
        self._alarm.cancel()
        for connection in list(self.connections):
            connection.close()

    def expect(self, deadline: float) -> None:
        """Look again at `deadline` or before."""
        if deadline < self._next:
            self._next = self._alarm.deadline = deadline

    async def _run(self) -> None:
        while not self._closed:
            with self._alarm:
                await trio.sleep_forever()
            now = trio.current_time()
            for connection in [each for each in self.connections if each.deadline <= now]:
                connection.lapse()
            self._next = min((each.deadline for each in self.connections), default=inf)
            self._alarm = trio.CancelScope(deadline=self._next)


class Connection:
    """A connection to one server: one request at a time, any number in turn.

    Closing it is immediate and waits for nothing: no checkpoint, so it cannot be cancelled half-way.
    """

    def __init__(self, tcp: trio.SocketStream, stream: trio.abc.Stream, watch: Watch) -> None:
        self._tcp = tcp
        self._stream = stream
        self._watch = watch
        # Where a socket is a file, bare TCP is read and written as one: trio's streams try to read before they wait,
        # and wait for another turn after each send.
        self._file = tcp.socket.fileno() if stream is tcp and os.name == "posix" else None
        self.answer = Answer()
        self.expired = False
        self.deadline = inf
        self._left: Callable[[], None] | None = None
        self.idle_since = 0.0
        watch.connections.add(self)

    def close(self) -> None:
        if self._file is not None:
            self._file = CLOSED  # its number may soon be another's
        self._tcp.socket.close()
        self._watch.connections.discard(self)

    def lapse(self) -> None:
        """The deadline is over: of the server that is waited for, or of who was to ask for more of its answer."""
        self.deadline = inf
        left, self._left = self._left, None
        if left is not None:
            left()
        else:
            self.expired = True
            self.close()

    def when_left(self, after_s: float, left: Callable[[], None]) -> None:
        """Call it if until then nothing is asked for."""
        self._arm(after_s, inf)
        self._left = left

    @property
    def stale(self) -> bool:
        """Between two requests: whether the server has closed it, or sent what nobody asked for."""
        return self._tcp.socket.is_readable()

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, waits: tuple[float, float]
    ) -> None:
        """Send a request and wait for the head of its answer. `waits`: how long for each step, and until when in all.

        Raises: Unheard, Broken, Expired; then, and when cancelled, the caller closes the connection.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        answer = self.answer
        answer.begin(method)
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        data = f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("ascii") + body
        sent = self._written(data)
        if sent < len(data):
            self._arm(*waits)
            try:
                await self._stream.send_all(memoryview(data)[sent:])
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                if self.expired:
                    raise Expired from error
                # An answer may be there all the same: a server that wants no more of the request closes.
            finally:
                self.deadline = inf
        while not answer.status:
            if answer.fault is not None:
                raise answer.fault
            await self._receive(*waits)

    async def piece(self, read_s: float, end: float) -> bytes:
        """More of the answer's body; nothing at its end. Raises: Broken, Expired."""
        answer = self.answer
        while not answer.pieces:
            if answer.complete:
                return b""
            if answer.fault is not None:
                raise answer.fault
            await self._receive(read_s, end)
        return answer.take()

    def _written(self, data: bytes) -> int:
        """How much of it could be written at once."""
        if self._file is None:
            return 0
        try:
            return os.write(self._file, data)
        except OSError:
            return 0  # if it is broken, a stream says so in its own way

    async def _receive(self, read_s: float, end: float) -> None:
        self._arm(read_s, end)
        try:
            if self._file is None:
                data: bytes | bytearray = await self._stream.receive_some(RECEIVE)
            else:
                await trio.lowlevel.wait_readable(self._file)
                data = os.read(self._file, RECEIVE)
        except BlockingIOError:
            return  # woken for nothing
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            if self.expired:
                raise Expired from error
            self.answer.cut()
            return
        finally:
            self.deadline = inf
        if data:
            self.answer.feed(data)
        else:
            self.answer.end()

    def _arm(self, read_s: float, end: float) -> None:
        self._left = None
        self.deadline = deadline = min(trio.current_time() + read_s, end)
        self._watch.expect(deadline)
