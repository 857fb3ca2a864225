"""What every route answers when something does not fit: a status, and a body that says where and why."""

from __future__ import annotations

from typing import Any

import msgspec
from quart import Response, request

from ..convert import structure
from ..errors import EntryError, InputError, ItemTypeError
from .encode import encoder
from .refusals import BadRequest, headers_of, status_of

__all__ = ["answer", "read_body", "read_json", "refusal"]


def answer(body: Any, status: int = 200, **headers: str) -> Response:
    """A JSON response."""
    response = Response(encoder.encode(body), status, content_type="application/json")
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response


def refusal(error: Exception) -> Response:
    """The response to one of REFUSED: what is wrong, and where."""
    body = {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, InputError):
        body |= {"path": error.path, "message": error.problem}
    elif isinstance(error, EntryError | ItemTypeError):
        body["path"] = "entry" if isinstance(error, EntryError) else "input"
    return answer(body, status_of(error), **headers_of(error))


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
