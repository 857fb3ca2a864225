"""One HTTP/1.1 connection, h11 over trio's streams, and the watch over all that wait for their server."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import h11
import trio

from .errors import Broken, Expired, Unheard

__all__ = ["Connection", "Watch"]

RECEIVE = 64 * 1024
HEAD = 64 * 1024  # bytes of an answer's status line and headers, at most


class Watch:
    """Closes the connections whose deadline passes while they wait.

    A cancel scope around each wait for the next piece costs a tenth to a quarter of all that reading a stream costs
    (tests/bench/http_clients.py). Noting a number costs nothing, and one sleeping task serves all connections.
    """

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self._alarm = trio.CancelScope()
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
        if deadline < self._alarm.deadline:
            self._alarm.deadline = deadline

    async def _run(self) -> None:
        while not self._closed:
            with self._alarm:
                await trio.sleep_forever()
            now = trio.current_time()
            for connection in [each for each in self.connections if each.deadline <= now]:
                connection.expire()
            self._alarm = trio.CancelScope(deadline=min((each.deadline for each in self.connections), default=inf))


class Connection:
    """A connection to one server: one request at a time, any number in turn.

    Closing it is immediate and waits for nothing: no checkpoint, so it cannot be cancelled half-way.
    """

    def __init__(self, tcp: trio.SocketStream, stream: trio.abc.Stream, watch: Watch) -> None:
        self._tcp = tcp
        self._stream = stream
        self._watch = watch
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD)
        self._eof = False
        self._heard = False
        self.expired = False
        self.deadline = inf
        self.idle_since = 0.0
        watch.connections.add(self)

    def close(self) -> None:
        self._tcp.socket.close()
        self._watch.connections.discard(self)

    def expire(self) -> None:
        self.expired = True
        self.close()

    @property
    def stale(self) -> bool:
        """Between two requests: whether the server has closed it, or sent what nobody asked for."""
        return self._tcp.socket.is_readable()

    def recycled(self) -> bool:
        """Make it ready for another request, if all of the answer has arrived. Gives whether it is."""
        http = self._http
        try:
            while type(http.next_event()) is h11.Data:
                pass
        except h11.RemoteProtocolError:
            return False
        done = http.our_state is h11.DONE and http.their_state is h11.DONE
        if not done or http.trailing_data[0]:
            return False
        http.start_next_cycle()
        self._heard = False
        return True

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, waits: tuple[float, float]
    ) -> h11.Response:
        """Send a request and wait for the head of its answer. `waits`: how long for each step, and until when in all.

        Raises: Unheard, Broken, Expired; then, and when cancelled, the caller closes the connection.
        """
        http = self._http
        data = http.send(h11.Request(method=method, target=target, headers=list(headers.items()))) or b""
        if body:
            data += http.send(h11.Data(data=body)) or b""
        data += http.send(h11.EndOfMessage()) or b""
        self._arm(*waits)
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            if self.expired:
                raise Expired from error
            # An answer may be there all the same: a server that wants no more of the request closes.
        finally:
            self.deadline = inf
        while not isinstance(event := await self._event(*waits), h11.Response):
            pass  # 100 Continue and the like
        return event

    async def piece(self, read_s: float, end: float) -> bytes | None:
        """The next piece of the answer's body; None at its end. Raises: Broken, Expired."""
        event = await self._event(read_s, end)
        return bytes(event.data) if isinstance(event, h11.Data) else None

    async def _event(self, read_s: float, end: float) -> h11.Event | type[h11.PAUSED]:
        http = self._http
        while True:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError as error:
                raise self._cut() if self._eof else Broken(f"does not speak HTTP/1.1: {error}") from error
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]
            self._arm(read_s, end)
            try:
                data = await self._stream.receive_some(RECEIVE)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise Expired if self.expired else self._cut() from error
            finally:
                self.deadline = inf
            self._eof = not data
            self._heard = self._heard or bool(data)
            http.receive_data(data)  # type: ignore[arg-type]  # it takes bytearray as well

    def _cut(self) -> Exception:
        return Broken("broke off in the middle of its answer") if self._heard else Unheard()

    def _arm(self, read_s: float, end: float) -> None:
        self.deadline = deadline = min(trio.current_time() + read_s, end)
        self._watch.expect(deadline)
