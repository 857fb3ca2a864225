"""Volcengine's speech service: `POST /api/v1/tts`, and the WebSocket `/api/v1/tts/ws_binary`."""

from __future__ import annotations

import base64
import gzip
import struct
import uuid
from collections.abc import Container
from typing import Any, Literal

import attrs
import msgspec
import trio

from ...errors import InputError
from ...items import Audio
from .sounds import sound_of
from .standin import Fault, Reply, Request, StandIn
from .websocket import Peer, WebSocketStandIn

__all__ = ["DouBaoStandIn", "DouBaoStreamStandIn"]

PATH = "/api/v1/tts"
APPID, TOKEN = "1234567890", "a-token"
GOOD = 3000
SOUND, ERROR = 0b1011, 0b1111  # kinds of frames
GZIP = 1
RATE_HZ = 24_000
LONGEST = 1024  # bytes of text
STREAMED_IN = 4  # pieces
DENIED = {"reqid": "", "code": 3001, "message": "load grant: requested grant not found", "sequence": 0, "data": ""}


@attrs.frozen
class App:
    appid: str
    token: str
    cluster: str


@attrs.frozen
class User:
    uid: str


@attrs.frozen
class Speaking:
    voice_type: str
    encoding: Literal["wav", "pcm"]
    speed_ratio: float
    volume_ratio: float
    pitch_ratio: float
    rate: Literal[8000, 16000, 24000] = 24000
    emotion: str = ""
    enable_emotion: bool = False


@attrs.frozen
class Wish:
    reqid: str
    text: str
    text_type: Literal["plain"]
    operation: Literal["query", "submit"]


@attrs.frozen
class SpeechBody:
    app: App
    user: User
    audio: Speaking
    request: Wish


class _Service(StandIn):
    """What both ways have in common: an account, its voices, and what the service says no to.

    `voices` are the voice types that there are; by default all. With ERROR_BODY it answers `code` and `told`.
    """

    name = "DouBao"
    way = ("wav", "query")  # encoding and operation

    def __init__(
        self,
        *,
        appid: str = APPID,
        token: str = TOKEN,
        voices: Container[str] | None = None,
        code: int = 3005,
        told: str = "the backend is busy",
        **script: Any,
    ) -> None:
        super().__init__(**script)
        self.appid = appid
        self.token = token
        self.voices = voices
        self.code = code
        self.told = told
        self.spoken: list[SpeechBody] = []

    @staticmethod
    def sound_of(voice_type: str, emotion: str, text: str, speed_ratio: float = 1.0) -> bytes:
        """The samples that it answers with, 24 kHz."""
        return sound_of(voice_type, emotion, text=text, speed=speed_ratio)

    def _sound(self, body: SpeechBody) -> Audio:
        audio = body.audio
        return Audio(self.sound_of(audio.voice_type, audio.emotion, body.request.text, audio.speed_ratio), RATE_HZ)

    def _wished(self, payload: Any) -> SpeechBody:
        """A request, to the letter."""
        body = self.expect(SpeechBody, payload)
        reqid = body.request.reqid
        if (body.audio.encoding, body.request.operation) != self.way:
            self.problem(f"encoding {body.audio.encoding!r} with operation {body.request.operation!r}")
        if not _is_uuid4(reqid) or any(reqid == other.request.reqid for other in self.spoken):
            self.problem(f"the reqid {reqid!r} is no UUID of version 4, or was there before")
        if bool(body.audio.emotion) is not body.audio.enable_emotion:
            self.problem("enable_emotion goes with an emotion, and an emotion with it")
        if not (body.app.token and body.user.uid):
            self.problem("app.token and user.uid must not be empty")
        if self.token in str(payload):
            self.problem("the token is in the body, where it is of no use")
        self.spoken.append(body)
        return body

    def _refusal(self, body: SpeechBody) -> tuple[int, str] | None:
        text = body.request.text
        if self.fault is Fault.ERROR_BODY:
            return self.code, self.told
        if body.app.appid != self.appid or body.app.cluster != "volcano_tts":
            return 3001, "load grant: requested grant not found"
        if len(text.encode()) > LONGEST:
            return 3010, "text too long"
        if not any(map(str.isalnum, text)):
            return 3011, "illegal input text!"
        if self.voices is not None and body.audio.voice_type not in self.voices:
            return 3050, "voice not found"
        return None


