"""`FunASR`: speech to text by a FunASR server, while it is spoken."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs

from ezflow import Audio, Transcript, Turn, Utterance, module

from ..http.websocket import WebSocketStream
from ..sound import Resampler, from_float32, slices

if TYPE_CHECKING:
    from ..http.websocket_connection import WebSocket

__all__ = ["FunASR", "FunASROptions"]

Mode = Literal["2pass", "online", "offline"]
PIECE_S = 1.0  # of a recording that has another rate
CHUNK_MS = 60  # what one of `chunk_size` stands for

above_0: Any = attrs.validators.gt(0)


@attrs.frozen
class FunASROptions:
    """What a request may set for its turn; None leaves what the module says."""

    language: str | None = None
    hotwords: Mapping[str, int] | None = None
    itn: bool | None = None
    mode: Mode | None = None


@module(options=FunASROptions, key="ASR")
class FunASR(WebSocketStream[Audio | Utterance, str]):
    """Gives the words of each item, once, when it has ended; nothing where nothing is said.

    Sound is sent as it is spoken, on a connection of its own for each item. Meanwhile the client gets a `Transcript`
    with `final=False` whenever the words change, and a final one before they go on. In `mode` "2pass" each segment is
    heard twice: word by word, and again as a whole, which corrects it; "online" hears only the first way, "offline"
    only the second. `hotwords` are words to expect, each with its weight. `itn` writes numbers in digits. `language` is
    for servers that run SenseVoice (zh, en, yue, ja, ko). Sound of other rates and channels is made mono of `rate_hz`;
    a server is told of 8000 by `audio_fs`, of which the Python server takes no notice.

    The runtime's server says which of its results is the last. Where a server does not (the Python server, after
    silence or a word too short for a first guess) the end is when it has had nothing to say for `final_s` after the
    speech has ended, and still answers a ping. The Python server has one client at a time: use max_connections=1. Both
    speak wss:// with a certificate of their own making, unless told otherwise: use verify=False.

    Takes: Audio or Utterance. Gives: str.
    Raises: BackendError; MissingDependency for sound that needs soxr to be made mono of that rate.
    Source: FunASR's WebSocket protocol (runtime/docs/websocket_protocol.md), and its two servers in runtime/.
    """

    url: str = attrs.field(default="ws://127.0.0.1:10095", kw_only=True)
    subprotocols: tuple[str, ...] = attrs.field(default=("binary",), kw_only=True)
    mode: Mode = "2pass"
    hotwords: Mapping[str, int] | None = attrs.field(default=None, hash=False)
    itn: bool = True
    language: str = ""
    rate_hz: Literal[16_000, 8_000] = 16_000
    chunk_size: tuple[int, int, int] = (5, 10, 5)  # of the streaming model: look-back, what is new, look-ahead
    chunk_interval: int = attrs.field(default=10, validator=above_0)  # frames in which what is new is sent
    encoder_chunk_look_back: int = 4
    decoder_chunk_look_back: int = 0
    final_s: float = attrs.field(default=2.0, validator=above_0)

    advice: ClassVar[Mapping[int | str, str]] = {
        "unreachable": "start it, or give another url",
        "broken": "see what it has logged, and whether it wants wss:// (which it speaks unless told --certfile 0)",
    }

    def opening(self, turn: Turn) -> Iterable[str]:
        asked = turn.options[FunASROptions]
        hotwords = self.hotwords if asked.hotwords is None else asked.hotwords
        language = self.language if asked.language is None else asked.language
        said: dict[str, Any] = {
            "mode": asked.mode or self.mode,
            "chunk_size": self.chunk_size,
            "chunk_interval": self.chunk_interval,
            "encoder_chunk_look_back": self.encoder_chunk_look_back,
            "decoder_chunk_look_back": self.decoder_chunk_look_back,
            "wav_name": "microphone",
            "is_speaking": True,
            "hotwords": json.dumps(dict(hotwords), ensure_ascii=False) if hotwords else "",
            "itn": self.itn if asked.itn is None else asked.itn,
        }
        if self.rate_hz != 16_000:
            said["audio_fs"] = self.rate_hz
        if language:
            said["svs_lang"] = language
        yield json.dumps(said, ensure_ascii=False)

    async def frames(self, item: Audio | Utterance, turn: Turn) -> AsyncIterator[bytes]:
        sound, frame = _Mono(self), bytearray()
        size = 2 * max(1, CHUNK_MS * self.chunk_size[1] * self.rate_hz // (1000 * self.chunk_interval))
        spoken = _Pieces(item) if isinstance(item, Audio) else item
        async for audio in spoken:
            frame += sound.feed(audio)
            while len(frame) >= size:
                yield bytes(frame[:size])
                del frame[:size]
        frame += sound.flush()
        for start in range(0, len(frame), size):
            yield bytes(frame[start : start + size])

    def closing(self, turn: Turn) -> Iterable[str]:
        yield json.dumps({"is_speaking": False})

    async def answers(self, socket: WebSocket, turn: Turn) -> AsyncIterator[str]:
        heard = _Heard(turn.options[FunASROptions].mode or self.mode)
        shown = ""
        is_last = False
        while not is_last and (message := await socket.soon(self.final_s)) is not None:
            is_last = heard.take(self._result(message, socket), socket.talking)
            if heard.text != shown:
                shown = heard.text
                await turn.reply(Transcript(shown, final=False))
        if shown:
            await turn.reply(Transcript(shown))
            yield shown

    def _result(self, message: str | bytes, socket: WebSocket) -> dict[str, Any]:
        """A result of the server's. Raises: BackendError for what is none."""
        try:
            result = json.loads(message) if isinstance(message, str) else None
        except (ValueError, RecursionError) as error:
            raise socket.broken("sent what is not JSON", message) from error
        if not isinstance(result, dict) or not isinstance(result.get("text"), str):
            raise socket.broken("sent what is no result", message)
        if "mode" not in result and result["text"].startswith("ERROR"):
            raise self.failure(result["text"])
        return result


