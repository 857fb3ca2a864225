"""The one seam at which stages, turns and channels report: metrics, traces and debuggers hang here.

Without instruments nothing is wrapped and nothing is called: it costs nothing. With them, each stage's two
ends are watched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import trio

from .channels import Inbox, Outbox

__all__ = ["Instrument", "watched"]


class Instrument:
    """An observer. Override what you need; every method must return at once and not raise.

    `turn` has `.user` and `.id`; where a stage is named it is that stage's own view, and has `.run` too. Times are
    trio's clock (`trio.current_time()`), to be read when called.
    """

    def asked(self, headers: Mapping[str, str]) -> None:
        """A request has come, or the handshake of a WebSocket: what it leads to begins in this task.

        `headers` are by their names in lower case.
        """

    def turn_started(self, turn: Any) -> None: ...

    def turn_ended(self, turn: Any, reason: str) -> None: ...

    def run_started(self, turn: Any, run: int) -> None: ...

    def run_ended(self, turn: Any, run: int, interrupted: bool) -> None: ...

    def stage_started(self, turn: Any, stage: str) -> None: ...

    def stage_ended(self, turn: Any, stage: str, error: BaseException | None) -> None: ...

    def waits_for_input(self, turn: Any, stage: str) -> None: ...

    def item_in(self, turn: Any, stage: str, item: object) -> None: ...

    def waits_for_room(self, turn: Any, stage: str, item: object) -> None: ...

    def item_out(self, turn: Any, stage: str, item: object) -> None: ...

    def replied(self, turn: Any, stage: str, item: object) -> None: ...


class _WatchedInbox:
    def __init__(self, inbox: Inbox[Any], instruments: Sequence[Instrument], turn: Any, stage: str) -> None:
        self._inbox, self._instruments, self._turn, self._stage = inbox, instruments, turn, stage

    async def receive(self) -> Any:
        for instrument in self._instruments:
            instrument.waits_for_input(self._turn, self._stage)
        item = await self._inbox.receive()
        for instrument in self._instruments:
            instrument.item_in(self._turn, self._stage, item)
        return item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def close(self) -> None:
        self._inbox.close()


class _WatchedOutbox:
    def __init__(self, outbox: Outbox[Any], instruments: Sequence[Instrument], turn: Any, stage: str) -> None:
        self._outbox, self._instruments, self._turn, self._stage = outbox, instruments, turn, stage

    async def send(self, item: Any) -> None:
        for instrument in self._instruments:
            instrument.waits_for_room(self._turn, self._stage, item)
        await self._outbox.send(item)
        for instrument in self._instruments:
            instrument.item_out(self._turn, self._stage, item)

    def clone(self) -> _WatchedOutbox:
        return _WatchedOutbox(self._outbox.clone(), self._instruments, self._turn, self._stage)

    def close(self) -> None:
        self._outbox.close()


def watched(
    inbox: Inbox[Any], outbox: Outbox[Any], instruments: Sequence[Instrument], turn: Any, stage: str
) -> tuple[Inbox[Any], Outbox[Any]]:
    """A stage's two ends, reporting to the instruments; the same ends where there are none."""
    if not instruments:
        return inbox, outbox
    return (
        _WatchedInbox(inbox, instruments, turn, stage),
        _WatchedOutbox(outbox, instruments, turn, stage),
    )
