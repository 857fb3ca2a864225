"""Sound that a server sends while it is made: a WAV or bare samples, cut anywhere, as pieces of `Audio`.

async for audio in sounds(reply, WavSplitter(text)):
    yield audio
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from collections import deque
from collections.abc import Generator
from typing import Protocol

import attrs

from ezflow import Audio

from .reply import Reply
from .request import instead

__all__ = ["NotSound", "PcmSplitter", "Splitter", "WavSplitter", "sounds"]

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
CODECS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "ADPCM", 0x31: "GSM", 0x55: "MP3"}
BEGINNINGS = {
    b"ID3": "MP3",
    b"\xff\xfb": "MP3",
    b"\xff\xf3": "MP3",
    b"\xff\xf1": "AAC",
    b"OggS": "Ogg",
    b"fLaC": "FLAC",
    b"\x1aE\xdf\xa3": "WebM",
    b"{": "JSON",
    b"<": "HTML",
}
RIFFS = (b"RIFF", b"RF64")
CHUNK = re.compile(rb"[A-Za-z0-9_ ]{4}")
LONGEST_FORMAT = 4096
UNKNOWN = 1 << 30  # who cannot know how much will come writes 0, or something near a limit of 31 or 32 bits
SIGNED = bytes(value ^ 0x80 for value in range(256))


class NotSound(ValueError):
    """What came is no sound that can be read here: what it is instead, and what to ask for."""


class Splitter(Protocol):
    """Bytes in, however they are cut; sound out, as soon as it is whole frames."""

    def feed(self, data: bytes) -> list[Audio]: ...

    def end(self) -> list[Audio]: ...


class sounds:  # noqa: N801  (used as a function: `async for audio in sounds(reply, PcmSplitter(24_000))`)
    """The sound of an answer, as it arrives. An iterator rather than a generator, so that it can be left at any time.

    Raises: BackendRefused for an answer that is a JSON or HTML document; BackendBroken for one that is another thing
    than its splitter takes, or that ends too early; and what reading raises.
    """

    def __init__(self, reply: Reply, splitter: Splitter) -> None:
        self._reply = reply
        self._splitter = splitter
        self._ready: deque[Audio] = deque()
        self._begun = False
        self._ended = False

    def __aiter__(self) -> sounds:
        return self

    async def __anext__(self) -> Audio:
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            if not self._begun and instead(self._reply.headers, "audio"):
                raise await self._reply.refusal()
            self._begun = True
            data = b""
            try:
                data = await self._reply.__anext__()
            except StopAsyncIteration:
                self._ended = True
            try:
                self._ready.extend(self._splitter.end() if self._ended else self._splitter.feed(data))
            except NotSound as error:
                raise self._reply.broken(str(error), data) from error
        return self._ready.popleft()


class PcmSplitter:
    """Bare 16-bit little-endian samples, channels interleaved. The first piece bears the `text` that is said.

    A part of a frame at the end holds no sample, and is dropped.
    """

    def __init__(self, rate_hz: int, channels: int = 1, text: str = "") -> None:
        self._frames = _Frames(_Format(rate_hz, channels, 2), text)

    def feed(self, data: bytes) -> list[Audio]:
        """The sound that is whole with these bytes."""
        return self._frames.take(data)

    def end(self) -> list[Audio]:
        """There are no more bytes."""
        return []


class WavSplitter:
    """A WAV, given as 16-bit samples while it arrives. The first piece bears the `text` that is said.

    Its samples may be integers of 8 to 32 bits or 32-bit floats, and its length unknown, as in the header of a server
    that has not made all of it yet. What stands around the sound is skipped. Several WAVs on end are one sound.
    Raises: NotSound for what is another thing, or ends too early.
    """

    def __init__(self, text: str = "") -> None:
        self._text = text
        self._held = b""
        self._given: list[Audio] = []
        self._missing = ""  # what would be missing if this were the end
        self._reading = self._read()

    def feed(self, data: bytes) -> list[Audio]:
        """The sound that is whole with these bytes."""
        self._held += data
        if data:
            next(self._reading, None)
        given, self._given = self._given, []
        return given

    def end(self) -> list[Audio]:
        """There are no more bytes. Raises: NotSound where there should be; none at all are no sound."""
        if self._missing:
            raise NotSound(f"ended before {self._missing}")
        return []

    def _read(self) -> Generator[None, None, None]:
        """Reads what is held, as far as it goes; a bare yield waits for more."""
        text = self._text
        while True:
            self._missing = "the header of its WAV was complete"
            form, size = yield from self._header()
            frames = _Frames(form, text)
            yield from self._sound(frames, size if 0 < size < UNKNOWN else None)
            yield from self._behind(frames, size)
            text = frames.text

    def _header(self) -> Generator[None, None, tuple[_Format, int]]:
        """Up to the first byte of the sound: what its samples are, and how many bytes."""
        opening = yield from self._exactly(4)
        if opening not in RIFFS or (yield from self._exactly(8))[4:] != b"WAVE":
            kind = next((kind for first, kind in BEGINNINGS.items() if opening.startswith(first)), repr(opening))
            raise NotSound(f"sent {kind} where a WAV was to come")
        form: _Format | None = None
        while True:
            name, size = struct.unpack("<4sI", (yield from self._exactly(8)))
            if name == b"data":
                if form is None:
                    raise NotSound("sent a WAV whose header does not say what its samples are")
                return form, size
            kept = 0
            if name == b"fmt ":
                kept = min(size, LONGEST_FORMAT)
                form = _format((yield from self._exactly(kept)))
            yield from self._past(size + size % 2 - kept)

    def _sound(self, frames: _Frames, left: int | None) -> Generator[None, None, None]:
        while left is None or left:
            while not self._held:
                self._missing = "" if left is None else f"the last {left} bytes of its WAV"
                yield
            data, self._held = self._held[:left], self._held[left:] if left is not None else b""
            if left is not None:
                left -= len(data)
            self._given += frames.take(data)

    def _behind(self, frames: _Frames, size: int) -> Generator[None, None, None]:
        """Up to the next WAV. Who streams with a file's writer gives the length of the first piece, and goes on."""
        self._missing = ""
        yield from self._past(size % 2)
        while True:
            name, size = struct.unpack("<4sI", (yield from self._exactly(8, peek=True)))
            if name in RIFFS:
                return
            if not CHUNK.fullmatch(name):
                yield from self._sound(frames, None)
            yield from self._past(8 + size + size % 2)

    def _exactly(self, size: int, peek: bool = False) -> Generator[None, None, bytes]:
        while len(self._held) < size:
            yield
        found = self._held[:size]
        if not peek:
            self._held = self._held[size:]
        return found

    def _past(self, size: int) -> Generator[None, None, None]:
        while size > len(self._held):
            size -= len(self._held)
            self._held = b""
            yield
        self._held = self._held[size:]


