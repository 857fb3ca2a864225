"""`LiveTalking`: a talking head that a LiveTalking server renders and speaks for."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import attrs
import trio
from attrs.validators import ge, gt, optional

from ezflow import Inbox, InputError, Module, Outbox, Turn, module, resource

from ..http.client import HTTPClient
from ..http.errors import BackendError, BackendRefused, excerpt

__all__ = ["LiveTalking", "LiveTalkingOptions"]

log = logging.getLogger("ezflow")

HUSH_S = 1.0  # for telling an avatar to be silent; a new turn waits so long at most
POLL_S = 0.2


@attrs.frozen
class LiveTalkingOptions:
    """What a request may set for its turn: whose avatar speaks, and how. None leaves what the module says."""

    sessionid: int | str | None = None
    voice: str | None = None
    emotion: str | None = None


@module(options=LiveTalkingOptions, key="TTS")
class LiveTalking(Module[str, str]):
    """Has an avatar say each text, and gives the text on once the server has taken it.

    The avatar speaks and moves in its viewers' video, not here: what comes out is text, so that a client sees what is
    said. Put `Sentences()` before it, since each text is spoken for itself: `Dify().shown() >> Sentences() >>
    LiveTalking()`. The first of a turn ends what the avatar is still saying, the others follow each other.

    With `until_spoken` a turn lasts until the avatar has been silent for `quiet_s` (its voice may take as long to
    begin): so who interrupts it, by voice or by a request, finds it at work. Whenever a turn ends early the avatar is
    silenced, and that has been done, or tried for a second, before the next turn begins. A text without a letter or a
    digit is given on unsaid.

    `sessionid` is what the avatar's page got from the server's /offer; 0 is the one of a server that streams by
    itself. `generation` is "older" for servers whose /offer gives a number: the session is sent as one, voice and
    emotion beside the text. `mode` "chat": the server's own language model answers the text, and the avatar says that.

    Takes: str, a sentence. Gives: str, the same. Raises: BackendError; InputError for a session that cannot be.
    Source: LiveTalking's POST /human, /interrupt_talk, /is_speaking.
    """

    url: str = attrs.field(default="http://127.0.0.1:8010", kw_only=True)
    generation: Literal["newer", "older"] = attrs.field(default="newer", kw_only=True)
    sessionid: int | str = 0
    voice: str | None = None
    emotion: str | None = None
    mode: Literal["echo", "chat"] = "echo"
    until_spoken: bool = True
    quiet_s: float = attrs.field(default=2.0, validator=ge(0))
    connect_s: float = attrs.field(default=5.0, kw_only=True, validator=gt(0))
    read_s: float = attrs.field(default=60.0, kw_only=True, validator=gt(0))
    total_s: float | None = attrs.field(default=None, kw_only=True, validator=optional(gt(0)))
    retries: int = attrs.field(default=1, kw_only=True, validator=ge(0))
    max_connections: int = attrs.field(default=100, kw_only=True, validator=ge(1))
    place_s: float = attrs.field(default=60.0, kw_only=True, validator=gt(0))
    http: HTTPClient = resource()

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        async with HTTPClient(
            self.url,
            server=type(self).__name__,
            connect_s=self.connect_s,
            read_s=self.read_s,
            total_s=self.total_s,
            retries=self.retries,
            max_connections=self.max_connections,
            place_s=self.place_s,
        ) as self.http:
            yield

    async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
        asked = turn.options[LiveTalkingOptions]
        session = self._session(asked)
        manner = self._manner(asked)
        speaking = taken = False
        try:
            async for text in inbox:
                if any(map(str.isalnum, text)):
                    said = {"text": text, "type": self.mode, "interrupt": not speaking, "sessionid": session}
                    speaking, turn.awaits = True, self.http.awaited
                    await self._ask("/human", said | manner, turn.user)
                    turn.awaits = ""
                    taken = True
                await outbox.send(text)
            if speaking and self.until_spoken:
                await self._until_quiet(session, turn.user)
        except BaseException as error:  # whatever ends it early, the avatar falls silent
            if taken or (speaking and isinstance(error, trio.Cancelled)):
                with turn.cleanup():
                    await self._hush(session, turn.user)
            raise

    def status(self) -> Mapping[str, float]:
        return self.http.status()

    async def probe(self) -> None:
        """See whether the server answers at all: it has no route for this. Raises: BackendError."""
        async with self.http.stream("GET", "/", check=False) as reply:
            if reply.status >= 500:
                raise await reply.refusal()
            await reply.read()

    def _session(self, asked: LiveTalkingOptions) -> int | str:
        session = self.sessionid if asked.sessionid is None else asked.sessionid
        if self.generation == "newer":
            return str(session)
        try:
            return int(session)
        except ValueError as error:
            raise InputError("TTS.sessionid", f"{session!r} was given, but this server numbers its sessions") from error

    def _manner(self, asked: LiveTalkingOptions) -> dict[str, Any]:
        chosen = {"voice": asked.voice or self.voice, "emotion": asked.emotion or self.emotion}
        manner = {name: value for name, value in chosen.items() if value}
        return manner if self.generation == "older" or not manner else {"tts": manner}

    async def _until_quiet(self, session: int | str, user: str) -> None:
        heard_at = trio.current_time()
        while (quiet_s := trio.current_time() - heard_at) < self.quiet_s:
            await trio.sleep(min(POLL_S, self.quiet_s - quiet_s))
            try:
                if await self._ask("/is_speaking", {"sessionid": session}, user):
                    heard_at = trio.current_time()
            except BackendRefused:
                return  # its page was closed meanwhile: nobody sees it any more

    async def _hush(self, session: int | str, user: str) -> None:
        with trio.move_on_after(HUSH_S) as patience:
            try:
                await self._ask("/interrupt_talk", {"sessionid": session}, user)
            except BackendError as error:
                log.warning("an avatar talks on: %s", error)
        if patience.cancelled_caught:
            log.warning("an avatar talks on: LiveTalking at %s did not silence it within %g s", self.http.url, HUSH_S)

    async def _ask(self, path: str, body: Mapping[str, Any], user: str) -> Any:
        """What the server says; a failure comes with status 200 too."""
        async with self.http.stream("POST", path, json=body, expect="application/json", user=user) as reply:
            answer = await reply.json()
            if not isinstance(answer, Mapping) or "code" not in answer:
                raise reply.broken("sent what is no answer of LiveTalking's")
        if answer["code"] == 0:
            return answer.get("data")
        told = excerpt(str(answer.get("msg") or answer.get("data") or f"code {answer['code']}").encode())
        advice = "open the avatar's page, and send the session it got as TTS.sessionid" if "session" in told else ""
        raise BackendRefused(
            type(self).__name__, f"{self.http.url}{path}", f"answered: {told}", advice=advice, status=200, body=told
        )
