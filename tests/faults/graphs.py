"""Random flows, each with what it must give, said on lists.

A `Plan` is a flow and its model. The model turns an `Order` of marks into another: `Then` is what comes one after the
other, `Beside` what may come in any way between each other, as the outputs of `a | b` do. Every stage signs what it
gives, so that no two marks are equal, and to compare is to look where each of them came.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

import attrs
import trio
from hypothesis import strategies as st

from ezflow import (
    Flow,
    Inbox,
    Latest,
    Module,
    Outbox,
    Turn,
    batch,
    fallback,
    module,
    ordered,
    race,
    retry,
    route,
    timeout,
)

LONG_S = 1e6  # longer than any of these flows takes, on the virtual clock


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
Model = Callable[[Order], Order]


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


@attrs.frozen
class Plan:
    """A flow and its model; for one item it gives at most `fan` and takes at most `seconds`."""

    flow: Flow[Any, Any]
    model: Model
    fan: int
    seconds: float


# ---- stages


@attrs.frozen
class Habit:
    """What a stage does with an item: as many copies as `copies` says for its number, each after `seconds`."""

    name: str
    copies: tuple[int, ...]
    seconds: float

    def of(self, mark: Mark) -> list[Mark]:
        return [mark.by(self.name, place) for place in range(self.copies[mark.number % len(self.copies)])]


def function(habit: Habit) -> Flow[Mark, Mark]:
    @module
    def value(mark: Mark) -> Mark:
        return mark.by(habit.name, 0)

    return value


def awaited(habit: Habit) -> Flow[Mark, Mark]:
    @module
    async def later(mark: Mark) -> Mark:
        await trio.sleep(habit.seconds)
        return mark.by(habit.name, 0)

    return later


def generator(habit: Habit) -> Flow[Mark, Mark]:
    @module
    def several(mark: Mark) -> Iterator[Mark]:
        yield from habit.of(mark)

    return several


def async_generator(habit: Habit) -> Flow[Mark, Mark]:
    @module
    async def streamed(mark: Mark, turn: Turn) -> AsyncIterator[Mark]:
        await trio.sleep(habit.seconds)
        for copy in habit.of(mark):
            yield copy
            await trio.sleep(habit.seconds)

    return streamed


@module
class Whole(Module[Mark, Mark]):
    """The `run` form."""

    habit: Habit

    async def run(self, inbox: Inbox[Mark], outbox: Outbox[Mark], turn: Turn) -> None:
        async for mark in inbox:
            await trio.sleep(self.habit.seconds)
            for copy in self.habit.of(mark):
                await outbox.send(copy)


@attrs.define(eq=False)
class Tally:
    """How often a stage was given each item."""

    counts: Counter[Mark] = attrs.field(factory=Counter)

    def once_more(self, mark: Mark) -> int:
        self.counts[mark] += 1
        return self.counts[mark]


@module
class Fails(Module[Mark, Mark]):
    """Fails at items whose number leaves `rest`; the first `times` times that it is given such a one."""

    name_: str
    divisor: int
    rest: int
    times: float = math.inf
    seconds: float = 0.0
    tried: Tally = attrs.field(factory=Tally)

    def hits(self, mark: Mark) -> bool:
        return mark.number % self.divisor == self.rest

    async def process(self, mark: Mark, turn: Turn) -> Mark:
        await trio.sleep(self.seconds)
        if self.hits(mark) and self.tried.once_more(mark) <= self.times:
            raise ValueError(f"{self.name_} does not like {mark}")
        return mark.by(self.name_, 0)


@module
def spread(group: tuple[Mark, ...]) -> Iterator[Mark]:
    for place, mark in enumerate(group):
        yield mark.by(f"{place} of {len(group)}", 0)


@module
class Paced(Module[Mark, Mark]):
    """Gives each item on after a pause."""

    pause_s: float

    async def process(self, mark: Mark, turn: Turn) -> Mark:
        await trio.sleep(self.pause_s)
        return mark


@module
class Together(Module[Mark, Mark]):
    """Gives all items at once, after the last has come."""

    async def run(self, inbox: Inbox[Mark], outbox: Outbox[Mark], turn: Turn) -> None:
        for mark in [mark async for mark in inbox]:
            await outbox.send(mark)


PLAIN = {function, awaited}
FORMS = [function, awaited, generator, async_generator, Whole]
DELAYS = st.sampled_from([0.0, 0.0, 0.01, 0.3, 2.0])


# ---- plans


@attrs.define
class Names:
    """Signatures of stages, each another one."""

    last: int = 0

    def next(self) -> str:
        self.last += 1
        return f"s{self.last}"


@st.composite
def leaves(draw: st.DrawFn, names: Names) -> Plan:
    form = draw(st.sampled_from(FORMS))
    copies = (1,) if form in PLAIN else tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=3)))
    seconds = 0.0 if form in (function, generator) else draw(DELAYS)
    habit = Habit(names.next(), copies, seconds)
    return Plan(
        form(habit),
        lambda order: each(order, lambda mark: Then(tuple(habit.of(mark)))),
        max(copies),
        (max(copies) + 1) * seconds,
    )


def in_series(plans: Sequence[Plan]) -> Plan:
    def then(first: Plan, second: Plan) -> Plan:
        return Plan(
            first.flow >> second.flow,
            lambda order: second.model(first.model(order)),
            first.fan * second.fan,
            first.seconds + first.fan * second.seconds,
        )

    return reduce(then, plans)


@st.composite
def side_by_side(draw: st.DrawFn, names: Names, depth: int, alone: bool) -> Plan:
    some = draw(st.lists(plans(names, depth, alone), min_size=2, max_size=3))
    flow = reduce(lambda one, other: one | other, (plan.flow for plan in some))
    return _together(flow, some, lambda order: Beside(tuple(plan.model(order) for plan in some)))


@st.composite
def routed(draw: st.DrawFn, names: Names, depth: int, alone: bool) -> Plan:
    some = draw(st.lists(plans(names, depth, alone), min_size=2, max_size=3))
    count = len(some)

    def model(order: Order) -> Order:
        return Beside(tuple(plan.model(_of(order, key)) for key, plan in enumerate(some)))

    def _of(order: Order, key: int) -> Order:
        return each(order, lambda mark: mark if mark.number % count == key else Then())

    with_otherwise = draw(st.booleans())
    cases = {key: plan.flow for key, plan in enumerate(some[: -1 if with_otherwise else None])}
    flow = route(lambda mark: mark.number % count, cases, otherwise=some[-1].flow if with_otherwise else None)
    return _together(flow, some, model)


def _together(flow: Flow[Any, Any], some: Sequence[Plan], model: Model) -> Plan:
    return Plan(flow, model, sum(plan.fan for plan in some), sum(plan.seconds for plan in some))


@st.composite
def in_order(draw: st.DrawFn, names: Names, depth: int) -> Plan:
    inner = draw(plans(names, depth, True))
    return Plan(ordered(inner.flow, draw(st.integers(1, 4))), _each_alone(inner), inner.fan, inner.seconds)


def _each_alone(inner: Plan) -> Model:
    """Of a combinator that runs its flow once for each item: outputs of one do not mix with those of the next."""
    return lambda order: each(order, inner.model)


@st.composite
def in_time(draw: st.DrawFn, names: Names, depth: int) -> Plan:
    inner = draw(plans(names, depth, True))
    return Plan(timeout(inner.flow, LONG_S), _each_alone(inner), inner.fan, inner.seconds)


@st.composite
def tried_again(draw: st.DrawFn, names: Names, depth: int) -> Plan:
    inner = draw(plans(names, depth, True))
    times, divisor = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    flaky = Fails(names.next(), divisor, 0, times, draw(DELAYS))
    flow = retry(flaky >> inner.flow, times + 1, wait_s=0.01)
    seconds = (times + 1) * flaky.seconds + 0.01 * 2**times + inner.seconds
    return Plan(flow, lambda order: each(order, lambda m: inner.model(m.by(flaky.name_, 0))), inner.fan, seconds)


@st.composite
def standing_in(draw: st.DrawFn, names: Names, depth: int) -> Plan:
    """`fallback`: flows that fail at some items or take too long for them, and one that does not."""
    last = draw(plans(names, depth, True))
    earlier: list[tuple[Fails, Plan]] = []
    flows: list[Flow[Any, Any]] = []
    for _ in range(draw(st.integers(1, 2))):
        inner, divisor = draw(plans(names, depth, True)), draw(st.integers(1, 3))
        fails = Fails(names.next(), divisor, draw(st.integers(0, divisor - 1)), seconds=draw(DELAYS))
        earlier.append((fails, inner))
        flows.append(fails >> inner.flow)

    def model(mark: Mark) -> Order:
        for fails, inner in earlier:
            if not fails.hits(mark):
                return inner.model(mark.by(fails.name_, 0))
        return last.model(mark)

    some = [*(inner for _, inner in earlier), last]
    seconds = sum(fails.seconds for fails, _ in earlier) + sum(plan.seconds for plan in some)
    flow = fallback(*flows, last.flow)
    return Plan(flow, lambda order: each(order, model), max(plan.fan for plan in some), seconds)


@st.composite
def raced(draw: st.DrawFn, names: Names) -> Plan:
    """`race` of stages of which each needs another time, some of them failing at some items."""
    seconds = draw(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=2, max_size=4, unique=True))
    divisor = draw(st.integers(1, 3))
    runners = [Fails(names.next(), divisor, draw(st.integers(0, divisor)), seconds=s) for s in seconds[:-1]]
    runners.append(Fails(names.next(), 1, 1, seconds=seconds[-1]))  # which never fails

    def model(mark: Mark) -> Order:
        winner = min((runner for runner in runners if not runner.hits(mark)), key=lambda runner: runner.seconds)
        return mark.by(winner.name_, 0)

    return Plan(race(*runners), lambda order: each(order, model), 1, max(seconds))


@st.composite
def batched(draw: st.DrawFn) -> Plan:
    """`batch`, which is full or waits for the end; how it groups what comes in no fixed order, nobody can say."""
    size = draw(st.integers(1, 4))

    def model(order: Order) -> Order:
        items, groups = marks(order), []
        for start in range(0, len(items), size):
            groups.append(spread(tuple(items[start : start + size])))
        return Then(tuple(mark for group in groups for mark in group))

    return Plan(batch(size, LONG_S) >> spread, model, 1, LONG_S)


def is_straight(order: Order) -> bool:
    """Is there one order alone in which its marks can come?"""
    if isinstance(order, Mark):
        return True
    filled = [part for part in order.parts if marks(part)]
    return all(map(is_straight, filled)) and (isinstance(order, Then) or len(filled) <= 1)


@st.composite
def plans(draw: st.DrawFn, names: Names, depth: int, alone: bool) -> Plan:
    """Any plan; `alone`: within a combinator that runs it once for each item."""
    if not depth:
        return draw(leaves(names))
    inner = depth - 1
    return draw(
        st.one_of(
            leaves(names),
            st.lists(plans(names, inner, alone), min_size=2, max_size=3).map(in_series),
            side_by_side(names, inner, alone),
            routed(names, inner, alone),
            in_order(names, inner),
            tried_again(names, inner),
            standing_in(names, inner),
            in_time(names, inner),
            raced(names),
        )
    )


@st.composite
def graphs(draw: st.DrawFn, count: int) -> Plan:
    """A plan for `count` items, at whose end there may be what is not possible in its middle."""
    names = Names()
    plan = draw(plans(names, draw(st.sampled_from([3, 2, 1])), False))
    numbers = Then(tuple(map(Mark, range(count))))
    ending = draw(st.sampled_from(["", "", "batch", "paced", "together"]))
    if ending == "batch" and is_straight(plan.model(numbers)):
        return in_series([plan, draw(batched())])
    if ending == "paced":
        inner = draw(plans(names, 1, True))
        latest = Paced(inner.seconds + 1) >> Latest(inner.flow)
        return in_series([plan, Plan(latest, _each_alone(inner), inner.fan, inner.seconds)])
    if ending == "together" and is_straight(plan.model(numbers)):
        inner, slow = draw(plans(names, 1, True)), Habit(names.next(), (1,), 0.5)
        flow = Together() >> Latest(awaited(slow) >> inner.flow)
        return in_series([plan, Plan(flow, lambda order: _newest(order, slow, inner), inner.fan, inner.seconds)])
    return plan


def _newest(order: Order, slow: Habit, inner: Plan) -> Order:
    return Then(tuple(inner.model(mark.by(slow.name, 0)) for mark in marks(order)[-1:]))
