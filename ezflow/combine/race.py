"""`race(a, b)`: the first to give an output wins, the others are closed.

Example: `race(OpenAIChat(...), LocalLLM())` for the lowest latency money and CPU can buy.
"""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import attrs
import trio

from ..channels import Inbox, Outbox, ReceiverGone
from ..ear import Note
from ..flow import Flow, as_flow
from ..logs import failed
from ..turn import Turn
from .around import Choice
from .each import ENDINGS, each, once, stage_errors

__all__ = ["race"]

log = logging.getLogger("ezflow")

# Replies that a flow may give before its first output; then it waits for the race to be decided.
HELD = 1000

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
A = TypeVar("A")
B = TypeVar("B")


def race(first: Flow[A, B], *others: Flow[A, B]) -> Flow[A, B]:
    """Give each item to all flows; the first that gives an output goes on alone, the others are cancelled.

    Replies of a flow are held until it has won, up to a thousand; those of the losers are never heard. A flow that
    fails without an output is out of the race (logged); if all fail, so does the turn, with all their errors.
    """
    return Race(tuple(as_flow(flow) for flow in (first, *others)))


@attrs.frozen(repr=False)
class Race(Choice[In, Out]):
    async def run(self, inbox: Inbox[In], outbox: Outbox[Out], turn: Turn) -> None:
        await each(self._one, inbox, outbox, turn)

    async def _one(self, item: Any, outbox: Outbox[Any], turn: Turn) -> None:
        runners = [_Runner(outbox, turn) for _ in self.parts]
        async with trio.open_nursery() as nursery:
            for part, runner in zip(self.parts, runners, strict=True):
                runner.rivals = [other for other in runners if other is not runner]
                nursery.start_soon(runner.run, part, item)
        await trio.lowlevel.checkpoint_if_cancelled()
        if not any(runner.decided for runner in runners):
            for runner in runners:  # nobody gave an output: what they replied is all there is to hear
                await runner.tell()
        for runner in runners:
            if not runner.won:
                runner.view.forget()
        failures = [runner.failure for runner in runners if runner.failure is not None]
        if len(failures) == len(runners):
            raise BaseExceptionGroup("every flow of the race failed", failures)


class _Runner:
    """One flow in the race: its outbox and its ear, both silent until it has won."""

    def __init__(self, outbox: Outbox[Any], turn: Turn) -> None:
        self._outbox = outbox
        self.turn = turn
        self.view = turn.attempt(self)
        self._held: list[Note] = []
        self._decided = trio.Event()
        self._telling = trio.StrictFIFOLock()
        self.rivals: list[_Runner] = []
        self.won = self.full = self.done = False
        self.scope = trio.CancelScope()
        self.failure: BaseException | None = None

    async def run(self, flow: Flow[Any, Any], item: Any) -> None:
        try:
            with self.scope:
                await once(flow, item, self, self.view)
        except ENDINGS as error:
            if self.won or stage_errors(error) is None:
                raise
            self.failure = error
            failed(log, error, "%r is out of the race", flow, level=logging.WARNING)
        finally:
            self.done = True
            self._settle()

    async def send(self, item: Any) -> None:
        if not self.decided:
            self._win()
        if self.scope.cancel_called:
            raise ReceiverGone("another flow won the race")
        if self._held:
            await self.tell()
        await self._outbox.send(item)

    async def put(self, note: Note) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self.decided and len(self._held) >= HELD:
            self.full = True
            self._settle()
            await self._decided.wait()
        self._held.append(note)
        if self.decided:
            await self.tell()

    def _settle(self) -> None:
        """If every flow has replied all that is held for it, or is done, the first that waits wins.

        Else each would wait for ever for another's first output.
        """
        runners = [self, *self.rivals]
        if not self.decided and all(runner.full or runner.done for runner in runners):
            waiting = [runner for runner in runners if runner.full and not runner.done]
            if waiting:
                waiting[0]._win()

    @property
    def decided(self) -> bool:
        return self._decided.is_set()

    def _win(self) -> None:
        self.won = True
        self._decided.set()
        for rival in self.rivals:
            rival._decided.set()
            rival.scope.cancel()

    async def tell(self) -> None:
        # One at a time: two stages that both told the first note would send it twice and lose the second.
        async with self._telling:
            while self._held:
                await self.turn.hearing.put(self._held[0])
                self._held.pop(0)

    def clone(self) -> _Runner:
        return self

    def close(self) -> None:
        pass
