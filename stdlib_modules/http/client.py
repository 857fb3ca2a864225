"""`HTTPClient`: streaming requests to one model server, over a bounded pool that its users share in turn.

    async with HTTPClient("http://127.0.0.1:11434", server="Ollama") as http:
        async with http.stream("POST", "/api/chat", json=body, user=turn.user) as reply:
            async for line in lines(reply):
                ...

It is llhttp on trio, and costs no more than trio's streams do for the bare bytes. httpx2 costs 1.7 to 3.4 times as much
for a stream, over TLS 1.35 times (tests/bench/http_clients.py); and a request that is cancelled in its TLS handshake,
as by a barge-in, leaves httpcore2 2.16 with an open socket, and behind a CONNECT proxy with one place fewer in its
pool, for good.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Literal, Self

import trio

from ezflow import MissingDependency
from ezflow.calls import Call, begin

from . import bodies
from .attempts import attempted
from .errors import Faults, NoWay, Unheard
from .reply import Reply, fault_of
from .request import NAME, Request, checked, instead, parts_of, target_of
from .slots import Slots

if TYPE_CHECKING:
    from .connection import Connection, Watch
    from .dialing import Route

__all__ = ["HTTPClient", "Reply"]


class HTTPClient:
    """A client of one server, for as long as it is open.

    At most `max_connections` requests are under way; more wait, users in turn and each user's own in order. Up to
    `max_idle` connections (all, unless it is given) are kept for `idle_s` seconds; one that the server has closed
    meanwhile is replaced unnoticed, as long as nothing of an answer has come. Leaving a request by an error, a `break`
    or a cancellation closes its connection at once, unless all of the answer has arrived.

    Timeouts: `place_s` for one of the connections to become free, `connect_s` until it is there (name, TCP, proxy,
    TLS), `read_s` for each wait for the server to take or to send something, `total_s` for all of it from the call on,
    as seen while the answer is being read.
    `retries` is how many times more a request is made, with growing pauses, where the server is not there or answers
    429, 502 or 503; never once an answer has begun.

    `url` may hold a path, before those of the requests, and `name:password@`. `headers` go with every request and are
    shown nowhere. `proxy` is the URL of one, None, or "environment": HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, and
    none for this machine itself. `tls` says whom to trust. `server` is its name in errors, and `advice` what they
    suggest: by status, or under "unreachable", "timeout", "broken".

    Raises: ValueError for a URL, a header or a number that cannot be.
    """

    def __init__(
        self,
        url: str,
        *,
        server: str = "The server",
        headers: Mapping[str, str] | None = None,
        connect_s: float = 5.0,
        read_s: float = 60.0,
        total_s: float | None = None,
        max_connections: int = 100,
        place_s: float = 60.0,
        max_idle: int | None = None,
        idle_s: float = 60.0,
        retries: int = 0,
        tls: ssl.SSLContext | None = None,
        proxy: str | Literal["environment"] | None = "environment",
        advice: Mapping[int | str, str] | None = None,
    ) -> None:
        self._parts = parts_of(url)
        self._netloc = self._parts.netloc.rpartition("@")[2]
        self.url = f"{self._parts.scheme}://{self._netloc}{self._parts.path.rstrip('/')}"
        self.server = server
        self.connect_s = connect_s
        self.read_s = read_s
        self.total_s = inf if total_s is None else total_s
        self.max_idle = max_connections if max_idle is None else max_idle
        self.idle_s = idle_s
        self.retries = retries
        self.slots = Slots(max_connections, place_s)
        self._headers = checked(headers or {})
        self._tls = tls
        self._proxy: str | None = proxy
        self._advice = dict(advice or {})
        self._idle: deque[Connection] = deque()
        self._route: Route | None = None
        self._watch: Watch

    def __repr__(self) -> str:
        return f"HTTPClient({self.url!r}, server={self.server!r})"

    @property
    def awaited(self) -> str:
        """Who is waited for by one that asks now, for `turn.awaits`."""
        full = "" if self.slots.free else f", where all places ({self.slots.limit}) were taken"
        return f"{self.server} at {self.url}{full}"

    async def __aenter__(self) -> Self:
        if self._route is not None:
            raise RuntimeError(f"{self!r} is open already: make one for each use.")
        try:
            from .connection import Watch
            from .dialing import Route, credentials, proxy_for, trust
        except ModuleNotFoundError as error:
            raise MissingDependency("HTTPClient", error.name or "httptools", "http") from error
        url = self._parts
        secure = url.scheme == "https"
        tls = (self._tls or await trio.to_thread.run_sync(trust)) if secure else None
        proxy = proxy_for(url, self._proxy)
        always = {"host": self._netloc, "accept": "*/*", "accept-encoding": "identity", "user-agent": "ezflow"}
        if pair := credentials(url):
            always["authorization"] = pair
        if proxy and proxy.authorization and not secure:
            always["proxy-authorization"] = proxy.authorization
        self._headers = always | self._headers
        self._watch = Watch()
        self._watch.open()
        self._route = Route(url.hostname or "", url.port or (443 if secure else 80), tls, proxy)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._route = None
        self._idle.clear()
        self._watch.close()

    def status(self) -> dict[str, float]:
        """Its connections, and the requests that wait for one, at this moment."""
        return self.slots.status() | {"connections_idle": len(self._idle)}

    def stream(
        self,
        method: str,
        path: str = "",
        *,
        json: Any = bodies.NOTHING,
        content: bytes | None = None,
        form: bodies.Form | None = None,
        files: Mapping[str, bodies.File] | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        user: str = "",
        expect: str = "",
        check: bool = True,
        urgent: bool = False,
    ) -> AbstractAsyncContextManager[Reply, None]:
        """Ask, and give the answer as soon as its head has come; its body is read piece by piece.

        With `check`, a status of 300 or more is an error, and so is a JSON or HTML document where `expect` (a media
        type, sent as Accept) is another. One body at most: `json`, or `content`, or `form` and `files`. `user` is whose
        turn it is when connections are short; `urgent` waits for none (a probe, or word that an answer is not wanted
        any more). Read to the end what ends soon: that keeps the connection.
        Raises: BackendError.
        """
        if self._route is None:
            raise RuntimeError(f"{self!r} is not open: async with HTTPClient(...) as http.")
        if not NAME.fullmatch(method):
            raise ValueError(f"{method!r} cannot be a method: give one like POST.")
        kind, body = bodies.body(json, content, form, files)
        sent = self._headers | ({"accept": expect} if expect else {}) | ({"content-type": kind} if kind else {})
        sent |= checked(headers or {})
        if body or method in ("POST", "PUT", "PATCH"):
            sent["content-length"] = str(len(body))
        target = target_of(self._parts.path.rstrip("/") + path or "/", params)
        if self._route.proxy and not self._route.tls:
            target = f"http://{self._netloc}{target}"
        url = self.url + path.partition("?")[0]
        call = begin(method, url)
        sent |= call.headers
        faults = Faults(self.server, url, self._advice, sent)
        waits = (self.read_s, trio.current_time() + self.total_s)
        request = Request(method, target, sent, body, user, expect, check, waits, faults, urgent)
        return _Asked(partial(attempted, partial(self._answer, request), self.retries, waits[1]), call)

    async def _answer(self, request: Request) -> Reply:
        """One attempt. If it fails, its place is free again and its connection closed."""
        if not request.urgent and not self.slots.take_nowait():
            await self.slots.take(request.user, request.waits[1], request.faults)
        try:
            connection = await self._heard(request)
        except BaseException:
            if not request.urgent:
                self.slots.give_back()
            raise
        release = self._keep if request.urgent else self._release
        reply = Reply(connection, request.faults, request.waits, release)
        if request.check and (reply.status >= 300 or instead(reply.headers, request.expect)):
            raise await reply.refusal()
        if (coding := reply.headers.get("content-encoding", "identity")) != "identity":
            raise reply.broken(f"answered in {coding}, which was not asked for")
        return reply

    async def _heard(self, request: Request) -> Connection:
        """A connection on which the head of the answer has come."""
        kept = self._kept()
        if kept is not None:
            try:
                await self._ask(kept, request)
                return kept
            except Unheard:
                pass  # the server had closed it before it read the request
        new = await self._dialed(request)
        try:
            await self._ask(new, request)
            return new
        except Unheard as error:
            raise request.faults.broken("closed the connection without an answer") from error

    async def _ask(self, connection: Connection, request: Request) -> None:
        try:
            await connection.ask(request.method, request.target, request.headers, request.body, request.waits)
        except BaseException as error:
            connection.close()
            fault = None if isinstance(error, Unheard) else fault_of(error, request.faults, request.waits)
            if fault:
                raise fault from error
            raise

    async def _dialed(self, request: Request) -> Connection:
        from .connection import Connection
        from .dialing import dial

        route = self._route
        assert route is not None
        with trio.move_on_at(min(trio.current_time() + self.connect_s, request.waits[1])):
            try:
                return Connection(*await dial(route), self._watch)
            except NoWay as fault:
                raise request.faults.unreachable(fault) from fault
        late = NoWay(f"cannot be reached: no connection within {self.connect_s:g} s", transient=True)
        raise request.faults.unreachable(late)

    def _kept(self) -> Connection | None:
        """The connection that was used last, if it is still good; those that are not are closed."""
        oldest = trio.current_time() - self.idle_s
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.popleft().close()
        while self._idle:
            connection = self._idle.pop()
            if not connection.stale:
                return connection
            connection.close()
        return None

    def _release(self, connection: Connection) -> None:
        """Keep a connection for the next request, or close it; its place is free."""
        self._keep(connection)
        self.slots.give_back()

    def _keep(self, connection: Connection) -> None:
        if self._route is not None and self.max_idle > 0 and connection.answer.complete and connection.answer.clean:
            connection.idle_since = trio.current_time()
            self._idle.append(connection)
            if len(self._idle) > self.max_idle:
                self._idle.popleft().close()
        else:
            connection.close()


class _Asked:
    """A request, made when it is entered; leaving it closes its answer. A generator would cost a tenth of a request."""

    def __init__(self, ask: Callable[[], Awaitable[Reply]], call: Call) -> None:
        self._ask = ask
        self._call = call

    async def __aenter__(self) -> Reply:
        try:
            self._reply = await self._ask()
        except BaseException as error:
            self._call.ended(error)
            raise
        self._call.answered(self._reply.status)
        return self._reply

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._reply.close()
        self._call.ended(error)
