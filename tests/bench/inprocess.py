"""Items through pass-through stages: the engine beside the same thing written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import trio

from ezflow import Flow, Module, Turn, module
from ezflow.channels import channel
from ezflow.service import open_flow


@module
class Pass(Module[int, int]):
    """Gives each item on."""

    async def process(self, item: int, turn: Turn) -> AsyncIterator[int]:
        yield item


@module
def same(item: int) -> int:
    return item


def workloads(stages: int) -> dict[str, Callable[[int], int]]:
    """By name: a function that sends so many items through and returns how many came out."""
    return {
        "trio channels of 64, drained by hand": lambda n: trio.run(_drained, stages, n),
        "ezflow's channels, stages by hand": lambda n: trio.run(_own_channels, stages, n),
        "ezflow, function modules": lambda n: trio.run(_flow, _chain(same, stages), n),
        "ezflow, generator modules": lambda n: trio.run(_flow, _chain(Pass(), stages), n),
        "asyncio.Queue(64) by hand": lambda n: asyncio.run(_asyncio(stages, n)),
        "plain trio channels of 64": lambda n: trio.run(_plain, stages, n),
    }


def turns() -> dict[str, Callable[[int], int]]:
    return {
        "a nursery, 3 tasks, 3 channels, by hand": lambda n: trio.run(_bare_turns, n),
        "ezflow: session.turn to turn.ended": lambda n: trio.run(_turns, n),
    }


def _chain(one: Flow[int, int], stages: int) -> Flow[int, int]:
    flow = one
    for _ in range(stages - 1):
        flow = flow >> one
    return flow


async def _flow(flow: Flow[int, int], items: int) -> int:
    return len(await flow.collect(range(items), capacity=64))


async def _drained(stages: int, items: int) -> int:
    """As fast as trio channels go: take all that is there before yielding."""

    async def stage(take: trio.MemoryReceiveChannel[int], give: trio.MemorySendChannel[int]) -> None:
        async with take, give:
            while True:
                try:
                    item = await take.receive()
                except trio.EndOfChannel:
                    return
                while True:
                    try:
                        give.send_nowait(item)
                    except trio.WouldBlock:
                        await give.send(item)
                    try:
                        item = take.receive_nowait()
                    except (trio.WouldBlock, trio.EndOfChannel):
                        break

    async with trio.open_nursery() as nursery:
        first, take = trio.open_memory_channel[int](64)
        for _ in range(stages):
            give, following = trio.open_memory_channel[int](64)
            nursery.start_soon(stage, take, give)
            take = following
        nursery.start_soon(_source, first, items)
        count = 0
        async for _ in take:
            count += 1
            with suppress(trio.WouldBlock, trio.EndOfChannel):
                while True:
                    take.receive_nowait()
                    count += 1
    return count


async def _source(give: trio.MemorySendChannel[int], items: int) -> None:
    async with give:
        for item in range(items):
            try:
                give.send_nowait(item)
            except trio.WouldBlock:
                await give.send(item)


async def _own_channels(stages: int, items: int) -> int:
    async def stage(take, give) -> None:  # type: ignore[no-untyped-def]
        async for item in take:
            await give.send(item)
        give.close()

    async def source(give) -> None:  # type: ignore[no-untyped-def]
        for item in range(items):
            await give.send(item)
        give.close()

    async with trio.open_nursery() as nursery:
        first, take = channel(64)
        for _ in range(stages):
            give, following = channel(64)
            nursery.start_soon(stage, take, give)
            take = following
        nursery.start_soon(source, first)
        count = 0
        async for _ in take:
            count += 1
    return count


async def _plain(stages: int, items: int) -> int:
    async def stage(take: trio.MemoryReceiveChannel[int], give: trio.MemorySendChannel[int]) -> None:
        async with take, give:
            async for item in take:
                await give.send(item)

    async def source(give: trio.MemorySendChannel[int]) -> None:
        async with give:
            for item in range(items):
                await give.send(item)

    async with trio.open_nursery() as nursery:
        first, take = trio.open_memory_channel[int](64)
        for _ in range(stages):
            give, following = trio.open_memory_channel[int](64)
            nursery.start_soon(stage, take, give)
            take = following
        nursery.start_soon(source, first)
        count = 0
        async for _ in take:
            count += 1
    return count


async def _asyncio(stages: int, items: int) -> int:
    async def stage(take: asyncio.Queue[int | None], give: asyncio.Queue[int | None]) -> None:
        while (item := await take.get()) is not None:
            await give.put(item)
        await give.put(None)

    async def source(give: asyncio.Queue[int | None]) -> None:
        for item in range(items):
            await give.put(item)
        await give.put(None)

    async with asyncio.TaskGroup() as group:
        first: asyncio.Queue[int | None] = asyncio.Queue(64)
        take = first
        for _ in range(stages):
            give: asyncio.Queue[int | None] = asyncio.Queue(64)
            group.create_task(stage(take, give))
            take = give
        group.create_task(source(first))
        count = 0
        while await take.get() is not None:
            count += 1
    return count


async def _turns(turns: int) -> int:
    done = 0
    async with open_flow(_chain(same, 3)) as service, service.session("ann") as session:
        for item in range(turns):
            async for event in session.turn(item):
                done += event.reason == "done"
    return done


async def _bare_turns(turns: int) -> int:
    done = 0
    for item in range(turns):
        async with trio.open_nursery() as nursery:
            first, take = channel(16)
            for _ in range(3):
                give, following = channel(16)
                nursery.start_soon(_pass, take, give)
                take = following
            await first.send(item)
            first.close()
            async for _ in take:
                done += 1
    return done


async def _pass(take, give) -> None:  # type: ignore[no-untyped-def]
    async for item in take:
        await give.send(item)
    give.close()


__all__ = ["turns", "workloads"]
