"""ezflow/items.py: sound in and out of WAVs, and utterances followed while they are spoken."""

import io
import struct
import time
import wave

import pytest
import trio
import trio.testing

from ezflow import Audio, Transcript, Utterance

# Samples at 16 bits that each width below can hold exactly, but for 8 bits the low byte.
SAMPLES = (0, 1, -1, 256, -256, 32767, -32768)


def wav(frames: bytes, width: int, channels: int = 1, rate_hz: int = 16000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(frames)
    return out.getvalue()


def pcm16(*samples: int) -> bytes:
    return struct.pack(f"<{len(samples)}h", *samples)


def widened(sample: int, width: int) -> bytes:
    """A 16-bit sample as one of `width` bytes, as WAV writes it."""
    if width == 1:
        return bytes([(sample >> 8) + 128])
    return (sample << 8 * (width - 2)).to_bytes(width, "little", signed=True)


@pytest.mark.parametrize("width", [2, 3, 4])
def test_a_wav_of_16_24_or_32_bits_is_read_exactly(width):
    audio = Audio.from_wav(wav(b"".join(widened(sample, width) for sample in SAMPLES), width))
    assert audio == Audio(pcm16(*SAMPLES), 16000)


def test_a_wav_of_8_bits_is_read_as_signed_samples():
    audio = Audio.from_wav(wav(b"".join(widened(sample, 1) for sample in SAMPLES), 1))
    assert audio.pcm == pcm16(*(sample >> 8 << 8 for sample in SAMPLES))


def test_a_long_wav_of_8_bits_holds_up_nothing():
    long = wav(bytes(16 * 2**20), 1)
    began = time.process_time()
    Audio.from_wav(long)
    assert time.process_time() - began < 0.4  # a loop over its samples takes twice as long


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_stereo_keeps_its_channels(width):
    left_right = (512, -512, 1024, -1024)
    audio = Audio.from_wav(wav(b"".join(widened(sample, width) for sample in left_right), width, channels=2))
    assert (audio.pcm, audio.channels, audio.samples) == (pcm16(*left_right), 2, 2)


def test_a_wav_that_was_cut_off_in_mid_frame_loses_only_that_frame():
    whole = wav(pcm16(1, 2, 3, 4), 2, channels=2)
    for cut, frames in ((1, 1), (2, 1), (3, 1), (4, 1), (5, 0)):
        audio = Audio.from_wav(whole[:-cut])
        assert audio.samples == frames, cut
        assert audio.pcm == pcm16(1, 2)[: 4 * frames]


@pytest.mark.parametrize("width", [3, 4])
def test_odd_bytes_at_the_end_of_wide_samples_are_left_out(width):
    assert Audio.from_wav(wav(widened(256, width) * 2, width)[:-1]).pcm == pcm16(256)


def test_a_wav_without_sound_is_empty_audio():
    assert Audio.from_wav(wav(b"", 2)) == Audio(b"", 16000)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_audio_survives_a_round_trip_through_wav(channels):
    audio = Audio(pcm16(*range(12)), 24000, channels)
    assert Audio.from_wav(audio.to_wav()) == audio


def test_a_wav_is_read_from_a_path(tmp_path):
    audio = Audio(pcm16(*SAMPLES), 8000)
    (tmp_path / "a.wav").write_bytes(audio.to_wav())
    assert Audio.from_wav(tmp_path / "a.wav") == audio
    assert Audio.from_wav(str(tmp_path / "a.wav")) == audio
    with pytest.raises(FileNotFoundError):
        Audio.from_wav(tmp_path / "b.wav")


def float_wav() -> bytes:
    """A header of IEEE float samples, which the wave module does not read."""
    made = bytearray(wav(bytes(8), 4))
    made[20:22] = struct.pack("<H", 3)
    return bytes(made)


def overfull_wav() -> bytes:
    """A chunk that is longer than the file which holds it."""
    made = bytearray(wav(bytes(8), 2))
    made[4:8] = struct.pack("<I", 20)
    return bytes(made)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"not a wav at all, but long enough for a header....",
        float_wav(),
        wav(b"", 2)[:30],
        overfull_wav(),
    ],
)
def test_what_is_no_pcm_wav_is_a_value_error_that_says_what_is_needed(data):
    with pytest.raises(ValueError, match="not a WAV of PCM samples"):
        Audio.from_wav(data)


def test_audio_of_partial_frames_is_refused():
    with pytest.raises(ValueError, match="3 bytes are not whole frames"):
        Audio(b"abc", 16000)
    with pytest.raises(ValueError, match="a multiple of 4 is needed"):
        Audio(b"ab", 16000, 2)


