"""Why something is not done: what a route raises, and the status that goes with it. Knows nothing of Quart."""

from __future__ import annotations

import math

from ..errors import (
    EntryError,
    InputError,
    ItemTypeError,
    SessionBusy,
    SessionsFull,
    StageStuck,
    StoreError,
    TurnClosedError,
)

__all__ = ["REFUSED", "BadRequest", "Forbidden", "Refused", "ShuttingDown", "TooManyRequests", "Unauthorized"]
__all__ += ["headers_of", "status_of"]


class Refused(Exception):
    """What is asked for is not done: the status, what to do instead, and when to come again, if that helps."""

    status = 400
    come_again_s: float | None = None

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        if status is not None:
            self.status = status


class BadRequest(Refused):
    """A request that cannot be read at all."""


class Unauthorized(Refused):
    """Nobody knows who asks."""

    status = 401


class Forbidden(Refused):
    """Who asks may not do it."""

    status = 403


class TooManyRequests(Refused):
    """A user asks more often than the server allows."""

    status = 429

    def __init__(self, user: str, wait_s: float) -> None:
        super().__init__(f"{user!r} asks too often: the next request is due in {math.ceil(wait_s)} s.")
        self.come_again_s = wait_s


class ShuttingDown(Refused):
    """The server takes no new turns."""

    status = 503
    come_again_s = 1.0

    def __init__(self) -> None:
        super().__init__("the server is shutting down.")


# What is the request's own fault, or the moment's: everything else is ours, and answered 500.
UNFIT = (InputError, EntryError, ItemTypeError)
REFUSED = (Refused, *UNFIT, SessionBusy, SessionsFull, StageStuck, StoreError, TurnClosedError)


def status_of(error: BaseException) -> int:
    """The status that goes with one of REFUSED."""
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, UNFIT):
        return 422
    return 429 if isinstance(error, SessionBusy) else 503


def headers_of(error: Exception) -> dict[str, str]:
    """What the response says beyond its body: when to come again, or how to show who one is."""
    if isinstance(error, Unauthorized):
        return {"WWW_Authenticate": "Bearer"}
    if isinstance(error, Refused):
        return {} if error.come_again_s is None else {"Retry_After": str(math.ceil(error.come_again_s))}
    return {"Retry_After": "1"} if status_of(error) in (429, 503) else {}
