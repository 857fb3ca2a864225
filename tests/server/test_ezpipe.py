"""EZPipe's API over real sockets, as its clients use it."""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import h11
import pytest
import trio
from quart import Blueprint, jsonify

from ezflow import Audio, EzflowError, Inbox, Module, Outbox, Transcript, Turn, Utterance, module
from ezflow.events import event
from ezflow.server.ezpipe import EZPipeRequest
from ezflow.server.ezpipe_replies import at_24_khz, straight_lines
from ezflow.testing import Failing, FakeASR, FakeLLM, FakeTTS

CANONICAL = {
    "streamly": True, "user": "user", "Input": "介绍下你自己", "text": "…", "Entry": 0, "temperature": 1,
    "max_length": 1024, "conversation_id": "c-1", "message_id": "m-1", "LLM": {"streamly": True},
    "TTS": {"streamly": True, "voice": "邻家女孩", "sessionid": 319652, "emotion": "中立"},
}  # fmt: skip


@event
class Thought:
    text: str


@event
class Conversation:
    conversation_id: str
    message_id: str


@module
class Counts(Module[Audio | Utterance, str]):
    """Understands how many samples each piece has."""

    async def process(self, sound: Audio | Utterance, turn: Turn) -> AsyncIterator[str]:
        heard: list[int] = []
        utterance = Utterance.of(sound) if isinstance(sound, Audio) else sound
        async for piece in utterance:
            heard.append(piece.samples)
            await turn.reply(Transcript("+".join(map(str, heard)), final=False))
        text = "+".join(map(str, heard))
        await turn.reply(Transcript(text))
        yield text


@module
class Measures(Module[Audio, str]):
    """Gives the number of samples of a whole sound."""

    async def process(self, sound: Audio, turn: Turn) -> str:
        return str(sound.samples)


@module
class Detects(Module[Audio, Utterance]):
    """Makes an utterance of each sound."""

    async def process(self, sound: Audio, turn: Turn) -> Utterance:
        return Utterance.of(sound)


@module
class Thinks(Module[str, str]):
    """Thinks, answers, and says in which conversation."""

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        await turn.reply(Thought("let me "))
        await turn.reply(Thought("see"))
        yield "It "
        await turn.reply(Conversation("c-7", "m-7"))
        yield f"is {text}."


@module
class Waits(Module[str, str]):
    """Gives its text, then works until it is cancelled, which takes it a moment."""

    left: trio.Event = attrs.field(factory=trio.Event, eq=False)
    cleanup_s: float = 0.0

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        try:
            yield text
            await trio.sleep_forever()
        finally:
            with turn.cleanup():
                await trio.sleep(self.cleanup_s)
            self.left.set()


@attrs.frozen
class LLMOptions:
    temperature: float = 0.7
    max_length: int = 10
    language: str = "en"


@attrs.frozen
class TTSOptions:
    voice: str = "nobody"


@module(options=LLMOptions, key="LLM")
class Tuned(Module[str, str]):
    """Shows its options."""

    async def process(self, text: str, turn: Turn) -> str:
        options = turn.options[LLMOptions]
        return f"{options.temperature} {options.max_length} {options.language}"


@module(options=TTSOptions, key="TTS")
class Speaks(Module[str, Audio]):
    """Says each character as one sample at 24 kHz, in pieces; its voice is heard as the value of the samples."""

    async def process(self, text: str, turn: Turn) -> AsyncIterator[Audio]:
        value = len(turn.options[TTSOptions].voice)
        for word in text.split(" "):
            yield Audio(array("h", [value] * len(word)).tobytes(), 24_000, text=word)


voice = Counts() >> FakeLLM("You said {}.").shown() >> FakeTTS()


def wav(sound: str) -> Audio:
    return Audio.from_wav(base64.b64decode(sound))


