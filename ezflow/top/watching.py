"""The loop of `ezflow top`: ask, draw, wait for a key."""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import attrs

try:
    import termios
    import tty
except ImportError:  # Windows: Ctrl+C is left
    termios = tty = None  # type: ignore[assignment]

from ..client.address import Address
from ..client.errors import Closed, ConnectFailed
from ..rendering import takes_colours
from ..talk.columns import plain
from .picture import picture
from .told import ask

__all__ = ["Top"]

EVERY_S = 1.0
# Of a picture that does not go to a terminal.
WIDE = 140
OTHER_SCREEN, OWN_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


@attrs.frozen
class Top:
    """Shows a server's sessions, turns and stages, once a second, until q or Ctrl+C; once if it is no terminal."""

    address: Address
    token: str | None = attrs.field(repr=False)
    out: TextIO = sys.stdout

    def once(self) -> int:
        """One picture of all sessions that the server tells of. Raises: ClientError."""
        width = shutil.get_terminal_size((WIDE, 0)).columns
        print("\n".join(self._lines(width, None, 1000)), file=self.out)
        return 0

    def run(self) -> int:
        """Raises: ClientError if the server refuses, or is not there when it begins."""
        if not self.out.isatty():
            return self.once()
        with suppress(KeyboardInterrupt), _screen(self.out), _keys() as pressed:
            first = True
            while True:
                begun = time.monotonic()
                size = shutil.get_terminal_size()
                try:
                    lines = self._lines(size.columns, size.lines, size.lines)
                except (Closed, ConnectFailed) as error:
                    if first:
                        raise
                    lines = [plain(str(error))[: size.columns], "Asking again; q leaves."]
                first = False
                self.out.write(HOME + "".join(f"{line}{REST_OF_LINE}\n" for line in lines[:-1]))
                self.out.write(f"{lines[-1]}{REST_OF_LINE}{REST_OF_SCREEN}")
                self.out.flush()
                if pressed(max(0.0, begun + EVERY_S - time.monotonic())) in ("q", "Q"):
                    break
        return 0

    def _lines(self, width: int, height: int | None, sessions: int) -> list[str]:
        tree = ask(self.address, self.token, sessions)
        return picture(tree, self.address.url, width, height, colours=takes_colours(self.out))


@contextmanager
def _screen(out: TextIO) -> Iterator[None]:
    """A screen of its own: what was on the terminal is there again afterwards."""
    out.write(OTHER_SCREEN)
    try:
        yield
    finally:
        out.write(OWN_SCREEN)
        out.flush()


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for a key, and gives it, or nothing."""
    if not sys.stdin.isatty() or termios is None or tty is None:
        yield _without_keys
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)

    def pressed(within_s: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], within_s)
        return os.read(descriptor, 1).decode("latin-1") if ready else ""

    try:
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _without_keys(within_s: float) -> str:
    time.sleep(within_s)
    return ""
