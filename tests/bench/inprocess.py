"""Items through pass-through stages: the engine beside the same thing written by hand, all in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import trio

from ezflow import Flow, Module, Turn, module

from .figures import Figures

__all__ = ["ITEMS", "chain", "measure", "same", "slow_path"]

ITEMS = "items/s, {} stages"
WALL_ITEMS = "items/s by the clock, {} stages"
DEPTHS = (3, 10)


@module
class Pass(Module[int, int]):
    """Gives each item on."""

    async def process(self, item: int, turn: Turn) -> AsyncIterator[int]:
        yield item


@module
def same(item: int) -> int:
    return item


slow_path = Pass()


def measure(figures: Figures, *, short: bool) -> None:
    """One round: so many items a second of CPU time (other work on the machine does not count), and of the clock."""
    for depth in DEPTHS:
        items = (3_000 if short else 180_000) // depth
        for name, work in workloads(depth).items():
            work(64)  # what is imported when it is first needed is no part of it
            begun, begun_cpu = time.perf_counter(), time.process_time()
            done = work(items)
            cpu, wall = time.process_time() - begun_cpu, time.perf_counter() - begun
            if done != items:
                figures.wrong.append(f"{name}, {depth} stages: {items} items went in, {done} came out")
            figures.add(ITEMS.format(depth), name, items / cpu)
            figures.add(WALL_ITEMS.format(depth), name, items / wall)


def workloads(stages: int) -> dict[str, Callable[[int], int]]:
    """By name: a function that sends so many items through and returns how many came out."""
    return {
        "drained": lambda n: trio.run(_drained, stages, n),
        "functions": lambda n: trio.run(_flow, chain(same, stages), n),
        "generators": lambda n: trio.run(_flow, chain(slow_path, stages), n),
        "asyncio": lambda n: asyncio.run(_asyncio(stages, n)),
        "plain": lambda n: trio.run(_plain, stages, n),
        "nested": lambda n: trio.run(_nested, stages, n),
    }


TITLES = {
    "drained": "trio channels of 64, drained by hand",
    "functions": "ezflow, function modules",
    "generators": "ezflow, generator modules",
    "asyncio": "asyncio.Queue(64) by hand",
    "plain": "plain trio channels of 64",
    "nested": "nested async generators (no concurrency: the limit)",
}


def chain(one: Flow[int, int], stages: int) -> Flow[int, int]:
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


async def _plain(stages: int, items: int) -> int:
    async with trio.open_nursery() as nursery:
        first, take = trio.open_memory_channel[int](64)
        take = plain_stages(nursery, take, stages)

        async def source() -> None:
            async with first:
                for item in range(items):
                    await first.send(item)

        nursery.start_soon(source)
        count = 0
        async for _ in take:
            count += 1
    return count


def plain_stages(
    nursery: trio.Nursery, take: trio.MemoryReceiveChannel[int], stages: int
) -> trio.MemoryReceiveChannel[int]:
    """Start the stages; gives where what they pass on comes out."""

    async def stage(take: trio.MemoryReceiveChannel[int], give: trio.MemorySendChannel[int]) -> None:
        async with take, give:
            async for item in take:
                await give.send(item)

    for _ in range(stages):
        give, following = trio.open_memory_channel[int](64)
        nursery.start_soon(stage, take, give)
        take = following
    return take


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


async def _nested(stages: int, items: int) -> int:
    async def source() -> AsyncIterator[int]:
        for item in range(items):
            yield item

    async def stage(before: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in before:
            yield item

    take: AsyncIterator[int] = source()
    for _ in range(stages):
        take = stage(take)
    count = 0
    async for _ in take:
        count += 1
    return count