class Client:
    """An EZPipe client: each HTTP chunk is one JSON document."""

    def __init__(self, server) -> None:
        self.server = server

    @asynccontextmanager
    async def post(self, path="/input", **body):
        async with self.server.request("POST", path, json.dumps(body).encode()) as response:
            assert response.status == 200, await response.read()
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            yield response

    async def lines(self, path="/input", **body):
        """All lines of a reply, parsed as (type, chunk)."""
        async with self.post(path, **body) as response:
            return [parsed(chunk) async for chunk in chunks(response)]

    async def said(self, path="/input", **body):
        """The whole text of a reply."""
        texts = [chunk for kind, chunk in await self.lines(path, **body) if kind == "text"]
        assert [text["Is_End"] for text in texts] == [False] * (len(texts) - 1) + [True]
        return texts[-1]["response"]


class chunks:
    """Each HTTP chunk of a response, whole; unlike a generator it may be left at any time."""

    def __init__(self, response) -> None:
        self.response = response

    def __aiter__(self):
        return self

    async def __anext__(self) -> bytes:
        parts = []
        while not isinstance(event := await self.response._next(), h11.EndOfMessage):
            parts.append(bytes(event.data))
            if event.chunk_end:
                return b"".join(parts)
        raise StopAsyncIteration


def parsed(chunk):
    line = json.loads(chunk)
    assert chunk.endswith(b"\n")
    assert chunk.count(b"\n") == 1
    assert list(line) == ["type", "chunk"]
    return line["type"], json.loads(line["chunk"]) if line["type"] == "text" else line["chunk"]


async def first(response):
    async for chunk in chunks(response):
        return parsed(chunk)
    raise AssertionError("nothing came")


async def test_the_canonical_body_is_answered_byte_by_byte(serving):
    async with serving(FakeLLM("你好 {}").shown() >> FakeTTS(char_s=0.001)) as server:
        async with Client(server).post(**CANONICAL) as response:
            got = [chunk async for chunk in chunks(response)]

    def text(response: str, end: str = "false") -> bytes:
        chunk = (
            f'{{"think": "", "response": "{response}", "conversation_id": "c-1", "message_id": "m-1", "Is_End": {end}}}'
        )
        escaped = chunk.replace('"', '\\"')
        return f'{{"type": "text", "chunk": "{escaped}"}}\n'.encode()

    sounds = [chunk for chunk in got if b"audio/wav" in chunk]
    assert [chunk for chunk in got if chunk not in sounds] == [
        text("你好"),
        text("你好 介绍下你自己"),
        text("你好 介绍下你自己", "true"),
    ]
    words = [Audio(bytes(2 * 24 * length), 24_000).to_wav() for length in (2, 7)]
    assert sounds == [
        b'{"type": "audio/wav", "chunk": "' + base64.b64encode(word) + b'"}\n' for word in words
    ]  # fmt: skip


async def test_each_line_is_its_own_chunk_however_large(serving):
    async with serving(FakeTTS(char_s=2.0)) as server:
        lines = await Client(server).lines(user="ann", Input="x" * 10)
    assert [kind for kind, _ in lines] == ["audio/wav", "text"]
    assert wav(lines[0][1]).samples == 20 * 24_000


async def test_entry_truly_enters_there_and_a_missing_one_is_the_first(serving):
    async with serving(FakeLLM("one {}").named("one") >> FakeLLM("two {}").named("two") >> FakeTTS()) as server:
        client = Client(server)
        assert await client.said(user="ann", Input="x", Entry=1) == "two x"
        assert (await client.said(user="ann", Input="x")).startswith("two one")
        assert [kind for kind, _ in await client.lines(user="ann", Input="x", Entry=2)] == ["audio/wav", "text"]


async def test_the_text_is_that_of_the_shown_stages_else_of_the_last_that_gives_text(serving):
    async with serving(
        {
            "shown": FakeLLM("a {}").shown() >> FakeLLM("b {}"),
            "unshown": FakeLLM("a {}") >> FakeLLM("b") >> FakeTTS(),
            "branches": FakeLLM("a {}") >> (FakeTTS() | FakeLLM("b")),
        }
    ) as server:
        client = Client(server)
        assert await client.said(path="/shown/input", user="ann", Input="x") == "a x"
        assert await client.said(path="/unshown/input", user="ann", Input="x") == "bb"
        assert await client.said(path="/branches/input", user="ann", Input="x") == "bb"
        events = await server.turn("/unshown/turns", user="ann", input="x")
        assert {event["type"] for event in events} == {"turn.started", "audio", "turn.ended"}


