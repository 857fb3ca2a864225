"""`Client`: a server's flows, from a program on trio."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from copy import copy
from functools import partial
from importlib import import_module
from typing import Any, Self
from urllib.parse import urlencode

import attrs
import trio

from ..errors import MissingDependency, SettingsError
from ..items import Audio
from .address import Address, naming
from .live import Format, Live
from .over_http import OverHTTP, receive_turn
from .over_websocket import OverWebSocket
from .reception import Received, Reception
from .wire import Reader, as_input, as_json

__all__ = ["Client", "need"]

MAX_MESSAGE = 32 * 1024 * 1024
USER_CHARS = 256


@attrs.define
class _Link:
    """What a client has while it is open, in common with those that `of` makes of it."""

    tls: ssl.SSLContext | None
    http: OverHTTP | None = None
    nursery: trio.Nursery | None = None
    opened: AbstractAsyncContextManager[None] | None = None


class Client:
    """A user's way to the flows of a server: `async with Client("http://127.0.0.1:3421", user="ann") as client:`

    Its events are `ezflow.Event`s, as those of a session in the same process: `.item` is what `.type` says: str for
    `text`, Transcript, Audio, Progress, a string for `stage` (with a timeline), the plain JSON value for any other
    type, or an instance of the class that `events` names for it. One event at a time is received ahead: who takes them
    slowly holds up the server, and fills no memory. A server gives up a client that takes less than 64 KiB in 10 s.

    `url` may lead to a flow (`…/live`) or to where a proxy puts the server, and begin with http, https, ws or wss.
    `user`: who the turns are for; a user has one turn at a time and one history on a server (by default a name of this
    client's own). `token`: what the server knows its users by; it is shown nowhere. `connect_s`: what a connection may
    take. `answer_s`: what an answer may take, and the server to begin a turn; a turn itself takes as long as it likes.
    `max_message`: bytes of one event, at most. `tls`: whom to trust. Proxies of the environment are not used.

    Raises: SettingsError for a URL or a user that cannot be; MissingDependency.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:3421",
        *,
        user: str | None = None,
        token: str | None = None,
        events: Iterable[type] = (),
        connect_s: float = 10.0,
        answer_s: float = 60.0,
        max_message: int = MAX_MESSAGE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        need("httpcore2", "trio_websocket")
        self._address = Address.of(url)
        self.user = f"client-{secrets.token_hex(4)}" if user is None else user
        if not 1 <= len(self.user) <= USER_CHARS:
            raise SettingsError(f"a user's name has 1 to {USER_CHARS} characters.")
        if any("\ud800" <= character <= "\udfff" for character in self.user):
            raise SettingsError("a user's name is text that UTF-8 can hold.")
        if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
            raise SettingsError("the token holds what no HTTP header may: is there a line end in it?")
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._reader = Reader(events)
        self._connect_s = connect_s
        self._answer_s = answer_s
        self._max_message = max_message
        self._link = _Link(tls)

    @property
    def url(self) -> str:
        return self._address.url

    def __repr__(self) -> str:
        return f"Client({self.url!r}, user={self.user!r})"

    async def __aenter__(self) -> Self:
        if self._link.opened is not None:
            raise RuntimeError(f"{self!r} was opened before: make one for each use.")
        self._link.opened = self._opening(self._link)
        await self._link.opened.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        """End the turns that still run, and close the connections."""
        assert self._link.opened is not None
        await self._link.opened.__aexit__(*raised)

    @asynccontextmanager
    async def _opening(self, link: _Link) -> AsyncGenerator[None]:
        if self._address.secure and link.tls is None:
            link.tls = await trio.to_thread.run_sync(_trust)
        http = OverHTTP(self._address, self._headers, link.tls, self._connect_s, self._answer_s, self._max_message)
        failure: BaseException | None = None
        async with http, trio.open_nursery() as nursery:
            link.http, link.nursery = http, nursery
            try:
                yield
            except trio.Cancelled:
                raise
            except BaseException as error:  # noqa: BLE001  (raised again below as it is, not in a group)
                failure = error
            finally:
                link.http = link.nursery = None
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def of(self, flow: str) -> Client:
        """The same client for another flow of its server: `client.of("live")`, of a client whose URL has no flow.

        It shares the connections of this one, and is open as long.
        """
        other = copy(self)
        other._address = self._address.under(flow)
        return other

    def turn(
        self,
        data: Any,
        *,
        entry: int | str = 0,
        options: Mapping[str, Any] | None = None,
        timeline: bool = False,
    ) -> Received:
        """One item through the flow: `async for event in client.turn("hello", entry="local_llm"): ...`

        `data`: text, an Audio, bytes (a WAV, or PCM16 at 16 kHz, mono), or any value for JSON. `entry`: the stage that
        takes it, by index or name. `options`: by the stages' keys. `timeline`: `stage` events too, which say what each
        stage is doing. It begins where it is first awaited; one of the same user that runs is ended first.
        `async with client.turn(...) as events:` ends it where its block is left.
        Raises: TypeError or ValueError for what has no JSON form; when it begins, or in the loop: Refused;
        ConnectFailed; Closed; ProtocolError.
        """
        asked = {"user": self.user, "input": as_input(data), "entry": entry, "options": dict(options or {})}
        body = as_json(asked | ({"timeline": True} if timeline else {}))
        path = self._address.path + naming("/turns", self.user)

        def begin(to: Reception) -> None:
            http, nursery = self._connections()
            to.start(nursery, partial(receive_turn, http, path, body, self._reader))

        return Received(begin, self._answer_s)

    def live(
        self,
        *,
        entry: int | str = 0,
        options: Mapping[str, Any] | None = None,
        format: Format | Audio = Format(),  # noqa: A002  (the protocol's word)
        timeline: bool = False,
    ) -> Live:
        """A turn that is fed as it runs: `async with client.live() as live: await live.send(pcm)`.

        `format` is that of the bytes that are sent; an Audio stands for its own. The block begins when the server has
        begun the turn.
        Raises: TypeError or ValueError for options without a JSON form; when it begins, or in the loop: Refused;
        ConnectFailed; Closed; ProtocolError.
        """
        form = Format(format.rate_hz, format.channels)
        start = {"type": "start", "entry": entry, "options": dict(options or {}), "format": form}
        socket = OverWebSocket(
            self._address,
            self.user,
            self._headers,
            as_json(start | ({"timeline": True} if timeline else {})).decode(),
            self._reader,
            self._connect_s,
            self._max_message,
        )

        def begin(to: Reception) -> None:
            _, nursery = self._connections()
            to.start(nursery, partial(socket.receive, self._link.tls))  # which is there once the client is open

        return Live(begin, self._answer_s, socket, form)

    async def interrupt(self) -> int | None:
        """End the user's running turn, whichever connection it is on: its number, once every stage has left.

        None if there is none. Raises: ClientError.
        """
        answer = await self._answer("POST", naming("/interrupt", self.user), as_json({"user": self.user}))
        turn: int | None = answer.get("turn")
        return turn

    async def flow(self) -> dict[str, Any]:
        """The stages with their types and options, the joins, a Mermaid drawing. Raises: ClientError."""
        return await self._answer("GET", "/flow")

    async def schema(self, of: str = "turns") -> dict[str, Any]:
        """JSON Schema of what the server takes ("turns", "input") or gives ("events"). Raises: ClientError."""
        return await self._answer("GET", f"/schema?{urlencode({'of': of})}")

    async def ready(self) -> dict[str, Any]:
        """Does all answer that the flow stands on? `status` is "ready" if so; `failing` names what does not.

        Raises: ClientError.
        """
        return await self._answer("GET", "/health/ready", also=503)

    async def _answer(self, method: str, path: str, body: bytes = b"", also: int = 200) -> dict[str, Any]:
        http, _ = self._connections()
        return await http.answer(method, self._address.path + path, body, also)

    def _connections(self) -> tuple[OverHTTP, trio.Nursery]:
        if self._link.http is None or self._link.nursery is None:
            raise RuntimeError(f"{self!r} is not open: async with Client(...) as client.")
        return self._link.http, self._link.nursery


def need(*names: str) -> None:
    """See that a client's libraries are there. Raises: MissingDependency."""
    for name in names:
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            raise MissingDependency("ezflow.client", error.name or name, "client") from error


def _trust() -> ssl.SSLContext:
    """The system's trust store."""
    import httpcore2

    return httpcore2.default_ssl_context()
