"""Small modules whose doings a test sees from outside: server and test are one process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import trio

from ezflow import Audio, Module, Transcript, Turn, module

__all__ = ["Floods", "Hears", "Seen", "Speech", "Talks"]


@attrs.define(eq=False)
class Seen:
    """What a module did."""

    count: int = 0
    left: trio.Event = attrs.Factory(trio.Event)


@module
class Talks(Module[str, str]):
    """Says a word, and no other until its turn is ended."""

    seen: Seen

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        try:
            yield f"{text} "
            await trio.sleep_forever()
        finally:
            self.seen.left.set()


@module
class Floods(Module[str, str]):
    """Says texts of 64 KiB, and counts them; from the event `answers` on, if there is one."""

    seen: Seen
    times: int = 2000
    asked: trio.Event = attrs.Factory(trio.Event)
    answers: trio.Event | None = None

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        self.asked.set()
        if self.answers is not None:
            await self.answers.wait()
        for _ in range(self.times):
            self.seen.count += 1
            yield "x" * 65_536


@module
class Hears(Module[Audio, str]):
    """Hears a question in any sound; says how much sound it was."""

    async def process(self, sound: Audio, turn: Turn) -> str:
        await turn.reply(Transcript("a", final=False))
        await turn.reply(Transcript("a question"))
        return f"{sound.samples} at {sound.rate_hz} Hz in {sound.channels}"


@module
class Speech(Module[Audio, Audio]):
    """Tells a sound from silence, as a recogniser would: what is not silent says `hello`."""

    async def process(self, sound: Audio, turn: Turn) -> Audio:
        return attrs.evolve(sound, text="hello" if any(sound.pcm) else "")
