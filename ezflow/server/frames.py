"""The frames of `WS /ws`: what a client may send, where its inputs wait, and what it receives."""

from __future__ import annotations

from collections import deque
from typing import Any, Self

import attrs
import msgspec
import trio

from ..convert import structure
from ..errors import EntryError, InputError, ItemTypeError
from ..events import Event
from ..items import Audio
from .encode import encode_line, encode_sound, encoder
from .refusals import BadRequest

__all__ = ["PONG", "End", "Format", "Frame", "Input", "Inputs", "Interrupt", "Ping", "Played", "Start"]
__all__ += ["complaint", "event_frames", "read_frame"]

INPUT_FRAMES = 256
INPUT_BYTES = 8 * 1024 * 1024
PONG = '{"type":"pong"}'


def _between(least: float, most: float) -> Any:
    def check(_: object, field: attrs.Attribute[Any], value: float) -> None:
        if not least <= value <= most:
            raise InputError(field.name, f"{value} was given, but {least} to {most} is needed")

    return check


@attrs.frozen
class Format:
    """What a client's binary frames hold: PCM16, little-endian, channels interleaved."""

    rate_hz: int = attrs.field(default=16_000, validator=_between(1, 768_000))
    channels: int = attrs.field(default=1, validator=_between(1, 64))


@attrs.frozen
class Start:
    """Begin a live turn: what follows feeds it. One that runs is ended first."""

    entry: int | str = 0
    options: dict[str, Any] = attrs.field(factory=dict)
    format: Format = Format()
    timeline: bool = False


@attrs.frozen
class Input:
    """An item for the live turn: for its entry, or for another of its stages."""

    data: Any
    entry: int | str | None = None


@attrs.frozen
class End:
    """No more input: the live turn runs out."""


@attrs.frozen
class Interrupt:
    """Stop the running reply and go on listening."""


@attrs.frozen
class Played:
    """What the listener has heard of an audio event."""

    turn: int = attrs.field(validator=_between(1, 2**53))
    seq: int = attrs.field(validator=_between(0, 2**53))
    ms: float = attrs.field(validator=_between(0, 1e12))


@attrs.frozen
class Ping:
    """Answered by `pong`."""


Frame = Start | Input | End | Interrupt | Played | Ping
FRAMES: dict[str, type[Frame]] = {cls.__name__.lower(): cls for cls in (Start, Input, End, Interrupt, Played, Ping)}


def read_frame(message: str) -> Frame:
    """A client's text frame. Raises: BadRequest if it is not JSON; InputError with the path of what does not fit."""
    try:
        payload = msgspec.json.decode(message)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"the frame is not JSON: {error}.") from error
    if not isinstance(payload, dict):
        raise InputError("frame", f"{_brief(payload)} was given, but an object with a type is needed")
    if "type" not in payload:
        raise InputError("type", "missing")
    kind = payload.pop("type")
    if not isinstance(kind, str) or kind not in FRAMES:
        raise InputError("type", f"{_brief(kind)} is unknown; known here: {', '.join(FRAMES)}")
    frame: Frame = structure(payload, FRAMES[kind], "")
    return frame


def complaint(error: Exception) -> str:
    """The error event for a frame that does not fit: it belongs to no turn."""
    record = {"type": "error", "error": type(error).__name__}
    if isinstance(error, InputError):
        record |= {"path": error.path, "message": error.problem}
    elif isinstance(error, EntryError | ItemTypeError):
        record |= {"path": "entry" if isinstance(error, EntryError) else "data", "message": str(error)}
    else:
        record["message"] = str(error)
    return encoder.encode(record).decode()


def event_frames(event: Event) -> tuple[str | bytes, ...]:
    """An event as its text frame; an audio event's sound follows it as a binary frame of `bytes` bytes."""
    sound = event.item
    if event.type != "audio" or not isinstance(sound, Audio):
        return (encode_line(event)[:-1].decode(),)
    return encode_sound(event, sound).decode(), sound.pcm


class Inputs:
    """What the client fed and the turn has not taken, bounded in frames and in bytes."""

    def __init__(self) -> None:
        self._held: deque[tuple[Any, int | str | None, int]] = deque()
        self._bytes = 0
        self.ended = False
        self._abandoned = False
        self._room = trio.lowlevel.ParkingLot()
        self._arrived = trio.lowlevel.ParkingLot()

    async def put(self, item: Any, entry: int | str | None, size: int) -> None:
        """Hold an item, waiting for room; one that nobody will take is dropped."""
        while len(self._held) >= INPUT_FRAMES or (self._held and self._bytes + size > INPUT_BYTES):
            await self._room.park()
        if not self._abandoned:
            self._held.append((item, entry, size))
            self._bytes += size
            self._arrived.unpark()

    def end(self) -> None:
        self.ended = True
        self._arrived.unpark_all()

    def abandon(self) -> None:
        """The turn is over: drop what it has not taken."""
        self._abandoned = self.ended = True
        self._held.clear()
        self._room.unpark_all()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[Any, int | str | None]:
        while not self._held:
            if self.ended:
                raise StopAsyncIteration
            await self._arrived.park()
        item, entry, size = self._held.popleft()
        self._bytes -= size
        self._room.unpark()
        return item, entry


def _brief(value: object) -> str:
    shown = repr(value)
    return f"{shown[:57]}..." if len(shown) > 60 else shown
