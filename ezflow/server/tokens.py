"""Bearer tokens: who may use a server, and as which users."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from errno import ENAMETOOLONG, ENOENT
from fnmatch import fnmatchcase
from pathlib import Path

import attrs

from ..errors import SettingsError

__all__ = ["Token", "find", "lines_of_environment", "read_file", "read_tokens", "secret_of", "tokens_of_environment"]

# A guess at a shorter one could come true; `python -c "import secrets; print(secrets.token_urlsafe())"` gives 43.
MIN_CHARS = 16
# What a header and a WebSocket subprotocol may both hold: `/` and `=` are for headers alone.
CHARS = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@attrs.frozen
class Token:
    """A token, known by its hash alone, and the users that its bearer may be: names, or patterns such as `team-*`."""

    digest: bytes = attrs.field(repr=False)
    users: tuple[str, ...] = ("*",)

    @classmethod
    def read(cls, line: str) -> Token:
        """A line of a token file: the token, then the users it stands for (any, if none is named).

        Raises: SettingsError, which does not tell the token.
        """
        secret, *users = line.split()
        if len(secret) < MIN_CHARS or not CHARS.fullmatch(secret):
            raise SettingsError(
                f"a token of {len(secret)} characters is no token: it needs at least {MIN_CHARS}, and only letters, "
                "digits and !#$%&'*+-.^_`|~. Make one: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        return cls(_digest(secret), tuple(users) or ("*",))

    def stands_for(self, user: str) -> bool:
        return any(fnmatchcase(user, pattern) for pattern in self.users)


def read_tokens(given: Iterable[Token | str]) -> tuple[Token, ...]:
    """Tokens, and lines of a token file; empty lines and those that begin with # are none.

    Raises: SettingsError, also for a token that is given twice, or if lines are given and none is a token.
    """
    lines = [given] if isinstance(given, str) else list(given)
    read = [line if isinstance(line, Token) else Token.read(line) for line in lines if not _is_blank(line)]
    if lines and not read:
        raise SettingsError("tokens were asked for, but none was given: who should be let in?")
    if len({token.digest for token in read}) < len(read):
        raise SettingsError("a token is given twice: name all of its users in one line.")
    return tuple(read)


def read_file(path: str | Path) -> list[str]:
    """The lines of a token file. Raises: SettingsError if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8-sig").splitlines() or [""]
    except OSError as error:
        if error.errno in (ENOENT, ENAMETOOLONG) and _may_be_tokens(str(path)):  # then it must not be repeated
            why = "a token file is needed, and what was given is none; a token itself goes into EZFLOW_TOKENS."
            raise SettingsError(why) from None
        raise SettingsError(f"the token file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"the token file {path} cannot be read: {error}") from error


def _may_be_tokens(path: str) -> bool:
    """Is it, or does it begin as, what EZFLOW_TOKENS takes?"""
    first = re.split(r"[;\s]", path.lstrip(), maxsplit=1)[0]
    return len(first) >= MIN_CHARS and CHARS.fullmatch(first) is not None and "." not in first


def _is_blank(line: Token | str) -> bool:
    return isinstance(line, str) and (not line.strip() or line.strip().startswith("#"))


def tokens_of_environment(environment: Mapping[str, str] = os.environ) -> tuple[Token, ...]:
    """The tokens of `EZFLOW_TOKENS` (separated by `;` or line ends) and of the file `EZFLOW_TOKENS_FILE`.

    Raises: SettingsError.
    """
    return read_tokens(lines_of_environment(environment))


def lines_of_environment(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The same as they are written. Raises: SettingsError."""
    given = environment.get("EZFLOW_TOKENS", "")
    lines = re.split("[;\n]", given) if given else []
    if path := environment.get("EZFLOW_TOKENS_FILE"):
        lines += read_file(path)
    return lines


def secret_of(line: Token | str) -> str:
    """What a log must not show of a line of a token file; empty if it holds none."""
    return "" if isinstance(line, Token) or _is_blank(line) else line.split()[0]


def find(tokens: Iterable[Token], secret: str) -> Token | None:
    """The token that a client has shown. Each is compared, in a time that tells nothing of any."""
    shown, found = _digest(secret), None
    for token in tokens:
        if hmac.compare_digest(token.digest, shown):
            found = token
    return found


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
