"""Events as JSON: the same as a plain dictionary of each event would be."""

from __future__ import annotations

import base64
import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezflow import Audio, Event, Progress, Transcript
from ezflow.events import Fault, event
from ezflow.server.encode import encode_line, encode_sse
from ezflow.server.frames import event_frames


@event
class Scene:
    """An event whose fields need converting."""

    sound: bytes
    said: Transcript
    tags: tuple[str, ...] = ()


class Marked(bytes):
    """Bytes of a class of their own, as numpy's are."""


def plain(event: Event) -> dict[str, Any]:
    """The protocol's JSON object, put together by hand."""
    record: dict[str, Any] = {"type": event.type, "turn": event.turn, "seq": event.seq, "t": round(event.t, 4)}
    record |= {key: value for key in ("stage", "run") if (value := getattr(event, key)) is not None}
    match event:
        case Event(error=Fault(name, message)):
            return record | {"error": name, "message": message}
        case Event(reason=str(reason)):
            return record | {"reason": reason}
        case Event(type="turn.started" | "interrupted"):
            return record
        case Event(type="stage", item=state):
            return record | {"state": state}
        case Event(item=str(text)):
            return record | {"text": text}
        case Event(item=Transcript(text, final)):
            return record | {"text": text, "final": final}
        case Event(item=Audio(pcm, rate_hz, channels) as audio):
            data = base64.b64encode(pcm).decode()
            return record | {"rate_hz": rate_hz, "channels": channels, "samples": audio.samples, "data": data}
        case Event(item=Scene(sound, said, tags)):
            sound_text = base64.b64encode(sound).decode()
            return record | {"data": {"sound": sound_text, "said": attrs.asdict(said), "tags": list(tags)}}
        case Event(item=Progress(message)):
            return record | {"data": {"message": message}}
    return record | {"data": event.item}


texts = st.text(max_size=20)
numbers = st.integers(0, 2**53)
plain_values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
sounds = st.builds(
    lambda frames, rate_hz, channels: Audio(frames * 2 * channels, rate_hz, channels),
    st.binary(max_size=9), st.integers(1, 768_000), st.integers(1, 8),
)  # fmt: skip
KINDS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "turn.started": st.just({}),
    "interrupted": st.just({}),
    "turn.ended": st.fixed_dictionaries({"reason": st.sampled_from(["done", "interrupted", "error", "timeout"])}),
    "error": st.fixed_dictionaries({"error": st.builds(Fault, texts, texts)}),
    "stage": st.fixed_dictionaries({"item": texts}),
    "text": st.fixed_dictionaries({"item": texts}),
    "transcript": st.fixed_dictionaries({"item": st.builds(Transcript, texts, st.booleans())}),
    "audio": st.fixed_dictionaries({"item": sounds}),
    "progress": st.fixed_dictionaries({"item": st.builds(Progress, texts)}),
    "scene": st.fixed_dictionaries({
        "item": st.builds(
            Scene, st.binary(max_size=9), st.builds(Transcript, texts), st.lists(texts, max_size=2).map(tuple)
        )
    }),
    "json": st.fixed_dictionaries({"item": plain_values.filter(lambda value: not isinstance(value, str))}),
}  # fmt: skip


@st.composite
def events(draw: st.DrawFn) -> Event:
    kind = draw(st.sampled_from(sorted(KINDS)))
    fields = draw(KINDS[kind]) | {
        "turn": draw(numbers), "seq": draw(numbers), "t": draw(st.floats(0, 1e6)),
        "stage": draw(st.none() | texts), "run": draw(st.none() | numbers),
    }  # fmt: skip
    return Event(type=kind, **fields)


@given(events())
def test_an_event_is_encoded_as_its_plain_dictionary_would_be(event):
    line = encode_line(event)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    read, expected = json.loads(line), plain(event)
    assert read == expected
    assert list(read) == list(expected)
    record = encode_sse(event)
    assert record == f"id: {event.turn}:{event.seq}\nevent: {event.type}\ndata: ".encode() + line + b"\n"


@given(events())
def test_a_socket_is_sent_the_same_but_for_sound_which_follows_as_it_is(event):
    text, *sound = event_frames(event)
    expected = plain(event)
    if event.type == "audio":
        expected["bytes"] = len(base64.b64decode(expected.pop("data")))
        assert sound == [event.item.pcm]
    assert list(json.loads(text).items()) == list(expected.items())


@pytest.mark.parametrize("pcm", [b"", b"\0\1", b"\0\1\2\3", bytes(4096), Marked(b"\0\1")])
def test_sound_is_base64_with_its_padding(pcm):
    event = Event(type="audio", turn=1, seq=1, t=0.0, item=Audio(pcm, 8000))
    assert json.loads(encode_line(event))["data"] == base64.b64encode(pcm).decode()


def test_what_has_no_json_form_is_an_error_in_its_stead(caplog):
    event = Event(type="json", turn=1, seq=7, t=0.5, stage="odd", run=2, item=[object()])
    told = json.loads(encode_line(event))
    message = told.pop("message")
    assert told == {"type": "error", "turn": 1, "seq": 7, "t": 0.5, "stage": "odd", "run": 2, "error": "TypeError"}
    assert message.startswith("list has no JSON form: ")
    assert encode_sse(event).startswith(b"id: 1:7\nevent: error\ndata: {")
    assert "stage odd gave what has no JSON form" in caplog.text
