"""What a client says over HTTP and a WebSocket, as bytes that a test may cut, repeat and spoil."""

from __future__ import annotations

__all__ = ["BINARY", "CLOSE", "CONTINUED", "PING", "TEXT", "chunk", "frame", "head", "post", "upgrade"]

CONTINUED, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9


def head(path: str, *headers: bytes) -> bytes:
    """That of a POST."""
    return b"\r\n".join((f"POST {path} HTTP/1.1".encode(), b"Host: localhost", *headers, b"", b""))


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    """A whole request."""
    return head(path, b"Content-Length: %d" % len(body), *headers) + body


def chunk(data: bytes) -> bytes:
    """A piece of a body whose length nobody has said."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def upgrade(path: str, user: bytes) -> bytes:
    """A WebSocket's handshake."""
    return (
        b"GET %b?user=%b HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ) % (path.encode(), user)


def frame(opcode: int, payload: bytes, *, final: bool = True, size: int | None = None) -> bytes:
    """A WebSocket frame, masked with zeros; `size` is what it says of its payload's."""
    size = len(payload) if size is None else size
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = b"\xfe" + size.to_bytes(2, "big") if size < 65_536 else b"\xff" + size.to_bytes(8, "big")
    return bytes([0x80 * final | opcode]) + length + bytes(4) + payload
