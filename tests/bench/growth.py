"""What one item, one turn and one more session cost: the latency of a hop, and whether anything grows."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import trio

from ezflow import Flow, Session
from ezflow.service import open_flow

from .figures import Figures
from .inprocess import chain, plain_stages, same, slow_path

__all__ = ["HOP", "ITEM", "ITEM_COUNTS", "SESSION_COUNTS", "TURN", "measure"]

HOP = "µs a hop of one item"
TURN = "µs a turn"
ITEM = "µs an item, in a turn of so many"
SHALLOW, DEEP = 3, 10
SESSION_COUNTS = (1, 10, 50)
ITEM_COUNTS = (10, 100, 1_000, 10_000)


def measure(figures: Figures, *, short: bool) -> None:
    """One round, all in CPU time."""
    hops = 200 if short else 3_000
    for name, one in {
        "functions": lambda depth: _one_by_one(chain(same, depth), hops),
        "generators": lambda depth: _one_by_one(chain(slow_path, depth), hops),
        "plain": lambda depth: _plain_one_by_one(depth, hops),
    }.items():
        shallow, deep = (
            1e6 * trio.run(_timed, lambda depth=depth, one=one: one(depth)) / hops for depth in (SHALLOW, DEEP)
        )
        # What the turn's own ends cost is in both.
        figures.add(HOP, name, (deep - shallow) / (DEEP - SHALLOW))
    for sessions in SESSION_COUNTS:
        turns = 100 if short else 1_500
        seconds = trio.run(_timed, lambda sessions=sessions, turns=turns: _turns(sessions, turns // sessions))
        figures.add(TURN, str(sessions), 1e6 * seconds / (turns // sessions * sessions))
    bare_turns = 100 if short else 1_500
    figures.add(TURN, "by hand", 1e6 * trio.run(_timed, lambda: _bare_turns(bare_turns)) / bare_turns)
    at_all = 200 if short else 1_500
    bare = trio.run(_timed, lambda: _filled(figures, at_all, 0)) / at_all
    for items in ITEM_COUNTS[:-1] if short else ITEM_COUNTS:
        turns = max(1, (2_000 if short else 20_000) // items)
        each = trio.run(_timed, lambda turns=turns, items=items: _filled(figures, turns, items)) / turns
        # The turn itself costs what a turn without an item does.
        figures.add(ITEM, str(items), 1e6 * (each - bare) / items)


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    begun = time.process_time()
    await work()
    return time.process_time() - begun


async def _one_by_one(flow: Flow[int, int], items: int) -> None:
    """Each item goes in when the one before has come out."""
    async with open_flow(flow) as service, service.session("ann") as session, session.live() as turn:
        assert (await anext(turn)).type == "turn.started"
        for item in range(items):
            await turn.send(item)
            assert (await anext(turn)).item == item


async def _plain_one_by_one(stages: int, items: int) -> None:
    async with trio.open_nursery() as nursery:
        give, take = trio.open_memory_channel[int](64)
        take = plain_stages(nursery, take, stages)
        for item in range(items):
            await give.send(item)
            assert await take.receive() == item
        give.close()


async def _turns(sessions: int, turns: int) -> None:
    """So many turns of one item in each of so many sessions at once."""

    async def converse(session: Session) -> None:
        for item in range(turns):
            async for event in session.turn(item):
                assert event.type != "error"

    async with open_flow(chain(same, SHALLOW)) as service, trio.open_nursery() as nursery:

        async def user(name: str) -> None:
            async with service.session(name) as session:
                await converse(session)

        for number in range(sessions):
            nursery.start_soon(user, f"user{number}")


async def _bare_turns(turns: int) -> None:
    """What of a turn the stages themselves are: a nursery, three tasks, four channels."""
    for item in range(turns):
        async with trio.open_nursery() as nursery:
            give, take = trio.open_memory_channel[int](16)
            take = plain_stages(nursery, take, SHALLOW)
            async with give:
                await give.send(item)
            assert [found async for found in take] == [item]


async def _filled(figures: Figures, turns: int, items: int) -> None:
    """Turns that are fed so many items while what comes out is taken."""
    async with open_flow(chain(same, SHALLOW)) as service, service.session("ann") as session:
        for _ in range(turns):
            async with session.live() as turn, trio.open_nursery() as nursery:
                nursery.start_soon(_feed, turn, items)
                found = [event.item async for event in turn if event.type == "json"]
            if found != list(range(items)):
                figures.wrong.append(f"a turn of {items} items: {len(found)} came out, or in another order")


async def _feed(turn, items: int) -> None:  # type: ignore[no-untyped-def]
    for item in range(items):
        await turn.send(item)
    await turn.end()
