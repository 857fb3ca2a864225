"""`retry(flow, 3)`: try an item again when it failed before its first output.

Example: `retry(Ollama("qwen3"), 3)` for a server that is being restarted.
"""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import attrs
import trio

from ..channels import Inbox, Outbox
from ..flow import Flow
from ..logs import failed
from ..turn import Turn
from .around import Around, number
from .each import ENDINGS, Counting, each, once, stage_errors

__all__ = ["retry"]

log = logging.getLogger("ezflow")

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
A = TypeVar("A")
B = TypeVar("B")


def retry(flow: Flow[A, B], attempts: int, wait_s: float = 0.1) -> Flow[A, B]:
    """Run each item up to `attempts` times, until it does not fail before its first output.

    Between attempts it waits `wait_s`, twice as long each time. After the first output nothing is tried again:
    the client would hear it twice. The last attempt's error counts; the others are logged.
    Raises: ValueError for fewer than one attempt.
    """
    return Retry(flow, attempts, wait_s)


@attrs.frozen(repr=False)
class Retry(Around[In, Out]):
    attempts: int = attrs.field(validator=number(attrs.validators.ge(1)))
    wait_s: float = attrs.field(default=0.1, validator=number(attrs.validators.ge(0)))

    async def run(self, inbox: Inbox[In], outbox: Outbox[Out], turn: Turn) -> None:
        await each(self._one, inbox, outbox, turn)

    async def _one(self, item: Any, outbox: Outbox[Any], turn: Turn) -> None:
        for nth in range(1, self.attempts):
            out = Counting(outbox, turn.hearing)
            attempt = turn.attempt(out)
            try:
                await once(self.flow, item, out, attempt)
                return
            except ENDINGS as error:
                if out.begun or stage_errors(error) is None:
                    raise
                attempt.forget()
                what = ("%r failed, attempt %d of %d", self.flow, nth, self.attempts)
                failed(log, error, *what, level=logging.WARNING)
            await trio.sleep(self.wait_s * 2 ** (nth - 1))
        await once(self.flow, item, outbox, turn)
