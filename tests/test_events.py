"""ezflow/events.py: the wire types of what is replied."""

import attrs
import pytest

from ezflow import Audio, DefinitionError, Event, Progress, Transcript
from ezflow.events import OWN_TYPES, Fault, event, event_type, snake_case


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("LocalLLM", "local_llm"),
        ("SileroVAD", "silero_vad"),
        ("Hibari", "hibari"),
        ("OpenAIChat", "open_ai_chat"),
        ("TTS2Go", "tts2_go"),
        ("without_markdown", "without_markdown"),
    ],
)
def test_stage_and_event_names_are_snake_case(name, snake):
    assert snake_case(name) == snake


@event
class Mood:
    """How the model feels."""

    word: str
    strength: float = 1.0


@attrs.frozen
class Weather:
    degrees: int


@pytest.mark.parametrize(
    ("item", "wire"),
    [
        ("hi", "text"),
        (Audio(b"", 16000), "audio"),
        (Transcript("hi"), "transcript"),
        (Progress("thinking"), "progress"),
        (Mood("glad"), "mood"),
        (Weather(3), "json"),
        ({"a": 1}, "json"),
        (3, "json"),
        (None, "json"),
    ],
)
def test_each_item_has_its_wire_type(item, wire):
    assert event_type(item) == wire


def test_a_declared_event_is_a_frozen_value():
    assert Mood("glad") == Mood("glad", 1.0)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Mood("glad").word = "sad"  # type: ignore[misc]


@pytest.mark.parametrize("wire", sorted(wire for wire in OWN_TYPES if "." not in wire))
def test_an_event_class_may_not_take_a_type_of_the_protocol(wire):
    with pytest.raises(DefinitionError, match=f"a type '{wire}' of its own: choose another name"):
        event(type(wire.capitalize(), (), {}))


def test_an_event_holds_what_happened_and_nothing_else():
    said = Event(type="text", turn=1, seq=3, t=0.5, stage="llm", item="hi")
    assert (said.run, said.error, said.reason) == (None, None, None)
    failed = Event(type="error", turn=1, seq=4, t=0.6, stage="llm", error=Fault("ValueError", "bad"))
    assert failed.error == Fault("ValueError", "bad")
    with pytest.raises(TypeError):
        Event("text", 1, 3, 0.5)  # type: ignore[misc]
