"""batch: tuples of items, full, in time, or at the end."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from standins import Add, Endless, Module, Repeat, items, module, timeline
from trio.testing import MockClock

from ezflow import Inbox, Outbox, Turn, batch


async def test_a_full_batch_goes_on_at_once(autojump_clock):
    events = await timeline(batch(2, 10), [(0, 1), (1, 2), (3, 3), (4, 4)])
    assert items(events) == [(1, (1, 2)), (4, (3, 4))]


async def test_the_time_counts_from_the_first_item(autojump_clock):
    events = await timeline(batch(9, 5), [(2, 1), (6, 2), (8, 3)])
    assert items(events) == [(7, (1, 2)), (8, (3,))]


async def test_what_is_left_goes_on_at_the_end_of_input(autojump_clock):
    assert items(await timeline(batch(9, 100), [(0, 1), (1, 2)])) == [(1, (1, 2))]


async def test_no_batch_is_empty(autojump_clock):
    assert await batch(3, 1).collect([]) == []
    assert await batch(3, 1).collect([1, 2, 3]) == [(1, 2, 3)]


async def test_a_size_of_one_gives_singles(autojump_clock):
    assert await batch(1, 1).collect([1, 2]) == [(1,), (2,)]


async def test_it_ends_when_the_next_stage_has_taken_enough(autojump_clock):
    @module
    class First(Module[tuple[int, ...], int]):
        async def run(self, inbox: Inbox[tuple[int, ...]], outbox: Outbox[int], turn: Turn) -> None:
            await outbox.send(sum(await inbox.receive()))

    assert await (Endless() >> batch(2, 60) >> First()).collect([5]) == [11]


@pytest.mark.parametrize("capacity", [0, 1, 16])
@pytest.mark.parametrize("slow", [0.0, 1.0])
async def test_a_diamond_with_a_batch_in_one_branch_does_not_deadlock(autojump_clock, capacity, slow):
    @module
    class Total(Module[tuple[int, ...], int]):
        async def process(self, some: tuple[int, ...], turn: Turn) -> int:
            await trio.sleep(slow)
            return sum(some)

    flow = Add() | (batch(4, 0.5) >> Total())
    with trio.fail_after(1000):
        got = await flow.collect(range(50), capacity=capacity)
    assert sum(got) == 2 * sum(range(50))


@pytest.mark.parametrize(("size", "within_s"), [(0, 1.0), (2, -1.0)])
def test_a_size_or_time_that_cannot_be_is_refused(size, within_s):
    with pytest.raises(ValueError):
        batch(size, within_s)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(), max_size=30), st.integers(1, 7), st.integers(1, 3), st.sampled_from([0, 1, 16]))
def test_batches_hold_every_item_in_order_and_none_is_too_large(numbers, size, times, capacity):
    async def main():
        return await (Repeat(times) >> batch(size, 1.0)).collect(numbers, capacity=capacity)

    got = trio.run(main, clock=MockClock(autojump_threshold=0))
    assert [item for some in got for item in some] == [n for n in numbers for _ in range(times)]
    assert all(len(some) == size for some in got[:-1])
    assert all(0 < len(some) <= size for some in got)
