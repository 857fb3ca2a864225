"""What a server says of a flow: `GET /flow`, and the schemas of what it takes and gives."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, get_args

from quart import Blueprint, Response

from ..events import Reason
from ..open_turn import has_latest
from ..ports import show
from ..request import takes
from ..service import Service
from ..timeline import Doing
from .replies import answer
from .schemas import DIALECT, PCM16, WAV, by_entry, components, either, item_schema
from .turns import TurnRequest

__all__ = ["describe", "events_schema", "flow_description", "request_schema"]

SOUND = {
    "type": "string",
    "contentEncoding": "base64",
    "anyOf": [
        {"title": "PCM16, 16 kHz, mono", "pattern": PCM16},
        {"title": "WAV", "pattern": WAV, "format": "wav", "contentMediaType": "audio/wav"},
    ],
}


def describe(description: Mapping[str, Any]) -> Blueprint:
    """The route that describes a flow."""
    routes = Blueprint("describe", __name__)

    @routes.get("/flow")
    async def get_flow() -> Response:
        return answer(description)

    return routes


def flow_description(service: Service, name: str, flows: Collection[str]) -> dict[str, Any]:
    """The stages with their types, the joins, and a Mermaid drawing; the flow's name among those of its server.

    `live`: is it for a conversation, each new item ending the run before (`Latest`)?
    """
    return {
        "name": name,
        "flows": [*flows],
        "live": has_latest(service.flow),
        "stages": [
            {
                "index": stage.index,
                "name": stage.name,
                "in": show(stage.in_type),
                "out": show(stage.out_type),
                "takes": takes(stage),
                "shown": stage.is_shown,
                "options": stage.module.options_key or stage.name if stage.module.options else None,
                "doc": (type(stage.module).__doc__ or "").strip().partition("\n")[0],
            }
            for stage in service.stages
        ],
        "edges": [
            {"from": edge.giver.name, "to": edge.taker.name, "type": show(edge.type)} for edge in service.report.edges
        ],
        "mermaid": service.report.mermaid(),
    }


def request_schema(service: Service) -> dict[str, Any]:
    """JSON Schema of the body of `POST /turns`."""
    classes = {
        stage.module.options_key or stage.name: stage.module.options
        for stage in service.stages
        if stage.module.options is not None
    }
    stages = service.stages
    items = [item_schema(stage, SOUND) for stage in stages]
    types = [*classes.values(), *(one for _, others in items for one in others)]
    (body, *schemas), definitions = components([TurnRequest, *types])
    options, others = schemas[: len(classes)], iter(schemas[len(classes) :])
    inputs = [either([schema, *(next(others) for _ in more)]) for schema, more in items]
    request = definitions.pop(body["$ref"].rpartition("/")[2])
    properties = request["properties"]
    properties["entry"]["anyOf"] = [
        {"type": "integer", "minimum": 0, "maximum": len(stages) - 1},
        {"enum": [stage.name for stage in stages]},
    ]
    properties["options"] |= {"additionalProperties": False, "properties": dict(zip(classes, options, strict=True))}
    chosen = by_entry(stages, inputs, entry="entry", item="input", named=True)
    request["properties"] = properties | chosen.pop("properties")
    return {"$schema": DIALECT, **request, **chosen, "$defs": definitions}


def events_schema(service: Service) -> dict[str, Any]:
    """JSON Schema of an event of ezflow's own protocol."""
    text, number, count = {"type": "string"}, {"type": "number"}, {"type": "integer", "minimum": 0}
    audio = {"rate_hz": count, "channels": count, "samples": count}
    error, reasons = {"error": text, "message": text}, [*get_args(Reason)]
    over_http = {"contentEncoding": "base64", "description": "Over HTTP: the sound."}
    over_socket = {"description": "Over a WebSocket: so long is the binary frame that follows, which is the sound."}
    sound = audio | {"data": text | over_http, "bytes": count | over_socket}
    kinds: dict[str, tuple[str, dict[str, Any], list[str]]] = {
        "turn.started": ("The first.", {}, []),
        "text": ("A piece of text: pieces of a stage, joined, are its text.", {"text": text}, ["stage", "text"]),
        "transcript": (
            "What was understood so far; with `final`, in the end. It replaces the one before.",
            {"text": text, "final": {"type": "boolean"}},
            ["stage", "text", "final"],
        ),
        "audio": ("A piece of sound: PCM16, little-endian, channels interleaved.", sound, ["stage", *audio]),
        "json": ("Any other item.", {"data": {}}, ["stage", "data"]),
        "stage": (
            "In a turn with a timeline: what the stage is doing.",
            {"state": {"enum": [*get_args(Doing)]}},
            ["stage", "state"],
        ),
        "error": ("Something failed: the error's name, and what to do about it.", error, [*error]),
        "interrupted": ("In a live turn: the run is over, no event of it follows.", {}, ["run"]),
        "turn.ended": ("The last.", {"reason": {"enum": reasons}}, ["reason"]),
    }
    common = {
        "turn": count | {"description": "The turn's number; counts from 1 for each user."},
        "seq": count | {"description": "The event's number in the turn; counts from 0, without gaps."},
        "t": number | {"description": "When it came about, in seconds since the turn began."},
        "run": count | {"description": "The number of the run inside a `Latest`."},
        "stage": {"enum": [stage.name for stage in service.stages], "description": "The stage that said it."},
    }

    def shape(name: str, about: str, kind: dict[str, Any], own: dict[str, Any], required: list[str]) -> dict[str, Any]:
        return {
            "title": name,
            "description": about,
            "type": "object",
            "required": ["type", "turn", "seq", "t", *required],
            "properties": {"type": kind} | common | own,
        }

    known = [shape(kind, about, {"const": kind}, own, required) for kind, (about, own, required) in kinds.items()]
    other = {"type": "string", "not": {"enum": [*kinds]}}
    about = "An event class that a module declares, as `progress`: its name as the type, its fields."
    declared = shape("declared by a module", about, other, {"data": {"type": "object"}}, ["stage", "data"])
    return {"$schema": DIALECT, "title": "Event", "oneOf": [*known, declared]}
