"""The decoders of what comes from outside, fed with anything: out come values, and the errors that are documented.

`told` is the whole of the promise: no other exception, in bounded time, and an error that is not much longer than a
line, whatever was sent.
"""

from __future__ import annotations

import base64
import gzip
import json
import logging
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import h11
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from reachable import Server, serving
from trio_websocket import ConnectionClosed, connect_websocket_url
from worlds import World

from ezflow import Audio, InputError, SettingsError, Utterance
from ezflow.convert import decode, structure
from ezflow.server.ezpipe_request import EZPipeRequest, read_options, read_request, read_sound
from ezflow.server.frames import read_frame
from ezflow.server.replies import BadRequest
from ezflow.server.tokens import read_file, read_tokens
from ezflow.server.turns import InterruptRequest, TurnRequest
from ezflow.testing import FakeASR, FakeLLM, FakeTTS
from stdlib_modules.http.answer import Answer
from stdlib_modules.http.decoding import Decoder, Events, Lines, TooLong
from stdlib_modules.http.errors import Broken, Unheard
from stdlib_modules.http.sound import NotSound, WavSplitter
from stdlib_modules.tts.doubao_frames import NotAFrame, decoded

MIB = 1024 * 1024
# Of one decoding: it takes well below a millisecond, and no machine is so busy.
WITHIN_S = 5.0
LONGEST_ERROR = 16 * 1024
FLOW = FakeASR() >> FakeLLM().shown() >> FakeTTS()

# Numbers at the edges of what anything can hold, some of them written by those alone who do not keep to JSON.
NUMBERS = st.integers() | st.sampled_from([2**31, 2**53 + 1, 2**64, 10**400, -(10**400)]) | st.floats()
NAMES = """type start input end interrupt played ping data entry options format rate_hz channels timeline turn seq ms
    user Input Entry LLM TTS ENDASR ann llm"""
WORDS = st.sampled_from(NAMES.split())
TEXTS = WORDS | st.text(max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=20,
)


def objects(first: dict[str, st.SearchStrategy[Any]], others: str) -> st.SearchStrategy[dict[str, Any]]:
    """What is nearly right: it comes further in than what is not."""
    return st.fixed_dictionaries(first, optional=dict.fromkeys(others.split(), JSON))


FRAMES = objects({"type": WORDS}, "entry options format timeline data turn seq ms")
BODIES = objects({"user": st.just("ann") | JSON}, "input Input Entry entry options timeline LLM FakeLLM")
MANY_KEYS = ",".join(f'"{number}":0' for number in range(9999))
ODD = st.sampled_from(
    [
        "", "\0", "NaN", "-", "1e999", "1" * 5000, '"\\ud800"', "\ufeff{}", '{"a":1,"a":2}', "[" * 999, "[" * 100_000,
        '{"type":' * 990 + "1" + "}" * 990, '{"type":"input","data":' + "[" * 990 + "]" * 990 + "}",
        f'{{"type":"start",{MANY_KEYS}}}', f'{{"user":"ann","input":1,"{"k" * MIB}":0}}',
    ]
)  # fmt: skip
MESSAGES = st.text(max_size=200) | st.builds(json.dumps, JSON | FRAMES | BODIES) | ODD


def told(decoding: Callable[[], Any], *documented: type[Exception]) -> Any:
    """What it decodes to, None for an error that is documented. Raises: any other; AssertionError."""
    began = time.monotonic()
    try:
        return decoding()
    except documented as error:
        said = str(error)
    finally:
        assert time.monotonic() - began < WITHIN_S
    assert len(said) < LONGEST_ERROR, said[:200]
    return None


def tried(effort: Callable[..., Any], check: Callable[[Any], None], inputs: st.SearchStrategy[Any], long: int) -> None:
    effort(short=200, long=long)(given(inputs)(check))()


def test_a_frame_of_the_websocket(effort):
    def check(message: str) -> None:
        told(lambda: read_frame(message), BadRequest, InputError)

    tried(effort, check, MESSAGES, 20_000)


def test_the_decoded_body_of_a_request(effort):
    def check(payload: Any) -> None:
        for cls in (TurnRequest, InterruptRequest):
            told(lambda cls=cls: structure(payload, cls, ""), InputError)

    tried(effort, check, JSON | BODIES, 20_000)


def test_an_item_for_a_stage_of_any_type(effort):
    @attrs.frozen
    class Order:
        what: str
        pieces: int = 1
        price: float | None = None

    types = [str, int, float, bool, float | None, int | str, list[float], dict[str, int], Audio, Utterance, Order, Any]

    def check(payload: Any) -> None:
        for in_type in (*types, list[Order], Audio | str, Order | None):
            told(lambda in_type=in_type: decode(payload, in_type), InputError)

    tried(effort, check, JSON, 10_000)


