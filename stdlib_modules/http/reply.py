"""`Reply`: the answer to a request, read as it arrives."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import trio

from .errors import BackendError, Broken, Expired, Faults, Unheard

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Reply"]

REFUSAL = 16 * 1024  # bytes of an error's body that are read
LIMIT = 16 * 1024 * 1024
AHEAD_BYTES = 4 * 1024 * 1024  # a minute of sound
BEHIND_S = 0.05  # who has not asked for more by then is slower than what comes
SOON_S = 0.05  # how long the end of an answer is waited for, once its last word has come


class Reply:
    """An answer whose head has come: `.status`, `.headers` (names in lower case), and its body, piece by piece.

    `async for piece in reply` gives bytes as they arrive, cut anywhere: `lines(reply)` and `events(reply)` make sense
    of them. At its end the connection is free for another request. An error, or a cancellation while it is read,
    closes the connection at once.
    Raises: BackendTimeout, BackendBroken.
    """

    def __init__(
        self,
        connection: Connection,
        faults: Faults,
        waits: tuple[float, float],
        release: Callable[[Connection], None],
    ) -> None:
        self.status = connection.answer.status
        self.headers = connection.answer.headers
        self._connection: Connection | None = connection
        self._faults = faults
        self._waits = waits
        self._release = release
        self._whole = False
        self._readers: trio.Nursery | None = None
        self._ahead: _Ahead | None = None

    def __repr__(self) -> str:
        return f"<Reply {self.status} of {self._faults.server} at {self._faults.url}>"

    def __aiter__(self) -> Self:
        return self

    def read_ahead(self, nursery: trio.Nursery) -> None:
        """Have a task read on, up to AHEAD_BYTES, once it is not asked for more within BEHIND_S of the piece before.

        So who takes it slowly keeps no connection busy, and who takes it as it comes pays for no task. The nursery must
        be open for longer than the answer is.
        """
        self._readers = nursery

    def __anext__(self) -> Awaitable[bytes]:
        return self._next() if self._ahead is None else self._ahead.take()

    async def _next(self) -> bytes:
        connection = self._connection
        if connection is None:
            if self._whole:
                raise StopAsyncIteration
            raise trio.ClosedResourceError("the answer was left before its end")
        try:
            piece = await connection.piece(*self._waits)
        except BaseException as error:
            self.close()
            if fault := fault_of(error, self._faults, self._waits):
                raise fault from error
            raise
        if connection.answer.complete:
            self._whole = True
            self.close()
            if not piece:
                raise StopAsyncIteration
        elif self._readers is not None and self._ahead is None:
            connection.when_left(BEHIND_S, self._read_on)
        return piece

    def _read_on(self) -> None:
        if self._connection is not None and self._readers is not None:
            self._ahead = _Ahead()
            self._readers.start_soon(self._ahead.fill, self._next)

    async def read(self, limit: int = LIMIT) -> bytes:
        """The rest of the body. Raises: BackendBroken when it has more than `limit` bytes."""
        body = bytearray()
        async for piece in self:
            body += piece
            if len(body) > limit:
                raise self.broken(f"sent more than {limit} bytes")
        return bytes(body)

    async def json(self, limit: int = LIMIT) -> Any:
        """The body as JSON. Raises: BackendBroken when it is none."""
        body = await self.read(limit)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._faults.broken("sent what is not JSON", body) from error

    async def finish(self) -> None:
        """Wait a moment for the end of an answer whose last word has come, so that its connection is free again."""
        with trio.move_on_after(SOON_S), suppress(BackendError):
            await self.read()

    def broken(self, problem: str, body: bytes = b"") -> BackendError:
        """The error to raise for an answer that is not what it should be. Closes the connection."""
        self.close()
        return self._faults.broken(problem, body)

    async def refusal(self) -> BackendError:
        """The error to raise for an answer that says no; how it begins is read for it. Closes the connection."""
        body = bytearray()
        try:
            async for piece in self:
                body += piece
                if len(body) > REFUSAL:
                    break
        except BackendError:
            pass  # what came will have to do
        self.close()
        headers = self.headers
        location = headers.get("location", "") if self.status < 400 else ""
        return self._faults.refused(self.status, bytes(body), headers.get("retry-after", ""), location)

    def close(self) -> None:
        """Have done with it: what has not arrived is not waited for. Immediate; again, it does nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._release(connection)
        if self._ahead is not None:
            self._ahead.room.unpark_all()


class _Ahead:
    """Pieces that have been read and not yet been asked for."""

    def __init__(self) -> None:
        self.room = trio.lowlevel.ParkingLot()
        self._come = trio.lowlevel.ParkingLot()
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._end: Exception | None = None

    async def fill(self, read: Callable[[], Awaitable[bytes]]) -> None:
        try:
            while True:
                if self._size >= AHEAD_BYTES:
                    await self.room.park()  # woken when the answer is left, too: then there is nothing more to read
                piece = await read()
                self._pieces.append(piece)
                self._size += len(piece)
                self._come.unpark_all()
        except (StopAsyncIteration, BackendError, trio.ClosedResourceError) as end:
            self._end = end
        finally:
            self._come.unpark_all()

    async def take(self) -> bytes:
        while not self._pieces:
            if self._end is not None:
                raise self._end
            await self._come.park()
        piece = self._pieces.popleft()
        self._size -= len(piece)
        self.room.unpark_all()
        return piece


def fault_of(error: BaseException, faults: Faults, waits: tuple[float, float]) -> BackendError | None:
    """What went wrong at a connection, in words for whom the request is made."""
    if isinstance(error, Expired):
        read_s, end = waits
        over = trio.current_time() >= end
        return faults.timeout("took longer than it may in all" if over else f"was silent for {read_s:g} s")
    if isinstance(error, Unheard):
        return faults.broken("closed the connection without an answer")
    return faults.broken(str(error)) if isinstance(error, Broken) else None
