"""fallback: the next flow, when one fails before its first output."""

from __future__ import annotations

import pytest
import trio
from standins import Add, Breaks, Endless, Log, Silent, Sleepy, Take, items, timeline

from ezflow import fallback, timeout


async def test_the_first_flow_does_the_work_when_it_can(autojump_clock):
    log = Log()
    assert await fallback(Add(1), Breaks(log=log)).collect([1, 2]) == [2, 3]
    assert log.entries == []


async def test_the_next_flow_takes_over_before_a_first_output(autojump_clock, caplog):
    events = await timeline(fallback(Breaks(seconds=2), Add(10, 1)), [(0, 1)])
    assert items(events) == [(3, 11)]
    assert "failed; falling back to the next flow" in caplog.text
    assert "ValueError: broken at 1" in caplog.text


async def test_each_item_begins_with_the_first_flow_again(autojump_clock):
    log = Log()
    assert await fallback(Breaks(log=log), Add(10)).collect([1, 2]) == [11, 12]
    assert [what for _, what in log.entries] == ["begin 1", "begin 2"]


async def test_a_flow_that_fails_after_its_first_output_fails_the_turn(autojump_clock):
    log = Log()
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="broken at 1")):
        await fallback(Breaks(after=1), Breaks(log=log)).collect([1])
    assert log.entries == []


async def test_the_last_error_counts_when_all_fail(autojump_clock):
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="broken at 3")):
        await fallback(Add(0) >> Breaks(), Add(1) >> Breaks(), Add(2) >> Breaks()).collect([1])


async def test_a_flow_that_gives_nothing_has_not_failed(autojump_clock):
    assert await fallback(Silent(), Add()).collect([1]) == []


async def test_a_timeout_is_answered(autojump_clock):
    assert await fallback(timeout(Sleepy(), 2), Add(100)).collect([5]) == [105]
    assert trio.current_time() == 2


async def test_a_failure_deep_in_a_series_leaves_no_stage_behind(autojump_clock):
    log = Log()
    flow = fallback(Add() >> Breaks() >> Sleepy(log), Add(100))
    assert await flow.collect([9]) == [109]
    assert trio.current_time() == 0


@pytest.mark.parametrize("capacity", [0, 1, 16])
async def test_it_ends_when_the_next_stage_has_taken_enough(autojump_clock, capacity):
    for flow in (fallback(Add(), Add()), fallback(Breaks(), Add())):
        assert await (Endless() >> flow >> Take(2)).collect([5], capacity=capacity) == [5, 6]


async def test_a_cancelled_turn_does_not_fall_back(autojump_clock):
    log = Log()
    with trio.move_on_after(1):
        await fallback(Sleepy(), Breaks(log=log)).collect([5])
    assert log.entries == []
    assert trio.current_time() == 1
