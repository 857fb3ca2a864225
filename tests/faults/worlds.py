"""A trio run in a thread of its own, for what is no coroutine: hypothesis' state machines."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import outcome
import trio
import trio.testing

A_LITTLE_S = 1e-6  # beyond a deadline, so that it is over for certain


class World:
    """A trio run, and a nursery in it."""

    def __init__(self, clock: trio.abc.Clock | None = None) -> None:
        self._clock = clock
        self._stop = trio.Event()
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._result: outcome.Outcome[None] | None = None
        self._thread = threading.Thread(target=self._work)
        self.nursery: trio.Nursery

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """End it, and what is left in its nursery. Raises: what went wrong there."""
        if self._thread.is_alive():
            assert self._token is not None
            self._token.run_sync_soon(self._stop.set)
        self._thread.join()
        assert self._result is not None
        self._result.unwrap()

    def run(self, do: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Have it done. Raises: what it raises."""
        return trio.from_thread.run(do, *arguments, trio_token=self._token)

    def call(self, do: Callable[[], Any]) -> Any:
        """The same for what is no coroutine."""

        async def done() -> Any:
            return do()

        return self.run(done)

    def _work(self) -> None:
        self._result = outcome.capture(partial(trio.run, self._main, clock=self._clock))
        self._ready.set()

    async def _main(self) -> None:
        async with trio.open_nursery() as self.nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._ready.set()
            await self._stop.wait()
            self.nursery.cancel_scope.cancel()


class Virtual(World):
    """On a clock that stands still: what is asked of it is done, all that follows from it too, and time passes only
    when it is told to.
    """

    def __init__(self) -> None:
        self._mock = trio.testing.MockClock()
        super().__init__(self._mock)

    def run(self, do: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Have it done, and wait until all tasks wait. Raises: what it raises."""

        async def all_of_it() -> Any:
            result = await do(*arguments)
            await trio.testing.wait_all_tasks_blocked()
            return result

        return super().run(all_of_it)

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass, from deadline to deadline."""
        super().run(self._pass, seconds)

    async def _pass(self, seconds: float) -> None:
        end = trio.current_time() + seconds
        while (left := end - trio.current_time()) > 0:
            await trio.testing.wait_all_tasks_blocked()
            next_s = trio.lowlevel.current_statistics().seconds_to_next_deadline
            self._mock.jump(min(left, max(0.0, next_s) + A_LITTLE_S))
        await trio.testing.wait_all_tasks_blocked()
