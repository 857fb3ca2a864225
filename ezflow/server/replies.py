"""What every route answers when something does not fit: a status, and a body that says where and why."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from quart import Response, request

from ..convert import structure
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
from .encode import encoder

__all__ = ["REFUSED", "BadRequest", "Forbidden", "Refused", "ShuttingDown", "TooManyRequests", "Unauthorized"]
__all__ += ["answer", "headers_of", "read_body", "read_json", "refusal", "status_of"]


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


def answer(body: Any, status: int = 200, **headers: str) -> Response:
    """A JSON response."""
    response = Response(encoder.encode(body), status, content_type="application/json")
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response


# What is the request's own fault, or the moment's: everything else is ours, and answered 500.
UNFIT = (InputError, EntryError, ItemTypeError)
REFUSED = (Refused, *UNFIT, SessionBusy, SessionsFull, StageStuck, StoreError, TurnClosedError)


def refusal(error: Exception) -> Response:
    """The response to one of REFUSED: what is wrong, and where."""
    body = {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, InputError):
        body |= {"path": error.path, "message": error.problem}
    elif isinstance(error, EntryError | ItemTypeError):
        body["path"] = "entry" if isinstance(error, EntryError) else "input"
    return answer(body, status_of(error), **headers_of(error))


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


async def read_json(cls: type, max_bytes: int) -> Any:
    """The request's body as an instance of an attrs class. Raises: BadRequest; InputError."""
    body = await read_body(max_bytes)
    try:
        payload = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}.") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: {error}.") from error
    return structure(payload, cls, "")


async def read_body(max_bytes: int) -> bytes:
    """The request's body. Raises: BadRequest if it has more bytes."""
    length = request.content_length
    if length is not None and length > max_bytes:
        raise BadRequest(f"the body has {length} bytes; at most {max_bytes} are taken.", 413)
    body = bytearray()
    # Quart's own limit does not hold for a chunked body: it is switched off (app.py), and counted here.
    async for chunk in request.body:
        body += chunk
        if len(body) > max_bytes:
            raise BadRequest(f"the body has more than {max_bytes} bytes.", 413)
    return bytes(body)
