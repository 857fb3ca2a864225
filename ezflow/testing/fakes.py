"""Modules that stand for models: deterministic, with exact delays on trio's (virtual) clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import trio

from ..channels import Inbox, Outbox
from ..items import Audio, Transcript, Utterance
from ..modules import Module, module
from ..turn import Turn

__all__ = ["Failing", "FakeASR", "FakeLLM", "FakeTTS", "FakeVAD", "Pause"]


@module
class FakeASR(Module[Audio | Utterance, str]):
    """Understands the `text` that a sound carries: a partial transcript for each piece, and a final one.

    Takes `delay_s` after the end of the sound. Sound without a text gives nothing.
    """

    delay_s: float = 0.0

    async def process(self, sound: Audio | Utterance, turn: Turn) -> AsyncIterator[str]:
        heard: list[str] = []
        if isinstance(sound, Audio):
            heard.append(sound.text)
        else:
            async for piece in sound:
                heard.append(piece.text)
                await turn.reply(Transcript(" ".join(filter(None, heard)), final=False))
        await trio.sleep(self.delay_s)
        text = " ".join(filter(None, heard))
        if text:
            await turn.reply(Transcript(text))
            yield text


@module
class FakeLLM(Module[str, str]):
    """Answers with `reply`, a word at a time: the first after `first_s`, each further one after `each_s`.

    `{}` in the reply stands for the question; `{n}` for the number of messages in the history.
    """

    reply: str = "You said {}."
    first_s: float = 0.0
    each_s: float = 0.0

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        answer = self.reply.format(text, n=len(turn.history.messages))
        turn.remember(text)
        for place, word in enumerate(answer.split(" ")):
            await trio.sleep(self.each_s if place else self.first_s)
            yield f" {word}" if place else word


@module
class FakeTTS(Module[str, Audio]):
    """Says a text as silence of `char_s` a character, after `delay_s`."""

    delay_s: float = 0.0
    char_s: float = 0.05
    rate_hz: int = 24_000

    async def process(self, text: str, turn: Turn) -> Audio:
        await trio.sleep(self.delay_s)
        return Audio(bytes(2 * int(self.char_s * len(text) * self.rate_hz)), self.rate_hz, text=text)


@module
class FakeVAD(Module[Audio, Utterance]):
    """Makes one utterance of each run of sounds that carry a text or are not silent; one that does neither ends it."""

    async def run(self, inbox: Inbox[Audio], outbox: Outbox[Utterance], turn: Turn) -> None:
        utterance: Utterance | None = None
        try:
            async for audio in inbox:
                if not (audio.text or any(audio.pcm)):
                    if utterance is not None:
                        utterance.end()
                    utterance = None
                    continue
                if utterance is None:
                    utterance = Utterance()
                    await outbox.send(utterance)
                utterance.feed(audio)
        finally:
            if utterance is not None:
                utterance.end()


@module
class Pause(Module[Any, Any]):
    """Gives each item on after `seconds`."""

    seconds: float

    async def process(self, item: Any, turn: Turn) -> Any:
        await trio.sleep(self.seconds)
        return item


@module
class Failing(Module[Any, Any]):
    """Gives the first `after` items on, then fails with RuntimeError(`message`) at each."""

    message: str = "this module always fails"
    after: int = 0

    async def run(self, inbox: Inbox[Any], outbox: Outbox[Any], turn: Turn) -> None:
        count = 0
        async for item in inbox:
            count += 1
            if count > self.after:
                raise RuntimeError(self.message)
            await outbox.send(item)
