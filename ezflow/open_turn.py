"""A turn as its client holds it: events out, and for a live turn the way in."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Self

import attrs
import trio

from . import context
from .channels import Receiver, ReceiverGone, Single, Sink, channel
from .combine.latest import Latest
from .doors import Doors, way_in
from .driving import give_all
from .ear import Ear, Note, Run
from .errors import (
    NOT_ITS_OWN,
    BudgetExceeded,
    EntryError,
    SettingsError,
    StageError,
    StageStuck,
    TurnClosedError,
    flat,
)
from .events import Event, Fault, Reason
from .flow import CAPACITY, Flow, cut, size
from .instrument import Instrument
from .logs import failed
from .stage import Stage, heads, stages_of
from .store import Store, readable
from .turn import Entered, Session, Turn, TurnState

__all__ = ["Limits", "OpenTurn", "bounded"]

log = logging.getLogger("ezflow")


def bounded(least: float, above: bool = False) -> Any:
    """A validator. Raises: SettingsError for what is less than `least`, or no number; also for `least`, if `above`."""

    def check(_: object, field: attrs.Attribute[Any], value: Any) -> None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not (value > least if above else value >= least):
            needed = f"more than {least:g}" if above else f"{least:g} or more"
            raise SettingsError(f"{field.name}={value!r} was given, but {needed} is needed.")

    return check


@attrs.frozen(kw_only=True)
class Limits:
    """The bounds of a service.

    `capacity`: items a join holds. `ear`: events a turn holds for its client; when full, its stages wait.
    `cleanup_s`: what a cancelled stage may take to leave, and a module to be released. `turn_s`: how long a turn
    may take; of a live turn, how long it may be neither fed nor heard. `max_sessions`: users at once;
    `max_holders`: requests and sockets of one user at once. `idle_s`: how long a session without a holder keeps
    its history.
    `store`: where histories last, `sqlite:///FILE` (with a fourth / for an absolute path) or a `Store` of one's own;
    without one they end with their sessions. Of a user at most `history_messages` messages and `history_chars`
    characters are kept, for at most `history_days`; of all users together `store_bytes` in the file: the oldest
    messages make room.
    `threads`: worker threads of its blocking modules at once. `debug`: typeguard checks each item at each stage.
    """

    capacity: int = attrs.field(default=CAPACITY, validator=bounded(0))
    ear: int = attrs.field(default=64, validator=bounded(1))
    cleanup_s: float = attrs.field(default=5.0, validator=bounded(0))
    turn_s: float = attrs.field(default=float("inf"), validator=bounded(0, above=True))
    max_sessions: int = attrs.field(default=1000, validator=bounded(1))
    max_holders: int = attrs.field(default=64, validator=bounded(1))
    idle_s: float = attrs.field(default=0.0, validator=bounded(0))
    history_messages: int = attrs.field(default=200, validator=bounded(0))
    history_chars: int = attrs.field(default=100_000, validator=bounded(0))
    history_days: float = attrs.field(default=float("inf"), validator=bounded(0, above=True))
    store: str | Store | None = attrs.field(default=None, validator=readable)
    store_bytes: int = attrs.field(default=1024**3, validator=bounded(1024**2))
    debug: bool = False
    threads: int = attrs.field(default=min(32, (os.cpu_count() or 1) + 4), validator=bounded(1))
    instruments: tuple[Instrument, ...] = ()


class OpenTurn:
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
        self.id = 0
        self.finished = False
        self.errors: list[BaseException] = []
        self._session = session
        self._limits = limits
        self._begin = begin
        self._stored = stored
        self._flow = flow
        self._options = options
        self._sink = sink
        self._guard = guard
        self._guards: dict[int, list[Callable[[object], None]]] = {}
        self._live = live
        self._instruments = instruments
        self._doors = Doors(flow) if live else None
        self._give, self._take = channel(limits.capacity)
        self._inbox = _Feed(self._take if inbox is None else inbox)
        self._scope = trio.CancelScope()
        self._closing = False
        self._is_told = False
        self._left = trio.Event()
        self._stuck_at: float | None = None
        self._is_fed = inbox is None
        self._input_ended = not self._is_fed
        self._end: Note | None = None
        self._state: TurnState | None = None

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

        Raises: StageStuck, naming the stages, if one does not leave within the clean-up time.
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
        with trio.CancelScope(shield=True, deadline=trio.current_time() + patience_s):
            await self._left.wait()
        if not self._left.is_set():
            if self._stuck_at is None:
                self._stuck_at = trio.current_time()
            stuck = StageStuck(tuple(dict.fromkeys(self._state.present)), patience_s)
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
    def state(self) -> TurnState | None:
        """What the engine shares between the views of this turn, once it has begun."""
        return self._state

    @property
    def ends_at(self) -> float:
        """On trio's clock, when its time is over; a live turn that is in use gets more."""
        return self._scope.deadline

    @property
    def is_ending(self) -> bool:
        """Has it been told to end, by whomever, or by its deadline?"""
        return self._scope.cancel_called

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

    def start(self, turn_id: int, *, interrupted: bool = False) -> None:
        """Give it its id and its time; `interrupted` before it has begun, it ends with its first step."""
        limits = self._limits
        if interrupted:
            self._closing = True
            self._scope.cancel()
        self.id = turn_id
        self._state = TurnState(
            self._session,
            turn_id,
            Ear(turn_id, limits.ear),
            self._options,
            self._instruments,
            limits.cleanup_s,
            limits.capacity,
            self._doors,
        )
        self._scope.deadline = trio.current_time() + limits.turn_s

    async def perform(self) -> None:
        """Run the flow; whatever happens, `turn.ended` follows and every stage has left."""
        state = self._state
        assert state is not None
        for instrument in state.instruments:
            instrument.turn_started(state)
        if self._is_fed:
            state.joined(self._flow, self._give)
        root = state.new_run(None)
        context.here.set(Turn(state, root))
        state.ear.tell(Note("started", root, state.clock()))
        reason: Reason = "interrupted"
        try:
            with self._scope:
                await self._work(state, root)
                reason = "done"
            if reason != "done" and not self._closing and trio.current_time() >= self._scope.deadline:
                reason = "timeout"
        except NOT_ITS_OWN:
            raise
        except BaseException as error:
            # Whatever was raised in the flow becomes an event and a log entry; it ends nothing but this turn.
            leaves = [leaf for leaf in flat(error) if not isinstance(leaf, trio.Cancelled)]
            if not leaves or any(isinstance(leaf, NOT_ITS_OWN) for leaf in leaves):
                raise
            self._fail(state, leaves)
            reason = "timeout" if all(isinstance(error, BudgetExceeded) for error in self.errors) else "error"
        finally:
            if reason == "interrupted":
                state.ear.drop(state.root)
            self._end = Note("ended", state.root, state.clock(), reason=reason)
            state.ear.tell(self._end)
            self._take.close()
            if self._doors is not None:
                self._doors.close()
            self._left.set()
            if log.isEnabledFor(logging.INFO):
                took_s = round(state.clock(), 3)
                log.info("turn ended: %s, after %g s", reason, took_s, extra={"reason": reason, "took_s": took_s})
            for instrument in state.instruments:
                instrument.turn_ended(state, reason)

    async def _work(self, state: TurnState, run: Run) -> None:
        while True:
            try:
                with run.scope:
                    await self._flow.run(self._inbox, self._sink, Turn(state, run))
                    run.ran_out = True
                if not run.scope.cancelled_caught:
                    return
                # A live turn without `Latest` was interrupted: it goes on listening, with fresh channels.
                state.give_up(run)
            finally:
                run.left.set()
            run = state.new_run(None)
            self._inbox.taken = False

    def _fail(self, state: TurnState, errors: Iterable[BaseException]) -> None:
        """Every error becomes an event that names its stage, and a log entry."""
        for leaf in errors:
            stage, causes = (leaf.stage, leaf.errors) if isinstance(leaf, StageError) else (None, (leaf,))
            for cause in causes:
                if stage is not None:
                    cause.add_note(f"in stage {stage!r}")
                self.errors.append(cause if isinstance(cause, Exception) else StageError(stage or "flow", [cause]))
                fault = Fault(type(cause).__name__, str(cause) or type(cause).__name__)
                state.ear.tell(Note("error", state.root, state.clock(), stage, error=fault))
                if self._sink.items is None:  # `collect` raises them
                    at: dict[str, Any] = {} if stage is None else {"stage": stage}
                    failed(log, cause, "user %r, turn %d, stage %s failed", state.user, self.id, stage, **at)


class _Feed:
    """A turn's input: it outlives the flow's runs, which close what they are given."""

    def __init__(self, inbox: Receiver[Any] | Single[Any]) -> None:
        self._inbox = inbox
        self.taken = False  # has this run taken anything?

    async def receive(self) -> Any:
        item = await self._inbox.receive()
        self.taken = True
        return item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        item = await self._inbox.__anext__()
        self.taken = True
        return item

    async def drain(self) -> list[Any]:
        items = await self._inbox.drain()
        self.taken = True
        return items

    def close(self) -> None:
        pass


def has_latest(flow: Flow[Any, Any]) -> bool:
    return isinstance(flow, Latest) or any(map(has_latest, flow.parts))
