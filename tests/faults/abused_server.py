"""The server that clients misuse, a program: `python abused_server.py`. Its log goes to standard error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import trio
from quart import Blueprint

from ezflow import Audio, Inbox, Latest, Module, Outbox, Turn, module, serve
from ezflow.testing import FakeLLM, FakeTTS

TURN_S = 5.0  # also what a witness's live turn may be held up for


@module
class Hears(Module[Audio, str]):
    """A text for each run of sounds that are not silent, once it is over."""

    async def run(self, inbox: Inbox[Audio], outbox: Outbox[str], turn: Turn) -> None:
        samples = 0
        async for sound in inbox:
            if any(sound.pcm):
                samples += sound.samples
            elif samples:
                await outbox.send(f"{samples} samples")
                samples = 0
        if samples:
            await outbox.send(f"{samples} samples")


@module
class Talks(Module[str, str]):
    """Says what it was asked again and again, until it is stopped; then it needs a moment to leave."""

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        try:
            while True:
                yield text
                await trio.sleep(0.05)
        finally:
            with turn.cleanup():
                await trio.sleep(0.005)


@module
class Floods(Module[str, str]):
    """Says 64 KiB, as often as its client takes them."""

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        while True:
            yield "x" * 65_536


@module
class Holds(Module[str, str]):
    """Takes a text, and never another."""

    async def process(self, text: str, turn: Turn) -> str:
        await turn.reply("held")
        await trio.sleep_forever()
        return text


@module
class Echo(Module[str, str]):
    """Says each text back. `GET /echo/tasks` tells how many tasks the whole process has."""

    async def process(self, text: str, turn: Turn) -> str:
        turn.remember(text)
        return text

    def routes(self) -> Blueprint:
        routes = Blueprint("tasks", __name__)

        @routes.get("/tasks")
        async def tasks() -> dict[str, int]:
            return {"tasks": _below(trio.lowlevel.current_root_task())}

        return routes


def _below(task: Any) -> int:
    return 1 + sum(_below(child) for nursery in task.child_nurseries for child in nursery.child_tasks)


FLOWS = {
    "talk": Talks(),
    "live": Hears() >> Latest(Talks().shown() >> FakeTTS(char_s=0.001)),
    "voice": Hears() >> FakeLLM().shown() >> FakeTTS(char_s=0.001),
    "flood": Floods(),
    "hold": Holds(),
    "echo": Echo(),
}

if __name__ == "__main__":
    # Most limits are those that a server has when nobody sets any. But who has gone shall be gone: no session is kept.
    serve(FLOWS, port=0, idle_s=0.0, turn_s=TURN_S, metrics=True, playground=False, block_s=0.0)
