"""A turn as its client holds it: events out, and for a live turn the way in."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Self

import trio

from .channels import ReceiverGone, Single, Sink
from .combine.latest import Latest
from .doors import Doors, way_in
from .driving import give_all
from .ear import Note
from .errors import EntryError, StageStuck, TurnClosedError
from .events import Event, Fault
from .flow import Flow, cut, size
from .instrument import Instrument
from .limits import Limits
from .running import RunningTurn
from .stage import Stage, heads, stages_of
from .turn import Entered, Session, TurnState

__all__ = ["OpenTurn"]

log = logging.getLogger("ezflow")


class OpenTurn(RunningTurn):
    """A turn as its client holds it: an iterator of events, and for a live turn the way in.

    Events come in order, `turn.ended` last. Not more than one task may iterate.
    """

    def __init__(
        self,
        session: Session,
        limits: Limits,
        begin: Callable[[OpenTurn], Awaitable[None]],
        stored: Callable[[], Awaitable[Fault | None]] | None,
        flow: Flow[Any, Any],
        options: Mapping[str, Mapping[type, Any]],
        guard: Callable[[Stage], Callable[[object], None]],
        inbox: Single[Any] | None,
        sink: Sink,
        live: bool,
        instruments: Sequence[Instrument],
    ) -> None:
        super().__init__(session, limits, flow, options, inbox, sink, Doors(flow) if live else None, instruments)
        self.finished = False
        self._begin = begin
        self._stored = stored
        self._guard = guard
        self._guards: dict[int, list[Callable[[object], None]]] = {}
        self._live = live
        self._input_ended = not self._is_fed
        self._is_told = False
        self._stuck_at: float | None = None

    async def send(self, item: Any, entry: int | str | None = None) -> None:
        """Feed a live turn, waiting while it is busy; `entry` is another stage of it, by index or name.

        Raises: ItemTypeError; EntryError; TurnClosedError after `end`, or when the turn is over.
        """
        index = self._index(entry)
        self.check_item(item, index)
        if self._input_ended:
            raise TurnClosedError("the input of this turn has ended: start another turn.")
        await self._begun()
        self._stir()
        door, within = way_in(self._flow, index)
        entered = Entered(within, item) if within else item
        try:
            if door is self._flow or self._doors is None:
                await self._give.send(entered)
            else:
                await self._doors.give(door, entered)
        except (ReceiverGone, trio.ClosedResourceError):
            raise TurnClosedError(f"turn {self.id} is over: start another turn.") from None

    async def send_all(self, items: Iterable[Any]) -> None:
        """Feed these items to the front, as `send` does with one, so many at a time as a join holds.

        Raises: ItemTypeError; TurnClosedError; what the iteration does.
        """
        iterator, many = iter(items), max(1, self._limits.capacity)
        while some := list(islice(iterator, many)):
            for guard in self._guards_at(0):
                for item in some:
                    guard(item)
            await self._begun()
            try:
                await give_all(self._give, some)
            except (ReceiverGone, trio.ClosedResourceError):
                raise TurnClosedError(f"turn {self.id} is over: start another turn.") from None

    async def end(self) -> None:
        """No more input: the turn runs out."""
        await self._begun()
        self._stir()
        self._input_ended = True
        self._give.close()
        if self._doors is not None:
            self._doors.close()

    def played(self, seq: int, ms: float) -> None:
        """The listener has heard `ms` of the audio event `seq`: an interrupted answer's history holds that much.

        Once a client reports, what it does not report counts as unheard.
        """
        if self._state is not None:
            self._stir()
            self._state.played(seq, ms)

    async def interrupt(self) -> bool:
        """Stop the running reply and go on listening: returns when its stages have left.

        Ends each run of a `Latest`; without one, what is at work on the items taken so far. True if there was
        something to end; its `interrupted` is among the events then.
        """
        state = await self._begun()
        if has_latest(self._flow):
            runs = [run for run in state.runs if run.parent is state.root]
        else:
            runs = [state.root] if self._inbox.taken and not state.idle else []
        return any([await state.finish(run) for run in runs])

    async def aclose(self) -> None:
        """End the turn: returns when every stage has left. What the client has not taken is dropped.

        Raises: StageStuck, naming the stages, if one has not left after the clean-up time; at once where that is over.
        """
        if self._state is None:
            self.finished = True
            return
        self._closing = self._closing or not self._scope.cancel_called
        interrupts = not (self.over or self._scope.cancel_called)
        if interrupts:
            for instrument in self._instruments:
                instrument.interrupting(self._state, 0)
        self._scope.cancel()
        # A stage's own clean-up has `cleanup_s`; a little more, and it ignores its cancellation.
        patience_s = self._limits.cleanup_s + 1
        if self._stuck_at is None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + patience_s):
                await self._left.wait()
        if not self._left.is_set():
            stuck = StageStuck(tuple(dict.fromkeys(self._state.present)), patience_s)
            if self._stuck_at is None:
                self._stuck_at = trio.current_time()
                log.error("user %r, turn %d: %s", self._session.user, self.id, stuck)
            raise stuck
        if interrupts:
            for instrument in self._instruments:
                instrument.interrupted(self._state, 0)
        self.wind_up()

    def wind_up(self) -> None:
        """Its stages have left: what the client has not taken is dropped, what it was sent is history."""
        if self._state is not None and self._end is not None and not self.finished:
            root = self._state.root
            if self._state.ear.untaken(root):
                self._end.reason = "interrupted"
            self._state.ear.drop(root)
            self._told(self._state, self._end)

    @property
    def stuck_at(self) -> float | None:
        """On trio's clock, when its stages had not left although they should have; None if they may still leave, or
        have left.
        """
        return None if self._left.is_set() else self._stuck_at

    @property
    def over(self) -> bool:
        """Have its stages left, and has the client taken all that they said?"""
        if self.finished or self._state is None:
            return self.finished
        return self._left.is_set() and not self._state.ear.untaken(self._state.root)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self.finished:
            raise StopAsyncIteration
        state = self._state or await self._begun()
        if self._stored is not None:
            await self._settle(state, self._stored)
        return self._taken(state, await state.ear.take())

    def take_nowait(self) -> Event:
        """The next event, if it is there. Raises: trio.WouldBlock if none is, also when the turn has ended."""
        if self.finished or self._state is None or (self._stored is not None and self._state.ear.ends()):
            raise trio.WouldBlock
        return self._taken(self._state, self._state.ear.take_nowait())

    async def _settle(self, state: TurnState, stored: Callable[[], Awaitable[Fault | None]]) -> None:
        """A client that is told the end of a turn may rely on it that what was said lasts; else it is told so first."""
        note = await state.ear.next()
        if note.kind == "ended":
            state.close_runs(cut=note.reason != "done")
            fault = await stored()
            self._stored = None  # it is not waited for twice
            if fault is not None:
                state.ear.tell_first(Note("error", state.root, state.clock(), error=fault))

    def _taken(self, state: TurnState, event: Event) -> Event:
        self._stir()
        if event.type == "turn.ended" and self._end is not None:
            self.finished = True
            self._told(state, self._end)
        return event

    def _told(self, state: TurnState, end: Note) -> None:
        """The client has been told how the turn ended, or has nothing else to be told any more."""
        assert end.reason is not None  # as every end has one
        state.close_runs(cut=end.reason != "done")
        if not self._is_told:
            self._is_told = True
            for instrument in self._instruments:
                instrument.turn_told(state, end.reason)

    async def __aenter__(self) -> Self:
        await self._begun()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def check_item(self, item: object, index: int = 0) -> None:
        """Raises: ItemTypeError if the stages that the item enters at do not take it."""
        for guard in self._guards_at(index):
            guard(item)

    def _guards_at(self, index: int) -> list[Callable[[object], None]]:
        guards = self._guards.get(index)
        if guards is None:
            entered = cut(self._flow, index, size(self._flow))
            assert entered is not None
            guards = self._guards[index] = [self._guard(stage) for stage in heads(entered)]
        return guards

    def _index(self, entry: int | str | None) -> int:
        """Where in this turn's flow an entry is; entries are those of the whole flow."""
        if entry is None:
            return 0
        stages = stages_of(self._flow)
        for place, stage in enumerate(stages):
            if entry in (stage.name, stage.index) and not isinstance(entry, bool):
                return place
        raise EntryError(entry, [stage.name for stage in stages])

    def _stir(self) -> None:
        """A live turn is in use: its time counts anew. Once its input has ended, it has `turn_s` for the rest."""
        if self._live and not (self._input_ended or self._scope.cancel_called):
            self._scope.deadline = trio.current_time() + self._limits.turn_s

    async def _begun(self) -> TurnState:
        if self._state is None:
            if self.finished:
                raise TurnClosedError("this turn was closed before it began: start another turn.")
            await self._begin(self)
            assert self._state is not None
        return self._state


def has_latest(flow: Flow[Any, Any]) -> bool:
    return isinstance(flow, Latest) or any(map(has_latest, flow.parts))