def test_a_body_of_ezpipe_and_what_it_asks_of_the_stages(effort):
    def check(payload: Any) -> None:
        read = told(lambda: read_request(payload, EZPipeRequest), BadRequest, InputError)
        if read is not None:
            told(lambda: read_options(read[1], FLOW.stages), InputError)
        if isinstance(payload, str):
            told(lambda: read_sound(payload), InputError)

    tried(effort, check, JSON | BODIES, 20_000)


# A WAV whose fields are what they may not be, and one whose bytes end anywhere.
FIELD = st.sampled_from([0, 1, 2, 3, 4, 6, 8, 16, 24, 32, 40, 64, 0xFFFE, 0xFFFF]) | st.integers(0, 0xFFFF)
SIZE = st.sampled_from([0, 1, 4, 16, 18, 40, 100, 2**30, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]) | st.integers(0, 200)
CHUNKS = st.lists(
    st.tuples(
        st.sampled_from([b"fmt ", b"data", b"LIST", b"RIFF", b"fact"]) | st.binary(min_size=4, max_size=4), SIZE
    ).flatmap(lambda head: st.binary(max_size=60).map(lambda body: struct.pack("<4sI", *head) + body)),
    max_size=4,
).map(b"".join)


@st.composite
def wavs(draw: st.DrawFn) -> bytes:
    form = struct.pack("<HHIIHH", draw(FIELD), draw(FIELD), draw(SIZE), draw(SIZE), draw(FIELD), draw(FIELD))
    form += draw(st.binary(max_size=30))
    size = draw(st.just(len(form)) | SIZE)
    data = draw(st.binary(max_size=100))
    whole = b"".join(
        [
            draw(st.sampled_from([b"RIFF", b"RF64"])) + struct.pack("<I", draw(SIZE)) + b"WAVE",
            draw(CHUNKS) if draw(st.booleans()) else b"",
            b"fmt " + struct.pack("<I", size) + form,
            b"data" + struct.pack("<I", draw(st.just(len(data)) | SIZE)) + data,
            draw(CHUNKS),
        ]
    )
    return whole[: draw(st.just(len(whole)) | st.integers(0, len(whole)))]


SOUNDS = wavs() | st.binary(max_size=200) | st.binary(max_size=100).map(lambda rest: b"RIFF\0\0\0\0WAVE" + rest)


def test_a_wav_that_a_client_sends(effort):
    def check(data: bytes) -> None:
        sound = told(lambda: Audio.from_wav(data), ValueError)
        assert sound is None or len(sound.pcm) <= 2 * len(data)
        told(lambda: read_sound(base64.b64encode(data).decode()), InputError)
        told(lambda: read_sound(data.hex()), InputError)

    tried(effort, check, SOUNDS, 50_000)


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def test_a_wav_that_a_model_server_sends_in_pieces(effort):
    def check(sent: tuple[bytes, int]) -> None:
        splitter = WavSplitter("text")

        def heard() -> int:
            found = [audio for piece in pieces(*sent) for audio in splitter.feed(piece)]
            return sum(len(audio.pcm) for audio in found + splitter.end())

        # 8-bit samples become twice as many bytes; nothing is made of nothing.
        assert (told(heard, NotSound) or 0) <= 2 * len(sent[0])
        assert len(splitter._held) <= len(sent[0])

    tried(effort, check, st.tuples(SOUNDS, st.integers(1, 64)), 50_000)


def test_lines_and_events_that_a_model_server_sends(effort):
    limit = 64
    field = st.sampled_from([b"data", b"data:", b"data: x", b"event:", b"id:", b":", b"\0", b"\xef\xbb\xbf", b"\xff"])
    end = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b""])
    streams = st.lists(field | end | st.binary(max_size=40), max_size=40).map(b"".join)

    def check(sent: tuple[bytes, int]) -> None:
        decoders: list[Decoder[Any]] = [Lines(limit), Events(limit)]
        for decoder in decoders:

            def found(decoder: Decoder[Any] = decoder) -> None:
                for piece in pieces(*sent):
                    decoder.feed(piece)
                    assert len(decoder._rest) <= limit  # type: ignore[attr-defined]
                decoder.end()

            told(found, TooLong)

    tried(effort, check, st.tuples(streams, st.integers(1, 100)), 50_000)


