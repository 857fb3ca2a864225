"""race: the first output wins, the others are closed."""

from __future__ import annotations

import pytest
import trio
from standins import (
    Add,
    Breaks,
    Endless,
    Log,
    Module,
    Repeat,
    Says,
    Silent,
    Sleepy,
    Take,
    Turn,
    items,
    module,
    timeline,
)

from ezflow import race


async def test_the_first_output_wins(autojump_clock):
    assert items(await timeline(race(Add(100, 3), Add(200, 2), Add(300, 4)), [(0, 1)])) == [(2, 201)]


async def test_the_winner_goes_on_alone(autojump_clock):
    flow = race(Add(0, 1) >> Repeat(3) >> Add(0, 1), Sleepy())
    assert items(await timeline(flow, [(0, 5)])) == [(2, 5), (3, 5), (4, 5)]


async def test_the_losers_are_cancelled_at_that_moment(autojump_clock):
    log = Log()
    await race(Add(0, 2), Sleepy(log), Sleepy(log)).collect([9])
    assert log.entries == [(2, "9 cancelled"), (2, "9 cancelled")]


async def test_each_item_is_a_race_of_its_own(autojump_clock):
    assert await race(Sleepy(), Add(100, 3)).collect([1, 5, 2]) == [1, 105, 2]


async def test_the_replies_of_the_losers_are_never_heard(autojump_clock):
    events = await timeline(race(Says("slow", 2, 3), Says("fast", 2, 1)), [(0, 1)])
    assert items(events) == [(0, "fast 1.0"), (0, "fast 1.1"), (1, 1), (1, "fast 1 done")]


async def test_replies_keep_their_order_when_two_stages_of_the_winner_reply(autojump_clock):
    flow = race(Says("a", 3) >> Says("b", 3), Silent(9))
    told = [item for _, item in items(await timeline(flow, [(0, 1)], ear=1)) if isinstance(item, str)]
    assert sorted(told) == ["a 1 done", "a 1.0", "a 1.1", "a 1.2", "b 1 done", "b 1.0", "b 1.1", "b 1.2"]
    assert [word for word in told if word[0] == "a"] == ["a 1.0", "a 1.1", "a 1.2", "a 1 done"]
    assert [word for word in told if word[0] == "b"] == ["b 1.0", "b 1.1", "b 1.2", "b 1 done"]


@pytest.mark.parametrize("capacity", [0, 1, 16])
async def test_flows_that_reply_much_before_their_first_output_do_not_wait_for_each_other(autojump_clock, capacity):
    flow = race(Says("a", 100, 1), Says("b", 100, 2))
    assert await flow.collect([7], capacity=capacity) == [7]
    assert trio.current_time() == 1


async def test_a_flow_that_fails_is_out_of_the_race(autojump_clock, caplog):
    assert await race(Breaks(), Add(1, 2)).collect([1]) == [2]
    assert "out of the race" in caplog.text


async def test_all_errors_count_when_all_fail(autojump_clock):
    with pytest.RaisesGroup(
        pytest.RaisesExc(ValueError, match="broken at 1"), pytest.RaisesExc(ValueError, match="broken at 2")
    ):
        await race(Breaks(), Add(1) >> Breaks(seconds=1)).collect([1])


async def test_a_winner_that_fails_later_fails_the_turn(autojump_clock):
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="broken at 1")):
        await race(Breaks(after=1), Add(1, 2)).collect([1])


async def test_a_loser_that_fails_while_it_leaves_does_not_fail_the_turn(autojump_clock, caplog):
    @module
    class Clumsy(Module[int, int]):
        async def process(self, item: int, turn: Turn) -> int:
            try:
                await trio.sleep(9)
            finally:
                raise ValueError("dropped something")
            return item

    assert await race(Clumsy(), Add(1, 1)).collect([1]) == [2]
    assert "dropped something" in caplog.text


async def test_when_nobody_gives_an_output_all_replies_are_heard(autojump_clock):
    events = await timeline(race(Silent(1, "one"), Silent(2, "two"), Breaks()), [(0, 1)])
    assert items(events) == [(1, "one"), (2, "two")]


@pytest.mark.parametrize("capacity", [0, 1, 16])
async def test_it_ends_when_the_next_stage_has_taken_enough(autojump_clock, capacity):
    assert await (Endless() >> race(Add(), Silent(1)) >> Take(2)).collect([5], capacity=capacity) == [5, 6]
