"""`DouBao`: speech from Volcengine's service (openspeech), over HTTP or, as it is made, over a WebSocket."""

from __future__ import annotations

import base64
import binascii
import os
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, ClassVar

import attrs
import trio
from attrs.validators import ge, le, optional

from ezflow import Audio, Turn, module, resource

from ..http.client import Reply
from ..http.errors import BackendRefused, excerpt
from ..http.sound import NotSound, PcmSplitter, WavSplitter
from ..http.stream import Ask, HTTPStream, Reads
from ..http.websocket_client import WebSocketClient
from .doubao_frames import Failed, NotAFrame, Sound, decoded, encoded
from .voices import chosen, load, usual

__all__ = ["DouBao", "DouBaoOptions"]

LIMIT = 1024  # bytes of UTF-8 that one request may say
RATE_HZ = 24_000
GOOD = 3000

SENTENCE = re.compile(r"[。！？；…\n]+[”』」）]*|[.!?;]+[\"')]*(?=\s)")
CLAUSE = re.compile(r"[，、：]|[,:—](?=\s)")
SPACE = re.compile(r"\s")

AGAIN = "try again, as retry(DouBao(...), 3) does"
CODES: Mapping[int, str] = {
    3001: "see whether voice_type, emotion, cluster and speed are what the account may use",
    3003: "more at once than the account may have: lower max_connections, or have the limit raised",
    3005: AGAIN,
    3010: "split the text, as Sentences does",
    3011: "there is nothing in the text that this voice can say: is it of another language?",
    3030: AGAIN,
    3031: AGAIN,
    3032: AGAIN,
    3040: AGAIN,
    3050: "voice_type must be one of the service's own names: `voices` says which is meant by others",
}
TRANSIENT = (3003, 3005, 3030, 3031, 3032, 3040)

# What the table says of a voice, and what EZPipe's says beside.
KEYS: Mapping[str, type | tuple[type, ...]] = {
    "voice_type": str,
    "emotions": dict,
    "awake_text": str,
    "awake_audio": str,
}

speeds: Any = [ge(0.2), le(3.0)]
ratios: Any = [ge(0.1), le(3.0)]


@attrs.frozen
class DouBaoOptions:
    """What one request may ask for, under `TTS`: `voice` and `emotion` are names of the table, if there is one, else
    the service's own, as `voice_type` always is; `speed`, 0.2 (slow) to 3.0 (fast).
    """

    voice: str | None = None
    voice_type: str | None = None
    emotion: str | None = None
    speed: float | None = attrs.field(default=None, validator=optional(speeds))


@attrs.frozen
class Voice:
    """What the table says of a voice."""

    voice_type: str
    emotions: Mapping[str, str]


