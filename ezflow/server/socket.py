"""`WS /ws?user=ann`: live turns over a socket, sound as binary frames in both directions.

One task serves an idle socket: it reads every frame. The first `start` begins a second, which performs the live turns,
each after the one before; with each turn comes one that hands it what the client feeds. Each of them says itself what
it has to say, one at a time, and a send is never cut short by the end of a turn. Between the reader and a busy turn
stand INPUT_FRAMES frames or INPUT_BYTES: until they are full, `interrupt`, `start` and `ping` are seen at once. Then
the reader stops reading, and TCP tells the client. A client that does not read what it is sent holds up its own turn,
and nobody else's. One task more, for all sockets, knows when each of them has to be left.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

import trio
from quart import Blueprint, websocket

from ..convert import decode
from ..errors import EntryError, InputError, ItemTypeError, SessionBusy, SessionsFull, StageStuck, TurnClosedError, flat
from ..flow import cut
from ..items import Audio
from ..open_turn import OpenTurn
from ..request import entry_index
from ..service import Service
from ..session import Session
from ..stage import Stage, heads
from .bounds import USER
from .edges import Edges
from .encode import encoder
from .frames import PONG, End, Format, Input, Inputs, Interrupt, Played, Start, complaint, event_frames, read_frame
from .refusals import REFUSED, BadRequest, Refused, TooManyRequests, status_of

__all__ = ["Departures", "socket"]

log = logging.getLogger("ezflow.server")

SUBPROTOCOL = "ezflow.v1"
# `start` frames that wait for the turn before them to end.
STARTS = 4
# How often in `quiet_s` it is looked for sockets that have been quiet for so long.
LOOKS = 8
STOPPING = "the server is shutting down"
# How long the end of a turn, and what there is to say of it, may keep a socket open that is to be closed.
LAST_WORDS_S = 1.0


def socket(service: Service, description: Mapping[str, Any], edges: Edges, departures: Departures) -> Blueprint:
    """The WebSocket route of a flow."""
    routes = Blueprint("socket", __name__)

    @routes.websocket("/ws")
    async def converse() -> None:
        offered = websocket.requested_subprotocols
        await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        user = websocket.args.get("user", "")
        try:
            _check(user, edges)
        except Refused as error:
            edges.refused[error.status] += 1
            await websocket.close(1013 if isinstance(error, TooManyRequests) else 1008, _reason(error))
        else:
            await _serve(service, description, user, edges, departures)

    return routes


def _check(user: str, edges: Edges) -> None:
    if not edges.knows:
        raise edges.unauthorized(f"offer the subprotocols {SUBPROTOCOL}, token.TOKEN")
    if not USER.least <= len(user) <= USER.most:
        raise BadRequest(f"/ws?user=NAME is needed, of {USER.least} to {USER.most} characters")
    edges.admit(user)


def _reason(error: BaseException) -> str:
    """Why a socket is closed, in the 123 bytes that a closing frame has for it."""
    return str(error).encode()[:123].decode(errors="ignore")


async def _serve(
    service: Service, description: Mapping[str, Any], user: str, edges: Edges, departures: Departures
) -> None:
    try:
        async with service.session(user) as session, trio.open_nursery() as nursery:
            conversation = Conversation(service, description, session, edges, nursery)
            departures.add(conversation)
            try:
                await conversation.read()
            finally:
                departures.discard(conversation)
    except* (SessionsFull, SessionBusy) as full:
        why = flat(full)[0]
        edges.refused[status_of(why)] += 1
        await websocket.close(1013, _reason(why))
    except* Exception as faults:
        log.error("user %r: the socket failed", user, exc_info=faults)
        await websocket.close(1011, "the server failed: its log says how")


class Departures:
    """Leaves sockets: all as the server stops, and each in which for `quiet_s` nothing was heard and no turn ran."""

    def __init__(self, quiet_s: float, stopping: trio.Event, nursery: trio.Nursery) -> None:
        self._quiet_s = quiet_s
        self._stopping = stopping
        self._nursery = nursery
        self._open = set[Conversation]()
        self._looking = False

    def add(self, conversation: Conversation) -> None:
        """Leave this one too when it is time."""
        self._open.add(conversation)
        if self._stopping.is_set():
            conversation.leave(1001, STOPPING)
        elif not self._looking:
            self._looking = True
            self._nursery.start_soon(self._look)

    def discard(self, conversation: Conversation) -> None:
        self._open.discard(conversation)

    async def _look(self) -> None:
        while not self._stopping.is_set():
            with trio.move_on_after(self._quiet_s / LOOKS):
                await self._stopping.wait()
            due = trio.current_time() - self._quiet_s
            for conversation in [one for one in self._open if one.quiet_since <= due]:
                conversation.leave(1000, f"nothing was sent for {self._quiet_s:g} s")
        for conversation in self._open:
            conversation.leave(1001, STOPPING)


class Live:
    """A live turn as the socket holds it."""

    def __init__(self, turn: OpenTurn, stage: Stage, form: Format) -> None:
        self.turn = turn
        self.stage = stage
        self.format = form
        self.inputs = Inputs()
        self.over = False
        self.interrupted = trio.Event()
        # What is fed after an interrupt is for after it.
        self.resumed = trio.Event()
        self.resumed.set()
        self.unwanted = trio.Event()
        self.finished = trio.Event()

    def interrupt(self) -> None:
        """Have the running reply stopped."""
        if self.resumed.is_set():
            self.resumed = trio.Event()
        self.interrupted.set()

    def close(self) -> None:
        """Nothing that comes is for this turn any more."""
        self.over = True
        self.inputs.abandon()


class Conversation:
    """One socket: what its client sends and is told, in one session."""

    __slots__ = (
        "_description",
        "_edges",
        "_heard_at",
        "_leaving",
        "_live",
        "_nursery",
        "_sending",
        "_sends",
        "_service",
        "_session",
        "_silent",
        "_start",
        "_websocket",
    )

    def __init__(
        self, service: Service, description: Mapping[str, Any], session: Session, edges: Edges, nursery: trio.Nursery
    ) -> None:
        self._service = service
        self._description = description
        self._session = session
        self._edges = edges
        self._nursery = nursery
        self._websocket = websocket._get_current_object()  # type: ignore[attr-defined]  # it leaves from another task
        self._live: Live | None = None
        self._start: trio.MemorySendChannel[Live] | None = None
        self._sending = trio.Lock()
        self._sends: trio.CancelScope | None = None
        self._silent = False
        self._leaving = False
        self._heard_at = trio.current_time()

    @property
    def quiet_since(self) -> float:
        """When the client was last heard, or had a turn; never, while it has one."""
        return inf if self._live is not None and not self._live.finished.is_set() else self._heard_at

    def leave(self, code: int, reason: str) -> None:
        """Close the socket, after what there is still to say."""
        if not self._leaving:
            self._leaving = True
            self._nursery.start_soon(self._leave, code, reason)

    async def _leave(self, code: int, reason: str) -> None:
        await self._finish()
        await self._websocket.close(code, reason)
        self._nursery.cancel_scope.cancel()

    async def _say(self, *frames: str | bytes) -> None:
        """Send frames, one after the other: neither the end of a turn nor another's frame comes between."""
        if self._sending.locked():
            await self._sending.acquire()
        else:
            self._sending.acquire_nowait()  # to wait for what is free costs a trip through the scheduler
        try:
            if not self._silent:
                with trio.CancelScope(shield=True) as self._sends:
                    for frame in frames:
                        await self._websocket.send(frame)
        finally:
            self._sends = None
            self._sending.release()

    async def _finish(self) -> None:
        """Let a turn whose input has ended run out, end any other; then send nothing more."""
        live = self._live
        if live is not None and live.inputs.ended:
            await live.finished.wait()
        with trio.move_on_after(LAST_WORDS_S):
            if live is not None:
                live.unwanted.set()
                await live.finished.wait()
            async with self._sending:
                pass
        self._silent = True
        if self._sends is not None:
            self._sends.cancel()

    async def read(self) -> None:
        """Say that all is ready. Then take each frame of the client; answer one that does not fit by an error event."""
        ready = {"type": "ready", "session": self._session.user, "flow": self._description}
        await self._say(encoder.encode(ready).decode())
        while True:
            message: str | bytes | None = await self._websocket.receive()
            self._heard_at = trio.current_time()
            try:
                if isinstance(message, str):
                    await self._take(message)
                else:
                    await self._take_sound(message or b"")  # Quart gives None for an empty binary frame
            except REFUSED as error:
                await self._say(complaint(error))

    async def _take(self, message: str) -> None:
        match read_frame(message):
            case Start() as start:
                await self._begin(start)
            case Input(data, entry):
                live = self._feedable()
                stage = live.stage
                if entry is not None:
                    stage = self._service.stages[entry_index(entry, self._service.stages)]
                await live.inputs.put(_decoded(lambda: stage.module.decode(data)), entry, len(message))
            case End():
                self._feedable().inputs.end()
            case Interrupt():
                if self._live is None or self._live.over:
                    await self._say('{"type":"interrupted","turn":null}')  # as `POST /interrupt` says it
                else:
                    self._live.interrupt()
            case Played(turn, seq, ms):
                # A report on an earlier turn comes too late: what was said in it is history.
                if self._live is not None and self._live.turn.id == turn:
                    self._live.turn.played(seq, ms)
            case _:
                await self._say(PONG)

    async def _take_sound(self, pcm: bytes) -> None:
        live = self._feedable()
        if not pcm:
            raise InputError("data", "an empty binary frame holds no sound")
        form, in_type = live.format, live.stage.in_type
        item = _decoded(lambda: decode(Audio(pcm, form.rate_hz, form.channels), in_type))
        await live.inputs.put(item, None, len(pcm))

    def _feedable(self) -> Live:
        live = self._live
        if live is None or live.over:
            raise TurnClosedError("there is no live turn: send a start frame first.")
        if live.inputs.ended:
            raise TurnClosedError("the input of this turn has ended: send a start frame for another.")
        return live

    async def _begin(self, start: Start) -> None:
        """Make the live turn, and have the one before it ended. What does not fit leaves that one as it is."""
        if self._leaving:
            raise TurnClosedError("the server is shutting down: no turn begins any more.")
        self._edges.admit(self._session.user)
        turn = self._session.live(entry=start.entry, options=start.options, timeline=start.timeline)
        stages = self._service.stages
        flow = cut(self._service.flow, entry_index(start.entry, stages), len(stages))
        assert flow is not None
        live, before = Live(turn, heads(flow)[0], start.format), self._live
        if before is not None:
            before.close()
            before.unwanted.set()
        self._live = live
        if self._start is None:
            self._start, started = trio.open_memory_channel[Live](STARTS)
            self._nursery.start_soon(self._perform_all, started)
        await self._start.send(live)

    async def _perform_all(self, started: trio.MemoryReceiveChannel[Live]) -> None:
        """Perform each live turn, after the end of the one before has been told."""
        async for live in started:
            try:
                await self._perform(live)
            except* (StageStuck, TurnClosedError) as errors:
                for error in flat(errors):
                    await self._say(complaint(error))  # type: ignore[arg-type]  # of these two
                if errors.subgroup(StageStuck) is not None:  # who comes again has a new session
                    self.leave(1011, "a stage of your turn does not leave: connect again")
            finally:
                live.close()
                live.finished.set()
                self._heard_at = trio.current_time()

    async def _perform(self, live: Live) -> None:
        async with live.turn, trio.open_nursery() as nursery:
            nursery.start_soon(self._feed, live)
            nursery.start_soon(self._interrupt, live)
            nursery.start_soon(_end_when_unwanted, live)
            async for event in live.turn:
                if event.type == "turn.ended":
                    live.close()
                await self._say(*event_frames(event))
            nursery.cancel_scope.cancel()

    async def _interrupt(self, live: Live) -> None:
        while True:
            await live.interrupted.wait()
            live.interrupted = trio.Event()
            if not await live.turn.interrupt():  # nothing was at work: no event of the turn will say so
                await self._say(f'{{"type":"interrupted","turn":{live.turn.id}}}')
            if not live.interrupted.is_set():
                live.resumed.set()

    async def _feed(self, live: Live) -> None:
        try:
            async for item, entry in live.inputs:
                await live.resumed.wait()
                try:
                    await live.turn.send(item, entry)
                except (EntryError, ItemTypeError) as error:
                    await self._say(complaint(error))
            if not live.over:  # else it is being ended, and has not run out
                await live.turn.end()
        except TurnClosedError:
            return  # `turn.ended` says so


async def _end_when_unwanted(live: Live) -> None:
    await live.unwanted.wait()
    await live.turn.aclose()


def _decoded(decode: Callable[[], Any]) -> Any:
    try:
        return decode()
    except InputError as error:
        # The converter calls it `input`, as in the body of a request; in a frame it stands under `data`.
        path = re.sub(r"^input\b", "data", error.path)
        raise InputError(path, error.problem) from error
    except ValueError as error:
        raise InputError("data", str(error)) from error
