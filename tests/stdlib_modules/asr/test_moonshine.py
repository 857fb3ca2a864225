"""Moonshine with its real model, on human recordings and on speech made by Hibari."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import ezflow
from ezflow import Audio, Event, Service, Transcript, Utterance
from ezflow.testing import check_module, collect

np = pytest.importorskip("numpy", reason="the extra `speech` is not installed: numpy is missing")
pytest.importorskip("moonshine_voice", reason="the extra `speech` is not installed: moonshine-voice is missing")
pytest.importorskip("hibari", reason="the extra `speech` is not installed: hibari-tts is missing")

from moonshine_voice import transcriber as library  # noqa: E402
from moonshine_voice.utils import get_assets_path  # noqa: E402

from stdlib_modules.asr.moonshine import Moonshine, _Worker  # noqa: E402
from stdlib_modules.sound import as_float32, from_float32, slices  # noqa: E402
from stdlib_modules.tts.hibari import Hibari  # noqa: E402

pytestmark = pytest.mark.model

QUESTION = "How many legs does a spider have?"
TWO_CITIES = """It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of
foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of light, it was the
season of darkness, it was the spring of hope, it was the winter of despair, we had everything before us, we had
nothing before us, we were all going direct to heaven, we were all going direct the other way. In short, the period
was so far like the present period that some of its noisiest authorities insisted on its being received, for good or
for evil, in the superlative degree of comparison only."""

Say = Callable[[str], Awaitable[Audio]]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def errors(said: str, heard: str) -> int:
    """How many words must be changed to turn one into the other."""
    row = list(range(len(words(heard)) + 1))
    for i, word in enumerate(words(said), 1):
        before, row[0] = row[0], i
        for j, other in enumerate(words(heard), 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def silence(seconds: float) -> Audio:
    return Audio(bytes(2 * round(seconds * 16_000)), 16_000)


def noise(seconds: float, loudness: float) -> Audio:
    samples = np.random.default_rng(0).normal(0, loudness, round(seconds * 16_000))
    return from_float32(samples.astype(np.float32), 16_000)


def joined(*parts: Audio) -> Audio:
    return Audio(b"".join(part.pcm for part in parts), 16_000)


def trimmed(sound: Audio, loud: float = 0.02) -> Audio:
    """Without the silence around it."""
    samples = as_float32(sound, 16_000)
    first, *_, last = np.flatnonzero(np.abs(samples) > loud)
    return from_float32(samples[first : last + 1], 16_000)


def recording(name: str) -> Audio:
    return Audio.from_wav(Path(get_assets_path()) / name)


@pytest.fixture
async def say() -> AsyncIterator[Say]:
    """Speech of 16 kHz, made by Hibari."""
    async with Hibari().open() as service, service.session("maker") as session:

        async def make(text: str) -> Audio:
            made = [event.item async for event in session.turn(text) if event.type == "audio"]
            return from_float32(np.concatenate([as_float32(audio, 16_000) for audio in made]), 16_000)

        yield make


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[Any]]:
    """The streams of the library that are open, as they come and go."""
    there: set[Any] = set()

    class Watched(library.Stream):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            there.add(self)

        def close(self) -> None:
            super().close()
            there.discard(self)

    monkeypatch.setattr(library, "Stream", Watched)
    yield there
    assert not there


def transcripts(events: list[Event]) -> list[Transcript]:
    return [event.item for event in events if event.type == "transcript"]


def given(events: list[Event]) -> list[str]:
    return [event.item for event in events if event.type == "text"]


async def first(events: AsyncIterable[Event], with_word: str = "") -> Transcript:
    """The next transcript that has this word."""
    async for event in events:
        if event.type == "transcript" and with_word in event.item.text:
            return event.item
    raise AssertionError("the turn ended before")


# ------------------------------------------------------------------ what it hears


async def test_a_spoken_question_becomes_its_words(say: Say) -> None:
    (text,) = await collect(Moonshine(), [await say(QUESTION)])
    assert text == QUESTION


async def test_any_rate_and_channels_will_do(say: Say) -> None:
    samples = as_float32(await say(QUESTION), 44_100)
    stereo = np.repeat(samples[:, np.newaxis], 2, axis=1).reshape(-1)
    (text,) = await collect(Moonshine(), [Audio(from_float32(stereo, 44_100).pcm, 44_100, channels=2)])
    assert words(text) == words(QUESTION)


async def test_each_item_gives_its_own_text(say: Say) -> None:
    items = [await say("Good morning."), silence(1), Utterance.of(await say("What time is it?"))]
    texts = await collect(Moonshine(), items)
    assert [words(text) for text in texts] == [["good", "morning"], ["what", "time", "is", "it"]]


@pytest.mark.parametrize(
    "sound",
    [silence(3), Audio(b"", 16_000), noise(3, 0.005), noise(3, 0.05), noise(3, 0.3)],
    ids=["silence", "nothing at all", "quiet noise", "noise", "loud noise"],
)
@pytest.mark.parametrize("kind", ["Audio", "Utterance"])
async def test_silence_and_noise_give_no_text(sound: Audio, kind: str, streams: set[Any]) -> None:
    async with Moonshine().open() as service, service.session("ann") as session:
        item = sound if kind == "Audio" else Utterance.of(*slices(sound, 0.032))
        events = [event async for event in session.turn(item)]
    assert [event.type for event in events] == ["turn.started", "turn.ended"]


async def test_silence_after_speech_that_broke_off_gives_no_text(say: Say, streams: set[Any]) -> None:
    """The library's voice detector goes on from the state that the item before has left."""
    broken_off = next(slices(trimmed(await say("What time is it?")), 0.6))
    texts = await collect(Moonshine(), [broken_off, silence(0.3), broken_off, noise(1, 0.05)])
    assert len(texts) == 2