async def test_text_and_thoughts_are_cumulative_and_ids_follow_the_stages(serving):
    async with serving(Thinks().shown() >> FakeTTS()) as server:
        lines = await Client(server).lines(user="ann", Input="so", conversation_id="c-1")
    got = [tuple(chunk.values()) for kind, chunk in lines if kind == "text"]
    assert got == [
        ("let me ", "", "c-1", "", False),
        ("let me see", "", "c-1", "", False),
        ("let me see", "It ", "c-1", "", False),
        ("let me see", "It is so.", "c-7", "m-7", False),
        ("let me see", "It is so.", "c-7", "m-7", True),
    ]


async def test_an_error_names_its_stage_and_the_stream_ends(serving, caplog):
    async with serving(FakeLLM("hi").shown() >> Failing("out of paper") >> FakeTTS()) as server:
        lines = await Client(server).lines(user="ann", Input="x")
    assert [kind for kind, _ in lines] == ["text", "error", "text"]
    assert lines[1][1] == "failing: RuntimeError: out of paper"
    assert lines[2][1]["Is_End"] is True


async def test_a_turn_that_takes_too_long_says_so(serving):
    async with serving(Waits(), turn_s=0.05) as server:
        lines = await Client(server).lines(user="ann", Input="x")
    assert [kind for kind, _ in lines] == ["text", "error", "text"]


async def test_a_turn_whose_budget_is_up_says_so_once(serving, caplog):
    async with serving(Waits().budget(total_s=0.05)) as server:
        lines = await Client(server).lines(user="ann", Input="x")
    errors = [told for kind, told in lines if kind == "error"]
    assert len(errors) == 1
    assert errors[0].startswith("waits: BudgetExceeded: not done within 0.05 s: waits")
    assert lines[-1][1]["Is_End"] is True


async def test_sound_of_another_rate_becomes_24_khz(serving):
    async with serving(FakeTTS(rate_hz=16_000)) as server:
        lines = await Client(server).lines(user="ann", Input="hello")
    sound = wav(lines[0][1])
    assert (sound.rate_hz, sound.channels, sound.samples) == (24_000, 1, 6000)


async def test_stereo_becomes_mono_and_straight_lines_keep_a_ramp():
    stereo = Audio(array("h", [100, 300, -100, -300]).tobytes(), 24_000, 2)
    assert array("h", (await at_24_khz(stereo)).pcm).tolist() == [200, -200]
    ramp = straight_lines(array("h", range(0, 1600, 100)), 16_000)
    assert len(ramp) == 24
    assert ramp.tolist()[:4] == [0, 66, 133, 200]
    assert len(straight_lines(array("h", [5]), 48_000)) == 1


