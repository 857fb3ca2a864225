"""ezflow/channels.py: bounded joins that lose and invent nothing, whoever is cancelled."""

from typing import Any

import pytest
import trio
import trio.testing

from ezflow import channels
from ezflow.channels import FAIRNESS, ReceiverGone, Single, Sink, breathe, channel, every_step


async def test_items_arrive_in_order_through_a_full_channel(nursery, autojump_clock):
    give, take = channel(2)

    async def produce() -> None:
        for number in range(1000):
            await give.send(number)
        give.close()

    nursery.start_soon(produce)
    assert [item async for item in take] == list(range(1000))


@pytest.mark.parametrize("capacity", [0, 1, 16])
async def test_a_sender_waits_when_the_channel_is_full(capacity, nursery, autojump_clock):
    give, take = channel(capacity)
    given: list[int] = []

    async def produce() -> None:
        for number in range(100):
            await give.send(number)
            given.append(number)

    nursery.start_soon(produce)
    await trio.testing.wait_all_tasks_blocked()
    assert len(given) == capacity
    assert await take.receive() == 0
    await trio.testing.wait_all_tasks_blocked()
    assert len(given) == capacity + 1
    nursery.cancel_scope.cancel()


async def test_receive_raises_end_of_channel_when_all_senders_have_closed():
    give, take = channel(4)
    twin = give.clone()
    await give.send("a")
    give.close()
    await twin.send("b")
    twin.close()
    assert [await take.receive(), await take.receive()] == ["a", "b"]
    with pytest.raises(trio.EndOfChannel):
        await take.receive()


async def test_a_waiting_receiver_ends_when_the_last_sender_closes(nursery, autojump_clock):
    give, take = channel(1)
    got: list[Any] = []

    async def consume() -> None:
        got.extend([item async for item in take])
        got.append("end")

    nursery.start_soon(consume)
    await trio.testing.wait_all_tasks_blocked()
    give.close()
    await trio.testing.wait_all_tasks_blocked()
    assert got == ["end"]


async def test_send_raises_receiver_gone_when_nobody_takes_any_more():
    give, take = channel(4)
    take.close()
    with pytest.raises(ReceiverGone):
        await give.send(1)


async def test_a_waiting_sender_learns_that_the_receiver_has_gone(nursery, autojump_clock):
    give, take = channel(0)
    outcomes: list[str] = []

    async def produce() -> None:
        with pytest.raises(ReceiverGone):
            await give.send(1)
        outcomes.append("gone")

    nursery.start_soon(produce)
    await trio.testing.wait_all_tasks_blocked()
    take.close()
    await trio.testing.wait_all_tasks_blocked()
    assert outcomes == ["gone"]


async def test_draining_takes_all_that_is_there_and_waits_only_for_the_first(nursery, autojump_clock):
    give, take = channel(10)
    for number in range(3):
        assert give.offer(number)
    assert await take.drain() == [0, 1, 2]
    drained: list[list[int]] = []

    async def drain() -> None:
        drained.append(await take.drain())
        drained.append(await take.drain())

    nursery.start_soon(drain)
    await trio.testing.wait_all_tasks_blocked()
    assert drained == []
    await give.send(3)
    give.close()
    await trio.testing.wait_all_tasks_blocked()
    assert drained == [[3], []]


async def test_an_offer_is_taken_only_where_there_is_room():
    give, take = channel(1)
    assert give.offer("a")
    assert not give.offer("b")
    assert await take.receive() == "a"
    take.close()
    with pytest.raises(ReceiverGone):
        give.offer("c")


async def test_of_many_items_as_many_are_given_as_there_is_room_for():
    give, take = channel(3)
    assert give.offer_all([1, 2]) == 2
    assert give.offer_all([3, 4]) == 1
    assert give.offer_all([4]) == 0
    assert await take.drain() == [1, 2, 3]
    take.close()
    with pytest.raises(ReceiverGone):
        give.offer_all([4])


async def test_many_items_wake_all_who_wait_for_one(nursery, autojump_clock):
    give, take = channel(4)
    got: list[Any] = []

    async def take_one(end: Any) -> None:
        got.append(await end.receive())

    for end in (take, take.clone()):
        nursery.start_soon(take_one, end)
    await trio.testing.wait_all_tasks_blocked()
    assert give.offer_all(["a", "b"]) == 2
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(got) == ["a", "b"]


async def test_without_capacity_an_item_goes_only_to_who_waits_for_it(nursery, autojump_clock):
    give, take = channel(0)
    assert not give.offer("nobody waits")
    assert give.offer_all(["nobody waits"]) == 0
    got: list[Any] = []

    async def take_two() -> None:
        got.extend([await take.receive(), await take.receive()])

    nursery.start_soon(take_two)
    await trio.testing.wait_all_tasks_blocked()
    assert give.offer("first")
    assert not give.offer("the one that waited has one")
    await give.send("second")
    await trio.testing.wait_all_tasks_blocked()
    assert got == ["first", "second"]


