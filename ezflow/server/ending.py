"""The end of the process that a signal asks for: it comes, whatever modules do."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from types import FrameType

import trio

from ..observe.frames import line_of, module_in, running_in

__all__ = ["Ending", "end_of_threads"]

log = logging.getLogger("ezflow.server")

# How long the last line of the log may take: whoever reads the log may have stopped.
TELLING_S = 1.0


class Ending:
    """Hears SIGINT and SIGTERM while it is `heeded`: `asked` is set at the first, a second ends the process at once.

    So it does `within_s` after the first, with exit code 1, if the program has not left `heeded` by then: a stage or a
    module may ignore that it is cancelled, a thread cannot be ended, and the event loop may stand still. For that the
    signals are heard beside the loop, and waited on by a thread.

    A worker heeds no second one: it may get the same signal from its supervisor, and from who signals all processes of
    a terminal or a service. It is the supervisor that knows when there is no more patience.
    """

    def __init__(self, within_s: float, say: Callable[[str], None], *, is_worker: bool = False) -> None:
        self.asked = trio.Event()
        self.signum = 0  # the first
        self._within_s = within_s
        self._say = say
        self._is_worker = is_worker
        self._heard = SimpleQueue[bool]()  # its `put` may be called in the middle of anything, as handlers are
        self._is_asked = False
        self._left = threading.Event()

    @contextmanager
    def heeded(self) -> Generator[None, None, None]:
        """Hear the signals from here on. Raises: ValueError outside of the main thread."""
        self._token = trio.lowlevel.current_trio_token()
        before = {signum: signal.signal(signum, self._hear) for signum in (signal.SIGINT, signal.SIGTERM)}
        threading.Thread(target=self._watch, name="ezflow-ending", daemon=True).start()
        try:
            yield
        finally:
            self._left.set()
            self._heard.put(False)
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _hear(self, signum: int, _: FrameType | None) -> None:
        if not self._is_asked:
            self._is_asked = True
            self.signum = signum
            self._heard.put(True)
            self._token.run_sync_soon(self.asked.set)
            return
        if self._is_worker:
            return
        # A second signal waits for nothing, neither for stages nor for threads: it is the system's own.
        with suppress(RuntimeError):  # it may come in the middle of a print
            self._say("Stopped at once")
        signal.signal(signum, signal.SIG_DFL)
        signal.raise_signal(signum)

    def _watch(self) -> None:
        if self._heard.get() and not self._left.wait(min(self._within_s, threading.TIMEOUT_MAX)):
            task = running_in(threading.main_thread().ident)
            who = f"{module_in(task) or 'code of no module'}, at {line_of(task)}," if task else "what is named above"
            _end(f"{self._within_s:g} s after the signal {who} has not left: the process ends without it")


def end_of_threads(within_s: float) -> None:
    """See to it that the process, which has come to its end, ends within that time: with exit code 1, if it must.

    Python waits for threads that are no daemons for ever. Those that modules need belong under `trio.to_thread`.
    """
    threading.Thread(target=_outlast, args=(within_s,), daemon=True).start()


def _outlast(within_s: float) -> None:
    time.sleep(within_s)
    here = (threading.main_thread(), threading.current_thread())
    names = [thread.name for thread in threading.enumerate() if thread not in here and not thread.daemon]
    what = f"threads that a module has started do not end ({', '.join(names)})"
    _end(f"{what if names else 'Python does not come to its end'}: the process ends without that")


def _end(why: str) -> None:
    teller = threading.Thread(target=log.error, args=(why,), daemon=True)
    teller.start()
    teller.join(TELLING_S)
    os._exit(1)
