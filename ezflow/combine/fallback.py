"""`fallback(a, b)`: `b` when `a` fails before its first output.

Example: `fallback(Ollama("qwen3"), LocalLLM())`.
"""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import attrs
import trio

from ..channels import Inbox, Outbox
from ..flow import Flow, as_flow
from ..logs import failed
from ..turn import Turn
from .around import Choice
from .each import ENDINGS, Counting, each, once, stage_errors

__all__ = ["fallback"]

log = logging.getLogger("ezflow")

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
A = TypeVar("A")
B = TypeVar("B")


def fallback(first: Flow[A, B], *others: Flow[A, B]) -> Flow[A, B]:
    """For each item, the first of the flows that does not fail before its first output.

    A flow that fails after its first output fails the turn: the client has begun to hear it. Each failure that
    is answered by the next flow is logged; if all fail, the last one's error counts.
    """
    return Fallback(tuple(as_flow(flow) for flow in (first, *others)))


@attrs.frozen(repr=False)
class Fallback(Choice[In, Out]):
    async def run(self, inbox: Inbox[In], outbox: Outbox[Out], turn: Turn) -> None:
        await each(self._one, inbox, outbox, turn)

    async def _one(self, item: Any, outbox: Outbox[Any], turn: Turn) -> None:
        *earlier, last = self.parts
        for part in earlier:
            out = Counting(outbox, turn.hearing)
            attempt = turn.attempt(out)
            try:
                await once(part, item, out, attempt)
                return
            except ENDINGS as error:
                if out.begun or stage_errors(error) is None:
                    raise
                attempt.forget()
                failed(log, error, "%r failed; falling back to the next flow", part, level=logging.WARNING)
            await trio.lowlevel.checkpoint_if_cancelled()
        await once(last, item, outbox, turn)
