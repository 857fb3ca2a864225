"""batch: tuples of items, full, in time, or at the end."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from standins import Add, Endless, Module, Repeat, items, module, timeline
from trio.testing import MockClock

from ezflow import Inbox, Outbox, Turn, batch
from ezflow.channels import Sink, channel


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


async def test_without_waiting_it_takes_what_is_there(autojump_clock):
    async def at_once():
        for number in (1, 2, 3, 4, 5):
            yield number
        await trio.sleep(1)
        yield 6

    assert await (Repeat(1) >> batch(3, 0)).collect(at_once()) == [(1, 2, 3), (4, 5), (6,)]
    assert items(await timeline(Repeat(5) >> batch(3, 0), [(0, 1), (2, 2)])) == [
        (0, (1, 1, 1)),
        (0, (1, 1)),
        (2, (2, 2, 2)),
        (2, (2, 2)),
    ]


async def test_without_waiting_it_takes_what_is_there_from_any_inbox():
    class Given:
        """An inbox that has no more than the protocol asks for."""

        def __init__(self, *numbers: int) -> None:
            self._receive = channel(len(numbers))
            for number in numbers:
                self._receive[0].offer(number)
            self._receive[0].close()

        async def receive(self) -> int:
            return await self._receive[1].receive()

        def __aiter__(self) -> Given:
            return self

        async def __anext__(self) -> int:
            return await anext(self._receive[1])

        def close(self) -> None: ...

    given = Sink([])
    await batch(2, 0).run(Given(1, 2, 3), given, None)  # type: ignore[arg-type]  # it has no use for the turn
    assert given.items == [(1, 2), (3,)]


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
