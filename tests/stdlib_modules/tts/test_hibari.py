"""Hibari with its real model; what it says is checked by Moonshine."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
import trio

import ezflow
from ezflow import Audio, Progress
from ezflow.testing import check_module, collect
from stdlib_modules.asr.moonshine import Moonshine
from stdlib_modules.tts.hibari import MAX_CHARS, Hibari

pytestmark = pytest.mark.model
pytest.importorskip("hibari", reason="the extra `speech` is not installed: hibari-tts is missing")

STORY = "The dog ran. It saw a cat! Was the cat glad? Dr. Smith says no."
SENTENCES = ["The dog ran.", "It saw a cat!", "Was the cat glad?", "Dr. Smith says no."]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


async def test_each_sentence_is_one_audio_with_its_words() -> None:
    said = await collect(Hibari(), [STORY])
    assert [audio.text for audio in said] == SENTENCES
    for audio in said:
        assert (audio.rate_hz, audio.channels) == (24_000, 1)
        assert 0.5 < audio.duration_s < 3


@pytest.mark.parametrize("text", ["", "  \n ", "...", "?!", "—", "😀 👍", "*", "你好", "(", "“”"])
async def test_text_with_nothing_to_say_gives_nothing(text: str) -> None:
    assert await collect(Hibari(), [text]) == []


async def test_a_client_is_told_of_words_that_an_english_voice_cannot_say() -> None:
    async with Hibari().open() as service, service.session("ann") as session:
        said = [event async for event in session.turn("你好。")]
        hello = [event async for event in session.turn("Hello.")]
    assert [event.item for event in said[1:-1]] == [Progress("Hibari speaks English alone: no sound for '你好。'.")]
    assert [event.type for event in hello[1:-1]] == ["audio"]


async def test_emoji_between_words_are_passed_over() -> None:
    (said,) = await collect(Hibari(), ["Hello 😀 there"])
    assert said.text == "Hello 😀 there"


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("How many legs does a spider have?", "how many legs does a spider have"),
        ("The capital of France is Paris.", "the capital of france is paris"),
        ("Please set a timer for 10 minutes.", "please set a timer for 10 minutes"),
        ("It is 25 degrees in London today.", "it is 25 degrees in london today"),
        ("I would like a cup of tea, please.", "i would like a cup of tea please"),
    ],
)
async def test_what_it_says_is_understood(text: str, heard: str) -> None:
    (transcript,) = await collect(Hibari() >> Moonshine(), [text])
    spelled = transcript.lower().replace("twenty-five", "25").replace("ten ", "10 ")
    assert words(spelled) == heard.split()


async def test_a_request_may_ask_for_another_speed() -> None:
    (slow,) = await collect(Hibari(), ["The dog ran home."], TTS={"speed": 0.5})
    (usual,) = await collect(Hibari(), ["The dog ran home."])
    (fast,) = await collect(Hibari(speed=2.0), ["The dog ran home."])
    assert slow.duration_s > 1.5 * usual.duration_s > 2.2 * fast.duration_s


async def test_a_speed_out_of_range_is_refused() -> None:
    with pytest.raises(ezflow.InputError, match="speed"):
        await collect(Hibari(), ["hello"], TTS={"speed": 9})
    with pytest.raises(ValueError, match="speed"):
        Hibari(speed=0.0)


async def test_a_text_without_full_stops_comes_in_pieces() -> None:
    text = ", ".join(["the little dog ran over the green hill and down again"] * 3) + " and on" * 100
    said = await collect(Hibari(), [text])
    assert len(said) >= 3
    assert all(len(audio.text) <= MAX_CHARS for audio in said)
    assert " ".join(audio.text for audio in said) == text


async def test_the_first_sentence_is_heard_before_the_last_is_made() -> None:
    async with Hibari().open() as service, service.session("ann") as session:
        times = [event.t async for event in session.turn(" ".join([STORY] * 5)) if event.type == "audio"]
    assert len(times) == 20
    assert times[0] < times[-1] / 4


async def test_an_unknown_voice_is_named_when_it_opens() -> None:
    with pytest.raises(ezflow.ModuleOpenError, match=r"no voice 'nobody': hibari has .*heart"):
        await collect(Hibari(voice="nobody"), ["hello"])


async def test_a_voice_that_is_not_here_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIBARI_HOME", str(tmp_path))
    with pytest.raises(ezflow.ModuleOpenError, match="hibari --voice emma"):
        await collect(Hibari(voice="emma"), ["hello"])
    assert os.listdir(tmp_path) == []


async def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(ezflow.ModuleOpenError, match=r"ezflow-trio\[speech\]") as caught:
        await collect(Hibari(), ["hello"])
    assert isinstance(caught.value.__cause__, ezflow.MissingDependency)


async def test_sessions_at_once_each_get_their_own_words() -> None:
    async with Hibari().open() as service:
        lengths: dict[str, list[int]] = {}

        async def one(user: str, text: str) -> None:
            async with service.session(user) as session:
                lengths[user] = [event.item.samples async for event in session.turn(text) if event.type == "audio"]

        for sentence in SENTENCES:
            await one(sentence, sentence)
        alone, lengths = lengths, {}
        async with trio.open_nursery() as nursery:
            for sentence in SENTENCES:
                nursery.start_soon(one, sentence, sentence)
        assert lengths == alone


async def test_a_turn_cut_off_in_the_middle_leaves_the_next_one_whole() -> None:
    module = Hibari()
    async with module.open() as service, service.session("ann") as session:
        async with session.turn(" ".join([STORY] * 20)) as events:
            async for event in events:
                if event.type == "audio":
                    break
        said = [event.item async for event in session.turn("All is well.") if event.type == "audio"]
    assert [audio.text for audio in said] == ["All is well."]


def test_it_conforms() -> None:
    def alike(one: Audio, other: Audio) -> bool:
        # The noise in the voice is drawn anew each time: the samples differ, their number does not.
        return (one.text, one.samples) == (other.text, other.samples)

    check_module(Hibari(), ["The dog ran. It saw a cat.", "...", "Hello."], real=True, points=10, same=alike)


async def test_what_it_runs_on_reports_to_nobody_unless_the_operator_says_so(monkeypatch) -> None:
    for before, after in ((None, "1"), ("0", "0")):
        monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
        if before is not None:
            monkeypatch.setenv("ORT_DISABLE_TELEMETRY", before)
        async with Hibari().open():
            assert os.environ["ORT_DISABLE_TELEMETRY"] == after