class TestSpokenInput:
    PIECE = bytes(3200)

    async def test_pieces_are_appended_and_answered_with_what_is_understood_so_far(self, serving):
        async with serving(voice) as server:
            client = Client(server)
            for sent, heard in (
                (self.PIECE.hex(), "1600"),
                (base64.b64encode(bytes(200)).decode(), "1600+100"),
                (bytes(20).hex().upper(), "1600+100+10"),
            ):
                lines = await client.lines(user="ann", Input=sent)
                assert [(kind, chunk["response"], chunk["Is_End"]) for kind, chunk in lines] == [("text", heard, False)]
            lines = await client.lines(user="ann", Input="ENDASR")
            texts = [chunk["response"] for kind, chunk in lines if kind == "text"]
            assert texts == ["You", "You said", "You said 1600+100+10.", "You said 1600+100+10."]
            assert [kind for kind, _ in lines].count("audio/wav") == 3

    async def test_a_wav_is_an_utterance_of_its_own_and_ends_an_open_one(self, serving):
        async with serving(voice) as server:
            client = Client(server)
            await client.lines(user="ann", Input=self.PIECE.hex())
            sound = base64.b64encode(Audio(bytes(500), 16_000).to_wav()).decode()
            assert await client.said(user="ann", Input=sound) == "You said 250."
            status, answer = await server.json("POST", "/input", {"user": "ann", "Input": "ENDASR"})
            assert status == 422
            assert answer["detail"].startswith("Input: ENDASR")

    async def test_a_stage_for_whole_sounds_gets_it_at_the_end(self, serving):
        async with serving(Measures() >> FakeLLM("You said {}.")) as server:
            client = Client(server)
            for _ in range(3):
                assert await client.lines(user="ann", Input=self.PIECE.hex()) == []
            assert await client.said(user="ann", Input="ENDASR") == "You said 4800."

    async def test_a_detector_gets_each_piece_at_once_and_its_answers_come_meanwhile(self, serving):
        async with serving(Detects() >> Counts() >> FakeTTS()) as server:
            client = Client(server)
            lines = await client.lines(user="ann", Input=self.PIECE.hex())
            assert lines[0][1]["response"] == "1600"
            lines += await client.lines(user="ann", Input="ENDASR")
            assert lines[-1][1] == lines[-1][1] | {"response": "1600", "Is_End": True}
            assert [kind for kind, _ in lines].count("audio/wav") == 1

    async def test_the_first_piece_interrupts_the_running_reply(self, serving):
        waits = Waits()
        async with serving({"": Counts() >> waits}) as server:
            client = Client(server)
            async with client.post(user="ann", Input="hello", Entry=1) as response:
                await first(response)
                await client.lines(user="ann", Input=self.PIECE.hex())
                assert [parsed(chunk)[1]["Is_End"] async for chunk in chunks(response)] == [True]

    async def test_two_users_speak_at_once_and_are_not_mixed(self, serving):
        async with serving(voice) as server:
            client = Client(server)

            async def speak(user: str, size: int) -> None:
                for _ in range(5):
                    await client.lines(user=user, Input=bytes(2 * size).hex())
                assert await client.said(user=user, Input="ENDASR") == f"You said {'+'.join([str(size)] * 5)}."

            async with trio.open_nursery() as nursery:
                for size in range(1, 21):
                    nursery.start_soon(speak, f"user{size}", size)

    async def test_an_interrupt_ends_the_open_utterance(self, serving):
        async with serving(voice) as server:
            client = Client(server)
            await client.lines(user="ann", Input=self.PIECE.hex())
            await server.json("GET", "/interrupt_talk?user=ann")
            assert (await server.json("POST", "/input", {"user": "ann", "Input": "ENDASR"}))[0] == 422
            lines = await client.lines(user="ann", Input=bytes(20).hex())
            assert lines[0][1]["response"] == "10"

    async def test_an_utterance_that_is_given_up_ends_with_its_session(self, serving):
        left = trio.Event()

        @module
        class Listens(Module[Utterance, str]):
            async def process(self, sound: Utterance, turn: Turn) -> str:
                try:
                    return str((await sound.whole()).samples)
                finally:
                    left.set()

        async with serving(Listens(), idle_s=0.1) as server:
            await Client(server).lines(user="ann", Input=self.PIECE.hex())
            with trio.fail_after(5):
                await left.wait()
            assert (await server.json("POST", "/input", {"user": "ann", "Input": "ENDASR"}))[0] == 422
            assert await Client(server).lines(user="ann", Input=self.PIECE.hex()) == []

    async def test_a_busy_flow_that_nobody_reads_takes_every_piece_in_order(self, serving):
        @module
        class Echoes(Module[Audio, Utterance]):
            async def process(self, sound: Audio, turn: Turn) -> AsyncIterator[Utterance]:
                for number in range(300):  # more than an ear holds, and than a request takes
                    await turn.reply(Transcript(f"{sound.samples}.{number}", final=False))
                yield Utterance.of(sound)

        async with serving(Echoes() >> Counts()) as server:
            for size in range(1, 31):
                await Client(server).lines(user="ann", Input=bytes(2 * size).hex())
            assert await Client(server).said(user="ann", Input="ENDASR") == "".join(map(str, range(1, 31)))

    async def test_an_utterance_is_bounded(self, serving):
        async with serving(voice, max_body=20_000) as server:
            body = {"user": "ann", "Input": bytes(8000).hex()}
            statuses = []
            for _ in range(3):
                async with server.request("POST", "/input", json.dumps(body).encode()) as response:
                    statuses.append(response.status)
            assert statuses == [200, 200, 413]
            assert await Client(server).said(user="ann", Input="ENDASR") == "You said 4000+4000."

    async def test_a_refusal_leaves_the_open_utterance_as_it_is(self, serving):
        async with serving(voice, max_holders=1) as server:
            client = Client(server)
            await client.lines(user="ann", Input=bytes(26).hex())
            for wrong in ({"Input": "xyz"}, {"Input": 5}, {"Input": "x", "Entry": 9}):
                assert (await server.json("POST", "/input", {"user": "ann"} | wrong))[0] == 422
            assert await client.said(user="ann", Input="ENDASR") == "You said 13."

    async def test_the_end_of_an_utterance_at_another_entry_does_not_lose_it(self, serving):
        @module
        async def same(sound: Audio) -> Audio:
            return sound

        async with serving(same >> voice) as server:
            await Client(server).lines(user="ann", Input=bytes(26).hex())
            assert (await server.json("POST", "/input", {"user": "ann", "Input": "ENDASR", "Entry": 1}))[0] == 422
            assert await Client(server).said(user="ann", Input="ENDASR") == "You said 13."

    async def test_a_microphone_that_is_always_on_has_no_limit_of_its_own(self, serving):
        async with serving(Detects() >> Counts(), max_body=20_000) as server:
            for _ in range(4):
                await Client(server).lines(user="ann", Input=bytes(8000).hex())
            assert await Client(server).said(user="ann", Input="ENDASR") == "4000" * 4

    async def test_a_failing_recogniser_is_told_with_the_piece_and_the_next_begins_anew(self, serving, caplog):
        @module
        class Deaf(Module[Utterance, str]):
            async def process(self, sound: Utterance, turn: Turn) -> str:
                async for piece in sound:
                    if piece.samples == 13:
                        raise RuntimeError("deaf")
                return "heard"

        async with serving(Deaf()) as server:
            client = Client(server)
            lines = await client.lines(user="ann", Input=bytes(26).hex())
            assert [kind for kind, _ in lines] == ["error", "text"]
            assert lines[0][1] == "deaf: RuntimeError: deaf"
            await client.lines(user="ann", Input=bytes(2).hex())
            assert await client.said(user="ann", Input="ENDASR") == "heard"


