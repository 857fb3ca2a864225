"""What `ezflow run` shows of its turn."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TextIO

import attrs
import trio

from ..events import Event
from ..open_turn import OpenTurn
from ..rendering import rendered, takes_colours
from ..server.encode import encode_line
from .answer import Answer
from .board import Board
from .columns import cut
from .progress import Progress
from .recording import Recording
from .screen import Screen, told_fault

__all__ = ["Display"]

TICK_S = 0.1
# Columns of lines that do not go to a terminal.
WIDE = 200


class _Reply(Screen):
    """Prints the reply, or each event as the protocol's JSON; what went wrong is held back for the end."""

    def __init__(self, out: TextIO, notes: TextIO, *, as_json: bool) -> None:
        super().__init__(out, notes)
        self._as_json = as_json
        self.errors: list[str] = []

    def show(self, event: Event) -> None:
        if event.error is not None:
            self.errors.append(told_fault(event.stage, event.error))
        if self._as_json:
            self._write(self._out, encode_line(event).decode())
        elif event.error is None:
            super().show(event)


@attrs.define(eq=False, kw_only=True)
class Display:
    """The reply goes to `out`, all else to `notes`.

    There, on a terminal, stand lines that show what each stage is doing, drawn anew as it changes; elsewhere a line
    comes when a stage first works and first gives, and those lines at the end. What went wrong comes last.
    `json`: the turn's events in place of the reply. `progress`: are there such lines? `timeline`: at the end, a
    drawing of what each stage did when.
    Raises: SettingsError for a file to `save` to that cannot be.
    """

    save: Path | None = None
    json: bool = False
    progress: bool = True
    timeline: bool = False
    out: TextIO = attrs.field(factory=lambda: sys.stdout)
    notes: TextIO = attrs.field(factory=lambda: sys.stderr)
    turn: OpenTurn | None = attrs.field(default=None, init=False)  # once the modules are open
    is_ending: bool = attrs.field(default=False, init=False)
    doing: Progress = attrs.field(init=False)
    answer: Answer = attrs.field(init=False)
    _recording: Recording | None = attrs.field(init=False)
    _board: Board | None = attrs.field(default=None, init=False)
    _screen: _Reply = attrs.field(init=False)
    _began: float = attrs.field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._recording = Recording(self.save) if self.save else None

    @contextmanager
    def shown(self, flow: str, stages: Sequence[str]) -> Iterator[None]:
        """Show what happens in the block. What modules print and log in it tears neither the lines nor the reply."""
        self._began = trio.current_time()
        out, notes = self.out, self.notes
        say = self.note if self.progress else _nothing
        if self.progress and notes.isatty() and os.environ.get("TERM") != "dumb":
            self._board = Board(out, notes, partial(self._lines, colours=takes_colours(notes)))
            out, notes, say = self._board.answer, self._board.notes, _nothing
        self.doing = Progress(flow, stages, say)
        self._screen = _Reply(out, notes, as_json=self.json)
        self.answer = Answer(self._screen, self._recording)
        with redirect_stdout(notes), redirect_stderr(notes), rendered(stream=notes):
            logging.getLogger().handlers[0].addFilter(_is_news)
            try:
                yield
            finally:
                self._close(stages)

    def note(self, line: str) -> None:
        self._screen.note(line)

    def failed(self, line: str) -> None:
        """What went wrong, to be told at the end."""
        self._screen.errors.append(line)

    async def draw(self) -> None:
        """Draw the lines anew, again and again."""
        while self._board is not None:
            self._board.draw()
            await trio.sleep(TICK_S)

    def _close(self, stages: Sequence[str]) -> None:
        self.doing.over()
        if self._board is not None:
            self._board.close()
        elif self.progress:
            for line in self._lines(WIDE, colours=False):
                self.note(line)
        self.answer.close(stages if self.timeline else None)
        if self.progress and self.answer.chart.sound_s and not self.save:
            self.note("the sound was not kept: --save FILE.wav keeps it")
        for error in self._screen.errors:
            self.note(error)

    def _lines(self, columns: int, *, colours: bool) -> list[str]:
        """A line for each stage, and how the turn stands."""
        stands = self._stands()
        if stands is None:
            return []
        return [*self.doing.lines(columns, colours=colours), *(cut(line, columns) for line in stands)]

    def _stands(self) -> list[str] | None:
        """None: there was no turn, and there will be none."""
        if self.answer.reason is not None:
            return [] if self.timeline else [self.answer.chart.figures]  # the timeline has them at its end
        if self.turn is None or self.turn.state is None:
            opening = f"opening, {trio.current_time() - self._began:.1f} s (Ctrl+C ends it)"
            return None if self.doing.is_over else [opening]
        hint = ", interrupting (Ctrl+C again stops at once)" if self.is_ending else " (Ctrl+C interrupts)"
        return [f"{self.turn.state.clock():.1f} s{hint}"]


def _nothing(_: str) -> None:
    pass


def _is_news(record: logging.LogRecord) -> bool:
    """Not so the failure of a stage in one line: the turn tells it as an event, which is shown."""
    return not (record.levelno == logging.ERROR and record.exc_info is None and hasattr(record, "stage"))
