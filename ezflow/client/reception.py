"""Events on their way from the server to whom takes them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Self

import trio

from ..events import Event
from .errors import Closed

__all__ = ["LAST_WORDS_S", "Received", "Reception"]

# What the orderly end of a connection may take.
LAST_WORDS_S = 1.0


class Reception:
    """The side of the task that receives: it holds one event, and takes no other before that one is taken.

    It knows nothing of whom it receives for, so that a loop that is left forgets its turn, and with it ends the task.
    `begin_s`: what may pass before the server takes it on. `farewell_s`: what the task may take to leave once it is
    `unwanted`.
    """

    def __init__(self, begin_s: float, farewell_s: float) -> None:
        self._begin_s = begin_s
        self._farewell_s = farewell_s
        self._give, self.take = trio.open_memory_channel[Event](0)
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self.begun = trio.Event()  # the server has taken it on, or it has failed
        self.unwanted = trio.Event()
        self.left = trio.Event()
        self.turn = 0
        self.complete = False
        self.failure: Exception | None = None

    def start(self, nursery: trio.Nursery, receive: Callable[[Reception], Awaitable[None]]) -> None:
        """Receive in a task of that nursery, until the turn is over."""
        self._token = trio.lowlevel.current_trio_token()  # now: it may be forsaken before the task first runs
        self._scope.deadline = trio.current_time() + self._begin_s
        nursery.start_soon(self._run, receive)

    async def _run(self, receive: Callable[[Reception], Awaitable[None]]) -> None:
        try:
            with self._scope:
                await receive(self)
            if self._scope.cancelled_caught and not self.unwanted.is_set():
                self.failure = Closed(None, f"the server has not begun the turn within {self._begin_s:g} s")
        except Exception as error:  # noqa: BLE001  (whatever it is, it is for whom takes the events)
            self.failure = error
        finally:
            self._give.close()
            self.begun.set()
            self.left.set()

    def begins(self) -> None:
        """The server has taken it on."""
        if not self.begun.is_set() and not self.unwanted.is_set():
            self._scope.deadline = math.inf
        self.begun.set()

    async def tell(self, event: Event) -> None:
        """Hand an event over, waiting until it is taken."""
        self.turn = self.turn or event.turn
        self.begins()
        if event.type == "turn.ended":
            self.complete = True
        await self._give.send(event)

    def leave(self) -> None:
        """Stop receiving; once the turn has begun, there is time to take leave of the server."""
        self.unwanted.set()
        self._scope.deadline = trio.current_time() + (self._farewell_s if self.begun.is_set() else 0.0)

    def forsake(self) -> None:
        """Stop receiving; from wherever a garbage collector runs."""
        if self._token is not None and not self.left.is_set():
            try:
                self._token.run_sync_soon(self.leave)
            except trio.RunFinishedError:
                pass


class Received:
    """A turn as its client holds it: its events, in order, `turn.ended` last.

    `async with` ends the turn on the server where the block is left early. A plain loop that is left by `break` ends it
    too, when the last reference to the turn is gone: in CPython, at once. To be cancelled while waiting for an event
    loses none.
    """

    def __init__(self, begin: Callable[[Reception], None], begin_s: float, farewell_s: float = 0.0) -> None:
        self._begin = begin
        self._reception = Reception(begin_s, farewell_s)
        self._begins = True
        self._over = False

    @property
    def id(self) -> int:
        """The turn's number in the user's session; 0 before it has begun."""
        return self._reception.turn

    async def aclose(self) -> None:
        """End the turn, if it is not over: its connection is closed, and that ends it on the server."""
        self._over = True
        if self._begins:
            self._begins = False
            self._reception.begun.set()  # and over: nobody waits for it
            return
        self._reception.leave()
        with trio.CancelScope(shield=True):  # the task leaves within LAST_WORDS_S
            await self._reception.left.wait()

    async def begun(self) -> None:
        """Have it taken on by the server. Raises: ClientError."""
        if self._begins:
            self._begin(self._reception)
            self._begins = False
        await self._reception.begun.wait()
        if self._reception.failure is not None and not self._reception.complete:
            raise self._reception.failure

    async def __aenter__(self) -> Self:
        try:
            await self.begun()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._over:
            raise StopAsyncIteration
        reception = self._reception
        if self._begins:
            await self.begun()
        try:
            event = await reception.take.receive()
        except trio.EndOfChannel:
            if self._over:  # another task has ended it
                raise StopAsyncIteration from None
            raise reception.failure or Closed(None, "the client was left") from None
        self._over = event.type == "turn.ended"
        return event

    def __del__(self) -> None:
        self._reception.forsake()
