"""The least client for streamed answers over HTTP/1.1 on trio: kept connections, chunks cut by hand, no timeouts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio


class Client:
    """For one server on this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[trio.SocketStream] = []

    @asynccontextmanager
    async def post(self, path: str, body: bytes) -> AsyncGenerator[Chunks, None]:
        stream = self._idle.pop() if self._idle else await trio.open_tcp_stream("127.0.0.1", self._port)
        whole = False
        try:
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
            await stream.send_all(head.encode() + body)
            chunks = Chunks(stream)
            yield chunks
            whole = chunks.ended
        finally:
            if whole:
                self._idle.append(stream)
            else:
                stream.socket.close()


class Chunks:
    """The chunks of an answer, as many at a time as have come."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._data = b""
        self._in_body = False
        self.ended = False

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> list[bytes]:
        while not self.ended:
            self._data += await self._stream.receive_some(65536)
            if found := self._cut():
                return found
        raise StopAsyncIteration

    def _cut(self) -> list[bytes]:
        if not self._in_body:
            _, found, rest = self._data.partition(b"\r\n\r\n")
            if not found:
                return []
            self._in_body, self._data = True, rest
        data, place, chunks = self._data, 0, []
        while (end := data.find(b"\r\n", place)) >= 0:
            size = int(data[place:end], 16)
            if len(data) < end + size + 4:
                break
            if not size:
                self.ended = True
                break
            chunks.append(data[end + 2 : end + 2 + size])
            place = end + size + 4
        self._data = data[place:]
        return chunks
