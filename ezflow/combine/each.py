"""Running a flow once for one item: what `ordered`, `fallback`, `race`, `timeout` and `retry` share."""

from __future__ import annotations

from typing import Any

import trio

from ..channels import Outbox, ReceiverGone, Single, Tapped
from ..errors import StageError, flat
from ..flow import Flow
from ..turn import Turn

__all__ = ["Counting", "once", "stage_errors"]


async def once(flow: Flow[Any, Any], item: Any, outbox: Outbox[Any], turn: Turn) -> None:
    """Run the flow on this one item; `outbox` stays open for the next."""
    await flow.run(Single(item), outbox.clone(), turn)


class Counting(Tapped):
    """An outbox that knows whether anything went through it."""

    __slots__ = ("_gone", "_outbox", "given")

    def __init__(self, outbox: Outbox[object]) -> None:
        super().__init__()
        self._outbox = outbox
        self._gone = False
        self.given = 0

    async def send(self, item: object) -> None:
        self.given += 1
        await self._outbox.send(item)
        if self.tap is not None:
            self.tap(item)

    def clone(self) -> Counting:
        return self  # it counts for all of one item's run, and its owner closes what is behind it

    def close(self) -> None:
        pass


def stage_errors(error: BaseException) -> list[StageError] | None:
    """The stage errors of a failed run; None if it was cancelled, or ended by anything else.

    A combinator may answer only errors of stages: Cancelled and KeyboardInterrupt must pass.
    """
    leaves = [leaf for leaf in flat(error) if not isinstance(leaf, ReceiverGone)]
    errors = [leaf for leaf in leaves if isinstance(leaf, StageError)]
    others = [leaf for leaf in leaves if not isinstance(leaf, StageError | trio.Cancelled)]
    return errors if errors and not others else None
