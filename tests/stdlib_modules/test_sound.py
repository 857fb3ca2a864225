"""Sound as arrays and back: exact where nothing changes, and without clicks where the rate does."""

from __future__ import annotations

import math

import pytest

from ezflow import Audio

np = pytest.importorskip("numpy", reason="the extra `speech` is not installed: numpy is missing")
pytest.importorskip("soxr", reason="the extra `speech` is not installed: soxr is missing")

from stdlib_modules.sound import Resampler, as_float32, from_float32, slices  # noqa: E402


def tone(rate_hz: int, seconds: float = 1.0, hz: float = 440.0) -> Audio:
    t = np.arange(round(rate_hz * seconds)) / rate_hz
    return from_float32((0.5 * np.sin(2 * np.pi * hz * t)).astype(np.float32), rate_hz)


def test_every_16_bit_sample_comes_back_as_it_was() -> None:
    pcm = np.arange(-32768, 32768, dtype="<i2").tobytes()
    assert from_float32(as_float32(Audio(pcm, 16_000), 16_000), 16_000) == Audio(pcm, 16_000)


def test_what_is_too_loud_is_clipped() -> None:
    loud = from_float32(np.array([3.0, -3.0, 1.0], np.float32), 8000, text="oh")
    assert np.frombuffer(loud.pcm, "<i2").tolist() == [32767, -32768, 32767]
    assert loud.text == "oh"


def test_channels_are_averaged() -> None:
    stereo = Audio(np.array([[16384, 0], [-16384, -16384]], "<i2").tobytes(), 16_000, channels=2)
    assert as_float32(stereo, 16_000).tolist() == [0.25, -0.5]


def test_a_sound_at_another_rate_is_the_same_sound() -> None:
    samples = as_float32(tone(48_000), 16_000)
    assert samples.dtype == np.float32
    assert np.abs(samples - as_float32(tone(16_000), 16_000))[200:-200].max() < 0.001


@pytest.mark.parametrize("rate_hz", [8000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("piece_s", [0.01, 0.0333, 10.0])
def test_a_stream_in_pieces_is_resampled_like_the_whole(rate_hz: int, piece_s: float) -> None:
    sound = tone(rate_hz)
    resampler = Resampler(16_000)
    parts = [resampler.feed(piece) for piece in slices(sound, piece_s)]
    streamed = np.concatenate([*parts, resampler.flush()])
    whole = as_float32(sound, 16_000)
    assert abs(streamed.size - whole.size) <= 1
    n = min(streamed.size, whole.size)
    assert np.abs(streamed[:n] - whole[:n]).max() < 0.001


def test_a_stream_that_has_the_rate_passes_at_once() -> None:
    sound = tone(16_000, 0.01)
    resampler = Resampler(16_000)
    assert resampler.feed(sound).size == sound.samples
    assert resampler.flush().size == 0


def test_a_stream_may_change_its_rate() -> None:
    resampler = Resampler(16_000)
    rates = [48_000, 16_000, 8000, 48_000]
    parts = [resampler.feed(tone(rate_hz, 0.5)) for rate_hz in rates]
    total = sum(part.size for part in parts) + resampler.flush().size
    assert abs(total - 4 * 8000) <= 4


def test_slices_hold_all_of_the_sound() -> None:
    stereo = Audio(tone(16_000, 1.0).pcm, 16_000, channels=2)
    pieces = list(slices(stereo, 0.15))
    assert b"".join(piece.pcm for piece in pieces) == stereo.pcm
    assert len(pieces) == math.ceil(0.5 / 0.15)
    assert max(piece.duration_s for piece in pieces) <= 0.15


def test_a_sound_without_samples_gives_none() -> None:
    nothing = Audio(b"", 48_000)
    assert list(slices(nothing, 1.0)) == []
    assert as_float32(nothing, 16_000).size == 0
    assert Resampler(16_000).feed(nothing).size == 0
