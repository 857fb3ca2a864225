"""Ollama and GPT-SoVITS as loopback stubs in one process, paced; they note when their client has left.

`python -m tests.bench.served.stubs CORES [PORT]` prints its URL. `GET /log` gives what has happened since the last
one, how many answers are under way, and how many connections open.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Sequence
from time import monotonic
from typing import Any

import msgspec

from ezflow import Audio

from .processes import settle
from .reactor import Reactor, Stream
from .work import PIECE_S, RATE_HZ, STALL, TOKEN_S, pieces, read_question, tokens

WAV_HEADER = Audio(b"", RATE_HZ).to_wav()  # it knows no length, as that of a server which has not made all of it yet


class Message(msgspec.Struct):
    role: str
    content: str


class Chat(msgspec.Struct):
    model: str
    messages: list[Message]
    stream: bool


class Speech(msgspec.Struct):
    text: str
    streaming_mode: bool | int
    media_type: str


read_chat = msgspec.json.Decoder(Chat).decode
read_speech = msgspec.json.Decoder(Speech).decode


class Log:
    """What happened to each answer: [marker, kind, begun, ended, was it whole?]."""

    def __init__(self) -> None:
        self.active = 0
        self.open = 0  # connections
        self.answers: list[tuple[str, str, float, float, bool]] = []

    def take(self) -> list[tuple[str, str, float, float, bool]]:
        taken, self.answers = self.answers, []
        return taken


class Answer:
    """Pieces that are due at a fixed pace from now on; without any, silence."""

    def __init__(
        self, connection: Connection, marker: str, kind: str, head: bytes, chunks: Sequence[bytes], each_s: float
    ) -> None:
        self._connection = connection
        self._marker, self._kind = marker, kind
        self._begun = monotonic()
        self._each_s = each_s
        self._chunks = chunks
        self._sent = 0
        connection.log.active += 1
        connection.send(head)
        self._wait()

    def _wait(self) -> None:
        if self._sent < len(self._chunks):
            self._connection.reactor.at(self._begun + (self._sent + 1) * self._each_s, self._give)

    def _give(self) -> None:
        if self._connection.answer is not self:
            return
        self._connection.send(self._chunks[self._sent])
        self._sent += 1
        if self._sent < len(self._chunks):
            self._wait()
        else:
            self.end(whole=True)

    def end(self, *, whole: bool) -> None:
        connection = self._connection
        connection.answer = None
        connection.log.active -= 1
        connection.log.answers.append((self._marker, self._kind, self._begun, monotonic(), whole))


class Connection(Stream):
    def __init__(self, reactor: Reactor, sock: socket.socket, log: Log) -> None:
        super().__init__(reactor, sock)
        self.log = log
        log.open += 1
        self.answer: Answer | None = None
        self._data = b""

    def received(self, data: bytes) -> None:
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        fields = head.lower()
        at = fields.find(b"\r\ncontent-length:")
        length = int(fields[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(rest) < length:
            return
        body, self._data = rest[:length], rest[length:]
        self._asked(head.split(b" ", 2)[1].decode(), body)

    def ended(self) -> None:
        self.log.open -= 1
        if self.answer is not None:
            self.answer.end(whole=False)

    def _asked(self, path: str, body: bytes) -> None:
        if path == "/api/chat":
            self._chat(read_chat(body))
        elif path == "/tts":
            self._speak(read_speech(body))
        elif path == "/log":
            self._whole({"answers": self.log.take(), "active": self.log.active, "open": self.log.open})
        else:
            self._whole({"version": "0.12.0"})

    def _chat(self, chat: Chat) -> None:
        # Questions that were not answered may stand before it, in the same message, each a line.
        marker, kind = read_question(chat.messages[-1].content.rpartition("\n")[2])
        chunks: list[bytes] = []
        if kind != STALL:
            chunks = [_chunk(_line(token)) for token in tokens(marker, kind)]
            chunks[-1] += _chunk(_line("", b'true,"done_reason":"stop","eval_count":60')) + b"0\r\n\r\n"
        self.answer = Answer(self, marker, "llm", _head(b"application/x-ndjson"), chunks, TOKEN_S)

    def _speak(self, speech: Speech) -> None:
        chunks = [_chunk(piece) for piece in pieces(speech.text)]
        chunks[0] = _chunk(WAV_HEADER) + chunks[0]
        chunks[-1] += b"0\r\n\r\n"
        marker = speech.text.split(" ", 1)[0].rpartition("s")[0]
        self.answer = Answer(self, marker, "tts", _head(b"audio/wav"), chunks, PIECE_S)

    def _whole(self, body: Any) -> None:
        encoded = json.dumps(body).encode()
        self.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(encoded))
        self.send(encoded)


def _head(kind: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % kind


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _line(content: str, done: bytes = b"false") -> bytes:
    return (
        b'{"model":"bench","created_at":"2026-01-01T00:00:00.000000Z","message":{"role":"assistant","content":"%b"},'
        b'"done":%b}\n' % (content.encode(), done)
    )


def main(connection: type[Connection] = Connection) -> None:
    settle(sys.argv[1])
    reactor, log = Reactor(), Log()
    listener = socket.create_server(("127.0.0.1", int(sys.argv[2]) if sys.argv[2:] else 0), backlog=4096)
    listener.setblocking(False)

    def accept(_: int) -> None:
        try:
            connection(reactor, listener.accept()[0], log)
        except BlockingIOError:
            pass

    reactor.watch(listener.fileno(), accept)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
