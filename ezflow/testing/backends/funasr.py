"""FunASR's WebSocket, as its runtime's 2pass server and its Python server speak it."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import attrs
import msgspec

from ...items import Audio
from .standin import Fault
from .websocket import Peer, WebSocketStandIn

__all__ = ["FunASRStandIn", "speech"]

VOCABULARY = ("", "你好", "世界", "hello", " world", "stop")  # "" is silence
STEP = 1000  # samples of this value say the first word, of twice this the second
WORD_S, PAUSE_S, LOOK_S = 0.2, 0.6, 0.01
ENDS_S = 0.5  # silence that ends a segment


@attrs.frozen
class Opening:
    mode: Literal["2pass", "online", "offline"]
    chunk_size: tuple[int, int, int]
    chunk_interval: int
    encoder_chunk_look_back: int
    decoder_chunk_look_back: int
    wav_name: str
    is_speaking: Literal[True]
    hotwords: str
    itn: bool
    audio_fs: Literal[8000, 16000] = 16000
    svs_lang: str | None = None


@attrs.frozen
class Closing:
    is_speaking: Literal[False]


def speech(*words: str, rate_hz: int = 16_000, vocabulary: Sequence[str] = VOCABULARY) -> Audio:
    """Sound in which a FunASRStandIn hears these words; "" is a pause, long enough to end a segment."""
    samples = array("h")
    for word in words:
        samples.extend([vocabulary.index(word) * STEP] * round(rate_hz * (WORD_S if word else PAUSE_S)))
    return Audio(samples.tobytes(), rate_hz)


class FunASRStandIn(WebSocketStandIn):
    """Hears what `speech` says: as it is spoken, and each segment as `corrected` has it.

    `dialect` is whose `is_final` it has: "runtime" says true with the last result; "python" says true as long as the
    client speaks, sends nothing where nothing was heard, and has no silence that costs nothing.
    """

    name = "FunASR"
    subprotocol = "binary"

    def __init__(
        self,
        corrected: Callable[[str], str] = "{}。".format,
        *,
        dialect: Literal["runtime", "python"] = "runtime",
        vocabulary: Sequence[str] = VOCABULARY,
        **script: Any,
    ) -> None:
        super().__init__(**script)
        self.corrected = corrected
        self.dialect = dialect
        self.vocabulary = vocabulary
        self.openings: list[Opening] = []
        self.frames: list[int] = []  # bytes of each frame of sound

    async def talk(self, peer: Peer) -> None:
        opening = self._opened(await peer.receive())
        recognition = _Recognition(self, peer, opening)
        frame_bytes = _frame_bytes(opening)
        whole = True
        while isinstance(message := await peer.receive(), bytes):
            self.frames.append(len(message))
            if not whole or not 0 < len(message) <= frame_bytes or len(message) % 2:
                self.problem(f"a frame of {len(message)} bytes; each is {frame_bytes}, the last may be shorter")
            whole = len(message) == frame_bytes
            await recognition.hear(message)
        self.expect(Closing, msgspec.json.decode(message))
        await recognition.finish()
        await peer.end()
        if isinstance(await peer.receive(), str | bytes):
            self.problem("a message after the last word")

    def _opened(self, message: str | bytes) -> Opening:
        if isinstance(message, bytes):
            self.problem("sound came before the first words")
        opening = self.expect(Opening, msgspec.json.decode(message))
        if opening.hotwords:
            weights = json.loads(opening.hotwords)
            if not isinstance(weights, dict) or not all(type(weight) is int for weight in weights.values()):
                self.problem(f"the hotwords are {opening.hotwords!r}: no JSON object of whole numbers")
        self.openings.append(opening)
        return opening


class _Recognition:
    """What is heard on one connection."""

    def __init__(self, server: FunASRStandIn, peer: Peer, opening: Opening) -> None:
        self._server = server
        self._peer = peer
        self._opening = opening
        self._is_python = server.dialect == "python"
        self._rate_hz = opening.audio_fs
        self._samples = array("h")
        self._frames = 0
        self._last = self._word = 0
        self._quiet_s = 0.0
        self._segment = self._new = ""

    async def hear(self, frame: bytes) -> None:
        self._samples.frombytes(frame)
        self._frames += 1
        for value in self._looks():
            self._notice(value)
            if self._quiet_s >= ENDS_S and self._segment:
                await self._tell_new()
                await self._tell_segment(self._is_python)
        if self._frames % self._opening.chunk_interval == 0:
            await self._tell_new()

    async def finish(self) -> None:
        server, mode, fault = self._server, self._opening.mode, self._server.fault
        if fault is Fault.ERROR_BODY:
            text = "ERROR. Real-time transcription service ONLY SUPPORT PCM stream."
            await self._peer.send({"text": text, "wav_name": self._opening.wav_name, "is_final": True})
            return
        text = server.corrected(self._segment) if self._segment and mode != "online" else self._new
        is_last = not self._is_python and fault is not Fault.NO_END
        label = {} if not text else {"mode": "2pass-online" if mode == "online" else self._label("offline")}
        if text and not (self._is_python and mode == "online"):
            await self._send(text, is_last, end_mark=fault is not Fault.NO_END, **label)
        elif not self._is_python:
            await self._send("", is_last, end_mark=fault is not Fault.NO_END)

    def _looks(self) -> Iterator[int]:
        """The value of each hundredth of a second that has come whole."""
        step = round(LOOK_S * self._rate_hz)
        while len(self._samples) >= step:
            yield round(self._samples[step // 2] / STEP)
            del self._samples[:step]

    def _notice(self, value: int) -> None:
        if value == self._last and value and value != self._word:
            self._word = value
            self._segment += self._server.vocabulary[value]
            self._new += self._server.vocabulary[value]
        self._quiet_s = 0.0 if value else self._quiet_s + LOOK_S
        if self._quiet_s > 2 * LOOK_S:
            self._word = 0
        self._last = value

    def _label(self, kind: str) -> str:
        if self._is_python and self._opening.mode != "2pass":
            return self._opening.mode
        return f"2pass-{kind}"

    async def _tell_new(self) -> None:
        text, self._new = self._new, ""
        if text and self._opening.mode != "offline":
            await self._send(text, self._is_python, mode=self._label("online"))

    async def _tell_segment(self, is_final: bool) -> None:
        text, self._segment = self._segment, ""
        if self._opening.mode != "online":
            await self._send(self._server.corrected(text), is_final, mode=self._label("offline"))

    async def _send(self, text: str, is_final: bool, *, end_mark: bool = False, **more: str) -> None:
        result = {"text": text, "wav_name": self._opening.wav_name, "is_final": is_final, **more}
        await self._peer.send(result, end_mark=end_mark)


def _frame_bytes(opening: Opening) -> int:
    """As long as the server's streaming model reckons with: 60 ms, unless it is told otherwise."""
    return 2 * (60 * opening.chunk_size[1] * opening.audio_fs // (1000 * opening.chunk_interval))
