"""`timeout(flow, 5)`: an item that is not done after so many seconds fails, naming the flow.

Example: `fallback(timeout(Ollama("qwen3"), 2), LocalLLM())`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import attrs
import trio

from ..channels import Inbox, Outbox
from ..errors import StageError, StageTimeout
from ..flow import Flow
from ..stage import stages_of
from ..turn import Turn
from .around import Around, number
from .each import each, once

__all__ = ["timeout"]

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
A = TypeVar("A")
B = TypeVar("B")


def timeout(flow: Flow[A, B], seconds: float) -> Flow[A, B]:
    """End an item's run in `flow` when it takes longer than `seconds`, with StageTimeout as its error.

    The time counts from when the flow takes the item until its last output has been taken; the stages are
    cancelled and have left before the error goes on.
    Raises: ValueError for seconds of 0 or less.
    """
    return Timeout(flow, seconds)


@attrs.frozen(repr=False)
class Timeout(Around[In, Out]):
    seconds: float = attrs.field(validator=number(attrs.validators.gt(0)))

    async def run(self, inbox: Inbox[In], outbox: Outbox[Out], turn: Turn) -> None:
        await each(self._one, inbox, outbox, turn)

    async def _one(self, item: Any, outbox: Outbox[Any], turn: Turn) -> None:
        with trio.move_on_after(self.seconds) as scope:
            await once(self.flow, item, outbox, turn)
        if scope.cancelled_caught:
            names = [stage.name for stage in stages_of(self.flow)]
            raise StageError(names[0], [StageTimeout(" >> ".join(names), self.seconds)])
