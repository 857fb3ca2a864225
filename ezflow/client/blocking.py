"""`BlockingClient`: a server's flows from a script, without async. One worker thread runs a `Client` on trio.

    with BlockingClient("http://127.0.0.1:3421", user="ann") as client:
        for event in client.turn("hello", entry="local_llm"):
            if event.type == "text":
                print(event.item, end="", flush=True)

Everything may be called from any thread; a turn's events are taken by one at a time. Ctrl+C in a call ends the call at
once, loses no event, and leaves the client as it was.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import copy
from typing import Any, Self

from ..events import Event
from ..items import Audio
from .client import MAX_MESSAGE, Client
from .live import Format, Live
from .reception import Received
from .thread import Ahead, Held, Taker, Thread

__all__ = ["BlockingClient", "BlockingLive", "BlockingTurn"]


class BlockingClient:
    """A `Client` for scripts: the same calls, which wait. See `Client` for its arguments and errors."""

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
        self._client = Client(
            url,
            user=user,
            token=token,
            events=events,
            connect_s=connect_s,
            answer_s=answer_s,
            max_message=max_message,
            tls=tls,
        )
        self._thread = Thread()

    @property
    def user(self) -> str:
        return self._client.user

    @property
    def url(self) -> str:
        return self._client.url

    def __repr__(self) -> str:
        return f"Blocking{self._client!r}"

    def __enter__(self) -> Self:
        self._thread.start(self._client)
        return self

    def __exit__(self, *_: object) -> None:
        """End the turns that still run, close the connections, and end the thread."""
        self._thread.stop()

    def of(self, flow: str) -> BlockingClient:
        """The same client for another flow of its server; see `Client.of`."""
        other = copy(self)
        other._client = self._client.of(flow)
        return other

    def turn(
        self, data: Any, *, entry: int | str = 0, options: Mapping[str, Any] | None = None, timeline: bool = False
    ) -> BlockingTurn:
        """One item through the flow: `for event in client.turn("hello"): ...`; see `Client.turn`."""
        return BlockingTurn(self._thread, self._client.turn(data, entry=entry, options=options, timeline=timeline))

    def live(
        self,
        *,
        entry: int | str = 0,
        options: Mapping[str, Any] | None = None,
        format: Format | Audio = Format(),  # noqa: A002  (the protocol's word)
        timeline: bool = False,
    ) -> BlockingLive:
        """A turn that is fed as it runs: `with client.live() as live: live.send(pcm)`; see `Client.live`."""
        live = self._client.live(entry=entry, options=options, format=format, timeline=timeline)
        return BlockingLive(self._thread, live)

    def interrupt(self) -> int | None:
        """End the user's running turn: its number, once every stage has left; None if there is none."""
        return self._thread.call(self._client.interrupt)

    def flow(self) -> dict[str, Any]:
        """The stages with their types and options, the joins, a Mermaid drawing."""
        return self._thread.call(self._client.flow)

    def schema(self, of: str = "turns") -> dict[str, Any]:
        """JSON Schema of what the server takes ("turns", "input") or gives ("events")."""
        return self._thread.call(self._client.schema, of)

    def ready(self) -> dict[str, Any]:
        """Does all answer that the flow stands on? `status` is "ready" if so."""
        return self._thread.call(self._client.ready)


class BlockingTurn:
    """A turn as a script holds it: its events, in order, `turn.ended` last.

    A loop that is left early ends the turn on the server; `with client.turn(...) as events:` does so for certain.
    """

    def __init__(self, thread: Thread, turn: Received) -> None:
        self._thread = thread
        self._turn = turn
        self._events = Taker(thread, Held(turn).take)

    @property
    def id(self) -> int:
        """The turn's number in the user's session; 0 before it has begun."""
        return self._turn.id

    def close(self) -> None:
        """End the turn, if it is not over."""
        self._thread.call(self._turn.aclose)

    def __enter__(self) -> Self:
        self._thread.call(self._turn.__aenter__)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = self._events.next()
        if event is None:
            raise StopIteration
        return event


class BlockingLive:
    """A live turn as a script holds it: `with client.live() as live:`, then `send`, and take its events.

    One thread is enough: events that come while it sends are kept for it, up to 1024 of them or 32 MiB. `receive(0)`
    between two sends takes what has come; a loop takes all up to the end of the turn. Or send in one thread, and loop
    in another.
    """

    def __init__(self, thread: Thread, live: Live) -> None:
        self._thread = thread
        self._live = live
        self._ahead = Ahead(live)
        self._events = Taker(thread, self._ahead.take)
        self._entered = False

    @property
    def id(self) -> int:
        return self._live.id

    @property
    def flow(self) -> Mapping[str, Any]:
        """What the server said of its flow."""
        return self._live.flow

    def __enter__(self) -> Self:
        try:
            self._thread.call(self._live.begun)
            self._entered = True
            self._thread.begin(self._ahead.fill)
        except BaseException:  # Ctrl+C too
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.call(self._ahead.leave)

    def send(self, data: Any, entry: int | str | None = None) -> None:
        """Feed the turn, waiting while the server is busy; see `Live.send`.

        Raises: Unread, if as many events wait as are kept; else as `Live.send`.
        """
        self._say(self._ahead.send, data, entry)

    def end(self) -> None:
        """No more input: the turn runs out. Raises: Unread; ClientError."""
        self._say(self._ahead.say, self._live.end)

    def interrupt(self) -> None:
        """Stop the running reply, and go on listening; an `interrupted` event says when it has stopped.

        Raises: Unread; ClientError.
        """
        self._say(self._ahead.say, self._live.interrupt)

    def played(self, event: Event, ms: float) -> None:
        """The listener has heard `ms` of an audio event; see `Live.played`. Raises: Unread; ClientError."""
        self._say(self._ahead.say, self._live.played, event, ms)

    def receive(self, timeout_s: float | None = None) -> Event | None:
        """The next event, or None if none has come within `timeout_s`, or the turn is over. Raises: ClientError."""
        self._check()
        return self._events.next(timeout_s)

    def _say(self, call: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        self._check()
        self._thread.call(call, *arguments)

    def _check(self) -> None:
        if not self._entered:
            raise RuntimeError("a live turn is used in its block: with client.live() as live.")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = self.receive()
        if event is None:
            raise StopIteration
        return event
