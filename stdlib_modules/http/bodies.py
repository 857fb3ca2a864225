"""What a request carries: JSON, bytes, a form, or files."""

from __future__ import annotations

import mimetypes
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import attrs
import msgspec

__all__ = ["NOTHING", "File", "Form", "body"]

NOTHING: Any = object()  # None is JSON too

Form = Mapping[str, str | int | float | Sequence[str]]


@attrs.frozen
class File:
    """A file to send. `type` is its media type; by default the name's ending says which."""

    content: bytes = attrs.field(repr=False)
    name: str = "file"
    type: str | None = None


def body(json: Any, content: bytes | None, form: Form | None, files: Mapping[str, File] | None) -> tuple[str, bytes]:
    """The media type and the bytes of a request; at most one of JSON, content and form (with or without files)."""
    if sum([json is not NOTHING, content is not None, form is not None or files is not None]) > 1:
        raise ValueError("A request has one body: give json, or content, or form and files.")
    if json is not NOTHING:
        return "application/json", msgspec.json.encode(json)
    if files is not None:
        boundary = secrets.token_hex(16)
        return f"multipart/form-data; boundary={boundary}", b"".join(_parts(boundary, form or {}, files))
    if form is not None:
        return "application/x-www-form-urlencoded", urlencode(dict(form), doseq=True).encode()
    return ("application/octet-stream" if content else ""), content or b""


def _parts(boundary: str, form: Form, files: Mapping[str, File]) -> Iterator[bytes]:
    opening = f'--{boundary}\r\nContent-Disposition: form-data; name="'
    for name, value in form.items():
        for one in [value] if isinstance(value, str | int | float) else value:
            yield f'{opening}{_quoted(name)}"\r\n\r\n{one}\r\n'.encode()
    for name, file in files.items():
        kind = file.type or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        yield f'{opening}{_quoted(name)}"; filename="{_quoted(file.name)}"\r\nContent-Type: {kind}\r\n\r\n'.encode()
        yield file.content
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _quoted(name: str) -> str:
    """A name as HTML 5 writes it into a part's header."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
