"""One run of a flow for one request, as its stages see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import attrs
import trio

from .channels import Sender
from .ear import Ear, Exchange, Hearing, Note, Run
from .history import History
from .instrument import Instrument

__all__ = ["Entered", "Options", "Turn", "TurnState"]

T = TypeVar("T")
NO_OPTIONS: Mapping[type, Any] = {}


class Session(Protocol):
    """What a stage sees of its user's session."""

    @property
    def user(self) -> str: ...

    @property
    def history(self) -> History: ...

    @property
    def kept(self) -> dict[Any, Any]: ...

    @property
    def threads(self) -> trio.CapacityLimiter: ...

    @property
    def flow_name(self) -> str: ...


class Options:
    """A request's options for one stage, read by their class: `turn.options[LLMOptions].temperature`.

    A class that the request says nothing about is given with its defaults.
    """

    def __init__(self, values: Mapping[type, Any] = NO_OPTIONS) -> None:
        self._values = values

    def __getitem__(self, cls: type[T]) -> T:
        value = self._values.get(cls)
        return cls() if value is None else value

    def __repr__(self) -> str:
        return f"Options({dict(self._values)!r})"


class Joins(Protocol):
    """Who wants to know of a live turn's joins, by the flow that takes from them."""

    def add(self, flow: Any, join: Any) -> None: ...


@attrs.frozen
class Entered:
    """An item for a stage inside a combinator; `index` counts the stages of that combinator."""

    index: int
    item: Any


