"""`WS /ws` over real sockets, with fakes for models."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, connect_websocket_url
from wsproto.events import BytesMessage, TextMessage

from ezflow import Audio, Flow, Inbox, Latest, Module, Outbox, Service, Turn, module
from ezflow.server.app import create_app
from ezflow.server.config import Settings
from ezflow.server.guard import GuardedConfig, serve
from ezflow.service import open_flows
from ezflow.testing import Failing, FakeASR, FakeLLM, FakeTTS, FakeVAD, Pause

WITHIN_S = 10
SILENCE = bytes(320)
WORDS = ["", "hello", "stop", "weather"]
LONG_S = 3600.0


def saying(word: str) -> bytes:
    """10 ms of sound whose samples are the word's number."""
    return WORDS.index(word).to_bytes(2, "little") * 160


@module
class Hears(Module[Audio, Audio]):
    """Understands a sound by its samples, since what a sound says does not cross the wire."""

    async def process(self, sound: Audio, turn: Turn) -> Audio:
        return Audio(sound.pcm, sound.rate_hz, sound.channels, text=WORDS[sound.pcm[0]])


@module
class Held(Module[str, str]):
    """Takes nothing until `release` is set; then gives the beginning of each text on."""

    release: trio.Event

    async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
        await turn.reply("holding")
        await self.release.wait()
        async for text in inbox:
            await outbox.send(text.partition(":")[0])


@module
class Measures(Module[Audio, str]):
    async def process(self, sound: Audio, turn: Turn) -> str:
        return f"{sound.samples} at {sound.rate_hz} in {sound.channels}"


@module
class Faulty(Module[str, str]):
    """Has a `decode` with a bug."""

    def decode(self, payload: Any) -> Any:
        raise RuntimeError("a bug")

    async def process(self, text: str, turn: Turn) -> str:
        return text


@module
class TwoSounds(Module[str, Audio]):
    async def process(self, text: str, turn: Turn) -> AsyncIterator[Audio]:
        yield Audio(b"", 8000)
        yield Audio(b"\1\0\2\0", 8000, 2)


@module
async def upper(text: str) -> str:
    return text.upper()


@module
async def mark(text: str) -> str:
    return text + "!"


def talk(each_s: float = 0.0) -> Flow[Audio, Audio]:
    """A live conversation, which after the first word of each reply takes `each_s` for each further one."""
    return Hears() >> FakeVAD() >> Latest(FakeASR() >> FakeLLM("On {} now.", each_s=each_s).shown() >> FakeTTS())


