"""`|`, and graphs of all pure combinators against a model of lists."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from standins import (
    Add,
    Breaks,
    Endless,
    Keep,
    Log,
    Module,
    Repeat,
    Sleepy,
    Take,
    Turn,
    items,
    module,
    timeline,
)
from trio.testing import MockClock

from ezflow import Inbox, Outbox, batch, fallback, ordered, race, retry, route, timeout


async def test_each_branch_gets_every_item(autojump_clock):
    assert sorted(await (Add(100) | Add(200)).collect([1, 2])) == [101, 102, 201, 202]


async def test_outputs_come_when_they_come(autojump_clock):
    assert items(await timeline(Sleepy() | Add(100) | Add(200, 1), [(0, 3)])) == [(0, 103), (1, 203), (3, 3)]


async def test_the_slowest_branch_sets_the_pace(autojump_clock):
    log = Log()

    @module
    class Noting(Module[int, int]):
        async def process(self, item: int, turn: Turn) -> int:
            log.add(str(item))
            return item

    await (Noting() | Add(0, 1)).collect(range(5), capacity=0)
    assert [at for at, _ in log.entries] == [0, 0, 1, 2, 3]


async def test_a_branch_that_has_finished_early_is_left_out(autojump_clock):
    assert sorted(await (Take(1) | Add(100)).collect([1, 2, 3])) == [1, 101, 102, 103]


async def test_it_ends_when_all_branches_have_finished(autojump_clock):
    assert sorted(await (Endless() >> (Take(1) | Take(2))).collect([5])) == [5, 5, 6]


@pytest.mark.parametrize("capacity", [0, 1, 16])
async def test_it_ends_when_the_next_stage_has_taken_enough(autojump_clock, capacity):
    assert await (Endless() >> (Add() | Add()) >> Take(2)).collect([5], capacity=capacity) == [5, 5]


async def test_an_error_in_one_branch_ends_the_others(autojump_clock):
    log = Log()
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="broken at 9")):
        await (Breaks(seconds=2) | Sleepy(log)).collect([9])
    assert log.entries == [(2, "9 cancelled")]


def parity(item: int) -> int:
    return item % 2


@module
class Flatten(Module[tuple[int, ...], int]):
    async def run(self, inbox: Inbox[tuple[int, ...]], outbox: Outbox[int], turn: Turn) -> None:
        async for some in inbox:
            for item in some:
                await outbox.send(item)


def chain(one, other):
    return one[0] >> other[0], lambda xs: other[1](one[1](xs)), one[2] and other[2]


def side_by_side(one, other):
    return one[0] | other[0], lambda xs: one[1](xs) + other[1](xs), False


def routed(one, other):
    flow = route(parity, {0: one[0], 1: other[0]})
    return flow, lambda xs: one[1]([x for x in xs if x % 2 == 0]) + other[1]([x for x in xs if x % 2]), False


def wrap(make):
    return lambda one: (make(one[0]), one[1], one[2])


# A graph is the flow, its model (a list to a list), and whether its order is fixed.
LEAVES = st.one_of(
    st.integers(-3, 3).map(lambda n: (Add(n), lambda xs: [x + n for x in xs], True)),
    st.integers(0, 3).map(lambda n: (Add(n, n), lambda xs: [x + n for x in xs], True)),
    st.integers(0, 3).map(lambda n: (Repeat(n), lambda xs: [x for x in xs for _ in range(n)], True)),
    st.integers(1, 3).map(lambda n: (Keep(n), lambda xs: [x for x in xs if x % n == 0], True)),
)
WRAPS = [
    wrap(lambda flow: ordered(flow, 2)),
    wrap(lambda flow: fallback(flow, Breaks())),
    wrap(lambda flow: fallback(Breaks(), flow)),
    wrap(lambda flow: race(flow, Breaks())),
    wrap(lambda flow: retry(flow, 2)),
    wrap(lambda flow: timeout(flow, 10_000.0)),
    wrap(lambda flow: flow.shown()),
    lambda one: (one[0] >> batch(3, 0.5) >> Flatten(), one[1], one[2]),
]
GRAPHS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(chain, inner, inner),
        st.builds(side_by_side, inner, inner),
        st.builds(routed, inner, inner),
        st.tuples(st.sampled_from(WRAPS), inner).map(lambda it: it[0](it[1])),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(GRAPHS, st.lists(st.integers(-9, 9), max_size=8), st.sampled_from([0, 1, 16]))
def test_any_graph_gives_what_its_model_of_lists_gives(graph, numbers, capacity):
    flow, model, in_order = graph
    if not flow.check().ok:  # a batch where items come one by one
        assert all("waits for" in fault.message for fault in flow.check().faults)
        return

    async def main():
        with trio.fail_after(100_000):
            return await flow.collect(numbers, capacity=capacity)

    got, expected = trio.run(main, clock=MockClock(autojump_threshold=0)), model(numbers)
    assert Counter(got) == Counter(expected)
    assert got == expected or not in_order
