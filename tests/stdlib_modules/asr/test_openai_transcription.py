"""`OpenAITranscription` against a stand-in: the form it sends, what it makes of the answer."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from ezflow import Audio, Transcript, Utterance
from ezflow.testing import collect
from ezflow.testing.backends import Reply, Request
from ezflow.testing.backends.openai import OpenAIStandIn
from stdlib_modules.asr.openai import OpenAITranscription
from stdlib_modules.http.errors import BackendBroken, BackendError, BackendRefused

HALF = Audio(b"\0\1" * 8000, 16_000)


def asr(server: OpenAIStandIn, **settings: Any) -> OpenAITranscription:
    return OpenAITranscription("small", url=server.url, **({"retries": 0} | settings))


class Tells(OpenAIStandIn):
    """Answers with this document."""

    def __init__(self, told: bytes) -> None:
        super().__init__()
        self.told = told

    async def answer(self, request: Request, reply: Reply) -> None:
        await reply.whole(self.told)


async def test_the_sound_comes_as_it_was_and_only_what_is_set_is_sent() -> None:
    stereo = Audio(b"\1\2\3\4" * 4800, 48_000, 2)
    async with OpenAIStandIn().serving() as server:
        await collect(asr(server), [stereo])
        await collect(asr(server, language="en", prompt="Ezflow, trio"), [HALF])
    first, second = server.heard
    assert (first.audio, second.audio) == (stereo, HALF)
    assert (first.form.language, first.form.prompt) == ("", "")
    assert (second.form.language, second.form.prompt) == ("en", "Ezflow, trio")


async def test_a_request_may_set_its_own_options() -> None:
    async with OpenAIStandIn().serving() as server:
        await collect(asr(server, language="en"), [HALF], ASR={"language": "zh", "prompt": "你好"})
    assert (server.heard[0].form.language, server.heard[0].form.prompt) == ("zh", "你好")


async def test_the_client_gets_a_final_transcript_before_the_words_go_on() -> None:
    async with OpenAIStandIn().serving() as server:
        async with asr(server).open() as service, service.session("ann") as session:
            found = [event.item async for event in session.turn(HALF) if event.item is not None]
    assert found == [Transcript("I heard 0.50 seconds."), "I heard 0.50 seconds."]


async def test_what_is_no_speech_gives_nothing() -> None:
    blip = Audio(b"\0\1" * 1599, 16_000)
    async with OpenAIStandIn().serving() as server:
        assert await collect(asr(server), [Audio(b"", 16_000), Utterance.of(), blip]) == []
        assert server.requests == []
        assert await collect(asr(server), [Audio(bytes(16_000), 16_000)]) == []
        assert len(server.heard) == 1
    async with Tells(b'{"text": " \\n "}').serving() as server:
        assert await collect(asr(server), [HALF]) == []


async def test_a_live_utterance_is_sent_when_it_has_ended() -> None:
    utterance = Utterance()
    async with OpenAIStandIn().serving() as server:
        async with asr(server).open() as service, service.session("ann") as session, session.live() as turn:
            await turn.send(utterance)
            for _ in range(4):
                utterance.feed(HALF)
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert server.requests == []
            utterance.end()
            await turn.end()
            found = [event.item async for event in turn if isinstance(event.item, str)]
    assert found == ["I heard 2.00 seconds."]


@pytest.mark.parametrize(
    ("told", "error", "message"),
    [
        (b'{"error": {"message": "no engine"}}', BackendRefused, "answered: no engine"),
        (b'{"text": null}', BackendRefused, 'answered: {"text":null}'),
        (b'["text"]', BackendRefused, r'answered: \["text"\]'),
        (b"hello", BackendBroken, "sent what is not JSON"),
    ],
)
async def test_an_answer_that_is_no_text_is_told(told: bytes, error: type[BackendError], message: str) -> None:
    async with Tells(told).serving() as server:
        with pytest.RaisesGroup(pytest.RaisesExc(error, match=rf"^OpenAITranscription at {server.url}.* {message}")):
            await collect(asr(server), [HALF])


async def test_a_refusal_says_what_to_try_and_shows_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    async with OpenAIStandIn(key="sk-right").serving() as server:
        async with asr(server).open() as service, service.session("ann") as session:
            (told,) = [event.error.message async for event in session.turn(HALF) if event.error]
    assert told.startswith(f"OpenAITranscription at {server.url}/audio/transcriptions answered 401: Incorrect API key")
    assert "api_key_env" in told
    assert "sk-" not in told + repr(asr(server))
