"""What a server says of a flow: `GET /flow`, and the schemas of what it takes and gives."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args

import attrs
import msgspec
from quart import Blueprint, Response

from ..open_turn import has_latest
from ..ports import show
from ..request import takes
from ..service import Service
from ..stage import Stage, heads
from ..timeline import Doing
from .replies import answer

__all__ = ["describe", "events_schema", "flow_description", "request_schema"]


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
    schemas, definitions = msgspec.json.schema_components(classes.values(), ref_template="#/$defs/{name}")
    for cls, schema in zip(classes.values(), schemas, strict=True):
        # msgspec gives classes of one name longer ones.
        properties = definitions[schema["$ref"].removeprefix("#/$defs/")]["properties"]
        for field in attrs.fields(cls):
            properties[field.name] |= dict(_bounds(field.validator))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "TurnRequest",
        "type": "object",
        "required": ["user", "input"],
        "additionalProperties": False,
        "properties": {
            "user": {"type": "string"},
            "input": _input_schema(heads(service.flow)[0]),
            "entry": {
                "default": 0,
                "anyOf": [
                    {"type": "integer", "minimum": 0, "maximum": len(service.stages) - 1},
                    {"enum": [stage.name for stage in service.stages]},
                ],
            },
            "options": {
                "type": "object",
                "additionalProperties": False,
                "properties": dict(zip(classes, schemas, strict=True)),
            },
            "timeline": {"type": "boolean", "default": False},
        },
        "$defs": definitions,
    }


def events_schema(service: Service) -> dict[str, Any]:
    """JSON Schema of an event of ezflow's own protocol."""
    text, number, count = {"type": "string"}, {"type": "number"}, {"type": "integer", "minimum": 0}
    audio = {"rate_hz": count, "channels": count, "samples": count}
    error, reasons = {"error": text, "message": text}, ["done", "interrupted", "error", "timeout"]
    kinds: dict[str, tuple[dict[str, Any], list[str]]] = {
        "turn.started": ({}, []),
        "text": ({"text": text}, ["stage", "text"]),
        "transcript": ({"text": text, "final": {"type": "boolean"}}, ["stage", "text", "final"]),
        # Over a WebSocket `bytes` stands for `data`: the sound follows as a binary frame of that length.
        "audio": (audio | {"data": text | {"contentEncoding": "base64"}, "bytes": count}, ["stage", *audio]),
        "json": ({"data": {}}, ["stage", "data"]),
        # In a turn with a timeline: what the stage is doing.
        "stage": ({"state": {"enum": [*get_args(Doing)]}}, ["stage", "state"]),
        "error": (error, [*error]),
        "interrupted": ({}, ["run"]),
        "turn.ended": ({"reason": {"enum": reasons}}, ["reason"]),
    }
    common = {"turn": count, "seq": count, "t": number, "run": count}
    common["stage"] = {"enum": [stage.name for stage in service.stages]}

    def shape(kind: dict[str, Any], own: dict[str, Any], required: list[str]) -> dict[str, Any]:
        properties = {"type": kind} | common | own
        return {"type": "object", "required": ["type", "turn", "seq", "t", *required], "properties": properties}

    known = [shape({"const": kind}, own, required) for kind, (own, required) in kinds.items()]
    declared = shape({"type": "string", "not": {"enum": [*kinds]}}, {"data": {"type": "object"}}, ["stage", "data"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Event",
        "oneOf": [*known, declared | {"description": "An event class that a module declares: its name, its fields."}],
    }


def _bounds(validator: Any) -> Iterator[tuple[str, float]]:
    """What attrs' own validators (`ge(1)`, `optional(lt(2))`, a list of them) say of a number, in a schema's words."""
    words = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}
    if (compared := getattr(validator, "compare_op", None)) in words:
        yield words[compared], validator.bound
    inner = [getattr(validator, "validator", None), *getattr(validator, "_validators", ())]
    for one in filter(None, inner):
        yield from _bounds(one)


def _input_schema(stage: Stage) -> dict[str, Any]:
    kind = takes(stage)
    if kind == "audio":
        return {
            "type": "string",
            "contentEncoding": "base64",
            "description": "A WAV, or PCM16 at 16 kHz, mono (for entry 0; another entry takes what its stage does).",
        }
    if kind == "text":
        return {"type": "string"}
    return {"description": show(stage.in_type)}
