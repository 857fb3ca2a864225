"""What comes in from outside becomes items and options; what goes out becomes plain JSON values.

Strict: nothing is coerced ("5" is no int), an unknown key is an error, and each error says where it stands.
"""

from __future__ import annotations

import base64
import re
from collections import deque
from collections.abc import Callable, Mapping, MutableSequence, MutableSet, Sequence, Set
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import ForbiddenExtraKeysError, IterableValidationError
from cattrs.preconf.msgspec import MsgspecJsonConverter, make_converter

from .errors import InputError
from .items import Audio, Utterance
from .ports import show

__all__ = ["decode", "structure", "union_members", "unstructure"]

PLAIN = (int, float, str, bool)
SEVERAL = (list, tuple, set, frozenset, Sequence, MutableSequence, Set, MutableSet, deque)
# What a string for an Audio stage holds when it is no WAV: the format of EZPipe's clients and of our own protocol.
PCM_RATE_HZ = 16_000
# What cattrs raises for a payload that does not fit; AttributeError where a mapping is needed, and another thing given.
MISFITS = (
    cattrs.BaseValidationError, cattrs.StructureHandlerNotFoundError, AttributeError, TypeError, ValueError, KeyError,
)  # fmt: skip
# Of what does not fit, so much is named: an answer must not be many times as long as what was sent.
SHOWN = 20
LONGEST_KEY = 60  # characters


@cache
def converter() -> MsgspecJsonConverter:
    """The one converter: strict, with bytes as base64."""
    made = make_converter(forbid_extra_keys=True, detailed_validation=True)
    for plain in PLAIN:
        made.register_structure_hook(plain, _strict)
    made.register_structure_hook_func(_is_plain_union, _strict_union)
    made.register_structure_hook_func(_is_literal, _one_of)
    _be_strict_with_lists(made)
    made.register_structure_hook(Audio, lambda value, _: audio(value))
    made.register_structure_hook(Utterance, lambda value, _: Utterance.of(audio(value)))
    return made


def _strict(value: Any, cls: type) -> Any:
    # JSON has one number type: 1 is a fine temperature. A bool is no number, though Python says so.
    if cls is float and type(value) is int:
        return _as_float(value)
    if type(value) is not cls:
        raise TypeError(f"{_brief(value)} was given, but {cls.__name__} is needed")
    return value


def _be_strict_with_lists(made: MsgspecJsonConverter) -> None:
    """What is to be several is given as a list: cattrs would take a text apart, and an object for its keys."""
    resolving: set[Any] = set()

    def is_several(annotation: Any) -> bool:
        cls = get_origin(annotation) or annotation
        return cls in SEVERAL and annotation not in resolving

    def strict(annotation: Any) -> Callable[[Any, Any], Any]:
        resolving.add(annotation)
        try:
            structured = made.get_structure_hook(annotation, cache_result=False)
        finally:
            resolving.discard(annotation)

        def several(value: Any, cls: Any) -> Any:
            if not isinstance(value, list | tuple | set | frozenset):
                raise TypeError(f"{_brief(value)} was given, but a list ({show(annotation)}) is needed")
            return structured(value, cls)

        return several

    made.register_structure_hook_factory(is_several, strict)


def _is_plain_union(annotation: Any) -> bool:
    members = union_members(annotation)
    return len(members) > 1 and set(members) <= {*PLAIN, NoneType}


def _strict_union(value: Any, annotation: Any) -> Any:
    members = union_members(annotation)
    if type(value) is int and float in members and int not in members:
        return _as_float(value)
    if type(value) not in members:
        raise TypeError(f"{_brief(value)} was given, but {show(annotation)} is needed")
    return value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{_brief(value)} is more than a float can be") from error


def _is_literal(annotation: Any) -> bool:
    origin: Any = get_origin(annotation)
    return origin is Literal


def _one_of(value: Any, annotation: Any) -> Any:
    known = get_args(annotation)
    if not any(value == one and type(value) is type(one) for one in known):
        raise TypeError(f"{_brief(value)} was given, but {' or '.join(map(repr, known))} is needed")
    return value


def decode(payload: Any, in_type: Any) -> Any:
    """What a client sent, as an item of that type.

    A string is text for a stage that takes `str`, else base64 of a WAV or of 16 kHz mono PCM16 for one that
    takes Audio; anything else is structured by cattrs.
    Raises: InputError with the path and what is needed.
    """
    members = union_members(in_type)
    if in_type is Any or object in members or Any in members:
        return payload
    if isinstance(payload, str):
        if str in members:
            return payload
        if Audio in members or Utterance in members:
            try:
                return _as_member(audio(payload), members)
            except ValueError as error:
                raise InputError("input", str(error)) from error
    if isinstance(payload, Audio) and (Audio in members or Utterance in members):
        return _as_member(payload, members)
    rest = tuple(member for member in members if member not in (Audio, Utterance))
    if not rest:
        raise InputError("input", f"{_brief(payload)} was given, but {show(in_type)} is needed (a base64 string)")
    return structure(payload, Union[rest], "input")  # noqa: UP007  (built at run time)


