"""`HTTPStream`: a module whose model runs behind HTTP; write what to ask and what an answer gives, and it is one.

@module
class Shouter(HTTPStream[str, str]):
    url: str = "http://127.0.0.1:9000"

    def ask(self, text: str, turn: Turn) -> Ask:
        return Ask("/shout", {"text": text})

    def item(self, piece: Any, turn: Turn) -> str:
        return piece["text"]
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from enum import Enum
from typing import Any, ClassVar, TypeVar

import attrs
import msgspec
import trio

from ezflow import Module, Turn, module, resource

from . import bodies
from .client import HTTPClient, Reply
from .decoding import events, lines
from .errors import BackendRefused, excerpt, secrets_of

__all__ = ["Ask", "HTTPStream", "Reads", "decoded"]

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)

END_OF_EVENTS = "[DONE]"

above_0: Any = attrs.validators.gt(0)


class Reads(Enum):
    """How an answer is cut into pieces: what `item` is given, and what the server is told to send."""

    NDJSON = "application/x-ndjson"  # each line, decoded from JSON
    SSE = "text/event-stream"  # the data of each event, decoded from JSON; [DONE] ends them
    BYTES = "*/*"  # bytes as they arrive, cut anywhere
    JSON = "application/json"  # the whole answer, decoded from JSON


@attrs.frozen
class Ask:
    """One request: a path behind the module's `url`, and at most one body (JSON, bytes, or a form with files)."""

    path: str = ""
    json: Any = bodies.NOTHING
    content: bytes | None = None
    form: bodies.Form | None = None
    files: Mapping[str, bodies.File] | None = None
    params: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    method: str = "POST"


@module
class HTTPStream(Module[In, Out]):
    """Asks a server about each item, and gives what it answers as it arrives.

    Derive from it and write `ask`, and `item` for one piece of the answer, or `answers` for all of it. Cancelling a
    turn closes its connection at once. A request is made again (`retries`, with growing pauses) where the server is
    not there or busy, and never once an answer has begun. At most `max_connections` are open; users who wait for one
    are served in turn, and wait for at most `place_s`. An `api_key_env` names the environment variable that holds the
    key, sent as a bearer token.

    Takes and gives: what the derived class says. Raises: BackendError, which says which server, where, what it
    answered and what to try.
    """

    url: str = attrs.field(default="", kw_only=True)
    api_key_env: str | None = attrs.field(default=None, kw_only=True)
    connect_s: float = attrs.field(default=5.0, kw_only=True, validator=above_0)
    read_s: float = attrs.field(default=60.0, kw_only=True, validator=above_0)
    total_s: float | None = attrs.field(default=None, kw_only=True, validator=attrs.validators.optional(above_0))
    retries: int = attrs.field(default=1, kw_only=True, validator=attrs.validators.ge(0))
    max_connections: int = attrs.field(default=100, kw_only=True, validator=attrs.validators.ge(1))
    place_s: float = attrs.field(default=60.0, kw_only=True, validator=above_0)
    http: HTTPClient = resource()
    readers: trio.Nursery = resource()

    reads: ClassVar[Reads] = Reads.NDJSON
    reads_ahead: ClassVar[bool] = False  # for servers with few places: a listener who is slow keeps none of them
    end_mark: ClassVar[str | None] = None  # the event that must end an answer; without it, it has broken off
    probes: ClassVar[str | None] = None  # the path that `probe` gets, where the server has one that costs nothing
    advice: ClassVar[Mapping[int | str, str]] = {}  # what errors suggest: by status, "unreachable", "timeout", "broken"

    def ask(self, item: In, turn: Turn, /) -> Ask | None:
        """The request for an item; None if there is nothing to ask about it."""
        raise NotImplementedError

    def item(self, piece: Any, turn: Turn, /) -> Out | None:
        """What a piece of the answer gives, if anything; raise `self.failure(...)` for one that is an error."""
        raise NotImplementedError

    async def answers(self, reply: Reply, item: In, turn: Turn, /) -> AsyncIterator[Out]:
        """What the answer about an item gives; its locals are the state of this one answer."""
        async for piece in decoded(reply, self.reads, self.end_mark):
            try:
                found = self.item(piece, turn)
            except (AttributeError, LookupError, TypeError) as error:
                raise reply.broken(f"sent what is not expected of it ({type(error).__name__}: {error})") from error
            if found is not None:
                yield found

    async def process(self, item: In, turn: Turn, /) -> AsyncIterator[Out]:
        ask = self.ask(item, turn)
        if ask is None:
            return
        turn.awaits = self.http.awaited
        async with (
            self.http.stream(
                ask.method,
                ask.path,
                json=ask.json,
                content=ask.content,
                form=ask.form,
                files=ask.files,
                params=ask.params,
                headers=ask.headers,
                expect=self.reads.value if self.reads is Reads.SSE else "",  # servers call NDJSON what they like
                user=turn.user,
            ) as reply,
            aclosing(_generator(self.answers(reply, item, turn))) as found,
        ):
            if self.reads_ahead:
                reply.read_ahead(self.readers)
            async for one in found:
                yield one

    def failure(self, told: str) -> BackendRefused:
        """The error to raise for an answer in which the server says that it failed; a key that it repeats is hidden."""
        shown = excerpt(told.encode(errors="replace"), secrets_of(self.headers()))
        return BackendRefused(type(self).__name__, self.http.url, f"answered: {shown}", body=shown)

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        with self.needs("httptools", extra="http"):
            import httptools  # noqa: F401  (the client's own; here the error names the preset, and the catalog knows)
        async with (
            trio.open_nursery() as self.readers,
            HTTPClient(
                self.url,
                server=type(self).__name__,
                headers=self.headers(),
                connect_s=self.connect_s,
                read_s=self.read_s,
                total_s=self.total_s,
                retries=self.retries,
                max_connections=self.max_connections,
                place_s=self.place_s,
                advice=self.advice,
            ) as self.http,
        ):
            try:
                yield
            finally:
                self.readers.cancel_scope.cancel()

    def headers(self) -> dict[str, str]:
        """What goes with every request: the key, if there is one."""
        key = os.environ.get(self.api_key_env, "") if self.api_key_env else ""
        return {"Authorization": f"Bearer {key}"} if key else {}

    def status(self) -> Mapping[str, float]:
        return self.http.status()

    async def probe(self) -> None:
        """Get a path that costs nothing. Raises: BackendError if the server is not there."""
        if self.probes is not None:
            async with self.http.stream("GET", self.probes, urgent=True) as reply:
                await reply.read()


