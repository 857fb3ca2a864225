"""EZPipe's HTTP API, for clients that exist: `POST /input` and the routes around it.

A reply is a stream of bare JSON objects, a line and an HTTP chunk each, that ends when the turn does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, cast

import attrs
from quart import Blueprint, Response, request

from ..errors import InputError
from ..events import Fault
from ..flow import cut
from ..items import Audio
from ..modules import Module
from ..request import entry_index
from ..service import Service
from ..session import Session
from ..stage import Stage, heads, stages_of
from .config import Settings
from .describe import events_schema, request_schema
from .edges import Edges
from .ezpipe_replies import RATE_HZ, Replies, at_24_khz, audio_line, error_line, gives_audio, text_line, text_stages
from .ezpipe_request import NO_USER, EZPipeRequest, body_schema, read_options, read_request, read_sound, takes_sound
from .ezpipe_speech import Speech
from .health import Probes
from .refusals import BadRequest, Forbidden, headers_of, status_of
from .replies import answer, read_body, read_json

__all__ = ["EZPipeRequest", "ezpipe", "module_routes", "refused"]

log = logging.getLogger("ezflow.server")

END = "ENDASR"


def ezpipe(service: Service, settings: Settings, edges: Edges, probes: Probes) -> Blueprint:
    """The routes of EZPipe's API."""
    routes = Blueprint("ezpipe", __name__)
    desk = _Desk(service, settings)

    @routes.post("/input")
    async def post_input() -> Response:
        payload = await read_json(cast("type", Any), settings.max_body)
        body, given = read_request(payload, settings.request)
        edges.admit_named(body.user)
        return await _streamed(desk.input(body, given))

    @routes.post("/awake")
    async def post_awake() -> Response:
        return await _streamed(desk.greet(_user(edges), request.args.get("voice")))

    @routes.get("/heartbeat")
    async def get_heartbeat() -> Response:
        if (user := _user(edges)) in service.sessions:
            async with service.session(user):
                pass  # who held it just now, keeps it
        await probes.ask([service])  # what does not answer is in the log, and in /health/ready
        return answer(None)

    @routes.get("/interrupt_talk")
    async def get_interrupt_talk() -> Response:
        user = _user(edges)
        await desk.interrupt(user)
        return answer({"status": "success", "message": f"已中断用户 {user} 的所有请求"})

    @routes.get("/schema")
    async def get_schema() -> Response:
        of = request.args.get("of", "input")
        if of == "turns":
            return answer(request_schema(service))
        if of == "events":
            return answer(events_schema(service))
        if of != "input":
            known = "input (what POST /input takes, as without it), turns or events"
            raise InputError("of", f"{of!r} was given, but {known} is needed")
        return answer(body_schema(settings.request, service.stages))

    return routes


def module_routes(service: Service, settings: Settings, edges: Edges) -> list[Blueprint]:
    """The routes that modules bring: a module may define `routes(self) -> quart.Blueprint`.

    It is asked once it is open; a module that stands at several stages is asked once. The `user` of a query and of
    a JSON body is held against the asker's token, and counts as a request of that user.
    """

    async def admit() -> None:
        edges.admit_all([*request.args.getlist("user"), *_users_of(await read_body(settings.max_body), edges)])

    modules = {id(stage.module): stage for stage in service.stages}
    found = []
    for stage in modules.values():
        routes = getattr(stage.module, "routes", None)
        if callable(routes):
            blueprint = cast("Blueprint", routes())
            blueprint.name = f"{stage.name}_{blueprint.name}"
            blueprint.before_request(admit)
            found.append(blueprint)
    return found


def _users_of(data: bytes, edges: Edges) -> list[Any]:
    """Whom the body of a request to a module's route names. Raises: BadRequest; Forbidden."""
    if not data:
        return []
    request.body.append(data)  # for the route itself
    try:
        body = json.loads(data)  # as Quart reads it, so that both see the same user
    except (ValueError, RecursionError) as error:
        if edges.is_restricted:
            raise Forbidden("this token stands for named users: send JSON, in which `user` can be found.") from error
        return []
    return [body["user"]] if isinstance(body, dict) and "user" in body else []


def refused(error: Exception) -> Response:
    """The response to one of REFUSED, as EZPipe's clients know it."""
    status, detail = status_of(error), str(error)
    if status == 400 and detail != NO_USER:
        status = 422
    if isinstance(error, InputError) and error.path == "input":
        detail = f"Input: {error.problem}"
    return answer({"detail": detail}, status, **headers_of(error))


def _user(edges: Edges) -> str:
    user = request.args.get("user", "")
    if not user:
        raise BadRequest(NO_USER)
    edges.admit(EZPipeRequest(user=user, Input="").user)
    return user


async def _streamed(lines: AsyncGenerator[bytes, None]) -> Response:
    """A response of a generator that has begun: such a one is closed when the client goes away."""
    lines = _to_the_end(lines)
    await anext(lines)
    headers = {"X-Accel-Buffering": "no"}
    response = Response(lines, content_type="text/event-stream; charset=utf-8", headers=headers)
    response.timeout = None  # Quart would end a long reply silently after 60 s
    return response