class Client:
    """A client's end of one socket."""

    def __init__(self, ws: Any) -> None:
        self.ws = ws
        self.ready: dict[str, Any] = {}

    async def send(self, kind: str, **fields: Any) -> None:
        await self.ws.send_message(json.dumps({"type": kind, **fields}))

    async def say(self, pcm: bytes) -> None:
        await self.ws.send_message(pcm)

    async def event(self) -> dict[str, Any]:
        """The next event; an audio event with its `pcm`."""
        with trio.fail_after(WITHIN_S):
            event = json.loads(await self.ws.get_message())
            if event["type"] == "audio":
                event["pcm"] = await self.ws.get_message()
                assert isinstance(event["pcm"], bytes)
        return event

    async def until(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """All events up to the first that is like this."""
        events = []
        while not events or events[-1] | fields | {"type": kind} != events[-1]:
            events.append(await self.event())
        return events

    async def closing(self) -> int:
        """What is left is read; the code that the server closes with."""
        with trio.fail_after(WITHIN_S):
            while True:
                try:
                    await self.ws.get_message()
                except ConnectionClosed as closed:
                    return closed.reason.code

    async def vanish(self) -> None:
        await trio.aclose_forcefully(self.ws._stream)


class Server:
    def __init__(self, service: Service, url: str, stopping: trio.Event) -> None:
        self.service = service
        self.url = url
        self.stopping = stopping

    @asynccontextmanager
    async def client(self, query: str = "?user=ann") -> AsyncIterator[Client]:
        with trio.fail_after(2 * WITHIN_S):
            async with connected(self.url, query) as client:
                client.ready = await client.event()
                yield client


@asynccontextmanager
async def connected(url: str, query: str = "?user=ann", **options: Any) -> AsyncIterator[Client]:
    async with trio.open_nursery() as nursery:
        ws = await connect_websocket_url(nursery, f"ws{url.removeprefix('http')}/ws{query}", **options)
        try:
            yield Client(ws)
        finally:
            await trio.aclose_forcefully(ws._stream)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def serving_sockets(flow: Flow[Any, Any], **settings: Any) -> AsyncIterator[Server]:
    """A server whose sessions the test can see. No session outlives its holders."""
    chosen = Settings(**{"port": 0, "idle_s": 0.0, **settings})
    stopping = trio.Event()
    config = GuardedConfig("127.0.0.1:0")
    config.graceful_timeout = 1.0
    config.websocket_ping_interval = 0.2
    async with open_flows({"": flow}, chosen) as services, trio.open_nursery() as nursery:
        app = create_app(services, chosen, stopping, nursery)
        url, *_ = await nursery.start(partial(serve, app, config, shutdown_trigger=stopping.wait))
        yield Server(services[""], url, stopping)
        stopping.set()


def texts(events: list[dict[str, Any]]) -> list[str]:
    return [event["text"] for event in events if event["type"] == "text"]


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


async def test_the_server_begins_with_the_session_and_the_flow():
    async with serving_sockets(talk()) as server, server.client() as client:
        assert client.ready["type"] == "ready"
        assert client.ready["session"] == "ann"
        assert [stage["name"] for stage in client.ready["flow"]["stages"]] == [
            "hears", "fake_vad", "fake_asr", "fake_llm", "fake_tts",
        ]  # fmt: skip


async def test_a_one_shot_is_start_input_end():
    async with serving_sockets(upper >> mark) as server, server.client() as client:
        await client.send("start")
        await client.send("input", data="hi")
        await client.send("end")
        events = await client.until("turn.ended")
    assert types(events) == ["turn.started", "text", "turn.ended"]
    assert events[1] | {"t": 0} == {"type": "text", "turn": 1, "seq": 1, "t": 0, "stage": "mark", "text": "HI!"}
    assert events[2]["reason"] == "done"


async def test_sound_comes_as_its_event_with_a_count_and_then_that_many_bytes():
    async with serving_sockets(TwoSounds()) as server, server.client() as client:
        await client.send("start")
        await client.send("input", data="x")
        await client.send("end")
        _, empty, sound, ended = await client.until("turn.ended")
    assert empty | {"t": 0} == {
        "type": "audio", "turn": 1, "seq": 1, "t": 0, "stage": "two_sounds",
        "rate_hz": 8000, "channels": 1, "samples": 0, "bytes": 0, "pcm": b"",
    }  # fmt: skip
    assert (sound["samples"], sound["bytes"], sound["pcm"]) == (1, 4, b"\1\0\2\0")
    assert ended["reason"] == "done"


async def test_binary_frames_are_sound_in_the_declared_format():
    async with serving_sockets(Measures()) as server, server.client() as client:
        await client.send("start")
        await client.say(bytes(320))
        assert texts(await client.until("text")) == ["160 at 16000 in 1"]
        await client.send("start", format={"rate_hz": 48_000, "channels": 2})
        await client.say(bytes(320))
        assert texts(await client.until("text")) == ["80 at 48000 in 2"]
        await client.send("input", data=base64.b64encode(Audio(bytes(20), 22_050).to_wav()).decode())
        assert texts(await client.until("text")) == ["10 at 22050 in 1"]


async def test_a_turn_may_begin_at_any_entry_and_be_fed_at_another():
    async with serving_sockets(upper >> mark) as server, server.client() as client:
        await client.send("start", entry="mark")
        await client.send("input", data="a")
        assert texts(await client.until("text")) == ["a!"]
        await client.send("start", entry=0)
        await client.send("input", data="b")
        await client.send("input", data="c", entry=1)
        await client.send("input", data="d", entry="mark")
        got = [text for _ in range(3) for text in texts(await client.until("text"))]
        assert sorted(got) == ["B!", "c!", "d!"]


async def test_fragmented_messages_are_put_together():
    async with serving_sockets(Measures()) as server, server.client() as client:
        send = client.ws._send
        await send(TextMessage(data='{"type":', message_finished=False))
        await send(TextMessage(data='"start"}'))
        for part in (b"\0", bytes(318)):
            await send(BytesMessage(data=part, message_finished=False))
        await send(BytesMessage(data=b"\0"))
        assert texts(await client.until("text")) == ["160 at 16000 in 1"]


BAD_FRAMES = [
    ('{"type"', "BadRequest", None),
    ("", "BadRequest", None),
    ("[" * 100_000, "BadRequest", None),
    ("5", "InputError", "frame"),
    ("{}", "InputError", "type"),
    ({"type": 5}, "InputError", "type"),
    ({"type": ["start"]}, "InputError", "type"),
    ({"type": "stop"}, "InputError", "type"),
    ({"type": "start", "entri": 1}, "InputError", "entri"),
    ({"type": "start", "entry": 1.5}, "InputError", "entry"),
    ({"type": "start", "entry": True}, "InputError", "entry"),
    ({"type": "start", "entry": 7}, "EntryError", "entry"),
    ({"type": "start", "entry": -1}, "EntryError", "entry"),
    ({"type": "start", "entry": "llm"}, "EntryError", "entry"),
    ({"type": "start", "options": 5}, "InputError", "options"),
    ({"type": "start", "options": {"LLM": {}}}, "InputError", "options.LLM"),
    ({"type": "start", "format": {"rate_hz": "16000"}}, "InputError", "format.rate_hz"),
    ({"type": "start", "format": {"rate_hz": 0}}, "InputError", "format.rate_hz"),
    ({"type": "start", "format": {"channels": 0}}, "InputError", "format.channels"),
    ({"type": "start", "format": {"bits": 16}}, "InputError", "format.bits"),
    ({"type": "end", "now": True}, "InputError", "now"),
    ({"type": "ping", "id": 1}, "InputError", "id"),
    ({"type": "input"}, "InputError", "data"),
    ({"type": "input", "data": "not base64!"}, "InputError", "data"),
    ({"type": "input", "data": "AAAA"}, "InputError", "data"),
    ({"type": "input", "data": 5}, "InputError", "data"),
    ({"type": "input", "data": "AAA=", "entry": 7}, "EntryError", "entry"),
    ({"type": "input", "data": "AAA=", "entry": [1]}, "InputError", "entry"),
    ({"type": "played", "turn": 1, "seq": 1}, "InputError", "ms"),
    ({"type": "played", "turn": 1, "seq": "1", "ms": 5}, "InputError", "seq"),
    ({"type": "played", "turn": 1, "seq": 1, "ms": -5}, "InputError", "ms"),
    (b"", "InputError", "data"),
    (b"\0", "InputError", "data"),
    (bytes(321), "InputError", "data"),
]


async def test_a_bad_frame_is_answered_where_and_why_and_the_turn_goes_on():
    async with serving_sockets(Measures()) as server, server.client() as client:
        await client.send("start")
        await client.until("turn.started")
        for frame, error, path in BAD_FRAMES:
            await client.ws.send_message(json.dumps(frame) if isinstance(frame, dict) else frame)
            event = await client.event()
            assert (event["type"], event["error"], event.get("path")) == ("error", error, path), frame
            assert event["message"]
            assert "turn" not in event
        await client.say(SILENCE)
        assert texts([await client.event()]) == ["160 at 16000 in 1"]


async def test_sound_for_a_stage_that_takes_text_is_refused():
    async with serving_sockets(upper) as server, server.client() as client:
        await client.send("start")
        await client.until("turn.started")
        await client.say(SILENCE)
        event = await client.event()
        assert (event["type"], event["path"]) == ("error", "data")


async def test_input_without_a_live_turn_is_refused():
    async with serving_sockets(Measures()) as server, server.client() as client:

        async def refused() -> None:
            await client.send("input", data="AAA=")
            await client.say(SILENCE)
            await client.send("end")
            for _ in range(3):
                event = await client.event()
                assert (event["type"], event["error"]) == ("error", "TurnClosedError")

        await refused()
        await client.send("start")
        await client.send("end")
        await client.until("turn.ended")
        await refused()


async def test_input_after_the_end_of_input_is_refused():
    async with serving_sockets(Held(trio.Event())) as server, server.client() as client:
        await client.send("start")
        await client.until("text")
        await client.send("end")
        for kind, fields in [("input", {"data": "x"}), ("end", {})]:
            await client.send(kind, **fields)
            assert (await client.event())["error"] == "TurnClosedError"


async def test_ping_is_answered_at_any_time():
    async with serving_sockets(Held(trio.Event())) as server, server.client() as client:
        await client.send("ping")
        assert await client.event() == {"type": "pong"}
        await client.send("start")
        await client.until("text")
        for number in range(200):
            await client.send("input", data=str(number))
        await client.send("end")
        await client.send("ping")
        assert await client.event() == {"type": "pong"}


async def test_a_second_start_ends_the_turn_and_begins_another():
    release = trio.Event()
    async with serving_sockets(Held(release)) as server, server.client() as client:
        await client.send("start")
        await client.until("text")
        for _ in range(100):
            await client.send("input", data="lost")
        await client.send("start")
        events = await client.until("text")
        assert types(events) == ["turn.ended", "turn.started", "text"]
        assert (events[0]["turn"], events[0]["reason"], events[1]["turn"]) == (1, "interrupted", 2)
        release.set()
        await client.send("input", data="kept")
        assert texts([await client.event()]) == ["kept"]


async def test_many_starts_at_once_each_have_their_turn():
    async with serving_sockets(upper) as server, server.client() as client:
        for _ in range(30):
            await client.send("start")
        await client.send("input", data="at last")
        events = await client.until("text")
        assert [e["turn"] for e in events if e["type"] == "turn.started"] == list(range(1, 31))
        ends = [(e["turn"], e["reason"]) for e in events if e["type"] == "turn.ended"]
        assert ends == [(turn, "interrupted") for turn in range(1, 30)]
        assert texts(events) == ["AT LAST"]


async def test_a_flood_of_inputs_is_answered_in_order():
    async with serving_sockets(upper) as server, server.client() as client, trio.open_nursery() as nursery:

        async def flood() -> None:
            await client.send("start")
            for number in range(2000):
                await client.send("input", data=f"n{number}")
            await client.send("end")

        nursery.start_soon(flood)
        assert texts(await client.until("turn.ended")) == [f"N{number}" for number in range(2000)]


async def test_a_turn_that_takes_nothing_stops_the_sender_and_loses_nothing():
    release = trio.Event()
    count = 3000
    async with serving_sockets(Held(release)) as server, server.client() as client, trio.open_nursery() as nursery:
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for sent in range(count):
                await client.send("input", data=f"{sent}:{'x' * 10_000}")
            await client.send("end")

        await client.send("start")
        await client.until("text")
        nursery.start_soon(flood)
        before = -1
        while before != sent:  # until it stands still
            before = sent
            await trio.testing.wait_all_tasks_blocked(0.1)
        assert sent < count - 1
        release.set()
        got = texts(await client.until("turn.ended"))
        assert got == [str(number) for number in range(count)]


async def test_speech_during_a_reply_interrupts_it_and_is_answered():
    async with serving_sockets(talk(each_s=LONG_S)) as server, server.client() as client:
        await client.send("start")
        for word in ("hello", "stop"):
            await client.say(saying(word))
            await client.say(SILENCE)
            events = await client.until("audio")
            assert texts(events) == ["On"]
            assert [e["text"] for e in events if e["type"] == "transcript" and e["final"]] == [word]
            if word == "stop":
                kinds = types(events)
                gone = kinds.index("interrupted")
                assert events[gone]["run"] == 1
                assert {e["run"] for e in events[gone + 1 :]} == {2}
                assert kinds.count("interrupted") == 1


async def test_a_live_conversation_runs_out_when_its_input_ends():
    async with serving_sockets(talk()) as server, server.client() as client:
        await client.send("start")
        await client.say(saying("weather"))
        await client.send("end")
        events = await client.until("turn.ended")
    assert "".join(texts(events)) == "On weather now."
    assert events[-1]["reason"] == "done"


async def test_interrupt_stops_the_reply_and_the_turn_listens_on():
    async with serving_sockets(talk(each_s=LONG_S)) as server, server.client() as client:
        await client.send("start")
        for run in (1, 2):
            await client.say(saying("hello"))
            await client.say(SILENCE)
            await client.until("audio")
            await client.send("interrupt")
            event = await client.event()
            assert (event["type"], event["turn"], event["run"]) == ("interrupted", 1, run)


async def test_interrupt_without_a_combinator_stops_the_item_at_work():
    async with serving_sockets(FakeLLM("On {}.", each_s=LONG_S)) as server, server.client() as client:
        await client.send("start")
        for question in ("one", "two"):
            await client.send("input", data=question)
            assert texts(await client.until("text")) == ["On"]
            await client.send("interrupt")
            assert (await client.event())["type"] == "interrupted"


@pytest.mark.parametrize("around", [lambda flow: flow, Latest], ids=["flow", "latest"])
async def test_what_is_sent_right_after_an_interrupt_is_not_interrupted_with_it(around):
    flow = around(Pause(0) >> FakeLLM("On {}.", each_s=LONG_S))
    async with serving_sockets(flow) as server, server.client() as client:
        await client.send("start")
        await client.send("input", data="one")
        await client.until("text")
        for _ in range(50):
            await client.send("interrupt")
            await client.send("input", data="another")
            assert types(await client.until("text")) == ["interrupted", "text"]


async def test_interrupt_is_seen_while_inputs_are_backed_up():
    async with serving_sockets(FakeLLM("On {}.", each_s=LONG_S)) as server, server.client() as client:
        await client.send("start")
        for number in range(200):
            await client.send("input", data=str(number))
        await client.until("text")
        await client.send("interrupt")
        assert types(await client.until("text")) == ["interrupted", "text"]  # and the next of them is at work


async def test_interrupt_while_nothing_is_at_work_is_answered_all_the_same():
    async with serving_sockets(FakeVAD() >> Latest(FakeASR())) as server, server.client() as client:
        await client.send("start")
        await client.until("turn.started")
        await client.send("interrupt")
        assert await client.event() == {"type": "interrupted", "turn": 1}


async def test_interrupt_without_a_turn_says_that_none_ran():
    async with serving_sockets(upper) as server, server.client() as client:
        await client.send("interrupt")
        assert await client.event() == {"type": "interrupted", "turn": None}


async def test_a_report_of_what_was_played_reaches_the_history():
    async with serving_sockets(talk(each_s=LONG_S)) as server, server.client() as client:
        session = server.service.sessions["ann"]
        await client.send("start")
        await client.say(saying("hello"))
        await client.say(SILENCE)
        sound = (await client.until("audio"))[-1]
        await client.send("played", turn=1, seq=sound["seq"], ms=0)
        await client.send("played", turn=7, seq=0, ms=5)
        await client.send("interrupt")
        await client.until("interrupted")
        assert [m.content for m in session.history.messages] == ["hello"]  # the reply was sent, and not heard


async def test_an_error_of_a_stage_ends_the_turn_and_the_socket_lives():
    async with serving_sockets(Failing("no luck")) as server, server.client() as client:
        for turn in (1, 2):
            await client.send("start")
            await client.send("input", data="x")
            *_, error, ended = await client.until("turn.ended")
            assert (error["type"], error["message"], error["turn"]) == ("error", "no luck", turn)
            assert ended["reason"] == "error"


async def test_a_turn_elsewhere_ends_this_one_and_the_socket_lives(serving):
    async with serving(FakeLLM("On {}.")) as server, connected(server.url) as client:
        await client.send("start")
        await client.until("turn.started")
        assert texts(await server.turn(user="ann", input="it")) == ["On", " it."]
        ended = (await client.until("turn.ended"))[-1]
        assert (ended["turn"], ended["reason"]) == (1, "interrupted")
        await client.send("start")
        assert (await client.event())["turn"] == 3


async def test_two_users_at_once_hear_only_their_own():
    async with serving_sockets(talk()) as server:

        async def converse(user: str, word: str) -> None:
            async with server.client(f"?user={user}") as client:
                await client.send("start")
                for _ in range(10):
                    await client.say(saying(word))
                    await client.say(SILENCE)
                    events = await client.until("text", text=" now.")
                    assert "".join(texts(events)) == f"On {word} now."
                    assert {event["turn"] for event in events} == {1}
                    await client.until("audio")
                    await client.send("ping")
                    await client.until("pong")

        async with trio.open_nursery() as nursery:
            for user, word in [("ann", "hello"), ("bob", "weather")]:
                nursery.start_soon(converse, user, word)


STEPS = ["ready", "start", "input", "reply", "backed up", "interrupt", "end", "replaced", "bad", "fragment"]


@pytest.mark.parametrize("step", STEPS)
async def test_when_a_client_vanishes_its_session_is_released(step):
    async with serving_sockets(talk(each_s=LONG_S)) as server, server.client() as client:
        session = server.service.sessions["ann"]
        if step not in ("ready", "bad"):
            await client.send("start")
        if step in ("input", "reply", "interrupt", "end", "backed up"):
            await client.say(saying("hello"))
        if step in ("reply", "interrupt"):
            await client.say(SILENCE)
            await client.until("audio")
        if step == "backed up":
            for _ in range(200):
                await client.say(saying("hello"))
        if step in ("interrupt", "end"):
            await client.send(step)
        if step == "replaced":
            await client.send("start")
        if step == "bad":
            await client.say(b"\0")
        if step == "fragment":
            await client.ws._send(BytesMessage(data=b"\0", message_finished=False))
        await client.vanish()
        with trio.fail_after(WITHIN_S):
            await session.gone.wait()
        assert not server.service.sessions


async def test_when_a_client_vanishes_behind_inputs_that_nobody_takes_its_session_is_released():
    async with serving_sockets(Held(trio.Event())) as server, server.client() as client:
        session = server.service.sessions["ann"]
        await client.send("start")
        await client.until("text")
        for _ in range(400):  # more than the socket and the queues before it hold; the rest is in TCP's buffers
            await client.send("input", data="x")
        await client.vanish()
        with trio.fail_after(WITHIN_S):
            await session.gone.wait()


async def test_closing_the_socket_ends_the_turn():
    async with serving_sockets(talk(each_s=LONG_S)) as server, server.client() as client:
        session = server.service.sessions["ann"]
        await client.send("start")
        await client.until("turn.started")
        await client.ws.aclose()
        with trio.fail_after(WITHIN_S):
            await session.gone.wait()


@pytest.mark.parametrize("query", ["", "?user=", f"?user={'x' * 257}", "?name=ann"])
async def test_without_a_user_the_socket_is_closed_with_1008(query):
    async with serving_sockets(upper) as server, connected(server.url, query) as client:
        assert await client.closing() == 1008
        assert not server.service.sessions


TOKEN = "a-token-of-more-than-16"


async def test_with_tokens_a_socket_without_one_or_for_another_user_is_closed_with_1008():
    async with serving_sockets(upper, tokens=[f"{TOKEN} ann"]) as server:
        wrong = [["ezflow.v1", "token.wrong-token-it-is"], [f"token.{TOKEN}x"], ["ezflow.v1"], []]
        for offered in wrong:
            async with connected(server.url, subprotocols=offered) as client:
                assert await client.closing() == 1008
        async with connected(server.url, "?user=bob", subprotocols=["ezflow.v1", f"token.{TOKEN}"]) as client:
            assert await client.closing() == 1008
        assert not server.service.sessions


@pytest.mark.parametrize(
    "options",
    [
        {"subprotocols": ["ezflow.v1", f"token.{TOKEN}"]},
        {"extra_headers": [(b"Authorization", f"Bearer {TOKEN}".encode())]},
    ],
)
async def test_a_token_is_shown_as_a_subprotocol_or_in_the_header(options):
    async with serving_sockets(upper, tokens=[TOKEN]) as server, connected(server.url, **options) as client:
        assert (await client.event())["type"] == "ready"
        assert client.ws.subprotocol == ("ezflow.v1" if "subprotocols" in options else None)


async def test_a_socket_that_starts_too_many_turns_is_told_and_lives():
    async with serving_sockets(upper, rate_per_s=0.01, rate_burst=3) as server, server.client() as client:
        for _ in range(2):  # to connect was the first of the three
            await client.send("start")
        await client.send("start")
        complaint = (await client.until("error"))[-1]
        assert complaint["error"] == "TooManyRequests"
        await client.send("input", data="x")
        await client.until("text", text="X")
        async with connected(server.url) as other:
            assert await other.closing() == 1013


async def test_a_socket_that_has_no_turn_and_sends_nothing_is_closed_and_one_that_talks_is_not():
    async with serving_sockets(upper, quiet_s=0.2) as server, connected(server.url) as quiet:
        async with server.client() as talks:
            await talks.send("start")
            assert await quiet.closing() == 1000
            await talks.send("input", data="still here")
            assert texts(await talks.until("text")) == ["STILL HERE"]
            await talks.send("end")
            await talks.until("turn.ended")
            assert await talks.closing() == 1000


async def test_a_user_has_a_limit_of_sockets_and_requests():
    async with serving_sockets(upper, max_holders=2) as server, server.client(), server.client():
        async with connected(server.url) as third, server.client("?user=bob"):
            assert await third.closing() == 1013


async def test_when_the_service_is_full_the_socket_is_closed_with_1013():
    async with serving_sockets(upper, max_sessions=1) as server, server.client():
        async with server.client(), connected(server.url, "?user=bob") as other:  # ann may come twice
            assert await other.closing() == 1013


async def test_a_message_that_is_too_big_closes_the_socket_with_1009():
    async with serving_sockets(upper) as server, server.client() as client:
        session = server.service.sessions["ann"]
        await client.say(bytes(8 * 1024 * 1024 + 2))
        assert await client.closing() == 1009
        with trio.fail_after(WITHIN_S):
            await session.gone.wait()


async def test_a_fault_of_the_server_closes_the_socket_with_1011(caplog):
    async with serving_sockets(Faulty()) as server, server.client() as client:
        await client.send("start")
        await client.send("input", data="x")
        assert await client.closing() == 1011
        assert not server.service.sessions
    assert "a bug" in caplog.text


async def test_when_a_stage_does_not_leave_the_socket_is_closed_with_1011_and_who_comes_again_has_a_new_session():
    begun, freed = trio.Event(), trio.Event()

    @module
    async def stubborn(text: str) -> str:
        if text == "stay":
            begun.set()
            with trio.CancelScope(shield=True):
                await freed.wait()
        return text

    async with serving_sockets(stubborn, cleanup_s=0.1) as server:
        async with server.client() as client:
            await client.send("start")
            await client.send("input", data="stay")
            await begun.wait()
            await client.send("start")
            for _ in range(2):  # of the turn, and of the one that waits for it
                assert (await client.until("error"))[-1]["error"] == "StageStuck"
            assert await client.closing() == 1011
        async with server.client() as again:
            await again.send("start")
            await again.send("input", data="go")
            assert (await again.until("text"))[-1]["text"] == "go"
            assert len(server.service.sessions) == 1
        freed.set()


async def test_at_shutdown_open_sockets_are_closed_with_1001(serving):
    endings = []
    async with trio.open_nursery() as nursery:

        async def listen(url: str, speak: bool, task_status: trio.TaskStatus[None]) -> None:
            async with connected(url, f"?user={speak}") as client:
                await client.event()
                if speak:
                    await client.send("start")
                    await client.say(saying("hello"))
                    await client.say(SILENCE)
                    await client.until("audio")
                task_status.started()
                reason = (await client.until("turn.ended"))[-1]["reason"] if speak else None
                endings.append((reason, await client.closing()))

        async with serving(talk(each_s=LONG_S)) as server:
            for speak in (False, True):
                await nursery.start(listen, server.url, speak)
    assert sorted(endings, key=str) == [("interrupted", 1001), (None, 1001)]


async def test_at_shutdown_a_turn_whose_input_has_ended_runs_out():
    release = trio.Event()
    async with serving_sockets(Held(release)) as server, server.client() as client:
        await client.send("start")
        await client.until("text")
        await client.send("input", data="last")
        await client.send("end")
        await client.send("ping")
        await client.until("pong")
        server.stopping.set()
        await trio.testing.wait_all_tasks_blocked(0.05)
        await client.send("start")
        assert (await client.event())["error"] == "TurnClosedError"
        release.set()
        events = await client.until("turn.ended")
        assert (texts(events), events[-1]["reason"]) == (["last"], "done")
        assert await client.closing() == 1001


async def test_the_code_of_the_shutdown_reaches_a_client_that_is_sending():
    async with serving_sockets(Held(trio.Event())) as server, server.client() as client:
        await client.send("start")
        await client.until("text")
        for _ in range(250):
            await client.send("input", data="x" * 1000)
        server.stopping.set()
        assert await client.closing() == 1001


async def test_a_client_that_offers_our_subprotocol_gets_it():
    async with serving_sockets(upper) as server:
        async with connected(server.url, subprotocols=["ezflow.v1", "token.x"]) as client:
            assert client.ws.subprotocol == "ezflow.v1"


async def test_a_slow_client_holds_up_nobody_else():
    async with serving_sockets(FakeLLM("word " * 5000)) as server:
        async with server.client("?user=slow") as slow:
            await slow.send("start")
            for _ in range(20):
                await slow.send("input", data="x" * 100)
            async with server.client("?user=bob") as client:
                await client.send("start")
                await client.send("input", data="y")
                await client.send("end")
                assert (await client.until("turn.ended"))[-1]["reason"] == "done"


async def test_several_flows_each_have_a_socket(serving):
    async with serving({"up": upper, "mark": mark}) as server:
        for path, answer in [("", "A"), ("/up", "A"), ("/mark", "a!")]:
            async with connected(server.url + path) as client:
                await client.send("start")
                await client.send("input", data="a")
                assert texts(await client.until("text")) == [answer]
        status, answer = await server.json("GET", "/ws?user=ann")  # no WebSocket
        assert (status, answer["error"]) == (400, "BadRequest")


async def test_the_server_ends_as_soon_as_its_sockets_are_closed(serving):
    with trio.fail_after(10):  # the grace is longer, and so is the time between two pings
        async with serving(upper, grace_s=60.0) as server, connected(server.url) as client:
            assert (await client.event())["type"] == "ready"
            server.stop.set()
            assert await client.closing() == 1001
