"""Small modules with exact virtual delays, and a turn as a list of times: for the combinators' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import trio

from ezflow import Event, Flow, Inbox, Module, Outbox, Turn, TurnClosedError, module


@attrs.define(eq=False)
class Log:
    """What modules did and when, seen from outside."""

    entries: list[tuple[float, str]] = attrs.Factory(list)

    def add(self, what: str) -> None:
        self.entries.append((trio.current_time(), what))


@module
class Add(Module[int, int]):
    """Adds `amount`, `seconds` later."""

    amount: int = 0
    seconds: float = 0.0

    async def process(self, item: int, turn: Turn) -> int:
        if self.seconds:
            await trio.sleep(self.seconds)
        return item + self.amount


@module
class Repeat(Module[int, int]):
    """Gives each item `times` times."""

    times: int

    async def process(self, item: int, turn: Turn) -> AsyncIterator[int]:
        for _ in range(self.times):
            yield item


@module
class Keep(Module[int, int]):
    """Gives on what `by` divides."""

    by: int

    async def process(self, item: int, turn: Turn) -> AsyncIterator[int]:
        if item % self.by == 0:
            yield item


@module
class Sleepy(Module[int, int]):
    """Gives each item on after as many seconds as the item says."""

    log: Log = attrs.field(factory=Log)

    async def process(self, item: int, turn: Turn) -> int:
        try:
            await trio.sleep(item)
        except trio.Cancelled:
            self.log.add(f"{item} cancelled")
            raise
        return item


@module
class Take(Module[int, int]):
    """Gives the first `count` items on and is done."""

    count: int

    async def run(self, inbox: Inbox[int], outbox: Outbox[int], turn: Turn) -> None:
        for _ in range(self.count):
            await outbox.send(await inbox.receive())


@module
class Endless(Module[int, int]):
    """Counts from its first item on, for ever, one a second."""

    async def run(self, inbox: Inbox[int], outbox: Outbox[int], turn: Turn) -> None:
        number = await inbox.receive()
        while True:
            await outbox.send(number)
            await trio.sleep(1)
            number += 1


@module
class Breaks(Module[int, int]):
    """Gives an item `after` times, then fails, `seconds` later."""

    after: int = 0
    seconds: float = 0.0
    log: Log = attrs.field(factory=Log)

    async def process(self, item: int, turn: Turn) -> AsyncIterator[int]:
        self.log.add(f"begin {item}")
        for _ in range(self.after):
            yield item
        if self.seconds:
            await trio.sleep(self.seconds)
        raise ValueError(f"broken at {item}")


@module
class Says(Module[int, int]):
    """Replies `count` words about an item, gives it `seconds` later, and replies once more."""

    word: str
    count: int = 1
    seconds: float = 0.0

    async def process(self, item: int, turn: Turn) -> AsyncIterator[int]:
        for place in range(self.count):
            await turn.reply(f"{self.word} {item}.{place}")
        await trio.sleep(self.seconds)
        yield item
        await turn.reply(f"{self.word} {item} done")


@module
class Silent(Module[int, int]):
    """Gives nothing, after `seconds`; replies `word` if it has one."""

    seconds: float = 0.0
    word: str = ""

    async def process(self, item: int, turn: Turn) -> AsyncIterator[int]:
        await trio.sleep(self.seconds)
        if self.word:
            await turn.reply(self.word)
        for _ in ():
            yield item


async def timeline(flow: Flow[int, Any], feed: Sequence[tuple[float, int]], **limits: Any) -> list[Event]:
    """All events of a live turn that is fed `(time, item)` and then ended."""
    events: list[Event] = []

    async def send() -> None:
        start = trio.current_time()
        try:
            for at, item in feed:
                await trio.sleep_until(start + at)
                await live.send(item)
            await live.end()
        except TurnClosedError:
            return  # the flow has finished early

    async with flow.open(**limits) as service, service.session("ann") as session:
        async with session.live() as live, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            async for event in live:
                events.append(event)
            nursery.cancel_scope.cancel()
    return events


def items(events: Sequence[Event]) -> list[tuple[float, Any]]:
    """When what was replied."""
    return [(event.t, event.item) for event in events if event.item is not None]
