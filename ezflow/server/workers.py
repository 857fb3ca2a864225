"""Several processes behind one address, and new ones in place of those that die, or whose files have changed.

The supervisor binds the sockets, and keeps them for its whole life: a shared one, which any of its workers may answer,
and with `worker_port` one for each of them. So connections that come while a worker is being replaced wait, and are
refused by nobody; and whom a proxy sends to a worker's own port stays with that worker's successor. It never reads the
flow's file: each worker is a process of its own that does, made by the same command line (inherited.py is its side).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import trio

from ..errors import SettingsError
from .config import Settings
from .guard import GuardedConfig
from .inherited import REPLACED, Inherited
from .reload import Watched
from .run import SHUTTING_DOWN, aloud, cannot_listen, say_where
from .slots import Slot, Worker

__all__ = ["Supervisor", "supervise"]

log = logging.getLogger("ezflow.server")

# What a worker may take to leave beyond its grace. It ends itself before, however many modules it has to release,
# unless it gets no turn to do so.
LEAVE_S = 120.0


def supervise(settings: Settings, reload: Sequence[Path] = ()) -> int:
    """Serve by workers until SIGINT or SIGTERM; the exit code.

    `reload`: the file whose flows they serve, and others, if a change of these, or of what the flows' file imports,
    shall give new workers.
    Raises: SettingsError where there is no POSIX; OSError if an address is taken.
    """
    if os.name != "posix":
        raise SettingsError("workers hand sockets on to one another, which this system cannot: serve by one process.")
    command = [sys.executable, *sys.orig_argv[1:]]
    return trio.run(Supervisor(command, settings, reload).run)


class Supervisor:
    """Starts workers and replaces them. `leave_s`: what they may take to leave beyond their grace."""

    def __init__(
        self,
        command: Sequence[str],
        settings: Settings,
        reload: Sequence[Path] = (),
        *,
        say: Callable[[str], None] = aloud,
        leave_s: float = LEAVE_S,
    ) -> None:
        self._command = command
        self._settings = settings
        self._reload = reload
        self._say = say
        self._leave_s = leave_s
        self._serving = trio.CancelScope()  # of all that starts workers
        self._alive = set[Worker]()
        self._code = 0

    async def run(self) -> int:
        """Serve until a signal; the exit code. Raises: OSError if an address is taken."""
        with ExitStack() as stack:
            shared, *own = [stack.enter_context(self._bound(port, option)) for port, option in self._ports()]
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._slots = [
                    Slot(self, number, [shared, *own[number - 1 : number]])
                    for number in range(1, self._settings.workers + 1)
                ]
                await nursery.start(self._heed_signals)
                with self._serving:
                    await self._serve(shared, own)
                await self._end_all()
                nursery.cancel_scope.cancel()
        return self._code

    def _ports(self) -> list[tuple[int, str]]:
        """Each with the option that it is from."""
        first, workers = self._settings.worker_port, self._settings.workers
        own = [] if first is None else [first + number if first else 0 for number in range(workers)]
        return [(self._settings.port, "--port"), *((port, "--worker-port") for port in own)]

    def _bound(self, port: int, option: str) -> socket.socket:
        address = self._settings.at(port)
        try:
            return GuardedConfig(address).create_sockets().insecure_sockets[0]
        except OSError as error:
            raise cannot_listen(address, error, option) from None

    async def _serve(self, shared: socket.socket, own: Sequence[socket.socket]) -> None:
        # The first alone: what is wrong with the flows, or in their file, is wrong for all, and said once.
        first, *others = self._slots
        await first.open(reports=True)
        async with trio.open_nursery() as nursery:
            for slot in others:
                nursery.start_soon(slot.open)
        if self._is_ending:
            return
        say_where(self._say, _url(shared), self._settings)
        if own:
            self._say(f"Workers: {', '.join(map(_url, own))}")
        if self._reload:
            await self._renew_on_changes(Watched(*self._reload))
        else:
            await self._keep()

    async def start(self, slot: int, sockets: Sequence[socket.socket], *, reports: bool) -> Worker:
        """Start a worker, and wait until it is ready or has left. If that is cancelled, the worker ends.

        Raises: OSError if no process is to be had.
        """
        worker = await self._spawn(slot, sockets, reports=reports)
        try:
            await worker.hear()
            if not worker.start.ready:
                self._see_off(worker)
                await worker.left.wait()
            await trio.lowlevel.checkpoint()  # it may have left by a signal that the supervisor has too
        except trio.Cancelled:
            self._end(worker)
            raise
        return worker

    async def _spawn(self, slot: int, sockets: Sequence[socket.socket], *, reports: bool) -> Worker:
        begun_at, begun_at_ns = trio.current_time(), time.time_ns()
        ours, its = socket.socketpair()
        with its, ExitStack() as on_failure:
            on_failure.callback(ours.close)
            descriptors = tuple(place.fileno() for place in sockets)
            inherited = Inherited(
                sockets=descriptors,
                line=its.fileno(),
                reports=reports,
                tells_files=bool(self._reload),
                worker=slot if self._settings.is_supervised else None,
            )
            try:
                process = await trio.lowlevel.open_process(
                    self._command, pass_fds=(its.fileno(), *descriptors), env=inherited.environment()
                )
            except RuntimeError as error:  # no thread is to be had, which the start takes
                raise OSError(str(error)) from error
            on_failure.pop_all()
        ours.setblocking(False)
        worker = Worker(slot, process, ours, begun_at, begun_at_ns)
        self._alive.add(worker)
        self._nursery.start_soon(self._attend, worker)
        return worker

    async def _attend(self, worker: Worker) -> None:
        with worker.line:
            await worker.process.wait()
            self._alive.discard(worker)
            worker.left.set()
            trio.lowlevel.notify_closing(worker.line)
            await worker.heard.wait()

    @property
    def _is_ending(self) -> bool:
        return self._serving.cancel_called

    def fail(self, code: int) -> None:
        """End all, with that exit code."""
        if not self._is_ending:
            self._code = code
            self._serving.cancel()

    def replace(self, worker: Worker) -> None:
        """Have a worker leave whose place another has taken."""
        with suppress(OSError):  # it has left
            worker.line.send(REPLACED)
        self._see_off(worker)

    def _end(self, worker: Worker) -> None:
        worker.process.terminate()
        self._see_off(worker)

    def _see_off(self, worker: Worker) -> None:
        if not worker.is_leaving:
            worker.is_leaving = True
            self._nursery.start_soon(self._kill_in_time, worker)

    async def _kill_in_time(self, worker: Worker) -> None:
        with trio.move_on_after(self._settings.grace_s + self._leave_s):
            await worker.left.wait()
            return
        log.error("worker %d (process %d) did not leave: it is killed", worker.slot, worker.process.pid)
        worker.process.kill()

    async def _end_all(self) -> None:
        workers = list(self._alive)
        for worker in workers:
            self._end(worker)
        for worker in workers:
            await worker.left.wait()
        # A worker that gets a signal before it listens to them, or after, is ended by the system.
        in_order = (0, -signal.SIGTERM, -signal.SIGINT)
        if any(worker.process.returncode not in in_order for worker in workers):
            self._code = self._code or 1

    async def _keep(self) -> None:
        async with trio.open_nursery() as nursery:
            for slot in self._slots:
                nursery.start_soon(slot.keep)

    async def _renew_on_changes(self, watched: Watched) -> None:
        first = self._slots[0].worker
        watched.follow(first.start.files, first.begun_at_ns)
        changed_at: float | None = None
        while True:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep)
                if changed_at is not None:
                    nursery.start_soon(self._renew, watched, changed_at)
                changed = await watched.changed()
                nursery.cancel_scope.cancel()  # who is starting may have read what was there before: it ends
            self._say(f"{', '.join(file.name for file in changed)} changed: starting anew")
            changed_at = trio.current_time()

    async def _renew(self, watched: Watched, since: float) -> None:
        for slot in self._slots:
            newest = await slot.renew(since, reports=slot is self._slots[0])
            if newest is not None:
                watched.follow(newest.start.files, newest.begun_at_ns, failed=not newest.start.ready)
            if newest is None or not newest.start.ready:
                why = "no process is to be had" if newest is None else newest.how_it_left
                goes_on = "" if slot.worker.left.is_set() else ": what ran before goes on"
                self._say(f"It does not start ({why}){goes_on}")
                return
        self._say("Started anew")

    async def _heed_signals(self, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for signum in signals:
                if self._is_ending:
                    self._say("Stopped at once")
                    for worker in self._alive:
                        worker.process.kill()
                    signal.signal(signum, signal.SIG_DFL)
                    signal.raise_signal(signum)
                self._say(SHUTTING_DOWN)
                self._serving.cancel()


def _url(place: socket.socket) -> str:
    host, port = place.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