class DouBaoStandIn(_Service):
    """Answers with a sound that is another one for each voice type, emotion, text and speed: `sound_of`.

    `voices` are the voice types that there are; by default all. With ERROR_BODY it answers `code` and `told`.
    """

    async def answer(self, request: Request, reply: Reply) -> None:
        if (request.method, request.path) == ("GET", "/"):
            await reply.json({"message": "not found"}, 404)
        elif (request.method, request.path) != ("POST", PATH):
            self.problem(f"{request.method} {request.path} is no route of its")
            await reply.json({"message": "not found"}, 404)
        elif request.headers.get("authorization") != f"Bearer;{self.token}":
            await reply.json(DENIED, 401)
        else:
            body = self._wished(request.json())
            code, told = self._refusal(body) or (GOOD, "Success")
            sound = base64.b64encode(self._sound(body).to_wav()).decode() if code == GOOD else ""
            answer = {"reqid": body.request.reqid, "code": code, "operation": "query", "message": told}
            await trio.sleep(self.each_s)  # it makes all of the sound first
            await reply.json(answer | {"sequence": -1 if code == GOOD else 0, "data": sound})


class DouBaoStreamStandIn(_Service, WebSocketStandIn):
    """The same as DouBaoStandIn, but in pieces, over a WebSocket. `packed`: its frames are gzip."""

    way = ("pcm", "submit")

    def __init__(self, *, packed: bool = False, **script: Any) -> None:
        super().__init__(**script)
        self.packed = packed

    async def talk(self, peer: Peer) -> None:
        body = self._wished(self._payload(await peer.receive()))
        if refusal := self._refusal(body):
            code, told = refusal
            payload = self._pack(told.encode())
            await peer.send(self._head(ERROR, 0) + struct.pack(">II", code, len(payload)) + payload)
        else:
            await peer.send(self._head(SOUND, 0))  # it has got the request
            pcm = self._sound(body).pcm
            size = -(-len(pcm) // STREAMED_IN)  # which may part a sample
            for number in range(1, STREAMED_IN + 1):
                piece = self._pack(pcm[(number - 1) * size : number * size])
                last = number == STREAMED_IN
                head = self._head(SOUND, 0b11 if last else 0b01)
                counted = struct.pack(">iI", -number if last else number, len(piece))
                await peer.send(head + counted + piece, end_mark=last)
        if self.fault is Fault.NO_END:
            await peer.close()
        await peer.end()
        if isinstance(await peer.receive(), str | bytes):
            self.problem("a second request on one connection")

    async def _met(self, request: Request, peer: Peer) -> None:
        if request.path != f"{PATH}/ws_binary":
            self.problem(f"{request.path} is no route of its")
        if request.headers.get("authorization") != f"Bearer; {self.token}":
            await peer.refuse(401, DENIED)
        else:
            await super()._met(request, peer)

    def _payload(self, frame: str | bytes) -> Any:
        """What a request's frame holds."""
        if isinstance(frame, str) or len(frame) < 8 or frame[:2] + frame[3:4] != b"\x11\x10\x00":
            raise InputError("", f"{frame[:8]!r} is not how a request's frame begins")
        (size,) = struct.unpack_from(">I", frame, 4)
        if frame[2] not in (0x10, 0x11) or size != len(frame) - 8:
            raise InputError("", f"{frame[:8]!r} is not the head of a frame of {len(frame)} bytes")
        return msgspec.json.decode(gzip.decompress(frame[8:]) if frame[2] & GZIP else frame[8:])

    def _head(self, kind: int, flags: int) -> bytes:
        return bytes([0x11, kind << 4 | flags, GZIP if self.packed else 0, 0])

    def _pack(self, payload: bytes) -> bytes:
        return gzip.compress(payload) if self.packed else payload


def _is_uuid4(text: str) -> bool:
    try:
        return uuid.UUID(text).version == 4 and str(uuid.UUID(text)) == text
    except ValueError:
        return False
