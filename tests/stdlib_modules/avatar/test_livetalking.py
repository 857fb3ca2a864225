"""What an avatar is told in both generations, that it falls silent with its turn, errors that look like success."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import trio

from ezflow import InputError, Latest
from ezflow.testing import FakeLLM, collect
from ezflow.testing.backends import Fault
from ezflow.testing.backends.livetalking import LiveTalkingStandIn
from stdlib_modules.avatar.livetalking import LiveTalking
from stdlib_modules.http.errors import BackendBroken, BackendError, BackendRefused
from stdlib_modules.text.sentences import Sentences

EZPIPE = {"voice": "邻家女孩", "sessionid": 319652, "emotion": "中立"}


def errors_of(group: Any) -> list[BaseException]:
    return list(group.value.exceptions)


async def begun(server: LiveTalkingStandIn, session: Any, text: str = "Hello.") -> Any:
    """A turn whose text the avatar has begun to say."""
    running = session.turn(text)
    async for event in running:
        if event.type == "text":
            return running
    raise AssertionError("no text came")


# ---------------------------------------------------------------- what is said


async def test_each_sentence_is_said_and_given_on_and_the_first_ends_what_was_said_before():
    async with LiveTalkingStandIn(sessions=("7",)).serving() as server:
        module = LiveTalking(url=server.url, sessionid="7", quiet_s=0)
        assert await collect(module, ["Hello.", " \n", "!! 😊", "你好！"]) == ["Hello.", " \n", "!! 😊", "你好！"]
    assert [request.json() for request in server.requests] == [
        {"text": "Hello.", "type": "echo", "interrupt": True, "sessionid": "7"},
        {"text": "你好！", "type": "echo", "interrupt": False, "sessionid": "7"},
    ]
    assert server.asides == []


@pytest.mark.parametrize(
    ("generation", "sent"),
    [
        ("newer", {"sessionid": "319652", "tts": {"voice": "邻家女孩", "emotion": "中立"}}),
        ("older", {"sessionid": 319652, "voice": "邻家女孩", "emotion": "中立"}),
    ],
)
async def test_each_generation_is_sent_voice_and_session_as_it_takes_them(generation, sent):
    async with LiveTalkingStandIn(generation=generation, sessions=(319652,)).serving() as server:
        module = LiveTalking(url=server.url, generation=generation, quiet_s=0)
        assert await collect(module, ["Hello."], TTS=EZPIPE) == ["Hello."]
    [request] = server.requests
    assert request.json() == {"text": "Hello.", "type": "echo", "interrupt": True} | sent


async def test_what_a_request_leaves_out_is_what_the_module_says():
    async with LiveTalkingStandIn(sessions=("a", "b")).serving() as server:
        module = LiveTalking(url=server.url, sessionid="a", voice="one", emotion="calm", mode="chat", quiet_s=0)
        await collect(module, ["Hello."], TTS={"voice": "two"})
        await collect(module, ["Hello."], TTS={"sessionid": "b"})
    said = [(each.sessionid, each.type, each.tts.voice, each.tts.emotion) for each in server.said]
    assert said == [("a", "chat", "two", "calm"), ("b", "chat", "one", "calm")]


async def test_a_session_that_is_no_number_is_refused_for_an_older_server():
    async with LiveTalkingStandIn(generation="older").serving() as server:
        with pytest.RaisesGroup(InputError) as group:
            await collect(LiveTalking(url=server.url, generation="older"), ["Hello."], TTS={"sessionid": "x-1"})
        assert server.requests == []
    [error] = errors_of(group)
    assert error.path == "TTS.sessionid"


async def test_it_says_sentences_while_the_model_still_writes():
    async with LiveTalkingStandIn().serving() as server:
        flow = FakeLLM("One is here. Two is here.", 0.0, 0.05) >> Sentences() >> LiveTalking(url=server.url, quiet_s=0)
        said = await collect(flow, ["x"])
    assert said == ["One is here.", "Two is here."]
    assert [(each.text, each.interrupt) for each in server.said] == [("One is here.", True), ("Two is here.", False)]


# ---------------------------------------------------------------- how long a turn lasts


async def test_a_turn_lasts_until_the_avatar_has_been_silent():
    async with LiveTalkingStandIn(speaks_s=0.2).serving() as server:
        at = trio.current_time()
        await collect(LiveTalking(url=server.url, quiet_s=0.1), ["One.", "Two."])
        assert 0.4 <= trio.current_time() - at < 1.5
        assert server.hushed == []


async def test_one_that_does_not_wait_ends_when_all_has_been_taken():
    async with LiveTalkingStandIn(speaks_s=60.0).serving() as server:
        with trio.fail_after(2):
            await collect(LiveTalking(url=server.url, until_spoken=False), ["One.", "Two."])
        assert server.asides == []
        assert server.is_speaking("0")


async def test_a_page_that_is_closed_while_its_avatar_speaks_ends_the_turn():
    async with LiveTalkingStandIn(speaks_s=60.0).serving() as server, LiveTalking(url=server.url).open() as service:
        async with service.session("ann") as session:
            running = await begun(server, session)
            server.sessions.clear()
            with trio.fail_after(5):
                events = [event async for event in running]
    assert [(event.type, event.reason) for event in events] == [("turn.ended", "done")]


# ---------------------------------------------------------------- interruption


@pytest.mark.parametrize("generation", ["newer", "older"])
async def test_an_interrupted_avatar_is_silent_before_the_interruption_returns(generation):
    async with LiveTalkingStandIn(generation=generation, speaks_s=60.0).serving() as server:
        async with LiveTalking(url=server.url, generation=generation).open() as service:
            async with service.session("ann") as session:
                await begun(server, session)
                at = trio.current_time()
                await session.interrupt()
                assert trio.current_time() - at < 1
                session_id = "0" if generation == "newer" else 0
                assert server.hushed == [session_id]
                assert not server.is_speaking(session_id)


async def test_who_speaks_again_silences_the_avatar_at_once():
    async with LiveTalkingStandIn(speaks_s=60.0).serving() as server:
        flow = Latest(LiveTalking(url=server.url))
        async with flow.open() as service, service.session("ann") as session, session.live() as live:
            await live.send("Once upon a time.")
            async for event in live:
                if event.type == "text" and event.run == 1:
                    await live.send("Never mind.")
                if event.type == "interrupted":
                    assert server.hushed == ["0"]
                if event.type == "text" and event.run == 2:
                    break
    assert [(each.text, each.interrupt) for each in server.said] == [("Once upon a time.", True), ("Never mind.", True)]


async def test_a_turn_that_has_said_nothing_silences_nobody():
    async with LiveTalkingStandIn().serving() as server, LiveTalking(url=server.url).open() as service:
        async with service.session("ann") as session, session.live():
            await trio.testing.wait_all_tasks_blocked(0.01)
            await session.interrupt()
        assert server.requests == server.asides == []


async def test_a_server_that_hangs_delays_an_interruption_by_a_second_at_most(caplog):
    caplog.set_level(logging.WARNING, "ezflow")
    async with LiveTalkingStandIn(speaks_s=60.0).serving() as server, LiveTalking(url=server.url).open() as service:
        async with service.session("ann") as session:
            await begun(server, session)
            server.aside_s = 3600.0
            at = trio.current_time()
            await session.interrupt()
            assert trio.current_time() - at < 1.5
    assert f"an avatar talks on: LiveTalking at {server.url} did not silence it within 1 s" in caplog.text


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        (
            "newer",
            "LiveTalking at {}/human answered: session not found: open the avatar's page, and send the session it got "
            "as TTS.sessionid",
        ),
        ("older", "LiveTalking at {}/human answered 500: 500 Internal Server Error"),
    ],
)
async def test_a_session_that_is_not_there_is_told(generation, message):
    async with LiveTalkingStandIn(generation=generation, sessions=(1,)).serving() as server:
        with pytest.RaisesGroup(BackendRefused) as group:
            await collect(LiveTalking(url=server.url, generation=generation, sessionid=2), ["Hello."])
        [error] = errors_of(group)
        assert str(error) == message.format(server.url)


async def test_a_failure_that_comes_as_200_is_an_error_and_silences_nobody():
    async with LiveTalkingStandIn(fault=Fault.ERROR_BODY).serving() as server:
        with pytest.RaisesGroup(BackendRefused) as group:
            await collect(LiveTalking(url=server.url), ["Hello."])
        [error] = errors_of(group)
        assert str(error) == f"LiveTalking at {server.url}/human answered: the voice has no reference sound"
        assert error.status == 200
        assert server.asides == []


@pytest.mark.parametrize("body", ["[]", '"ok"', "{}", "5"])
async def test_an_answer_that_is_none_of_its_is_told(body):
    class Odd(LiveTalkingStandIn):
        async def _human(self, human: Any, reply: Any) -> None:
            await reply.json(json.loads(body))

    async with Odd().serving() as server:
        with pytest.RaisesGroup(BackendBroken):
            await collect(LiveTalking(url=server.url), ["Hello."])


# ---------------------------------------------------------------- health


async def test_health_asks_only_whether_the_server_answers():
    async with LiveTalkingStandIn().serving() as server, LiveTalking(url=server.url).open() as service:
        await service.stages[0].module.probe()
        assert [request.path for request in server.asides] == ["/"]
        server.fault = Fault.REFUSES
        with pytest.raises(BackendError, match="answered 500"):
            await service.stages[0].module.probe()
