"""The event loop's lag, and a watchdog that names what blocks it.

All that a server does takes turns on one thread: a module that computes, reads a file or sleeps there holds up every
user. Such work belongs under `@module(blocking=True)`, or into `trio.to_thread`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from time import monotonic
from types import FrameType

import trio

from .frames import Spot, line_of, module_in, running_in, spot_in, stack_of
from .histogram import Histogram

__all__ = ["Lag"]

log = logging.getLogger("ezflow.server")

# How often the loop is measured. Each time costs some 20 µs.
BEAT_S = 0.1
LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
# How long the same culprit is not named again.
QUIET_S = 60.0
CULPRITS = 100


class Lag:
    """How late the loop comes to what is due, in seconds; to be kept running with `run`.

    What holds it up for longer than `block_s` is logged with its stack, the same culprit once a minute at most; 0 for
    never. For that a thread of its own looks at the loop's, some four times a second, for as long as `run` runs.
    """

    def __init__(self, block_s: float) -> None:
        self.block_s = block_s
        self.late = Histogram(LAG_S)
        self.last_s = 0.0
        self.blocks = 0
        self._max_s = 0.0
        self._max_since_taken_s = 0.0
        self._beat_at = monotonic()
        self._named_beat = 0.0
        self._named_at: dict[str, float] = {}

    @property
    def max_s(self) -> float:
        """The most that it was late since it runs."""
        return self._max_s

    def take_max_s(self) -> float:
        """The most that it was late since this was last asked."""
        most, self._max_since_taken_s = self._max_since_taken_s, 0.0
        return most

    async def run(self) -> None:
        """Measure, until it is cancelled."""
        with self._watched():
            while True:
                self._beat_at = monotonic()
                await trio.sleep(BEAT_S)
                self._note(max(0.0, monotonic() - self._beat_at - BEAT_S))

    def _note(self, late_s: float) -> None:
        self.late.add(late_s)
        self.last_s = late_s
        self._max_s = max(self._max_s, late_s)
        self._max_since_taken_s = max(self._max_since_taken_s, late_s)
        if self.block_s and late_s > self.block_s:
            self.blocks += 1
        if self._named_beat == self._beat_at:
            log.warning("the event loop goes on, after %.2f s", late_s)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        if not self.block_s:
            yield
            return
        stop, loop = threading.Event(), threading.get_ident()
        self._beat_at = monotonic()
        thread = threading.Thread(target=self._watch, args=(loop, stop), name="ezflow-watchdog")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _watch(self, loop: int, stop: threading.Event) -> None:
        """Look at the loop when a beat is overdue, twice; a new beat puts that off."""
        named = 0.0
        while True:
            beat_at = self._beat_at
            half = (monotonic() if beat_at == named else beat_at + BEAT_S) + self.block_s / 2
            if stop.wait(max(0.0, half - monotonic())):
                return
            if self._beat_at != beat_at or beat_at == named:
                continue
            before = _mark(running_in(loop))
            due = beat_at + BEAT_S + self.block_s
            if stop.wait(max(0.0, due - monotonic())):
                return
            if self._beat_at == beat_at:
                named = beat_at
                try:
                    self._look(running_in(loop), before, beat_at, monotonic() - due)
                except Exception:  # whatever stands in a frame: the next that blocks is to be named all the same
                    log.exception("the watchdog could not tell what holds up the event loop")

    def _look(self, task: Sequence[FrameType], before: object, beat_at: float, overslept_s: float) -> None:
        """Say what holds the loop up: what its thread is doing, if it did the same `before`."""
        late_s = monotonic() - beat_at - BEAT_S
        # Then this thread did not get to run in time either, and sees the loop's right after what let none run.
        all_stood = overslept_s > self.block_s / 2
        if task and (all_stood or _mark(task) == before):
            spot = spot_in(task)
            inner = task if spot is None else spot.inner
            who = _named(spot) if spot is not None else module_in(task) or "code that is no module's"
            other = " (all threads of the process stood still)" if all_stood else ""
            self._name(beat_at, late_s, f"{who}, at {line_of(inner)}{other}", stack_of(inner))
        elif all_stood:
            self._name(beat_at, late_s, "what let no thread of the process run: a busy or a sleeping machine?")
        else:
            self._name(beat_at, late_s, "many tasks, none of which takes that long alone: there is too much to do")

    def _name(self, beat_at: float, late_s: float, who: str, stack: str = "") -> None:
        now = monotonic()
        if now - self._named_at.get(who, -inf) < QUIET_S:
            return
        self._named_at.pop(who, None)
        self._named_at[who] = now
        if len(self._named_at) > CULPRITS:
            del self._named_at[next(iter(self._named_at))]
        self._named_beat = beat_at
        log.warning("the event loop is held up, for %.2f s by now, by %s%s", late_s, who, stack and f"\n{stack}")


def _named(spot: Spot) -> str:
    flow = f" of {spot.view.flow}" if spot.view.flow else ""
    return f"stage {spot.stage.name}{flow} ({type(spot.stage.module).__name__})"


def _mark(task: Sequence[FrameType]) -> object:
    """What tells a task from another, and keeps nothing of it."""
    return (id(task[0]), task[0].f_code) if task else None
