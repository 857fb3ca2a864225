"""What must not stand in a log: secrets, and what users say.

A `Redactor` knows `SECRETS`, what this process has taken as secret, also since the redactor was made; it hides them
wherever they stand. What else looks like a secret it knows by its place (a key named `password`, a bearer token, the
user of a URL). What is long is a payload: it is cut, and sound is only counted. Hiding too much is no fault; a log that
is read by many must not be a way in.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from typing import Any
from urllib.parse import quote, unquote, urlsplit

__all__ = ["HIDDEN", "SECRETS", "SECRET_NAME", "Redactor", "secrets_of_environment", "secrets_of_modules"]

HIDDEN = "***"
# What this process has taken as secret: every redactor hides it from then on.
SECRETS: set[str] = set()
# Longer texts are payloads: their beginning is kept.
LONG = 1000
BEGINNING = 300
# What of a text is looked at, and how many lines of a traceback are kept at each of its ends.
LOOKED_AT = 16 * 1024
LINES = 100
# How far into what a record holds.
DEPTH = 4
ITEMS = 30
# What is shorter would be hidden in other words too. Of the environment only the name says that it is a secret.
SHORTEST = 4
SHORTEST_GUESSED = 8

NAME = r"authori[sz]ation|cookie|token|secret|passw(?:or)?d|passphrase|credential|(?:api|access|private)[-_]?key"
SECRET_NAME = re.compile(rf"{NAME}|signature|(?:^|[-_.])(?:key|pwd|pass|auth|sig)$", re.IGNORECASE)
COUNT_NAME = re.compile(r"tokens$", re.IGNORECASE)  # max_tokens=512 is none
PAYLOAD_NAME = re.compile(
    r"(?:^|_)(?:text|input|item|content|prompt|transcript|body|data|audio|pcm|answer|question|history|messages)s?$",
    re.IGNORECASE,
)
VARIABLE = re.compile(r"(?:^|_)(?:\w*KEY|TOKENS?|SECRETS?|PASSWORD|PASSWD|PASS|CREDENTIALS?)$", re.IGNORECASE)

_QUOTED = r"""b?"(?:[^"\\]|\\.)*+"|b?'(?:[^'\\]|\\.)*+'"""
_VALUE = rf"""{_QUOTED}|(?:(?:bearer|basic|digest)[ ;]\s*)?[^\s,;&"'()\[\]{{}}]+"""
# No quantifier but the last of a pattern is without bound: the text may be a stranger's.
COOKIE = re.compile(r"""\b((?:set-)?cookie["']?\s*[:=]\s*)[^\r\n]+""", re.IGNORECASE)
ASSIGNED = re.compile(rf"""((?:{NAME})[\w-]{{0,40}})(["']?\s*(?:=>|[:=])\s*)({_VALUE})""", re.IGNORECASE)
PAIR = re.compile(rf"""((["'])[\w-]{{0,40}}(?:{NAME})[\w-]{{0,40}}\2\s*,\s*)({_QUOTED})""", re.IGNORECASE)
BEARER = re.compile(r"\b(bearer[\s;:=]+)\S{6,}", re.IGNORECASE)
BASIC = re.compile(r"\b(basic )[A-Za-z0-9+/]{8,}={0,2}", re.IGNORECASE)
SUBPROTOCOL = re.compile(r"\b(token\.)[A-Za-z0-9!#$%&*+.^_|~-]{16,}")
USERINFO = re.compile(r"""(\b[a-z][a-z0-9+.-]{0,20}://)[^\s/"'<>]{0,1000}@""", re.IGNORECASE)
QUERY = re.compile(
    r"""([?&][\w.-]{0,40}(?:key|token|secret|passw|pwd|auth|sig|credential|code|session)[\w.-]{0,40}=)[^&\s"'<>#]+""",
    re.IGNORECASE,
)
KNOWN = re.compile(
    r"\b(?:(?:sk|pk|rk|app|hf|glpat|gh[pousr]|xox[a-z])[-_][\w-]{16,}|AKIA[A-Z0-9]{12,}|eyJ[\w-]{8,2000}\.[\w-]{8,}[\w.-]*)"
)
ENCODED = re.compile(r"[A-Za-z0-9+/_-]{160,}={0,2}")
NOTHING = re.compile("(?!)")
QUOTED_AT_LENGTH = re.compile(r"""(?<!\w)b?(?:"(?:[^"\\\n]|\\.){121,}+"|'(?:[^'\\\n]|\\.){121,}+')(?!\w)""")


