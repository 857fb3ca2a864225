"""The seam at which the requests that stages make to other servers can be observed.

A client of a server tells of each request: `call = begin("POST", url)`; it sends `call.headers` too, and says when it
was answered and when it has ended. An observer is set for a task and those that it starts, so for a turn: two servers
in one process may be observed apart. Without one it costs three calls that do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar

__all__ = ["Call", "begin", "observer"]

NONE: Mapping[str, str] = {}


class Call:
    """One request as its observer sees it: override what you need; every method must return at once and not raise."""

    headers: Mapping[str, str] = NONE

    def answered(self, status: int) -> None:
        """The head of an answer has come."""

    def ended(self, error: BaseException | None) -> None:
        """It is over: its answer has been read or left; or it has failed, or been cancelled."""


NOBODY = Call()

# What is told of a request when it begins: its method, and its URL without what may be secret (user, query).
observer: ContextVar[Callable[[str, str], Call] | None] = ContextVar("ezflow.calls", default=None)


def begin(method: str, url: str) -> Call:
    """A request begins. Its `ended` must be called once, whatever happens."""
    watch = observer.get()
    return NOBODY if watch is None else watch(method, url)
