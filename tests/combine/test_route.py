"""route: each item goes to the branch of its key."""

from __future__ import annotations

import pytest
from standins import Add, Breaks, Endless, Keep, Sleepy, Take, items, timeline

from ezflow import RouteError, route


def parity(item: int) -> str:
    return "odd" if item % 2 else "even"


async def test_an_item_goes_to_the_branch_of_its_key(autojump_clock):
    flow = route(parity, {"even": Add(100), "odd": Add(200)})
    assert sorted(await flow.collect([1, 2, 3])) == [102, 201, 203]


async def test_a_slow_branch_does_not_hold_up_another(autojump_clock):
    flow = route(parity, {"even": Sleepy(), "odd": Add()})
    assert items(await timeline(flow, [(0, 4), (1, 3), (2, 5)])) == [(1, 3), (2, 5), (4, 4)]


async def test_items_of_one_key_keep_their_order(autojump_clock):
    flow = route(parity, {"even": Sleepy(), "odd": Sleepy()})
    got = await flow.collect([6, 3, 2, 1, 4, 5])
    assert [item for item in got if item % 2] == [3, 1, 5]
    assert [item for item in got if not item % 2] == [6, 2, 4]


async def test_a_key_without_a_branch_is_an_error_that_names_the_keys(autojump_clock):
    flow = route(parity, {"even": Add()})
    with pytest.RaisesGroup(pytest.RaisesExc(RouteError, match="No branch for 'odd': route has 'even'")) as failed:
        await flow.collect([2, 3])
    (error,) = failed.value.exceptions
    assert (error.key, error.keys) == ("odd", ("even",))


async def test_otherwise_takes_what_no_key_names(autojump_clock):
    flow = route(parity, {"even": Add(100)}, otherwise=Add(900))
    assert sorted(await flow.collect([2, 3])) == [102, 903]


async def test_a_function_is_a_branch_too(autojump_clock):
    def negated(item: int) -> int:
        return -item

    assert await route(parity, {"odd": negated}).collect([3]) == [-3]


async def test_an_error_in_one_branch_fails_the_turn(autojump_clock):
    flow = route(parity, {"even": Sleepy(), "odd": Breaks(seconds=1)})
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="broken at 1")):
        await flow.collect([8, 1])


@pytest.mark.parametrize("capacity", [0, 1, 16])
async def test_it_ends_when_the_next_stage_has_taken_enough(autojump_clock, capacity):
    flow = Endless() >> route(parity, {"even": Add(), "odd": Add()}) >> Take(2)
    assert await flow.collect([5], capacity=capacity) == [5, 6]


async def test_a_branch_that_has_finished_early_takes_nothing_more(autojump_clock):
    flow = route(parity, {"even": Take(1), "odd": Keep(1)})
    assert sorted(await flow.collect([2, 4, 6, 1, 3])) == [1, 2, 3]


async def test_it_ends_when_all_branches_have_finished(autojump_clock):
    flow = Endless() >> route(parity, {"even": Take(1), "odd": Take(1)})
    assert sorted(await flow.collect([0])) == [0, 1]


def test_it_is_equal_when_its_cases_are():
    assert route(parity, {"even": Add()}) == route(parity, {"even": Add()})
    assert route(parity, {"even": Add()}) != route(parity, {"odd": Add()})
    assert hash(route(parity, {"even": Add()})) == hash(route(parity, {"even": Add()}))