NO_USER = "必须提供用户ID"
BAD_BODIES = [
    ({}, 400, NO_USER),
    ({"Input": "x"}, 400, NO_USER),
    ({"user": "", "Input": "x"}, 400, NO_USER),
    ({"user": None, "Input": "x"}, 400, NO_USER),
    ({"user": 5, "Input": "x"}, 422, "user: "),
    ({"user": "x" * 300, "Input": "x"}, 422, "user: "),
    ({"user": "ann"}, 422, "Input: missing"),
    ({"user": "ann", "Input": "xyz"}, 422, "Input: neither hex nor base64"),
    ({"user": "ann", "Input": "000"}, 422, "Input: neither hex nor base64"),
    ({"user": "ann", "Input": "000000"}, 422, "Input: 3 bytes are not whole frames"),
    ({"user": "ann", "Input": base64.b64encode(b"RIFF....WAVE").decode()}, 422, "Input: not a WAV"),
    ({"user": "ann", "Input": "ENDASR"}, 422, "Input: ENDASR ends an utterance"),
    ({"user": "ann", "Input": 5}, 422, "Input: "),
    ({"user": "ann", "Input": 5, "Entry": 1}, 422, "Input: "),
    ({"user": "ann", "Input": "x", "Entry": 7}, 422, "Entry 7 does not exist"),
    ({"user": "ann", "Input": "x", "Entry": -1}, 422, "Entry -1 does not exist"),
    ({"user": "ann", "Input": "x", "Entry": "1"}, 422, "Entry: "),
    ({"user": "ann", "Input": "x", "Entry": True}, 422, "Entry: "),
    ({"user": "ann", "Input": "x", "Entry": 1, "LLM": {"temperature": "hot"}}, 422, "LLM.temperature: 'hot'"),
    ({"user": "ann", "Input": "x", "Entry": 1, "LLM": 5}, 422, "LLM: 5 was given"),
    ({"user": "ann", "Input": "x", "Entry": 1, "temperature": "hot"}, 422, "temperature: 'hot'"),
    ({"user": "ann", "Input": "x", "Entry": 1, "tuned": {"max_length": 1.5}}, 422, "tuned.max_length: 1.5"),
    ([], 422, "body: "),
    (b'{"user"', 422, "the body is not JSON"),
    (b"\xff\xfe", 422, "the body is not"),
    (b"", 422, "the body is not JSON"),
]


