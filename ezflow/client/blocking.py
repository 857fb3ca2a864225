"""`BlockingClient`: a server's flows from a script, without async. One worker thread runs a `Client` on trio.

    with BlockingClient("http://127.0.0.1:3421", user="ann") as client:
        for event in client.turn("hello", entry="local_llm"):
            if event.type == "text":
                print(event.item, end="", flush=True)

Everything may be called from any thread. Ctrl+C in a call ends the call at once, and leaves the client as it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Self, TypeVar

import trio

from ..events import Event
from ..items import Audio
from .client import Client, need
from .errors import ClientError, Unread
from .live import Format, Live
from .reception import Received

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

__all__ = ["BlockingClient", "BlockingLive", "BlockingTurn"]

T = TypeVar("T")

# What a live turn keeps of what its script has not taken: a script that sends takes nothing meanwhile.
AHEAD_EVENTS = 1024
AHEAD_BYTES = 32 * 1024 * 1024


class BlockingClient:
    """A `Client` for scripts: the same calls, which wait. See `Client` for its arguments and errors."""

    def __init__(self, url: str = "http://127.0.0.1:3421", **arguments: Any) -> None:
        self._client = Client(url, **arguments)
        self._thread = _Thread()

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

    def __init__(self, thread: _Thread, turn: Received) -> None:
        self._thread = thread
        self._turn = turn

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
        event = self._thread.call(_next, self._turn)
        if event is None:
            raise StopIteration
        return event


class BlockingLive:
    """A live turn as a script holds it: `with client.live() as live:`, then `send`, and take its events.

    One thread is enough: events that come while it sends are kept for it, up to 1024 of them or 32 MiB. `receive(0)`
    between two sends takes what has come; a loop takes all up to the end of the turn. Or send in one thread, and loop
    in another.
    """

    def __init__(self, thread: _Thread, live: Live) -> None:
        self._thread = thread
        self._live = live
        self._ahead = _Ahead(live)
        self._stack = ExitStack()

    @property
    def id(self) -> int:
        return self._live.id

    @property
    def flow(self) -> Mapping[str, Any]:
        """What the server said of its flow."""
        return self._live.flow

    def __enter__(self) -> Self:
        self._stack.enter_context(self._thread.portal.wrap_async_context_manager(self._ahead.receiving()))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def send(self, data: Any, entry: int | str | None = None) -> None:
        """Feed the turn, waiting while the server is busy; see `Live.send`.

        Raises: Unread, if as many events wait as are kept; else as `Live.send`.
        """
        self._thread.call(self._ahead.send, data, entry)

    def end(self) -> None:
        """No more input: the turn runs out."""
        self._thread.call(self._live.end)

    def interrupt(self) -> None:
        """Stop the running reply, and go on listening; an `interrupted` event says when it has stopped."""
        self._thread.call(self._live.interrupt)

    def played(self, event: Event, ms: float) -> None:
        """The listener has heard `ms` of an audio event; see `Live.played`."""
        self._thread.call(self._live.played, event, ms)

    def receive(self, timeout_s: float | None = None) -> Event | None:
        """The next event, or None if none has come within `timeout_s`, or the turn is over. Raises: ClientError."""
        return self._thread.call(self._ahead.take, timeout_s)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = self.receive()
        if event is None:
            raise StopIteration
        return event


class _Thread:
    """The worker thread, and trio in it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

    @property
    def portal(self) -> BlockingPortal:
        if self._portal is None:
            raise RuntimeError("the client is not open: with BlockingClient(...) as client.")
        return self._portal

    def start(self, client: Client) -> None:
        need("anyio")
        from anyio.from_thread import start_blocking_portal

        if self._portal is not None:
            raise RuntimeError(f"{client!r} is open already: make one for each use.")
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("trio"))
            stack.callback(portal.call, portal.stop, True)  # whoever still waits in another thread is sent away
            stack.enter_context(portal.wrap_async_context_manager(client))
            self._stack, self._portal = stack.pop_all(), portal

    def stop(self) -> None:
        self._stack.close()
        self._portal = None

    def call(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """What an async function gives, called in the thread; KeyboardInterrupt here cancels it there."""
        future = self.portal.start_task_soon(function, *arguments)
        try:
            return future.result()
        finally:
            future.cancel()


class _Ahead:
    """Events of a live turn that have come, and wait for the script."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._over = False
        self._failure: ClientError | None = None
        self._full = False
        self._senders: set[trio.CancelScope] = set()
        self._come = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()

    @asynccontextmanager
    async def receiving(self) -> AsyncGenerator[None]:
        async with self._live, trio.open_nursery() as nursery:
            nursery.start_soon(self._fill)
            yield
            nursery.cancel_scope.cancel()

    async def _fill(self) -> None:
        try:
            async for event in self._live:
                while len(self._events) >= AHEAD_EVENTS or self._bytes >= AHEAD_BYTES:
                    self._full = True
                    for scope in self._senders:
                        scope.cancel()
                    await self._room.park()
                self._events.append(event)
                self._bytes += _size(event)
                self._come.unpark()
        except ClientError as error:
            self._failure = error
        finally:
            self._over = True
            self._come.unpark_all()

    async def take(self, timeout_s: float | None) -> Event | None:
        with trio.move_on_after(float("inf") if timeout_s is None else max(0.0, timeout_s)):
            while not self._events and not self._over:
                await self._come.park()
        if not self._events:
            if self._failure is not None:
                raise self._failure
            return None
        event = self._events.popleft()
        self._bytes -= _size(event)
        self._full = False
        self._room.unpark()
        return event

    async def send(self, data: Any, entry: int | str | None) -> None:
        """Send, as long as there is room for what comes meanwhile."""
        with trio.CancelScope() as scope:
            self._senders.add(scope)
            try:
                if not self._full:
                    await self._live.send(data, entry)
                    return
            finally:
                self._senders.discard(scope)
        raise Unread(len(self._events))


async def _next(turn: Received) -> Event | None:
    return await anext(turn, None)


def _size(event: Event) -> int:
    item = event.item.pcm if isinstance(event.item, Audio) else event.item
    return len(item) if isinstance(item, str | bytes) else 0
