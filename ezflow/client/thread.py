"""The worker thread of a `BlockingClient`, and how the events that come in it reach the script."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import ExitStack
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar, cast

import trio

from ..events import Event
from ..items import Audio
from .client import Client, need
from .errors import Closed, Unread
from .live import Live
from .reception import Received
from .wire import as_json

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

__all__ = ["Ahead", "Held", "Taker", "Thread"]

T = TypeVar("T")

# What a live turn keeps of what its script has not taken: a script that sends takes nothing meanwhile.
AHEAD_EVENTS = 1024
AHEAD_BYTES = 32 * 1024 * 1024
# How long the server may leave what a script says unread, once no more is kept: it may wait for the script to read.
PATIENCE_S = 1.0


class Thread:
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


class Taker:
    """Takes events one by one for a script, and counts them.

    `take(count, ...)` gives the event after the first `count`, and gives it again until the count has passed it: what
    comes for a call that Ctrl+C ends is there for the next.
    """

    def __init__(self, thread: Thread, take: Callable[..., Awaitable[Event | None]]) -> None:
        self._thread = thread
        self._take = take
        self._count = 0

    def next(self, *arguments: Any) -> Event | None:
        event = self._thread.call(self._take, self._count, *arguments)
        self._count += event is not None  # from here to the script Python heeds no signal
        return event


class Held:
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


class Ahead:
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
