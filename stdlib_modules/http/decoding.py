"""Bytes as they arrive to lines of text (NDJSON) or to Server-Sent Events.

`Lines` and `Events` do no I/O: bytes in, a list out, the same list however the bytes were cut. `lines(reply)` and
`events(reply)` feed them from an answer; they are plain iterators, so leaving them early leaves nothing open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable
from typing import Generic, Protocol, TypeVar

import attrs

__all__ = ["LIMIT", "Event", "Events", "Lines", "TooLong", "events", "lines"]

LIMIT = 4 * 1024 * 1024  # bytes; a line may hold a sentence's sound in base64
BOM = b"\xef\xbb\xbf"

T = TypeVar("T")


class TooLong(ValueError):
    """A line or an event is longer than may be held; `.limit` is how much, in bytes."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"sent {what} of more than {limit} bytes")
        self.limit = limit


@attrs.frozen
class Event:
    """A Server-Sent Event: its data (several `data` lines joined by newlines), its type, the last id so far."""

    data: str
    event: str = "message"
    id: str = ""


class Lines:
    """Lines of UTF-8 text that end in LF or CRLF; blank ones, and a byte order mark, are left out.

    What is not UTF-8 becomes U+FFFD. Other line separators of Unicode are part of a line: JSON may hold them.
    Raises: TooLong, for a line of more than `limit` bytes.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._begun = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        found = [text for line in _whole_lines(self._rest, data) if (text := self._text(line))]
        self._check(len(self._rest))
        return found

    def end(self) -> list[str]:
        """The last line, if the bytes ended without a newline."""
        last = self._text(bytes(self._rest))
        self._rest.clear()
        return [last] if last else []

    def _text(self, line: bytes) -> str:
        self._check(len(line))
        if not self._begun:
            self._begun = True
            line = line.removeprefix(BOM)
        return line.removesuffix(b"\r").decode(errors="replace") if line and not line.isspace() else ""

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise TooLong("a line", self._limit)


class Events:
    """Server-Sent Events, as the WHATWG standard reads them: CR, LF or CRLF end a line, a blank one the event.

    A comment, and an event without data (`event: ping` alone), give nothing. An event whose blank line is missing at
    the end is given all the same: servers forget it.
    Raises: TooLong, for an event of more than `limit` bytes.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._begun = False
        self._after_cr = False
        self._data: list[str] = []
        self._size = 0
        self._event = ""
        self._id = ""

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        if not data:
            return []
        if self._after_cr and data[:1] == b"\n":  # the CR before it has ended the line
            data = data[1:]
        self._after_cr = data[-1:] == b"\r"
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        found = [event for line in _whole_lines(self._rest, data) if (event := self._line(line))]
        self._check(len(self._rest))
        return found

    def end(self) -> list[Event]:
        """The last event, if the bytes ended before its blank line."""
        if self._rest:
            self._line(bytes(self._rest))
            self._rest.clear()
        last = self._dispatch()
        return [last] if last else []

    def _line(self, line: bytes) -> Event | None:
        """Take one line in. Gives the event that it ends."""
        if not self._begun:
            self._begun = True
            line = line.removeprefix(BOM)
        if not line:
            return self._dispatch()
        self._check(len(line))
        name, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode(errors="replace")
        if name == b"data":
            self._size += len(value) + 1
            self._data.append(text)
        elif name == b"event":
            self._event = text
        elif name == b"id" and b"\0" not in value:
            self._id = text
        return None

    def _dispatch(self) -> Event | None:
        made = Event("\n".join(self._data), self._event or "message", self._id) if self._data else None
        self._data = []
        self._size = 0
        self._event = ""
        return made

    def _check(self, size: int) -> None:
        if self._size + size > self._limit:
            raise TooLong("an event", self._limit)


def _whole_lines(rest: bytearray, data: bytes) -> list[bytes]:
    """The lines that end in `data`, of which the first began with `rest`; what follows them is the rest then."""
    end = data.rfind(b"\n")
    if end < 0:
        rest += data
        return []
    whole = bytes(rest + data[:end]) if rest else data[:end]
    rest[:] = data[end + 1 :]
    return whole.split(b"\n")


class Pieces(Protocol):
    """What the decoders read from: a `Reply`, or a stand-in of it."""

    def __anext__(self) -> Awaitable[bytes]: ...

    def broken(self, problem: str) -> Exception:
        """The error to raise for what it sent."""
        ...


class Decoder(Protocol[T]):
    def feed(self, data: bytes) -> list[T]: ...

    def end(self) -> list[T]: ...


class Decoded(Generic[T]):
    """An iterator over what a decoder makes of the pieces of an answer."""

    def __init__(self, pieces: Pieces, decoder: Decoder[T]) -> None:
        self._pieces = pieces
        self._decoder = decoder
        self._ready: deque[T] = deque()
        self._ended = False

    def __aiter__(self) -> Decoded[T]:
        return self

    async def __anext__(self) -> T:
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            try:
                piece = await self._pieces.__anext__()
            except StopAsyncIteration:
                self._ended = True
                self._ready.extend(self._decoder.end())
                continue
            try:
                self._ready.extend(self._decoder.feed(piece))
            except TooLong as error:
                raise self._pieces.broken(str(error)) from error
        return self._ready.popleft()


def lines(reply: Pieces, limit: int = LIMIT) -> Decoded[str]:
    """The lines of an answer (NDJSON, plain text), each as soon as it is complete.

    Lines that came together are given without a checkpoint between them.
    Raises: BackendBroken for a line of more than `limit` bytes, besides what reading raises.
    """
    return Decoded(reply, Lines(limit))


def events(reply: Pieces, limit: int = LIMIT) -> Decoded[Event]:
    """The Server-Sent Events of an answer, each as soon as it is complete.

    Events that came together are given without a checkpoint between them.
    Raises: BackendBroken for an event of more than `limit` bytes, besides what reading raises.
    """
    return Decoded(reply, Events(limit))
