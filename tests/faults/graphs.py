"""Random flows, each with what it must give: a `Plan` is a flow, and its model on the order of what goes in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import attrs
from graph_stages import (
    Fails,
    Habit,
    Paced,
    Together,
    Whole,
    async_generator,
    awaited,
    function,
    generator,
    spread,
)
from hypothesis import strategies as st
from orders import Beside, Mark, Order, Then, each, is_straight, marks

from ezflow import Flow, Latest, batch, fallback, ordered, race, retry, route, timeout

LONG_S = 1e6  # longer than any of these flows takes, on the virtual clock
PATIENCE_S = 0.5  # with a stage that hangs
PLAIN = {function, awaited}
FORMS = [function, awaited, generator, async_generator, Whole]
DELAYS = st.sampled_from([0.0, 0.0, 0.01, 0.3, 2.0])
Model = Callable[[Order], Order]


@attrs.frozen
class Plan:
    """A flow and its model; for one item it gives at most `fan` and takes at most `seconds`."""

    flow: Flow[Any, Any]
    model: Model
    fan: int
    seconds: float


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
def side_by_side(draw: st.DrawFn, names: Names, depth: int) -> Plan:
    some = draw(st.lists(plans(names, depth), min_size=2, max_size=3))
    flow = reduce(lambda one, other: one | other, (plan.flow for plan in some))
    return _together(flow, some, lambda order: Beside(tuple(plan.model(order) for plan in some)))


@st.composite
def routed(draw: st.DrawFn, names: Names, depth: int) -> Plan:
    some = draw(st.lists(plans(names, depth), min_size=2, max_size=3))
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
    inner = draw(plans(names, depth))
    return Plan(ordered(inner.flow, draw(st.integers(1, 4))), _each_alone(inner), inner.fan, inner.seconds)


def _each_alone(inner: Plan) -> Model:
    """Of a combinator that runs its flow once for each item: outputs of one do not mix with those of the next."""
    return lambda order: each(order, inner.model)


@st.composite
def in_time(draw: st.DrawFn, names: Names, depth: int) -> Plan:
    inner = draw(plans(names, depth))
    return Plan(timeout(inner.flow, LONG_S), _each_alone(inner), inner.fan, inner.seconds)


@st.composite
def tried_again(draw: st.DrawFn, names: Names, depth: int) -> Plan:
    inner = draw(plans(names, depth))
    times, divisor = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    flaky = Fails(names.next(), divisor, 0, times, draw(DELAYS))
    flow = retry(flaky >> inner.flow, times + 1, wait_s=0.01)
    seconds = (times + 1) * flaky.seconds + 0.01 * 2**times + inner.seconds
    return Plan(flow, lambda order: each(order, lambda m: inner.model(m.by(flaky.name_, 0))), inner.fan, seconds)


@st.composite
def standing_in(draw: st.DrawFn, names: Names, depth: int) -> Plan:
    """`fallback`: flows that fail at some items or take too long for them, and one that does not."""
    last = draw(plans(names, depth))
    earlier: list[tuple[Fails, Plan]] = []
    flows: list[Flow[Any, Any]] = []
    for _ in range(draw(st.integers(1, 2))):
        inner, divisor = draw(plans(names, depth)), draw(st.integers(1, 3))
        rest, hangs = draw(st.integers(0, divisor - 1)), draw(st.booleans())
        fails = Fails(names.next(), divisor, rest, seconds=draw(DELAYS), hangs=hangs)
        earlier.append((fails, inner))
        flows.append((timeout(fails, fails.seconds + PATIENCE_S) if hangs else fails) >> inner.flow)

    def model(mark: Mark) -> Order:
        for fails, inner in earlier:
            if not fails.hits(mark):
                return inner.model(mark.by(fails.name_, 0))
        return last.model(mark)

    some = [*(inner for _, inner in earlier), last]
    seconds = sum(fails.seconds + PATIENCE_S for fails, _ in earlier) + sum(plan.seconds for plan in some)
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


@st.composite
def plans(draw: st.DrawFn, names: Names, depth: int) -> Plan:
    """Any plan."""
    if not depth:
        return draw(leaves(names))
    inner = depth - 1
    return draw(
        st.one_of(
            leaves(names),
            st.lists(plans(names, inner), min_size=2, max_size=3).map(in_series),
            side_by_side(names, inner),
            routed(names, inner),
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
    plan = draw(plans(names, draw(st.sampled_from([3, 2, 1]))))
    numbers = Then(tuple(map(Mark, range(count))))
    ending = draw(st.sampled_from(["", "", "batch", "paced", "together"]))
    if ending == "batch" and is_straight(plan.model(numbers)):
        return in_series([plan, draw(batched())])
    if ending == "paced":
        inner = draw(plans(names, 1))
        latest = Paced(inner.seconds + 1) >> Latest(inner.flow)
        return in_series([plan, Plan(latest, _each_alone(inner), inner.fan, inner.seconds)])
    if ending == "together" and is_straight(plan.model(numbers)):
        inner, slow = draw(plans(names, 1)), Habit(names.next(), (1,), 0.5)
        flow = Together() >> Latest(awaited(slow) >> inner.flow)
        return in_series([plan, Plan(flow, lambda order: _newest(order, slow, inner), inner.fan, inner.seconds)])
    return plan


def _newest(order: Order, slow: Habit, inner: Plan) -> Order:
    return Then(tuple(inner.model(mark.by(slow.name, 0)) for mark in marks(order)[-1:]))
