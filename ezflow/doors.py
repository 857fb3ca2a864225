"""The ways into a running flow: an item may enter a live turn at any stage, not only at its front.

A stage in a series is entered through the join before it. A combinator that runs its flow once for each item
(`Latest`, `ordered`, ...) is entered as a whole, with an `Entered` that says where in it the item belongs: so text
that a client types into `Latest(asr >> llm)` ends the running answer as speech would.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import trio

from .channels import Sender
from .combine.around import Around, Choice
from .flow import Flow, Series, size

__all__ = ["Doors", "way_in"]


class Doors:
    """The joins of one live turn, by the flow that takes from them, as they come up.

    Each is held open until the turn's input has ended: what stands behind a stage that is done early can still be
    entered.
    """

    def __init__(self, flow: Flow[Any, Any]) -> None:
        self._known = set(map(id, _within(flow)))  # identities: two equal stages have a join each
        self._joins: dict[int, Sender[Any]] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._over = False

    def add(self, flow: Flow[Any, Any], join: Sender[Any]) -> None:
        """A join is up; that of an earlier run of the same flow is forgotten."""
        if id(flow) in self._known and not self._over:
            if id(flow) in self._joins:
                self._joins[id(flow)].close()
            self._joins[id(flow)] = join.clone()
            self._changed.unpark_all()

    def close(self) -> None:
        """The turn's input has ended: nothing enters any more."""
        self._over = True
        for join in self._joins.values():
            join.close()
        self._joins.clear()
        self._changed.unpark_all()

    async def give(self, flow: Flow[Any, Any], item: Any) -> None:
        """Give the flow an item through its own join, waiting until that is up.

        Raises: trio.ClosedResourceError when the turn's input has ended; ReceiverGone when the flow has finished.
        """
        while id(flow) not in self._joins:
            if self._over:
                raise trio.ClosedResourceError
            await self._changed.park()
        join = self._joins[id(flow)].clone()
        try:
            await join.send(item)
        finally:
            join.close()


def way_in(flow: Flow[Any, Any], index: int) -> tuple[Flow[Any, Any], int]:
    """Through whose join an item reaches the stage at `index`, and that stage's index inside of it, or 0.

    The join of the whole flow is the turn's own input.
    """
    door = node = flow
    while index and not isinstance(node, Around | Choice):
        series = isinstance(node, Series)
        for number, part in enumerate(node.parts):
            if index < size(part):
                door = part if number or not series else door
                node = part
                break
            index -= size(part)
    return door, index


def _within(flow: Flow[Any, Any]) -> Iterator[Flow[Any, Any]]:
    if isinstance(flow, Around | Choice):
        return  # it is entered as a whole; and a join held open in it would keep the run of an item from ending
    for part in flow.parts:
        yield part
        yield from _within(part)