async def test_who_waits_at_an_end_that_is_closed_is_told_so(nursery, autojump_clock):
    give, take = channel(0)
    told: list[str] = []

    async def wait(what: str, way: Any) -> None:
        try:
            await way()
        except trio.ClosedResourceError:
            told.append(what)

    nursery.start_soon(wait, "giver", lambda: give.send(1))
    await trio.testing.wait_all_tasks_blocked()
    give.close()
    await trio.testing.wait_all_tasks_blocked()
    assert told == ["giver"]
    give, take = channel(0)
    nursery.start_soon(wait, "taker", take.receive)
    await trio.testing.wait_all_tasks_blocked()
    take.close()
    await trio.testing.wait_all_tasks_blocked()
    assert told == ["giver", "taker"]
    with pytest.raises(trio.ClosedResourceError):
        await take.receive()
    for way in (give.clone, lambda: give.offer(1)):
        give.close()
        with pytest.raises(trio.ClosedResourceError):
            way()


async def test_a_cancelled_drain_has_taken_nothing():
    give, take = channel(2)
    await give.send("kept")
    with trio.CancelScope() as scope:
        scope.cancel()
        await take.drain()
    assert scope.cancelled_caught
    assert await take.drain() == ["kept"]


async def test_a_cloned_receiver_shares_the_items():
    give, take = channel(4)
    twin = take.clone()
    await give.send(1)
    await give.send(2)
    take.close()
    assert await twin.receive() == 1
    give.close()
    assert [item async for item in twin] == [2]


async def test_a_cancelled_receive_has_taken_nothing():
    give, take = channel(1)
    await give.send("kept")
    with trio.CancelScope() as scope:
        scope.cancel()
        await take.receive()
    assert scope.cancelled_caught
    assert await take.receive() == "kept"


@pytest.mark.parametrize("waiting", [False, True])
async def test_a_cancelled_send_has_given_nothing(waiting, autojump_clock):
    give, take = channel(1)
    if waiting:
        await give.send("once")
    with trio.move_on_after(1) as scope, every_step():
        if not waiting:
            scope.cancel()
        await give.send("never")
    assert scope.cancelled_caught
    if not waiting:
        await give.send("once")
    give.close()
    assert [item async for item in take] == ["once"]


@pytest.mark.parametrize("end", ["send", "receive"])
async def test_cancelling_at_random_loses_and_doubles_nothing(end, nursery, autojump_clock):
    give, take = channel(1)
    given: list[int] = []
    taken: list[int] = []

    async def produce(scope: trio.CancelScope) -> None:
        with scope:
            for number in range(len(given), 200):
                await give.send(number)
                given.append(number)
                await trio.sleep(0.001)

    async def consume(scope: trio.CancelScope) -> None:
        with scope:
            async for item in take:
                taken.append(item)

    for pause in range(40):
        scopes = trio.CancelScope(), trio.CancelScope()
        async with trio.open_nursery() as pair:
            pair.start_soon(produce, scopes[0])
            pair.start_soon(consume, scopes[1])
            await trio.sleep(0.001 * (pause % 3))
            scopes[end == "receive"].cancel()
            await trio.testing.wait_all_tasks_blocked()
            pair.cancel_scope.cancel()
    give.close()
    taken.extend([item async for item in take])
    assert taken == given


async def test_a_busy_join_still_lets_others_run():
    """Neither end ever has to wait, yet another task gets its turns."""
    give, take = channel(FAIRNESS * 10)
    ticks = 0

    async def other() -> None:
        nonlocal ticks
        while True:
            await trio.lowlevel.checkpoint()
            ticks += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for number in range(FAIRNESS * 10):
            await give.send(number)
        for _ in range(FAIRNESS * 10):
            await take.receive()
        nursery.cancel_scope.cancel()
    assert ticks >= 10


async def test_every_step_makes_each_operation_yield():
    async def ticks_during(count: int) -> int:
        ticks = 0

        async def other() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for step in range(count):
                await breathe(step + 1)
            nursery.cancel_scope.cancel()
        return ticks

    assert await ticks_during(20) <= 1
    with every_step():
        assert channels.FAIRNESS == 1
        assert await ticks_during(20) >= 19
    assert channels.FAIRNESS == FAIRNESS


async def test_a_stage_that_only_gives_still_sees_its_cancellation():
    """Giving looks for it now and then: within so many items of it, the stage has left."""
    give, _ = channel(10 * FAIRNESS)
    given = 0
    with trio.CancelScope() as scope:
        scope.cancel()
        for given in range(10 * FAIRNESS):
            await give.send(given)
    assert scope.cancelled_caught
    assert given < FAIRNESS


async def test_breathe_always_sees_a_cancellation():
    for count in range(FAIRNESS + 1):
        with trio.CancelScope() as scope:
            scope.cancel()
            await breathe(count)
        assert scope.cancelled_caught, count


async def test_a_sink_keeps_items_or_drops_them():
    kept = Sink([])
    await kept.send(1)
    await kept.clone().send(2)
    assert kept.items == [1, 2]
    dropped = Sink()
    await dropped.send(3)
    assert dropped.items is None


async def test_a_single_gives_its_item_once():
    assert [item async for item in Single("x")] == ["x"]
    single = Single("y")
    assert await single.receive() == "y"
    with pytest.raises(trio.EndOfChannel):
        await single.receive()
    closed = Single("z")
    closed.close()
    assert [item async for item in closed] == []


async def test_a_cancelled_single_still_has_its_item():
    single = Single("x")
    with trio.CancelScope() as scope:
        scope.cancel()
        await single.receive()
    assert await single.receive() == "x"
