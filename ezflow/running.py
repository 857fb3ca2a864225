"""A turn as the engine runs it: a cancel scope, and in it the flow, stage by stage."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import trio

from . import context
from .channels import Receiver, Single, Sink, channel
from .ear import Ear, Note, Run
from .errors import NOT_ITS_OWN, BudgetExceeded, StageError, flat
from .events import Fault, Reason
from .flow import Flow
from .instrument import Instrument
from .limits import Limits
from .logs import failed
from .turn import Session, Turn, TurnState

if TYPE_CHECKING:
    from .doors import Doors

__all__ = ["RunningTurn"]

log = logging.getLogger("ezflow")


class RunningTurn:
    """What the engine does with a turn: begins it, runs the flow, and says how it ended."""

    def __init__(
        self,
        session: Session,
        limits: Limits,
        flow: Flow[Any, Any],
        options: Mapping[str, Mapping[type, Any]],
        inbox: Single[Any] | None,
        sink: Sink,
        doors: Doors | None,
        instruments: Sequence[Instrument],
    ) -> None:
        self.id = 0
        self.errors: list[BaseException] = []
        self._session = session
        self._limits = limits
        self._flow = flow
        self._options = options
        self._sink = sink
        self._doors = doors
        self._instruments = instruments
        self._give, self._take = channel(limits.capacity)
        self._inbox = _Feed(self._take if inbox is None else inbox)
        self._is_fed = inbox is None
        self._scope = trio.CancelScope()
        self._closing = False
        self._left = trio.Event()
        self._end: Note | None = None
        self._state: TurnState | None = None

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
                state.ear.tell(Note("error", state.root, state.clock(), stage, error=Fault.of(cause)))
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
