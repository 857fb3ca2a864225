"""The least event loop that the stubs and the load generator need, so that they are never what is measured.

Sockets over epoll, timers to some 50 µs: epoll's own timeout is in whole milliseconds, and those of asyncio and trio
with it, which is a tenth of what is paced here.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
from collections.abc import Callable
from heapq import heappop, heappush
from time import monotonic

__all__ = ["Reactor", "Stream"]

RECEIVE = 256 * 1024


class Reactor:
    """Calls back when a socket can be read or written, and when a time has come."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._alarm = Alarm()
        self._epoll.register(self._alarm.fd, select.EPOLLIN)
        self._running = False

    def at(self, when: float, callback: Callable[[], None]) -> None:
        """Call back at a time of `time.monotonic`."""
        self._count += 1
        heappush(self._timers, (when, self._count, callback))

    def watch(self, fd: int, handler: Callable[[int], None], events: int = select.EPOLLIN) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def run(self) -> None:
        """Until `stop`."""
        self._running = True
        handlers, timers, alarm = self._handlers, self._timers, self._alarm
        while self._running:
            while timers and timers[0][0] <= monotonic():
                heappop(timers)[2]()
            if timers:
                alarm.set(timers[0][0])
            for fd, event in self._epoll.poll():
                if fd == alarm.fd:
                    alarm.clear()
                elif handler := handlers.get(fd):
                    handler(event)

    def stop(self) -> None:
        self._running = False


class Alarm:
    """A timerfd, which Python has from 3.13 on."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(1, os.O_NONBLOCK | os.O_CLOEXEC)  # 1: CLOCK_MONOTONIC
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._when = 0.0

    def set(self, when: float) -> None:
        if when != self._when:
            self._when = when
            seconds = int(when)
            spec = struct.pack("llll", 0, 0, seconds, max(1, int((when - seconds) * 1e9)))
            self._libc.timerfd_settime(self.fd, 1, spec, None)  # 1: an absolute time

    def clear(self) -> None:
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            pass


class Stream:
    """A connected TCP socket. Derive from it and write `received` and `ended`."""

    def __init__(self, reactor: Reactor, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reactor = reactor
        self.socket = sock
        self.open = True
        self._unsent = bytearray()
        reactor.watch(sock.fileno(), self._ready)

    def received(self, data: bytes) -> None:
        raise NotImplementedError

    def ended(self) -> None:
        """The other side has closed the connection."""

    def send(self, data: bytes) -> None:
        if not self._unsent:
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return  # its end is read, too
            if sent == len(data):
                return
            data = data[sent:]
            self.reactor.change(self.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
        self._unsent += data

    def close(self) -> None:
        if self.open:
            self.open = False
            self.reactor.forget(self.socket.fileno())
            self.socket.close()

    def _ready(self, event: int) -> None:
        if event & select.EPOLLOUT and self._unsent:
            self._flush()
        if event & ~select.EPOLLOUT and self.open:
            try:
                data = self.socket.recv(RECEIVE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self.received(data)
            else:
                self.close()
                self.ended()

    def _flush(self) -> None:
        try:
            del self._unsent[: self.socket.send(self._unsent)]
        except OSError:
            return
        if not self._unsent:
            self.reactor.change(self.socket.fileno(), select.EPOLLIN)
