"""Asking again: with growing pauses, where a server is not there or busy, and never once an answer has begun."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from .errors import BackendError

__all__ = ["attempted"]

log = logging.getLogger("ezflow")

T = TypeVar("T")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
JITTER_S = 0.1  # so that those who failed together do not all come again together


async def attempted(ask: Callable[[], Awaitable[T]], retries: int, end: float) -> T:
    """What `ask` gives, asked up to `retries` times more until `end`. Raises: what the last attempt did.

    The pauses are stamina's, 0.1 s and twice as long each time, or what the server says; each is logged. (stamina
    itself reports through hooks of the whole process, which name neither the server nor what it answered.) One that
    would end after `end`, or after the caller's own time (a budget), is not begun: what went wrong is told at once.
    """
    for nth in range(1, retries + 1):
        try:
            return await ask()
        except BackendError as error:
            pause_s, now, own_end = _pause_s(error, nth), trio.current_time(), trio.current_effective_deadline()
            if not error.transient or pause_s is None:
                raise
            if now + pause_s >= end or now < own_end <= now + pause_s:  # one that is cancelled learns it at the pause
                raise
            facts = {"server": error.server, "url": error.url, "attempt": nth, "pause_s": round(pause_s, 2)}
            told = "attempt %d of %d failed, the next is in %.1f s: %s"
            log.warning(told, nth, 1 + retries, pause_s, error, extra=facts)
        await trio.sleep(pause_s)
    return await ask()


def _pause_s(error: BackendError, nth: int) -> float | None:
    """How long to wait after the nth attempt; None where the server wants a longer pause than anyone has."""
    if error.retry_after_s is not None:
        return error.retry_after_s if error.retry_after_s <= LONGEST_PAUSE_S else None
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (nth - 1) + random.uniform(0, JITTER_S))  # noqa: S311
