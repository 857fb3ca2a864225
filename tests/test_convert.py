"""ezflow/convert.py: strict, and every error says where it stands and what is needed."""

import base64
import enum
from collections.abc import Sequence
from typing import Any, Literal

import attrs
import msgspec
import pytest

from ezflow import Audio, InputError, Transcript, Utterance
from ezflow.convert import audio, decode, structure, unstructure

PCM = bytes(range(8))
BASE64 = base64.b64encode(PCM).decode()


class Colour(enum.Enum):
    RED = "red"


@attrs.frozen
class Voice:
    name: str
    speed: float = attrs.field(default=1.0, validator=attrs.validators.lt(5))


@attrs.frozen
class Options:
    temperature: float = 1.0
    tokens: int = 10
    stop: tuple[str, ...] = ()
    voice: Voice | None = None
    loud: bool = False
    voices: dict[str, Voice] = attrs.field(factory=dict)
    mode: Literal["fast", "good"] = "fast"
    colour: Colour = Colour.RED
    top_k: int | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.ge(1)))
    speed: float = attrs.field(default=1.0, validator=[attrs.validators.ge(0.5), attrs.validators.le(2)])
    language: str = attrs.field(default="en", validator=attrs.validators.matches_re("[a-z]+"))
    size: float = attrs.field(default=1.0, converter=abs, validator=attrs.validators.ge(0))


def test_an_object_becomes_its_class():
    given = {
        "temperature": 1,  # JSON has one number type
        "stop": ["a", "b"],
        "voice": {"name": "ann"},
        "voices": {"x": {"name": "bob", "speed": 0.5}},
        "mode": "good",
        "colour": "red",
    }
    made = structure(given, Options, "options.LLM")
    assert made == Options(1.0, 10, ("a", "b"), Voice("ann"), False, {"x": Voice("bob", 0.5)}, "good")
    assert type(made.temperature) is float


def test_a_bound_holds_for_what_a_field_converts_to():
    assert structure({"size": -1.0}, Options, "options").size == 1.0


def test_an_instance_is_taken_as_it_is():
    given = Options(tokens=3)
    assert structure(given, Options, "options") is given


@pytest.mark.parametrize(
    ("given", "path", "problem"),
    [
        ({"tokens": "5"}, "options.tokens", "'5' was given, but int is needed"),
        ({"tokens": 5.0}, "options.tokens", "5.0 was given, but int is needed"),
        ({"tokens": True}, "options.tokens", "True was given, but int is needed"),
        ({"temperature": "1"}, "options.temperature", "'1' was given, but float is needed"),
        ({"temperature": False}, "options.temperature", "False was given, but float is needed"),
        ({"loud": 1}, "options.loud", "1 was given, but bool is needed"),
        ({"loud": "true"}, "options.loud", "'true' was given, but bool is needed"),
        ({"stop": ["a", 2]}, "options.stop[1]", "2 was given, but str is needed"),
        ({"voice": {"name": 3}}, "options.voice.name", "3 was given, but str is needed"),
        ({"voice": {}}, "options.voice.name", "missing"),
        ({"mode": "quick"}, "options.mode", "'quick' was given, but 'fast' or 'good' is needed"),
        ({"mode": ["fast"]}, "options.mode", "['fast'] was given, but 'fast' or 'good' is needed"),
        ({"top_k": 0}, "options.top_k", "must be >= 1: 0"),
        ({"speed": 3}, "options.speed", "must be <= 2: 3"),
        ({"language": "EN"}, "options.language", "'language' must match regex '[a-z]+' ('EN' doesn't)"),
        ({"voice": {"name": "ann", "speed": 9}}, "options.voice.speed", "must be < 5: 9"),
        ({"top_k": "a"}, "options.top_k", "'a' was given, but int | None is needed"),
        ({"voices": {"x": {"name": None}}}, "options.voices['x'].name", "None was given, but str is needed"),
        ({"hotness": 1}, "options.hotness", "unknown; known here: temperature, tokens"),
        ({"voice": {"name": "a", "pitch": 1}}, "options.voice.pitch", "unknown; known here: name, speed"),
        ("hi", "options", "'hi' was given, but an object (Options) is needed"),
        ([1], "options", "[1] was given, but an object (Options) is needed"),
        (None, "options", "None was given, but an object (Options) is needed"),
    ],
)
def test_what_does_not_fit_is_named_with_its_path(given, path, problem):
    with pytest.raises(InputError) as caught:
        structure(given, Options, "options")
    assert caught.value.path == path
    assert problem in caught.value.problem
    assert str(caught.value) == f"{path}: {caught.value.problem}"


@pytest.mark.parametrize("given", [{"colour": "blue"}, {"stop": 5}, {"voices": 5}, {"voice": "ann"}])
def test_other_misfits_are_input_errors_below_the_options(given):
    with pytest.raises(InputError) as caught:
        structure(given, Options, "options")
    assert caught.value.path.startswith(f"options.{next(iter(given))}")


def test_all_misfits_are_told_at_once():
    with pytest.raises(InputError) as caught:
        structure({"tokens": "5", "loud": 3, "new": 1}, Options, "options")
    for place in ("options.tokens", "options.loud", "options.new"):
        assert place in str(caught.value)


def test_a_long_value_is_not_repeated_whole():
    with pytest.raises(InputError) as caught:
        structure({"tokens": "5" * 10_000}, Options, "options")
    assert len(str(caught.value)) < 200


def test_text_is_taken_as_it_is_where_str_is_taken():
    assert decode("hi", str) == "hi"
    assert decode(BASE64, str | Audio) == BASE64
    assert decode("hi", str | None) == "hi"


