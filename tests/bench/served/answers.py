"""An HTTP/1.1 answer as it arrives: its status, and the lines of its body."""

from __future__ import annotations

__all__ = ["Answer"]


class Answer:
    """Feed it bytes; it gives the lines that they complete. Chunked bodies, and those with a length."""

    def __init__(self) -> None:
        self.status = 0
        self.ended = False
        self._raw = b""
        self._left = 0  # bytes to come of the chunk, its CRLF among them; or of the body
        self._chunked = False
        self._line = b""

    def feed(self, data: bytes) -> list[bytes]:
        if not self.status:
            head, found, data = (self._raw + data).partition(b"\r\n\r\n")
            if not found:
                self._raw = head
                return []
            self._raw = b""
            self.status = int(head[9:12])
            fields = head.lower()
            self._chunked = b"transfer-encoding: chunked" in fields
            if not self._chunked:
                self._left = int(fields.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        body = self._dechunked(data) if self._chunked else self._counted(data)
        *lines, self._line = (self._line + body).split(b"\n")
        return lines

    @property
    def rest(self) -> bytes:
        """What has come after the last whole line."""
        return self._line

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        self.ended = self._left <= 0
        return data

    def _dechunked(self, data: bytes) -> bytes:
        if self._raw:
            data, self._raw = self._raw + data, b""
        place, size = 0, len(data)
        found = []
        while place < size:
            if not self._left:
                end = data.find(b"\r\n", place)
                if end < 0:
                    self._raw = data[place:]
                    break
                length = int(data[place:end].split(b";", 1)[0], 16)
                if not length:
                    if size < end + 4:
                        self._raw = data[place:]
                        break
                    self.ended = True
                    break
                self._left = length + 2
                place = end + 2
            take = min(self._left, size - place)
            found.append(data[place : place + min(take, max(0, self._left - 2))])  # the CRLF behind it is no part of it
            self._left -= take
            place += take
        return b"".join(found)
