"""The decoders of what comes from outside, fed with anything: out come values, and the errors that are documented.

`told` is the whole of the promise: no other exception, in bounded time, and an error that is not much longer than a
line, whatever was sent.
"""

from __future__ import annotations

import base64
import gzip
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from anything import BODIES, JSON, MESSAGES, SOUNDS
from hypothesis import given
from hypothesis import strategies as st

from ezflow import Audio, InputError, SettingsError, Utterance
from ezflow.convert import decode, structure
from ezflow.server.ezpipe_request import EZPipeRequest, read_options, read_request, read_sound
from ezflow.server.frames import read_frame
from ezflow.server.refusals import BadRequest
from ezflow.server.tokens import read_file, read_tokens
from ezflow.server.turns import InterruptRequest, TurnRequest
from ezflow.testing import FakeASR, FakeLLM, FakeTTS
from stdlib_modules.http.answer import Answer
from stdlib_modules.http.decoding import Decoder, Events, Lines, TooLong
from stdlib_modules.http.errors import Broken, Unheard
from stdlib_modules.http.sound import NotSound, WavSplitter
from stdlib_modules.tts.doubao_frames import NotAFrame, decoded

# Of one decoding: it takes about a millisecond, and no machine is so busy.
WITHIN_S = 5.0
LONGEST_ERROR = 16 * 1024
FLOW = FakeASR() >> FakeLLM().shown() >> FakeTTS()


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
