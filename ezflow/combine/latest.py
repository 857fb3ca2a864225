"""`Latest(flow)`: barge-in. Only the newest item matters; what runs for an older one is ended.

Example: `SileroVAD() >> Latest(asr >> llm >> tts)`: as soon as the person speaks again, the reply that is being
made or spoken is over. This is Rx's `switch`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import attrs
import trio

from ..channels import Inbox, Outbox
from ..ear import Run
from ..turn import Turn
from .around import Around
from .each import Counting, once

__all__ = ["Latest"]

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


@attrs.frozen(repr=False)
class Latest(Around[In, Out]):
    """Run `flow` anew for each item, ending the run before, whole, first.

    A run has fresh channels and a cancel scope of its own. When a new item finds a run at work, or events of it
    that the client has not taken, or sound of it that is still being played, that run is interrupted: every stage
    of it has left and its queued events are dropped before `interrupted` goes out and the next run begins. A run
    that is done and heard is no interruption. At the end of input the last run finishes.

    What it has given to a stage behind it is not taken back: put all that an interruption must stop inside,
    `Latest(llm >> tts)` rather than `Latest(llm) >> tts`.
    """

    async def run(self, inbox: Inbox[In], outbox: Outbox[Out], turn: Turn) -> None:
        state = turn.state
        current: Run | None = None
        out: Counting | None = None
        try:
            async with trio.open_nursery() as nursery:
                async for item in inbox:
                    if current is not None:
                        await state.finish(current)
                    if out is not None and out.gone:
                        break
                    await state.ear.room()
                    current = state.new_run(turn.own_run)
                    out = Counting(outbox)
                    nursery.start_soon(self._one, current, item, out, turn.within(current))
        finally:
            inbox.close()
        outbox.close()

    async def _one(self, run: Run, item: Any, outbox: Outbox[Out], turn: Turn) -> None:
        try:
            with run.scope:
                await once(self.flow, item, outbox, turn)
                run.ran_out = True
        finally:
            run.left.set()
