"""`POST /turns`: one item through the flow, its events as NDJSON or SSE while later stages still work."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import attrs
import trio
from quart import Blueprint, Response, request

from ..errors import InputError
from ..events import Event, Fault
from ..request import entry_index
from ..service import Service
from .bounds import USER, about
from .config import Settings
from .edges import Edges
from .encode import encode_line, encode_sse
from .replies import answer, read_json

__all__ = ["InterruptRequest", "TurnRequest", "turns"]

log = logging.getLogger("ezflow.server")

TOGETHER_BYTES = 32 * 1024


@attrs.frozen
class TurnRequest:
    """The body of `POST /turns`."""

    user: str = attrs.field(validator=USER, metadata=about("Whose turn. It ends the one of this user that runs."))
    input: Any
    entry: int | str = attrs.field(default=0, metadata=about("The stage at which the input enters: its index or name."))
    options: dict[str, Any] = attrs.field(
        factory=dict, metadata=about("What stages shall do otherwise in this turn, by the stage's key.")
    )
    timeline: bool = attrs.field(default=False, metadata=about("Tell what each stage is doing, too (`stage` events)."))


@attrs.frozen
class InterruptRequest:
    """The body of `POST /interrupt`."""

    user: str = attrs.field(validator=USER, metadata=about("Whose turn is to end."))


def turns(service: Service, settings: Settings, edges: Edges) -> Blueprint:
    """The routes that run and end turns."""
    routes = Blueprint("turns", __name__)

    @routes.post("/turns")
    async def post_turn() -> Response:
        body: TurnRequest = await read_json(TurnRequest, settings.max_body)
        edges.admit_named(body.user)
        as_sse = "text/event-stream" in request.headers.get("Accept", "")
        lines = _lines(service, body, read_input(service, body), encode_sse if as_sse else encode_line)
        await anext(lines)
        response = Response(lines, content_type="text/event-stream" if as_sse else "application/x-ndjson")
        response.timeout = None  # Quart would end a long reply silently after 60 s
        return response

    @routes.post("/interrupt")
    async def post_interrupt() -> Response:
        body: InterruptRequest = await read_json(InterruptRequest, settings.max_body)
        edges.admit_named(body.user)
        place = service.sessions.get(body.user)
        return answer({"turn": await place.interrupt() if place is not None else None})

    return routes


def read_input(service: Service, body: TurnRequest) -> Any:
    """The item that a request brings for its entry. Raises: EntryError; InputError."""
    stage = service.stages[entry_index(body.entry, service.stages)]
    try:
        return stage.module.decode(body.input)
    except InputError:
        raise
    except ValueError as error:
        raise InputError("input", str(error)) from error


async def _lines(
    service: Service, body: TurnRequest, item: Any, encode: Callable[[Event], bytes]
) -> AsyncIterator[bytes]:
    """A line for each event, after an empty first one. Whatever fails then, the last line is `turn.ended`.

    Lines that are ready at the same time go out together: the cost of a send is more than that of a line.
    """
    told: Event | None = None
    lines = bytearray()
    try:
        async with (
            service.session(body.user) as session,
            session.turn(item, entry=body.entry, options=body.options, timeline=body.timeline) as events,
        ):
            told = Event(type="", turn=events.id, seq=-1, t=0.0)
            # The handler takes this one: a generator that has begun runs its `finally` when the client goes away,
            # even if that is before the first line.
            yield b""
            async for event in events:
                lines += encode(event)
                told = event
                await trio.lowlevel.checkpoint()  # whoever has something to say now says it
                with suppress(trio.WouldBlock):
                    while len(lines) < TOGETHER_BYTES:
                        more = events.take_nowait()
                        lines += encode(more)
                        told = more
                yield bytes(lines)
                lines.clear()
    except Exception as error:
        if told is None:
            raise  # nothing has been sent: it is the handler's to answer
        log.error("user %r, turn %d: its reply failed", body.user, told.turn, exc_info=error)
        yield bytes(lines)
        if told.type != "turn.ended":
            yield encode(Event(type="error", turn=told.turn, seq=told.seq + 1, t=told.t, error=Fault.of(error)))
            yield encode(Event(type="turn.ended", turn=told.turn, seq=told.seq + 2, t=told.t, reason="error"))
