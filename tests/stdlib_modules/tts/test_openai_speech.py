"""`OpenAISpeech` against a stand-in: what it asks for, and sound as it comes."""

from __future__ import annotations

from typing import Any

import pytest

from ezflow import Audio, InputError
from ezflow.server.ezpipe_request import read_options
from ezflow.testing import collect
from ezflow.testing.backends import Reply
from ezflow.testing.backends.openai import OpenAIStandIn, SpeechBody, spoken
from stdlib_modules.http.errors import BackendBroken, BackendRefused
from stdlib_modules.llm.openai import OpenAIChat
from stdlib_modules.text.sentences import Sentences
from stdlib_modules.tts.openai import OpenAISpeech


def tts(server: OpenAIStandIn, **settings: Any) -> OpenAISpeech:
    return OpenAISpeech("small", url=server.url, **({"retries": 0} | settings))


def pcm(sounds: list[Audio]) -> bytes:
    return b"".join(sound.pcm for sound in sounds)


async def test_only_what_is_set_is_sent() -> None:
    async with OpenAIStandIn().serving() as server:
        await collect(tts(server), ["hi"])
        await collect(tts(server, voice="nova", speed=2.0, instructions="Whisper.", response_format="wav"), ["hi"])
    least = {"model": "small", "input": "hi", "voice": "alloy", "response_format": "pcm"}
    more = {"voice": "nova", "speed": 2.0, "instructions": "Whisper.", "response_format": "wav"}
    assert [request.json() for request in server.requests] == [least, least | more]


async def test_a_request_may_set_its_own_options() -> None:
    async with OpenAIStandIn().serving() as server:
        await collect(tts(server, speed=2.0), ["hi"], TTS={"voice": "nova", "speed": 1, "instructions": "Loud."})
        with pytest.raises(InputError, match=r"^options\.TTS\.speed: 'speed' must be <= 4"):
            await tts(server).collect(["hi"], options={"TTS": {"speed": 9}})
    (body,) = server.spoken
    assert (body.voice, body.speed, body.instructions) == ("nova", 1.0, "Loud.")


@pytest.mark.parametrize("response_format", ["pcm", "wav"])
async def test_the_sound_is_whole_and_its_first_piece_has_the_words(response_format: str) -> None:
    async with OpenAIStandIn().serving() as server:
        said = await collect(tts(server, response_format=response_format), ["Hello, 你好.", "Bye."])
    assert pcm(said) == spoken("Hello, 你好.").pcm + spoken("Bye.").pcm
    assert [sound.text for sound in said if sound.text] == ["Hello, 你好.", "Bye."]
    assert said[0].text
    assert {(sound.rate_hz, sound.channels) for sound in said} == {(24_000, 1)}


async def test_the_first_sound_is_given_before_the_last_is_made() -> None:
    async with OpenAIStandIn(each_s=0.02).serving() as server:
        async with tts(server).open() as service, service.session("ann") as session:
            times = [event.t async for event in session.turn("one two three") if event.type == "audio"]
    assert len(times) > 4
    assert times[0] < times[-1] / 2


async def test_the_rate_is_that_of_the_wav_or_what_the_module_says_of_bare_samples() -> None:
    async with OpenAIStandIn(say=lambda text: Audio(b"\1\2\3\4" * 9, 44_100, 2)).serving() as server:
        (from_wav,) = await collect(tts(server, response_format="wav"), ["hi"])
        (bare,) = await collect(tts(server, pcm_hz=16_000), ["hi"])
    assert (from_wav.rate_hz, from_wav.channels, from_wav.samples) == (44_100, 2, 9)
    assert (bare.rate_hz, bare.channels, bare.samples) == (16_000, 1, 18)


async def test_a_text_with_nothing_to_say_asks_nothing() -> None:
    async with OpenAIStandIn().serving() as server:
        assert await collect(tts(server), ["", " \n", "...", "?!", "—"]) == []
    assert server.requests == []


async def test_what_ezpipes_clients_send_is_understood() -> None:
    given = {"temperature": 1, "TTS": {"streamly": True, "voice": "邻家女孩", "sessionid": 319652, "emotion": "中立"}}
    async with OpenAIStandIn(voices=["邻家女孩"]).serving() as server:
        flow = OpenAIChat("small", url=server.url) >> Sentences() >> tts(server)
        async with flow.open() as service, service.session("ann") as session:
            options = read_options(given | {"LLM": {"streamly": True}}, service.stages)
            said = [event.item async for event in session.turn("hi", options=options) if event.type == "audio"]
    assert pcm(said) == spoken("You said hi.").pcm
    assert (server.chats[0].temperature, server.spoken[0].voice) == (1.0, "邻家女孩")


async def test_a_voice_that_the_server_does_not_have_is_told() -> None:
    async with OpenAIStandIn().serving() as server:
        with pytest.RaisesGroup(
            pytest.RaisesExc(
                BackendRefused, match=r"400: Input should be one of alloy, nova, not 'bob': give a model and"
            )
        ):
            await collect(tts(server, voice="bob"), ["hi"])


async def test_what_is_no_wav_is_told() -> None:
    class Mute(OpenAIStandIn):
        async def _speak(self, body: SpeechBody, reply: Reply) -> None:
            await reply.whole(b"ID3\4 something", "audio/mpeg")

    async with Mute().serving() as server:
        with pytest.RaisesGroup(pytest.RaisesExc(BackendBroken, match="sent MP3 where a WAV was to come")):
            await collect(tts(server, response_format="wav"), ["hi"])


def test_settings_that_cannot_be_are_refused() -> None:
    for settings in ({"speed": 5.0}, {"speed": 0.1}, {"response_format": "mp3"}, {"pcm_hz": 0}):
        with pytest.raises(ValueError):
            OpenAISpeech("small", **settings)


async def test_a_server_that_sends_a_wav_instead_is_heard_at_its_own_rate() -> None:
    class Stubborn(OpenAIStandIn):
        async def answer(self, request: Any, reply: Reply) -> None:
            await reply.whole(Audio(b"\1\0" * 800, 16_000).to_wav(), "audio/wav")

    async with Stubborn().serving() as server:
        sounds = await collect(tts(server), ["hi"])
    assert {sound.rate_hz for sound in sounds} == {16_000}
    assert pcm(sounds) == b"\1\0" * 800


async def test_a_server_that_sends_mp3_instead_is_told_of_and_not_heard() -> None:
    class Stubborn(OpenAIStandIn):
        async def answer(self, request: Any, reply: Reply) -> None:
            await reply.whole(b"ID3" + bytes(1000), "audio/mpeg")

    async with Stubborn().serving() as server:
        with pytest.RaisesGroup(pytest.RaisesExc(BackendBroken, match="sent audio/mpeg, but pcm was asked for")):
            await collect(tts(server), ["hi"])
