"""Bounded channels between stages, drained before the task yields.

A plain memory channel costs two trips through the scheduler an item. Here both ends try the `_nowait` form
first and park only when they must, so a busy join moves a channel's capacity of items for each switch of tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, Self, TypeVar

import trio
from trio.lowlevel import checkpoint, checkpoint_if_cancelled

__all__ = [
    "Inbox",
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


class Receiver(Generic[T]):
    """The inbox of a channel."""

    __slots__ = ("_channel", "_taken")

    def __init__(self, channel: trio.MemoryReceiveChannel[T]) -> None:
        self._channel = channel
        self._taken = 0

    async def receive(self) -> T:
        # The checkpoint comes before the item is taken: a cancelled receive has taken nothing.
        self._taken += 1
        if self._taken % FAIRNESS:
            await checkpoint_if_cancelled()
        else:
            await checkpoint()
        try:
            return self._channel.receive_nowait()
        except trio.WouldBlock:
            return await self._channel.receive()

    async def drain(self) -> list[T]:
        """All items that are there, waiting for one if there is none; empty at the end of input.

        The engine's own loops take items so: one look at the scheduler serves as many as a busy join holds.
        """
        self._taken += 1
        await breathe(self._taken)
        items: list[T] = []
        take = self._channel.receive_nowait
        try:
            try:
                items.append(take())
            except trio.WouldBlock:
                items.append(await self._channel.receive())
            while len(items) < FAIRNESS:
                items.append(take())
        except (trio.WouldBlock, trio.EndOfChannel):
            pass
        return items

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self._taken += 1  # the same as `receive`, whose call would cost as much as the rest
        if self._taken % FAIRNESS:
            await checkpoint_if_cancelled()
        else:
            await checkpoint()
        try:
            return self._channel.receive_nowait()
        except trio.WouldBlock:
            try:
                return await self._channel.receive()
            except trio.EndOfChannel:
                raise StopAsyncIteration from None
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def clone(self) -> Receiver[T]:
        return Receiver(self._channel.clone())

    def close(self) -> None:
        self._channel.close()


class Sender(Generic[T]):
    """The outbox of a channel."""

    __slots__ = ("_channel", "_given")

    def __init__(self, channel: trio.MemorySendChannel[T]) -> None:
        self._channel = channel
        self._given = 0

    async def send(self, item: T) -> None:
        # A stage looks for its cancellation when it takes an item; giving looks only where it waits, and now
        # and then for a stage that gives without taking.
        self._given += 1
        if not self._given % FAIRNESS:
            await checkpoint()
        try:
            try:
                self._channel.send_nowait(item)
            except trio.WouldBlock:
                await self._channel.send(item)
        except trio.BrokenResourceError:
            raise ReceiverGone("the next stage has finished") from None

    def offer(self, item: T) -> bool:
        """Give an item if there is room for it at once."""
        try:
            self._channel.send_nowait(item)
        except trio.WouldBlock:
            return False
        except trio.BrokenResourceError:
            raise ReceiverGone("the next stage has finished") from None
        return True

    def clone(self) -> Sender[T]:
        return Sender(self._channel.clone())

    def close(self) -> None:
        self._channel.close()


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
        """Keep or drop an item; there is always room."""
        if self.items is not None:
            self.items.append(item)
        return True

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
    send, receive = trio.open_memory_channel[Any](capacity)
    return Sender(send), Receiver(receive)
