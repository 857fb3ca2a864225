"""A session: a user's place as one flow sees it, where that flow's turns are begun."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs
import trio

from .channels import Single, Sink
from .flow import Flow, cut
from .history import History
from .open_turn import OpenTurn
from .place import Place
from .request import entry_index, read_options
from .stage import Stage, map_stages
from .timeline import Timeline

__all__ = ["Session"]


class Session:
    """One user's place on the server: at most one turn at a time, and the conversation's history.

    A new turn ends the one before it, and starts when every stage of that one has left. A user's sessions with
    flows that are opened together share all of this.
    """

    __slots__ = ("_flow", "_guard", "_stages", "flow_name", "place")

    def __init__(
        self,
        place: Place,
        flow: Flow[Any, Any],
        flow_name: str,
        stages: Sequence[Stage],
        guard: Callable[[Stage], Callable[[object], None]],
    ) -> None:
        self.place = place
        self.flow_name = flow_name
        self._flow = flow
        self._stages = stages
        self._guard = guard

    @property
    def user(self) -> str:
        return self.place.user

    @property
    def history(self) -> History:
        return self.place.history

    @property
    def kept(self) -> dict[Any, Any]:
        """What modules keep of this user from turn to turn, each under a key of its own; it ends with the session."""
        return self.place.kept

    @property
    def threads(self) -> trio.CapacityLimiter:
        return self.place.threads

    def turn(
        self,
        item: Any,
        *,
        entry: int | str = 0,
        options: Mapping[str, Any] | None = None,
        show: Collection[str] = (),
        timeline: bool = False,
    ) -> OpenTurn:
        """One item through the flow from `entry` on: `async for event in session.turn("hello")`.

        `show`: stages that are shown in this turn besides those that the flow shows. `timeline`: its events also
        tell what each stage is doing. It starts when it is first awaited. Leave the loop early under
        `async with session.turn(...) as events:` to end the turn there and then.
        Raises: EntryError; InputError for options that do not fit; ItemTypeError for an item that does not.
        """
        turn = self._make(entry, options, Single(item), Sink(), show, timeline=timeline)
        turn.check_item(item)
        return turn

    def live(
        self,
        *,
        entry: int | str = 0,
        options: Mapping[str, Any] | None = None,
        show: Collection[str] = (),
        timeline: bool = False,
    ) -> OpenTurn:
        """A turn that is fed as it runs: `async with session.live() as live: await live.send(audio)`.

        Until `end`, what is fed or taken keeps it alive: `turn_s` counts from the last of it.
        """
        return self._make(entry, options, None, Sink(), show, live=True, timeline=timeline)

    async def interrupt(self) -> int | None:
        """End the running turn: returns its id once every stage has left; None if there is none. Raises: StageStuck."""
        return await self.place.interrupt()

    def collecting(self, options: Mapping[str, Any] | None, items: list[Any]) -> OpenTurn:
        """A turn that is fed as it runs, and whose outputs are gathered in `items`."""
        return self._make(0, options, None, Sink(items))

    def _make(
        self,
        entry: int | str,
        options: Mapping[str, Any] | None,
        inbox: Single[Any] | None,
        sink: Sink,
        show: Collection[str] = (),
        live: bool = False,
        timeline: bool = False,
    ) -> OpenTurn:
        index = entry_index(entry, self._stages)
        flow = cut(self._flow, index, len(self._stages))
        assert flow is not None
        if show:
            flow = map_stages(flow, lambda stage: attrs.evolve(stage, is_shown=stage.is_shown or stage.name in show))
        read = read_options(options or {}, self._stages)
        limits = self.place.limits
        observers = (*limits.instruments, Timeline()) if timeline else limits.instruments
        return OpenTurn(
            self, limits, self.place.begin, self.place.stored, flow, read, self._guard, inbox, sink, live, observers
        )