@pytest.mark.parametrize(("body", "status", "detail"), BAD_BODIES)
async def test_a_bad_body_is_told_where_and_why(serving, body, status, detail):
    async with serving(Counts() >> Tuned() >> FakeTTS()) as server:
        got, answer = await server.json("POST", "/input", body)
        assert (got, list(answer)) == (status, ["detail"])
        assert answer["detail"].startswith(detail)


async def test_a_body_over_the_limit_and_a_full_server_are_told_in_ezpipes_shape(serving):
    async with serving(Waits(), max_body=1000, max_sessions=1) as server:
        client = Client(server)
        async with client.post(user="ann", Input="x") as response:
            await first(response)
            assert (await server.json("POST", "/input", {"user": "ann", "Input": "x" * 1000}))[0] == 413
            status, answer = await server.json("POST", "/input", {"user": "bob", "Input": "x"})
            assert (status, list(answer)) == (503, ["detail"])


async def test_sections_and_keys_beside_them_reach_the_modules_typed(serving):
    async with serving(Tuned().shown() >> Speaks()) as server:
        client = Client(server)
        for given, said in (
            ({}, "0.7 10 en"),
            ({"LLM": {"temperature": 1, "streamly": True}}, "1.0 10 en"),
            ({"temperature": 0.5, "max_length": 9, "LLM": {"max_length": 7}}, "0.5 7 en"),
            ({"temperature": None, "LLM": None}, "0.7 10 en"),
            ({"tuned": {"language": "zh"}}, "0.7 10 zh"),
        ):
            assert await client.said(user="ann", Input="x", **given) == said
        lines = await client.lines(user="ann", Input="x", TTS=CANONICAL["TTS"])
        sounds = [wav(chunk) for kind, chunk in lines if kind == "audio/wav"]
        assert {value for sound in sounds for value in array("h", sound.pcm)} == {len("邻家女孩")}


@attrs.frozen
class MySection:
    temperature: float = 0.1
    top: int = 3


@attrs.frozen
class MyRequest(EZPipeRequest):
    place: str
    language: str = "fr"
    LLM: MySection = MySection()


async def test_a_users_request_class_adds_fields_and_the_schema_follows(serving):
    async with serving(Tuned(), request=MyRequest) as server:
        client = Client(server)
        assert await client.said(user="ann", Input="x", place="here", more=1) == "0.1 10 fr"
        assert await client.said(user="ann", Input="x", place="", language="de", LLM={"x": 1}) == "0.1 10 de"
        for body, detail in (
            ({}, "place: missing"),
            ({"place": 1}, "place: 1 was"),
            ({"place": "", "LLM": {"top": "3"}}, "LLM.top: '3'"),
        ):
            status, answer = await server.json("POST", "/input", {"user": "ann", "Input": "x", **body})
            assert status == 422
            assert answer["detail"].startswith(detail)
        _, schema = await server.json("GET", "/schema")
    assert schema["required"] == ["user", "Input", "place"]
    assert schema["properties"]["language"] == {"type": "string", "default": "fr"}
    assert set(schema["$defs"]["MySection"]["properties"]) == {"temperature", "top"}


