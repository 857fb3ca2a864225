"""A conversation in a terminal: questions in, their turns shown one after the other."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import trio

from ..client import Client, ClientError, ProtocolError, Received
from ..client.wire import part
from ..convert import structure
from ..errors import InputError, flat
from ..items import Audio
from .answer import Answer
from .inputs import Inputs, sound_in
from .questions import Stage, addressed
from .recording import Recording
from .screen import Screen, forget_reader

__all__ = ["Talk"]

LEFT = 130  # as a shell says it of who was ended by Ctrl+C


@attrs.define(eq=False)
class Talk:
    """`ezflow talk`: `wav` is asked, or else what comes on standard input, line by line.

    Ctrl+C interrupts the turn that runs; again, or while none runs, it leaves. The exit code is 130 then, and where
    the last turn was interrupted, if nobody is typing.
    """

    client: Client
    entry: int | str | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict)
    wav: Path | None = None
    save: Path | None = None
    timeline: bool = True
    _screen: Screen = attrs.field(init=False)
    _recording: Recording | None = attrs.field(init=False)
    _stages: list[Stage] = attrs.field(factory=list, init=False)
    _turn: Received | None = attrs.field(default=None, init=False)  # the one that runs
    _asking: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _interrupted: bool = attrs.field(default=False, init=False)
    _code: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._screen = Screen(sys.stdout, sys.stderr)
        self._recording = Recording(self.save) if self.save else None

    async def run(self) -> int:
        """Talk to the end. Returns: the exit code. Raises: ClientError; SettingsError; OSError."""
        sound = sound_in(self.wav) if self.wav else None
        failures: list[BaseException] = []
        try:
            with trio.open_signal_receiver(signal.SIGINT) as signals:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._heed, signals, nursery)
                    await self._converse(sound)
                    nursery.cancel_scope.cancel()
        except* Exception as group:  # noqa: BLE001  (raised again below, not in a group)
            failures = flat(group)
        if any(isinstance(failure, BrokenPipeError) for failure in failures):
            forget_reader(sys.stdout)
            return 1
        if failures:
            raise failures[0]
        return self._code

    async def _heed(self, signals: Any, nursery: trio.Nursery) -> None:
        """Ctrl+C: first the turn, then all."""
        async for _ in signals:
            if self._turn is None or self._interrupted:
                self._code = LEFT
                nursery.cancel_scope.cancel()
                return
            self._interrupted = True
            self._screen.note("interrupting the answer (Ctrl+C again leaves)")
            if self._turn.id:
                nursery.start_soon(self._interrupt)
            else:  # the server knows of no turn yet that could be interrupted
                self._asking.cancel()

    async def _interrupt(self) -> None:
        try:
            if self._turn is not None:
                await self.client.interrupt()
        except ClientError as error:
            if self._turn is not None:  # else it has ended meanwhile, and with it perhaps the conversation
                self._screen.note(f"not interrupted: {error}")

    async def _converse(self, sound: Audio | None) -> None:
        typed = sound is None and sys.stdin.isatty()
        async with self.client:
            self._stages = _stages(await self.client.flow())
            if sound is not None:
                await self._ask(sound)
            elif typed:
                await self._ask_who_types(Inputs(sys.stdin.fileno()))
            else:
                inputs = Inputs(sys.stdin.fileno())
                while (question := await inputs.next()) is not None:
                    await self._ask(question)
        if self._interrupted and not typed:
            self._code = LEFT

    async def _ask_who_types(self, inputs: Inputs) -> None:
        self._screen.note(f"{self.client.url}: {self._drawn}. Ctrl+C interrupts an answer, Ctrl+D leaves.")
        self._screen.prompt()
        while (question := await inputs.next()) is not None:
            try:
                await self._ask(question)
            except ClientError as error:
                self._screen.note(f"{error}")
            self._screen.prompt()

    @property
    def _drawn(self) -> str:
        return " -> ".join(stage.name for stage in self._stages)

    async def _ask(self, question: str | Audio) -> None:
        """One turn."""
        answer = Answer(self._screen, self._recording)
        entry, data = addressed(question, self.entry, self._stages)
        self._turn = self.client.turn(data, entry=entry, options=self.options, timeline=self.timeline)
        self._asking, self._interrupted = trio.CancelScope(), False
        try:
            with self._asking:
                async with self._turn as events:
                    await answer.follow(events)
        finally:
            self._turn = None
            if answer.failed:
                self._code = 1
            answer.close([stage.name for stage in self._stages] if self.timeline else None)


def _stages(flow: Mapping[str, Any]) -> list[Stage]:
    """The stages of a flow, as its server tells them. Raises: ProtocolError."""
    try:
        return [part(Stage, stage) for stage in structure(flow.get("stages"), list[dict[str, Any]], "stages")]
    except InputError as error:
        raise ProtocolError(f"the server does not say what its flow is: {error}.") from error
