"""`POST /turns`: one item through the flow, its events as NDJSON or SSE while later stages still work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
from quart import Blueprint, Response, request

from ..errors import InputError
from ..events import Event
from ..flow import cut
from ..request import entry_index, read_options
from ..service import Service
from ..stage import heads
from .config import Settings
from .encode import encode_line, encode_sse
from .replies import REFUSED, answer, read_json, refusal

__all__ = ["InterruptRequest", "TurnRequest", "turns"]


def _short(_: object, field: attrs.Attribute[str], value: str) -> None:
    if not 1 <= len(value) <= 256:
        raise InputError(field.name, f"{len(value)} characters were given, but 1 to 256 are needed")


@attrs.frozen
class TurnRequest:
    """The body of `POST /turns`."""

    user: str = attrs.field(validator=_short)
    input: Any
    entry: int | str = 0
    options: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class InterruptRequest:
    """The body of `POST /interrupt`."""

    user: str = attrs.field(validator=_short)


def turns(service: Service, settings: Settings) -> Blueprint:
    """The routes that run and end turns."""
    routes = Blueprint("turns", __name__)

    @routes.post("/turns")
    async def post_turn() -> Response:
        try:
            body: TurnRequest = await read_json(TurnRequest, settings.max_body)
            as_sse = "text/event-stream" in request.headers.get("Accept", "")
            encode = encode_sse if as_sse else encode_line
            lines = _lines(service, body, read_input(service, body), encode)
            await anext(lines)
        except REFUSED as error:
            return refusal(error)
        content_type = "text/event-stream" if as_sse else "application/x-ndjson"
        response = Response(lines, content_type=content_type, headers={"Cache-Control": "no-store"})
        response.timeout = None  # Quart would end a long reply silently after 60 s
        return response

    @routes.post("/interrupt")
    async def post_interrupt() -> Response:
        try:
            body: InterruptRequest = await read_json(InterruptRequest, settings.max_body)
            session = service.sessions.get(body.user)
            return answer({"turn": await session.interrupt() if session is not None else None})
        except REFUSED as error:
            return refusal(error)

    return routes


def read_input(service: Service, body: TurnRequest) -> Any:
    """The item that a request brings for its entry. Raises: EntryError; InputError."""
    index = entry_index(body.entry, service.stages)
    read_options(body.options, service.stages)
    flow = cut(service.flow, index, len(service.stages))
    assert flow is not None
    stage = heads(flow)[0]
    try:
        return stage.module.decode(body.input)
    except InputError:
        raise
    except ValueError as error:
        raise InputError("input", str(error)) from error


async def _lines(
    service: Service, body: TurnRequest, item: Any, encode: Callable[[Event], bytes]
) -> AsyncIterator[bytes]:
    async with (
        service.session(body.user) as session,
        session.turn(item, entry=body.entry, options=body.options) as events,
    ):
        # The handler takes this one: a generator that has begun runs its `finally` when the client goes away,
        # even if that is before the first line.
        yield b""
        async for event in events:
            yield encode(event)
