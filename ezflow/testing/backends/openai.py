"""OpenAI's `POST /v1/chat/completions`, `/v1/audio/transcriptions`, `/v1/audio/speech`, and `GET /v1/models`."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import attrs
import msgspec

from ...items import Audio
from .standin import Fault, Reply, Request, StandIn

__all__ = ["OpenAIStandIn"]

PIECE = 1001  # bytes of sound that are sent at once: not whole frames
KINDS = {"pcm": "audio/pcm", "wav": "audio/wav"}


@attrs.frozen
class ChatMessage:
    role: Literal["system", "user", "assistant"]
    content: str


@attrs.frozen
class ChatBody:
    model: str
    messages: list[ChatMessage]
    stream: Literal[True]
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


@attrs.frozen
class SpeechBody:
    model: str
    input: str
    voice: str
    response_format: Literal["pcm", "wav"]
    speed: float = 1.0
    instructions: str = ""


@attrs.frozen
class TranscriptionForm:
    model: str
    response_format: Literal["json"]
    language: str = ""
    prompt: str = ""


@attrs.frozen
class Heard:
    """What came to be transcribed."""

    form: TranscriptionForm
    audio: Audio


def spoken(text: str) -> Audio:
    """A sound that is another one for each text, 10 ms a letter."""
    samples = [value for letter in text for value in [(ord(letter) * 257 + 1) % 30_000] * 240]
    return Audio(struct.pack(f"<{len(samples)}h", *samples), 24_000)


def duration(audio: Audio) -> str:
    """Nothing for silence, and otherwise how long it is."""
    return f" I heard {audio.duration_s:.2f} seconds.\n" if audio.pcm.strip(b"\0") else ""


class OpenAIStandIn(StandIn):
    """A server of all three kinds: chats get the words of `answer(question)`, a text is said as the sound `say(text)`,
    a sound is understood as `hear(sound)`.

    Knows one `model`, these `voices`, and if there is a `key` nobody without it. Each chat begins with `deltas`, such
    as `{"reasoning_content": "Hm."}`, ends as `ends` says, and breaks off with an error after `fails_after` words.
    `refusal` is a status and an error to answer everything with.
    """

    name = "OpenAI"

    def __init__(
        self,
        answer: Callable[[str], str] = "You said {}.".format,
        *,
        say: Callable[[str], Audio] = spoken,
        hear: Callable[[Audio], str] = duration,
        model: str = "small",
        voices: Collection[str] = ("alloy", "nova"),
        key: str = "",
        deltas: Sequence[Mapping[str, Any]] = (),
        ends: Literal["as OpenAI", "with a finish_reason", "with [DONE]"] = "as OpenAI",
        fails_after: int | None = None,
        refusal: tuple[int, Any] | None = None,
        **script: Any,
    ) -> None:
        super().__init__(**script)
        self.answer_for = answer
        self.say = say
        self.hear = hear
        self.model = model
        self.voices = voices
        self.key = key
        self.deltas = deltas
        self.ends = ends
        self.fails_after = fails_after
        self.refusal = refusal
        self.chats: list[ChatBody] = []
        self.spoken: list[SpeechBody] = []
        self.heard: list[Heard] = []

    def _url(self, port: int) -> str:
        return f"{super()._url(port)}/v1"

    async def answer(self, request: Request, reply: Reply) -> None:
        route = (request.method, request.path)
        if self.refusal is not None:
            status, told = self.refusal
            await reply.json({"error": told}, status)
        elif self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            await self._error(reply, f"Incorrect API key provided: {request.headers.get('authorization')}", 401)
        elif route == ("GET", "/v1/models"):
            await reply.json({"object": "list", "data": [{"id": self.model, "object": "model"}]})
        elif route == ("POST", "/v1/chat/completions"):
            await self._chat(self.expect(ChatBody, request.json()), reply)
        elif route == ("POST", "/v1/audio/speech"):
            await self._speak(self.expect(SpeechBody, request.json()), reply)
        elif route == ("POST", "/v1/audio/transcriptions"):
            await self._transcribe(self._heard(request), reply)
        else:
            self.problem(f"{request.method} {request.path} is no route of its")
            await self._error(reply, f"Invalid URL ({request.method} {request.path})", 404)

    async def _chat(self, body: ChatBody, reply: Reply) -> None:
        self.chats.append(body)
        if not await self._knows(body.model, reply):
            return
        await reply.begin(content_type="text/event-stream; charset=utf-8")
        await reply.send(self._chunk([{"delta": {"role": "assistant", "content": ""}}]))
        for delta in self.deltas:
            await reply.send(self._chunk([{"delta": delta}]))
        for place, word in enumerate(self.answer_for(body.messages[-1].content).split(" ")):
            if place == self.fails_after:
                await reply.send(_event({"error": {"message": "The model ran out of memory", "type": "server_error"}}))
                await reply.end()
                return
            await reply.send(self._chunk([{"delta": {"content": word if not place else f" {word}"}}]))
        if self.ends != "with [DONE]":
            await reply.send(self._chunk([{"delta": {}, "finish_reason": "stop"}]), end_mark=True)
            await reply.send(self._chunk([], usage={"prompt_tokens": 9, "completion_tokens": 4}))
        if self.ends != "with a finish_reason":
            await reply.send(b"data: [DONE]\n\n", end_mark=True)
        await reply.end()

    async def _speak(self, body: SpeechBody, reply: Reply) -> None:
        self.spoken.append(body)
        if not await self._knows(body.model, reply):
            return
        if body.voice not in self.voices:
            await self._error(reply, f"Input should be one of {', '.join(self.voices)}, not {body.voice!r}", 400)
            return
        sound = self.say(body.input)
        data = sound.pcm if body.response_format == "pcm" else _endless(sound)
        await reply.begin(content_type=KINDS[body.response_format])
        for place in range(0, len(data), PIECE):
            await reply.send(data[place : place + PIECE])
        await reply.end()

    async def _transcribe(self, heard: Heard | None, reply: Reply) -> None:
        if heard is None:
            await self._error(reply, "The form is not as it should be", 400)
        elif await self._knows(heard.form.model, reply):
            self.heard.append(heard)
            told = msgspec.json.encode({"text": self.hear(heard.audio), "usage": {"type": "duration", "seconds": 1}})
            await reply.begin()
            await reply.send(told[:9])
            await reply.send(told[9:])
            await reply.end()

    async def _knows(self, model: str, reply: Reply) -> bool:
        """Whether it goes on to answer."""
        if model != self.model:
            await self._error(reply, f"The model `{model}` does not exist", 404)
        elif self.fault is Fault.ERROR_BODY:
            await self._error(reply, "The engine is dead", 200)
        else:
            return True
        return False

    def _heard(self, request: Request) -> Heard | None:
        """The form of a transcription; None, and a problem, for one that is not as it should be."""
        parts = _parts(request)
        name, sound = parts.pop("file", ("", b""))
        form = self.expect(TranscriptionForm, {key: value.decode() for key, (_, value) in parts.items()})
        try:
            return Heard(form, Audio.from_wav(sound if name.endswith(".wav") else b""))
        except ValueError as error:
            self.problem(f"its file {name!r} is {error}")
            return None

    async def _error(self, reply: Reply, message: str, status: int) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        await reply.json({"error": error}, status)

    def _chunk(self, choices: Sequence[Mapping[str, Any]], **more: Any) -> bytes:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_767_225_600, "model": self.model}
        return _event(head | {"choices": [{"index": 0, "finish_reason": None} | dict(one) for one in choices]} | more)


def _event(data: Any) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def _endless(sound: Audio) -> bytes:
    """A WAV as one is streamed: its header does not know the length."""
    wav = sound.to_wav()
    unknown = struct.pack("<I", 0xFFFFFFFF)
    return wav[:4] + unknown + wav[8:40] + unknown + wav[44:]


def _parts(request: Request) -> dict[str, tuple[str, bytes]]:
    """The parts of a form: by name, the name of the file, if it is one, and the content."""
    kind = request.headers.get("content-type", "")
    found = re.fullmatch(r"multipart/form-data; boundary=(\S+)", kind)
    if found is None:
        return {}
    parts: dict[str, tuple[str, bytes]] = {}
    for part in request.body.split(f"--{found[1]}".encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        names = dict(re.findall(r'; (\w+)="([^"]*)"', head.decode()))
        parts[names.get("name", "")] = (names.get("filename", ""), content.removesuffix(b"\r\n"))
    return parts