async def _to_the_end(lines: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same lines; whatever fails after the first, the last one says so."""
    async with aclosing(lines):
        yield await anext(lines)
        try:
            async for line in lines:
                yield line
        except Exception as error:
            log.error("a reply failed", exc_info=error)
            yield error_line(None, Fault.of(error))


@attrs.frozen
class _Way:
    """From an entry to the end of the flow: its stages, and whose text the client gets."""

    stages: tuple[Stage, ...]
    head: Stage
    told: frozenset[str]
    quiet: frozenset[str]


class _Desk:
    """Runs what EZPipe's clients ask for; gives lines, after an empty first one once all is well."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self._service = service
        self._settings = settings
        self._shown = frozenset(stage.name for stage in service.report.stages if stage.is_shown)
        self._ways: dict[int, _Way] = {}
        self._open: dict[str, Speech] = {}

    def input(self, body: EZPipeRequest, given: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
        """Raises: EntryError; InputError."""
        way = self._way(body.Entry)
        options = read_options(given, self._service.stages)
        replies = Replies(way.quiet, *(_text(given.get(key)) for key in ("conversation_id", "message_id")))
        if takes_sound(way.head) and type(way.head.module).decode is Module.decode and isinstance(body.Input, str):
            if body.Input == END:
                return self._rest(body.user, way)
            sound, is_whole = read_sound(body.Input)
            if not is_whole:
                return self._piece(body.user, sound, way, options, replies)
            item = way.head.module.decode(sound)
        else:
            item = _decoded(way.head, body.Input)
        return self._turn(body.user, item, way, options, replies)

    async def interrupt(self, user: str) -> None:
        """End all that a user has under way; returns when its stages have left. Raises: StageStuck."""
        self._open.pop(user, None)
        if (session := self._service.sessions.get(user)) is not None:
            await session.interrupt()

    async def greet(self, user: str, voice: str | None) -> AsyncGenerator[bytes, None]:
        """The greeting as text, then spoken: one WAV, from the first stage that turns text into sound."""
        greeting = self._settings.greeting
        speaker = next((stage for stage in self._service.stages if gives_audio(stage)), None)
        async with self._service.session(user) as session:
            if speaker is None:
                yield b""
                yield text_line("", greeting, is_end=True)
                return
            section = {} if voice is None else {speaker.module.options_key or speaker.name: {"voice": voice}}
            options = read_options(section, [speaker])
            spoken = bytearray()
            async with session.turn(greeting, entry=speaker.name, options=options) as events:
                yield b""
                yield text_line("", greeting, is_end=True)
                async for event in events:
                    if event.type == "audio":
                        spoken += (await at_24_khz(event.item)).pcm
                    elif event.error is not None:
                        yield error_line(event.stage, event.error)
            if spoken:
                yield audio_line(Audio(bytes(spoken), RATE_HZ))

    async def _turn(
        self, user: str, item: Any, way: _Way, options: Mapping[str, Any], replies: Replies
    ) -> AsyncGenerator[bytes, None]:
        async with self._service.session(user) as session:
            turn = session.turn(item, entry=way.head.name, options=options, show=way.told)
            async with turn as events:
                self._open.pop(user, None)
                yield b""
                async for event in events:
                    for line in await replies.lines([event]):
                        yield line

    async def _piece(
        self, user: str, piece: Audio, way: _Way, options: Mapping[str, Any], replies: Replies
    ) -> AsyncGenerator[bytes, None]:
        async with self._service.session(user) as session:
            speech = self._open.get(user)
            if speech is None or not speech.takes(session, way.head.index):
                speech = self._begin(session, way, options, replies)
            if speech.held_bytes + len(piece.pcm) > self._settings.max_body:
                raise BadRequest(f"an utterance has at most {self._settings.max_body} bytes: send {END}.", 413)
            lines = await speech.append(piece)
            if speech.over and self._open.get(user) is speech:
                del self._open[user]
        yield b""
        for line in lines:
            yield line

    def _begin(self, session: Session, way: _Way, options: Mapping[str, Any], replies: Replies) -> Speech:
        for user in [user for user, speech in self._open.items() if speech.over]:
            del self._open[user]
        turn = session.live(entry=way.head.name, options=options, show=way.told)
        speech = self._open[session.user] = Speech(session, turn, replies, way.stages)
        return speech

    async def _rest(self, user: str, way: _Way) -> AsyncGenerator[bytes, None]:
        async with self._service.session(user) as session:
            speech = self._open.get(user)
            if speech is None or not speech.takes(session, way.head.index):
                raise InputError("Input", f"{END} ends an utterance, but none is open here: send its sound first")
            del self._open[user]
            async with aclosing(speech.rest()) as lines:
                async for line in lines:
                    yield line

    def _way(self, entry: int) -> _Way:
        index = entry_index(entry, self._service.stages)
        if index not in self._ways:
            flow = cut(self._service.flow, index, len(self._service.stages))
            assert flow is not None
            self._ways[index] = _Way(stages_of(flow), heads(flow)[0], *text_stages(flow, self._shown))
        return self._ways[index]


def _decoded(stage: Stage, payload: Any) -> Any:
    try:
        return stage.module.decode(payload)
    except InputError:
        raise
    except ValueError as error:
        raise InputError("Input", str(error)) from error


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
