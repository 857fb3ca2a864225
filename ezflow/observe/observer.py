"""What turns and stages have done, and are doing: the instrument that the metrics are made from.

Each report of a stage is a few additions in place; names, labels and text come in when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

from ..channels import Join, ReceiverGone
from ..ear import Ear
from ..errors import NOT_ITS_OWN, flat
from ..events import Reason
from ..instrument import Instrument
from ..turn import Turn, TurnState
from .histogram import Histogram

__all__ = ["RESULTS", "WAITS", "FlowFigures", "Lane", "Observer", "StageFigures"]

RESULTS: tuple[Reason, ...] = ("done", "interrupted", "error", "timeout")
# What a stage may wait for: another item, room behind it, the client.
WAITS: tuple[str, ...] = ("input", "room", "client")
# Seconds. Up to what a person does not notice, up to what a conversation bears, and beyond.
OUTPUT_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SILENCE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
TURN_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
# A class of errors that is made anew for each error must not make a time series each.
ERROR_CLASSES = 50
OTHER = "other"


class StageFigures:
    """What a stage did: `items_in`, `items_out`, `replies`; `waited_s` for each of WAITS; errors by their class."""

    __slots__ = ("errors", "first_output", "items_in", "items_out", "replies", "waited_s")

    def __init__(self) -> None:
        self.items_in = 0
        self.items_out = 0
        self.replies = 0
        self.waited_s: dict[str, float] = dict.fromkeys(WAITS, 0.0)
        self.errors: Counter[str] = Counter()
        self.first_output = Histogram(OUTPUT_S)

    def add(self, lane: Lane, now: float) -> None:
        """Take in what was done in one run."""
        self.items_in += lane.items_in
        self.items_out += lane.items_out
        self.replies += lane.replies
        for what, seconds in lane.waited_s(now):
            self.waited_s[what] += seconds


class FlowFigures:
    """One flow, over all turns."""

    __slots__ = ("duration", "results", "running", "silence", "stages")

    def __init__(self, stages: Iterable[str]) -> None:
        self.running = 0
        self.results: Counter[str] = Counter()
        self.duration = Histogram(TURN_S)
        self.silence = Histogram(SILENCE_S)
        self.stages = {stage: StageFigures() for stage in stages}


class Lane:
    """One stage in one run: what it did, and what it waits for. A stage may have several tasks, and wait for several.

    `asked_at` is when it took the first item since it last gave one; `moved_at`, when it last took, gave or replied.
    """

    __slots__ = (
        *("asked_at", "moved_at", "figures", "items_in", "items_out", "replies"),
        *("input_s", "input_since", "room_s", "room_since", "client_s", "client_since"),
    )

    def __init__(self, figures: StageFigures, now: float) -> None:
        self.figures = figures
        self.items_in = self.items_out = self.replies = 0
        self.input_s = self.room_s = self.client_s = 0.0
        self.moved_at = now
        self.asked_at: float | None = None
        self.input_since: float | None = None
        self.room_since: float | None = None
        self.client_since: float | None = None

    def since(self, what: str) -> float | None:
        """When it began to wait for one of WAITS; None if it does not."""
        return {"input": self.input_since, "room": self.room_since, "client": self.client_since}[what]

    def waited_s(self, now: float) -> Iterator[tuple[str, float]]:
        """How long it has waited for each of WAITS, up to now."""
        for what, seconds in zip(WAITS, (self.input_s, self.room_s, self.client_s), strict=True):
            since = self.since(what)
            yield what, seconds if since is None else seconds + now - since


class Observer(Instrument):
    """Counts and times what turns and stages do.

    `flows`: the names of the flows that are observed, with those of their stages. `now`: a clock, of which only
    differences count; trio's own is the default with an offset, at three times the price.
    """

    def __init__(self, flows: Mapping[str, Iterable[str]], now: Callable[[], float] = perf_counter) -> None:
        self.now = now
        self.flows = {name: FlowFigures(stages) for name, stages in flows.items()}
        self._turns: dict[TurnState, float] = {}
        self._lanes: dict[Turn, Lane] = {}
        self._asked: dict[TurnState, dict[int, float]] = {}
        self._joins: WeakKeyDictionary[Join[Any], tuple[str, str]] = WeakKeyDictionary()

    def lane(self, view: Turn) -> Lane | None:
        """What a stage is doing in a turn that runs."""
        return self._lanes.get(view)

    def stages(self) -> dict[tuple[str, str], StageFigures]:
        """By flow and stage, what was done up to now, in runs that go on too."""
        sums: dict[tuple[str, str], StageFigures] = {}
        for name, flow in self.flows.items():
            for stage, figures in flow.stages.items():
                sums[name, stage] = copy(figures)
                sums[name, stage].waited_s = dict(figures.waited_s)
        now = self.now()
        for view, lane in self._lanes.items():
            sums[view.flow, view.stage].add(lane, now)
        return sums

    def joins(self) -> Iterator[tuple[str, str, int, int]]:
        """Each join of the running turns: flow, the stage that it leads to, items, capacity."""
        for join, (flow, stage) in self._joins.items():
            if join.takers:
                yield flow, stage, len(join.items), join.capacity

    def ears(self) -> Iterator[tuple[str, Ear]]:
        """The ear of each running turn, with the flow's name."""
        for state in self._turns:
            yield state.flow, state.ear

    def turn_started(self, turn: TurnState) -> None:
        self._turns[turn] = self.now()
        self.flows[turn.flow].running += 1

    def turn_ended(self, turn: TurnState, reason: str) -> None:
        flow = self.flows[turn.flow]
        flow.running -= 1
        flow.duration.add(self.now() - self._turns.pop(turn))
        self.interrupted(turn, 0)
        self._asked.pop(turn, None)

    def turn_told(self, turn: TurnState, reason: str) -> None:
        self.flows[turn.flow].results[reason] += 1

    def interrupting(self, turn: TurnState, run: int) -> None:
        self._asked.setdefault(turn, {}).setdefault(run, self.now())

    def interrupted(self, turn: TurnState, run: int) -> None:
        asked = self._asked.get(turn, {})
        if run in asked:  # two may ask for the same, and are told both
            self.flows[turn.flow].silence.add(self.now() - asked.pop(run))
        if not asked:
            self._asked.pop(turn, None)

    def joined(self, turn: TurnState, flow: Any, join: Join[Any]) -> None:
        while flow.parts:
            flow = flow.parts[0]
        self._joins[join] = (turn.flow, flow.name)

    def stage_started(self, turn: Turn, stage: str) -> None:
        self._lanes[turn] = Lane(self.flows[turn.flow].stages[stage], self.now())

    def stage_ended(self, turn: Turn, stage: str, error: BaseException | None) -> None:
        lane = self._lanes.pop(turn)
        lane.figures.add(lane, self.now())
        errors = lane.figures.errors
        for leaf in flat(error) if error is not None else ():
            if not isinstance(leaf, (ReceiverGone, *NOT_ITS_OWN)):
                name = type(leaf).__name__
                errors[name if name in errors or len(errors) < ERROR_CLASSES else OTHER] += 1

    # What a module does with its ends and its turn after its stage has left is nobody's figure.

    def waits_for_input(self, turn: Turn, stage: str) -> None:
        if (lane := self._lanes.get(turn)) is not None:
            now = self.now()
            if lane.input_since is not None:  # a wait that was given up
                lane.input_s += now - lane.input_since
            lane.input_since = now

    def item_in(self, turn: Turn, stage: str, item: object) -> None:
        if (lane := self._lanes.get(turn)) is not None:
            lane.moved_at = now = self.now()
            lane.items_in += 1
            if lane.input_since is not None:
                lane.input_s += now - lane.input_since
                lane.input_since = None
            if lane.asked_at is None:
                lane.asked_at = now

    def waits_for_room(self, turn: Turn, stage: str, item: object) -> None:
        if (lane := self._lanes.get(turn)) is not None:
            lane.room_since = now = self.now()
            if lane.asked_at is not None:
                lane.figures.first_output.add(now - lane.asked_at)
                lane.asked_at = None

    def item_out(self, turn: Turn, stage: str, item: object) -> None:
        if (lane := self._lanes.get(turn)) is not None:
            lane.moved_at = now = self.now()
            lane.items_out += 1
            if lane.room_since is not None:
                lane.room_s += now - lane.room_since
                lane.room_since = None

    def waits_for_client(self, turn: Turn, stage: str, item: object) -> None:
        if (lane := self._lanes.get(turn)) is not None:
            lane.client_since = self.now()

    def replied(self, turn: Turn, stage: str, item: object) -> None:
        if (lane := self._lanes.get(turn)) is not None:
            lane.moved_at = now = self.now()
            lane.replies += 1
            if lane.client_since is not None:
                waited_s = now - lane.client_since
                lane.client_s += waited_s
                lane.client_since = None
                if lane.asked_at is not None:  # what the client takes is no time of the stage's
                    lane.asked_at += waited_s
