"""One turn of a flow in this process, as a command."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import attrs
import trio

from ..client.wire import as_input
from ..errors import EzflowError, FlowError, InputError, SettingsError, StageStuck, flat
from ..events import Event
from ..flow import Flow
from ..flow import cut as cut_flow
from ..items import Audio
from ..open_turn import Limits, OpenTurn
from ..rendering import rendered, takes_colours
from ..request import entry_index, read_options, takes
from ..server.encode import encode_line
from ..server.secrets import secrets_of
from ..service import open_flows
from ..session import Session
from ..stage import stages_of
from .answer import Answer
from .board import Board
from .columns import cut
from .progress import Progress
from .questions import Stage, addressed
from .recording import Recording
from .screen import Screen, forget_reader, lenient, told_fault

__all__ = ["Once"]

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
class Once:
    """`ezflow run`: opens a flow, asks it one question, and closes it.

    The reply alone goes to `out`, all else to `notes`: on a terminal lines that show what each stage is doing, drawn
    anew as it changes; elsewhere a line when a stage first works and first gives, and those lines at the end.
    Ctrl+C (or SIGTERM) interrupts the turn and releases the modules; a second one ends the program at once.
    Raises: FlowError; SettingsError for a question, an entry or options that do not fit, or a file that cannot be
    written.
    """

    name: str
    flow: Flow[Any, Any]
    question: str | Audio
    entry: int | str | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict)
    user: str = "run"
    limits: Limits = attrs.field(factory=Limits)
    save: Path | None = None
    json: bool = False
    progress: bool = True
    timeline: bool = False
    out: TextIO = attrs.field(factory=lambda: sys.stdout)
    notes: TextIO = attrs.field(factory=lambda: sys.stderr)
    _entered: Flow[Any, Any] = attrs.field(init=False)  # from the stage on that is asked
    _data: Any = attrs.field(init=False)
    _stages: list[str] = attrs.field(init=False)
    _recording: Recording | None = attrs.field(init=False)
    _doing: Progress = attrs.field(init=False)
    _board: Board | None = attrs.field(default=None, init=False)
    _screen: _Reply = attrs.field(init=False)
    _answer: Answer = attrs.field(init=False)
    _session: Session | None = attrs.field(default=None, init=False)
    _turn: OpenTurn | None = attrs.field(default=None, init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _began: float = attrs.field(default=0.0, init=False)
    _told_to_end: bool = attrs.field(default=False, init=False)
    _code: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        report = self.flow.check()
        if not report.ok:
            raise FlowError(report)
        told = [Stage(stage.index, stage.name, takes(stage)) for stage in report.stages]
        entry, self._data = addressed(self.question, self.entry, told)
        try:
            index = entry_index(entry, report.stages)
            read_options(self.options, report.stages)
        except EzflowError as error:
            raise SettingsError(str(error)) from error
        entered = cut_flow(report.flow, index, len(report.stages))
        assert entered is not None
        self._entered = entered
        self._stages = [stage.name for stage in stages_of(entered)]
        self._recording = Recording(self.save) if self.save else None

    async def run(self) -> int:
        """Returns: the exit code. Raises: ModuleOpenError; StoreError; SettingsError; OSError."""
        failures: list[BaseException] = []
        self._began = trio.current_time()
        try:
            with self._shown(), trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._heed, signals, nursery)
                    if self._board is not None:
                        nursery.start_soon(self._draw, self._board)
                    with self._scope:
                        await self._ask()
                    nursery.cancel_scope.cancel()
        except* Exception as group:  # noqa: BLE001  (raised again below, not in a group)
            failures = flat(group)
        if any(isinstance(failure, BrokenPipeError) for failure in failures):
            for stream in (self.out, self.notes):
                forget_reader(stream)
            return 1
        if failures:
            raise failures[0]
        return self._code

    @contextmanager
    def _shown(self) -> Iterator[None]:
        """What modules print and log does not tear the lines, nor the reply."""
        out, notes = lenient(self.out, self.notes)
        say = self._note if self.progress else _nothing
        if self.progress and notes.isatty() and os.environ.get("TERM") != "dumb":
            self._board = Board(out, notes, partial(self._lines, colours=takes_colours(notes)))
            out, notes, say = self._board.answer, self._board.notes, _nothing
        self._doing = Progress(self.name, self._stages, say)
        self._screen = _Reply(out, notes, as_json=self.json)
        self._answer = Answer(self._screen, self._recording)
        secrets = secrets_of({self.name: self.flow})
        with redirect_stdout(notes), redirect_stderr(notes), rendered(secrets=secrets, stream=notes):
            logging.getLogger().handlers[0].addFilter(_is_news)
            try:
                yield
            finally:
                self._close()

    def _close(self) -> None:
        self._doing.over()
        if self._board is not None:
            self._board.close()
        elif self.progress and self._turn is not None:
            for line in self._lines(WIDE, colours=False):
                self._screen.note(line)
        self._answer.close(self._stages if self.timeline else None)
        if self.progress and self._answer.chart.sound_s and not self.save:
            self._note("the sound was not kept: --save FILE.wav keeps it")
        for error in self._screen.errors:
            self._note(error)

    async def _ask(self) -> None:
        if self.progress:
            self._note(f"{self.name or 'flow'}: {self.flow.check().drawing}")
        limits = attrs.evolve(self.limits, instruments=(*self.limits.instruments, self._doing))
        # Stages before the entry are not opened: a typed question does not wait for the weights of speech recognition.
        async with open_flows({self.name: self._entered}, limits) as services:
            self._doing.opened()
            service = services[self.name]
            answered_to = {key for stage in service.stages for key in (stage.module.options_key, stage.name)}
            options = {key: value for key, value in self.options.items() if key in answered_to}
            async with service.session(self.user) as session:
                item = self._item(service.stages[0].module.decode)
                turn = session.turn(item, options=options, timeline=self.timeline)
                self._session, self._turn = session, turn
                async with turn as events:
                    await self._answer.follow(events)
        if self._answer.failed:
            self._code = self._code or 1
        if self._answer.reason == "timeout" and not turn.errors:
            late = ", ".join(self._doing.busy) or "no stage"
            self._screen.errors.append(f"error: no end within {limits.turn_s:g} s: {late} was working")

    def _item(self, decode: Any) -> Any:
        """What is asked, as a server would take it from a client."""
        try:
            return decode(as_input(self._data))
        except InputError as error:
            raise SettingsError(str(error)) from error
        except ValueError as error:
            raise SettingsError(f"input: {error}") from error

    async def _heed(self, signals: Any, nursery: trio.Nursery) -> None:
        async for signum in signals:
            if self._told_to_end:
                # A second signal waits for nothing, neither for stages nor for threads: it is the system's own.
                signal.signal(signum, signal.SIG_DFL)
                signal.raise_signal(signum)
            self._told_to_end, self._code = True, 128 + signum
            self._note("interrupting (Ctrl+C again stops at once)")
            if self._turn is None:
                self._scope.cancel()
            else:
                nursery.start_soon(self._interrupt)

    async def _interrupt(self) -> None:
        assert self._session is not None
        try:
            await self._session.interrupt()
        except StageStuck as error:
            self._note(str(error))

    async def _draw(self, board: Board) -> None:
        while True:
            board.draw()
            await trio.sleep(TICK_S)

    def _note(self, line: str) -> None:
        self._screen.note(line)

    def _lines(self, columns: int, *, colours: bool) -> list[str]:
        """A line for each stage, and how the turn stands."""
        if self._answer.reason is not None:
            said = [] if self.timeline else [self._answer.chart.figures]  # the timeline has them at its end
        elif self._turn is None or self._turn.state is None:
            if self._doing.is_over:
                return []
            said = [f"opening, {trio.current_time() - self._began:.1f} s (Ctrl+C ends it)"]
        elif self._told_to_end:
            said = [f"{self._turn.state.clock():.1f} s, interrupting (Ctrl+C again stops at once)"]
        else:
            said = [f"{self._turn.state.clock():.1f} s (Ctrl+C interrupts)"]
        return [*self._doing.lines(columns, colours=colours), *(cut(line, columns) for line in said)]


def _nothing(_: str) -> None:
    pass


def _is_news(record: logging.LogRecord) -> bool:
    """Not so the failure of a stage in one line: the turn tells it as an event, which is shown."""
    return not (record.levelno == logging.ERROR and record.exc_info is None and hasattr(record, "stage"))
