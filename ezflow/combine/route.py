"""`route(by, {...})`: each item goes to the branch that its key names.

Example: `route(language_of, {"en": hibari, "zh": sovits})`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from ..branches import Door, branches
from ..channels import Inbox, Outbox
from ..errors import RouteError, StageError
from ..flow import Flow, as_flow
from ..turn import Turn

__all__ = ["Route", "route"]

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
A = TypeVar("A")
B = TypeVar("B")


def route(
    by: Callable[[A], Hashable],
    cases: Mapping[Any, Flow[A, B]],
    *,
    otherwise: Flow[A, B] | None = None,
) -> Flow[A, B]:
    """Give each item to the flow under its key, `by(item)`; outputs are merged as they come.

    Every branch runs for the whole turn, so items of one key keep their order.
    Raises, in the turn: RouteError for a key without a branch, if there is no `otherwise`.
    """
    flows = [as_flow(flow) for flow in cases.values()]
    if otherwise is not None:
        return Route(by, tuple(cases), (*flows, as_flow(otherwise)), True)
    return Route(by, tuple(cases), tuple(flows), False)


@attrs.frozen(repr=False)
class Route(Flow[In, Out]):
    by: Callable[[Any], Hashable]
    keys: tuple[Hashable, ...]
    flows: tuple[Flow[Any, Any], ...]
    has_otherwise: bool

    @property
    def parts(self) -> tuple[Flow[Any, Any], ...]:
        return self.flows

    def with_parts(self, parts: Sequence[Flow[Any, Any] | None]) -> Flow[Any, Any]:
        keys = tuple(key for key, part in zip(self.keys, parts, strict=False) if part is not None)
        kept = tuple(part for part in parts if part is not None)
        return Route(self.by, keys, kept, self.has_otherwise and parts[-1] is not None)

    async def run(self, inbox: Inbox[In], outbox: Outbox[Out], turn: Turn) -> None:
        async with branches(self.parts, outbox, turn) as doors:
            by_key = dict(zip(self.keys, doors, strict=False))
            async for item in inbox:
                await self._door(item, by_key, doors[-1] if self.has_otherwise else None).give(item)
                if not doors.open():
                    break
            inbox.close()

    def _door(self, item: In, by_key: Mapping[Hashable, Door], otherwise: Door | None) -> Door:
        try:
            key = self.by(item)
            door = by_key.get(key, otherwise)
            if door is None:
                raise RouteError(key, self.keys)
        except Exception as error:
            raise StageError("route", [error]) from error
        return door

    def __repr__(self) -> str:
        cases = ", ".join(f"{key!r}: {part!r}" for key, part in zip(self.keys, self.parts, strict=False))
        otherwise = f", otherwise={self.parts[-1]!r}" if self.has_otherwise else ""
        return f"route({getattr(self.by, '__qualname__', repr(self.by))}, {{{cases}}}{otherwise})"