class Redactor:
    """Takes secrets and payloads out of texts, and out of whatever a log record holds.

    It knows each of `SECRETS` in its forms: as it is, and quoted for Python, JSON and a URL; of one of several lines,
    each line. One of fewer than 4 characters it leaves: it would be cut out of other words.
    """

    def __init__(self) -> None:
        self._known = frozenset[str](), NOTHING, 0  # of SECRETS, those as a pattern, the length of the longest

    def text(self, text: str) -> str:
        """One text, cut where it is long."""
        shown = self._hidden(text)
        return shown if len(shown) <= LONG else f"{shown[:BEGINNING]}… ({len(text)} characters)"

    def whole(self, text: str) -> str:
        """One text without the secrets that it knows: nothing is guessed, and nothing cut."""
        secrets, _ = self._learned()
        return secrets.sub(HIDDEN, text)

    def traceback(self, text: str) -> str:
        """A text of many lines: each is cut where it is long, and of too many the middle is left out."""
        lines = text.splitlines()
        if (others := len(lines) - 2 * LINES) > 0:
            lines[LINES:-LINES] = [f"… ({others} lines)"]
        return "\n".join(map(self.text, lines))

    def field(self, name: str, value: object, depth: int = 0) -> Any:
        """What a record may hold under a name, as what JSON knows."""
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        is_number = isinstance(value, bool | int | float)
        if value is None or (COUNT_NAME.search(name) and is_number):
            return value
        if SECRET_NAME.search(name):
            return HIDDEN
        if is_number:
            return self._number(value)
        if isinstance(value, str):
            return f"<{len(value)} characters>" if PAYLOAD_NAME.search(name) else self.text(value)
        if isinstance(value, Mapping) and depth < DEPTH:
            some = list(value.items())[:ITEMS]
            return {self.text(str(key)): self.field(str(key), inner, depth + 1) for key, inner in some}
        if isinstance(value, list | tuple | set | frozenset) and depth < DEPTH:
            return [self.field(name, inner, depth + 1) for inner in list(value)[:ITEMS]]
        if PAYLOAD_NAME.search(name):
            return f"<{type(value).__name__}>"
        return self.text(repr(value))

    def _learned(self) -> tuple[re.Pattern[str], int]:
        """What has been taken as secret until now, as a pattern, and the length of the longest.

        Several threads may learn at once: what they know is set, and read, in one piece, and all see whether one has
        come late.
        """
        known, pattern, longest = self._known
        if known == SECRETS:
            return pattern, longest
        known = frozenset(SECRETS)  # another thread may add to them meanwhile
        secrets = {line for secret in known for line in (secret, *secret.splitlines())}
        forms = {form for secret in secrets if len(secret) >= SHORTEST for form in _forms(secret)}
        ordered = sorted(forms, key=len, reverse=True)  # of two that begin alike the longer
        pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else NOTHING
        longest = len(ordered[0]) if ordered else 0
        self._known = known, pattern, longest
        return pattern, longest

    def _number(self, value: Any) -> Any:
        secrets, _ = self._learned()
        if secrets.search(str(value)):
            return HIDDEN
        return value if isfinite(value) else str(value)

    def _hidden(self, text: str) -> str:
        secrets, longest = self._learned()
        looked_at = secrets.sub(HIDDEN, text[:LOOKED_AT])
        if len(text) > LOOKED_AT:
            looked_at = looked_at[: -longest or None]  # where it was cut may have been within a secret
        looked_at = COOKIE.sub(rf"\1{HIDDEN}", looked_at)
        looked_at = USERINFO.sub(rf"\1{HIDDEN}@", looked_at)
        looked_at = QUERY.sub(rf"\1{HIDDEN}", looked_at)
        looked_at = PAIR.sub(rf"\1{HIDDEN}", looked_at)
        looked_at = ASSIGNED.sub(_assigned, looked_at)
        looked_at = BEARER.sub(rf"\1{HIDDEN}", looked_at)
        looked_at = BASIC.sub(rf"\1{HIDDEN}", looked_at)
        looked_at = SUBPROTOCOL.sub(rf"\1{HIDDEN}", looked_at)
        looked_at = KNOWN.sub(HIDDEN, looked_at)
        looked_at = ENCODED.sub(lambda found: f"<{len(found[0])} characters>", looked_at)
        return QUOTED_AT_LENGTH.sub(_beginning, looked_at)


def _assigned(found: re.Match[str]) -> str:
    name, between, value = found.groups()
    return found[0] if COUNT_NAME.search(name) and value.isdecimal() else f"{name}{between}{HIDDEN}"


def _beginning(found: re.Match[str]) -> str:
    quoted = found[0]
    return f"{quoted[:41]}…{quoted[-1]} ({len(quoted)} characters)"


def _forms(secret: str) -> set[str]:
    """How a secret looks: as it is, in a Python literal, in JSON, in a URL."""
    quoted = {secret, repr(secret)[1:-1], ascii(secret)[1:-1], json.dumps(secret)[1:-1]}
    quoted |= {json.dumps(secret, ensure_ascii=False)[1:-1], secret.replace("\\", "\\\\").replace("'", "\\'")}
    try:
        return quoted | {quote(secret), quote(secret, safe="")}
    except UnicodeEncodeError:
        return quoted


def secrets_of_environment(environment: Mapping[str, str] = os.environ) -> set[str]:
    """The values of the variables whose names say that they are secrets, and the passwords of the proxies' URLs."""
    found: set[str] = set()
    for name, value in environment.items():
        if VARIABLE.search(name) and len(value) >= SHORTEST_GUESSED:
            found.add(value)
        elif "://" in value:
            found.update(_secrets_of_url(value))
    return found


def secrets_of_modules(modules: Iterable[object], environment: Mapping[str, str] = os.environ) -> set[str]:
    """What the fields of modules hold, or name: `password`, `api_key_env`, the password and the query of a URL."""
    found: set[str] = set()
    for module in modules:
        for field in getattr(type(module), "__attrs_attrs__", ()):
            value = getattr(module, field.name, None) if field.init else None
            if not isinstance(value, str):
                continue
            if field.name.endswith("_env"):
                found.add(environment.get(value, ""))
            elif SECRET_NAME.search(field.name):
                found.add(value)
            elif "://" in value:
                found.update(_secrets_of_url(value))
    return found - {""}


def _secrets_of_url(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    if parts.password:
        yield parts.password
        yield unquote(parts.password)
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        if value and (SECRET_NAME.search(name) or len(value) >= SHORTEST_GUESSED):
            yield value
            yield unquote(value)