class decoded:  # noqa: N801  (used as a function: `async for piece in decoded(reply, Reads.SSE)`)
    """The pieces of an answer. An iterator rather than a generator, so that it can be left at any time.

    [DONE] ends events, if it comes; `end_mark` must come. Raises: BackendBroken if it does not, and for a piece that
    is not JSON.
    """

    def __init__(self, reply: Reply, reads: Reads, end_mark: str | None = None) -> None:
        self._reply = reply
        self._reads = reads
        self._end_mark = end_mark
        self._lines = lines(reply)
        self._events = events(reply)
        self._over = False

    def __aiter__(self) -> decoded:
        return self

    async def __anext__(self) -> Any:
        if self._over:
            raise StopAsyncIteration
        if self._reads is Reads.BYTES:
            return await anext(self._reply)
        if self._reads is Reads.JSON:
            self._over = True
            return await self._reply.json()
        try:
            text = await anext(self._lines) if self._reads is Reads.NDJSON else (await anext(self._events)).data
        except StopAsyncIteration:
            if self._end_mark is not None:
                raise self._reply.broken(f"ended without {self._end_mark}") from None
            raise
        if text == self._end_mark or (self._reads is Reads.SSE and text == END_OF_EVENTS):
            self._over = True
            await self._reply.finish()
            raise StopAsyncIteration
        try:
            return msgspec.json.decode(text)  # stricter than json: half a surrogate pair would spoil the history
        except (ValueError, RecursionError) as error:
            raise self._reply.broken("sent what is not JSON", text.encode(errors="replace")) from error


def _generator(answers: AsyncIterator[Out]) -> AsyncGenerator[Out, None]:
    if not isinstance(answers, AsyncGenerator):
        raise TypeError("answers must be an async generator: it yields what the answer gives.")
    return answers
