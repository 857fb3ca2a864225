"""`ordered(flow, 3)`: three items at work at once, their outputs in the order of the inputs.

Example: `Sentences() >> ordered(tts, 2)`: the second sentence is synthesised while the first is, and is never
heard before it.
"""

from __future__ import annotations

from typing import Any, TypeVar

import attrs
import trio

from ..channels import Inbox, Outbox, ReceiverGone, Sender, channel
from ..ear import Note
from ..flow import Flow
from ..turn import Turn
from .around import Around, number
from .each import once

__all__ = ["ordered"]

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
A = TypeVar("A")
B = TypeVar("B")


def ordered(flow: Flow[A, B], limit: int) -> Flow[A, B]:
    """Up to `limit` items at work in `flow` at once; outputs and replies leave in the order of the inputs.

    Each item has a run of its own. What a later item gives waits, bounded by the join's capacity, until the
    earlier ones are through. The first error ends all; so does a taker that has finished.
    Raises: ValueError for a limit below 1.
    """
    return Ordered(flow, limit)


@attrs.frozen(repr=False)
class Ordered(Around[In, Out]):
    limit: int = attrs.field(validator=number(attrs.validators.ge(1)))

    async def run(self, inbox: Inbox[In], outbox: Outbox[Out], turn: Turn) -> None:
        slots = trio.Semaphore(self.limit)
        lanes_in, lanes_out = channel(self.limit)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_release, lanes_out, outbox, turn, nursery.cancel_scope)
            try:
                async for item in inbox:
                    await slots.acquire()
                    give, take = channel(turn.capacity)
                    await lanes_in.send(take)
                    nursery.start_soon(self._one, item, give, slots, turn)
            except ReceiverGone:
                pass  # nobody takes the outputs any more
            finally:
                inbox.close()
            lanes_in.close()

    async def _one(self, item: Any, lane: Sender[Any], slots: trio.Semaphore, turn: Turn) -> None:
        try:
            await once(self.flow, item, lane, turn.heard_by(_Lane(lane)))
        finally:
            slots.release()
        lane.close()


class _Lane:
    """Replies stand in the lane between the outputs, so that both keep their order."""

    def __init__(self, lane: Sender[Any]) -> None:
        self._lane = lane

    async def put(self, note: Note) -> None:
        await self._lane.send(note)


async def _release(lanes: Inbox[Inbox[Any]], outbox: Outbox[Any], turn: Turn, all_of_it: trio.CancelScope) -> None:
    try:
        async for lane in lanes:
            async for entry in lane:
                if isinstance(entry, Note):
                    await turn.hearing.put(entry)
                else:
                    await outbox.send(entry)
    except ReceiverGone:
        all_of_it.cancel()  # nobody takes the outputs any more: what is still at work is at work for nobody
    finally:
        lanes.close()
    outbox.close()
