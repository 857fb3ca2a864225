"""ezflow/testing/watchdog.py: what may never end has its verdict, and costs nothing from then on."""

from __future__ import annotations

import sys
import threading
import time

import pytest
import trio
import trio.testing

from ezflow.testing.watchdog import Watchdog


async def waits() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def spins() -> None:
    while True:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("suite", [waits, spins])
def test_a_run_that_is_given_up_stands_still(suite):
    before = set(threading.enumerate())
    watchdog = Watchdog(patience_s=0.05)
    watchdog.expect(TimeoutError("it goes no further"))
    with pytest.raises(TimeoutError, match="it goes no further"):
        watchdog.run(suite, trio.testing.MockClock(autojump_threshold=0))
    [left] = set(threading.enumerate()) - before
    until = time.monotonic() + 10
    while "_stand_still" not in functions_of(left):
        assert time.monotonic() < until, functions_of(left)


def functions_of(thread: threading.Thread) -> list[str]:
    frame, names = sys._current_frames()[thread.ident], []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names
