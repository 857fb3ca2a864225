"""The protocol's JSON, as `ezflow.Event`s; and what a client sends, as JSON.

A client gets the class of event that a session in the same process gives, and the same items in it (`str`, `Audio`,
`Transcript`), not classes of its own: code that takes events moves between `session.turn(...)` and `client.turn(...)`
as it is.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, TypeVar, cast

import attrs
import msgspec
from cattrs import Converter

from ..convert import converter, structure
from ..errors import InputError
from ..events import Event, Fault, Progress, Reason
from ..items import Audio, Transcript
from .errors import ProtocolError

__all__ = ["Reader", "as_input", "as_json", "json_object", "part", "whole_sound"]

C = TypeVar("C")


@attrs.frozen
class _Common:
    """What every event has. `turn` 0 and `seq` -1 are those of an answer to a frame, which is no event of a turn."""

    type: str
    turn: int | None = None
    seq: int = -1
    t: float = 0.0
    stage: str | None = None
    run: int | None = None


@attrs.frozen
class _Text:
    text: str


@attrs.frozen
class _Sound:
    rate_hz: int
    channels: int = 1
    data: str | None = None


@attrs.frozen
class _Failure:
    error: str
    message: str = ""
    path: str = ""


class Reader:
    """Makes events of the server's records.

    `classes` are event classes as the server's modules declare them (`@event`): an event of such a type holds an
    instance, any other holds what stands under `data`. A type that this client does not know is an event like that.
    """

    def __init__(self, classes: Iterable[type] = ()) -> None:
        self._classes = {name_of(cls): cls for cls in (Progress, *classes)}

    def decode(self, text: str | bytes) -> dict[str, Any]:
        """A line or a text frame. Raises: ProtocolError if it is no JSON object with a type."""
        try:
            record = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"the server sent what is not JSON: {error}.") from error
        if not isinstance(record, dict) or not isinstance(record.get("type"), str):
            raise ProtocolError("the server sent JSON that is no event: an object with a type is needed.")
        return record

    def event(self, record: Mapping[str, Any], pcm: bytes | None = None) -> Event:
        """The event that a record is; `pcm` is an audio event's sound, where that came apart from it.

        Raises: ProtocolError if it is not what its type needs.
        """
        try:
            return self._event(record, pcm)
        except (InputError, ValueError) as error:
            raise ProtocolError(f"the server sent a {record['type']!r} event that is none: {error}.") from error

    def _event(self, record: Mapping[str, Any], pcm: bytes | None) -> Event:
        said = part(_Common, record)
        made = Event(type=said.type, turn=said.turn or 0, seq=said.seq, t=said.t, stage=said.stage, run=said.run)
        match made.type:
            case "turn.started" | "interrupted":
                return made
            case "turn.ended":
                return attrs.evolve(made, reason=cast(Reason, structure(record.get("reason"), str, "reason")))
            case "error":
                failure = part(_Failure, record)
                where = f"{failure.path}: " if failure.path else ""
                return attrs.evolve(made, error=Fault(failure.error, where + failure.message))
            case "text":
                return attrs.evolve(made, item=part(_Text, record).text)
            case "transcript":
                return attrs.evolve(made, item=part(Transcript, record))
            case "audio":
                return attrs.evolve(made, item=_audio(part(_Sound, record), pcm))
            case "stage":
                return attrs.evolve(made, item=structure(record.get("state"), str, "state"))
            case kind if kind in self._classes:
                return attrs.evolve(made, item=part(self._classes[kind], record.get("data")))
            case _:
                own = {key: value for key, value in record.items() if key not in attrs.fields_dict(_Common)}
                return attrs.evolve(made, item=own["data"] if own.keys() == {"data"} else own)


def name_of(cls: type) -> str:
    """The wire type of an event class. Raises: TypeError if it is none."""
    name: str | None = getattr(cls, "__ezflow_event__", None)
    if name is None:
        raise TypeError(f"{cls.__name__} is no event class: declare it with @ezflow.events.event.")
    return name


def json_object(text: bytes) -> dict[str, Any] | None:
    """The JSON object that a whole answer is; None if it is none."""
    try:
        told = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def part(cls: type[C], record: Any) -> C:
    """What a class names of a record: a newer server may say more. Raises: InputError."""
    if not isinstance(record, Mapping):
        raise InputError("data", "an object is needed")
    known = {key: value for key, value in record.items() if key in attrs.fields_dict(cast(Any, cls))}
    return cast(C, structure(known, cls, ""))


def _audio(sound: _Sound, pcm: bytes | None) -> Audio:
    if pcm is None:
        pcm = base64.b64decode(sound.data or "", validate=True)
    return Audio(pcm, sound.rate_hz, sound.channels)


def as_json(value: Any) -> bytes:
    """A request's body. Raises: TypeError or ValueError for what has no JSON form."""
    return msgspec.json.encode(_sending().unstructure(value))


@cache
def _sending() -> Converter:
    """The converter for what is sent: sound within a value is what a server takes for sound."""
    made = converter().copy()
    made.register_unstructure_hook(Audio, as_input)
    return made


def as_input(data: Any) -> Any:
    """An input as its JSON value: text as it is, sound as base64 of a WAV (bytes: of a WAV, or of PCM16 at 16 kHz,
    mono, as they are), anything else as cattrs unstructures it.
    """
    if isinstance(data, Audio):
        data = data.to_wav()
    if isinstance(data, bytes | bytearray | memoryview):
        return base64.b64encode(data).decode()
    return data if isinstance(data, str) else _sending().unstructure(data)


def whole_sound(data: bytes, rate_hz: int, channels: int) -> Audio:
    """Bytes as sound: a WAV, or PCM16 in that format. Raises: ValueError."""
    return Audio.from_wav(data) if data[:4] == b"RIFF" and data[8:12] == b"WAVE" else Audio(data, rate_hz, channels)
