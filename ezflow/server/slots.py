"""The workers of a supervisor (workers.py), and their places: who stands in one, dies and is replaced."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from .inherited import Start

if TYPE_CHECKING:
    from .workers import Supervisor

__all__ = ["Slot", "Worker"]

log = logging.getLogger("ezflow.server")

# One that has served for so long is not about to die again.
STEADY_S = 60.0
# The pause before the second one in a row that did not: it doubles with each, up to the longest.
PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
# Of what it says it is longest that names its files: some hundred bytes for each.
LINE_MIB = 16
PIECE = 64 * 1024


@attrs.define(eq=False)
class Worker:
    """A process that serves, as its supervisor knows it."""

    slot: int
    process: trio.Process
    line: socket.socket  # one that never blocks
    begun_at: float
    begun_at_ns: int  # by the clock that dates files
    start: Start = attrs.field(factory=partial(Start, ready=False))
    heard: trio.Event = attrs.field(factory=trio.Event)  # nobody reads its line any more
    left: trio.Event = attrs.field(factory=trio.Event)
    is_leaving: bool = False  # was it told to?
    successor_at: float | None = None  # when another is started, as was told when it had left

    @property
    def exit_code(self) -> int:
        """As a shell has it."""
        code = self.process.returncode or 0
        return 128 - code if code < 0 else code

    @property
    def how_it_left(self) -> str:
        code = self.process.returncode or 0
        if code >= 0:
            return f"exit code {code}"
        with suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    async def hear(self) -> None:
        """Wait until it has said how its start went, or can no more; one that says anything else is killed."""
        try:
            said = await self._said()
        finally:
            self.heard.set()
        if len(said) > LINE_MIB << 20:
            self._kill(f"says more than {LINE_MIB} MiB")
        elif b"\n" in said:
            try:
                self.start = Start.read(said)
            except ValueError:  # something that it runs has written into its line
                self._kill("says what no worker says")

    async def _said(self) -> bytes:
        """A line, as much of it as there was when it left, or more than it may say."""
        said = bytearray()
        while b"\n" not in said[-PIECE:] and len(said) <= LINE_MIB << 20:
            try:
                piece = self.line.recv(PIECE)
            except BlockingIOError:
                if self.left.is_set():  # a process that it has forked may hold its end
                    break
                with suppress(trio.ClosedResourceError):  # it leaves: it may have said something before
                    await trio.lowlevel.wait_readable(self.line)
            except ConnectionError:
                break
            else:
                if not piece:
                    break
                said += piece
        return bytes(said)

    def _kill(self, why: str) -> None:
        log.error("worker %d (process %d) %s: it is killed", self.slot, self.process.pid, why)
        self.process.kill()


class Slot:
    """The place of a worker, which has one after the other."""

    worker: Worker

    def __init__(self, supervisor: Supervisor, number: int, sockets: Sequence[socket.socket]) -> None:
        self._supervisor = supervisor
        self._number = number
        self._sockets = sockets
        self._starting = trio.Lock()
        self._short_lived = 0  # how many in a row have left soon

    async def _start(self, *, reports: bool = False) -> Worker | None:
        """Start one; None, and a line in the log, if no process is to be had: there may be at another time."""
        try:
            return await self._supervisor.start(self._number, self._sockets, reports=reports)
        except OSError as error:
            log.error("worker %d: no process can be started: %s", self._number, error)
            return None

    async def open(self, *, reports: bool = False) -> None:
        """Start the first one. If it does not start, end all."""
        worker = await self._start(reports=reports)
        if worker is None or not worker.start.ready:
            self._supervisor.fail(1 if worker is None else worker.exit_code)
        else:
            self.worker = worker

    async def keep(self) -> None:
        """Replace each that leaves. It may be cancelled, and called again."""
        while True:
            worker = self.worker
            await worker.left.wait()
            await trio.lowlevel.checkpoint()  # all may be ending, by a signal that both have
            if self.worker is not worker:
                continue  # it was replaced
            if worker.successor_at is None:
                worker.successor_at = trio.current_time() + self._tell_end(worker)
            await trio.sleep_until(worker.successor_at)
            async with self._starting:
                if self.worker is worker:
                    self.worker = await self._start() or worker
                    worker.successor_at = None  # if it is still that one: told again, and after a longer pause

    def _tell_end(self, worker: Worker) -> float:
        """Log it; gives the pause until another is started."""
        is_steady = worker.start.ready and trio.current_time() - worker.begun_at >= STEADY_S
        self._short_lived = 0 if is_steady else self._short_lived + 1
        pause_s = 0.0 if self._short_lived < 2 else min(LONGEST_PAUSE_S, PAUSE_S * 2 ** (self._short_lived - 2))
        log.error(
            "worker %d (process %d) %s: %s; another starts %s",
            self._number,
            worker.process.pid,
            "died" if worker.start.ready else "does not start",
            worker.how_it_left,
            f"in {pause_s:g} s" if pause_s else "at once",
        )
        return pause_s

    async def renew(self, since: float, *, reports: bool) -> Worker | None:
        """Put a worker that was started after `since` in the place of the one there is; if it starts.

        Gives the worker that was started; None if no process is to be had.
        """
        async with self._starting:
            if self.worker.begun_at >= since:
                return self.worker  # one had died, and the next read what had changed
            worker = await self._start(reports=reports)
            if worker is not None and worker.start.ready:
                self._supervisor.replace(self.worker)
                self.worker = worker
            return worker