class _Heard:
    """What has been understood of one item, and whether there is more to come.

    `is_final` means one thing to the runtime's server: this is the last result. The Python server says true as long as
    the client says that it is speaking, so that its last result is the one that says false. Which of them it is shows
    in a result that came before the end of the speech, or in a first guess, which is never the last.
    """

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._segments = ""
        self._guess = ""  # of the segment that is being spoken
        self._python: bool | None = None

    @property
    def text(self) -> str:
        return joined(self._segments, self._guess).strip()

    def take(self, result: Mapping[str, Any], talking: bool) -> bool:
        """Take a result that came while the client was or was not `talking`; True if it is the last."""
        text, label, is_final = result["text"], str(result.get("mode") or ""), bool(result.get("is_final"))
        if label.endswith("online"):
            self._guess += text
        elif text:
            self._segments, self._guess = joined(self._segments, text), ""
        if talking or (label == "2pass-online" and self._mode == "2pass"):
            self._python = is_final
        if talking or label == "online":  # the latter is the Python server's, which does not end that mode
            return False
        if label == "offline":  # the Python server's too, or the offline server's one and only result
            return not is_final
        return is_final != bool(self._python)


class _Mono:
    """Sound of any rate and channels as PCM16, mono, of one rate."""

    def __init__(self, module: FunASR) -> None:
        self._module = module
        self._rate_hz = module.rate_hz
        self._resampler: Resampler | None = None

    def feed(self, audio: Audio) -> bytes:
        if self._resampler is None:
            if audio.rate_hz == self._rate_hz and audio.channels == 1:
                return audio.pcm
            with self._module.needs("soxr", extra="speech"):
                import soxr  # noqa: F401
            self._resampler = Resampler(self._rate_hz)
        return from_float32(self._resampler.feed(audio), self._rate_hz).pcm

    def flush(self) -> bytes:
        return b"" if self._resampler is None else from_float32(self._resampler.flush(), self._rate_hz).pcm


class _Pieces:
    """A recording in pieces, as if it was spoken."""

    def __init__(self, audio: Audio) -> None:
        self._pieces: Iterator[Audio] = slices(audio, PIECE_S)

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> Audio:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


def joined(before: str, after: str) -> str:
    """Two texts as one, with a space between words of a language that has spaces."""
    parts = before[-1:].isascii() and after[:1].isascii() and before[-1:].strip() and after[:1].isalnum()
    return f"{before} {after}" if before and after and parts else before + after