class TurnState:
    """What all views of one turn share."""

    def __init__(
        self,
        session: Session,
        turn_id: int,
        ear: Ear,
        options: Mapping[str, Mapping[type, Any]],
        instruments: Sequence[Instrument],
        cleanup_s: float,
        capacity: int,
        joins: Joins | None,
    ) -> None:
        self.session = session
        self.id = turn_id
        self.user = session.user
        self.flow = session.flow_name
        self.ear = ear
        self.options = options
        self.instruments = instruments
        self.cleanup_s = cleanup_s
        self.capacity = capacity
        self.joins = joins
        self.began = trio.current_time()
        self.root = Run(0)
        self.runs: list[Run] = []
        self.present: list[str] = []
        self._numbered = 0

    def joined(self, flow: object, give: Sender[Any]) -> None:
        """A join of this turn is up."""
        if self.joins is not None:
            self.joins.add(flow, give)
        for instrument in self.instruments:
            instrument.joined(self, flow, give.join)

    def enter(self, view: Turn) -> None:
        """A stage begins to work in this turn."""
        self.present.append(view.stage)
        for instrument in view.instruments:
            instrument.stage_started(view, view.stage)

    def leave(self, view: Turn, error: BaseException | None) -> None:
        self.present.remove(view.stage)
        for instrument in view.instruments:
            instrument.stage_ended(view, view.stage, error)

    def clock(self) -> float:
        return trio.current_time() - self.began

    def new_run(self, parent: Run | None) -> Run:
        """A run: the turn's own without a parent, else the next numbered one."""
        if parent is None:
            run = self.root = Run(0)
        else:
            self._numbered += 1
            run = Run(self._numbered, parent)
            for instrument in self.instruments:
                instrument.run_started(self, run.number)
        self.runs.append(run)
        return run

    @property
    def idle(self) -> bool:
        """Is every question of the turn's own run answered, and every answer taken and played?"""
        exchanges, played = self.root.exchanges, trio.current_time() >= self.root.plays_until
        answered = all(exchange.complete and exchange.sent for exchange in exchanges)
        return bool(exchanges) and answered and played and not self.ear.untaken(self.root)

    def settled(self, run: Run) -> bool:
        """Have its stages said all there is, and has the client taken, and played, all of that?"""
        taken = not (run.lost or self.ear.untaken(run))
        return run.left.is_set() and run.ran_out and taken and trio.current_time() >= run.plays_until

    def close_run(self, run: Run, cut: bool) -> None:
        """The run is over: its exchanges go into the history, as cut unless they were sent and heard whole."""
        if run.over:
            return
        run.over = True
        self.runs.remove(run)
        played = trio.current_time() >= run.plays_until
        for exchange in run.exchanges:
            whole = exchange.complete and exchange.sent and exchange.heard and played
            self._store(exchange, cut and not whole)
        if run.number:
            for instrument in self.instruments:
                instrument.run_ended(self, run.number, cut)

    def close_runs(self, cut: bool) -> None:
        """The turn is over, and so is every run of it."""
        for run in sorted(self.runs, key=lambda run: -run.number):
            self.close_run(run, cut and not (run.number and self.settled(run)))

    def move_on(self, run: Run, stage: str) -> None:
        """A stage turns to its next question in the same run: what it has answered, and was sent, is history."""
        own = [exchange for exchange in run.exchanges if exchange.stage == stage]
        spoken = any(exchange.spoken for exchange in own)
        for place, exchange in enumerate(own):
            later = any(other.spoken for other in own[place + 1 :])
            done = exchange.void or exchange.sent or later or not (exchange.shown or spoken)
            if not (exchange.complete and done):
                return
            run.exchanges.remove(exchange)
            run.told.append(exchange)
            self._store(exchange, cut=False)

    def _store(self, exchange: Exchange, cut: bool) -> None:
        if not exchange.void:
            for message in exchange.messages(cut):
                self.session.history.add(message)

    def give_up(self, run: Run) -> None:
        """A run's stages have left: forget what of it was not taken; `interrupted` follows what was."""
        for inner in [other for other in self.runs if other.parent is run]:
            self.give_up(inner)
        self.ear.drop(run)
        self.close_run(run, cut=True)
        self.ear.tell_before_end(Note("interrupted", run, self.clock()))

    def played(self, seq: int, ms: float) -> None:
        """The listener has heard so much of the audio event `seq`; of a run that is over it is no news."""
        for run in self.runs:
            sounds = [spoken for exchange in (*run.told, *run.exchanges) for spoken in exchange.spoken]
            for spoken in sounds:
                if spoken.seq == seq:
                    spoken.heard_ms = max(ms, spoken.heard_ms or 0.0)
            if sounds and sounds[-1].seq == seq and ms >= sounds[-1].ms:
                run.plays_until = trio.current_time()

    async def finish(self, run: Run) -> bool:
        """A run is superseded: end it, unless it was taken and played whole; returns when its stages have left.

        True if there was something to end: `interrupted` has been said then.
        """
        if run.over:
            return False
        for inner in [other for other in self.runs if other.parent is run]:
            if self.settled(inner):
                self.close_run(inner, cut=False)
        if self.settled(run):
            self.close_run(run, cut=False)
            return False
        for instrument in self.instruments:
            instrument.interrupting(self, run.number)
        run.scope.cancel()
        if not run.left.is_set():  # else whoever asks may not be cancelled before it has been said
            await run.left.wait()
        for instrument in self.instruments:
            instrument.interrupted(self, run.number)
        if not run.over:
            self.give_up(run)
        return True


