"""Flows for the tests of the playground, on modules that stand for models: quick, and the same each time."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import attrs
import trio
from attrs.validators import ge, le
from quart import Blueprint

from ezflow import Audio, Latest, Module, Transcript, Turn, Utterance, module, resource
from ezflow.testing import Failing, FakeASR, FakeLLM, FakeVAD

RATE_HZ = 24_000
CHAR_S = 0.05


@module
class Tone(Module[str, Audio]):
    """Says a text as a tone of 50 ms a character, which a listener can tell from silence."""

    async def process(self, text: str, turn: Turn) -> Audio:
        count = round(CHAR_S * len(text) * RATE_HZ)
        wave = (round(8000 * math.sin(2 * math.pi * 440 * place / RATE_HZ)) for place in range(count))
        return Audio(struct.pack(f"<{count}h", *wave), RATE_HZ, text=text)


@module
class Endless(Module[str, str]):
    """Counts until its turn is ended; `GET /idle` answers when no turn is counting."""

    counting: set[Turn] = resource()
    idle: trio.Condition = resource()

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        self.counting = set()
        self.idle = trio.Condition()
        yield

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        self.counting.add(turn)
        try:
            for number in itertools.count(1):
                await trio.sleep(0.2)
                yield f"number {number} "  # which takes longer to say than to count
        finally:
            self.counting.remove(turn)
            with trio.CancelScope(shield=True):
                async with self.idle:
                    self.idle.notify_all()

    def routes(self) -> Blueprint:
        routes = Blueprint("endless", __name__)

        @routes.get("/idle")
        async def get_idle() -> dict[str, int]:
            async with self.idle:
                while self.counting:
                    await self.idle.wait()
            return {"counting": 0}

        return routes


@module
class Flood(Module[str, str]):
    """Gives as many words as it is told, as fast as they are taken."""

    async def process(self, count: str, turn: Turn) -> AsyncIterator[str]:
        for number in range(int(count)):
            yield f"word-{number} "


@module
class HalfHeard(Module[Audio | Utterance, str]):
    """Understands the beginning of what is said, and never the rest."""

    async def process(self, sound: Audio | Utterance, turn: Turn) -> str:
        await turn.reply(Transcript("only the beg", final=False))
        await trio.sleep_forever()


def not_loud(manner: object, field: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and value.isupper():
        raise ValueError(f"'{field.name}' must not be so loud: {value}")


@attrs.frozen
class Manner:
    times: int = attrs.field(default=1, validator=[ge(1), le(5)])
    tempo: Literal["slow", "fast"] = "slow"
    aloud: bool = False
    ending: str | None = attrs.field(default=None, validator=not_loud)


@module(options=Manner, key="manner")
class Recite(Module[str, str]):
    """Tells in what manner it would recite the text."""

    async def process(self, text: str, turn: Turn) -> str:
        manner = turn.options[Manner]
        voice = "aloud" if manner.aloud else "under its breath"
        return f"{text}, {manner.times} times, {manner.tempo}, {voice}, ending with {manner.ending or 'nothing'}"


@attrs.frozen
class Address:
    name: str = "you"
    title: str | None = "dear"
    gifts: list[str] = attrs.field(factory=list)


@module(options=Address, key="address")
class Greet(Module[str, str]):
    """Tells whom it would greet, and with what."""

    async def process(self, text: str, turn: Turn) -> str:
        address = turn.options[Address]
        return f"{text}: {address.title!r} {address.name!r} {address.gifts}"


@attrs.frozen
class Order:
    dish: str
    plates: int


@module
class Waiter(Module[Order, str]):
    """Repeats an order."""

    async def process(self, order: Order, turn: Turn) -> str:
        return f"{order.plates} plates of {order.dish}"


chat = FakeLLM(first_s=0.1, each_s=0.05).shown() >> Tone()
flows = {
    "chat": chat,
    "endless": Endless().shown() >> Tone(),
    "failing": FakeLLM().shown() >> Failing("the lamp has run out of oil"),
    "flood": Flood(),
    "reciting": Recite(),
    "greeting": Greet(),
    "ordering": Waiter(),
    "hearing": FakeASR() >> chat,
    "half-heard": HalfHeard(),
    "live": FakeVAD() >> Latest(FakeASR() >> chat),
}