async def test_the_schema_is_that_of_the_body(serving):
    async with serving(Counts() >> Tuned() >> Speaks()) as server:
        status, schema = await server.json("GET", "/schema")
    assert status == 200
    assert (schema["type"], schema["additionalProperties"], schema["required"]) == ("object", True, ["user", "Input"])
    properties = schema["properties"]
    assert (properties["user"]["minLength"], properties["user"]["maxLength"]) == (1, 256)
    assert (properties["Entry"]["type"], properties["Entry"]["maximum"]) == ("integer", 2)
    sound, text = (choice["properties"]["Input"] for choice in schema["oneOf"])
    assert (sound["anyOf"][1], text) == (sound["anyOf"][1] | {"const": "ENDASR"}, {"type": "string"})
    for key, cls, field in (("LLM", "LLMOptions", "temperature"), ("TTS", "TTSOptions", "voice")):
        assert properties[key]["anyOf"] == [{"$ref": f"#/$defs/{cls}"}, {"type": "null"}]
        assert field in schema["$defs"][cls]["properties"]


@pytest.mark.parametrize("cls", [dict, type("Bare", (EZPipeRequest,), {})])
async def test_what_is_no_request_class_is_refused(serving, cls):
    with pytest.raises(EzflowError, match="request class"):
        async with serving(Tuned(), request=cls):
            pass


async def test_a_heartbeat_answers_null_and_keeps_the_session(serving):
    async with serving(FakeLLM("{n}"), idle_s=0.4) as server:
        client = Client(server)
        assert await server.json("GET", "/heartbeat?user=ann") == (200, None)
        assert await client.said(user="ann", Input="x") == "0"
        for _ in range(4):
            await trio.sleep(0.2)
            assert await server.json("GET", "/heartbeat?user=ann") == (200, None)
        assert await client.said(user="ann", Input="x") == "2"


@pytest.mark.parametrize(("method", "path"), [("GET", "/heartbeat"), ("GET", "/interrupt_talk"), ("POST", "/awake")])
async def test_each_route_needs_a_user(serving, method, path):
    async with serving(Tuned()) as server:
        assert await server.json(method, path) == (400, {"detail": NO_USER})
        assert await server.json(method, f"{path}?user=") == (400, {"detail": NO_USER})
        assert (await server.json(method, f"{path}?user={'x' * 300}"))[0] == 422


async def test_interrupt_returns_when_the_stages_have_left_and_holds_up_nobody_else(serving):
    waits, quick = Waits(cleanup_s=0.5), FakeLLM("quick")
    async with serving({"slow": waits >> quick, "quick": quick}) as server:
        client = Client(server)
        expected = {"status": "success", "message": "已中断用户 ann 的所有请求"}
        assert await server.json("GET", "/interrupt_talk?user=ann") == (200, expected)

        async def other() -> None:
            assert await client.said(user="bob", Input="x", Entry=1) == "quick"
            assert not waits.left.is_set()

        async with client.post(user="ann", Input="x") as response:
            await first(response)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other)
                assert await server.json("GET", "/interrupt_talk?user=ann") == (200, expected)
                assert waits.left.is_set()
            rest = [parsed(chunk) async for chunk in chunks(response)]
        assert [chunk["Is_End"] for _, chunk in rest] == [True]


async def test_a_new_post_of_the_same_user_ends_the_running_turn(serving):
    waits = Waits()
    async with serving(waits) as server:
        client = Client(server)
        async with client.post(user="ann", Input="first") as one:
            await first(one)
            async with client.post(user="ann", Input="second") as other:
                assert (await first(other))[1]["response"] == "second"
                assert waits.left.is_set()
                assert [parsed(chunk)[1]["Is_End"] async for chunk in chunks(one)] == [True]


async def test_a_client_that_goes_away_ends_its_turn(serving):
    waits = Waits()
    async with serving(Counts() >> waits) as server:
        client = Client(server)
        async with client.post(user="ann", Input="x", Entry=1) as response:
            await first(response)
        with trio.fail_after(5):
            await waits.left.wait()


