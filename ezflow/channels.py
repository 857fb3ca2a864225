"""Bounded channels between stages, drained before the task yields.

A plain memory channel costs two trips through the scheduler an item. Here both ends act at once where they can, and
park only when they must, so a busy join moves a channel's capacity of items for each switch of tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, NoReturn, Protocol, Self, TypeVar

import trio
from trio.lowlevel import ParkingLot, checkpoint, checkpoint_if_cancelled

__all__ = [
    "Inbox",
    "Join",
    "Outbox",
    "Receiver",
    "ReceiverGone",
    "Sender",
    "Single",
    "Sink",
    "breathe",
    "channel",
    "every_step",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)

# A stage that never has to wait still gives the others a chance after so many items: another task's timer is
# then late by 67 µs (p99). `every_step` sets it to 1.
FAIRNESS = 64


class Inbox(Protocol[T_co]):
    """The receiving end of a join, held by one stage: `async for item in inbox`."""

    async def receive(self) -> T_co:
        """Take the next item; atomic with respect to cancellation.

        Raises: trio.EndOfChannel when every giver has closed and nothing is left.
        """
        ...

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> T_co: ...

    def close(self) -> None:
        """Tell the givers that nothing more is taken; their next send raises ReceiverGone."""
        ...


class Outbox(Protocol[T_contra]):
    """The giving end of a join, held by one stage: `await outbox.send(item)`."""

    async def send(self, item: T_contra) -> None:
        """Give an item, waiting for room; atomic with respect to cancellation.

        Raises: ReceiverGone when the next stage has finished (the engine lets the stage end quietly).
        """
        ...

    def clone(self) -> Outbox[T_contra]:
        """A second giving end: the join ends when all of them are closed."""
        ...

    def close(self) -> None:
        """No more items from this end."""
        ...


class ReceiverGone(trio.BrokenResourceError):
    """The next stage has finished: there is nobody left to give to."""


@contextmanager
def every_step() -> Iterator[None]:
    """Make each operation of a channel or an ear a full checkpoint, for tests that cancel at every one."""
    global FAIRNESS  # noqa: PLW0603  (a test's switch, put back below)
    before, FAIRNESS = FAIRNESS, 1
    try:
        yield
    finally:
        FAIRNESS = before


async def breathe(count: int) -> None:
    """A checkpoint that yields to other tasks only every FAIRNESS-th time; it always sees a cancellation."""
    if count % FAIRNESS:
        await checkpoint_if_cancelled()
    else:
        await checkpoint()


class Join(Generic[T]):
    """What the ends of a channel share. Items lie in `items`; who finds none, or no room, parks.

    trio's own channels hand an item over inside of each call, which costs three times as much as a deque does.
    """

    __slots__ = ("__weakref__", "arrived", "capacity", "givers", "items", "room", "takers")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.items: deque[T] = deque()
        self.givers = self.takers = 0
        self.arrived = ParkingLot()  # takers that wait for an item
        self.room = ParkingLot()  # givers that wait for room


class Receiver(Generic[T]):
    """The inbox of a channel."""

    __slots__ = ("_closed", "_join", "_taken")

    def __init__(self, join: Join[T]) -> None:
        self._join = join
        self._closed = False
        self._taken = 0
        join.takers += 1

    async def receive(self) -> T:
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            raise trio.EndOfChannel from None

    async def drain(self) -> list[T]:
        """All items that are there, waiting for one if there is none; empty at the end of input.

        The engine's own loops take items so: one look at the scheduler serves as many as a busy join holds.
        """
        self._taken += 1
        if self._taken % FAIRNESS:
            await checkpoint_if_cancelled()
        else:
            await checkpoint()
        join = self._join
        if not join.items and not await self._arrival():
            return []
        count = min(len(join.items), FAIRNESS)
        take = join.items.popleft
        items = [take() for _ in range(count)]
        if join.room:
            join.room.unpark(count=count)
        return items

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        # The checkpoint comes before the item is taken: who is cancelled has taken nothing.
        self._taken += 1
        if self._taken % FAIRNESS:
            await checkpoint_if_cancelled()
        else:
            await checkpoint()
        join = self._join
        if not join.items and not await self._arrival():
            raise StopAsyncIteration
        item = join.items.popleft()
        if join.room:
            join.room.unpark()
        return item

    async def _arrival(self) -> bool:
        """Wait for an item. False if none will come any more."""
        join = self._join
        while not join.items:
            if self._closed:
                raise trio.ClosedResourceError
            if not join.givers:
                return False
            if join.room:  # where there is no capacity, one that waits to take is the room
                join.room.unpark()
            await join.arrived.park()
        return True

    @property
    def join(self) -> Join[T]:
        """What its ends share."""
        return self._join

    def clone(self) -> Receiver[T]:
        return Receiver(self._join)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        join = self._join
        join.takers -= 1
        join.arrived.unpark_all()
        if not join.takers:
            join.items.clear()
            join.room.unpark_all()


class Sender(Generic[T]):
    """The outbox of a channel."""

    __slots__ = ("_closed", "_given", "_join")

    def __init__(self, join: Join[T]) -> None:
        self._join = join
        self._closed = False
        self._given = 0
        join.givers += 1

    async def send(self, item: T) -> None:
        # A stage looks for its cancellation when it takes an item; giving looks only where it waits, and now
        # and then for a stage that gives without taking.
        self._given += 1
        if not self._given % FAIRNESS:
            await checkpoint()
        while not self.offer(item):
            await self._join.room.park()

    def offer(self, item: T) -> bool:
        """Give an item if there is room for it at once."""
        join = self._join
        if not join.takers or self._closed:
            self._refuse()
        if len(join.items) >= join.capacity and not join.arrived:
            return False
        join.items.append(item)
        if join.arrived:
            join.arrived.unpark()
        return True

    def offer_all(self, items: Sequence[T]) -> int:
        """Give the first of these items, as many as there is room for at once; says how many."""
        join = self._join
        if not join.takers or self._closed:
            self._refuse()
        count = min(len(items), join.capacity - len(join.items))
        if count <= 0:
            return 0
        join.items.extend(items if count == len(items) else items[:count])
        if join.arrived:
            join.arrived.unpark(count=count)
        return count

    @property
    def join(self) -> Join[T]:
        """What its ends share."""
        return self._join

    def _refuse(self) -> NoReturn:
        if self._closed:
            raise trio.ClosedResourceError
        raise ReceiverGone("the next stage has finished")

    def clone(self) -> Sender[T]:
        if self._closed:
            raise trio.ClosedResourceError
        return Sender(self._join)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        join = self._join
        join.givers -= 1
        join.room.unpark_all()
        if not join.givers:
            join.arrived.unpark_all()


class Sink:
    """The outbox behind a flow's last stage: keeps what comes out in `items`, or drops it (`None`)."""

    __slots__ = ("_given", "items")

    def __init__(self, items: list[Any] | None = None) -> None:
        self.items = items
        self._given = 0

    async def send(self, item: Any) -> None:
        self._given += 1
        await breathe(self._given)
        if self.items is not None:
            self.items.append(item)

    def offer(self, item: Any) -> bool:
        """Keep or drop an item. There is room, but now and then a giver has to wait: an endless one never would."""
        if not (self._given + 1) % FAIRNESS:
            return False
        self._given += 1
        if self.items is not None:
            self.items.append(item)
        return True

    def offer_all(self, items: Sequence[Any]) -> int:
        """Keep or drop them all."""
        if self.items is not None:
            self.items.extend(items)
        return len(items)

    def clone(self) -> Sink:
        return Sink(self.items)

    def close(self) -> None:
        pass


class Single(Generic[T]):
    """An inbox of one item, for combinators that run a flow once for each item."""

    __slots__ = ("_item", "_taken")

    def __init__(self, item: T) -> None:
        self._item = item
        self._taken = False

    async def receive(self) -> T:
        await breathe(1)
        if self._taken:
            raise trio.EndOfChannel
        self._taken = True
        return self._item

    def __aiter__(self) -> Self:
        return self

    async def drain(self) -> list[T]:
        await breathe(1)
        items = [] if self._taken else [self._item]
        self._taken = True
        return items

    async def __anext__(self) -> T:
        await breathe(1)
        if self._taken:
            raise StopAsyncIteration
        self._taken = True
        return self._item

    def close(self) -> None:
        self._taken = True


def channel(capacity: int) -> tuple[Sender[Any], Receiver[Any]]:
    """A join that holds up to `capacity` items: its giving and its receiving end."""
    join: Join[Any] = Join(capacity)
    return Sender(join), Receiver(join)
