"""`WebSocketStream`: a module whose model talks over a WebSocket; write what to say and what a message gives.

@module
class Echo(WebSocketStream[str, str]):
    url: str = "ws://127.0.0.1:9000/echo"

    def frames(self, text: str, turn: Turn) -> Iterable[str | bytes]:
        yield json.dumps({"say": text})

    def on_message(self, message: str | bytes, turn: Turn) -> str | Last[str]:
        said = json.loads(message)
        return Last(said["text"]) if said["done"] else said["text"]
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

import attrs
import trio

from ezflow import Inbox, Module, Outbox, Turn, module, resource

from .errors import BackendRefused, excerpt, secrets_of
from .websocket_client import WebSocketClient

if TYPE_CHECKING:
    from .websocket_connection import WebSocket

__all__ = ["Last", "WebSocketStream"]

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
T_co = TypeVar("T_co", covariant=True)

above_0: Any = attrs.validators.gt(0)


@attrs.frozen
class Last(Generic[T_co]):
    """What the last message of an answer gives, if anything: `Last(item)`, or `Last()`."""

    item: T_co | None = None


@module
class WebSocketStream(Module[In, Out]):
    """Talks to a server about each item over a connection of its own, and gives what it answers as it arrives.

    Derive from it and write `frames`, which says what to send for an item, and `on_message` for one message of the
    answer, or `answers` for all of them. `opening` is said before an item's frames and `closing` after them. Frames are
    str or bytes; they are sent while answers are read, so an item may take its time, as an Utterance does. An item that
    has no frame makes no connection. With `per = "turn"` one connection serves all items of a turn.

    The answer ends with a `Last`, or when the server closes in good order. Cancelling a turn closes its connection at
    once. While what is given is not taken, nothing is read. A connection is tried again (`retries`, with growing
    pauses) where the server is not there or busy, and never once it is made. At most `max_connections` are open; users
    who wait for one are served in turn, and wait for at most `place_s`. An `api_key_env` names the environment variable
    that holds the key, sent as a bearer token. A proxy of the environment is used for wss://.

    Takes and gives: what the derived class says. Raises: BackendError, which says which server, where, what it
    answered and what to try.
    """

    url: str = attrs.field(default="", kw_only=True)
    subprotocols: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    api_key_env: str | None = attrs.field(default=None, kw_only=True)
    connect_s: float = attrs.field(default=5.0, kw_only=True, validator=above_0)
    read_s: float = attrs.field(default=60.0, kw_only=True, validator=above_0)
    total_s: float | None = attrs.field(default=None, kw_only=True, validator=attrs.validators.optional(above_0))
    retries: int = attrs.field(default=1, kw_only=True, validator=attrs.validators.ge(0))
    max_connections: int = attrs.field(default=100, kw_only=True, validator=attrs.validators.ge(1))
    place_s: float = attrs.field(default=60.0, kw_only=True, validator=above_0)
    max_message: int = attrs.field(default=16 * 1024 * 1024, kw_only=True, validator=attrs.validators.ge(1))
    verify: bool = attrs.field(default=True, kw_only=True)  # False for a wss:// server that signed its own certificate
    sockets: WebSocketClient = resource()

    per: ClassVar[Literal["item", "turn"]] = "item"  # what has a connection of its own
    advice: ClassVar[Mapping[int | str, str]] = {}  # what errors suggest: by status, "unreachable", "timeout", "broken"

    def opening(self, turn: Turn) -> Iterable[str | bytes]:
        """What is said first on a connection."""
        return ()

    def frames(self, item: In, turn: Turn) -> AsyncIterator[str | bytes] | Iterable[str | bytes]:
        """What is said for an item."""
        raise NotImplementedError

    def closing(self, turn: Turn) -> Iterable[str | bytes]:
        """What is said when there are no more frames."""
        return ()

    def on_message(self, message: str | bytes, turn: Turn) -> Out | Last[Out] | None:
        """What a message gives, if anything; raise what `self.failure` makes for one that is an error."""
        raise NotImplementedError

    async def answers(self, socket: WebSocket, turn: Turn) -> AsyncIterator[Out]:
        """What is given for all that the server says; its locals are the state of this one answer."""
        async for message in socket:
            found = self.on_message(message, turn)
            if isinstance(found, Last):
                if found.item is not None:
                    yield found.item
                return
            if found is not None:
                yield found

    async def run(self, inbox: Inbox[In], outbox: Outbox[Out], turn: Turn) -> None:
        if self.per == "turn":
            await self._talk(self._said(inbox, turn), outbox, turn)
            return
        async for item in inbox:
            await self._talk(_frames(self.frames(item, turn)), outbox, turn)
            turn.answered()

    def failure(self, told: str) -> BackendRefused:
        """The error to raise for an answer in which the server says that it failed."""
        shown = excerpt(told.encode(errors="replace"), secrets_of(self.headers()))
        return BackendRefused(type(self).__name__, self.sockets.url, f"answered: {shown}", body=shown)

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        async with WebSocketClient(
            self.url,
            server=type(self).__name__,
            subprotocols=self.subprotocols,
            headers=self.headers(),
            connect_s=self.connect_s,
            read_s=self.read_s,
            total_s=self.total_s,
            retries=self.retries,
            max_connections=self.max_connections,
            place_s=self.place_s,
            max_message=self.max_message,
            verify=self.verify,
            advice=self.advice,
        ) as self.sockets:
            yield

    def headers(self) -> dict[str, str]:
        """What goes with every handshake: the key, if there is one."""
        key = os.environ.get(self.api_key_env, "") if self.api_key_env else ""
        return {"Authorization": f"Bearer {key}"} if key else {}

    def status(self) -> Mapping[str, float]:
        return self.sockets.slots.status()

    async def probe(self) -> None:
        """See whether something listens there; the server is not spoken to. Raises: BackendError if not."""
        await self.sockets.reach()

    async def _talk(self, frames: AsyncGenerator[str | bytes, None], outbox: Outbox[Out], turn: Turn) -> None:
        """One conversation: the server is told the frames, and what it answers is given on."""
        async with aclosing(frames):
            first = await anext(frames, None)
            if first is None:
                return
            turn.awaits = self.sockets.awaited
            async with self.sockets.connect(user=turn.user) as socket:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._say, socket, first, frames, turn)
                    async with aclosing(_generator(self.answers(socket, turn))) as found:
                        async for one in found:
                            await outbox.send(one)
                    nursery.cancel_scope.cancel()
                await socket.leave()

    async def _say(self, socket: WebSocket, first: str | bytes, rest: AsyncIterator[str | bytes], turn: Turn) -> None:
        for frame in (*self.opening(turn), first):
            await socket.send(frame)
        async for frame in rest:
            if not await socket.send(frame):
                break
        socket.said_all()  # before the last word: its answer may be read before this task goes on
        for frame in self.closing(turn):
            await socket.send(frame)

    async def _said(self, items: AsyncIterator[In], turn: Turn) -> AsyncGenerator[str | bytes, None]:
        async for item in items:
            async with aclosing(_frames(self.frames(item, turn))) as frames:
                async for frame in frames:
                    yield frame


async def _frames(
    frames: AsyncIterator[str | bytes] | Iterable[str | bytes],
) -> AsyncGenerator[str | bytes, None]:
    if isinstance(frames, Iterable):
        for frame in frames:
            yield frame
        return
    try:
        async for frame in frames:
            yield frame
    finally:
        if isinstance(frames, AsyncGenerator):
            await frames.aclose()


def _generator(answers: AsyncIterator[Out]) -> AsyncGenerator[Out, None]:
    if not isinstance(answers, AsyncGenerator):
        raise TypeError("answers must be an async generator: it yields what the answer gives.")
    return answers
