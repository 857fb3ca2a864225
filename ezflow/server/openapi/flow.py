"""The operations of one flow in ezflow's own protocol: turns, what is remembered, what it is."""

from __future__ import annotations

import base64
from typing import Any, get_args

from ...items import Audio
from ...request import Taken, takes
from ...service import Service
from ...stage import Stage
from ..describe import events_schema, request_schema
from ..frames import FRAMES
from ..schemas import components, example, item_schema, reads_by_itself
from ..turns import InterruptRequest
from .parts import JSON, Parts, operation, parameter, reply, user

__all__ = ["NDJSON", "SSE", "flow_operations", "health_operations", "inputs", "sockets"]

NDJSON, SSE = "application/x-ndjson", "text/event-stream"
# A hundredth of a second of silence: short enough to be shown, and taken by every stage that takes sound.
SOUND = base64.b64encode(Audio(bytes(320), 16_000).to_wav()).decode()
CODES = {
    1000: "Nothing was sent for `quiet_s`.",
    1001: "The server shuts down.",
    1002: "What was sent is no WebSocket frame.",
    1007: "What was sent is no UTF-8.",
    1008: "No user, no token, or a token of another user.",
    1009: "A message of more than `max_message` bytes.",
    1011: "A fault of the server: its log has it.",
    1013: "Full, or too often: try again later.",
}


def flow_operations(service: Service, parts: Parts) -> dict[str, dict[str, Any]]:
    """The operations by path, without a prefix."""
    prefix = f"{service.name}." if service.name else ""
    interrupt, definitions = components([InterruptRequest])
    return {
        "/turns": {"post": _turn(service, parts, prefix)},
        "/interrupt": {
            "post": operation(
                "post_interrupt",
                "Turns",
                "End a user's turn",
                "Answers when every stage of it has left.",
                body={
                    "schema": parts.add("InterruptRequest", definitions[interrupt[0]["$ref"].rpartition("/")[2]]),
                    "example": {"user": "ann"},
                },
                responses={
                    "200": reply(
                        "The number of the turn that was ended, or null if there was none.",
                        _object(turn={"type": ["integer", "null"], "minimum": 1}),
                        example={"turn": 3},
                    ),
                    **parts.refusals(400, 401, 403, 413, 422, 429, 503),
                },
            )
        },
        "/history": {
            "get": operation(
                "get_history",
                "History",
                "What is remembered of a user",
                parameters=[user("Whose history.")],
                responses={
                    "200": reply("The messages, the oldest first.", parts.add("History", _history())),
                    **parts.refusals(401, 403, 422, 429, 503),
                },
            ),
            "delete": operation(
                "delete_history",
                "History",
                "Forget a user for good",
                "From the running session and from the store, where there is one.",
                parameters=[user("Whose history.")],
                responses={
                    "200": reply(
                        "How many messages were deleted.",
                        _object(user={"type": "string"}, deleted={"type": "integer", "minimum": 0}),
                        example={"user": "ann", "deleted": 4},
                    ),
                    **parts.refusals(401, 403, 422, 429, 503),
                },
            ),
        },
        "/flow": {
            "get": operation(
                "get_flow",
                "Flow",
                "The stages, their types, a drawing",
                responses={
                    "200": reply("The flow, for clients that draw it.", parts.add("Flow", _flow())),
                    **parts.refusals(401, 403),
                },
            )
        },
        "/schema": {
            "get": operation(
                "get_schema",
                "Flow",
                "JSON Schemas of bodies and events",
                parameters=[
                    parameter(
                        "of",
                        "The body of `POST /input`, of `POST /turns`, or an event of a turn.",
                        {"enum": ["input", "turns", "events"], "default": "input"},
                    )
                ],
                responses={
                    "200": reply("A JSON Schema (2020-12).", {"type": "object"}),
                    **parts.refusals(401, 403, 422, ezpipe=True),
                },
                **parts.security(ezpipe=True),
            )
        },
    }


def health_operations(whose: str, parts: Parts) -> dict[str, dict[str, Any]]:
    """The operations that tell whether it can be used."""
    stages = {"type": "array", "items": {"type": "string"}}
    failing = {"type": "object", "additionalProperties": {"type": "string"}}
    unready = _object(status={"enum": ["unready", "stopping"]})
    unready["properties"] |= {"stages": stages, "failing": failing | {"description": "Told to who may use the server."}}
    retry = {"Retry-After": {"required": True, "schema": {"type": "integer"}}}
    everybody = parts.security(open_to_all=True)
    return {
        "/health/live": {
            "get": operation(
                "get_live",
                "Health",
                "Is the process up?",
                responses={
                    "200": reply("It is.", _object(status={"const": "live"})),
                    **parts.refusals(403),
                },
                **everybody,
            )
        },
        "/health/ready": {
            "get": operation(
                "get_ready",
                "Health",
                f"Does everything answer that {whose} stands on?",
                "Asks the modules, no more often than once a second.",
                responses={
                    "200": reply("It does.", _object(status={"const": "ready"}, stages=stages)),
                    "503": reply("It does not, or the server is shutting down.", unready) | {"headers": retry},
                    **parts.refusals(403),
                },
                **everybody,
            )
        },
    }