@module(options=DouBaoOptions, key="TTS")
class DouBao(HTTPStream[str, Audio]):
    """Says each text with one of Volcengine's voices; the first piece of its sound bears the text.

    Over HTTP the sound of a text comes when all of it is made; with `streaming`, over a WebSocket, in pieces from the
    first on. A text of more than 1024 bytes is said in several requests, split at sentences, clauses or words. A text
    without a letter or a digit gives nothing.

    `voice_type` is the service's name of the voice, `DouBao("zh_female_...")`. For others there is `voices`, a YAML
    file, `name: {voice_type: ..., emotions: {name: the service's name, ...}}`; EZPipe's tables are read as they are. A
    request that names no voice gets `voice`, or the first of the file. Not all voices have emotions.

    The environment variables that `appid_env` and `token_env` name hold the account. The service is told the user's
    name, for its log.

    Takes: str. Gives: Audio, mono, 24 kHz.
    Raises: BackendError (`.status` is the service's own code, as 3005, and `.transient` whether another attempt may
    succeed); InputError for a voice that is not in the table; ModuleOpenError for a table or an account that is not
    there.
    Source: Volcengine's speech service, POST /api/v1/tts and its WebSocket /api/v1/tts/ws_binary.
    """

    voice_type: str = ""
    voices: str | None = None
    voice: str = ""
    emotion: str = ""
    url: str = attrs.field(default="https://openspeech.bytedance.com", kw_only=True)
    appid_env: str = attrs.field(default="DOUBAO_APPID", kw_only=True)
    token_env: str = attrs.field(default="DOUBAO_TOKEN", kw_only=True)
    cluster: str = attrs.field(default="volcano_tts", kw_only=True)
    streaming: bool = attrs.field(default=False, kw_only=True)
    speed_ratio: float = attrs.field(default=1.0, kw_only=True, validator=speeds)
    volume_ratio: float = attrs.field(default=1.0, kw_only=True, validator=ratios)
    pitch_ratio: float = attrs.field(default=1.0, kw_only=True, validator=ratios)
    table: Mapping[str, Voice] = resource()
    account: tuple[str, str] = resource()
    sockets: WebSocketClient = resource()

    reads = Reads.JSON
    advice: ClassVar = {
        401: "see whether the environment variables hold the account's appid and token",
        403: "see whether the account may use this voice",
        "unreachable": "see whether this machine reaches it, or give another url",
    }

    def ask(self, text: str, turn: Turn) -> Ask:
        return Ask("/api/v1/tts", self._body(text, turn, encoding="wav", operation="query"))

    async def process(self, text: str, turn: Turn) -> AsyncIterator[Audio]:
        for part in parts(text):
            found = self._streamed(part, turn) if self.streaming else super().process(part, turn)
            assert isinstance(found, AsyncGenerator)
            async with aclosing(found) as pieces:
                async for audio in pieces:
                    yield audio

    async def answers(self, reply: Reply, text: str, turn: Turn) -> AsyncIterator[Audio]:
        answer = await reply.json()
        if not isinstance(answer, dict) or not isinstance(answer.get("code"), int):
            raise reply.broken("sent JSON without a code", str(answer).encode())
        if answer["code"] != GOOD:
            raise self._refusal(answer["code"], str(answer.get("message")))
        splitter = WavSplitter(text)
        try:
            sound = base64.b64decode(answer.get("data") or "", validate=True)
            pieces = splitter.feed(sound) + splitter.end()
        except (binascii.Error, TypeError, NotSound) as error:
            raise reply.broken(str(error)) from error
        if not pieces:
            raise reply.broken("answered without a sound")
        for piece in pieces:
            yield piece

    async def _streamed(self, text: str, turn: Turn) -> AsyncIterator[Audio]:
        splitter = PcmSplitter(RATE_HZ, text=text)
        turn.awaits = self.sockets.awaited
        async with self.sockets.connect(user=turn.user) as socket:
            await socket.send(encoded(self._body(text, turn, encoding="pcm", operation="submit", rate=RATE_HZ)))
            socket.said_all()
            async for message in socket:
                try:
                    found = decoded(message)
                except NotAFrame as error:
                    raise socket.broken(str(error)) from error
                if isinstance(found, Failed):
                    raise self._refusal(found.code, found.message)
                if isinstance(found, Sound):
                    for piece in splitter.feed(found.data):
                        yield piece
                    if found.last:
                        await socket.leave()
                        return
            raise socket.broken("ended before its answer was complete")

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        self.table = await trio.to_thread.run_sync(self._read)
        self.account = self._secret(self.appid_env, "appid"), self._secret(self.token_env, "token")
        if not self.streaming:
            async with super().lifespan():
                yield
            return
        async with WebSocketClient(
            f"ws{self.url.removeprefix('http').removeprefix('ws').rstrip('/')}/api/v1/tts/ws_binary",
            server=type(self).__name__,
            headers=self.headers(),
            connect_s=self.connect_s,
            read_s=self.read_s,
            total_s=self.total_s,
            retries=self.retries,
            max_connections=self.max_connections,
            place_s=self.place_s,
            advice=self.advice,
        ) as self.sockets:
            yield

    def status(self) -> Mapping[str, float]:
        return self.sockets.slots.status() if self.streaming else super().status()

    async def probe(self) -> None:
        """See whether it is there; nothing is said."""
        if self.streaming:
            await self.sockets.reach()
        else:
            async with self.http.stream("GET", "/", check=False):
                pass

    def headers(self) -> dict[str, str]:
        # With the service's semicolon; its page on the WebSocket has a space behind it.
        return {"Authorization": f"Bearer;{' ' if self.streaming else ''}{self.account[1]}"}

    def _body(self, text: str, turn: Turn, encoding: str, operation: str, **audio: Any) -> dict[str, Any]:
        asked = turn.options[DouBaoOptions]
        voice_type, emotion = self._voice(asked)
        speaking: dict[str, Any] = {
            "voice_type": voice_type,
            "encoding": encoding,
            "speed_ratio": self.speed_ratio if asked.speed is None else asked.speed,
            "volume_ratio": self.volume_ratio,
            "pitch_ratio": self.pitch_ratio,
        }
        if emotion:
            speaking |= {"emotion": emotion, "enable_emotion": True}
        return {
            # The service does not look at this token: what counts is in the header.
            "app": {"appid": self.account[0], "token": "access_token", "cluster": self.cluster},
            "user": {"uid": turn.user or "user"},
            "audio": speaking | audio,
            "request": {"reqid": str(uuid.uuid4()), "text": text, "text_type": "plain", "operation": operation},
        }

    def _voice(self, asked: DouBaoOptions) -> tuple[str, str]:
        """The service's names of the voice and the emotion that are asked for."""
        if not self.table or asked.voice_type:
            return asked.voice_type or asked.voice or self.voice_type, asked.emotion or self.emotion
        name = asked.voice or self.voice or next(iter(self.table))
        voice = chosen(name, self.table, "voice")
        if asked.emotion:
            return voice.voice_type, chosen(asked.emotion, voice.emotions, "emotion", f" of {name}")
        return voice.voice_type, voice.emotions.get(self.emotion, "")

    def _refusal(self, code: int, told: str) -> BackendRefused:
        """The error for an answer that says no."""
        shown = excerpt(told.encode(), self.account)
        return BackendRefused(
            type(self).__name__,
            self.sockets.url if self.streaming else f"{self.http.url}/api/v1/tts",
            f"answered {code}: {shown}",
            advice=CODES.get(code, ""),
            status=code,
            body=shown,
            transient=code in TRANSIENT,
        )

    def _secret(self, name: str, part: str) -> str:
        value = os.environ.get(name, "").strip()
        if not value:
            raise ValueError(f"the environment variable {name} is not set: it holds the account's {part}.")
        return value

    def _read(self) -> Mapping[str, Voice]:
        if bool(self.voices) == bool(self.voice_type):
            raise ValueError("it needs a voice: give voice_type, or else voices, a YAML file.")
        if not self.voices:
            return {}
        with self.needs("PyYAML", extra="http"):
            file = load(self.voices)
        table = {}
        for name, node in file.parts("voices").items():
            fields = node.fields(KEYS, {}, "voice_type")
            emotions = node.parts("keys")["emotions"].parts("emotions") if fields.get("emotions") else {}
            table[name] = Voice(fields["voice_type"], {emotion: part.of(str) for emotion, part in emotions.items()})
        usual(file, {name: voice.emotions for name, voice in table.items()}, self.voice, self.emotion)
        return table


def parts(text: str, limit: int = LIMIT) -> Iterator[str]:
    """The text in pieces of at most `limit` bytes, split at a sentence, else a clause, a word, or anywhere; those in
    which there is nothing to say are left out.
    """
    rest = text.strip()
    while rest:
        head = rest[:limit].encode()[:limit].decode(errors="ignore")
        if len(head) < len(rest):
            ends = ([found.end() for found in pattern.finditer(head)] for pattern in (SENTENCE, CLAUSE, SPACE))
            # What is much shorter than it may be would cost a request, and a pause.
            head = head[: next((end[-1] for end in ends if end and end[-1] * 4 >= len(head)), len(head))]
        rest = rest[len(head) :].lstrip()
        if any(map(str.isalnum, head)):
            yield head.rstrip()
