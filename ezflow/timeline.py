"""A turn's timeline: what each stage is doing, told to a client that asks for it."""

from __future__ import annotations

from math import inf
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
# What is shorter is not told of a stage that takes one item after the other: a VAD takes thirty frames a second.
SHORTEST_S = 0.1


@attrs.define
class _Lane:
    """One stage in one run: what was told of it last, and when the present state began."""

    told: Doing
    waits_since: float
    works_since: float = inf
    blocked_since: float = inf
    is_quick: bool = False  # was its last item done sooner than is worth telling?
    gave: bool = False  # has it given anything since it was told to work?


class Timeline(Instrument):
    """Tells one turn's client what its stages do, as `stage` events.

    They are hints: a client that is slow is spared them, and what turns out to be long may be told when it ends, with
    the time at which it began. Each stage tells at most some thirty a second.
    """

    def __init__(self) -> None:
        self._lanes: dict[Turn, _Lane] = {}

    def stage_started(self, turn: Turn, stage: str) -> None:
        now = trio.current_time()
        self._lanes[turn] = _Lane("waiting", now)
        self._tell(turn, "waiting", now)

    def stage_ended(self, turn: Turn, stage: str, error: BaseException | None) -> None:
        del self._lanes[turn]
        failed = error is not None and any(not isinstance(leaf, trio.Cancelled) for leaf in flat(error))
        self._tell(turn, "failed" if failed else "done", trio.current_time())

    def item_in(self, turn: Turn, stage: str, item: object) -> None:
        lane, now = self._lanes[turn], trio.current_time()
        lane.works_since = now
        if not lane.is_quick or now - lane.waits_since >= SHORTEST_S:
            self._change(turn, "working", now)

    def waits_for_input(self, turn: Turn, stage: str) -> None:
        lane, now = self._lanes[turn], trio.current_time()
        self._catch_up(turn, now)
        lane.waits_since = now
        if lane.told == "working":
            lane.is_quick = now - lane.works_since < SHORTEST_S
            self._change(turn, "waiting", now)

    def waits_for_room(self, turn: Turn, stage: str, item: object) -> None:
        lane, now = self._lanes[turn], trio.current_time()
        self._catch_up(turn, now)
        lane.blocked_since = now
        if not lane.gave:
            lane.gave = True
            self._tell(turn, "first", now)

    def item_out(self, turn: Turn, stage: str, item: object) -> None:
        lane, now = self._lanes[turn], trio.current_time()
        if now - lane.blocked_since >= SHORTEST_S:
            self._change(turn, "blocked", lane.blocked_since)
            self._change(turn, "working", now)

    def _catch_up(self, turn: Turn, now: float) -> None:
        """A quick stage may be slow for once: then it is told when that shows."""
        lane = self._lanes[turn]
        if lane.told == "waiting" and now - lane.works_since >= SHORTEST_S and lane.works_since >= lane.waits_since:
            self._change(turn, "working", lane.works_since)

    def _change(self, turn: Turn, doing: Doing, at: float) -> None:
        lane = self._lanes[turn]
        lane.gave = lane.gave and not (lane.told == "waiting" and doing == "working")
        lane.told = doing
        self._tell(turn, doing, at)

    def _tell(self, turn: Turn, doing: Doing, at: float) -> None:
        state = turn.state
        state.ear.hint(Note("stage", turn.own_run, at - state.began, turn.stage, doing))
