"""Lines at the foot of a terminal that are drawn anew as they change, and above them whatever else is written."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Callable, Sequence
from typing import TextIO, cast

from .columns import columns_of, plain

__all__ = ["Board"]

TAB = "    "


class Board:
    """Draws `lines(columns)` at the foot of a terminal.

    `answer` and `notes` are written to as the streams for which they stand. The answer's last row stands right above
    the lines until it is full or ends; a note is shown when its line ends. Any thread may write, and nothing that is
    written steers the terminal; the lines themselves are taken as they are.
    """

    def __init__(self, answers: TextIO, notes: TextIO, lines: Callable[[int], Sequence[str]]) -> None:
        self._answers = answers
        self._terminal = notes
        self._lines = lines
        self._lock = threading.RLock()
        self._drawn = 0  # how many rows stand below what was written
        self._row = ""  # the answer's last one, as long as it goes on
        self._rows = ""  # of the answer, that are to be written
        self._unfinished = _Stream(notes, self._note)
        self.notes = cast(TextIO, self._unfinished)
        # An answer that goes elsewhere does not meet the lines.
        self.answer = cast(TextIO, _Stream(answers, self._say, by_line=False)) if answers.isatty() else answers

    def draw(self) -> None:
        """Show the lines as they are now, and what the answer has gained."""
        with self._lock:
            self._paint("")

    def close(self) -> None:
        """Leave the lines where they are, as they are now; nothing is drawn any more."""
        with self._lock:
            self._unfinished.end()
            if self._row:
                self._say("\n")
            self._paint("")
            self._drawn, self._lines = 0, _nothing

    def _note(self, line: str) -> None:
        with self._lock:
            self._paint(f"{plain(line)}\n")

    def _say(self, text: str) -> None:
        """It is shown with the next lines that are drawn: a model may say very much in very little time."""
        columns = _size()[0]
        with self._lock:
            room = columns - sum(map(columns_of, self._row))
            for character in plain(text).replace("\t", TAB):
                if character == "\n":
                    self._rows, self._row, room = f"{self._rows}{self._row}\n", "", columns
                    continue
                room -= columns_of(character)
                if room < 0:  # the terminal begins another row here, too
                    self._rows, self._row, room = f"{self._rows}{self._row}", "", columns - columns_of(character)
                self._row += character

    def _paint(self, note: str) -> None:
        columns, height = _size()
        if self._drawn:
            self._terminal.write(f"\x1b[{self._drawn}A\r\x1b[J")
        if self._rows:
            self._terminal.flush()
            self._answers.write(self._rows)
            self._answers.flush()
            if not self._rows.endswith("\n"):
                self._terminal.write("\r\n")  # the terminal itself goes on only with the next character
            self._rows = ""
        rows = [self._row] if self._row else []
        rows = [*rows, *self._lines(columns - 1)][: height - 1]
        self._terminal.write(note + "".join(f"{row}\n" for row in rows))
        self._terminal.flush()
        self._drawn = len(rows)


class _Stream(io.TextIOBase):
    """Stands for a terminal's stream; what is written to it goes above the lines."""

    def __init__(self, stream: TextIO, write: Callable[[str], None], *, by_line: bool = True) -> None:
        self._stream = stream
        self._write = write
        self._by_line = by_line
        self._rest = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if not self._by_line:
            self._write(text)
            return len(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._write(_last(line))
        return len(text)

    def end(self) -> None:
        """What is written last may be no whole line."""
        if self._rest:
            self.write("\n")


def _last(line: str) -> str:
    """What a terminal would show of a line that was written over itself."""
    return line.rstrip("\r").rpartition("\r")[2]


def _nothing(_: int) -> Sequence[str]:
    return ()


def _size() -> tuple[int, int]:
    size = shutil.get_terminal_size()
    return max(1, size.columns), max(2, size.lines)
