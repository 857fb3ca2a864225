"""Compositions that must type-check, with the types they must have. Read by test_typing.py, not imported."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import assert_type

from ezflow import (
    Audio,
    Flow,
    Inbox,
    Latest,
    Module,
    Outbox,
    Turn,
    Utterance,
    batch,
    fallback,
    module,
    ordered,
    race,
    resource,
    retry,
    route,
    timeout,
)


class Client:
    def ask(self, text: str) -> str:
        return text


@module
class Hears(Module[Audio | Utterance, str]):
    async def process(self, sound: Audio | Utterance, turn: Turn) -> str:
        return str(sound)


@module
class Answers(Module[str, str]):
    model: str
    mark: str = "!"
    client: Client = resource()

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        self.client = Client()
        yield

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield self.client.ask(text) + self.mark


@module(blocking=True)
class Speaks(Module[str, Audio]):
    def process(self, text: str, turn: Turn) -> Iterator[Audio]:
        yield Audio(b"", 24_000, text=text)


@module
class Joins(Module[str, list[str]]):
    async def run(self, inbox: Inbox[str], outbox: Outbox[list[str]], turn: Turn) -> None:
        await outbox.send([text async for text in inbox])


@module
def plain(text: str) -> str:
    return text


@module
async def awaited(text: str, turn: Turn) -> int:
    return len(text)


@module
async def generated(text: str) -> AsyncIterator[str]:
    yield text


def length(text: str) -> int:
    return len(text)


assert_type(Hears() >> Answers("m") >> Speaks(), Flow[Audio | Utterance, Audio])
assert_type(Answers(model="m", mark="?") >> plain >> awaited, Flow[str, int])
assert_type(generated >> plain, Flow[str, str])
assert_type(Answers("m") >> length, Flow[str, int])
assert_type(plain("called as the function it is"), str)
# pyright does not tell batch what it is fed (mypy does), but lets it be what is needed.
batched: Flow[str, tuple[str, ...]] = Answers("m") >> batch(8, 0.05)
assert_type(Answers("m") >> Joins(), Flow[str, list[str]])
assert_type(ordered(Speaks(), 3), Flow[str, Audio])
assert_type(timeout(retry(Speaks(), 3), 5.0), Flow[str, Audio])
assert_type((Answers("m") >> Speaks()).budget(first_reply_s=1.2, total_s=8), Flow[str, Audio])
assert_type(Hears() >> Latest(plain.budget(total_s=1) >> Speaks()), Flow[Audio | Utterance, Audio])
assert_type(fallback(Answers("a").budget(first_reply_s=1), Answers("b")), Flow[str, str])
assert_type(Latest(Answers("m") >> Speaks()), Latest[str, Audio])
assert_type(fallback(Answers("a"), Answers("b")), Flow[str, str])
assert_type(race(Answers("a"), plain), Flow[str, str])
assert_type(route(len, {1: Answers("a"), 2: Answers("b")}), Flow[str, str])
assert_type(Answers("m") | Speaks(), Flow[str, str | Audio])
assert_type(length | Answers("m"), Flow[str, int | str])
assert_type((Answers("m") >> Speaks()).shown(), Flow[str, Audio])
assert_type(Answers("m").named("second"), Flow[str, str])

# Variance: what takes more fits where less is given, and what gives less fits where more is taken.
narrow: Flow[Audio, str] = Hears()
wide: Flow[str, object] = Speaks()


async def collected() -> list[Audio]:
    return await (Answers("m") >> Speaks()).collect(["hello"])
