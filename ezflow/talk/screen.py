"""What a person sees: the answer on standard output, and all that is said about it on standard error."""

from __future__ import annotations

import os
import shutil
from typing import Any, TextIO

import msgspec

from ..convert import unstructure
from ..events import Event, Fault, Progress
from ..items import Transcript
from .columns import columns_of, plain

__all__ = ["Screen", "forget_reader", "told_fault"]

CLEAR_LINE = "\r\x1b[2K"
PARTIAL = "... "


class Screen:
    """Prints what comes as it comes; on a terminal, what is understood so far is written over itself."""

    def __init__(self, out: TextIO, notes: TextIO) -> None:
        self._out = out
        self._notes = notes
        self._on_terminal = notes.isatty()
        self._answers_on_terminal = out.isatty()
        self._line_is_open = False
        self._partial_is_shown = False
        self._speaker: str | None = None

    def prompt(self) -> None:
        if self._on_terminal:
            self._write(self._notes, "> ")

    def show(self, event: Event) -> None:
        """Print an event, if it is one to read."""
        match event:
            case Event(error=fault) if fault is not None:
                self.note(told_fault(event.stage, fault))
            case Event(type="interrupted"):
                self.note("interrupted")
            case Event(type="text", item=str(text)):
                self._say(event.stage or "", text)
            case Event(type="transcript", item=Transcript(text=text, final=True)):
                self.note(f"heard: {text}")
            case Event(type="transcript", item=Transcript(text=text)):
                self._partial(text)
            case Event(type="json", item=item):
                self._close_line()
                self._write(self._out, f"{_json(item)}\n")
            case Event(type="turn.ended", reason=reason):
                self._speaker = None
                self._close_line()
                if reason in ("interrupted", "timeout"):
                    self.note(f"the turn ended: {reason}")
            case Event(type="turn.started" | "stage" | "audio"):
                pass
            case Event(item=Progress(message=message)):
                self.note(f"{event.stage}: {message}")
            case _:
                self.note(f"{event.stage}: {event.type} {_json(event.item)}")

    def note(self, line: str) -> None:
        """A line about what happens."""
        self._clear_partial()
        if self._answers_on_terminal:  # else the note is not seen amid the answer
            self._close_line()
        self._write(self._notes, f"{line}\n")

    def _say(self, stage: str, text: str) -> None:
        if self._speaker not in (None, stage):
            self._close_line()
            self._write(self._out, f"[{stage}] ")
        self._clear_partial()
        self._speaker = stage
        self._write(self._out, text)
        self._line_is_open = not text.endswith("\n")

    def _partial(self, text: str) -> None:
        if self._on_terminal:
            self._close_line()
            room = shutil.get_terminal_size().columns - 1 - len(PARTIAL)
            self._write(self._notes, PARTIAL + _tail(" ".join(text.split()), room))
            self._partial_is_shown = True

    def _close_line(self) -> None:
        self._clear_partial()
        if self._line_is_open:
            self._write(self._out, "\n")
        self._line_is_open = False

    def _clear_partial(self) -> None:
        if self._partial_is_shown:
            self._notes.write(CLEAR_LINE)
        self._partial_is_shown = False

    def _write(self, stream: TextIO, text: str) -> None:
        stream.write(plain(text) if stream.isatty() else text)
        stream.flush()


def told_fault(stage: str | None, fault: Fault) -> str:
    """An error event in a line."""
    where = f" in {stage}" if stage else ""
    return f"error{where}: {fault.name}: {fault.message}"


def forget_reader(stream: TextIO) -> None:
    """Who reads a stream wants no more of it: so that Python does not complain of that when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _tail(text: str, columns: int) -> str:
    """The end of a line, as much of it as so many columns of a terminal hold."""
    for place in range(len(text) - 1, -1, -1):
        columns -= columns_of(text[place])
        if columns < 0:
            return text[place + 1 :]
    return text


def _json(item: Any) -> str:
    return msgspec.json.encode(unstructure(item)).decode()
