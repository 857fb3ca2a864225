"""A conversation in a terminal: questions in, their turns shown one after the other."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import attrs
import msgspec
import trio

from ..client import Client, ClientError
from ..errors import SettingsError
from ..items import Audio
from .inputs import Inputs, sound_of
from .recording import Recording
from .screen import Screen
from .timeline import Chart

__all__ = ["Talk"]

LEFT = 130  # as a shell says it of who was ended by Ctrl+C


@attrs.define(eq=False)
class Talk:
    """`ezflow talk`: `wav` is asked, or else what comes on standard input, line by line.

    Ctrl+C interrupts the turn that runs; again, or while none runs, it leaves.
    """

    client: Client
    entry: int | str | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict)
    wav: Path | None = None
    save: Path | None = None
    timeline: bool = True
    _screen: Screen = attrs.field(init=False)
    _recording: Recording | None = attrs.field(init=False)
    _flow: Mapping[str, Any] = attrs.field(factory=dict, init=False)
    _turn_runs: bool = attrs.field(default=False, init=False)
    _interrupted: bool = attrs.field(default=False, init=False)
    _code: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal may know fewer characters than a model
        self._screen = Screen(sys.stdout, sys.stderr)
        self._recording = Recording(self.save) if self.save else None

    async def run(self) -> int:
        """Talk to the end. Returns: the exit code. Raises: ClientError; SettingsError; OSError."""
        sound = sound_of(self.wav.read_bytes(), self.wav) if self.wav else None
        failure: Exception | None = None
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._heed, signals, nursery)
                try:
                    await self._converse(sound)
                except Exception as error:  # noqa: BLE001  (raised again below, not in a group)
                    failure = error
                nursery.cancel_scope.cancel()
        if isinstance(failure, BrokenPipeError):  # who reads the answer wants no more of it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        if failure is not None:
            raise failure
        return self._code

    async def _heed(self, signals: Any, nursery: trio.Nursery) -> None:
        """Ctrl+C: first the turn, then all."""
        async for _ in signals:
            if not self._turn_runs or self._interrupted:
                self._code = LEFT
                nursery.cancel_scope.cancel()
                return
            self._interrupted = True
            self._screen.note("interrupting the answer (Ctrl+C again leaves)")
            nursery.start_soon(self._interrupt)

    async def _interrupt(self) -> None:
        try:
            if self._turn_runs:
                await self.client.interrupt()
        except ClientError as error:
            if self._turn_runs:  # else it has ended meanwhile, and with it perhaps the conversation
                self._screen.note(f"not interrupted: {error}")

    async def _converse(self, sound: Audio | None) -> None:
        async with self.client:
            self._flow = await self.client.flow()
            if sound is not None:
                await self._ask(sound)
                return
            inputs = Inputs(sys.stdin.fileno())
            typed = sys.stdin.isatty()
            if typed:
                self._screen.note(f"{self.client.url}: {self._drawn}. Ctrl+C interrupts an answer, Ctrl+D leaves.")
                self._screen.prompt()
            while (question := await inputs.next()) is not None:
                try:
                    await self._ask(question)
                except ClientError as error:
                    if not typed:
                        raise
                    self._screen.note(f"{error}")
                if typed:
                    self._screen.prompt()

    @property
    def _drawn(self) -> str:
        return " -> ".join(stage["name"] for stage in self._flow["stages"])

    async def _ask(self, question: str | Audio) -> None:
        """One turn."""
        chart, ended = Chart(), False
        entry, data = self._addressed(question)
        self._turn_runs, self._interrupted = True, False
        try:
            turn = self.client.turn(data, entry=entry, options=self.options, timeline=self.timeline)
            async with turn as events:
                async for event in events:
                    chart.take(event)
                    self._screen.show(event)
                    if self._recording:
                        self._recording.take(event)
                    ended = event.type == "turn.ended"
                    if event.reason in ("error", "timeout"):
                        self._code = 1
        finally:
            self._turn_runs = False
            written = self._recording.end() if self._recording else []
            if ended and self.timeline:
                width = min(100, shutil.get_terminal_size().columns - 1)
                for line in chart.lines([stage["name"] for stage in self._flow["stages"]], width):
                    self._screen.note(line)
            for path in written:
                self._screen.note(f"saved: {path}")

    def _addressed(self, question: str | Audio) -> tuple[int | str, Any]:
        """The stage that a question is for, and what it is sent.

        By default that is the first stage that takes sound, or text; else the first that takes any JSON.
        Raises: SettingsError if there is none.
        """
        kind = "audio" if isinstance(question, Audio) else "text"
        stages = self._flow["stages"]
        asked = [stage for stage in stages if self.entry in (stage["index"], stage["name"])]
        if self.entry is not None and not asked:
            return self.entry, question  # the server says which there are
        fits = asked or [stage for word in (kind, "json") for stage in stages if stage["takes"] == word]
        if not fits:
            raise SettingsError(f"no stage of {self._drawn} takes {'sound' if kind == 'audio' else 'text'}.")
        stage = fits[0]
        is_json = stage["takes"] == "json" and isinstance(question, str)
        return stage["index"], _json(question) if is_json else question


def _json(line: str | Audio) -> Any:
    """A line as the JSON that it is, or as the text that it is."""
    try:
        return msgspec.json.decode(line)  # type: ignore[arg-type]
    except msgspec.DecodeError:
        return line