async def test_half_a_word_gives_nothing_or_a_guess_of_one_word(say: Say) -> None:
    half = next(slices(trimmed(await say("Spider.")), 0.2))
    texts = await collect(Moonshine(), [half])
    assert sum(len(words(text)) for text in texts) <= 1


@pytest.mark.parametrize("word", ["Yes.", "No.", "Stop.", "Seven."])
async def test_a_single_word_that_begins_at_once_is_heard_once(say: Say, word: str) -> None:
    (text,) = await collect(Moonshine(), [trimmed(await say(word))])
    assert words(text) == words(word)


async def test_a_word_said_softly_at_the_end_is_not_lost(say: Say) -> None:
    soft = from_float32(0.05 * as_float32(trimmed(await say("Please.")), 16_000), 16_000)
    sound = joined(trimmed(await say("Tell me a story about a dog.")), silence(0.3), soft, silence(0.5))
    (text,) = await collect(Moonshine(), [Utterance.of(*slices(sound, 0.032))])
    assert words(text)[-1] == "please"


# ------------------------------------------------------------------ while it is spoken


async def test_of_a_long_recording_the_client_sees_the_words_grow(streams: set[Any]) -> None:
    async with Moonshine().open() as service, service.session("ann") as session:
        events = [event async for event in session.turn(recording("two_cities.wav"))]
    *partial, final = transcripts(events)
    assert len(partial) > 5
    assert not any(transcript.final for transcript in partial)
    assert len(partial[0].text) < len(partial[-1].text)
    assert final.final
    assert given(events) == [final.text]
    assert [event.type for event in events][-3:] == ["transcript", "text", "turn.ended"]
    assert errors(TWO_CITIES, final.text) < 0.12 * len(words(TWO_CITIES))
    assert not re.search(r"\n|  |,,", final.text)