@attrs.frozen
class _Format:
    """How samples are written: `width` bytes each, whole numbers or floats."""

    rate_hz: int
    channels: int
    width: int
    floats: bool = False


@attrs.define
class _Frames:
    """Bytes of samples as pieces of `Audio`, none of them with a part of a frame."""

    form: _Format
    text: str
    _held: bytes = b""

    def take(self, data: bytes) -> list[Audio]:
        form, data = self.form, self._held + data
        whole = len(data) - len(data) % (form.width * form.channels)
        self._held = data[whole:]
        if not whole:
            return []
        text, self.text = self.text, ""
        return [Audio(_to_16_bit(data[:whole], form), form.rate_hz, form.channels, text)]


def _format(chunk: bytes) -> _Format:
    """What the chunk `fmt ` says. Raises: NotSound."""
    try:
        tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
        if tag == EXTENSIBLE:
            (tag,) = struct.unpack_from("<H", chunk, 24)
    except struct.error as error:
        raise NotSound(f"sent a WAV whose header is cut short ({error})") from error
    if not channels or not rate_hz:
        raise NotSound(f"sent a WAV of {channels} channels at {rate_hz} Hz")
    if (tag, bits) not in [(FLOAT, 32), (PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32)]:
        kind = "" if tag == PCM else {FLOAT: "float"}.get(tag) or CODECS.get(tag) or f"format {tag:#x}"
        raise NotSound(f"sent a WAV of {bits}-bit {kind or 'samples'}: have it send 16-bit PCM")
    return _Format(rate_hz, channels, bits // 8, tag == FLOAT)


def _to_16_bit(frames: bytes, form: _Format) -> bytes:
    if form.floats:
        return _from_floats(frames)
    if form.width == 2:
        return frames
    out = bytearray(2 * (len(frames) // form.width))
    if form.width == 1:  # 8-bit samples are unsigned
        out[1::2] = frames.translate(SIGNED)
    else:  # the two highest bytes
        out[0::2] = frames[form.width - 2 :: form.width]
        out[1::2] = frames[form.width - 1 :: form.width]
    return bytes(out)


def _from_floats(frames: bytes) -> bytes:
    floats = array("f", frames)
    if sys.byteorder == "big":
        floats.byteswap()
    samples = array("h", (round(32767 * min(1.0, max(-1.0, value))) for value in floats))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()
