"""A stand-in: a model server's protocol on loopback, strict, scripted, and with a log of when its client left.

It runs in the test's own event loop (`async with backend.serving()`), or in a thread with one of its own
(`with backend.in_thread()`), for what runs trio itself, such as `check_module`.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from enum import Enum
from functools import partial
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import parse_qsl, urlsplit

import attrs
import h11
import msgspec
import trio

from ...convert import structure
from ...errors import InputError

__all__ = ["Fault", "Gone", "Reply", "Request", "StandIn"]

T = TypeVar("T")

MAX_BODY = 64 * 1024 * 1024


class Fault(Enum):
    """What a server may do to its client; `Fault.NONE` is a good server."""

    NONE = "answers"
    TOGETHER = "sends everything in one piece"
    SPLIT = "sends each byte by itself"
    NO_END = "ends without its end mark"
    CUT = "closes the connection in mid-answer"
    ERROR_BODY = "answers 200 with an error"
    REFUSES = "answers 500"
    SILENT = "accepts and never answers"
    GARBAGE = "answers what is no protocol of anybody"


class Gone(Exception):
    """The client has left; the handler need not go on."""


@attrs.frozen
class Request:
    """What a client sent."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class StandIn:
    """A loopback server for one protocol; derive from it and write `answer`.

    `requests` holds what came, `problems` what was wrong with it: leaving `serving()` or `in_thread()` raises
    AssertionError if there are any. `left` are the times (trio's clock) at which a client left before its answer
    was complete. `fault` may be changed at any time; `first_s` and `each_s` are waited before the first and each
    further piece.
    """

    name: ClassVar[str]

    def __init__(self, *, first_s: float = 0.0, each_s: float = 0.0, fault: Fault = Fault.NONE) -> None:
        self.first_s = first_s
        self.each_s = each_s
        self.fault = fault
        self.url = ""
        self.requests: list[Request] = []
        self.problems: list[str] = []
        self.left: list[float] = []
        self.connections = 0
        self.changed = trio.Event()

    async def answer(self, request: Request, reply: Reply) -> None:
        """Answer one request."""
        raise NotImplementedError

    def expect(self, cls: type[T], payload: Any, where: str = "") -> T:
        """A payload as an instance of an attrs class, to the letter. Raises: InputError, and notes the problem."""
        try:
            found: T = structure(payload, cls, where)
        except InputError as error:
            self.problems.append(f"{self.name}: {error}")
            raise
        return found

    def problem(self, what: str) -> None:
        """Note that a client did what this server does not take."""
        self.problems.append(f"{self.name}: {what}")

    async def until(self, condition: Callable[[], bool], within_s: float = 10.0) -> None:
        """Wait until something is so: a request has come, a client has left. Raises: trio.TooSlowError."""
        with trio.fail_after(within_s):
            while not condition():
                await self.changed.wait()

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncGenerator[Self, None]:
        """Serve on 127.0.0.1; `url` is set."""
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
            self.url = self._url(listeners[0].socket.getsockname()[1])
            nursery.start_soon(partial(trio.serve_listeners, self._serve, listeners, handler_nursery=nursery))
            try:
                yield self
            finally:
                nursery.cancel_scope.cancel()
        if self.problems:
            raise AssertionError("; ".join(self.problems))

    @contextmanager
    def in_thread(self) -> Generator[Self, None, None]:
        """Serve from a thread that runs trio of its own."""
        ready, stop = threading.Event(), trio.Event()
        token: list[trio.lowlevel.TrioToken] = []

        async def run() -> None:
            async with self.serving():
                token.append(trio.lowlevel.current_trio_token())
                ready.set()
                await stop.wait()

        failed: list[BaseException] = []

        def serve() -> None:
            try:
                trio.run(run)
            except BaseException as error:  # noqa: BLE001  (raised again where it was started)
                failed.append(error)
            finally:
                ready.set()

        thread = threading.Thread(target=serve, name=f"stand-in for {self.name}")
        thread.start()
        ready.wait()
        try:
            if token:
                yield self
        except Exception as error:
            self._end(thread, stop, token)
            if failed:
                raise failed[0] from error  # the reason why, more often than not
            raise
        self._end(thread, stop, token)
        if failed:
            raise failed[0]

    def _end(self, thread: threading.Thread, stop: trio.Event, token: list[trio.lowlevel.TrioToken]) -> None:
        if token:
            with suppress(trio.RunFinishedError):
                token[0].run_sync_soon(stop.set)
        thread.join()

    def _url(self, port: int) -> str:
        return f"http://127.0.0.1:{port}"

    def _note(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        connection = h11.Connection(h11.SERVER)
        try:
            while (request := await _read(connection, stream)) is not None:
                self.requests.append(request)
                self._note()
                await self._answer(request, Reply(self, connection, stream))
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    break
                connection.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass
        finally:
            self.connections -= 1
            self._note()
            await trio.aclose_forcefully(stream)

    async def _answer(self, request: Request, reply: Reply) -> None:
        if self.fault is Fault.SILENT:
            await reply.watch(trio.sleep_forever)
        elif self.fault is Fault.GARBAGE:
            await reply.raw(b"\x00\xff garbage \x80\x81\r\n\r\n")
        elif self.fault is Fault.REFUSES:
            await reply.refuse(500, {"error": "the model is broken"})
        else:
            await reply.watch(partial(self._checked, request, reply))

    async def _checked(self, request: Request, reply: Reply) -> None:
        try:
            await self.answer(request, reply)
        except (InputError, msgspec.DecodeError) as error:
            await reply.refuse(400, {"error": str(error)})
        except AssertionError as error:  # what the derived class expects of its client
            self.problem(f"{request.method} {request.path}: {error}")
            await reply.refuse(400, {"error": f"unexpected: {error}"})


class Reply:
    """What a stand-in answers; its fault decides how it reaches the client."""

    def __init__(self, server: StandIn, connection: h11.Connection, stream: trio.SocketStream) -> None:
        self._server = server
        self._connection = connection
        self._stream = stream
        self._held = bytearray()
        self._pieces = 0
        self._begun = False

    async def begin(self, status: int = 200, content_type: str = "application/json", **headers: str) -> None:
        """Send the head."""
        fields = [("Content-Type", content_type), ("Transfer-Encoding", "chunked")]
        fields += [(name.replace("_", "-"), value) for name, value in headers.items()]
        self._begun = True
        await self._send(h11.Response(status_code=status, headers=fields))

    async def send(self, piece: bytes, *, end_mark: bool = False) -> None:
        """Send a piece of the body, after its time; `end_mark` says that it is what the protocol ends with."""
        await trio.sleep(self._server.each_s if self._pieces else self._server.first_s)
        self._pieces += 1
        fault = self._server.fault
        if fault is Fault.NO_END and end_mark:
            return
        if fault is Fault.CUT and (self._pieces == 2 or end_mark):
            # Half of a chunk, whose length says that there is more.
            await self._stream.send_all(b"%x\r\n%s" % (len(piece) + 1, piece[: len(piece) // 2]))
            raise Gone
        if fault is Fault.TOGETHER:
            self._held += piece
        elif fault is Fault.SPLIT:
            for place in range(len(piece)):
                await self._send(h11.Data(piece[place : place + 1]))
        elif piece:
            await self._send(h11.Data(piece))

    async def end(self) -> None:
        """Send what is held, and the end of the body."""
        if self._held:
            await self._send(h11.Data(bytes(self._held)))
        if self._server.fault is Fault.CUT:
            raise Gone
        await self._send(h11.EndOfMessage())

    async def whole(self, body: bytes, content_type: str = "application/json", status: int = 200) -> None:
        """Send a body with its length; a CUT ends in its middle."""
        await trio.sleep(self._server.first_s)
        fields = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        self._begun = True
        await self._send(h11.Response(status_code=status, headers=fields))
        if self._server.fault is Fault.CUT:
            await self._send(h11.Data(body[: len(body) // 2]))
            raise Gone
        size = 1 if self._server.fault is Fault.SPLIT else max(1, len(body))
        last = max(0, len(body) - size)
        for place in range(0, last, size):
            await self._send(h11.Data(body[place : place + size]))
        # With its last byte the client has all of it, and may ask for the next thing at once.
        rest = self._connection.send(h11.Data(body[last:])) or b""
        await self._stream.send_all(rest + (self._connection.send(h11.EndOfMessage()) or b""))

    async def json(self, body: Any, status: int = 200) -> None:
        await self.whole(msgspec.json.encode(body), status=status)

    async def refuse(self, status: int, body: Any) -> None:
        """Answer with an error, if nothing has been sent."""
        if not self._begun:
            fault, self._server.fault = self._server.fault, Fault.NONE
            try:
                await self.json(body, status)
            finally:
                self._server.fault = fault

    async def raw(self, data: bytes) -> None:
        """Send bytes that are no HTTP, and end."""
        await self._stream.send_all(data)
        await self._stream.send_eof()

    async def watch(self, handler: Callable[[], Awaitable[Any]]) -> None:
        """Run a handler until the client leaves, and note when it did."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_it_leaves, nursery.cancel_scope)
            try:
                await handler()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await trio.sleep(1)  # it has left; the one who watches notes it, and ends this
            except Gone:
                await trio.aclose_forcefully(self._stream)
            nursery.cancel_scope.cancel()

    async def _until_it_leaves(self, scope: trio.CancelScope) -> None:
        try:
            if data := await self._stream.receive_some():
                if self._connection.our_state is not h11.DONE:
                    self._server.problem(f"{len(data)} bytes came before the answer was complete")
                self._connection.receive_data(data)  # the next request, already
                return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self._server.left.append(trio.current_time())
        scope.cancel()

    async def _send(self, event: Any) -> None:
        await self._stream.send_all(self._connection.send(event) or b"")


async def _read(connection: h11.Connection, stream: trio.SocketStream) -> Request | None:
    """The next request of a connection; None when its client has left."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                return None
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            target = urlsplit(head.target.decode())
            headers = {name.decode(): value.decode() for name, value in head.headers}
            return Request(head.method.decode(), target.path, dict(parse_qsl(target.query)), headers, bytes(body))
        else:
            return None
