"""Events as JSON: one shape over every transport of ezflow's own protocol."""

from __future__ import annotations

import base64
from typing import Any, cast

import attrs
import msgspec

from ..convert import unstructure
from ..events import Event
from ..items import Audio, Transcript

__all__ = ["as_dict", "encode_line"]

encoder = msgspec.json.Encoder()


def encode_line(event: Event) -> bytes:
    """An event as one line of NDJSON."""
    return encoder.encode(as_dict(event)) + b"\n"


def as_dict(event: Event) -> dict[str, Any]:
    """An event as the protocol's JSON object."""
    record: dict[str, Any] = {"type": event.type, "turn": event.turn, "seq": event.seq, "t": round(event.t, 4)}
    if event.stage is not None:
        record["stage"] = event.stage
    if event.run is not None:
        record["run"] = event.run
    if event.error is not None:
        record |= {"error": event.error.name, "message": event.error.message}
    elif event.reason is not None:
        record["reason"] = event.reason
    elif event.type not in ("turn.started", "interrupted"):
        record |= _item(event.item)
    return record


def _item(item: object) -> dict[str, Any]:
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, Audio):
        return {
            "rate_hz": item.rate_hz,
            "channels": item.channels,
            "samples": item.samples,
            "data": base64.b64encode(item.pcm).decode(),
        }
    if isinstance(item, Transcript):
        return {"text": item.text, "final": item.final}
    if hasattr(type(item), "__ezflow_event__"):
        return {"data": {name: unstructure(getattr(item, name)) for name in attrs.fields_dict(cast(Any, type(item)))}}
    return {"data": unstructure(item)}
