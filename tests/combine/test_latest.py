"""Latest: a new item ends the run before, whole, and takes its place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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

from ezflow import Flow, Latest, fallback, race, retry
from ezflow.testing import collect


async def test_an_item_that_nothing_follows_runs_to_its_end(autojump_clock):
    events = await timeline(Latest(Sleepy()), [(0, 3)])
    assert [(e.t, e.type, e.run) for e in events] == [
        (0, "turn.started", None),
        (3, "json", 1),
        (3, "turn.ended", None),
    ]


async def test_a_new_item_ends_the_run_at_work_at_that_moment(autojump_clock):
    log = Log()
    events = await timeline(Latest(Sleepy(log)), [(0, 10), (2, 3)])
    assert [(e.t, e.type, e.run, e.item) for e in events[1:]] == [
        (2, "interrupted", 1, None),
        (5, "json", 2, 3),
        (5, "turn.ended", None, None),
    ]
    assert log.entries == [(2, "10 cancelled")]


async def test_a_run_that_is_done_and_heard_is_not_interrupted(autojump_clock):
    events = await timeline(Latest(Sleepy()), [(0, 1), (2, 3)])
    assert [e.type for e in events] == ["turn.started", "json", "json", "turn.ended"]
    assert items(events) == [(1, 1), (5, 3)]


async def test_each_of_three_quick_items_ends_the_one_before(autojump_clock):
    events = await timeline(Latest(Sleepy()), [(0, 5), (1, 6), (2, 1)])
    assert [(e.t, e.run) for e in events if e.type == "interrupted"] == [(1, 1), (2, 2)]
    assert items(events) == [(3, 1)]


async def test_every_stage_of_a_run_is_ended_with_it(autojump_clock):
    log = Log()
    flow = Latest(Repeat(2) >> Sleepy(log) >> Sleepy(log))
    events = await timeline(flow, [(0, 4), (6, 1)])
    assert sorted(log.entries) == [(6, "4 cancelled"), (6, "4 cancelled")]
    assert items(events) == [(8, 1), (9, 1)]


async def test_the_last_run_finishes_after_the_end_of_input(autojump_clock):
    assert items(await timeline(Latest(Repeat(2) >> Sleepy()), [(0, 9), (1, 2)])) == [(3, 2), (5, 2)]


async def test_the_stages_before_and_after_go_on_while_runs_change(autojump_clock):
    events = await timeline(Add(1) >> Latest(Sleepy()) >> Add(100, 1), [(0, 8), (1, 1)])
    assert items(events) == [(4, 102)]


async def test_no_reply_of_an_interrupted_run_follows_its_interruption(autojump_clock):
    events = await timeline(Latest(Says("say", count=2, seconds=5)), [(0, 1), (2, 7)])
    marked = [(e.type, e.run) for e in events]
    cut = marked.index(("interrupted", 1))
    assert ("text", 1) not in marked[cut:]
    assert [item for t, item in items(events) if t >= 2] == ["say 7.0", "say 7.1", 7, "say 7 done"]


async def test_an_error_in_a_run_fails_the_turn(autojump_clock):
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="broken at 1")):
        await collect(Latest(Breaks()), [1])


@pytest.mark.parametrize("capacity", [0, 1, 16])
async def test_it_ends_when_the_next_stage_has_taken_enough(autojump_clock, capacity):
    flow = Endless() >> Latest(Add()) >> Take(2)
    assert await flow.collect([5], capacity=capacity) == [5, 6]


async def test_a_latest_inside_another_is_ended_with_its_run(autojump_clock):
    events = await timeline(Latest(Add() >> Latest(Sleepy())), [(0, 9), (1, 2)])
    assert items(events) == [(3, 2)]


@module
class Grumbles(Module[int, int]):
    """Fails in the moment in which it is ended."""

    async def process(self, item: int, turn: Turn) -> int:
        try:
            await trio.sleep(item)
        except trio.Cancelled:
            raise ValueError("not now") from None
        return item


@pytest.mark.parametrize(
    "answering",
    [partial(retry, attempts=2), lambda flow: fallback(flow, Add()), lambda flow: race(flow, Silent(9))],
    ids=["retry", "fallback", "race"],
)
async def test_a_failure_that_would_be_answered_does_not_end_the_turn_when_its_run_is_superseded(
    answering: Callable[[Flow[int, int]], Flow[int, int]], autojump_clock, caplog
):
    events = await timeline(Latest(answering(Grumbles() | Silent(9))), [(0, 9), (1, 2)])
    assert [(e.t, e.type, e.run, e.item) for e in events[1:]] == [
        (1, "interrupted", 1, None),
        (3, "json", 2, 2),
        (10, "turn.ended", None, None),
    ]
    assert "ValueError: not now" in caplog.text
