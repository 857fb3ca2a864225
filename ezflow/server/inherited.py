"""A worker's side of `--workers` and `--reload`: what it has from the supervisor that started it (workers.py).

It serves on sockets that the supervisor has bound, and that outlive it. A line leads to the supervisor: over it the
worker says once how its start went; in the other direction it learns that another has taken its place, or, by the
line's end, that nobody supervises it any more.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import attrs
import trio

from ..convert import structure
from ..errors import SettingsError

__all__ = ["REPLACED", "VARIABLE", "Inherited", "Start"]

# Where a worker finds what it inherits.
VARIABLE = "EZFLOW_WORKER"
# What the supervisor says when another worker has taken its place.
REPLACED = b"replaced\n"
# Where packages lie that are installed: nobody edits them while a server runs.
INSTALLED = ("site-packages", "dist-packages")


@attrs.frozen
class Start:
    """How the start of a worker went: is it ready, and which files, not installed ones, did it read?"""

    ready: bool
    files: tuple[str, ...] = ()

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Raises: ValueError for what no worker says."""
        try:
            start: Self = structure(json.loads(line), cls, "")
        except RecursionError as error:
            raise ValueError("it is nested too deep") from error
        return start

    def line(self) -> bytes:
        return json.dumps(attrs.asdict(self)).encode() + b"\n"


@attrs.frozen(kw_only=True)
class Inherited:
    """What the supervisor gave: sockets that are bound, and a line; and whether to print the report of the flows, to
    tell which files were read, and by which number the log knows it.
    """

    sockets: tuple[int, ...]
    line: int
    reports: bool
    tells_files: bool
    worker: int | None = None  # its number, where there may be others

    @property
    def about(self) -> dict[str, object]:
        """What every line of its log tells."""
        return {} if self.worker is None else {"worker": self.worker}

    @classmethod
    def take(cls, environment: MutableMapping[str, str] = os.environ) -> Self | None:
        """What this process inherits, if it is a worker; programs that it starts inherit none of it.

        Raises: SettingsError if somebody else has set the variable.
        """
        told = environment.pop(VARIABLE, None)
        if told is None:
            return None
        try:
            given = json.loads(told)
            inherited = cls(**given | {"sockets": tuple(given["sockets"])})
            for descriptor in (inherited.line, *inherited.sockets):
                os.set_inheritable(descriptor, False)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise SettingsError(f"{VARIABLE} is how ezflow starts its workers: unset it.") from error
        return inherited

    def environment(self) -> dict[str, str]:
        """The environment of a process that shall inherit this."""
        return {**os.environ, VARIABLE: json.dumps(attrs.asdict(self))}

    @property
    def binds(self) -> list[str]:
        """The sockets, as hypercorn is told of them."""
        return [f"fd://{descriptor}" for descriptor in self.sockets]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Leave Ctrl+C to the supervisor, and tell it if the block fails, before that is raised on."""
        signal.signal(signal.SIGINT, lambda *_: None)  # programs that it starts heed it
        try:
            yield
        except BaseException as error:
            with suppress(OSError), socket.socket(fileno=os.dup(self.line)) as line:
                line.setblocking(True)
                line.sendall(Start(False, self._files(error)).line())
            raise

    async def follow(
        self, listening: trio.Event, *, replaced: Callable[[], None], forsaken: Callable[[], None]
    ) -> None:
        """Tell the supervisor when this worker listens. Calls back when another takes its place, or nobody is there."""
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=self.line)))
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_ready, stream, listening)
            with suppress(trio.BrokenResourceError):
                while await stream.receive_some():
                    replaced()
            forsaken()
            nursery.cancel_scope.cancel()

    async def _tell_ready(self, stream: trio.SocketStream, listening: trio.Event) -> None:
        await listening.wait()
        files = await trio.to_thread.run_sync(self._files)  # of thousands each is looked at
        with suppress(trio.BrokenResourceError):  # it is gone, as the end of the line says too
            await stream.send_all(Start(True, files).line())

    def _files(self, error: BaseException | None = None) -> tuple[str, ...]:
        return tuple(sorted(own_files(error))) if self.tells_files else ()


def own_files(error: BaseException | None) -> set[str]:
    """The files of all modules that are neither Python's nor installed; of one that failed, those where it did."""
    found = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    while error is not None:
        found |= {frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)}
        if isinstance(error, SyntaxError):
            found.add(error.filename)
        error = error.__cause__ or error.__context__
    paths = {Path(file).resolve() for file in found if isinstance(file, str)}
    python = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
    return {
        str(path)
        for path in paths
        if path.is_file() and not any(path.is_relative_to(folder) for folder in python) and not _is_installed(path)
    }


def _is_installed(path: Path) -> bool:
    return any(part in INSTALLED for part in path.parts)
