"""What is asked of a server, checked before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

import attrs

from .errors import Faults

__all__ = ["NAME", "Request", "checked", "instead", "parts_of", "target_of"]

NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
TARGET = re.compile(r"/[!\x22\x24-\x7e]*")
VALUE = re.compile(r"[\t\x20-\x7e]*")


@attrs.frozen
class Request:
    """All that is needed to ask, and to ask again."""

    method: str
    target: str
    headers: dict[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    user: str
    expect: str
    check: bool
    waits: tuple[float, float]
    faults: Faults
    urgent: bool = False


def parts_of(url: str) -> SplitResult:
    parts = urlsplit(url)
    shown = url.rpartition("@")[2].partition("?")[0]  # a query may hold a key
    try:
        fits = parts.scheme in ("http", "https") and parts.hostname and not parts.query and parts.port != 0
    except ValueError:
        fits = False
    if not fits or not url.isascii():
        raise ValueError(
            f"{shown!r} cannot be a server's URL: give one like http://127.0.0.1:11434 or https://host/v1."
        )
    return parts


def checked(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers by their names in lower case. Raises: ValueError, which does not show what may be a key."""
    for name, value in headers.items():
        if not NAME.fullmatch(name) or not VALUE.fullmatch(value) or value != value.strip():
            raise ValueError(
                f"The header {name!r} cannot be sent: its value must be ASCII without a line break or outer spaces "
                "(does a key that was read from a file or the environment end in a newline?)."
            )
    return {name.lower(): value for name, value in headers.items()}


def target_of(target: str, params: Mapping[str, Any] | None) -> str:
    if params:
        target += ("&" if "?" in target else "?") + urlencode(params, doseq=True)
    if not TARGET.fullmatch(target):
        raise ValueError(f"{target!r} cannot be a URL's path: begin it with / and quote what is not plain ASCII.")
    return target


def instead(headers: Mapping[str, str], expect: str) -> bool:
    """Whether an answer is a JSON or HTML document where something else was to come."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return bool(expect) and kind != expect and kind in ("application/json", "text/html")