def _as_member(sound: Audio, members: tuple[Any, ...]) -> Any:
    return sound if Audio in members else Utterance.of(sound)


def audio(text: Any) -> Audio:
    """Base64 of a WAV, or of PCM16 at 16 kHz, mono. Raises: ValueError that says what is needed."""
    needed = "sound is needed: base64 of a WAV or of PCM16 16 kHz mono"
    if not isinstance(text, str):
        raise ValueError(f"{_brief(text)} was given, but {needed}")
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"not base64 ({error}), but {needed}") from error
    return Audio.from_wav(data) if data[:4] == b"RIFF" else Audio(data, PCM_RATE_HZ)


def structure(payload: Any, cls: Any, path: str) -> Any:
    """A plain value as an instance of `cls`; `path` is where it stands, empty for a whole body.

    Raises: InputError that names the places that do not fit, of many the first.
    """
    if isinstance(cls, type) and attrs.has(cls):
        if isinstance(payload, cls):
            return payload
        if not isinstance(payload, Mapping):
            raise InputError(path or "body", f"{_brief(payload)} was given, but an object ({show(cls)}) is needed")
    try:
        return _structured(payload, cls, path)
    except RecursionError as error:  # of a class that holds itself
        raise InputError(path or "body", "nested too deeply") from error


def _structured(payload: Any, cls: Any, path: str) -> Any:
    try:
        return converter().structure(payload, cls)
    except MISFITS as error:
        problems = _problems(error, path, cls)
        where, what = problems[0]
        more = "".join(f"; {place}: {problem}" for place, problem in problems[1:SHOWN])
        if (others := len(problems) - SHOWN) > 0:
            more += f"; and {others} more"
        raise InputError(where or "body", what + more) from error


def _problems(error: BaseException, path: str, cls: Any) -> list[tuple[str, str]]:
    if isinstance(error, cattrs.ClassValidationError):
        return [
            problem
            for inner, note in _noted(error)
            for problem in _problems(inner, _under(path, note.name) if note else path, cls)
        ]
    if isinstance(error, IterableValidationError):
        return [
            problem
            for inner, note in _noted(error)
            for problem in _problems(inner, f"{path}[{_brief(note.index)}]" if note else path, cls)
        ]
    if isinstance(error, ForbiddenExtraKeysError):
        known = ", ".join(field.name for field in attrs.fields(error.cl)) if attrs.has(error.cl) else ""
        return [(_under(path, _short(key)), f"unknown; known here: {known}") for key in sorted(error.extra_fields)]
    if isinstance(error, InputError):
        return [(_under(path, error.path), error.problem)]  # from a class's own validator
    if isinstance(error, KeyError):
        return [(path, "missing")]
    if isinstance(error, AttributeError) and error.name == "items":
        return [(path, f"{_brief(error.obj)} was given, but an object is needed")]
    # What a validator of attrs' own raises names the field, or holds it.
    said: tuple[Any, ...] = error.args
    if len(said) > 1 and isinstance(said[1], attrs.Attribute):
        return [(_under(path, said[1].name), str(said[0]))]
    if named := re.match(r"'(\w+)' must ", str(error)):
        return [(_under(path, named[1]), str(error))]
    return [(path, str(error) or f"{show(cls)} is needed")]


def _short(key: str) -> str:
    """A key of the sender's own, cut where it is long."""
    return key if len(key) <= LONGEST_KEY else f"{key[: LONGEST_KEY - 3]}..."


def _under(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


def _noted(error: Any) -> list[tuple[BaseException, Any]]:
    with_notes, without = error.group_exceptions()
    return [*with_notes, *((inner, None) for inner in without)]


def unstructure(item: object) -> Any:
    """An item as dictionaries, lists and values that msgspec encodes as JSON; bytes are base64."""
    return converter().unstructure(item)


def union_members(annotation: Any) -> tuple[Any, ...]:
    """The types of a union; of any other annotation, itself."""
    if get_origin(annotation) in (Union, UnionType):
        return tuple(member for part in get_args(annotation) for member in union_members(part))
    return (annotation,)


def _brief(value: object) -> str:
    shown = repr(value)
    return f"{shown[:57]}..." if len(shown) > 60 else shown
