"""Running a flow once for one item: what `ordered`, `fallback`, `race`, `timeout` and `retry` share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from ..channels import Inbox, Outbox, ReceiverGone, Single
from ..ear import Hearing, Note
from ..errors import StageError, flat
from ..flow import Flow, cut, size
from ..items import Audio
from ..turn import Entered, Turn

__all__ = ["ENDINGS", "Counting", "each", "entered", "once", "stage_errors"]

# How a failed run may come out: an error; or a group, which holds Cancelled beside the error where the run was ended in
# the very step in which it failed.
ENDINGS = (Exception, BaseExceptionGroup)


async def each(
    one: Callable[[Any, Counting, Turn], Awaitable[None]], inbox: Inbox[Any], outbox: Outbox[Any], turn: Turn
) -> None:
    """Do `one(item, out, turn)` for each item, until the input ends or nobody takes what comes out."""
    try:
        async for item in inbox:
            out = Counting(outbox)
            await one(item, out, turn)
            if out.gone:
                break
    finally:
        inbox.close()
    outbox.close()


async def once(flow: Flow[Any, Any], item: Any, outbox: Outbox[Any], turn: Turn) -> None:
    """Run the flow on this one item, from the stage it is for; `outbox` stays open for the next."""
    flow, item = entered(flow, item)
    await flow.run(Single(item), outbox.clone(), turn)


def entered(flow: Flow[Any, Any], item: Any) -> tuple[Flow[Any, Any], Any]:
    """What of the flow an item runs through, and the item itself."""
    if not isinstance(item, Entered):
        return flow, item
    rest = cut(flow, item.index, size(flow))
    assert rest is not None
    return rest, item.item


class Counting:
    """An outbox, and an ear, that know whether the client has begun to hear anything of a run.

    And whether the run's taker has finished: a stage that nobody takes from ends quietly, so the combinator around
    it has to ask here, or it would go on.
    """

    __slots__ = ("_hearing", "_hint", "_offer", "_outbox", "begun", "gone")

    def __init__(self, outbox: Outbox[Any], hearing: Hearing | None = None) -> None:
        self._outbox = outbox
        self._hearing = hearing
        self._offer: Callable[[object], bool] | None = getattr(outbox, "offer", None)
        self._hint: Callable[[Note], bool] | None = getattr(hearing, "hint", None)
        self.begun = False
        self.gone = False

    async def send(self, item: object) -> None:
        self.begun = True
        try:
            await self._outbox.send(item)
        except ReceiverGone:
            self.gone = True
            raise

    def offer(self, item: object) -> bool:
        """Give an item if that needs no waiting."""
        try:
            given = self._offer is not None and self._offer(item)
        except ReceiverGone:
            self.gone = True
            raise
        self.begun = self.begun or given
        return given

    async def put(self, note: Note) -> None:
        """Pass a reply on. Words and sound count as an output: to repeat them would be heard."""
        assert self._hearing is not None
        self.begun = self.begun or isinstance(note.item, str | Audio)
        await self._hearing.put(note)

    def hint(self, note: Note) -> bool:
        """Pass a reply on if that needs no waiting."""
        given = self._hint is not None and self._hint(note)
        self.begun = self.begun or (given and isinstance(note.item, str | Audio))
        return given

    def clone(self) -> Counting:
        return self  # it counts for all of one item's run, and its owner closes what is behind it

    def close(self) -> None:
        pass


def stage_errors(error: BaseException) -> list[StageError] | None:
    """The stage errors of a failed run; None if it was cancelled, or ended by anything else.

    A combinator may answer only errors of stages: KeyboardInterrupt must pass, and so must Cancelled. That comes again
    at the next checkpoint where it stood beside an error that is answered.
    """
    leaves = [leaf for leaf in flat(error) if not isinstance(leaf, ReceiverGone)]
    errors = [leaf for leaf in leaves if isinstance(leaf, StageError)]
    others = [leaf for leaf in leaves if not isinstance(leaf, StageError | trio.Cancelled)]
    return errors if errors and not others else None
