"""Where conversations last: what a store does, and which one a URL names."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import unquote

import attrs

from .errors import SettingsError
from .history import Message

__all__ = ["Bounds", "Store", "open_store", "place_of"]


@attrs.frozen
class Bounds:
    """What a store keeps: `messages` and `chars` (characters) of each user, `size` bytes of all users."""

    messages: int
    chars: int
    size: int


@runtime_checkable
class Store(Protocol):
    """What histories are kept in, beyond the process. One of your own may be given as `store`, opened.

    The engine asks `load`, `append` and `delete` one at a time. It cancels what takes more than 10 s: each must have
    done all of its work then, or none. Whatever `Exception` one raises is told and logged as a StoreError; what was to
    be stored is given again with what comes next. `expire` may be asked at the same time, and may do a part.
    """

    async def load(self, user: str) -> Sequence[Message]:
        """The user's messages, oldest first."""
        ...

    async def append(self, said: Mapping[str, Sequence[Message]]) -> None:
        """Add messages of some users, each after those that the user has. When it returns, they last."""
        ...

    async def delete(self, user: str) -> int:
        """Delete all messages of a user; how many there were."""
        ...

    async def expire(self, before: float) -> int:
        """Delete what was said before that time (seconds since 1970), by whomever; how many messages there were."""
        ...


def place_of(url: str) -> Path:
    """The file that `sqlite:///relative.db` or `sqlite:////absolute.db` names. Raises: SettingsError."""
    match = re.fullmatch(r"sqlite:///([^?#]+)", url)
    if match is None:
        raise SettingsError(
            f"store={url!r} was given, but sqlite:///FILE is needed (with a fourth / for an absolute path)."
        )
    path = Path(unquote(match[1]))
    if path.is_dir():
        raise SettingsError(f"store: {path} is a folder: name a file in it, sqlite:///{path / 'history.db'}.")
    if not path.absolute().parent.is_dir():
        raise SettingsError(f"store: there is no folder {path.absolute().parent}: make it, or name a file elsewhere.")
    return path


def readable(_: object, field: attrs.Attribute[Any], value: Any) -> None:
    """A validator. Raises: SettingsError for what is neither a store's URL nor a store."""
    if isinstance(value, str):
        place_of(value)
    elif value is not None and not isinstance(value, Store):
        raise SettingsError(
            f"{field.name}={value!r} was given, but a URL is needed (sqlite:///history.db), or a Store."
        )


@asynccontextmanager
async def open_store(given: str | Store | None, bounds: Bounds) -> AsyncGenerator[Store | None, None]:
    """The store that a URL names; one that is given opened stays whose it is. Raises: SettingsError; StoreError."""
    if not isinstance(given, str):
        yield given
        return
    from .sqlite import open_sqlite

    async with open_sqlite(place_of(given), bounds) as store:
        yield store