def test_an_answer_of_a_model_server(effort):
    line = st.sampled_from(
        [b"HTTP/1.1 200 OK\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n"]
    )
    chunk = st.sampled_from(
        [b"3\r\nabc\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"Content-Length: -1\r\n"]
    )
    answers = st.lists(line | chunk | st.binary(max_size=20), max_size=12).map(b"".join)

    def check(sent: tuple[bytes, int]) -> None:
        answer = Answer()

        def fed() -> None:
            answer.begin("GET")
            for piece in pieces(*sent):
                answer.feed(piece)
            assert sum(map(len, answer.pieces)) <= len(sent[0])

        told(fed)
        assert answer.fault is None or isinstance(answer.fault, Broken | Unheard)

    tried(effort, check, st.tuples(answers, st.integers(1, 100)), 50_000)


def test_a_frame_of_a_speech_service(effort):
    head = st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255)).map(bytes)
    payload = st.binary(max_size=60) | st.binary(max_size=60).map(gzip.compress)
    piece = payload.map(lambda data: struct.pack(">iI", 1, len(data)) + data)
    likely = st.tuples(st.sampled_from([b"\x11\xb1\x01\0", b"\x11\xb2\0\0", b"\x11\xf0\x01\0"]), piece).map(b"".join)
    frames = likely | st.tuples(head, piece).map(b"".join) | st.binary(max_size=60) | st.text(max_size=5)

    def check(message: str | bytes) -> None:
        told(lambda: decoded(message), NotAFrame)

    tried(effort, check, frames, 50_000)


def test_a_file_of_tokens(effort, tmp_path: Path):
    path = tmp_path / "tokens"
    odd = ["s" * 30 + "\x7f", "#", "t" * 20, "t" * 20 + " ann *", "short"]
    lines = st.lists(st.text(max_size=60) | st.sampled_from(odd), max_size=5)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        told(lambda: read_tokens(read_file(path)), SettingsError)

    tried(effort, check, st.binary(max_size=200) | lines.map(lambda some: "\n".join(some).encode()), 10_000)


async def post(server: Server, path: str, body: bytes) -> tuple[int, bytes]:
    """The status and the body of an answer, on a connection of its own."""
    http = h11.Connection(h11.CLIENT)
    head = h11.Request(method="POST", target=path, headers=[("Host", "localhost"), ("Content-Length", str(len(body)))])
    async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        sent = [http.send(head), http.send(h11.Data(body)), http.send(h11.EndOfMessage())]
        await stream.send_all(b"".join(filter(None, sent)))
        status, answer = 0, b""
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                answer += event.data
    return status, answer


class Running:
    """A server in a thread of its own, for what is no coroutine."""

    def __init__(self) -> None:
        self.world = World()
        self.server: Server
        self._done = trio.Event()

    def __enter__(self) -> Running:
        self.world.start()
        self.world.run(self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        self.world.call(self._done.set)
        self.world.stop()

    async def _begin(self) -> None:
        async def serve(task_status: Any) -> None:
            async with serving({"talk": FLOW}, turn_s=5.0) as server:
                task_status.started(server)
                await self._done.wait()

        self.server = await self.world.nursery.start(serve)


@pytest.fixture
def running():
    with Running() as running:
        yield running


SOUND_BODIES = st.tuples(st.sampled_from([b"input", b"Input"]), SOUNDS.map(base64.b64encode)).map(
    lambda name_and_sound: b'{"user":"ann","%b":"%b"}' % name_and_sound
)
RAW = st.binary(max_size=300) | MESSAGES.map(lambda text: text.encode(errors="surrogatepass")) | SOUND_BODIES


@pytest.mark.parametrize("path", ["/turns", "/interrupt", "/input"])
def test_a_body_over_a_socket_is_answered_and_never_by_a_fault(running, effort, caplog, path):
    def check(body: bytes) -> None:
        with caplog.at_level(logging.ERROR):
            status, answer = running.world.run(post, running.server, path, body)
        assert status in (200, 400, 422), (status, answer[:300])
        assert len(answer) < LONGEST_ERROR + 2 * len(body)
        assert not caplog.records

    effort(short=60, long=3000)(given(RAW)(check))()


def test_messages_over_a_websocket_are_answered_and_the_next_is_heard(running, effort, caplog):
    async def spoken(messages: list[str | bytes]) -> None:
        url = f"ws://127.0.0.1:{running.server.port}/ws?user=ann"
        with trio.fail_after(WITHIN_S):
            async with trio.open_nursery() as nursery:
                socket = await connect_websocket_url(nursery, url, message_queue_size=1000)
                for message in messages:
                    await socket.send_message(message)
                await socket.send_message('{"type":"ping"}')
                while await socket.get_message() != '{"type":"pong"}':
                    pass
                with trio.move_on_after(1):
                    await socket.aclose()
                nursery.cancel_scope.cancel()

    def check(messages: list[str | bytes]) -> None:
        with caplog.at_level(logging.ERROR):
            try:
                running.world.run(spoken, [m for m in messages if m != '{"type":"ping"}'])
            except* ConnectionClosed as closed:
                raise AssertionError(f"the socket was closed: {closed.exceptions}") from closed
        assert not caplog.records

    effort(short=60, long=3000)(given(st.lists(MESSAGES | st.binary(max_size=50), max_size=6))(check))()