class Turn:
    """One run of a flow for one request, as one stage sees it.

    A turn is a cancel scope: to interrupt it is to cancel that scope, and every `await` of a stage may then
    raise Cancelled, which must pass. What belongs to this turn lives in the stage's local variables.
    """

    __slots__ = ("_answer", "_hearing", "_run", "_state", "_tried", "awaits", "instruments", "stage")

    def __init__(
        self,
        state: TurnState,
        run: Run,
        stage: str = "",
        hearing: Hearing | None = None,
        tried: tuple[list[Exchange], ...] = (),
        instruments: Sequence[Instrument] | None = None,
    ) -> None:
        self._state = state
        self._run = run
        self._hearing = state.ear if hearing is None else hearing
        self._tried = tried
        self._answer: Exchange | None = None
        self.stage = stage
        # The turn's own, and those of the combinators that this stage stands in.
        self.instruments = state.instruments if instruments is None else instruments
        # What this item waits for outside of the flow, such as a model server: said where its time is up.
        self.awaits = ""

    def at(self, stage: str) -> Turn:
        """The same turn as another stage sees it."""
        return Turn(self._state, self._run, stage, self._hearing, self._tried, self.instruments)

    def within(self, run: Run) -> Turn:
        """The same turn inside a run."""
        return Turn(self._state, run, self.stage, self._hearing, self._tried, self.instruments)

    def heard_by(self, hearing: Hearing) -> Turn:
        """The same turn, its replies going through a combinator that holds them back or counts them."""
        return Turn(self._state, self._run, self.stage, hearing, self._tried, self.instruments)

    def watched_by(self, instrument: Instrument) -> Turn:
        """The same turn, its stages reporting to one more instrument."""
        instruments = (*self.instruments, instrument)
        return Turn(self._state, self._run, self.stage, self._hearing, self._tried, instruments)

    def attempt(self, hearing: Hearing) -> Turn:
        """The same turn for an attempt that may fail: `forget` then takes back what it remembered."""
        return Turn(self._state, self._run, self.stage, hearing, (*self._tried, []), self.instruments)

    def forget(self) -> None:
        """The attempt failed: its exchanges do not belong into the history."""
        for exchange in self._tried[-1]:
            exchange.void = True

    @property
    def state(self) -> TurnState:
        """What the engine shares between the views of this turn."""
        return self._state

    @property
    def own_run(self) -> Run:
        return self._run

    @property
    def hearing(self) -> Hearing:
        return self._hearing

    @property
    def user(self) -> str:
        return self._state.user

    @property
    def id(self) -> int:
        """Counts from 1 within the session."""
        return self._state.id

    @property
    def flow(self) -> str:
        """The name of the flow that is run, as the server knows it; empty for one that has none."""
        return self._state.flow

    @property
    def run(self) -> int | None:
        """The number of the `Latest` run this stage works in; None outside of one."""
        return self._run.number or None

    @property
    def session(self) -> Session:
        return self._state.session

    @property
    def capacity(self) -> int:
        """How many items a join of this turn holds."""
        return self._state.capacity

    @property
    def deadline(self) -> float:
        """By when, on trio's clock, what the stage does now must be done: it is cancelled then. inf without a limit.

        That is the nearest of all that hold here: budgets, `timeout`, the service's `turn_s`. It may move: a budget
        gives more time once a reply has been given. -inf when the stage is being cancelled.
        """
        return trio.current_effective_deadline()

    @property
    def threads(self) -> trio.CapacityLimiter:
        """How many worker threads the service's blocking modules may use at once."""
        return self._state.session.threads

    @property
    def history(self) -> History:
        """The session's conversation so far, with what this stage has answered in this turn."""
        self._state.move_on(self._run, self.stage)
        return self._state.session.history

    @property
    def options(self) -> Options:
        """The request's options for this stage: `turn.options[LLMOptions]`."""
        return Options(self._state.options.get(self.stage, NO_OPTIONS))

    async def reply(self, item: object) -> None:
        """Tell the client: text, Audio, a Transcript, an event class, or anything cattrs can unstructure.

        Keeps the order of this stage's replies; waits while the client is slow; atomic with respect to
        cancellation; nothing of an interrupted run is delivered.
        """
        state = self._state
        answer = self._answer if isinstance(item, str) else None
        for instrument in state.instruments:
            instrument.waits_for_client(self, self.stage, item)
        await self._hearing.put(Note("item", self._run, state.clock(), self.stage, item, exchange=answer))
        for instrument in self.instruments:
            instrument.replied(self, self.stage, item)

    def remember(self, asked: str) -> None:
        """From here on, what this stage gives is the answer to `asked`.

        The session's history receives both when the run is over, or when the stage has moved on to its next
        question; of an interrupted answer only what the client was sent, marked as cut.
        """
        self.answered()
        self._state.move_on(self._run, self.stage)
        self._answer = Exchange(asked, self.stage)
        self._run.exchanges.append(self._answer)
        for tried in self._tried:
            tried.append(self._answer)

    def gave(self, item: object) -> None:
        """The stage gave an item onward."""
        if self._answer is not None:
            self._answer.give(item)

    def answered(self) -> None:
        """The stage has given all that it gives for an item."""
        self.awaits = ""
        if self._answer is not None:
            self._answer.complete = True
            self._answer = None

    def cleanup(self) -> trio.CancelScope:
        """A shield for clean-up that must await: `with turn.cleanup(): await stream.aclose()`.

        It has a deadline (the service's `cleanup_s`), so that a stage cannot hold its turn for ever.
        """
        return trio.CancelScope(deadline=trio.current_time() + self._state.cleanup_s, shield=True)
