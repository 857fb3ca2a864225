"""ordered: items side by side, outputs and replies in the order of the inputs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from standins import (
    Add,
    Breaks,
    Endless,
    Log,
    Module,
    Repeat,
    Says,
    Sleepy,
    Take,
    Turn,
    items,
    module,
    timeline,
)
from trio.testing import MockClock

from ezflow import ordered


async def test_outputs_leave_in_the_order_of_the_inputs(autojump_clock):
    events = await timeline(ordered(Sleepy(), 3) >> Add(), [(0, 3), (0, 1), (0, 2)])
    assert items(events) == [(3, 3), (3, 1), (3, 2)]


async def test_items_are_at_work_at_the_same_time(autojump_clock):
    assert await ordered(Sleepy(), 3).collect([4, 4, 4]) == [4, 4, 4]
    assert trio.current_time() == 4


async def test_no_more_than_the_limit_are_at_work(autojump_clock):
    assert await ordered(Sleepy(), 2).collect([4, 4, 4]) == [4, 4, 4]
    assert trio.current_time() == 8


async def test_with_a_limit_of_one_items_go_one_by_one(autojump_clock):
    await ordered(Sleepy(), 1).collect([1, 2, 3])
    assert trio.current_time() == 6


async def test_an_early_output_is_not_held_back_by_later_items(autojump_clock):
    events = await timeline(ordered(Sleepy(), 2), [(0, 1), (0, 5)])
    assert items(events)[0] == (1, 1)


async def test_replies_stand_between_the_outputs_in_the_order_of_the_inputs(autojump_clock):
    @module
    class Slower(Module[int, int]):
        async def process(self, item: int, turn: Turn) -> AsyncIterator[int]:
            await turn.reply(f"begin {item}")
            await trio.sleep(item)
            yield item
            await turn.reply(f"end {item}")

    events = await timeline(ordered(Slower(), 3), [(0, 3), (0, 1), (0, 2)])
    told = [event.item for event in events if event.item is not None and isinstance(event.item, str)]
    assert told == ["begin 3", "end 3", "begin 1", "end 1", "begin 2", "end 2"]
    assert [item for _, item in items(events) if isinstance(item, int)] == [3, 1, 2]


async def test_shown_stages_inside_keep_the_order_too(autojump_clock):
    events = await timeline(ordered(Sleepy().shown() >> Add(100), 3) >> Repeat(0), [(0, 3), (0, 1), (0, 2)])
    assert [item for _, item in items(events)] == [3, 1, 2]


async def test_the_first_error_ends_the_items_at_work(autojump_clock):
    log = Log()
    flow = ordered(Sleepy(log) >> Breaks(), 3)
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="broken at 1")):
        await flow.collect([5, 1, 6])
    assert sorted(log.entries) == [(1, "5 cancelled"), (1, "6 cancelled")]


@pytest.mark.parametrize("capacity", [0, 1, 16])
async def test_it_ends_when_the_next_stage_has_taken_enough(autojump_clock, capacity):
    assert await (Endless() >> ordered(Add(), 2) >> Take(2)).collect([5], capacity=capacity) == [5, 6]


@pytest.mark.parametrize("capacity", [0, 1, 16])
async def test_runs_that_wait_with_full_lanes_end_with_the_next_stage(autojump_clock, capacity):
    log = Log()
    flow = ordered(Repeat(100) >> Add(), 3) >> Take(2)
    assert await flow.collect(range(10), capacity=capacity) == [0, 0]
    flow = ordered(Sleepy(log), 3) >> Take(1)
    assert await flow.collect([1, 50, 60], capacity=capacity) == [1]
    # The second output finds nobody: what would follow it is not finished first.
    assert log.entries == [(50, "60 cancelled")]
    assert trio.current_time() == 50


async def test_a_reply_when_nobody_listens_any_more_ends_the_stage(autojump_clock):
    assert await (ordered(Says("x", count=40), 2) >> Take(1)).collect([1, 2, 3]) == [1]


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="limit"):
        ordered(Add(), 0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 9), max_size=12),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([0, 1, 16]),
)
def test_outputs_are_those_of_one_by_one_whatever_the_delays(numbers, limit, times, capacity):
    async def main():
        return await ordered(Sleepy() >> Repeat(times), limit).collect(numbers, capacity=capacity)

    got = trio.run(main, clock=MockClock(autojump_threshold=0))
    assert got == [number for number in numbers for _ in range(times)]