@pytest.mark.parametrize(("rate_hz", "channels"), [(0, 1), (-8000, 1), (16000, 0)])
def test_audio_of_no_rate_or_no_channels_is_refused(rate_hz, channels):
    with pytest.raises(ValueError):
        Audio(b"", rate_hz, channels)


def test_audio_of_other_than_bytes_is_refused():
    with pytest.raises(TypeError):
        Audio(bytearray(2), 16000)  # type: ignore[arg-type]


def test_audio_knows_its_length_and_does_not_print_its_bytes():
    audio = Audio(bytes(2 * 2 * 24000), 24000, 2, text="hi")
    assert (audio.samples, audio.duration_s) == (24000, 1.0)
    assert repr(audio) == "Audio(rate_hz=24000, channels=2, text='hi')"
    assert hash(audio) == hash(Audio(bytes(96000), 24000, 2, text="hi"))


def test_a_transcript_is_final_unless_it_says_otherwise():
    assert Transcript("hi") == Transcript("hi", final=True) != Transcript("hi", final=False)


def sound(text: str, samples: int = 160) -> Audio:
    return Audio(bytes(2 * samples), 16000, text=text)


async def test_an_utterance_is_followed_while_it_is_spoken(nursery, autojump_clock):
    utterance = Utterance()
    heard: list[tuple[float, str]] = []
    began = trio.current_time()

    async def follow() -> None:
        async for piece in utterance:
            heard.append((round(trio.current_time() - began, 6), piece.text))
        heard.append((round(trio.current_time() - began, 6), "end"))

    nursery.start_soon(follow)
    for word in ("a", "b"):
        await trio.sleep(1)
        utterance.feed(sound(word))
    await trio.sleep(1)
    utterance.end()
    await trio.testing.wait_all_tasks_blocked()
    assert heard == [(1, "a"), (2, "b"), (3, "end")]


async def test_a_late_reader_hears_an_utterance_from_its_onset():
    utterance = Utterance.of(sound("a"), sound("b"))
    assert [piece.text async for piece in utterance] == ["a", "b"]
    assert [piece.text async for piece in utterance] == ["a", "b"]


async def test_several_pieces_fed_at_once_are_all_heard(nursery, autojump_clock):
    utterance = Utterance()
    heard: list[str] = []

    async def follow() -> None:
        async for piece in utterance:
            heard.append(piece.text)
            await trio.sleep(1)

    nursery.start_soon(follow)
    await trio.testing.wait_all_tasks_blocked()
    for word in "abcde":
        utterance.feed(sound(word))
    utterance.end()
    await trio.sleep(10)
    assert heard == list("abcde")


async def test_feeding_after_the_end_has_no_effect():
    utterance = Utterance.of(sound("a"))
    utterance.feed(sound("late"))
    utterance.end()
    assert utterance.ended
    assert [piece.text async for piece in utterance] == ["a"]


async def test_the_whole_of_an_utterance_comes_at_its_end(nursery, autojump_clock):
    utterance = Utterance()
    wholes: list[Audio] = []

    async def wait() -> None:
        wholes.append(await utterance.whole())

    nursery.start_soon(wait)
    utterance.feed(sound("a", 160))
    utterance.feed(sound("b", 80))
    await trio.sleep(1)
    assert not wholes
    utterance.end()
    await trio.testing.wait_all_tasks_blocked()
    assert wholes[0].samples == 240
    assert wholes[0].rate_hz == 16000


async def test_an_utterance_without_sound_has_no_whole():
    with pytest.raises(ValueError, match="holds no sound"):
        await Utterance.of().whole()
    assert [piece async for piece in Utterance.of()] == []


async def test_following_an_utterance_can_be_cancelled(autojump_clock):
    with trio.move_on_after(1) as scope:
        async for _ in Utterance():
            pass
    assert scope.cancelled_caught


async def test_following_what_is_spoken_already_can_be_cancelled():
    with trio.CancelScope() as scope:
        async for _ in Utterance.of(sound("a"), sound("b")):
            assert not scope.cancel_called
            scope.cancel()
    assert scope.cancelled_caught


def test_utterances_are_compared_by_identity():
    one, other = Utterance.of(sound("a")), Utterance.of(sound("a"))
    assert one == one
    assert one != other
    assert repr(Utterance.of(sound("a", 16000))) == "<Utterance of 1.00 s>"
    assert repr(Utterance()) == "<Utterance of 0.00 s, still spoken>"
