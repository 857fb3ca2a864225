"""What every route answers when something does not fit: a status, and a body that says where and why."""

from __future__ import annotations

from typing import Any

import msgspec
from quart import Response, request

from ..convert import structure
from ..errors import EntryError, InputError, ItemTypeError, SessionsFull, StageStuck, TurnClosedError
from .encode import encoder

__all__ = ["REFUSED", "BadRequest", "answer", "read_json", "refusal"]


class BadRequest(Exception):
    """A request that cannot be read at all: its status, and what to send instead."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def answer(body: Any, status: int = 200, **headers: str) -> Response:
    """A JSON response."""
    response = Response(encoder.encode(body), status, content_type="application/json")
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response


# What is the request's own fault, or the moment's: everything else is ours, and answered 500.
REFUSED = (BadRequest, InputError, EntryError, ItemTypeError, SessionsFull, StageStuck, TurnClosedError)


def refusal(error: Exception) -> Response:
    """The response to one of REFUSED."""
    name = type(error).__name__
    if isinstance(error, BadRequest):
        return answer({"error": name, "message": str(error)}, error.status)
    if isinstance(error, InputError):
        return answer({"error": name, "path": error.path, "message": error.problem}, 422)
    if isinstance(error, EntryError | ItemTypeError):
        path = "entry" if isinstance(error, EntryError) else "input"
        return answer({"error": name, "path": path, "message": str(error)}, 422)
    return answer({"error": name, "message": str(error)}, 503, Retry_After="1")


async def read_json(cls: type, max_bytes: int) -> Any:
    """The request's body as an instance of an attrs class. Raises: BadRequest; InputError."""
    length = request.content_length
    if length is not None and length > max_bytes:
        raise BadRequest(413, f"the body has {length} bytes; at most {max_bytes} are taken.")
    body = bytearray()
    # Quart's own limit does not hold for a chunked body: it is switched off (app.py), and counted here.
    async for chunk in request.body:
        body += chunk
        if len(body) > max_bytes:
            raise BadRequest(413, f"the body has more than {max_bytes} bytes.")
    try:
        payload = msgspec.json.decode(bytes(body))
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(400, f"the body is not JSON: {error}.") from error
    except UnicodeDecodeError as error:
        raise BadRequest(400, f"the body is not UTF-8: {error}.") from error
    return structure(payload, cls, "")
