"""What a flow must give, as far as it promises an order: `Then` is what comes one after the other, `Beside` what may
come in any way between each other, as the outputs of `a | b` do.

Every stage signs what it gives, so that no two marks are equal, and to compare is to look where each of them came.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import attrs


@attrs.frozen
class Mark:
    """An item: its number at the front of the flow, and who gave it on."""

    number: int
    trail: tuple[str, ...] = ()

    def by(self, stage: str, place: int) -> Mark:
        return Mark(self.number, (*self.trail, f"{stage}.{place}"))


@attrs.frozen
class Then:
    parts: tuple[Order, ...] = ()


@attrs.frozen
class Beside:
    parts: tuple[Order, ...] = ()


Order = Mark | Then | Beside


def marks(order: Order) -> list[Mark]:
    """All marks of an order."""
    return [order] if isinstance(order, Mark) else [mark for part in order.parts for mark in marks(part)]


def each(order: Order, change: Callable[[Mark], Order]) -> Order:
    """The order with each of its marks replaced."""
    return change(order) if isinstance(order, Mark) else type(order)(tuple(each(part, change) for part in order.parts))


def differences(given: Sequence[Mark], order: Order, whole: bool = True) -> list[str]:
    """Where what was given is not what the order says; without `whole` it may stop early."""
    places = {mark: place for place, mark in enumerate(given)}
    expected = set(marks(order))
    found = [f"{mark} twice" for mark in places if list(given).count(mark) > 1] if len(places) < len(given) else []
    found += [f"{mark} unasked" for mark in places if mark not in expected]
    if whole:
        found += [f"{mark} lost" for mark in expected if mark not in places]
    return found + list(_disorder(order, places))


def _disorder(order: Order, places: dict[Mark, int]) -> Iterator[str]:
    if isinstance(order, Mark):
        return
    for part in order.parts:
        yield from _disorder(part, places)
    parts = [part for part in order.parts if marks(part)] if isinstance(order, Then) else []
    for before, after in pairwise(parts):
        last = max(places.get(mark, math.inf) for mark in marks(before))
        first = min(places.get(mark, math.inf) for mark in marks(after))
        if first < math.inf and last > first:
            yield f"{after} before the end of {before}"


def is_straight(order: Order) -> bool:
    """Is there one order alone in which its marks can come?"""
    if isinstance(order, Mark):
        return True
    filled = [part for part in order.parts if marks(part)]
    return all(map(is_straight, filled)) and (isinstance(order, Then) or len(filled) <= 1)
