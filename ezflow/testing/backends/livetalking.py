"""LiveTalking's `POST /human`, `/interrupt_talk` and `/is_speaking`, of both generations."""

from __future__ import annotations

from typing import Any, Literal

import attrs
import trio

from .standin import Fault, Reply, Request, StandIn

__all__ = ["LiveTalkingStandIn"]


@attrs.frozen
class Manner:
    voice: str | None = None
    emotion: str | None = None


@attrs.frozen
class NewerHuman:
    text: str
    type: Literal["echo", "chat"]
    interrupt: bool
    sessionid: str
    tts: Manner | None = None


@attrs.frozen
class OlderHuman:
    text: str
    type: Literal["echo", "chat"]
    interrupt: bool
    sessionid: int
    voice: str | None = None
    emotion: str | None = None


@attrs.frozen
class NewerSession:
    sessionid: str


@attrs.frozen
class OlderSession:
    sessionid: int


class LiveTalkingStandIn(StandIn):
    """Has the avatars of its `sessions`; each takes `speaks_s` to say a text.

    `said` are the messages it has taken, `hushed` the sessions that were silenced, in their order. An unknown session
    is a failure with status 200 for the newer generation, a 500 for the older. `requests` are the messages alone; the
    others are in `asides`, and are answered after `aside_s`.
    """

    name = "LiveTalking"

    def __init__(
        self,
        *,
        generation: Literal["newer", "older"] = "newer",
        sessions: tuple[int | str, ...] = (0,),
        speaks_s: float = 0.0,
        aside_s: float = 0.0,
        **script: Any,
    ) -> None:
        super().__init__(**script)
        self.generation = generation
        self.sessions = {str(session) if generation == "newer" else int(session) for session in sessions}
        self.speaks_s = speaks_s
        self.aside_s = aside_s
        self.said: list[Any] = []
        self.hushed: list[int | str] = []
        self.asides: list[Request] = []
        self._until: dict[int | str, float] = {}

    def is_speaking(self, session: int | str) -> bool:
        return self._until.get(session, 0.0) > trio.current_time()

    async def answer(self, request: Request, reply: Reply) -> None:
        if (request.method, request.path) == ("POST", "/human"):
            human = self.expect(NewerHuman if self.generation == "newer" else OlderHuman, request.json())
            await self._human(human, reply)
            return
        self.asides.append(self.requests.pop())
        await trio.sleep(self.aside_s)
        match request.method, request.path:
            case "GET", "/":
                await reply.whole(b"403: Forbidden", "text/plain", 403)
            case "POST", "/interrupt_talk":
                if (session := await self._session(request, reply)) is not None:
                    self._hush(session)
                    self.hushed.append(session)
                    self._note()
                    await reply.json({"code": 0, "msg": "ok"})
            case "POST", "/is_speaking":
                if (session := await self._session(request, reply)) is not None:
                    await reply.json({"code": 0, "data": self.is_speaking(session)})
            case _:
                self.problem(f"{request.method} {request.path} is no route of its")
                await reply.whole(b"404: Not Found", "text/plain", 404)

    async def _human(self, human: Any, reply: Reply) -> None:
        if not human.text.strip():
            self.problem("there is nothing to say in its text")
        if self.fault is Fault.ERROR_BODY:
            await reply.json({"code": -1, "msg": "the voice has no reference sound"})
        elif await self._known(human.sessionid, reply):
            if human.interrupt:
                self._hush(human.sessionid)
            self.said.append(human)
            begins = max(trio.current_time(), self._until.get(human.sessionid, 0.0))
            self._until[human.sessionid] = begins + self.speaks_s
            await reply.begin()
            await reply.send(b'{"code": 0, ')
            await reply.send(b'"msg": "ok"}' if self.generation == "newer" else b'"data": "ok"}', end_mark=True)
            await reply.end()

    def _hush(self, session: int | str) -> None:
        self._until.pop(session, None)

    async def _session(self, request: Request, reply: Reply) -> int | str | None:
        cls: Any = NewerSession if self.generation == "newer" else OlderSession
        session: int | str = self.expect(cls, request.json()).sessionid
        return session if await self._known(session, reply) else None

    async def _known(self, session: int | str, reply: Reply) -> bool:
        if session in self.sessions:
            return True
        if self.generation == "newer":
            await reply.json({"code": -1, "msg": "session not found"})
        else:
            await reply.whole(b"500 Internal Server Error", "text/plain", 500)
        return False
