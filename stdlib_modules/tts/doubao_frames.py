"""The frames of Volcengine's speech service on a WebSocket: bytes to messages and back, without I/O.

A frame begins with a header of some 4-byte words: its own size, the kind of the message, flags, and how the payload is
written and packed. All numbers are big-endian.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from typing import Any

import attrs
import msgspec

__all__ = ["Failed", "NotAFrame", "Sound", "decoded", "encoded"]

REQUEST = b"\x11\x10\x10\x00"  # version 1, a header of one word; a client's request, no flags; JSON, not packed
SOUND, FRONTEND, ERROR = 0b1011, 0b1100, 0b1111
GZIP = 1
UNPACKED = 16 * 1024 * 1024  # bytes, as of a message: packed ones may become a thousand times as many
LAST = 0b0010  # among the flags


class NotAFrame(ValueError):
    """A message that is no frame of this protocol."""


@attrs.frozen
class Sound:
    """A piece of the sound; `last` if it is the end of it."""

    data: bytes = attrs.field(repr=False)
    last: bool


@attrs.frozen
class Failed:
    """The service could not do it."""

    code: int
    message: str


def encoded(body: Any) -> bytes:
    """A request as a frame."""
    payload = msgspec.json.encode(body)
    return REQUEST + struct.pack(">I", len(payload)) + payload


def decoded(message: str | bytes) -> Sound | Failed | None:
    """What a frame says, if it concerns the sound. Raises: NotAFrame."""
    if isinstance(message, str):
        raise NotAFrame("sent a text where a frame was to come")
    head = 4 * (message[0] & 0x0F) if message else 4
    if len(message) < max(head, 4) or message[0] >> 4 != 1:
        raise NotAFrame("sent what is no frame")
    kind, flags, packing = message[1] >> 4, message[1] & 0x0F, message[2] & 0x0F
    body = message[head:]
    if kind == SOUND:
        return _sound(body, flags, packing)
    if kind == ERROR and len(body) >= 8:
        (code,) = struct.unpack_from(">I", body)
        return Failed(code, _unpacked(body[8:], packing).decode(errors="replace"))
    if kind == FRONTEND:
        return None
    raise NotAFrame(f"sent a frame of the unknown kind {kind}")


def _sound(body: bytes, flags: int, packing: int) -> Sound | None:
    """A number, which is negative for the last piece; a length; and so many bytes."""
    if not flags:
        return None  # it has got the request
    # A last piece may go without its number: the documentation says that it has one, the vendor's client reads none.
    for at in (4, 0) if flags == LAST else (4,):
        if len(body) >= at + 4 and len(body) - at - 4 == struct.unpack_from(">I", body, at)[0]:
            last = bool(flags & LAST) or (at > 0 and body[0] >= 0x80)
            return Sound(_unpacked(body[at + 4 :], packing), last)
    raise NotAFrame("sent a frame that is shorter or longer than it says")


def _unpacked(payload: bytes, packing: int) -> bytes:
    if packing != GZIP or not payload:
        return payload
    try:
        unpacked = gzip.GzipFile(fileobj=io.BytesIO(payload)).read(UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise NotAFrame(f"sent a frame that cannot be unpacked ({error})") from error
    if len(unpacked) > UNPACKED:
        raise NotAFrame(f"sent a frame that holds more than {UNPACKED} bytes when it is unpacked")
    return unpacked
