"""Events as JSON: one shape over every transport of ezflow's own protocol."""

from __future__ import annotations

import base64
import logging
from typing import Any, cast

import attrs
import msgspec

from ..convert import unstructure
from ..events import Event, Fault
from ..items import Audio, Transcript

__all__ = ["as_dict", "encode_line", "encode_sse"]

log = logging.getLogger("ezflow.server")
encoder = msgspec.json.Encoder()


def encode_line(event: Event) -> bytes:
    """An event as one line of NDJSON; an item that has no JSON form becomes its stage's error."""
    return _encoded(event)[1]


def encode_sse(event: Event) -> bytes:
    """An event as a Server-Sent Event: `id` is `turn:seq`, `event` its type, `data` the same JSON."""
    kind, line = _encoded(event)
    return f"id: {event.turn}:{event.seq}\nevent: {kind}\ndata: ".encode() + line + b"\n"


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
    elif event.type == "stage":
        record["state"] = event.item
    elif event.type not in ("turn.started", "interrupted"):
        record |= _item(event.item)
    return record


def _encoded(event: Event) -> tuple[str, bytes]:
    try:
        return event.type, encoder.encode(as_dict(event)) + b"\n"
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        log.error("stage %s gave what has no JSON form", event.stage, exc_info=error)
        fault = Fault(type(error).__name__, f"{type(event.item).__name__} has no JSON form: {error}")
        return "error", encoder.encode(as_dict(attrs.evolve(event, type="error", item=None, error=fault))) + b"\n"


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
