"""`WebSocketClient`: connections to one model server, of which its users have a bounded number, in turn.

    async with WebSocketClient("ws://127.0.0.1:10095", server="FunASR") as sockets:
        async with sockets.connect(user=turn.user) as socket:
            await socket.send("hello")
            async for message in socket:
                ...

It is wsproto on trio's streams, and the way to the server is the HTTP client's. trio-websocket 0.12.2 waits for all of
its connect timeout where a server closes during the handshake, and raises h11's error for one that answers garbage.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import SplitResult, urlsplit

import trio

from ezflow import MissingDependency
from ezflow.calls import Call, begin

from .attempts import attempted
from .errors import Faults, NoWay
from .request import checked
from .slots import Slots

if TYPE_CHECKING:
    from .dialing import Route
    from .websocket_connection import WebSocket

__all__ = ["WebSocketClient"]

PORTS = {"ws": 80, "wss": 443}
ADVICE: Mapping[int | str, str] = {
    200: "there is no WebSocket at this path",
    404: "there is no WebSocket at this path",
    426: "it wants another version of WebSocket",
}


class WebSocketClient:
    """Connects to one server, for as long as it is open.

    At most `max_connections` are open; more wait, users in turn and each user's own in order. Leaving a `connect` block
    closes its connection at once.

    Timeouts: `place_s` for one of the connections to become free, `connect_s` until it is there (name, TCP, proxy,
    TLS), `read_s` for each wait for a server that should say or take something, `total_s` for all of a connection from
    the call on, as seen while it is read.
    `retries` is how many times more a connection is tried, with growing pauses, where the server is not there or
    answers the handshake with 429, 502 or 503. A message from the server is at most `max_message` bytes (of a text:
    characters).

    `url` is ws:// or wss://; it may hold a path, a query, which is shown nowhere, and `name:password@`. `headers` go
    with every handshake and are shown nowhere; `subprotocols` are offered in it. `proxy` is the URL of one, None, or
    "environment"; it is used for wss:// only. `tls`, `server` and `advice` are the HTTPClient's; without `verify` a
    server's certificate is not looked at: all is encrypted, but for whom is not known.

    Raises: ValueError for a URL, a header or a number that cannot be.
    """

    def __init__(
        self,
        url: str,
        *,
        server: str = "The server",
        subprotocols: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None,
        connect_s: float = 5.0,
        read_s: float = 60.0,
        total_s: float | None = None,
        max_connections: int = 100,
        place_s: float = 60.0,
        max_message: int = 16 * 1024 * 1024,
        retries: int = 0,
        tls: ssl.SSLContext | None = None,
        verify: bool = True,
        proxy: str | Literal["environment"] | None = "environment",
        advice: Mapping[int | str, str] | None = None,
    ) -> None:
        self._parts = _parts_of(url)
        self._netloc = self._parts.netloc.rpartition("@")[2]
        self.url = f"{self._parts.scheme}://{self._netloc}{self._parts.path.rstrip('/')}"
        self.server = server
        self.subprotocols = subprotocols
        self.connect_s = connect_s
        self.read_s = read_s
        self.total_s = inf if total_s is None else total_s
        self.max_message = max_message
        self.retries = retries
        self.slots = Slots(max_connections, place_s)
        self._headers = {"user-agent": "ezflow"} | checked(headers or {})
        self._tls = tls if verify else _unverified()
        self._proxy: str | None = proxy
        self._faults = Faults(server, self.url, {**ADVICE, **(advice or {})}, self._headers)
        self._route: Route | None = None

    def __repr__(self) -> str:
        return f"WebSocketClient({self.url!r}, server={self.server!r})"

    @property
    def awaited(self) -> str:
        """Who is waited for by one that asks now, for `turn.awaits`."""
        full = "" if self.slots.free else f", where all places ({self.slots.limit}) were taken"
        return f"{self.server} at {self.url}{full}"

    async def __aenter__(self) -> Self:
        if self._route is not None:
            raise RuntimeError(f"{self!r} is open already: make one for each use.")
        try:
            from .dialing import Route, credentials, proxy_for, trust
            from .websocket_connection import WebSocket  # noqa: F401  (so that it is not loaded while a user waits)
        except ModuleNotFoundError as error:
            raise MissingDependency("WebSocketClient", error.name or "wsproto", "http") from error
        url = self._parts
        secure = url.scheme == "wss"
        tls = (self._tls or await trio.to_thread.run_sync(trust)) if secure else None
        proxy = proxy_for(url._replace(scheme="https"), self._proxy) if secure else None
        if pair := credentials(url):
            self._headers.setdefault("authorization", pair)
        self._route = Route(url.hostname or "", url.port or PORTS[url.scheme], tls, proxy)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._route = None

    @asynccontextmanager
    async def connect(self, *, user: str = "") -> AsyncGenerator[WebSocket, None]:
        """Connect, and give the connection as soon as the server has accepted it. Raises: BackendError."""
        call = begin("GET", self.url)
        try:
            async with self._held(user, call) as socket:
                yield socket
        except BaseException as error:
            call.ended(error)
            raise
        call.ended(None)

    @asynccontextmanager
    async def _held(self, user: str, call: Call) -> AsyncGenerator[WebSocket, None]:
        end = trio.current_time() + self.total_s
        await self.slots.take(user, end, self._faults)
        try:
            socket = await self._connected(end, {**self._headers, **call.headers})
            call.answered(101)
            try:
                yield socket
            finally:
                socket.close()
        finally:
            self.slots.give_back()

    async def reach(self) -> None:
        """See whether the server is there: connect, and close without a handshake. Raises: BackendError."""
        tcp, _ = await self._dialed(inf)
        tcp.socket.close()

    async def _connected(self, end: float, headers: Mapping[str, str]) -> WebSocket:
        """A connection, after as many attempts as there may be."""
        return await attempted(partial(self._greeted, end, headers), self.retries, end)

    async def _greeted(self, end: float, headers: Mapping[str, str]) -> WebSocket:
        from .websocket_connection import WebSocket

        socket = WebSocket(*await self._dialed(end), self._faults, self.read_s, end, self.max_message)
        target = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        try:
            await socket.greet(self._netloc, target, self.subprotocols, headers)
        except BaseException:
            socket.close()
            raise
        return socket

    async def _dialed(self, end: float) -> tuple[trio.SocketStream, trio.abc.Stream]:
        from .dialing import dial

        if self._route is None:
            raise RuntimeError(f"{self!r} is not open: async with WebSocketClient(...) as sockets.")
        with trio.move_on_at(min(trio.current_time() + self.connect_s, end)):
            try:
                return await dial(self._route)
            except NoWay as fault:
                raise self._faults.unreachable(fault) from fault
        late = NoWay(f"cannot be reached: no connection within {self.connect_s:g} s", transient=True)
        raise self._faults.unreachable(late)


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _parts_of(url: str) -> SplitResult:
    parts = urlsplit(url)
    try:
        fits = parts.scheme in PORTS and parts.hostname and not parts.fragment and parts.port != 0
    except ValueError:
        fits = False
    if not fits or not url.isascii() or any(sign <= " " for sign in url):
        shown = url.rpartition("@")[2].partition("?")[0]
        raise ValueError(
            f"{shown!r} cannot be a WebSocket's URL: give one like ws://127.0.0.1:10095 or wss://host/asr."
        )
    return parts
