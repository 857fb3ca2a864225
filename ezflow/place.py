"""A user's place: the nursery of the running turn, and the history of the conversation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import trio

from .errors import SessionBusy, SessionsFull, StageStuck, TurnClosedError
from .limits import Limits
from .memory import Memory
from .open_turn import OpenTurn

__all__ = ["Place", "Places"]


class Place:
    """What one user has on a server, whichever of its flows a request is for: at most one turn at a time.

    A new turn ends the one before it, and starts when every stage of that one has left.
    """

    __slots__ = (
        "_changed",
        "_coming",
        "_interruptions",
        "_memory",
        "_ready",
        "_remembered",
        "_starting",
        "_turn",
        "_turns",
        "_unwanted",
        "closing",
        "gone",
        "history",
        "kept",
        "leases",
        "left_at",
        "limits",
        "nursery",
        "stored",
        "threads",
        "user",
    )

    def __init__(self, user: str, limits: Limits, threads: trio.CapacityLimiter, memory: Memory) -> None:
        self.user = user
        self._memory = memory
        self._remembered = memory.hold(user)
        self.history = self._remembered.history
        self.stored = partial(memory.stored, self._remembered) if memory.lasts else None
        self.kept: dict[Any, Any] = {}
        self.limits = limits
        self.threads = threads
        self.leases = 0
        self.left_at = trio.current_time()
        self.closing = False
        self.gone = trio.Event()
        self._unwanted = False
        self._ready = trio.Event()
        self._coming = trio.Lock()
        self._changed = trio.Event()
        self.nursery: trio.Nursery
        self._starting = trio.Lock()
        self._turn: OpenTurn | None = None
        self._turns = 0
        self._interruptions = 0

    @property
    def tasks(self) -> Collection[trio.lowlevel.Task]:
        """The tasks of its turns, those that they have started not among them."""
        return self.nursery.child_tasks if self._ready.is_set() else ()

    @property
    def turn(self) -> OpenTurn | None:
        """The turn that runs, or ran last."""
        return self._turn

    @property
    def is_stuck(self) -> bool:
        """Does a stage of its turn not leave?"""
        return self._turn is not None and self._turn.stuck_at is not None

    async def begin(self, turn: OpenTurn) -> None:
        """End the turn before, then start this one. Raises: StageStuck; TurnClosedError if the session is over."""
        interruptions = self._interruptions
        if self._starting.locked():
            await self._starting.acquire()
        else:
            self._starting.acquire_nowait()  # to wait for what is free costs a trip through the scheduler
        try:
            if turn.id:
                return  # one task feeds it and another reads it: the first of them has started it
            if self.closing:
                raise TurnClosedError(f"the session of {self.user!r} is over.")
            if self._turn is not None:
                await self._turn.aclose()
            if self.closing:
                raise TurnClosedError(f"the session of {self.user!r} is over.")
            self._turns += 1
            self._turn = turn
            turn.start(self._turns, interrupted=self._interruptions != interruptions)
            self.nursery.start_soon(turn.perform)
        finally:
            self._starting.release()
        # The first stage asks its server before who began the turn goes on, to send a response's head for one.
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def interrupt(self) -> int | None:
        """End the running turn: returns its id once every stage has left; None if there is none.

        One that waits for it to leave begins only to say that it was interrupted. Raises: StageStuck.
        """
        self._interruptions += 1
        turn = self._turn
        if turn is None or turn.over:
            return None
        await turn.aclose()
        return turn.id

    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[None, None]:
        """Hold the place: it stays as long as anyone does, and `idle_s` longer. Raises: SessionBusy."""
        if self.leases >= self.limits.max_holders:
            raise SessionBusy(self.user, self.limits.max_holders)
        self.leases += 1
        self._wake()
        try:
            if self._coming.locked() or not self._ready.is_set():
                async with self._coming:  # in their order: of two turns that wait here, the later one ends the other
                    await self._ready.wait()
            yield
        finally:
            self.leases -= 1
            self.left_at = trio.current_time()
            self._wake()
            if not self.leases and not self.limits.idle_s:
                with trio.CancelScope(shield=True):
                    while not (self.leases or self.gone.is_set()):  # or somebody else holds it again
                        await self._changed.wait()

    async def hold(self, forget: Callable[[], None]) -> None:
        """Own the nursery until nobody has needed the place for `idle_s`; then end its turn."""
        try:
            if self._memory.lasts:
                await self._memory.load(self._remembered)
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                self._ready.set()
                await self._idle()
                self.closing = True
                forget()
                if self._turn is not None:
                    with suppress(StageStuck):  # logged; one user's stuck stage must not end the others
                        await self._turn.aclose()
                self._end()  # those who leave need not wait for a stage that is stuck
                nursery.cancel_scope.cancel()
        finally:
            self.closing = True
            forget()
            if self._turn is not None:
                self._turn.wind_up()
            self._memory.let_go(self._remembered)
            self._end()

    def leave(self) -> None:
        """Its room is needed, or it is stuck: end it as soon as nobody holds it."""
        self._unwanted = True
        self._wake()

    def _end(self) -> None:
        self.gone.set()
        self._wake()

    async def _idle(self) -> None:
        while True:
            while self.leases:
                await self._changed.wait()
            with trio.move_on_after(0 if self._unwanted else self.limits.idle_s):
                await self._changed.wait()
                continue
            if not self.leases:
                return

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Places(Mapping[str, Place]):
    """The places of all users, by name; they end with the nursery that they are in."""

    def __init__(self, limits: Limits, nursery: trio.Nursery, memory: Memory) -> None:
        self.memory = memory
        self._limits = limits
        self._nursery = nursery
        self._threads = trio.CapacityLimiter(limits.threads)
        self._places: dict[str, Place] = {}
        self._leaving: dict[Place, None] = {}  # whose users have none, or another; of these, who is stuck stays

    @property
    def threads(self) -> trio.CapacityLimiter:
        """The worker threads of all blocking modules."""
        return self._threads

    def __getitem__(self, user: str) -> Place:
        return self._places[user]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def all(self) -> list[Place]:
        """Those of users, and those that users have no more but that have not left yet."""
        return [*self.values(), *self._leaving]

    @asynccontextmanager
    async def lease(self, user: str) -> AsyncGenerator[Place, None]:
        """Hold the user's place, made when there is none. Raises: SessionsFull when all are held; SessionBusy."""
        place = self._places.get(user)
        if place is None or self._is_replaceable(place):
            self._make_room()
            if place is not None:
                self._end(place)
                place.closing = True  # whoever still holds it begins nothing beside the new one
            place = self._places[user] = Place(user, self._limits, self._threads, self.memory)
            self._nursery.start_soon(self._hold, place)
        async with place.lease():
            yield place

    async def _hold(self, place: Place) -> None:
        try:
            await place.hold(lambda: self._forget(place))
        finally:
            self._leaving.pop(place, None)

    @property
    def _stuck(self) -> list[Place]:
        return [place for place in self._leaving if place.is_stuck]

    def _is_replaceable(self, place: Place) -> bool:
        """Is it stuck, and may its user have another? Nobody need wait for a stage that may never leave; but for a
        second one, and where there is no room: the stuck place says why, as a refusal would not.
        """
        return (
            place.is_stuck
            and not any(other.user == place.user for other in self._stuck)
            and (self._has_room or bool(self._idle))
        )

    @property
    def _has_room(self) -> bool:
        return len(self) + len(self._stuck) < self._limits.max_sessions

    @property
    def _idle(self) -> list[Place]:
        return [place for place in self.values() if not (place.leases or place.is_stuck)]

    def _make_room(self) -> None:
        """If there is none, end the place that nobody has held for longest. Raises: SessionsFull if all are held, or
        stuck.
        """
        if self._has_room:
            return
        if not self._idle:
            raise SessionsFull(self._limits.max_sessions)
        self._end(min(self._idle, key=lambda place: place.left_at))

    def _end(self, place: Place) -> None:
        self._forget(place)
        place.leave()

    def _forget(self, place: Place) -> None:
        if self._places.get(place.user) is place:
            del self._places[place.user]
            self._leaving[place] = None
