"""Several flows side by side behind one outbox: what `|` and `route` share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from .channels import Outbox, ReceiverGone, Sender, channel

if TYPE_CHECKING:
    from .flow import Flow
    from .turn import Turn

__all__ = ["Door", "Doors", "branches"]


class Door:
    """The way into one branch; `shut` once the branch has finished."""

    def __init__(self, sender: Sender[Any]) -> None:
        self._sender = sender
        self.shut = False

    async def give(self, item: object) -> None:
        """Give the branch an item, waiting for room; nothing happens when it has finished."""
        try:
            await self._sender.send(item)
        except ReceiverGone:
            self.close()

    def close(self) -> None:
        self.shut = True
        self._sender.close()


class Doors(tuple[Door, ...]):
    """The doors of all branches, in order."""

    __slots__ = ()

    def open(self) -> list[Door]:
        return [door for door in self if not door.shut]


@asynccontextmanager
async def branches(flows: Sequence[Flow[Any, Any]], outbox: Outbox[Any], turn: Turn) -> AsyncGenerator[Doors, None]:
    """Run each flow in a task of its own; their outputs are merged into `outbox` as they come.

    On leaving the block the doors are closed, what is in the branches runs out, and `outbox` is closed.
    """
    async with trio.open_nursery() as nursery:
        doors = []
        for flow in flows:
            give, take = channel(turn.capacity)
            turn.state.joined(flow, give)
            nursery.start_soon(flow.run, take, outbox.clone(), turn)
            doors.append(Door(give))
        outbox.close()  # each branch holds a clone: the join ends with the last of them
        try:
            yield Doors(doors)
        finally:
            for door in doors:
                door.close()