async def test_an_utterance_is_heard_before_its_end(say: Say) -> None:
    sound = joined(await say("Tell me a story about a little dog."), silence(0.5))
    pieces = list(slices(sound, 0.032))
    utterance = Utterance()
    async with Moonshine().open() as service, service.session("ann") as session:
        async with session.turn(utterance) as events:
            for piece in pieces[: len(pieces) // 2]:
                utterance.feed(piece)
            early = await first(events, "Tell me")
            assert not utterance.ended
            assert not early.final
            for piece in pieces[len(pieces) // 2 :]:
                utterance.feed(piece)
            utterance.end()
            rest = [event async for event in events]
    (text,) = given(rest)
    assert words(text) == words("Tell me a story about a little dog.")


async def test_when_speech_ends_in_a_pause_nothing_is_left_to_do(
    say: Say, monkeypatch: pytest.MonkeyPatch, streams: set[Any]
) -> None:
    """The pass that was made in the pause has all the words: the end of the pause does not reach the model."""
    looked_at = 0
    add_audio = library.Stream.add_audio

    def counted(self: Any, samples: list[float], rate_hz: int) -> None:
        nonlocal looked_at
        looked_at += len(samples)
        add_audio(self, samples, rate_hz)

    monkeypatch.setattr(library.Stream, "add_audio", counted)
    sound = joined(trimmed(await say("Tell me a story about a little dog.")), silence(0.5))
    (text,) = await collect(Moonshine(), [Utterance.of(*slices(sound, 0.032))])
    assert words(text) == words("Tell me a story about a little dog.")
    padding_s = 0.1
    assert 0.1 < sound.duration_s - (looked_at / 16_000 - padding_s) < 0.5


# ------------------------------------------------------------------ several at once, and cut off


async def test_sessions_at_once_do_not_mix(say: Say, streams: set[Any]) -> None:
    said = {
        "ann": "What is the capital of France?",
        "bob": "Set a timer for ten minutes, please.",
        "cid": "Is it going to rain tomorrow in London?",
        "dan": "The quick brown fox jumps over the lazy dog.",
    }
    sounds = {user: await say(text) for user, text in said.items()}
    heard: dict[str, list[str]] = {}

    async def one(service: Service, user: str) -> None:
        async with service.session(user) as session:
            item = Utterance.of(*slices(sounds[user], 0.1))
            heard[user] = given([event async for event in session.turn(item)])

    async with Moonshine().open() as service, trio.open_nursery() as nursery:
        for user in said:
            nursery.start_soon(one, service, user)
    for user, text in said.items():
        spelled = " ".join(heard[user]).replace("10", "ten")
        assert errors(text, spelled) <= 1
        others = {word for other in said if other != user for word in words(said[other])} - set(words(text))
        assert not others & set(words(spelled))


async def test_a_turn_cut_off_in_the_middle_leaves_no_stream(streams: set[Any], say: Say) -> None:
    question = await say(QUESTION)
    async with Moonshine().open() as service, service.session("ann") as session:
        async with session.turn(recording("two_cities.wav")) as events:
            await first(events)
            assert len(streams) == 1
        assert not streams
        events = [event async for event in session.turn(question)]
    assert given(events) == [QUESTION]


async def test_the_stream_of_a_turn_cut_off_is_closed_while_another_is_at_work(streams: set[Any]) -> None:
    utterance = Utterance.of(*slices(recording("beckett.wav"), 1.0))
    async with Moonshine().open() as service:
        async with service.session("ann") as ann, service.session("bob") as bob:
            async with bob.turn(recording("two_cities.wav")) as others:
                async with ann.turn(utterance) as events:
                    await first(events)
                    await first(others)
                    assert len(streams) == 2
                for _ in range(2):  # the pass that was at work then, and one more
                    await first(others)
                assert len(streams) == 1


async def test_a_stream_given_up_while_the_thread_at_work_leaves_is_closed_too() -> None:
    class Late(_Worker):
        """Gets another stream to close when its thread has just closed those that it had."""

        def _close_retired(self) -> None:
            super()._close_retired()
            if late:
                trio.from_thread.run(self.retire, late.pop())

    class Given:
        open = True

        def close(self) -> None:
            self.open = False

    given = Given()
    late: list[Any] = [given]
    worker = Late(Given())  # type: ignore[arg-type]  # of which it needs no more
    assert await worker.do(len, []) == 0
    assert not given.open


async def test_many_turns_cut_off_anywhere_leave_it_working(streams: set[Any], say: Say) -> None:
    question = await say(QUESTION)
    async with Moonshine().open() as service, service.session("ann") as session:
        for count in range(1, 6):
            async with session.turn(Utterance.of(*slices(question, 0.05))) as events:
                for _ in range(count):
                    await anext(events, None)
        events = [event async for event in session.turn(question)]
    assert given(events) == [QUESTION]


# ------------------------------------------------------------------ when something is missing


async def test_missing_weights_are_named_when_it_opens(tmp_path: Path) -> None:
    with pytest.raises(ezflow.ModuleOpenError, match=r"no Moonshine weights in .*moonshine-voice==0\.1\.0"):
        await collect(Moonshine(model_dir=str(tmp_path)), [silence(1)])


async def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moonshine_voice", None)
    with pytest.raises(ezflow.ModuleOpenError, match=r"ezflow-trio\[speech\]") as caught:
        await collect(Moonshine(), [silence(1)])
    assert isinstance(caught.value.__cause__, ezflow.MissingDependency)


def test_it_conforms() -> None:
    def alike(one: str, other: str) -> bool:
        # The library's voice detector is shared by all of its streams: a doubtful word may come out otherwise.
        return errors(one, other) <= 1

    tried, tried_and_failed = (next(slices(recording("beckett.wav"), seconds)) for seconds in (1.6, 3.2))
    samples = [Utterance.of(*slices(tried, 0.1)), silence(1), tried_and_failed]
    check_module(Moonshine(), samples, real=True, points=6, same=alike)
