"""`BlockingClient`: a server's flows from a script, without async. One worker thread runs a `Client` on trio.

    with BlockingClient("http://127.0.0.1:3421", user="ann") as client:
        for event in client.turn("hello", entry="local_llm"):
            if event.type == "text":
                print(event.item, end="", flush=True)

Everything may be called from any thread; a turn's events are taken by one at a time. Ctrl+C in a call ends the call at
once, loses no event, and leaves the client as it was.
"""

from __future__ import annotations

import math
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from copy import copy
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import trio

from ..events import Event
from ..items import Audio
from .client import MAX_MESSAGE, Client, need
from .errors import Closed, Unread
from .live import Format, Live
from .reception import Received
from .wire import as_json

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

__all__ = ["BlockingClient", "BlockingLive", "BlockingTurn"]

T = TypeVar("T")

# What a live turn keeps of what its script has not taken: a script that sends takes nothing meanwhile.
AHEAD_EVENTS = 1024
AHEAD_BYTES = 32 * 1024 * 1024
# How long the server may leave what a script says unread, once no more is kept: it may wait for the script to read.
PATIENCE_S = 1.0


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
        self._events = _Taker(thread, _Held(turn).take)

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

    def __init__(self, thread: _Thread, live: Live) -> None:
        self._thread = thread
        self._live = live
        self._ahead = _Ahead(live)
        self._events = _Taker(thread, self._ahead.take)
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
            raise RuntimeError(f"{client!r} was opened before: make one for each use.")
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("trio"))
            stack.callback(portal.call, portal.stop, True)  # whoever still waits in another thread is sent away
            stack.enter_context(portal.wrap_async_context_manager(client))
            self._stack, self._portal = stack.pop_all(), portal

    def stop(self) -> None:
        self._stack.close()
        self._portal = None

    def begin(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> Future[T]:
        """Call an async function in the thread, and do not wait for it."""
        return self.portal.start_task_soon(function, *arguments)

    def call(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """What an async function gives, called in the thread; KeyboardInterrupt here cancels it there."""
        # No Future is asked here: Ctrl+C inside one of its locks would leave it locked for ever. And the scope is there
        # before the call is, since Ctrl+C may come when the call has begun and this thread does not know it yet.
        outcomes: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        scope = trio.CancelScope()

        async def told() -> None:
            with scope:
                try:
                    outcomes.put((await function(*arguments), None))
                except BaseException as error:
                    outcomes.put((None, error))
                    raise

        try:
            self.begin(told)
            result, error = outcomes.get()
        except KeyboardInterrupt:
            self.portal.call(scope.cancel)
            raise
        if isinstance(error, trio.Cancelled):
            raise Closed(None, "the client was left") from None
        if error is not None:
            raise error
        return cast(T, result)


class _Taker:
    """Takes events one by one for a script, and counts them.

    `take(count, ...)` gives the event after the first `count`, and gives it again until the count has passed it: what
    comes for a call that Ctrl+C ends is there for the next.
    """

    def __init__(self, thread: _Thread, take: Callable[..., Awaitable[Event | None]]) -> None:
        self._thread = thread
        self._take = take
        self._count = 0

    def next(self, *arguments: Any) -> Event | None:
        event = self._thread.call(self._take, self._count, *arguments)
        self._count += event is not None  # from here to the script Python heeds no signal
        return event


class _Held:
    """The event of a turn that its script is taking."""

    def __init__(self, turn: Received) -> None:
        self._turn = turn
        self._event: Event | None = None
        self._count = 0
        self._lock = trio.Lock()  # a call that Ctrl+C has ended may still be leaving

    async def take(self, taken: int) -> Event | None:
        async with self._lock:
            if taken == self._count:
                self._event = await anext(self._turn, None)
                self._count += self._event is not None
            return self._event


class _Ahead:
    """Events of a live turn that have come, and wait for the script."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._events: deque[tuple[Event, int]] = deque()
        self._bytes = 0
        self._taken = 0
        self._over = False
        self._failure: Exception | None = None
        self._full = False
        self._says: set[trio.CancelScope] = set()
        self._come = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._filling = trio.CancelScope()

    async def fill(self) -> None:
        """Receive until the turn is over, or left."""
        try:
            with self._filling:
                async for event in self._live:
                    while len(self._events) >= AHEAD_EVENTS or self._bytes >= AHEAD_BYTES:
                        self._fills(True)
                        await self._room.park()
                    self._events.append((event, _size(event)))
                    self._bytes += self._events[-1][1]
                    self._come.unpark_all()
        except Exception as error:  # noqa: BLE001  (whatever it is, it is for whom takes the events)
            self._failure = error
        finally:
            self._over = True
            self._come.unpark_all()

    async def leave(self) -> None:
        """End the turn, if it is not over."""
        self._filling.cancel()
        await self._live.aclose()

    async def take(self, taken: int, timeout_s: float | None = None) -> Event | None:
        while self._taken < taken:
            self._taken += 1
            self._bytes -= self._events.popleft()[1]
            self._fills(False)
            self._room.unpark()
        with trio.move_on_after(float("inf") if timeout_s is None else max(0.0, timeout_s)):
            while not self._events and not self._over:
                await self._come.park()
        if self._events:
            return self._events[0][0]
        if self._failure is not None:
            raise self._failure
        return None

    async def send(self, data: Any, entry: int | str | None) -> None:
        """Send, as long as there is room for what comes meanwhile."""
        if self._full:
            raise Unread(len(self._events))
        await self.say(self._live.send, data, entry)

    async def say(self, call: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Say something, even if there is no room for what comes meanwhile: then the server has PATIENCE_S for it."""
        with trio.CancelScope(deadline=self._deadline) as scope:
            self._says.add(scope)
            try:
                await call(*arguments)
                return
            finally:
                self._says.discard(scope)
        raise Unread(len(self._events))

    def _fills(self, full: bool) -> None:
        self._full = full
        for scope in self._says:
            scope.deadline = self._deadline

    @property
    def _deadline(self) -> float:
        return trio.current_time() + PATIENCE_S if self._full else math.inf


def _size(event: Event) -> int:
    return len(event.item.pcm if isinstance(event.item, Audio) else as_json(event.item))
