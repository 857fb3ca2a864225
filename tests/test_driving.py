"""ezflow/driving.py: a module's function, driven."""

import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from ezflow import Inbox, Module, Outbox, Turn, TurnFailed, module
from ezflow.channels import channel
from ezflow.driving import give_all


async def test_all_items_are_given_in_order_where_there_is_room_for_some(nursery, autojump_clock):
    give, take = channel(3)

    async def give_them() -> None:
        await give_all(give, list(range(20)))
        give.close()

    nursery.start_soon(give_them)
    assert [item async for item in take] == list(range(20))


async def test_all_items_go_through_an_outbox_that_takes_one_at_a_time():
    given: list[Any] = []

    class Slow:
        async def send(self, item: Any) -> None:
            given.append(item)

    await give_all(Slow(), [1, 2, 3])
    assert given == [1, 2, 3]


async def test_what_a_generator_asks_of_another_is_known_to_trio():
    known: list[object] = []

    async def other() -> AsyncIterator[int]:
        yield 1

    @module
    async def asks(item: int) -> AsyncIterator[int]:
        known.append(sys.get_asyncgen_hooks().firstiter)
        async for found in other():
            yield found

    before = sys.get_asyncgen_hooks()
    assert await asks.collect([1, 2]) == [1, 1]
    assert known == [before.firstiter] * 2
    assert before.firstiter is not None
    assert sys.get_asyncgen_hooks() == before


async def test_a_generator_without_end_lets_others_run():
    @module
    async def endless(item: int) -> AsyncIterator[int]:
        while True:
            yield item

    async def cancel(scope: trio.CancelScope) -> None:
        await trio.lowlevel.checkpoint()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel, nursery.cancel_scope)
        await endless.collect([1])
    assert nursery.cancel_scope.cancelled_caught


async def test_a_process_may_give_an_iterator_of_its_own():
    class Twice:
        def __init__(self, item: int) -> None:
            self._left = [item, item]

        def __aiter__(self) -> "Twice":
            return self

        async def __anext__(self) -> int:
            if not self._left:
                raise StopAsyncIteration
            return self._left.pop()

    @module
    class Doubles(Module[int, int]):
        def process(self, item: int, turn: Turn) -> AsyncIterator[int]:
            return Twice(item)

    assert await Doubles().collect([1, 2]) == [1, 1, 2, 2]


async def test_a_function_that_fails_in_the_middle_of_many_items_fails_its_turn():
    @module
    def picky(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    with pytest.raises(TurnFailed) as failed:
        await picky.collect(range(10))
    assert [str(error) for error in failed.value.exceptions] == ["three"]


async def test_what_was_gathered_from_many_items_at_once_is_whole():
    @module
    class Sum(Module[int, int]):
        async def run(self, inbox: Inbox[int], outbox: Outbox[int], turn: Turn) -> None:
            await outbox.send(sum([item async for item in inbox]))

    @module
    def same(item: int) -> int:
        return item

    assert await (same >> same >> Sum()).collect(range(1000)) == [sum(range(1000))]
