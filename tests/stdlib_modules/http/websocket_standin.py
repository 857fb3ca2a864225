"""What a server does by hand on the other side of a WebSocket, over `standing` of http_standin."""

from __future__ import annotations

import base64
import hashlib

from http_standin import Peer

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "accept",
    "closing",
    "frame",
    "head_of",
    "unmasked",
]

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def head_of(peer: Peer, *headers: str) -> bytes:
    """The answer that accepts a handshake."""
    token = base64.b64encode(hashlib.sha1(peer.headers["sec-websocket-key"].encode() + GUID).digest()).decode()
    lines = ["HTTP/1.1 101 Switching", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {token}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


async def accept(peer: Peer, *after: bytes, headers: tuple[str, ...] = ()) -> None:
    await peer.send(head_of(peer, *headers), *after)


def frame(data: bytes | str, opcode: int = TEXT, last: bool = True) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
    if len(data) >= 1 << 16:
        size = b"\x7f" + len(data).to_bytes(8, "big")
    return bytes([opcode | (0x80 if last else 0)]) + size + data


def closing(code: int = 1000, reason: str = "") -> bytes:
    return frame(code.to_bytes(2, "big") + reason.encode(), CLOSE)


async def unmasked(peer: Peer) -> tuple[int, bytes]:
    """The next frame of the client: its opcode and payload."""
    first, length = await _exactly(peer, 2)
    size = length & 0x7F
    if size >= 126:
        size = int.from_bytes(await _exactly(peer, 2 if size == 126 else 8), "big")
    mask = await _exactly(peer, 4)
    data = await _exactly(peer, size)
    masks = (mask * (size // 4 + 1))[:size]
    return first & 0x0F, (int.from_bytes(data) ^ int.from_bytes(masks)).to_bytes(size)


async def _exactly(peer: Peer, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        more = await peer.stream.receive_some(count - len(data))
        if not more:
            raise EOFError
        data += more
    return bytes(data)
