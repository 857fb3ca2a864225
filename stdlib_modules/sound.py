"""The one place where presets turn `Audio` into arrays of float32 and back, and change sampling rates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ezflow import Audio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Resampler", "as_float32", "from_float32", "slices"]

FULL_SCALE = 32768  # the same both ways, so that PCM16 comes back bit by bit


def as_float32(audio: Audio, rate_hz: int) -> NDArray[np.float32]:
    """A whole sound as mono samples between -1 and 1 at `rate_hz`; channels are averaged.

    For the pieces of a stream use a Resampler: resampled one by one they would click at their borders.
    """
    import soxr

    samples = _mono(audio)
    if audio.rate_hz == rate_hz or not samples.size:
        return samples
    resampled: NDArray[np.float32] = soxr.resample(samples, audio.rate_hz, rate_hz)
    return resampled


def from_float32(samples: NDArray[np.float32], rate_hz: int, text: str = "") -> Audio:
    """Mono samples as PCM16; what lies beyond -1 and 1 is clipped."""
    import numpy as np

    scaled = np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
    return Audio(scaled.astype("<i2").tobytes(), rate_hz, text=text)


def slices(audio: Audio, seconds: float) -> Iterator[Audio]:
    """The sound in pieces of at most `seconds`, in order; nothing for a sound without samples."""
    frame = 2 * audio.channels
    step = max(1, round(seconds * audio.rate_hz)) * frame
    for start in range(0, len(audio.pcm), step):
        yield Audio(audio.pcm[start : start + step], audio.rate_hz, audio.channels)


class Resampler:
    """A stream of sound as mono float32 at one rate, whatever the rate and channels of its pieces.

    The filter runs on across the borders of the pieces. It holds back some 10 to 50 ms, which `flush` gives;
    sound that has the rate already passes at once. Where a stream changes its rate, the old is flushed first.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._input_hz = rate_hz
        self._filter: Any = None

    def feed(self, audio: Audio) -> NDArray[np.float32]:
        """What is known of the stream after this piece; may be empty."""
        import numpy as np

        held = None
        if audio.rate_hz != self._input_hz:
            held = self.flush()
            self._input_hz = audio.rate_hz
        samples = _mono(audio)
        if audio.rate_hz != self._rate_hz:
            samples = self._running_filter().resample_chunk(samples)
        return samples if held is None or not held.size else np.concatenate([held, samples])

    def flush(self) -> NDArray[np.float32]:
        """The end of the stream; what is fed afterwards begins another."""
        import numpy as np

        rest = np.zeros(0, np.float32)
        if self._filter is not None:
            rest = self._filter.resample_chunk(rest, last=True)
            self._filter = None
        return rest

    def _running_filter(self) -> Any:
        import soxr

        if self._filter is None:
            self._filter = soxr.ResampleStream(self._input_hz, self._rate_hz, 1, dtype="float32")
        return self._filter


def _mono(audio: Audio) -> NDArray[np.float32]:
    import numpy as np

    samples = np.frombuffer(audio.pcm, dtype="<i2").astype(np.float32)
    samples /= FULL_SCALE
    if audio.channels == 1:
        return samples
    mixed: NDArray[np.float32] = samples.reshape(-1, audio.channels).mean(axis=1)
    return mixed
