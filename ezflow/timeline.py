"""A turn's timeline: what each stage is doing, told to a client that asks for it."""

from __future__ import annotations

from typing import Literal

import attrs
import trio

from .ear import Note
from .errors import flat
from .instrument import Instrument
from .turn import Turn

__all__ = ["Doing", "Timeline"]

# "first": the first output since the stage began to work.
Doing = Literal["waiting", "working", "blocked", "first", "done", "failed"]
# A shorter wait is a part of the work: a stage that streams waits between any two items.
SHORTEST_S = 0.1


@attrs.define
class _Lane:
    """One stage in one run: what was told of it last, since when it works, and when its present wait began."""

    told: Doing
    works_since: float
    waits_since: float
    gave: bool = False


class Timeline(Instrument):
    """Tells one turn's client what its stages do, as `stage` events.

    They are hints: a client that is slow is spared them, and a wait that turns out to be long is told when it ends,
    with the time at which it began. Each stage tells at most some twenty a second.
    """

    def __init__(self) -> None:
        self._lanes: dict[Turn, _Lane] = {}

    def stage_started(self, turn: Turn, stage: str) -> None:
        now = trio.current_time()
        self._lanes[turn] = _Lane("waiting", now, now)
        self._tell(turn, "waiting", now)

    def stage_ended(self, turn: Turn, stage: str, error: BaseException | None) -> None:
        del self._lanes[turn]
        failed = error is not None and any(not isinstance(leaf, trio.Cancelled) for leaf in flat(error))
        self._tell(turn, "failed" if failed else "done", trio.current_time())

    def waits_for_input(self, turn: Turn, stage: str) -> None:
        lane = self._lanes[turn]
        lane.waits_since = trio.current_time()
        if lane.told == "working" and lane.waits_since - lane.works_since >= SHORTEST_S:
            self._change(turn, "waiting", lane.waits_since)

    def item_in(self, turn: Turn, stage: str, item: object) -> None:
        lane, now = self._lanes[turn], trio.current_time()
        if lane.told == "working" and now - lane.waits_since < SHORTEST_S:
            return
        if lane.told == "working":
            self._change(turn, "waiting", lane.waits_since)
        self._change(turn, "working", now)
        lane.gave = False

    def waits_for_room(self, turn: Turn, stage: str, item: object) -> None:
        lane = self._lanes[turn]
        lane.waits_since = trio.current_time()
        if not lane.gave:
            lane.gave = True
            self._tell(turn, "first", lane.waits_since)

    def item_out(self, turn: Turn, stage: str, item: object) -> None:
        lane, now = self._lanes[turn], trio.current_time()
        if now - lane.waits_since >= SHORTEST_S:
            self._change(turn, "blocked", lane.waits_since)
            self._change(turn, "working", now)

    def _change(self, turn: Turn, doing: Doing, at: float) -> None:
        lane = self._lanes[turn]
        lane.told = doing
        if doing == "working":
            lane.works_since = at
        self._tell(turn, doing, at)

    def _tell(self, turn: Turn, doing: Doing, at: float) -> None:
        state = turn.state
        state.ear.hint(Note("stage", turn.own_run, at - state.began, turn.stage, doing))
