"""`batch(8, 0.05)`: gathers items into tuples, for models that work on many at once.

Example: `asr >> batch(8, 0.05) >> translate`.
"""

from __future__ import annotations

from typing import TypeVar

import attrs
import trio

from ..channels import Inbox, Outbox
from ..flow import Flow
from ..modules import Module, module
from ..turn import Turn
from .around import number

__all__ = ["batch"]

T = TypeVar("T")


def batch(size: int, within_s: float) -> Flow[T, tuple[T, ...]]:
    """Gather up to `size` items, waiting at most `within_s` after the first of them; 0 takes what is there.

    A tuple goes on when it is full, when its time is up, or at the end of input; none is empty.
    Takes any T, gives tuple[T, ...]. Raises: ValueError for a size below 1 or a negative time.
    """
    return Batch(size, within_s)


@module
class Batch(Module[T, tuple[T, ...]]):
    """Gathers items into tuples: see `batch`."""

    size: int = attrs.field(validator=number(attrs.validators.ge(1)))
    within_s: float = attrs.field(validator=number(attrs.validators.ge(0)))

    async def run(self, inbox: Inbox[T], outbox: Outbox[tuple[T, ...]], turn: Turn) -> None:
        async for first in inbox:
            items = [first]
            more = True
            with trio.CancelScope() as waiting:
                # Set inside: a scope that is entered too late is cancelled before it takes what is there.
                waiting.deadline = trio.current_time() + self.within_s
                while len(items) < self.size:
                    try:
                        items.append(await inbox.receive())
                    except trio.EndOfChannel:
                        more = False
                        break
            await outbox.send(tuple(items))
            if not more:
                return

    def __repr__(self) -> str:
        return f"batch({self.size!r}, {self.within_s!r})"
