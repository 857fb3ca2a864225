"""Bearer tokens: who may use a server, and as which users."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import attrs

from ..errors import EzflowError

__all__ = ["Token", "find", "read_tokens", "tokens_of_environment"]

# A guess at a shorter one could come true; `python -c "import secrets; print(secrets.token_urlsafe())"` gives 43.
MIN_CHARS = 16
# What a header and a WebSocket subprotocol may both hold.
CHARS = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~/=-]+")


@attrs.frozen
class Token:
    """A token, known by its hash alone, and the users that its bearer may be: names, or patterns such as `team-*`."""

    digest: bytes = attrs.field(repr=False)
    users: tuple[str, ...] = ("*",)

    @classmethod
    def read(cls, line: str) -> Token:
        """A line of a token file: the token, then the users it stands for (any, if none is named).

        Raises: EzflowError, which does not tell the token.
        """
        secret, *users = line.split()
        if len(secret) < MIN_CHARS or not CHARS.fullmatch(secret):
            raise EzflowError(
                f"a token of {len(secret)} characters is no token: it needs at least {MIN_CHARS}, and only letters, "
                "digits and !#$%&'*+-.^_`|~/=. Make one: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        return cls(_digest(secret), tuple(users) or ("*",))

    def stands_for(self, user: str) -> bool:
        return any(fnmatchcase(user, pattern) for pattern in self.users)


def read_tokens(given: Iterable[Token | str]) -> tuple[Token, ...]:
    """Tokens, and lines of a token file; empty lines and those that begin with # are none. Raises: EzflowError."""
    lines = [line if isinstance(line, Token) else line.strip() for line in given]
    return tuple(
        line if isinstance(line, Token) else Token.read(line)
        for line in lines
        if isinstance(line, Token) or (line and not line.startswith("#"))
    )


def tokens_of_environment(environment: Mapping[str, str] = os.environ) -> tuple[Token, ...]:
    """The tokens of `EZFLOW_TOKENS` (separated by `;` or line ends) and of the file `EZFLOW_TOKENS_FILE`.

    Raises: EzflowError; OSError if the file cannot be read.
    """
    lines = re.split("[;\n]", environment.get("EZFLOW_TOKENS", ""))
    if path := environment.get("EZFLOW_TOKENS_FILE"):
        lines += Path(path).read_text(encoding="utf-8").splitlines()
    return read_tokens(lines)


def find(tokens: Iterable[Token], secret: str) -> Token | None:
    """The token that a client has shown. Each is compared, in a time that tells nothing of any."""
    shown, found = _digest(secret), None
    for token in tokens:
        if hmac.compare_digest(token.digest, shown):
            found = token
    return found


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
