"""Live conversations with the voice example: real sound over `/live/ws`, a real server, real models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

np = pytest.importorskip("numpy", reason="the extra `speech` is not installed: numpy is missing")

from speech import (  # noqa: E402
    RATE_HZ,
    Client,
    Samples,
    brown,
    conversation,
    keyboard,
    loud,
    over,
    silence,
    spoken,
    white,
    words,
)

from ezflow import Audio, Latest, Module, Turn, module  # noqa: E402
from ezflow.server.config import Settings  # noqa: E402
from ezflow.server.run import run  # noqa: E402
from stdlib_modules.asr.moonshine import Moonshine  # noqa: E402
from stdlib_modules.sound import as_float32, from_float32  # noqa: E402
from stdlib_modules.text.sentences import Sentences  # noqa: E402
from stdlib_modules.tts.hibari import Hibari  # noqa: E402
from stdlib_modules.vad.silero import SileroVAD  # noqa: E402

pytestmark = pytest.mark.model

SPIDER = "How many legs does a spider have?"
FRANCE = "What is the capital of France?"
OCEAN = "Tell me about the ocean in five sentences."
PAUSE_S = 1.0  # ends an utterance, with some to spare


@pytest.fixture
def live(voice_url: str) -> str:
    return f"{voice_url}/live"


async def ask(client: Client, question: str) -> None:
    """A question and the pause after it, all at once."""
    await client.burst(spoken(question), silence(PAUSE_S))


# ------------------------------------------------------------------ what is no speech, and what is hardly any


NO_SPEECH: dict[str, Callable[[], Samples]] = {
    "silence": lambda: silence(5),
    "hiss": lambda: loud(white(5), 0.003),
    "white noise": lambda: loud(white(5), 0.1),
    "brown noise": lambda: loud(brown(5), 0.1),
    "keyboard": lambda: keyboard(5),
}


@pytest.mark.parametrize("name", NO_SPEECH)
async def test_silence_and_noise_give_no_text_and_no_sound(live: str, name: str) -> None:
    async with conversation(live, name) as client:
        await client.burst(NO_SPEECH[name]())
        await client.end()
    assert [event["type"] for event in client.events] == ["turn.started", "turn.ended"]


@pytest.mark.parametrize("noise", [white, brown], ids=["white noise", "brown noise"])
async def test_a_question_in_noise_is_understood_and_answered(live: str, noise: Callable[[float], Samples]) -> None:
    async with conversation(live, f"in {noise.__name__}") as client:
        await client.burst(over(noise(5), spoken(FRANCE), snr_db=15))
        await client.end()
    assert {"what", "capital", "france"} <= set(client.heard(1))
    assert "paris" in client.answer(1)
    assert client.all("audio", run=1)


async def test_noise_during_the_reply_does_not_interrupt_it(live: str) -> None:
    async with conversation(live, "fan") as client:
        await ask(client, SPIDER)
        await client.until("audio", run=1)
        await client.burst(loud(brown(3), 0.05), keyboard(3))
        await client.end()
    assert client.all("interrupted") == []
    assert "eight" in client.answer(1)


@pytest.mark.parametrize("ms", [120, 200])
async def test_after_half_a_word_the_next_question_is_answered(live: str, ms: int) -> None:
    async with conversation(live, f"half {ms}") as client:
        await client.burst(silence(0.5), spoken(SPIDER)[: RATE_HZ * ms // 1000], silence(PAUSE_S))
        await ask(client, FRANCE)
        await client.end()
    last = client.events[-2]["run"]
    assert client.heard(last) == words(FRANCE)
    assert "paris" in client.answer(last)


# ------------------------------------------------------------------ clients as they are


async def test_two_people_at_once_each_get_their_own(live: str) -> None:
    clients: list[Client] = []

    async def talk(user: str, question: str) -> None:
        async with conversation(live, user) as client:
            clients.append(client)
            await client.speak(spoken(question), silence(PAUSE_S))
            await client.end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk, "ann", SPIDER)
        nursery.start_soon(talk, "bob", FRANCE)
    ann, bob = sorted(clients, key=lambda client: client.user)
    assert (ann.user, bob.user) == ("ann", "bob")
    assert (ann.heard(1), bob.heard(1)) == (words(SPIDER), words(FRANCE))
    assert "eight" in ann.answer(1)
    assert "paris" not in ann.answer(1)
    assert "paris" in bob.answer(1)
    assert "eight" not in bob.answer(1)
    for client in clients:
        assert {event["run"] for event in client.events if "run" in event} == {1}
        assert client.all("audio")


async def test_a_question_sent_faster_than_it_is_spoken_is_answered(live: str) -> None:
    async with conversation(live, "hasty") as client:
        await ask(client, SPIDER)
        await client.until("audio", run=1)  # without the end of the input
        await client.end()
    assert client.heard(1) == words(SPIDER)
    assert "eight" in client.answer(1)


async def test_of_two_questions_sent_at_once_the_last_is_answered(live: str) -> None:
    async with conversation(live, "hastier") as client:
        await client.burst(spoken(SPIDER), silence(PAUSE_S), spoken(FRANCE), silence(PAUSE_S))
        await client.end()
    if not client.all("interrupted", run=1):  # else it was still at work on the first
        assert client.heard(1) == words(SPIDER)
        assert "eight" in client.answer(1)
    assert client.heard(2) == words(FRANCE)
    assert "paris" in client.answer(2)
    assert client.all("audio", run=2)


async def test_of_a_recording_sent_at_once_the_last_sentence_is_answered(live: str) -> None:
    from moonshine_voice.utils import get_assets_path

    recording = Audio.from_wav(Path(get_assets_path()) / "beckett.wav")  # a person says six short sentences
    async with conversation(live, "sam") as client:
        await client.burst(as_float32(recording, RATE_HZ), silence(PAUSE_S))
        await client.end()
    assert [event["run"] for event in client.all("interrupted")] == [1, 2, 3, 4, 5]
    assert "better" in client.heard(6)
    assert client.answer(6)
    assert client.all("audio", run=6)


async def test_a_client_that_falls_silent_without_end_is_answered_and_may_go_on(live: str) -> None:
    stall_s = SileroVAD().stall_s
    assert stall_s is not None
    async with conversation(live, "mute") as client:
        await client.burst(spoken(SPIDER))
        sent = trio.current_time()
        await client.until("transcript", run=1, final=True)
        assert stall_s < trio.current_time() - sent < stall_s + 4
        await client.until("audio", run=1)
        assert client.heard(1) == words(SPIDER)
        await ask(client, FRANCE)
        await client.until("audio", run=2)
        await client.end()
    assert "eight" in client.answer(1)
    assert client.heard(2) == words(FRANCE)
    assert "paris" in client.answer(2)


async def test_a_stereo_microphone_of_48_khz_is_understood(live: str) -> None:
    def stereo(sound: Samples) -> Samples:
        left = as_float32(from_float32(sound, RATE_HZ), 48_000)
        right = loud(white(left.size / RATE_HZ), 0.002)  # nobody speaks on this side
        both: Samples = np.stack([left, right], axis=1).reshape(-1)
        return both

    async with conversation(live, "studio", rate_hz=48_000, channels=2) as client:
        await client.burst(stereo(np.concatenate([spoken(SPIDER), silence(PAUSE_S)])))
        await client.end()
    assert client.heard(1) == words(SPIDER)
    assert "eight" in client.answer(1)


# ------------------------------------------------------------------ barge-in


async def test_the_words_come_while_the_person_speaks(live: str) -> None:
    async with conversation(live, "chatty") as client:
        await client.speak(spoken(OCEAN))
        so_far = client.all("transcript")[-1]
    assert not so_far["final"]
    assert len({*words(OCEAN)} & {*words(so_far["text"])}) >= 3


async def test_speech_over_the_reply_interrupts_it_and_is_answered(live: str) -> None:
    async with conversation(live, "keen") as client:
        await ask(client, OCEAN)
        await client.until("audio", run=1)
        await ask(client, FRANCE)
        await client.until("interrupted", run=1)
        await client.end()
    assert client.heard(1) == words(OCEAN)
    assert client.heard(2) == words(FRANCE)
    assert "paris" in client.answer(2)
    assert client.all("audio", run=2)


# ------------------------------------------------------------------ what was heard


STORY = ["Once there was a small grey owl.", "It lived in a barn with nine hungry mice.", "Nobody slept at night."]


@module
class Recites(Module[str, str]):
    """Answers the first question with a story, and each later one with what the history holds of the last answer."""

    async def process(self, text: str, turn: Turn) -> str:
        told = turn.history.messages
        turn.remember(text)
        return f"{told[-1].content} ({'cut' if told[-1].cut else 'whole'})" if told else " ".join(STORY)


@asynccontextmanager
async def told_a_story(user: str, heard: float) -> AsyncIterator[Client]:
    """A client that was told the story, of which it reports to have heard so many sentences."""
    flow = SileroVAD() >> Latest(Moonshine() >> Recites().shown() >> Sentences() >> Hibari())
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        url: str = await nursery.start(partial(run, flow, Settings(port=0), say=lambda _: None, stop=stop))
        async with conversation(url, user) as client:
            await ask(client, FRANCE)
            for place in range(len(STORY)):
                sound = await client.until("audio", place=place, run=1)
                ms = 1000 * sound["samples"] / sound["rate_hz"] * min(1.0, max(0.0, heard - place))
                await client.send("played", turn=1, seq=sound["seq"], ms=ms)
            yield client
        stop.set()


async def test_of_an_interrupted_reply_the_history_holds_what_was_heard() -> None:
    async with told_a_story("ann", heard=1.5) as client:
        await ask(client, SPIDER)
        await client.end()
    assert client.all("interrupted", run=1)
    assert client.all("text", run=2)[0]["text"] == f"{STORY[0]} It lived in a (cut)"


async def test_speech_after_the_reply_was_heard_interrupts_nothing() -> None:
    async with told_a_story("bob", heard=3) as client:
        await ask(client, SPIDER)
        await client.end()
    assert client.all("interrupted") == []
    assert client.all("text", run=2)[0]["text"] == f"{' '.join(STORY)} (whole)"