@pytest.mark.parametrize("payload", [5, None, 1.5, True, ["a"], {"text": "a"}])
def test_other_than_text_is_refused_where_str_is_taken(payload):
    with pytest.raises(InputError) as caught:
        decode(payload, str)
    assert caught.value.path == "input"


@pytest.mark.parametrize("payload", [5, "x", None, {"a": [1]}])
def test_anything_is_taken_where_any_is(payload):
    assert decode(payload, Any) == payload
    assert decode(payload, object) == payload


def test_base64_of_samples_becomes_audio_at_16_khz():
    assert decode(BASE64, Audio) == Audio(PCM, 16000)


def test_base64_of_a_wav_becomes_audio_at_its_own_rate():
    sound = Audio(PCM, 44100, 2)
    assert decode(base64.b64encode(sound.to_wav()).decode(), Audio | Utterance) == sound


async def test_sound_becomes_an_utterance_that_has_been_spoken():
    utterance = decode(BASE64, Utterance)
    assert isinstance(utterance, Utterance)
    assert utterance.ended
    assert await utterance.whole() == Audio(PCM, 16000)
    assert isinstance(decode(Audio(PCM, 8000), Utterance), Utterance)
    assert decode(Audio(PCM, 8000), Audio | Utterance) == Audio(PCM, 8000)


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ("%%%", "not base64"),
        ("YWJj\n", "not base64"),
        ("YWJ", "not base64"),
        ("é", "not base64"),
        (base64.b64encode(b"abc").decode(), "3 bytes are not whole frames"),
        (base64.b64encode(b"RIFFxxxx").decode(), "not a WAV of PCM samples"),
        (5, "5 was given, but Audio is needed"),
        (None, "None was given, but Audio is needed"),
        ({"pcm": "x"}, "but Audio is needed"),
    ],
)
def test_what_is_no_sound_is_refused_with_what_is_needed(payload, problem):
    with pytest.raises(InputError) as caught:
        decode(payload, Audio)
    assert caught.value.path == "input"
    assert problem in caught.value.problem


def test_sound_inside_an_object_is_named_with_its_path():
    @attrs.frozen
    class Question:
        sound: Audio
        words: str = ""

    assert decode({"sound": BASE64}, Question) == Question(Audio(PCM, 16000))
    with pytest.raises(InputError) as caught:
        decode({"sound": "%%%"}, Question)
    assert caught.value.path == "input.sound"
    with pytest.raises(InputError) as caught:
        decode({"sound": 5}, Question)
    assert caught.value.path == "input.sound"


def test_a_union_of_classes_is_told_apart_by_their_fields():
    assert decode({"name": "ann"}, Voice | Transcript) == Voice("ann")
    assert decode({"text": "hi"}, Voice | Transcript) == Transcript("hi")
    with pytest.raises(InputError):
        decode({"neither": 1}, Voice | Transcript)


@pytest.mark.parametrize("cls", [list[str], tuple[str, ...], tuple[str, str], set[str], Sequence[str], list])
@pytest.mark.parametrize("given", ["ab", {"a": 1}, 5])
def test_a_text_or_an_object_is_not_taken_apart_where_a_list_is_needed(cls, given):
    with pytest.raises(InputError, match=r"was given, but a list \(.*\) is needed"):
        structure(given, cls, "stop")


def test_lists_are_structured_with_their_index():
    assert decode(["a", "b"], list[str]) == ["a", "b"]
    with pytest.raises(InputError) as caught:
        decode(["a", 1], list[str])
    assert caught.value.path == "input[1]"


def test_audio_takes_only_a_string():
    with pytest.raises(ValueError, match="sound is needed"):
        audio(7)


def test_items_go_out_as_plain_values():
    plain = unstructure(Options(voice=Voice("ann"), stop=("a",)))
    assert msgspec.json.decode(msgspec.json.encode(plain)) == {
        "temperature": 1.0,
        "tokens": 10,
        "stop": ["a"],
        "voice": {"name": "ann", "speed": 1.0},
        "loud": False,
        "top_k": None,
        "speed": 1.0,
        "language": "en",
        "size": 1.0,
        "voices": {},
        "mode": "fast",
        "colour": "red",
    }
    assert unstructure({"bytes": b"abc"}) == {"bytes": base64.b64encode(b"abc").decode()}


def test_of_very_many_misfits_the_first_are_told_and_the_others_counted():
    with pytest.raises(InputError) as caught:
        structure({"k" * 1000 + str(number): 0 for number in range(1000)}, Options, "options")
    assert "and 980 more" in str(caught.value)
    assert len(str(caught.value)) < 20 * 300


@pytest.mark.parametrize(
    ("given", "cls", "problem"),
    [
        (10**400, float, "more than a float can be"),
        (-(10**400), float | None, "more than a float can be"),
        ({"temperature": 10**400}, Options, "more than a float can be"),
        (None, dict[str, int], "None was given, but an object is needed"),
        ({"voices": 5}, Options, "5 was given, but an object is needed"),
    ],
)
def test_what_no_type_can_hold_is_a_misfit_like_any_other(given, cls, problem):
    with pytest.raises(InputError, match=problem):
        structure(given, cls, "input")


@attrs.frozen
class Nested:
    inner: "Nested | None" = None


@pytest.mark.parametrize("ends_in", [None, 5])
def test_what_is_nested_too_deeply_is_a_misfit(ends_in):
    given = ends_in
    for _ in range(900):  # as JSON may be nested
        given = {"inner": given}
    with pytest.raises(InputError, match="nested too deeply"):
        structure(given, Nested, "input")
