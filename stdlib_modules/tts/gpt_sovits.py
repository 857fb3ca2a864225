"""`GPTSoVITS`: speech in any voice of which there are some seconds, from a GPT-SoVITS server (its api_v2.py)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, Literal

import attrs
import trio
from attrs.validators import ge, gt, in_, le, optional

from ezflow import Audio, Turn, module, resource

from ..http.client import HTTPClient, Reply
from ..http.errors import BackendTimeout
from ..http.sound import PcmSplitter, WavSplitter, sounds
from ..http.stream import Ask, HTTPStream, Reads
from .voices import chosen, load, usual

__all__ = ["GPTSoVITS", "GPTSoVITSOptions"]

# A server that could not say a text answers 200 all the same, with so many samples of silence at this rate.
FAILED_SAMPLES = FAILED_HZ = 16_000
PROBE_S = 1.0

above_0: Any = gt(0)
speeds: Any = [ge(0.5), le(2.0)]

# What the table may say of an emotion: keys of the request's body.
KEYS: Mapping[str, type | tuple[type, ...]] = {
    "ref_audio_path": str,
    "prompt_text": str,
    "prompt_lang": str,
    "text_lang": str,
    "aux_ref_audio_paths": list,
    "top_k": int,
    "top_p": (int, float),
    "temperature": (int, float),
    "text_split_method": str,
    "batch_size": int,
    "speed_factor": (int, float),
    "seed": int,
    "parallel_infer": bool,
    "repetition_penalty": (int, float),
}
EZPIPE_KEYS = {"reffile": "ref_audio_path", "reftext": "prompt_text"}

Table = Mapping[str, Mapping[str, Mapping[str, Any]]]


@attrs.frozen
class GPTSoVITSOptions:
    """What one request may ask for, under `TTS`: names of the table's, whether to stream, and `speed`, 0.5 to 2.0."""

    voice: str | None = None
    emotion: str | None = None
    streamly: bool | None = None
    speed: float | None = attrs.field(default=None, validator=optional(speeds))


