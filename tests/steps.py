"""Something happens at one step of trio's tasks: so tests have it happen at each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

__all__ = ["Steps", "at_step"]


class Steps(trio.abc.Instrument):
    """Counts steps of tasks."""

    def __init__(self, at: int, then: Callable[[], object], below: trio.Nursery | None) -> None:
        self._at, self._then, self._below = at, then, below
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._below is None or _is_below(self._below, task):
            self.count += 1
            if self.count == self._at:
                self._then()


@contextmanager
def at_step(number: int, then: Callable[[], object], below: trio.Nursery | None = None) -> Iterator[Steps]:
    """In the block, call back at that step of all tasks, or of those below a nursery; at none, if it is 0."""
    steps = Steps(number, then, below)
    trio.lowlevel.add_instrument(steps)
    try:
        yield steps
    finally:
        trio.lowlevel.remove_instrument(steps)


def _is_below(wanted: trio.Nursery, task: trio.lowlevel.Task) -> bool:
    nursery = task.parent_nursery
    while nursery is not None and nursery is not wanted:
        nursery = nursery.parent_task.parent_nursery
    return nursery is not None
