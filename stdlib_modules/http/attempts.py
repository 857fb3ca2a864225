"""Asking again: with growing pauses, where a server is not there or busy, and never once an answer has begun."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from ezflow import MissingDependency

from .errors import BackendError

__all__ = ["attempted", "ready"]

T = TypeVar("T")

LONGEST_PAUSE_S = 5.0


def ready(client: str, retries: int) -> None:
    """See that attempts can be made, when a client is opened. Raises: MissingDependency."""
    if retries:
        try:
            import stamina  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingDependency(f"{client}(retries=...)", "stamina", "http") from error


async def attempted(ask: Callable[[], Awaitable[T]], retries: int, end: float) -> T:
    """What `ask` gives, asked up to `retries` times more until `end`. Raises: what the last attempt did.

    A pause that the server asks for is not begun where the caller's own time (a budget) ends before it does: what went
    wrong is told at once.
    """
    if not retries:
        return await ask()
    import stamina

    def again(error: Exception) -> bool | float:
        if not (isinstance(error, BackendError) and error.transient) or trio.current_time() >= end:
            return False
        after = error.retry_after_s
        left_s = trio.current_effective_deadline() - trio.current_time()
        return True if after is None else after <= min(LONGEST_PAUSE_S, left_s) and after

    try:
        return await ask()
    except BackendError as error:
        failure: BackendError | None = error
    # Only now, since most requests are answered, and stamina's loop costs as much as one.
    attempts = stamina.retry_context(
        again, attempts=1 + retries, timeout=None, wait_max=LONGEST_PAUSE_S, wait_jitter=0.1
    )
    async for attempt in attempts:
        with attempt:
            if failure is not None:
                first, failure = failure, None
                raise first
            return await ask()
    raise AssertionError("the last attempt's error has been raised")
