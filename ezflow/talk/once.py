"""One turn of a flow in this process, as a command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import trio

from ..check import Report
from ..client.wire import as_input
from ..errors import EzflowError, InputError, SettingsError, StageStuck, flat
from ..flow import Flow, cut
from ..items import Audio
from ..limits import Limits
from ..request import entry_index, read_options, takes
from ..server.ending import Ending
from ..service import open_flows
from ..session import Session
from ..stage import stages_of
from .display import Display
from .questions import Stage, addressed
from .screen import forget_reader

__all__ = ["Once"]

# After a signal, what stages and modules may take to leave.
LEAVING_S = 30.0


@attrs.define(eq=False, kw_only=True)
class Once:
    """`ezflow run`: opens a flow, asks it one question, and closes it.

    `report` is that of the flow, which has no faults. Ctrl+C (or SIGTERM) interrupts the turn and releases the
    modules; a second one ends the program at once, and so does time: what ignores its cancellation is left behind.
    Raises: SettingsError for a question, an entry or options that do not fit.
    """

    name: str
    report: Report
    question: str | Audio
    entry: int | str | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict)
    user: str = "run"
    limits: Limits = attrs.field(factory=Limits)
    display: Display = attrs.field(factory=Display)
    _entered: Flow[Any, Any] = attrs.field(init=False)  # from the stage on that is asked
    _data: Any = attrs.field(init=False)
    _session: Session | None = attrs.field(default=None, init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _code: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        report = self.report
        told = [Stage(stage.index, stage.name, takes(stage)) for stage in report.stages]
        entry, self._data = addressed(self.question, self.entry, told)
        try:
            index = entry_index(entry, report.stages)
            read_options(self.options, report.stages)
        except EzflowError as error:
            raise SettingsError(str(error)) from error
        if told[index].takes == "json" and isinstance(self._data, str) and self._data.lstrip().startswith(("{", "[")):
            raise SettingsError(f"{told[index].name} takes JSON, and this is none: {self._data[:60]}")
        entered = cut(report.flow, index, len(report.stages))
        assert entered is not None
        self._entered = entered

    async def run(self) -> int:
        """Returns: the exit code. Raises: ModuleOpenError; StoreError; SettingsError; OSError."""
        failures: list[BaseException] = []
        shown = self.display.shown(self.name, [stage.name for stage in stages_of(self._entered)])
        ending = Ending(LEAVING_S, say=_nothing)
        try:
            with shown, ending.heeded():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._heed, ending)
                    nursery.start_soon(self.display.draw)
                    with self._scope:
                        await self._ask()
                    nursery.cancel_scope.cancel()
        except* Exception as group:  # noqa: BLE001  (raised again below, not in a group)
            failures = flat(group)
        if any(isinstance(failure, BrokenPipeError) for failure in failures):
            for stream in (self.display.out, self.display.notes):
                forget_reader(stream)
            return 1
        if failures:
            raise failures[0]
        return self._code

    async def _ask(self) -> None:
        display = self.display
        if display.progress:
            first = stages_of(self._entered)[0]
            begins = f", from {first.name} on" if first.index else ""
            display.note(f"{self.name or 'flow'}: {self.report.drawing}{begins}")
        limits = attrs.evolve(self.limits, instruments=(*self.limits.instruments, display.doing))
        # Stages before the entry are not opened: a typed question does not wait for the weights of speech recognition.
        async with open_flows({self.name: self._entered}, limits) as services:
            display.doing.opened()
            service = services[self.name]
            answered_to = {key for stage in service.stages for key in (stage.module.options_key, stage.name)}
            options = {key: value for key, value in self.options.items() if key in answered_to}
            async with service.session(self.user) as session:
                item = self._item(service.stages[0].module.decode)
                turn = session.turn(item, options=options, timeline=display.timeline)
                self._session, display.turn = session, turn
                async with turn as events:
                    await display.answer.follow(events)
        if display.answer.failed:
            self._code = self._code or 1
        if display.answer.reason == "timeout" and not turn.errors:
            late = ", ".join(display.doing.busy) or "no stage"
            display.failed(f"error: no end within {limits.turn_s:g} s: {late} was working")

    def _item(self, decode: Callable[[Any], Any]) -> Any:
        """What is asked, as a server would take it from a client."""
        try:
            return decode(as_input(self._data))
        except InputError as error:
            raise SettingsError(str(error)) from error
        except ValueError as error:
            raise SettingsError(f"input: {error}") from error

    async def _heed(self, ending: Ending) -> None:
        await ending.asked.wait()
        self.display.is_ending, self._code = True, 128 + ending.signum
        self.display.note("interrupting (Ctrl+C again stops at once)")
        if self._session is None:
            self._scope.cancel()
        else:
            await self._interrupt(self._session)

    async def _interrupt(self, session: Session) -> None:
        try:
            await session.interrupt()
        except StageStuck as error:
            self.display.note(str(error))


def _nothing(_: str) -> None:
    pass
