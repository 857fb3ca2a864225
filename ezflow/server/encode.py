"""Events as JSON: one shape over every transport of ezflow's own protocol."""

from __future__ import annotations

import logging
from typing import Any, cast

import attrs
import msgspec

from ..convert import unstructure
from ..events import Event, Fault
from ..items import Audio, Transcript

__all__ = ["encode_line", "encode_sound", "encode_sse", "encoder"]

log = logging.getLogger("ezflow.server")
encoder = msgspec.json.Encoder()


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """What every event says, in the order of the protocol; the kinds below add what theirs says."""

    type: str
    turn: int
    seq: int
    t: float
    stage: str | None = None
    run: int | None = None


class TextLine(Line, kw_only=True):
    text: str


class TranscriptLine(Line, kw_only=True):
    text: str
    final: bool


class AudioLine(Line, kw_only=True):
    rate_hz: int
    channels: int
    samples: int
    data: bytes  # in base64


class SoundLine(Line, kw_only=True):
    """An audio event whose sound goes beside it."""

    rate_hz: int
    channels: int
    samples: int
    bytes: int


class DataLine(Line, kw_only=True):
    data: Any


class StageLine(Line, kw_only=True):
    state: str


class ErrorLine(Line, kw_only=True):
    error: str
    message: str


class EndLine(Line, kw_only=True):
    reason: str


def encode_line(event: Event) -> bytes:
    """An event as one line of NDJSON; an item that has no JSON form becomes its stage's error."""
    return _encoded(event)[1]


def encode_sse(event: Event) -> bytes:
    """An event as a Server-Sent Event: `id` is `turn:seq`, `event` its type, `data` the same JSON."""
    kind, line = _encoded(event)
    return f"id: {event.turn}:{event.seq}\nevent: {kind}\ndata: ".encode() + line + b"\n"


def encode_sound(event: Event, sound: Audio) -> bytes:
    """An audio event without its sound, of which it says the length in bytes."""
    rate_hz, channels, samples = sound.rate_hz, sound.channels, sound.samples
    line = SoundLine(*_head(event), rate_hz=rate_hz, channels=channels, samples=samples, bytes=len(sound.pcm))
    return encoder.encode(line)


def _encoded(event: Event) -> tuple[str, bytes]:
    try:
        return event.type, encoder.encode(_line(event)) + b"\n"
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        log.error("stage %s gave what has no JSON form", event.stage, exc_info=error)
        fault = Fault(type(error).__name__, f"{type(event.item).__name__} has no JSON form: {error}")
        return "error", encoder.encode(_line(attrs.evolve(event, type="error", item=None, error=fault))) + b"\n"


def _head(event: Event) -> tuple[str, int, int, float, str | None, int | None]:
    return event.type, event.turn, event.seq, round(event.t, 4), event.stage, event.run


def _line(event: Event) -> Line:
    head, item = _head(event), event.item
    if event.error is not None:
        return ErrorLine(*head, error=event.error.name, message=event.error.message)
    if event.reason is not None:
        return EndLine(*head, reason=event.reason)
    if event.type == "stage":
        return StageLine(*head, state=item)
    if event.type in ("turn.started", "interrupted"):
        return Line(*head)
    if isinstance(item, str):
        return TextLine(*head, text=item)
    if isinstance(item, Audio):
        rate_hz, channels, samples, data = item.rate_hz, item.channels, item.samples, bytes(item.pcm)
        return AudioLine(*head, rate_hz=rate_hz, channels=channels, samples=samples, data=data)
    if isinstance(item, Transcript):
        return TranscriptLine(*head, text=item.text, final=item.final)
    if hasattr(type(item), "__ezflow_event__"):
        fields = attrs.fields_dict(cast(Any, type(item)))
        return DataLine(*head, data={name: unstructure(getattr(item, name)) for name in fields})
    return DataLine(*head, data=unstructure(item))
