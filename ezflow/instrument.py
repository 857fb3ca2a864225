"""The one seam at which stages, turns and channels report: metrics, traces and debuggers hang here.

Without instruments nothing is wrapped and nothing is called: it costs nothing. With them, an end of a stage is
watched where one of them wants to know of it, and the others are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from .channels import Inbox, Outbox

__all__ = ["Instrument", "watched"]


class Instrument:
    """An observer. Override what you need; every method must return at once and not raise.

    `turn` has `.user`, `.id` and `.flow`; where a stage is named it is that stage's own view, and has `.run` too.
    Times are trio's clock (`trio.current_time()`), to be read when called.

    A plain function takes all that its join holds at once: it waits for input once, and `item_in` comes for each
    item before the first `item_out`. An output that is given without a wait is reported all the same, by
    `waits_for_room` and then `item_out`.
    """

    def asked(self, headers: Mapping[str, str]) -> None:
        """A request has come, or the handshake of a WebSocket: what it leads to begins in this task.

        `headers` are by their names in lower case.
        """

    def turn_started(self, turn: Any) -> None: ...

    def turn_ended(self, turn: Any, reason: str) -> None:
        """The stages of a turn have left."""

    def turn_told(self, turn: Any, reason: str) -> None:
        """Its client has been told how a turn ended, or has left it: what it has not heard makes it `interrupted`."""

    def interrupting(self, turn: Any, run: int) -> None:
        """A run (0: the turn's own) is to end: a client asked for it or left, or something newer came."""

    def interrupted(self, turn: Any, run: int) -> None:
        """Every stage of a run that was to end has left."""

    def joined(self, turn: Any, flow: Any, join: Any) -> None:
        """A join of the turn is up, from which `flow` takes; `join` has `.items` and `.capacity`."""

    def run_started(self, turn: Any, run: int) -> None: ...

    def run_ended(self, turn: Any, run: int, interrupted: bool) -> None: ...

    def stage_started(self, turn: Any, stage: str) -> None: ...

    def stage_ended(self, turn: Any, stage: str, error: BaseException | None) -> None: ...

    def waits_for_input(self, turn: Any, stage: str) -> None: ...

    def item_in(self, turn: Any, stage: str, item: object) -> None: ...

    def waits_for_room(self, turn: Any, stage: str, item: object) -> None: ...

    def item_out(self, turn: Any, stage: str, item: object) -> None: ...

    def waits_for_client(self, turn: Any, stage: str, item: object) -> None: ...

    def replied(self, turn: Any, stage: str, item: object) -> None: ...


Hook = Callable[[Any, str], None]
ItemHook = Callable[[Any, str, object], None]


class _WatchedInbox:
    __slots__ = ("_inbox", "_item_in", "_stage", "_turn", "_waits")

    def __init__(
        self, inbox: Inbox[Any], waits: Sequence[Hook], item_in: Sequence[ItemHook], turn: Any, stage: str
    ) -> None:
        self._inbox, self._waits, self._item_in = inbox, waits, item_in
        self._turn, self._stage = turn, stage

    async def receive(self) -> Any:
        for tell in self._waits:
            tell(self._turn, self._stage)
        item = await self._inbox.receive()
        for told in self._item_in:
            told(self._turn, self._stage, item)
        return item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        for tell in self._waits:
            tell(self._turn, self._stage)
        item = await self._inbox.__anext__()
        for told in self._item_in:
            told(self._turn, self._stage, item)
        return item

    def close(self) -> None:
        self._inbox.close()


class _WatchedJoin(_WatchedInbox):
    """A watched inbox whose items may be taken all at once."""

    __slots__ = ()

    async def drain(self) -> list[Any]:
        for tell in self._waits:
            tell(self._turn, self._stage)
        items: list[Any] = await self._inbox.drain()  # type: ignore[attr-defined]
        for told in self._item_in:
            for item in items:
                told(self._turn, self._stage, item)
        return items


class _WatchedOutbox:
    __slots__ = ("_item_out", "_offer", "_offer_all", "_outbox", "_stage", "_turn", "_waits")

    def __init__(
        self, outbox: Outbox[Any], waits: Sequence[ItemHook], item_out: Sequence[ItemHook], turn: Any, stage: str
    ) -> None:
        self._outbox, self._waits, self._item_out = outbox, waits, item_out
        self._turn, self._stage = turn, stage
        self._offer: Callable[[Any], bool] | None = getattr(outbox, "offer", None)
        self._offer_all: Callable[[Sequence[Any]], int] | None = getattr(outbox, "offer_all", None)

    async def send(self, item: Any) -> None:
        for tell in self._waits:
            tell(self._turn, self._stage, item)
        await self._outbox.send(item)
        for told in self._item_out:
            told(self._turn, self._stage, item)

    def offer(self, item: Any) -> bool:
        """Give an item if that needs no waiting."""
        given = self._offer is not None and self._offer(item)
        if given:
            self._given(item)
        return given

    def offer_all(self, items: Sequence[Any]) -> int:
        """Give the first of these items, as many as there is room for at once; says how many."""
        count = 0 if self._offer_all is None else self._offer_all(items)
        for item in items[:count]:
            self._given(item)
        return count

    def _given(self, item: Any) -> None:
        for tell in self._waits:
            tell(self._turn, self._stage, item)
        for told in self._item_out:
            told(self._turn, self._stage, item)

    def clone(self) -> _WatchedOutbox:
        return _WatchedOutbox(self._outbox.clone(), self._waits, self._item_out, self._turn, self._stage)

    def close(self) -> None:
        self._outbox.close()


def watched(
    inbox: Inbox[Any], outbox: Outbox[Any], instruments: Sequence[Instrument], turn: Any, stage: str
) -> tuple[Inbox[Any], Outbox[Any]]:
    """A stage's two ends, reporting to the instruments; the same end where none of them wants to know of it."""
    if not instruments:
        return inbox, outbox
    waits, item_in = _hooks(instruments, "waits_for_input"), _hooks(instruments, "item_in")
    room, item_out = _hooks(instruments, "waits_for_room"), _hooks(instruments, "item_out")
    if waits or item_in:
        ends = _WatchedJoin if hasattr(inbox, "drain") else _WatchedInbox
        inbox = ends(inbox, waits, item_in, turn, stage)
    if room or item_out:
        outbox = _WatchedOutbox(outbox, room, item_out, turn, stage)
    return inbox, outbox


def _hooks(instruments: Sequence[Instrument], name: str) -> list[Any]:
    """Those methods of that name that do something."""
    nothing = getattr(Instrument, name)
    return [getattr(each, name) for each in instruments if getattr(type(each), name) is not nothing]
