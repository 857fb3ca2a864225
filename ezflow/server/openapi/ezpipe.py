"""The operations of EZPipe's API."""

from __future__ import annotations

from typing import Any

import attrs

from ...service import Service
from ..ezpipe_request import body_schema
from .parts import JSON, Parts, operation, parameter, reply, user

__all__ = ["EZPIPE", "ezpipe_operations"]

EZPIPE = "text/event-stream"


def ezpipe_operations(service: Service, parts: Parts, given: list[tuple[Any, Any]]) -> dict[str, dict[str, Any]]:
    """The operations by path, without a prefix. `given`: a stage and what it may be given, for examples."""
    # Its sections take keys that they do not know, so that they are not those of `POST /turns`.
    prefix = f"{service.name}.EZPipe." if service.name else "EZPipe."
    body = parts.add(parts.settings.request.__name__, body_schema(parts.settings.request, service.stages), prefix)
    lines = _lines(parts)
    streamed = {
        "description": (
            "Bare JSON objects, a line each, that end with the turn: the schema is that of a line, and it is no "
            "Server-Sent Event. What fails in the turn is a line of type `error`."
        ),
        "content": {EZPIPE: {"schema": lines, "x-itemSchema": lines}},
    }
    examples = {
        stage.name: {
            "summary": f"into {stage.name}",
            "value": {"user": "ann", "Input": item} | ({"Entry": stage.index} if stage.index else {}),
        }
        for stage, item in given
    }
    security = parts.security(ezpipe=True)
    named = parts.refusals(400, 401, 403, 422, 429, 503, ezpipe=True)
    return {
        "/input": {
            "post": operation(
                "post_input",
                "EZPipe",
                "One item through the flow, as EZPipe's clients send it",
                "Other keys than these may stand beside them: each counts for the stages that have an option of that "
                "name. Sound may come in pieces, each a request, `ENDASR` at the end.",
                body={"schema": body} | ({"examples": examples} if examples and _is_plain(parts) else {}),
                responses={"200": streamed} | parts.refusals(400, 401, 403, 413, 422, 429, 503, ezpipe=True),
                **security,
            )
        },
        "/awake": {
            "post": operation(
                "post_awake",
                "EZPipe",
                "Say the greeting",
                parameters=[
                    user("Who is greeted."),
                    parameter("voice", "The voice, for a stage that has such an option.", {"type": "string"}),
                ],
                responses={"200": streamed} | named,
                **security,
            )
        },
        "/heartbeat": {
            "get": operation(
                "get_heartbeat",
                "EZPipe",
                "Keep a user's session",
                parameters=[user("Whose session.")],
                responses={"200": reply("It is kept, if there is one.", {"type": "null"})} | named,
                **security,
            )
        },
        "/interrupt_talk": {
            "get": operation(
                "get_interrupt_talk",
                "EZPipe",
                "End a user's turn",
                parameters=[user("Whose turn.")],
                responses={
                    "200": reply(
                        "It has ended, if there was one.",
                        {
                            "type": "object",
                            "required": ["status", "message"],
                            "properties": {"status": {"const": "success"}, "message": {"type": "string"}},
                        },
                    ),
                    **named,
                },
                **security,
            )
        },
    }


def _is_plain(parts: Parts) -> bool:
    """Does a body need nothing beyond EZPipe's own fields?"""
    needed = [field.name for field in attrs.fields(parts.settings.request) if field.default is attrs.NOTHING]
    return needed == ["user", "Input"]


def _lines(parts: Parts) -> dict[str, str]:
    text = {"type": "string"}
    chunk = {
        "type": "object",
        "required": ["think", "response", "conversation_id", "message_id", "Is_End"],
        "properties": {
            "think": text,
            "response": text | {"description": "All that has been said until now."},
            "conversation_id": text,
            "message_id": text,
            "Is_End": {"type": "boolean"},
        },
    }
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "text": ("The answer so far, as JSON.", {"contentMediaType": JSON, "contentSchema": chunk}),
        "audio/wav": ("A complete WAV.", {"contentEncoding": "base64", "contentMediaType": "audio/wav"}),
        "error": ("What failed, and at which stage.", {}),
    }
    shapes = [
        {
            "title": kind,
            "description": about,
            "type": "object",
            "required": ["type", "chunk"],
            "properties": {"type": {"const": kind}, "chunk": text | chunk},
        }
        for kind, (about, chunk) in kinds.items()
    ]
    return parts.add("EZPipe.Line", {"title": "Line", "oneOf": shapes})