async def test_a_client_that_goes_away_after_endasr_ends_its_turn(serving):
    waits = Waits()
    async with serving(Counts() >> waits) as server:
        client = Client(server)
        await client.lines(user="ann", Input=bytes(20).hex())
        async with client.post(user="ann", Input="ENDASR") as response:
            await first(response)
        with trio.fail_after(5):
            await waits.left.wait()


async def test_the_greeting_is_one_text_line_and_one_wav(serving):
    async with serving(Tuned() >> Speaks(), greeting="你好 there") as server:
        lines = await Client(server).lines("/awake?user=ann&voice=mary")
    assert [kind for kind, _ in lines] == ["text", "audio/wav"]
    assert lines[0][1] == {
        "think": "", "response": "你好 there", "conversation_id": "", "message_id": "", "Is_End": True,
    }  # fmt: skip
    assert array("h", wav(lines[1][1]).pcm).tolist() == [len("mary")] * len("你好there")


async def test_a_greeting_without_speech_is_text_alone_and_a_failure_is_told(serving, caplog):
    @module
    class Hoarse(Module[str, Audio]):
        async def process(self, text: str, turn: Turn) -> Audio:
            raise RuntimeError("hoarse")

    async with serving({"mute": Tuned(), "hoarse": Tuned() >> Hoarse()}) as server:
        client = Client(server)
        assert [kind for kind, _ in await client.lines("/mute/awake?user=ann")] == ["text"]
        lines = await client.lines("/hoarse/awake?user=ann")
        assert lines[1] == ("error", "hoarse: RuntimeError: hoarse")


async def test_a_fault_of_the_server_itself_is_the_last_line_and_logged(serving, monkeypatch, caplog):
    async def fails(self, events):
        raise LookupError("a fault of ours")

    monkeypatch.setattr("ezflow.server.ezpipe.Replies.lines", fails)
    async with serving(FakeLLM("hi {}")) as server:
        assert await Client(server).lines(user="ann", Input="x") == [("error", "LookupError: a fault of ours")]
    assert "a reply failed" in caplog.text


async def test_the_same_utterance_is_appended_to_at_the_root_and_under_the_flows_name(serving):
    piece = bytes(640).hex()
    async with serving({"a": FakeASR(), "b": FakeASR()}) as server:
        client = Client(server)
        await client.lines("/a/input", user="ann", Input=piece)
        lines = await client.lines("/input", user="ann", Input="ENDASR")
        assert lines[-1][1]["Is_End"]
        assert (await server.json("POST", "/a/input", {"user": "ann", "Input": "ENDASR"}))[0] == 422


async def test_modules_bring_routes_of_their_own(serving):
    @module
    class Remembers(Module[str, str]):
        name_: str = "x"

        def routes(self) -> Blueprint:
            routes = Blueprint("remembers", __name__)

            @routes.get("/conversations")
            async def get_conversations():
                return jsonify([self.name_])

            return routes

        async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
            async for item in inbox:
                await outbox.send(item)

    async with serving({"a": Remembers() >> Remembers(), "b": Remembers("y") >> Remembers("z")}) as server:
        for path, names in (("/conversations", ["x"]), ("/a/conversations", ["x"]), ("/b/conversations", ["y"])):
            assert await server.json("GET", path) == (200, names)


async def test_fifty_users_at_once_each_get_their_own_answers(serving):
    async with serving(FakeLLM("You said {}.").shown() >> FakeTTS(char_s=0.0001)) as server:
        client = Client(server)

        async def user(name: str) -> None:
            for number in range(3):
                lines = await client.lines(user=name, Input=f"{name}-{number}", conversation_id=name)
                texts = [chunk for kind, chunk in lines if kind == "text"]
                assert texts[-1]["response"] == f"You said {name}-{number}."
                assert {text["conversation_id"] for text in texts} == {name}
                assert [kind for kind, _ in lines].count("audio/wav") == 3

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for index in range(50):
                    nursery.start_soon(user, f"user{index}")
