"""Holds idle clients open: `python -m tests.bench.served.hold CORES PORT ws|stall`.

Reads a number on standard input, and opens so many more, one after the other's answer has come; prints how many there
are. Pings are answered; a client that the server closes is counted no more.
"""

from __future__ import annotations

import base64
import json
import os
import select
import socket
import sys

from .processes import settle
from .reactor import Reactor, Stream
from .work import STALL, question

PING, PONG, CLOSE = 0x9, 0xA, 0x8
AT_ONCE = 50


class Client(Stream):
    """One that is held: a WebSocket, or a turn whose model says nothing."""

    def __init__(self, holder: Holder, port: int, what: str, number: int) -> None:
        super().__init__(holder.reactor, socket.create_connection(("127.0.0.1", port)))
        self._holder = holder
        self._data = b""
        self._begun = False
        self._is_socket = what == "ws"
        if self._is_socket:
            key = base64.b64encode(os.urandom(16)).decode()
            self.send(
                f"GET /ws?user=user{number} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
        else:
            body = json.dumps({"user": f"user{number}", "input": question(f"a{number}x1", STALL)})
            head = "POST /turns HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            self.send(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())

    def received(self, data: bytes) -> None:
        self._data += data
        if not self._begun:
            head, found, rest = self._data.partition(b"\r\n\r\n")
            if not found or not (rest or not self._is_socket):
                return  # a socket is there when it has said that it is ready
            if head[9:12] not in (b"101", b"200"):
                self._holder.failed += 1
            self._begun, self._data = True, rest
            self._holder.holds(self)
        if self._is_socket:
            self._read_frames()
        else:
            self._data = b""

    def ended(self) -> None:
        self._holder.lost(self)

    def _read_frames(self) -> None:
        while len(data := self._data) >= 2:
            size, start = data[1] & 0x7F, 2
            if size == 126:
                size, start = int.from_bytes(data[2:4]), 4
            if len(data) < start + size:
                return
            kind, payload, self._data = data[0] & 0xF, data[start : start + size], data[start + size :]
            if kind == PING:  # a mask of zeros leaves the payload as it is
                self.send(bytes([0x80 | PONG, 0x80 | size]) + bytes(4) + payload)
            elif kind == CLOSE:
                self.close()
                self._holder.lost(self)
                return


class Holder:
    def __init__(self, port: int, what: str) -> None:
        self.reactor = Reactor()
        self.failed = 0
        self._port = port
        self._what = what
        self._held: set[Client] = set()
        self._wanted = 0
        self._made = 0
        self.reactor.watch(sys.stdin.fileno(), self._told, select.EPOLLIN | select.EPOLLHUP)

    def _told(self, _: int) -> None:
        line = sys.stdin.readline()
        if not line:
            self.reactor.stop()
            return
        self._wanted += int(line)
        for _each in range(min(AT_ONCE, int(line))):
            self._open()
        if not int(line):
            self._say()

    def _open(self) -> None:
        self._made += 1
        Client(self, self._port, self._what, self._made)

    def holds(self, client: Client) -> None:
        self._held.add(client)
        if self._made < self._wanted:
            self._open()
        elif len(self._held) + self.failed >= self._wanted:
            self._say()

    def lost(self, client: Client) -> None:
        self._held.discard(client)
        if client.socket.fileno() < 0:
            self.failed += 1

    def _say(self) -> None:
        print(json.dumps({"held": len(self._held), "failed": self.failed}), flush=True)


def main() -> None:
    settle(sys.argv[1])
    Holder(int(sys.argv[2]), sys.argv[3]).reactor.run()


if __name__ == "__main__":
    main()
