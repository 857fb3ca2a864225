"""What the combinators share: they hold one flow, or several of which each takes the same items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs

from ..flow import Flow, as_flow

__all__ = ["Around", "Choice", "number"]

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


def number(
    bound: Callable[[Any, attrs.Attribute[Any], Any], object],
) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """A bound for a field that is a number; that it is one, check() says with all other faults."""

    def validate(flow: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if isinstance(value, int | float):
            bound(flow, field, value)

    return validate


@attrs.frozen(repr=False)
class Around(Flow[In, Out]):
    """A combinator over one flow."""

    flow: Flow[In, Out]

    def __attrs_post_init__(self) -> None:
        # Not a converter: for the type checkers, In and Out are those of the flow that is given.
        object.__setattr__(self, "flow", as_flow(self.flow))

    @property
    def parts(self) -> tuple[Flow[Any, Any], ...]:
        return (self.flow,)

    def with_parts(self, parts: Sequence[Flow[Any, Any] | None]) -> Flow[Any, Any]:
        (part,) = parts
        return self if part is None else attrs.evolve(self, flow=part)

    def __repr__(self) -> str:
        rest = [repr(getattr(self, field.name)) for field in attrs.fields(type(self)) if field.name != "flow"]
        name = type(self).__name__
        return f"{name if name == 'Latest' else name.lower()}({', '.join([repr(self.flow), *rest])})"


@attrs.frozen(repr=False)
class Choice(Flow[In, Out]):
    """A combinator over several flows that stand in for each other."""

    flows: tuple[Flow[Any, Any], ...]

    @property
    def parts(self) -> tuple[Flow[Any, Any], ...]:
        return self.flows

    def with_parts(self, parts: Sequence[Flow[Any, Any] | None]) -> Flow[Any, Any]:
        kept = tuple(part for part in parts if part is not None)
        return kept[0] if len(kept) == 1 else attrs.evolve(self, flows=kept)

    def __repr__(self) -> str:
        return f"{type(self).__name__.lower()}({', '.join(map(repr, self.parts))})"
