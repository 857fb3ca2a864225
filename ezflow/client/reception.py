"""Events on their way from the server to whom takes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Self

import trio

from ..events import Event
from .errors import ClientError, Closed

__all__ = ["LAST_WORDS_S", "Received", "Reception"]

# What the orderly end of a connection may take.
LAST_WORDS_S = 1.0


class Reception:
    """The side of the task that receives: it holds one event, and takes no other before that one is taken.

    It knows nothing of whom it receives for, so that a loop that is left forgets its turn, and with it ends the task.
    `farewell_s`: what the task may take to leave once it is `unwanted`.
    """

    def __init__(self, farewell_s: float = 0.0) -> None:
        self._farewell_s = farewell_s
        self._give, self.take = trio.open_memory_channel[Event](0)
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self.begun = trio.Event()  # the server has taken it on, or it has failed
        self.unwanted = trio.Event()
        self.left = trio.Event()
        self.turn = 0
        self.complete = False
        self.failure: ClientError | None = None

    async def run(self, receive: Callable[[Reception], Awaitable[None]]) -> None:
        """Receive until the turn is over; what goes wrong is for whom takes the events."""
        self._token = trio.lowlevel.current_trio_token()
        try:
            with self._scope:
                await receive(self)
        except ClientError as error:
            self.failure = error
        finally:
            self._give.close()
            self.begun.set()
            self.left.set()

    async def tell(self, event: Event) -> None:
        """Hand an event over, waiting until it is taken."""
        self.turn = self.turn or event.turn
        self.begun.set()
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

    def __init__(self, begin: Callable[[Reception], None], farewell_s: float = 0.0) -> None:
        self._begin = begin
        self._reception = Reception(farewell_s)
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
            raise reception.failure or Closed(None, "the client was left") from None
        self._over = event.type == "turn.ended"
        return event

    def __del__(self) -> None:
        self._reception.forsake()