@module(options=GPTSoVITSOptions, key="TTS")
class GPTSoVITS(HTTPStream[str, Audio]):
    """Says each text, in pieces as the server makes them; the first one bears the text.

    A voice is a recording of 3 to 10 seconds that the *server* can read, and what is said in it. `voices` is a YAML
    file of many: `name: {emotion: {ref_audio_path, prompt_text, prompt_lang, ...}}`, where an emotion may set any
    other key of the server's too; EZPipe's tables are read as they are. A request names its `voice` and `emotion`; one
    that does not gets `voice` and `emotion`, or the first of the file. For a single voice, which all requests then
    get whatever they name, there is no file: `GPTSoVITS(ref_audio_path=..., prompt_text=..., prompt_lang=...)`.

    `streaming_mode`: False, whole texts; True or 1, each of its parts (`text_split_method`) when it is made; newer
    servers know 2 and 3 too, which give the first piece sooner, of lesser quality. With `media_type="raw"` the server
    does not say its rate: `raw_hz` is 32000 for its versions 1, 2 and 2Pro, 24000 for 3, 48000 for 4. It keeps the
    voice of its newest request in one place, so that two streams at once mix their voices: therefore
    `max_connections` is 1, and users are served in turn. A text without a letter or a digit gives nothing.

    Takes: str. Gives: Audio, mono, at the server's rate.
    Raises: BackendError; InputError for a voice that is not in the table; ModuleOpenError for a table that is wrong.
    Source: GPT-SoVITS, api_v2.py, POST /tts.
    """

    voices: str | None = None
    voice: str = ""
    emotion: str = ""
    ref_audio_path: str = ""
    prompt_text: str = ""
    prompt_lang: str = "zh"
    text_lang: str = "zh"
    aux_ref_audio_paths: tuple[str, ...] = ()
    url: str = attrs.field(default="http://127.0.0.1:9880", kw_only=True)
    max_connections: int = attrs.field(default=1, kw_only=True, validator=ge(1))
    streaming_mode: bool | int = attrs.field(default=True, validator=in_([*range(4)]))
    media_type: Literal["wav", "raw"] = "wav"
    raw_hz: int = attrs.field(default=32_000, validator=above_0)
    speed_factor: float = attrs.field(default=1.0, validator=speeds)
    text_split_method: str = "cut5"
    top_k: int = attrs.field(default=5, validator=ge(1))
    top_p: float = attrs.field(default=1, validator=[above_0, le(1)])
    temperature: float = attrs.field(default=1, validator=above_0)
    repetition_penalty: float = attrs.field(default=1.35, validator=above_0)
    batch_size: int = attrs.field(default=1, validator=ge(1))
    seed: int = -1
    parallel_infer: bool = True
    table: Table = resource()

    reads = Reads.BYTES
    reads_ahead = True
    advice: ClassVar = {
        "unreachable": "start it (python api_v2.py), or give another url",
        "broken": "see what it has logged; with streaming_mode=False it may say itself what is wrong",
        400: "the recording of the voice must be on the server's machine, 3 to 10 s long, its languages known there",
        404: "this speaks to api_v2.py, not to the older api.py",
    }

    def ask(self, text: str, turn: Turn) -> Ask | None:
        if not any(map(str.isalnum, text)):
            return None
        asked = turn.options[GPTSoVITSOptions]
        body: dict[str, Any] = {name: getattr(self, name) for name in KEYS} | dict(self._reference(asked))
        if asked.speed is not None:
            body["speed_factor"] = asked.speed
        streams = self.streaming_mode if asked.streamly is None else asked.streamly and (self.streaming_mode or True)
        return Ask("/tts", body | {"text": text, "streaming_mode": streams, "media_type": self.media_type})

    async def answers(self, reply: Reply, text: str, turn: Turn) -> AsyncIterator[Audio]:
        splitter = WavSplitter(text) if self.media_type == "wav" else PcmSplitter(self.raw_hz, text=text)
        given, held = False, list[Audio]()
        async for audio in sounds(reply, splitter):
            held.append(audio)
            if not given and self._may_be_failure(held):
                continue
            given = True
            for piece in held:
                yield piece
            held.clear()
        if sum(piece.samples for piece in held) == FAILED_SAMPLES:
            raise self.failure("a second of silence, as it does when it has failed: see what it has logged")
        for piece in held:
            yield piece

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        self.table = await trio.to_thread.run_sync(self._read)
        async with super().lifespan():
            yield

    async def probe(self) -> None:
        """See whether it is there. It may be silent: while it makes a whole text, it answers nothing else."""
        async with HTTPClient(
            self.url, server=type(self).__name__, connect_s=self.connect_s, read_s=PROBE_S, advice=self.advice
        ) as http:
            with suppress(BackendTimeout):
                async with http.stream("GET", "/docs", check=False):
                    pass

    def _reference(self, asked: GPTSoVITSOptions) -> Mapping[str, Any]:
        """What the table says of the voice and the emotion that are asked for."""
        if not self.table:
            return {}
        voice = asked.voice or self.voice or next(iter(self.table))
        emotions = chosen(voice, self.table, "voice")
        emotion = self.emotion if self.emotion in emotions else next(iter(emotions))
        return chosen(asked.emotion or emotion, emotions, "emotion", f" of {voice}")

    def _may_be_failure(self, pieces: Sequence[Audio]) -> bool:
        """Whether there is nothing yet but what it sends for a text that it could not say."""
        audio = pieces[-1]
        silent = (self.media_type == "raw" or audio.rate_hz == FAILED_HZ) and not any(audio.pcm)
        return silent and sum(piece.samples for piece in pieces) <= FAILED_SAMPLES

    def _read(self) -> Table:
        if bool(self.voices) == bool(self.ref_audio_path):
            raise ValueError(
                "it needs a voice: give voices, a YAML file, or else ref_audio_path, prompt_text and prompt_lang."
            )
        if not self.voices:
            return {}
        with self.needs("PyYAML", extra="http"):
            file = load(self.voices)
        table = {
            voice: {name: node.fields(KEYS, EZPIPE_KEYS, "ref_audio_path") for name, node in part.emotions().items()}
            for voice, part in file.parts("voices").items()
        }
        usual(file, table, self.voice, self.emotion)
        return table
