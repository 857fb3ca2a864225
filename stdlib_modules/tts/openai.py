"""`OpenAISpeech`: text to speech behind any server that speaks OpenAI's audio speech."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import attrs
from attrs.validators import ge, in_, le, optional

from ezflow import Audio, Turn, module

from ..http.client import Reply
from ..http.sound import PcmSplitter, WavSplitter, sounds
from ..http.stream import Ask, HTTPStream, Reads

__all__ = ["OpenAISpeech", "OpenAISpeechOptions"]

speeds = [ge(0.25), le(4.0)]


@attrs.frozen
class OpenAISpeechOptions:
    """What a request may set for its turn, under `TTS`; None leaves what the module says."""

    voice: str | None = None
    speed: float | None = attrs.field(default=None, validator=optional(speeds))
    instructions: str | None = None


WAVS = {"audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"}
COMPRESSED = {"audio/mpeg", "audio/mp3", "audio/ogg", "audio/opus", "audio/flac", "audio/aac", "audio/mp4"}


@module(options=OpenAISpeechOptions, key="TTS")
class OpenAISpeech(HTTPStream[str, Audio]):
    """Says each text, in pieces of sound as they arrive, the first with the text as its `text`.

    For OpenAI, and for Kokoro-FastAPI, Speaches, LocalAI and others: `url` is what comes before /audio/speech, `model`
    and `voice` are names that the server knows, `api_key_env` the environment variable that holds its key, None where
    it wants none. `instructions` say how to speak, where a model can be told; `speed` is 0.25 to 4. What is None is not
    sent. With `response_format="pcm"` the server does not say its rate: `pcm_hz` is OpenAI's; with "wav" it does. A
    text without a letter or digit gives nothing.

    Takes: str. Gives: Audio, at the server's rate.
    Raises: BackendError.
    Source: OpenAI's API reference, POST /audio/speech.
    """

    model: str
    voice: str = "alloy"
    url: str = attrs.field(default="https://api.openai.com/v1", kw_only=True)
    api_key_env: str | None = attrs.field(default="OPENAI_API_KEY", kw_only=True)
    speed: float | None = attrs.field(default=None, validator=optional(speeds))
    instructions: str | None = None
    response_format: str = attrs.field(default="pcm", validator=in_(["pcm", "wav"]))
    pcm_hz: int = attrs.field(default=24_000, validator=ge(1))

    reads = Reads.BYTES
    probes = "/models"
    advice: ClassVar = {
        400: "give a model and a voice that it has",
        401: "put the key into the environment variable that api_key_env names, before ezflow starts",
        404: "give a model that it has, and the url up to what stands before /audio (it often ends in /v1)",
        "unreachable": "start it, or give another url",
    }

    def ask(self, text: str, turn: Turn) -> Ask | None:
        if not any(map(str.isalnum, text)):
            return None
        asked = turn.options[OpenAISpeechOptions]
        body: dict[str, Any] = {
            "model": self.model,
            "input": text,
            "voice": asked.voice or self.voice,
            "response_format": self.response_format,
            "speed": asked.speed or self.speed,
            "instructions": asked.instructions or self.instructions,
        }
        return Ask("/audio/speech", {name: value for name, value in body.items() if value is not None})

    async def answers(self, reply: Reply, text: str, turn: Turn) -> AsyncIterator[Audio]:
        # Some servers send what they like: a WAV says what it is, and what is compressed would be heard as noise.
        kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_wav = self.response_format == "wav" or kind in WAVS
        if kind in COMPRESSED and not is_wav:
            raise reply.broken(f"sent {kind}, but pcm was asked for")
        splitter = WavSplitter(text) if is_wav else PcmSplitter(self.pcm_hz, text=text)
        async for audio in sounds(reply, splitter):
            yield audio
