"""`flow.budget(first_reply_s=1.2, total_s=20)`: how long an item may take until its first reply, and in all.

Example: `fallback(Ollama("qwen3").budget(first_reply_s=1), LocalLLM())`: who waits longer than a second for the
first word hears the other model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Literal, TypeVar

import attrs
import trio

from ..channels import Inbox, Outbox, breathe
from ..ear import Hearing, Note
from ..errors import BudgetExceeded, StageError
from ..flow import grouped
from ..instrument import Instrument
from ..items import Audio, Utterance
from ..stage import stages_of
from ..turn import Turn
from .around import Around, number
from .each import Counting, each, entered, once

__all__ = ["Budget"]

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)

Limit = Literal["first_reply_s", "total_s"]

positive = attrs.validators.optional(number(attrs.validators.gt(0)))


@attrs.frozen(repr=False)
class Budget(Around[In, Out]):
    first_reply_s: float | None = attrs.field(default=None, validator=positive)
    total_s: float | None = attrs.field(default=None, validator=positive)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.first_reply_s is None and self.total_s is None:
            raise ValueError("a budget needs a limit: .budget(first_reply_s=...), .budget(total_s=...), or both.")
        if _is_later(self.first_reply_s, self.total_s):
            raise ValueError(
                f"the first reply cannot come after the end: first_reply_s={self.first_reply_s} is more than "
                f"total_s={self.total_s}."
            )

    async def run(self, inbox: Inbox[In], outbox: Outbox[Out], turn: Turn) -> None:
        await each(self._one, inbox, outbox, turn)

    async def _one(self, item: Any, outbox: Outbox[Any], turn: Turn) -> None:
        flow, item = entered(self.flow, item)
        time = _Time(self.first_reply_s, self.total_s)
        out = _Timed(outbox, turn.hearing, time)
        watch = _Watch(time)
        inside = turn.heard_by(out).watched_by(watch)
        with time.scope:
            if isinstance(item, Utterance) and not item.ended:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(time.begin_after, item)
                    await once(flow, item, out, inside)
                    nursery.cancel_scope.cancel()
            else:
                await once(flow, item, out, inside)
        if time.scope.cancelled_caught:
            raise watch.verdict([stage.name for stage in stages_of(flow)])

    def __repr__(self) -> str:
        limits = {"first_reply_s": self.first_reply_s, "total_s": self.total_s}
        given = [f"{name}={value!r}" for name, value in limits.items() if value is not None]
        return f"{grouped(self.flow)}.budget({', '.join(given)})"


def _is_later(first: object, total: object) -> bool:
    """What is no number at all, check() says with all other faults."""
    return isinstance(first, int | float) and isinstance(total, int | float) and first > total


class _Time:
    """What an item has used of its budget, as a cancel scope: its deadline is that of the first reply, then the end.

    It stands still, and the scope has no deadline, while something is waited for that is not of the flow.
    """

    def __init__(self, first_reply_s: float | None, total_s: float | None) -> None:
        self._total_s = inf if total_s is None else total_s
        self._spent_s = 0.0  # until it last began to run
        self._since = trio.current_time()
        self._waits = 0
        self.limit: Limit = "total_s" if first_reply_s is None else "first_reply_s"
        self.limit_s = self._total_s if first_reply_s is None else first_reply_s
        self.scope = trio.CancelScope(deadline=self._since + self.limit_s)

    @property
    def spent_s(self) -> float:
        return self._spent_s + (0.0 if self._waits else trio.current_time() - self._since)

    def replied(self) -> None:
        """A reply has been made: from now on the whole counts."""
        if self.limit == "first_reply_s" and not self.scope.cancel_called:
            self.limit, self.limit_s = "total_s", self._total_s
            if not self._waits:
                self._run()

    def stand_still(self) -> None:
        self._spent_s = self.spent_s
        self._waits += 1
        self.scope.deadline = inf

    def go_on(self) -> None:
        self._waits -= 1
        if not self._waits:
            self._since = trio.current_time()
            self._run()

    def _run(self) -> None:
        self.scope.deadline = self._since + self.limit_s - self._spent_s

    async def begin_after(self, speech: Utterance) -> None:
        """Stand still until the speech has ended."""
        self.stand_still()
        try:
            await speech.until_end()
        finally:
            self.go_on()


class _Timed(Counting):
    """The way out of a budget: what is told there is a reply, and who is slow to take it is no stage of the flow."""

    __slots__ = ("_time",)

    def __init__(self, outbox: Outbox[Any], hearing: Hearing, time: _Time) -> None:
        super().__init__(outbox, hearing)
        self._time = time

    async def send(self, item: object) -> None:
        self._time.replied()
        self._time.stand_still()
        try:
            await super().send(item)
        finally:
            self._time.go_on()

    def offer(self, item: object) -> bool:
        given = super().offer(item)
        if given:
            self._time.replied()
        return given

    async def put(self, note: Note) -> None:
        await breathe(1)
        if self.hint(note):  # to move a deadline costs more than all else that is done for a reply
            return
        self._note(note)
        self._time.stand_still()
        try:
            await super().put(note)
        finally:
            self._time.go_on()

    def hint(self, note: Note) -> bool:
        given = super().hint(note)
        if given:
            self._note(note)
        return given

    def _note(self, note: Note) -> None:
        if isinstance(note.item, str | Audio):
            self._time.replied()


@attrs.define
class _Lane:
    """One stage: what it was last seen doing, and when its first output came."""

    view: Turn
    doing: Literal["waiting", "working", "blocked", "done"] = "working"
    first_s: float | None = None


class _Watch(Instrument):
    """Sees which stage has given what, so as to say who was late."""

    def __init__(self, time: _Time) -> None:
        self._time = time
        self._lanes: dict[str, _Lane] = {}

    def item_in(self, turn: Turn, stage: str, item: object) -> None:
        lane = self._lanes.get(stage)
        if lane is None:
            self._lanes[stage] = _Lane(turn)
        else:
            lane.view, lane.doing = turn, "working"

    def waits_for_input(self, turn: Turn, stage: str) -> None:
        if stage in self._lanes:
            self._lanes[stage].doing = "waiting"

    def waits_for_room(self, turn: Turn, stage: str, item: object) -> None:
        lane = self._lanes.get(stage)
        if lane is None:  # it gives unasked
            lane = self._lanes[stage] = _Lane(turn)
        lane.doing = "blocked"
        if lane.first_s is None and not self._time.scope.cancel_called:
            lane.first_s = self._time.spent_s

    def item_out(self, turn: Turn, stage: str, item: object) -> None:
        self._lanes[stage].doing = "working"

    def stage_ended(self, turn: Turn, stage: str, error: BaseException | None) -> None:
        if stage in self._lanes and not self._time.scope.cancel_called:
            self._lanes[stage].doing = "done"

    def verdict(self, names: Sequence[str]) -> StageError:
        """The error for stages of these names, in their order, whose time is up."""
        lanes = {name: self._lanes[name] for name in names if name in self._lanes}
        stage = self._late(lanes) or names[0]
        first_s = {name: lane.first_s for name, lane in lanes.items()} or {stage: None}
        awaited = lanes[stage].view.awaits if stage in lanes else ""
        limit, limit_s = self._time.limit, self._time.limit_s
        return StageError(stage, [BudgetExceeded(" >> ".join(names), limit_s, limit, stage, first_s, awaited)])

    def _late(self, lanes: Mapping[str, _Lane]) -> str | None:
        """Who is to blame: of the stages at work, the first that the others wait for.

        For a first reply that is the first stage that has given nothing, or who feeds it; else whoever is not done.
        """
        working: list[str] = []
        for name, lane in lanes.items():
            if lane.doing == "working":
                working.append(name)
            if self._time.limit == "first_reply_s" and lane.first_s is None and lane.doing != "done":
                return working[-1] if working else name
        return next(iter(working or lanes), None)
