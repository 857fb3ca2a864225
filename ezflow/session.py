"""A user's place on the server: at most one turn at a time, and the history of the conversation."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import attrs
import trio

from .channels import Inbox, Single, Sink
from .errors import StageStuck, TurnClosedError
from .flow import Flow, cut
from .history import History
from .open_turn import Limits, OpenTurn
from .request import entry_index, read_options
from .stage import Stage, map_stages

__all__ = ["Session"]

log = logging.getLogger("ezflow")


class Session:
    """One user's place: owns the nursery of the running turn, and the conversation's history.

    A new turn ends the one before it, and starts when every stage of that one has left.
    """

    def __init__(
        self, user: str, flow: Flow[Any, Any], stages: Sequence[Stage], limits: Limits, threads: trio.CapacityLimiter
    ) -> None:
        self.user = user
        self.history = History(limits.history_messages, limits.history_chars)
        self.limits = limits
        self.threads = threads
        self.flow = flow
        self.stages = stages
        self.leases = 0
        self.left_at = trio.current_time()
        self.closing = False
        self.gone = trio.Event()
        self._unwanted = False
        self._ready = trio.Event()
        self._changed = trio.Event()
        self._nursery: trio.Nursery
        self._starting = trio.Lock()
        self._turn: OpenTurn | None = None
        self._turns = 0
        self._guards: dict[int, Callable[[object], None]] = {}

    def turn(
        self,
        item: Any,
        *,
        entry: int | str = 0,
        options: Mapping[str, Any] | None = None,
        show: Collection[str] = (),
    ) -> OpenTurn:
        """One item through the flow from `entry` on: `async for event in session.turn("hello")`.

        `show`: stages that are shown in this turn besides those that the flow shows. It starts when it
        is first awaited. Leave the loop early under `async with session.turn(...) as events:` to end the turn there
        and then.
        Raises: EntryError; InputError for options that do not fit; ItemTypeError for an item that does not.
        """
        turn = self._make(entry, options, Single(item), Sink(), show)
        turn.check_item(item)
        return turn

    def live(
        self, *, entry: int | str = 0, options: Mapping[str, Any] | None = None, show: Collection[str] = ()
    ) -> OpenTurn:
        """A turn that is fed as it runs: `async with session.live() as live: await live.send(audio)`."""
        return self._make(entry, options, None, Sink(), show, enterable=True)

    async def interrupt(self) -> int | None:
        """End the running turn: returns its id once every stage has left; None if there is none."""
        turn = self._turn
        if turn is None or turn.over:
            return None
        await turn.aclose()
        return turn.id

    def collecting(self, options: Mapping[str, Any] | None, items: list[Any]) -> OpenTurn:
        """A live turn whose outputs are gathered in `items`."""
        return self._make(0, options, None, Sink(items))

    def _make(
        self,
        entry: int | str,
        options: Mapping[str, Any] | None,
        inbox: Inbox[Any] | None,
        sink: Sink,
        show: Collection[str] = (),
        enterable: bool = False,
    ) -> OpenTurn:
        index = entry_index(entry, self.stages)
        flow = cut(self.flow, index, len(self.stages))
        assert flow is not None
        if show:
            flow = map_stages(flow, lambda stage: attrs.evolve(stage, is_shown=stage.is_shown or stage.name in show))
        read = read_options(options or {}, self.stages)
        return OpenTurn(self, self.limits, self.begin, flow, read, self._guard, inbox, sink, enterable)

    def _guard(self, stage: Stage) -> Callable[[object], None]:
        """What checks the items that are fed to a stage."""
        made = self._guards.get(stage.index)
        if made is None:
            from .check import guard

            made = self._guards[stage.index] = guard(stage, by_typeguard=self.limits.debug)
        return made

    async def begin(self, turn: OpenTurn) -> None:
        """End the turn before, then start this one. Raises: StageStuck; TurnClosedError if the session is over."""
        async with self._starting:
            if turn.id:
                return  # one task feeds it and another reads it: the first of them has started it
            if self._turn is not None:
                await self._turn.aclose()
            if self.closing:
                raise TurnClosedError(f"the session of {self.user!r} is over.")
            self._turns += 1
            self._turn = turn
            turn.start(self._turns)
            self._nursery.start_soon(turn.perform)

    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[Self, None]:
        """Hold the session: it stays as long as anyone does, and `idle_s` longer."""
        self.leases += 1
        self._wake()
        try:
            await self._ready.wait()
            yield self
        finally:
            self.leases -= 1
            self.left_at = trio.current_time()
            self._wake()
            if not self.leases and not self.limits.idle_s:
                with trio.CancelScope(shield=True):
                    while not (self.leases or self.gone.is_set()):  # or somebody else holds it again
                        await self._changed.wait()

    async def hold(self, forget: Callable[[], None]) -> None:
        """Own the nursery until nobody has needed the session for `idle_s`; then end its turn."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._ready.set()
                await self._idle()
                self.closing = True
                forget()
                if self._turn is not None:
                    with suppress(StageStuck):  # logged; one user's stuck stage must not end the others
                        await self._turn.aclose()
                self._end()  # those who leave need not wait for a stage that is stuck
                nursery.cancel_scope.cancel()
        finally:
            self.closing = True
            forget()
            self._end()

    def _end(self) -> None:
        self.gone.set()
        self._wake()

    async def _idle(self) -> None:
        while True:
            while self.leases:
                await self._changed.wait()
            with trio.move_on_after(0 if self._unwanted else self.limits.idle_s):
                await self._changed.wait()
                continue
            if not self.leases:
                return

    def leave(self) -> None:
        """Nobody holds it, and its place is needed: end it now."""
        self._unwanted = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
