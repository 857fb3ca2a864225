"""Stages of random flows, in every form that a module can have."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import attrs
import trio
from orders import Mark

from ezflow import Flow, Inbox, Module, Outbox, Turn, module


@attrs.frozen
class Habit:
    """What a stage does with an item: as many copies as `copies` says for its number, each after `seconds`."""

    name: str
    copies: tuple[int, ...]
    seconds: float

    def of(self, mark: Mark) -> list[Mark]:
        return [mark.by(self.name, place) for place in range(self.copies[mark.number % len(self.copies)])]


def function(habit: Habit) -> Flow[Mark, Mark]:
    @module
    def value(mark: Mark) -> Mark:
        return mark.by(habit.name, 0)

    return value


def awaited(habit: Habit) -> Flow[Mark, Mark]:
    @module
    async def later(mark: Mark) -> Mark:
        await trio.sleep(habit.seconds)
        return mark.by(habit.name, 0)

    return later


def generator(habit: Habit) -> Flow[Mark, Mark]:
    @module
    def several(mark: Mark) -> Iterator[Mark]:
        yield from habit.of(mark)

    return several


def async_generator(habit: Habit) -> Flow[Mark, Mark]:
    @module
    async def streamed(mark: Mark, turn: Turn) -> AsyncIterator[Mark]:
        await trio.sleep(habit.seconds)
        for copy in habit.of(mark):
            yield copy
            await trio.sleep(habit.seconds)

    return streamed


@module
class Whole(Module[Mark, Mark]):
    """The `run` form."""

    habit: Habit

    async def run(self, inbox: Inbox[Mark], outbox: Outbox[Mark], turn: Turn) -> None:
        async for mark in inbox:
            await trio.sleep(self.habit.seconds)
            for copy in self.habit.of(mark):
                await outbox.send(copy)


@attrs.define(eq=False)
class Tally:
    """How often a stage was given each item."""

    counts: Counter[Mark] = attrs.field(factory=Counter)

    def once_more(self, mark: Mark) -> int:
        self.counts[mark] += 1
        return self.counts[mark]


@module
class Fails(Module[Mark, Mark]):
    """Fails at items whose number leaves `rest`, or `hangs`; the first `times` times that it is given such a one."""

    name_: str
    divisor: int
    rest: int
    times: float = math.inf
    seconds: float = 0.0
    hangs: bool = False
    tried: Tally = attrs.field(factory=Tally)

    def hits(self, mark: Mark) -> bool:
        return mark.number % self.divisor == self.rest

    async def process(self, mark: Mark, turn: Turn) -> Mark:
        await trio.sleep(self.seconds)
        if self.hits(mark) and self.tried.once_more(mark) <= self.times:
            if self.hangs:
                await trio.sleep_forever()
            raise ValueError(f"{self.name_} does not like {mark}")
        return mark.by(self.name_, 0)


@module
def spread(group: tuple[Mark, ...]) -> Iterator[Mark]:
    for place, mark in enumerate(group):
        yield mark.by(f"{place} of {len(group)}", 0)


@module
class Paced(Module[Mark, Mark]):
    """Gives each item on after a pause."""

    pause_s: float

    async def process(self, mark: Mark, turn: Turn) -> Mark:
        await trio.sleep(self.pause_s)
        return mark


@module
class Together(Module[Mark, Mark]):
    """Gives all items at once, after the last has come."""

    async def run(self, inbox: Inbox[Mark], outbox: Outbox[Mark], turn: Turn) -> None:
        for mark in [mark async for mark in inbox]:
            await outbox.send(mark)
