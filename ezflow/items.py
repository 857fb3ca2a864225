"""What flows: text is `str`; sound is `Audio`; speech while it is spoken is an `Utterance`."""

from __future__ import annotations

import io
import wave
from collections.abc import AsyncIterator
from os import PathLike
from pathlib import Path

import attrs
import trio

__all__ = ["Audio", "Transcript", "Utterance"]

SIGNED = bytes(value ^ 0x80 for value in range(256))


def _whole_frames(audio: Audio, _: object, channels: int) -> None:
    if len(audio.pcm) % (2 * channels):
        raise ValueError(
            f"{len(audio.pcm)} bytes are not whole frames of {channels} channel(s) of 16-bit samples: "
            f"a multiple of {2 * channels} is needed."
        )


@attrs.frozen
class Audio:
    """A piece of sound: 16-bit signed little-endian PCM, channels interleaved.

    `text` holds the words it says where they are known (speech synthesis sets it), so that the history of an
    interrupted reply can hold what was said aloud.

    Raises: ValueError for bytes that are not whole frames, and for a rate or channel count below 1.
    """

    pcm: bytes = attrs.field(validator=attrs.validators.instance_of(bytes), repr=False)
    rate_hz: int = attrs.field(validator=attrs.validators.ge(1))
    channels: int = attrs.field(default=1, validator=[attrs.validators.ge(1), _whole_frames])
    text: str = ""

    @property
    def samples(self) -> int:
        """Frames: samples of each channel."""
        return len(self.pcm) // (2 * self.channels)

    @property
    def duration_s(self) -> float:
        return self.samples / self.rate_hz

    @classmethod
    def from_wav(cls, source: bytes | str | PathLike[str]) -> Audio:
        """Read a WAV of 8-, 16-, 24- or 32-bit PCM, given as its bytes or as a path.

        Raises: ValueError if it is not such a file; OSError if the path cannot be read.
        """
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        try:
            with wave.open(io.BytesIO(data)) as wav:
                width, rate_hz, channels = wav.getsampwidth(), wav.getframerate(), wav.getnchannels()
                frames = wav.readframes(wav.getnframes())
        except (wave.Error, EOFError, RuntimeError) as error:  # RuntimeError: a chunk is longer than what holds it
            why = str(error) or "its lengths do not fit"
            raise ValueError(f"not a WAV of PCM samples ({why}): write it as 16-bit PCM.") from error
        pcm = _to_16_bit(frames, width)
        # A recorder that was cut off in mid-frame leaves a part of one: it holds no sample.
        return cls(pcm[: len(pcm) - len(pcm) % (2 * channels)], rate_hz, channels)

    def to_wav(self) -> bytes:
        """A complete WAV file of it."""
        out = io.BytesIO()
        with wave.open(out, "wb") as wav:
            wav.setnchannels(self.channels)
            wav.setsampwidth(2)
            wav.setframerate(self.rate_hz)
            wav.writeframes(self.pcm)
        return out.getvalue()


def _to_16_bit(frames: bytes, width: int) -> bytes:
    if width == 2:
        return frames
    count = len(frames) // width
    out = bytearray(2 * count)
    if width == 1:  # 8-bit WAVs are unsigned
        out[1::2] = frames.translate(SIGNED)
    else:  # keep the two highest bytes
        out[0::2] = frames[width - 2 : count * width : width]
        out[1::2] = frames[width - 1 : count * width : width]
    return bytes(out)


@attrs.frozen
class Transcript:
    """What was understood so far (`final=False`) or in the end (`final=True`)."""

    text: str
    final: bool = True


class Utterance:
    """Speech of one person, from its onset, while it is spoken: `async for audio in utterance`.

    A voice activity detector makes one at onset, feeds it, and ends it; one reader follows it. `feed` and `end`
    never wait: the detector bounds an utterance's length, so what is held is bounded too.
    """

    __slots__ = ("_audio", "_changed", "_ended")

    def __init__(self) -> None:
        self._audio: list[Audio] = []
        self._ended = False
        self._changed = trio.Event()

    @classmethod
    def of(cls, *audio: Audio) -> Utterance:
        """An utterance that has been spoken already."""
        utterance = cls()
        for piece in audio:
            utterance.feed(piece)
        utterance.end()
        return utterance

    @property
    def ended(self) -> bool:
        return self._ended

    def feed(self, audio: Audio) -> None:
        """Append what was just spoken; without effect after `end`."""
        if not self._ended:
            self._audio.append(audio)
            self._wake()

    def end(self) -> None:
        """The speech has ended."""
        self._ended = True
        self._wake()

    def __aiter__(self) -> AsyncIterator[Audio]:
        """Each piece from the onset on, as it is spoken; may be iterated again."""
        return _Following(self)

    async def piece(self, place: int) -> Audio | None:
        """The piece at that place, once it has been spoken; None if the speech ends before."""
        await trio.lowlevel.checkpoint_if_cancelled()  # a reader that never has to wait ends with its turn too
        while place >= len(self._audio):
            if self._ended:
                return None
            await self._changed.wait()
        return self._audio[place]

    async def until_end(self) -> None:
        """Wait until the speech has ended."""
        while not self._ended:
            await self._changed.wait()

    async def whole(self) -> Audio:
        """All of it, as one Audio, once it has ended.

        Raises: ValueError if nothing was fed.
        """
        await self.until_end()
        if not self._audio:
            raise ValueError("this utterance holds no sound: feed() it before end().")
        first = self._audio[0]
        return Audio(b"".join(piece.pcm for piece in self._audio), first.rate_hz, first.channels)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def __repr__(self) -> str:
        spoken_s = sum(piece.duration_s for piece in self._audio)
        return f"<Utterance of {spoken_s:.2f} s{'' if self._ended else ', still spoken'}>"


class _Following:
    """A reader of an utterance. Not an async generator: left by a barge-in, there is nothing to close."""

    def __init__(self, utterance: Utterance) -> None:
        self._utterance = utterance
        self._place = 0

    def __aiter__(self) -> _Following:
        return self

    async def __anext__(self) -> Audio:
        audio = await self._utterance.piece(self._place)
        if audio is None:
            raise StopAsyncIteration
        self._place += 1
        return audio
