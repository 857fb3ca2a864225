"""timeout: an item's run may take so many seconds."""

from __future__ import annotations

import pytest
import trio
from standins import Add, Endless, Log, Module, Repeat, Sleepy, Take, Turn, items, module, timeline

from ezflow import StageTimeout, timeout


async def test_an_item_in_time_passes(autojump_clock):
    assert await timeout(Sleepy(), 5).collect([4, 4, 4]) == [4, 4, 4]


async def test_an_item_that_takes_longer_fails_the_turn_and_names_the_flow(autojump_clock):
    log = Log()
    expected = pytest.RaisesExc(StageTimeout, match=r"^sleepy >> add took longer than 2 s\.")
    with pytest.RaisesGroup(expected) as failed:
        await timeout(Sleepy(log) >> Add(), 2).collect([1, 5])
    (error,) = failed.value.exceptions
    assert (error.flow, error.seconds) == ("sleepy >> add", 2)
    assert isinstance(error, TimeoutError)
    assert log.entries == [(3, "5 cancelled")]


async def test_the_outputs_before_it_are_heard(autojump_clock):
    events = await timeline(timeout(Repeat(3) >> Sleepy(), 5), [(0, 2)])
    assert items(events) == [(2, 2), (4, 2)]
    assert [(e.t, e.type, e.stage) for e in events[-2:]] == [(5, "error", "repeat"), (5, "turn.ended", None)]


async def test_waiting_for_the_first_item_takes_no_time(autojump_clock):
    assert items(await timeline(timeout(Sleepy(), 2), [(100, 1)])) == [(101, 1)]


async def test_the_time_of_a_slow_taker_counts(autojump_clock):
    with pytest.RaisesGroup(StageTimeout):
        await (timeout(Repeat(4), 5) >> Sleepy()).collect([3], capacity=0)


async def test_the_stages_have_left_before_the_error_goes_on(autojump_clock):
    log = Log()

    @module
    class Tidy(Module[int, int]):
        async def process(self, item: int, turn: Turn) -> int:
            try:
                await trio.sleep_forever()
            finally:
                with turn.cleanup():
                    await trio.sleep(1)
                log.add("tidied")
            return item

    with pytest.RaisesGroup(StageTimeout):
        await timeout(Tidy(), 2).collect([1])
    assert log.entries == [(3, "tidied")]


@pytest.mark.parametrize("capacity", [0, 1, 16])
async def test_it_ends_when_the_next_stage_has_taken_enough(autojump_clock, capacity):
    assert await (Endless() >> timeout(Add(), 9) >> Take(2)).collect([5], capacity=capacity) == [5, 6]


@pytest.mark.parametrize("seconds", [0, -1.0])
def test_seconds_of_zero_or_less_are_refused(seconds):
    with pytest.raises(ValueError):
        timeout(Add(), seconds)
