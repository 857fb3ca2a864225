"""The protocol's JSON as events: what a server says, also one that is newer than the client."""

from __future__ import annotations

import base64

import attrs
import pytest

from ezflow import Audio, Event, Progress, Transcript
from ezflow.client import ProtocolError
from ezflow.client.wire import Reader, as_input, as_json
from ezflow.events import Fault, event
from ezflow.server.encode import encode_line


@event
class Mood:
    word: str
    strength: int = 1


def read(reader: Reader | None = None, **record) -> Event:
    return (reader or Reader()).event({"turn": 1, "seq": 3, "t": 0.5, **record})


@pytest.mark.parametrize(
    "said",
    [
        Event(type="turn.started", turn=2, seq=0, t=0.0),
        Event(type="text", turn=2, seq=1, t=0.1, stage="llm", run=4, item="Hello"),
        Event(type="transcript", turn=2, seq=1, t=0.1, stage="asr", item=Transcript("hel", final=False)),
        Event(type="audio", turn=2, seq=1, t=0.1, stage="tts", item=Audio(b"\1\2\3\4", 8000, 2)),
        Event(type="json", turn=2, seq=1, t=0.1, stage="x", item={"a": [1, None]}),
        Event(type="progress", turn=2, seq=1, t=0.1, stage="x", item=Progress("at work")),
        Event(type="stage", turn=2, seq=1, t=0.1, stage="x", item="working"),
        Event(type="error", turn=2, seq=1, t=0.1, stage="x", error=Fault("OSError", "gone")),
        Event(type="interrupted", turn=2, seq=1, t=0.1, run=4),
        Event(type="turn.ended", turn=2, seq=9, t=0.1, reason="timeout"),
    ],
    ids=lambda said: said.type,
)
def test_what_a_server_encodes_a_client_reads_as_the_same_event(said):
    reader = Reader()
    assert reader.event(reader.decode(encode_line(said))) == said


def test_a_declared_event_is_its_fields_or_an_instance_where_its_class_is_known():
    data = {"word": "glad", "strength": 2}
    assert read(type="mood", stage="x", data=data).item == data
    assert read(Reader([Mood]), type="mood", stage="x", data=data).item == Mood("glad", 2)


def test_fields_that_a_newer_server_adds_are_passed_over():
    assert read(type="text", stage="x", text="Hi", language="en").item == "Hi"
    assert read(Reader([Mood]), type="mood", data={"word": "glad", "colour": "red"}).item == Mood("glad")


def test_a_type_that_is_not_known_is_an_event_all_the_same():
    assert read(type="weather", stage="x", data=[1]).item == [1]
    assert read(type="weather", stage="x", degrees=3).item == {"degrees": 3}
    assert read(type="weather").type == "weather"


def test_an_answer_to_a_frame_is_of_no_turn():
    said = Reader().event({"type": "error", "error": "InputError", "path": "data", "message": "missing"})
    assert (said.turn, said.seq, said.error) == (0, -1, Fault("InputError", "data: missing"))
    assert Reader().event({"type": "interrupted", "turn": None}).turn == 0


@pytest.mark.parametrize(
    "record",
    [
        {"type": "text"},
        {"type": "text", "text": 5},
        {"type": "text", "text": "x", "turn": "1"},
        {"type": "audio", "rate_hz": 0, "data": ""},
        {"type": "audio", "rate_hz": 8000, "data": "AAAA"},
        {"type": "audio", "rate_hz": 8000, "data": "!"},
        {"type": "turn.ended"},
        {"type": "stage", "state": 1},
        {"type": "progress", "data": "x"},
        {"type": "error"},
    ],
)
def test_an_event_that_is_none_is_an_error_that_names_its_type(record):
    with pytest.raises(ProtocolError, match=record["type"]):
        Reader().event(record)


@pytest.mark.parametrize("line", [b"{", b"5", b"{}", b'{"type": 5}', b"\xff", b"[" * 100_000])
def test_a_line_that_is_no_event_is_an_error(line):
    with pytest.raises(ProtocolError, match="the server sent"):
        Reader().decode(line)


def test_a_class_that_is_no_event_is_refused():
    with pytest.raises(TypeError, match="declare it with @"):
        Reader([Audio])


def test_an_input_is_sent_as_its_stage_takes_it():
    @attrs.frozen
    class Order:
        what: str

    sound = Audio(b"\1\2", 8000)
    assert as_input("hello") == "hello"
    assert base64.b64decode(as_input(sound)) == sound.to_wav()
    assert base64.b64decode(as_input(bytearray(b"\1\2"))) == b"\1\2"
    assert as_json({"input": as_input(Order("tea"))}) == b'{"input":{"what":"tea"}}'
