"""Running what may never end: in a thread of its own, which is given up when it is stuck."""

from __future__ import annotations

import contextvars
import queue
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import outcome
import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Watchdog"]

# Steps at one moment of trio's clock after which a run is taken for a loop without a pause.
SPIN = 50_000
# How long a run may take to unwind once its verdict is known, in real seconds.
GRACE_S = 1.0


class Watchdog(trio.abc.Instrument):
    """Runs a suite under trio, and raises what it means when the suite goes no further.

    A task that swallows its cancellation cannot be ended, and trio waits for it: then the run is left behind,
    parked so that it costs nothing, and its verdict is raised all the same.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._verdicts: queue.SimpleQueue[outcome.Outcome[Any]] = queue.SimpleQueue()
        self._expected: Exception = TimeoutError("the suite went no further")
        self._places = 0
        self._given_up = False
        self._steps = 0
        self._moment = 0.0

    def expect(self, error: Exception) -> None:
        """From here on, `error` is what it means when nothing goes on."""
        self._expected = error
        self._places += 1
        self._steps = 0

    def tell(self, error: Exception) -> None:
        """The verdict is known, whether or not the run can still end."""
        self._verdicts.put(outcome.Error(error))

    def run(self, suite: Callable[[], Awaitable[Any]], clock: trio.abc.Clock | None) -> Any:
        """Run the suite to its end or its verdict. Raises: what it raised or told, or what `expect` said."""
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._work, suite, clock), daemon=True)
        thread.start()
        verdict = self._verdict()
        if not self._given_up:
            thread.join(GRACE_S)
            self._given_up = thread.is_alive()
        return verdict.unwrap()

    def _work(self, suite: Callable[[], Awaitable[Any]], clock: trio.abc.Clock | None) -> None:
        self._verdicts.put(outcome.capture(partial(trio.run, suite, clock=clock, instruments=[self])))

    def _verdict(self) -> outcome.Outcome[Any]:
        while True:
            place = self._places
            try:
                return self._verdicts.get(timeout=self._patience_s)
            except queue.Empty:
                if place == self._places:
                    return outcome.Error(self._expected)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        now = trio.current_time()
        if now != self._moment:
            self._moment, self._steps = now, 0
        self._steps += 1
        if self._steps > SPIN:
            self._given_up = True
            self.tell(self._expected)
        self._stand_still()

    def before_io_wait(self, timeout: float) -> None:
        self._stand_still()  # a clock that jumps does not let a loop sleep, although no task has a step to do

    def _stand_still(self) -> None:
        if self._given_up:
            threading.Event().wait()  # nothing can end this loop
