"""What each stage of a turn has done so far, for whoever waits for the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Literal

import attrs
import trio

from ..errors import flat
from ..observe.observer import Observer
from ..turn import Turn
from .columns import BOLD, DIM, GREEN, RED, YELLOW, cut, padded, painted, width_of

__all__ = ["Progress"]

State = Literal["opening", "waiting", "working", "held up", "done", "failed", "stopped", "unused"]
COLOURS: dict[State, str] = {"working": BOLD, "held up": YELLOW, "done": GREEN, "failed": RED, "stopped": YELLOW}
TITLES = ("STAGE", "STATE", "IN", "OUT", "FIRST OUTPUT", "WORKED")
# What may come, so that no column moves to and fro.
WIDEST = ("", "held up", "", "", "", "")
NONE = "-"


@attrs.define
class _Doing:
    """One stage: its runs that go on, and what is known of those that are over. Times are those of trio's clock."""

    runs: dict[Turn, float] = attrs.field(factory=dict)  # since when
    ran_s: float = 0.0
    state: State = "opening"
    takes: bool = False
    first_s: float | None = None


class Progress(Observer):
    """Follows one turn of a flow. `say` hears of each stage when it first works, first gives, or fails.

    A stage that runs more than once (in a `Latest`, a `retry`) has one line for all of its runs. FIRST OUTPUT counts
    from the beginning of the turn; WORKED is the time that it did not wait for input, for room or for the client.
    """

    def __init__(self, flow: str, stages: Sequence[str], say: Callable[[str], None] = lambda _: None) -> None:
        super().__init__({flow: stages}, trio.current_time)
        self._flow = flow
        self._say = say
        self._doing = {stage: _Doing() for stage in stages}
        self.busy: list[str] = []  # when they were stopped
        self.is_over = False

    def opened(self) -> None:
        """All modules are open."""
        for doing in self._doing.values():
            doing.state = "waiting"

    def over(self) -> None:
        """The turn is over."""
        self.is_over = True
        for doing in self._doing.values():
            if not doing.takes and doing.state in ("opening", "waiting", "done"):
                doing.state = "unused"

    def stage_started(self, turn: Turn, stage: str) -> None:
        super().stage_started(turn, stage)
        self._doing[stage].runs[turn] = trio.current_time()

    def stage_ended(self, turn: Turn, stage: str, error: BaseException | None) -> None:
        doing = self._doing[stage]
        was = self._state(doing)
        super().stage_ended(turn, stage, error)
        doing.ran_s += trio.current_time() - doing.runs.pop(turn)
        if error is not None and any(not isinstance(leaf, trio.Cancelled) for leaf in flat(error)):
            doing.state = "failed"
            self._say(f"{turn.state.clock():7.2f} s  {stage}: failed")
        elif turn.deadline == -inf:
            doing.state = "stopped"
            if was in ("working", "held up"):
                self.busy.append(stage)
        else:
            doing.state = "done"

    def item_in(self, turn: Turn, stage: str, item: object) -> None:
        super().item_in(turn, stage, item)
        if not self._doing[stage].takes:
            self._doing[stage].takes = True
            self._say(f"{turn.state.clock():7.2f} s  {stage}: working")

    def waits_for_room(self, turn: Turn, stage: str, item: object) -> None:
        super().waits_for_room(turn, stage, item)
        if self._doing[stage].first_s is None:
            self._doing[stage].first_s = turn.state.clock()
            self._say(f"{turn.state.clock():7.2f} s  {stage}: first output")

    def lines(self, columns: int, *, colours: bool) -> Iterator[str]:
        """A head, and a line for each stage."""
        figures, now = self.stages(), trio.current_time()
        rows: list[tuple[State, Sequence[str]]] = []
        for stage, doing in self._doing.items():
            figure, state = figures[self._flow, stage], self._state(doing)
            ran_s = doing.ran_s + sum(now - since for since in doing.runs.values())
            worked = f"{max(0.0, ran_s - sum(figure.waited_s.values())):.2f} s" if doing.takes else NONE
            first = NONE if doing.first_s is None else f"{doing.first_s:.2f} s"
            rows.append((state, (stage, state, str(figure.items_in), str(figure.items_out), first, worked)))
        widths = [max(map(width_of, cells)) for cells in zip(WIDEST, TITLES, *(row[1] for row in rows), strict=True)]
        yield painted(_line(TITLES, widths, columns), DIM, colours)
        for state, cells in rows:
            yield painted(_line(cells, widths, columns), COLOURS.get(state, DIM), colours)

    def _state(self, doing: _Doing) -> State:
        lanes = [lane for run in doing.runs if (lane := self.lane(run)) is not None]
        if not lanes:
            return doing.state
        if any(lane.input_since is lane.room_since is lane.client_since is None for lane in lanes):
            return "working"
        return "waiting" if all(lane.input_since is not None for lane in lanes) else "held up"


def _line(cells: Sequence[str], widths: Sequence[int], columns: int) -> str:
    """Names to the left, figures to the right."""
    names = [padded(cell, most) for cell, most in zip(cells[:2], widths, strict=False)]
    figures = [f"{cell:>{most}}" for cell, most in zip(cells[2:], widths[2:], strict=True)]
    return cut("  ".join([*names, *figures]).rstrip(), columns)
