"""GPT-SoVITS's `POST /tts`, as its api_v2.py answers it."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import attrs

from ...items import Audio
from .sounds import sound_of
from .standin import Fault, Gone, Reply, Request, StandIn

__all__ = ["GPTSoVITSStandIn"]

LANGUAGES = {"auto", "auto_yue", "zh", "en", "ja", "yue", "ko", "all_zh", "all_ja", "all_yue", "all_ko"}
METHODS = {f"cut{number}" for number in range(6)}
FAILED_HZ = FAILED_SAMPLES = 16_000
STREAMED_IN = 4  # pieces


@attrs.frozen
class SpeechBody:
    text: str
    text_lang: str
    ref_audio_path: str
    aux_ref_audio_paths: list[str]
    prompt_text: str
    prompt_lang: str
    top_k: int
    top_p: float
    temperature: float
    text_split_method: str
    batch_size: int
    speed_factor: float
    streaming_mode: bool | int
    media_type: str
    seed: int
    parallel_infer: bool
    repetition_penalty: float


class GPTSoVITSStandIn(StandIn):
    """Answers with a sound that is another one for each recording, what is said in it, text and speed: `sound_of`.

    `recordings` are the paths that are on its machine; by default all are. ERROR_BODY is what the real one does for a
    text that it could not say: a second of silence.
    """

    name = "GPT-SoVITS"

    def __init__(self, *, rate_hz: int = 32_000, recordings: Container[str] | None = None, **script: Any) -> None:
        super().__init__(**script)
        self.rate_hz = rate_hz
        self.recordings = recordings
        self.spoken: list[SpeechBody] = []

    @staticmethod
    def sound_of(ref_audio_path: str, prompt_text: str, text: str, speed_factor: float = 1.0) -> bytes:
        """The samples that it answers with."""
        return sound_of(ref_audio_path, prompt_text, text=text, speed=speed_factor)

    async def answer(self, request: Request, reply: Reply) -> None:
        if (request.method, request.path) == ("GET", "/docs"):
            await reply.whole(b"<!DOCTYPE html><title>FastAPI</title>", "text/html")
        elif (request.method, request.path) == ("POST", "/tts"):
            await self._speak(self.expect(SpeechBody, request.json()), reply)
        else:
            self.problem(f"{request.method} {request.path} is no route of its")
            await reply.json({"detail": "Not Found"}, 404)

    async def _speak(self, body: SpeechBody, reply: Reply) -> None:
        self.spoken.append(body)
        if refusal := self._refusal(body):
            await reply.json(refusal, 400)
            return
        pcm = self.sound_of(body.ref_audio_path, body.prompt_text, body.text, body.speed_factor)
        sound = Audio(pcm, self.rate_hz)
        if self.fault is Fault.ERROR_BODY:
            sound = Audio(bytes(2 * FAILED_SAMPLES), FAILED_HZ)
        if body.streaming_mode:
            await self._stream(sound, body.media_type, reply)
        else:
            await reply.whole(sound.pcm if body.media_type == "raw" else sound.to_wav(), f"audio/{body.media_type}")

    async def _stream(self, sound: Audio, media_type: str, reply: Reply) -> None:
        await reply.begin(content_type=f"audio/{media_type}")
        if media_type == "wav":
            await reply.send(Audio(b"", sound.rate_hz).to_wav())  # a header that knows no length
        size = -(-sound.samples // STREAMED_IN) * 2
        for place in range(0, len(sound.pcm), size):
            await reply.send(sound.pcm[place : place + size])
        if self.fault is Fault.ERROR_BODY:
            raise Gone  # its exception has gone through to the web server
        await reply.end()

    def _refusal(self, body: SpeechBody) -> dict[str, str] | None:
        for name in ("ref_audio_path", "text", "text_lang", "prompt_lang"):
            if not getattr(body, name):
                return {"message": f"{name} is required"}
        for name in ("text_lang", "prompt_lang"):
            if getattr(body, name).lower() not in LANGUAGES:
                return {"message": f"{name}: {getattr(body, name)} is not supported in version v2"}
        if body.media_type not in ("wav", "raw", "ogg", "aac"):
            return {"message": f"media_type: {body.media_type} is not supported"}
        if body.text_split_method not in METHODS:
            return {"message": f"text_split_method:{body.text_split_method} is not supported"}
        if self.recordings is not None and body.ref_audio_path not in self.recordings:
            return {"message": "tts failed", "Exception": f"{body.ref_audio_path} not exists"}
        return None
