"""Who gets the next free place."""

from __future__ import annotations

from math import inf

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stdlib_modules.http.errors import BackendTimeout, Faults
from stdlib_modules.http.slots import Slots

FAULTS = Faults("Voice", "http://127.0.0.1:9", {}, {})


class Line:
    """Tasks that take a place each, and note in which order they had it."""

    def __init__(self, slots: Slots, nursery: trio.Nursery) -> None:
        self.slots = slots
        self.nursery = nursery
        self.had: list[str] = []

    async def join(self, name: str) -> trio.CancelScope:
        """`ann 1` is ann's."""
        scope = trio.CancelScope()

        async def take() -> None:
            with scope:
                await self.slots.take(name.split()[0], inf, FAULTS)
                self.had.append(name)

        self.nursery.start_soon(take)
        await wait_all_tasks_blocked()
        return scope

    async def served(self, times: int) -> list[str]:
        for _ in range(times):
            self.slots.give_back()
            await wait_all_tasks_blocked()
        return self.had


async def test_users_are_served_in_turn_and_each_in_order() -> None:
    slots = Slots(1, inf)
    await slots.take("eve", inf, FAULTS)
    async with trio.open_nursery() as nursery:
        line = Line(slots, nursery)
        for name in ["ann 1", "ann 2", "ann 3", "bob 1", "cid 1", "bob 2"]:
            await line.join(name)
        assert slots.waiting == 6
        assert await line.served(6) == ["ann 1", "bob 1", "cid 1", "ann 2", "bob 2", "ann 3"]
    slots.give_back()
    assert (slots.free, slots.waiting) == (1, 0)


async def test_a_newcomer_does_not_pass_those_who_wait() -> None:
    slots = Slots(1, inf)
    await slots.take("eve", inf, FAULTS)
    async with trio.open_nursery() as nursery:
        line = Line(slots, nursery)
        await line.join("ann 1")
        slots.give_back()
        await line.join("bob 1")
        assert line.had == ["ann 1"]
        assert await line.served(1) == ["ann 1", "bob 1"]


async def test_whoever_leaves_the_queue_is_passed_over() -> None:
    slots = Slots(1, inf)
    await slots.take("eve", inf, FAULTS)
    async with trio.open_nursery() as nursery:
        line = Line(slots, nursery)
        scopes = [await line.join(name) for name in ["ann 1", "ann 2", "bob 1"]]
        scopes[0].cancel()
        await wait_all_tasks_blocked()
        assert await line.served(2) == ["ann 2", "bob 1"]
    assert slots.free == 0


async def test_a_place_given_back_in_the_moment_of_a_cancellation_is_not_lost() -> None:
    for cancel_first in (True, False):
        slots = Slots(1, inf)
        await slots.take("eve", inf, FAULTS)
        async with trio.open_nursery() as nursery:
            line = Line(slots, nursery)
            scope = await line.join("ann 1")
            if cancel_first:
                scope.cancel()
            slots.give_back()
            scope.cancel()
            await wait_all_tasks_blocked()
        assert slots.free + len(line.had) == 1
        assert slots.waiting == 0


async def test_all_places_are_there_after_many_cancellations_in_the_queue() -> None:
    slots = Slots(3, inf)
    for _ in range(3):
        await slots.take("eve", inf, FAULTS)
    async with trio.open_nursery() as nursery:
        line = Line(slots, nursery)
        scopes = [await line.join(f"{'abc'[n % 3]} {n}") for n in range(60)]
        for scope in scopes[::2]:
            scope.cancel()
        assert len(await line.served(30)) == 30
    for _ in range(3):
        slots.give_back()
    assert (slots.free, slots.waiting) == (3, 0)


async def test_whoever_waits_is_told_in_time_however_many_came_before(autojump_clock) -> None:
    slots = Slots(2, 60.0)
    told: list[float] = []

    async def ask(number: int) -> None:
        with pytest.raises(BackendTimeout, match=r"none of its 2 places became free within 60 s: see whether it hangs"):
            await slots.take(f"user {number}", inf, FAULTS)
        told.append(trio.current_time())

    for _ in range(2):
        await slots.take("eve", inf, FAULTS)
    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(ask, number)
    assert told == [60.0] * 50
    assert (slots.free, slots.waiting) == (0, 0)
    async with trio.open_nursery() as nursery:  # who gave up before has no turn before who comes now
        line = Line(slots, nursery)
        for name in ["new 1", "user 0"]:
            await line.join(name)
        assert await line.served(2) == ["new 1", "user 0"]


async def test_what_is_wanted_by_an_earlier_time_is_waited_for_no_longer(autojump_clock) -> None:
    slots = Slots(1, 60.0)
    await slots.take("eve", inf, FAULTS)
    with pytest.raises(BackendTimeout, match="no connection became free in the time there is"):
        await slots.take("ann", 5.0, FAULTS)
    assert trio.current_time() == 5.0
