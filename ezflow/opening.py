"""Opening modules: acquired in parallel, released in reverse, each in a task of its own."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from .errors import ModuleOpenError
from .logs import failed
from .modules import FunctionModule, Module

__all__ = ["opened"]

log = logging.getLogger("ezflow")

# How long modules may open until it is said which do; then twice as long, and so on.
PATIENCE_S = 10.0


@asynccontextmanager
async def opened(
    modules: Iterable[Module[Any, Any]], cleanup_s: float
) -> AsyncGenerator[Mapping[Module[Any, Any], Module[Any, Any]], None]:
    """Open a copy of each different module, and say which copy stands for which module.

    The lifespans are entered in parallel and left one after the other, in reverse, each within `cleanup_s`;
    also when the block is cancelled. If one fails, those that are open are released, those that are opening
    are cancelled.
    Raises: ModuleOpenError naming the module; if several failed, the first, with the rest as its `others`.
    """
    copies = {module: _copy(module) for module in modules}
    holders = [_Holder(module) for module in copies.values() if type(module).lifespan is not Module.lifespan]
    body_error: Exception | None = None
    async with trio.open_nursery() as nursery:
        news = _News(len(holders), nursery.cancel_scope)
        for holder in holders:
            nursery.start_soon(holder.hold, news)
        try:
            await _ready(news, holders)
            if not news.failures:
                yield copies
        except Exception as error:  # noqa: BLE001  (raised again below, outside the nursery, as it is)
            body_error = error
        finally:
            with trio.CancelScope(shield=True):
                try:
                    for holder in reversed(holders):
                        await holder.leave(cleanup_s)
                except BaseException:  # a second Ctrl+C: nothing waits any longer
                    for holder in holders:
                        holder.abandon()
                    raise
    if body_error is not None and all(failure.when == "could not close" for failure in news.failures):
        raise body_error  # it came first; what could not close is in the log
    if news.failures:
        raise news.failure()


async def _ready(news: _News, holders: Sequence[_Holder]) -> None:
    """Wait until all are open or one has failed, and say now and then whom for."""
    began, patience_s = trio.current_time(), PATIENCE_S
    while not news.event.is_set():
        with trio.move_on_at(began + patience_s):
            await news.event.wait()
            return
        names = ", ".join(holder.name for holder in holders if not holder.is_open)
        log.warning("%s: not open after %g s, still waiting", names, patience_s)
        patience_s *= 2


def _copy(module: Module[Any, Any]) -> Module[Any, Any]:
    if isinstance(module, FunctionModule):
        return module
    copy: Module[Any, Any] = attrs.evolve(module)  # type: ignore[misc]  # every decorated class is one of attrs'
    return copy


class _News:
    """What the holders tell the one who waits for them."""

    def __init__(self, expected: int, body: trio.CancelScope) -> None:
        self._waiting = expected
        self._body = body
        self.event = trio.Event()  # all are ready, or one has failed
        self.failures: list[ModuleOpenError] = []
        if not expected:
            self.event.set()

    def ready(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self.event.set()

    def failure(self) -> ModuleOpenError:
        """All failures as one."""
        first, *others = self.failures
        assert first.__cause__ is not None
        return ModuleOpenError(first.module, first.__cause__, first.when, others) if others else first

    def failed(self, failure: ModuleOpenError) -> None:
        self.failures.append(failure)
        self.event.set()
        if failure.when == "failed while open":
            self._body.cancel()  # what runs on this module cannot go on


class _Holder:
    """One module's lifespan, entered and left in the same task."""

    def __init__(self, module: Module[Any, Any]) -> None:
        self._module = module
        self.name = type(module).__name__
        self._scope = trio.CancelScope()
        self._release = trio.Event()
        self._done = trio.Event()
        self.is_open = False

    async def hold(self, news: _News) -> None:
        try:
            with self._scope:
                async with self._module.lifespan():
                    # From here on only `leave` ends it, so that the order of release holds under cancellation.
                    self._scope.shield = True
                    self.is_open = True
                    news.ready()
                    await self._release.wait()
        except Exception as error:  # noqa: BLE001  (it is logged, and goes on as a ModuleOpenError)
            when = "could not open"
            if self.is_open:
                when = "could not close" if self._release.is_set() else "failed while open"
            failure = ModuleOpenError(self.name, error, when)
            failed(log, error, "%s %s", failure.module, when)
            news.failed(failure)
        finally:
            self._done.set()

    def abandon(self) -> None:
        """End it now, in whatever it does."""
        self._release.set()
        self._scope.cancel()

    async def leave(self, within_s: float) -> None:
        self._release.set()
        if not self.is_open:
            self._scope.cancel()
        with trio.move_on_after(within_s):
            await self._done.wait()
            return
        log.error("%s was not released within %g s: cancelling it", self.name, within_s)
        self._scope.cancel()
        await self._done.wait()
