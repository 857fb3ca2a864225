"""`Hibari`: English speech from text, on the CPU, faster than a hundred times real time."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from ezflow import Audio, Module, Progress, Turn, module, resource

from ..sound import from_float32

if TYPE_CHECKING:
    import hibari

__all__ = ["Hibari", "HibariOptions"]

MAX_CHARS = 250  # some 15 s of speech; the time for a sentence grows faster than its length
CLAUSE = re.compile(r"(?<=[,;:—])\s+")
WARM_UP = "Warm up, Ezflow."  # a word that is in no lexicon: it loads the model for such words

speeds = [attrs.validators.ge(0.5), attrs.validators.le(2.0)]


@attrs.frozen
class HibariOptions:
    """What one request may ask for, under `TTS`: `speed`, 0.5 (slow) to 2.0 (fast)."""

    speed: float | None = attrs.field(default=None, validator=attrs.validators.optional(speeds))


@module(options=HibariOptions, key="TTS")
class Hibari(Module[str, Audio]):
    """Says each text, one Audio a sentence as soon as it is made, with the sentence as its `text`.

    The first sentence is ready after some 30 ms. A sentence of more than 250 characters comes in several
    pieces, split at clauses. A text with nothing to say in it (punctuation, emoji) gives nothing; of one in a script
    other than Latin the client is told so. A cancelled turn waits for the sentence at work. All turns share one
    model, which is safe in several threads; no more of them run than there are processors.
    A voice is a model of its own, so it is chosen here and not by a request. "heart" is in the package;
    another is used if it has been fetched before: opening never downloads.
    Takes: str. Gives: Audio, 24 kHz mono.
    Raises: MissingDependency; ModuleOpenError for a voice that is not there.
    Source: hibari-tts 0.2.1 (Apache-2.0).
    """

    voice: str = "heart"
    speed: float = attrs.field(default=1.0, validator=speeds)
    model: hibari.Hibari = resource()
    threads: trio.CapacityLimiter = resource()

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        self.threads = trio.CapacityLimiter(os.cpu_count() or 1)
        self.model = await trio.to_thread.run_sync(self._load, limiter=self.threads)
        yield

    async def process(self, text: str, turn: Turn) -> AsyncIterator[Audio]:
        speed = turn.options[HibariOptions].speed or self.speed
        for sentence in self.model.split_sentences(text):
            for words in _pieces(sentence):
                audio = await trio.to_thread.run_sync(self._say, words, speed, limiter=self.threads)
                if audio.samples:
                    yield audio
                elif any(map(str.isalpha, words)):
                    await turn.reply(Progress(f"Hibari speaks English alone: no sound for {words!r}."))

    def _load(self) -> hibari.Hibari:
        # onnxruntime, which it runs on, reports to its maker from its import on, if it is not told otherwise.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        with self.needs("hibari-tts", extra="speech"):
            import hibari
            from hibari.voices import VOICES, voice_path
        if self.voice not in VOICES:
            raise ValueError(f"there is no voice {self.voice!r}: hibari has {', '.join(VOICES)}.")
        try:
            voice_path(self.voice, download_missing=False)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"the voice {self.voice!r} is not on this machine: fetch it once with "
                f'`hibari --voice {self.voice} "hello"`, or use voice="heart", which is in the package. '
                f"(Looked for {error}.)"
            ) from error
        model = hibari.Hibari(voice=self.voice)
        model(WARM_UP)
        return model

    def _say(self, words: str, speed: float) -> Audio:
        import numpy as np

        spoken = [part for part in self.model.phonemize(words) if any(map(str.isalpha, part))]
        sounds = [self.model.from_phonemes(part, speed) for part in spoken]
        return from_float32(np.concatenate([np.zeros(0, np.float32), *sounds]), self.model.sample_rate, words)


def _pieces(sentence: str) -> list[str]:
    """The sentence, or if it is too long its clauses, joined as far as they fit."""
    if len(sentence) <= MAX_CHARS:
        return [sentence]
    pieces = [""]
    for clause in CLAUSE.split(sentence):
        for part in textwrap.wrap(clause, MAX_CHARS):
            joined = f"{pieces[-1]} {part}".strip()
            if len(joined) <= MAX_CHARS:
                pieces[-1] = joined
            else:
                pieces.append(part)
    return pieces
