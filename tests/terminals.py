"""A person at a terminal: a program on one of its own, what she types, and what she sees."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pyte
import pytest
import trio

__all__ = ["COLUMNS", "ROWS", "Terminal", "needs_a_terminal", "terminal"]

COLUMNS, ROWS = 80, 24
# Makes the terminal that it is given the one that Ctrl+C is typed at.
AT_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
needs_a_terminal = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX terminal")


class Terminal:
    """Types, and reads what comes: `seen` as it comes, `rows()` as it stands on the screen."""

    def __init__(self, end: trio.lowlevel.FdStream, process: trio.Process) -> None:
        self._end = end
        self._process = process
        self._screen = pyte.HistoryScreen(COLUMNS, ROWS, history=1000, ratio=0.5)
        self._stream = pyte.ByteStream(self._screen)
        self.seen = b""
        self.all = b""

    async def type(self, keys: str) -> None:
        await self._end.send_all(keys.encode())

    async def until(self, shown: str) -> str:
        """What has come up to and with `shown`; that is read no more."""
        while shown.encode() not in self.seen:
            await self.read()
        before, _, self.seen = self.seen.partition(shown.encode())
        return before.decode() + shown

    async def until_row(self, shown: str) -> list[str]:
        """The screen's rows, once one of them has that."""
        while not any(shown in row for row in self.rows()):
            await self.read()
        return self.rows()

    def rows(self) -> list[str]:
        """What stands on the screen, without what is empty."""
        return [row.rstrip() for row in self._screen.display if row.strip()]

    async def left(self) -> int:
        """The exit code, once the program has ended; all that it wrote has been read then."""
        try:
            while True:
                await self.read()
        except (OSError, EOFError, trio.BrokenResourceError):  # the other end of the terminal is closed
            return await self._process.wait()

    async def read(self) -> None:
        """Wait for more to come."""
        piece = await self._end.receive_some()
        if not piece:
            raise EOFError(self.all)
        self.seen += piece
        self.all += piece
        self._stream.feed(piece)


@asynccontextmanager
async def terminal(*command: object, stdout: int | None = None, **environment: str) -> AsyncIterator[Terminal]:
    """A program whose streams are a terminal; standard output may be another file."""
    import pty

    master, slave = pty.openpty()
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", AT_TERMINAL, *map(str, command)],
        stdin=slave,
        stdout=slave if stdout is None else stdout,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": str(COLUMNS), "LINES": str(ROWS), **environment},
    )
    os.close(slave)
    try:
        async with trio.lowlevel.FdStream(master) as end:
            with trio.fail_after(30):
                yield Terminal(end, process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
