"""`OpenAITranscription`: speech to text behind any server that speaks OpenAI's audio transcriptions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import ClassVar

import attrs
import msgspec

from ezflow import Audio, Transcript, Turn, Utterance, module

from ..http.bodies import File
from ..http.client import Reply
from ..http.errors import excerpt
from ..http.stream import Ask, HTTPStream, Reads

__all__ = ["OpenAITranscription", "OpenAITranscriptionOptions"]

SHORTEST_S = 0.1  # OpenAI refuses what is shorter


@attrs.frozen
class OpenAITranscriptionOptions:
    """What a request may set for its turn, under `ASR`; None leaves what the module says."""

    language: str | None = None
    prompt: str | None = None


@module(options=OpenAITranscriptionOptions, key="ASR")
class OpenAITranscription(HTTPStream[Audio | Utterance, str]):
    """Gives the words of each item, once, when it has ended; nothing for silence.

    For OpenAI, and for vLLM, whisper.cpp, Speaches and others: `url` is what comes before /audio/transcriptions,
    `model` a name that the server knows, `api_key_env` the environment variable that holds its key, None where it wants
    none. `language` ("en") spares the server a guess; `prompt` holds names and words to expect. The client gets a final
    `Transcript` before the words go on. A live Utterance is sent when it has ended. Sound of less than 0.1 s is no
    speech, and not sent.

    Takes: Audio or Utterance of any rate and channels. Gives: str, tidied: one line, single spaces.
    Raises: BackendError.
    Source: OpenAI's API reference, POST /audio/transcriptions.
    """

    model: str
    url: str = attrs.field(default="https://api.openai.com/v1", kw_only=True)
    api_key_env: str | None = attrs.field(default="OPENAI_API_KEY", kw_only=True)
    language: str | None = None
    prompt: str | None = None

    reads = Reads.JSON
    probes = "/models"
    advice: ClassVar = {
        401: "put the key into the environment variable that api_key_env names, before ezflow starts",
        404: "give a model that it has, and the url up to what stands before /audio (it often ends in /v1)",
        413: "send shorter utterances",
        "unreachable": "start it, or give another url",
    }

    def ask(self, item: Audio | Utterance, turn: Turn) -> Ask | None:
        if not isinstance(item, Audio) or item.duration_s < SHORTEST_S:
            return None
        asked = turn.options[OpenAITranscriptionOptions]
        hints = {"language": asked.language or self.language, "prompt": asked.prompt or self.prompt}
        form = {"model": self.model, "response_format": "json"} | {name: hint for name, hint in hints.items() if hint}
        return Ask("/audio/transcriptions", form=form, files={"file": File(item.to_wav(), "speech.wav", "audio/wav")})

    async def process(self, item: Audio | Utterance, turn: Turn) -> AsyncIterator[str]:
        found = super().process(item if isinstance(item, Audio) else await _whole(item), turn)
        assert isinstance(found, AsyncGenerator)
        async with aclosing(found) as texts:
            async for text in texts:
                yield text

    async def answers(self, reply: Reply, item: Audio | Utterance, turn: Turn) -> AsyncIterator[str]:
        told = await reply.json()
        text = told.get("text") if isinstance(told, dict) else None
        if not isinstance(text, str):
            raise self.failure(excerpt(msgspec.json.encode(told)))
        text = " ".join(text.split())
        if text:
            await turn.reply(Transcript(text))
            yield text


async def _whole(utterance: Utterance) -> Audio:
    """What was said, once it has ended; an utterance without sound is none."""
    async for _ in utterance:
        return await utterance.whole()
    return Audio(b"", 16_000)