def sockets(service: Service, parts: Parts) -> dict[str, Any]:
    """The WebSocket, for which OpenAPI has no words: its query, its frames, its closing codes."""
    references, definitions = components(FRAMES.values())
    frames = []
    for (kind, cls), reference in zip(FRAMES.items(), references, strict=True):
        fields = definitions[reference["$ref"].rpartition("/")[2]]
        fields["title"], fields["description"] = kind, (cls.__doc__ or "").partition("\n")[0]
        fields["required"] = ["type", *fields.get("required", ())]
        fields["properties"] = {"type": {"const": kind}} | fields["properties"]
        frames.append(parts.add(f"Frame.{kind}", fields | {"$defs": {"Format": definitions["Format"]}}))
    prefix = f"{service.name}." if service.name else ""
    return {
        "summary": "Live turns: speech that may be interrupted, items fed as they come",
        "description": (
            "The first frame is `ready`, with what `GET /flow` answers. A client sends text frames, and binary frames "
            "of sound for the turn's entry, in the format of `start`: whole PCM16 frames of any length. It gets the "
            "events of `POST /turns`; an `audio` event has `bytes` in place of `data`, and the binary frame that "
            "follows it is its sound. A frame that does not fit is answered by an `error` event without `turn`. "
            "The rest is in ezflow's documentation, docs/protocol.md, “A WebSocket”."
        ),
        "parameters": [user("Who speaks.")],
        "subprotocols": ["ezflow.v1", "token.TOKEN"] if parts.settings.tokens else ["ezflow.v1"],
        "sent": {"oneOf": frames},
        "received": {"$ref": f"#/components/schemas/{prefix}Event"},
        "closing": {str(code): why for code, why in CODES.items()},
    }


def inputs(service: Service) -> list[tuple[Stage, Any]]:
    """What may be given to stages so that a turn begins: to the first, and to the first that takes text."""
    first = service.stages[0]
    text = next((stage for stage in service.stages if takes(stage) == "text" and not reads_by_itself(stage)), first)
    found = []
    for stage in dict.fromkeys([first, text]):
        if reads_by_itself(stage):
            continue
        kind = takes(stage)
        item: Any = SOUND if kind == "audio" else "hello"
        if kind == "json" and (types := item_schema(stage, {})[1]):
            (schema, *_), definitions = components(types)
            if schema.keys() == {"description"}:
                continue  # only its module knows what that is
            item = example(schema, definitions)
        found.append((stage, item))
    return found


def _turn(service: Service, parts: Parts, prefix: str) -> dict[str, Any]:
    body = parts.add("TurnRequest", request_schema(service), prefix)
    event = parts.add("Event", events_schema(service), prefix)
    data = {"type": "string", "contentMediaType": JSON, "contentSchema": event, "description": "The event, as JSON."}
    sent = _object(id={"type": "string", "pattern": r"^\d+:\d+$", "description": "`turn:seq`"}, event={}, data=data)
    sent["properties"]["event"] = {"type": "string", "description": "The event's type."}
    served = parts.add("ServerSentEvent", sent, prefix)
    examples = {}
    for stage, item in inputs(service):
        entry = {"entry": stage.name} if stage.index else {}
        examples[stage.name] = {"summary": f"into {stage.name}", "value": {"user": "ann", "input": item} | entry}
    told = _told(service)
    content = {
        NDJSON: {"schema": event, "x-itemSchema": event, "example": told[0], "x-example": told},
        SSE: {"schema": served, "x-itemSchema": served},
    }
    return operation(
        "post_turn",
        "Turns",
        "One item through the flow",
        "The answer is a stream of events that ends when the turn does. To close the connection ends the turn. The "
        "schemas of the stream are those of one event: a line of it, or, where `Accept: text/event-stream` is sent, a "
        "Server-Sent Event.",
        body={"schema": body} | ({"examples": examples} if examples else {}),
        responses={
            "200": {"description": "The events of the turn.", "content": content},
            **parts.refusals(400, 401, 403, 413, 422, 429, 503),
        },
    )


def _told(service: Service) -> list[dict[str, Any]]:
    """A turn as a client sees it."""
    told: list[dict[str, Any]] = [{"type": "turn.started", "turn": 1, "seq": 0, "t": 0.0}]
    last = service.stages[-1]
    if last.out_type is str:
        told.append({"type": "text", "turn": 1, "seq": 1, "t": 0.21, "stage": last.name, "text": "Hello"})
    elif last.out_type is Audio:
        sound = {"rate_hz": 24_000, "channels": 1, "samples": 2, "data": "AAAAAA=="}
        told.append({"type": "audio", "turn": 1, "seq": 1, "t": 0.21, "stage": last.name, **sound})
    return [*told, {"type": "turn.ended", "turn": 1, "seq": len(told), "t": 0.34, "reason": "done"}]


def _history() -> dict[str, Any]:
    message = _object(
        role={"enum": ["user", "assistant"]},
        content={"type": "string"},
        cut={"type": "boolean", "description": "An interruption ended the words early."},
        at={"type": "string", "format": "date-time"},
    )
    return _object(user={"type": "string"}, messages={"type": "array", "items": message})


def _flow() -> dict[str, Any]:
    text = {"type": "string"}
    stage = _object(
        index={"type": "integer", "minimum": 0},
        name=text,
        **{"in": text},
        out=text,
        takes={"enum": [*get_args(Taken)]},
        shown={"type": "boolean", "description": "What it gives is told to the client, too."},
        options={"type": ["string", "null"], "description": "The key under which a request's options for it stand."},
        doc=text,
    )
    edge = _object(**{"from": text}, to=text, type=text)
    return _object(
        name=text | {"description": "Empty if the flow has none."},
        flows={"type": "array", "items": text, "description": "The names of all flows of the server."},
        live={"type": "boolean", "description": "Is it for a conversation, in which one may be interrupted?"},
        stages={"type": "array", "items": stage},
        edges={"type": "array", "items": edge},
        mermaid=text | {"description": "A drawing."},
    )


def _object(**properties: Any) -> dict[str, Any]:
    """The schema of an object that has all of these."""
    return {"type": "object", "required": [*properties], "properties": properties}
