"""Servers of fakes, each a program, `python tests/server/described.py NAME`: what they say of themselves is tried."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any, Literal

import attrs
from quart import Blueprint, request

from ezflow import Audio, InputError, Latest, Module, Transcript, Turn, Utterance, module, serve
from ezflow.server.ezpipe import EZPipeRequest
from ezflow.testing import FakeLLM, FakeTTS

TOKEN = "a-token-of-the-description"


@attrs.frozen
class LLMOptions:
    temperature: float = attrs.field(default=0.7, validator=[attrs.validators.ge(0), attrs.validators.le(2)])
    style: Literal["short", "long"] = "short"
    stop: tuple[str, ...] = ()
    seed: int | None = None


@module(options=LLMOptions, key="LLM")
class Tuned(Module[str, str]):
    """Says each text again, and at which temperature."""

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        turn.remember(text)
        yield text
        yield f" at {turn.options[LLMOptions].temperature}"


@module
class Hears(Module[Audio | Utterance, str]):
    """Understands how long a sound is."""

    async def process(self, sound: Audio | Utterance, turn: Turn) -> str:
        samples = sound.samples if isinstance(sound, Audio) else sum([piece.samples async for piece in sound])
        heard = f"{samples} samples"
        await turn.reply(Transcript(heard))
        return heard


@module
class Cuts(Module[Audio, Utterance]):
    """Makes an utterance of each piece of sound."""

    async def process(self, sound: Audio, turn: Turn) -> Utterance:
        return Utterance.of(sound)


@attrs.frozen
class Order:
    what: str
    count: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    notes: tuple[str, ...] = ()


@module
class Sums(Module[Order, int]):
    """Counts what is ordered; brings a route that tells what it has."""

    def routes(self) -> Blueprint:
        routes = Blueprint("goods", __name__)

        @routes.get("/goods")
        async def goods() -> dict[str, int]:
            """What there is to order."""
            return {"tea": 3}

        @routes.put("/goods/<name>")
        async def restock(name: str) -> dict[str, Any]:
            """Say how many there are."""
            count = await request.get_json(force=True)
            if type(count) is not int:
                raise InputError("body", "a number is needed")
            return {name: count}

        return routes

    async def process(self, order: Order, turn: Turn) -> int:
        return order.count


@attrs.frozen(kw_only=True)
class Arrival(EZPipeRequest):
    language: Literal["en", "de"] = "en"
    nights: int = 1


voice = Hears() >> Tuned().shown() >> FakeTTS(char_s=0.001)
WORLDS: dict[str, dict[str, Any]] = {
    "text": {"flows": Tuned(), "request": Arrival},
    "voice": {"flows": voice, "tokens": [TOKEN], "metrics": True},
    "several": {"flows": {"voice": voice, "live": Cuts() >> Latest(voice), "orders": Sums(), "chat": FakeLLM()}},
    "several-tokens": {
        "flows": {"chat": Tuned() >> FakeTTS(char_s=0.001), "orders": Sums()},
        "tokens": [TOKEN],
        "trusted": ["10.0.0.0/8"],
    },
}

if __name__ == "__main__":
    world, port = WORLDS[sys.argv[1]], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    serve(**world, port=port, rate_per_s=1e6, rate_burst=10**6)
