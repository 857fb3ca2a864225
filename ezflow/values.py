"""`setting("OLLAMA_URL", "http://127.0.0.1:11434")`: what a flow's file takes from outside, so that one file deploys to
two places.

It has one name everywhere: `--set OLLAMA_URL=…`, else the environment's OLLAMA_URL, else OLLAMA_URL under `[values]` in
`ezflow.toml`, else the default. Its type is the default's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from typing import Any, TypeVar, overload

import attrs

from .errors import SettingsError
from .redaction import SECRETS

__all__ = ["Given", "Values", "nearest", "parse", "setting", "using"]

T = TypeVar("T", str, int, float, bool)

# What a shell takes as a variable, and TOML as a key, as it is.
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NEEDED = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@attrs.frozen
class Given:
    """A value, who gave it, and whether it must not be shown."""

    value: Any
    source: str
    is_secret: bool = False


@attrs.define(eq=False)
class Values:
    """What the files of flows are given: by `--set`, by the environment, by `[values]` in a file of settings.

    `asked` holds what was asked for by `setting`, in that order, and what it got.
    """

    said: Mapping[str, str] = attrs.field(factory=dict)
    environment: Mapping[str, str] = attrs.field(factory=lambda: os.environ)
    written: Mapping[str, Any] = attrs.field(factory=dict)
    file: str = "ezflow.toml"
    asked: dict[str, Given] = attrs.field(factory=dict, init=False)

    def take(self, name: str, default: Any, is_required: bool, is_secret: bool) -> Any:
        """The value of a name. Raises: SettingsError."""
        if not NAME.fullmatch(name):
            raise SettingsError(f"setting({name!r}): a name of letters, digits and _ is needed, as in OLLAMA_URL.")
        kind = str if default is None else type(default)
        if kind not in NEEDED:
            raise SettingsError(f"setting({name!r}): a string, a number or a bool is needed, not {default!r}.")
        if name in self.said:
            given = Given(parse(self.said[name], kind, f"--set {name}", is_secret), "--set", is_secret)
        elif self.environment.get(name):  # an empty one is as good as none: `NAME=` in a compose file
            given = Given(parse(self.environment[name], kind, name, is_secret), "environment", is_secret)
        elif name in self.written:
            given = Given(self._typed(name, kind, is_secret), self.file, is_secret)
        elif is_required:
            raise SettingsError(
                f"{name} is not set, and has no default: say --set {name}=…, set it in the environment, or under "
                f"[values] in {self.file}."
            )
        else:
            given = Given(default, "default", is_secret)
        if is_secret or (name in self.asked and self.asked[name].is_secret):  # once is for good
            given = attrs.evolve(given, is_secret=True)
            if given.value:
                SECRETS.add(str(given.value))
        self.asked[name] = given
        return given.value

    def check(self, target: str) -> None:
        """Was all that was given also asked for? Raises: SettingsError, which names the nearest that was."""
        for names, place in ((self.said, "--set"), (self.written, f"{self.file}: [values]")):
            for name in names:
                if name not in self.asked:
                    near = nearest(name, self.asked)
                    raise SettingsError(f"{place} gives {name}, which {target} does not ask for. {near}")

    def _typed(self, name: str, kind: type, is_secret: bool) -> Any:
        value = self.written[name]
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            shown = "what was given" if is_secret else repr(value)
            raise SettingsError(f"{self.file}: values.{name}: {shown} is not what is needed: {NEEDED[kind]}.")
        return value


current: ContextVar[Values | None] = ContextVar("ezflow_values", default=None)


@overload
def setting(name: str, /, *, secret: bool = False) -> str: ...
@overload
def setting(name: str, default: T, /, *, secret: bool = False) -> T: ...
@overload
def setting(name: str, default: None, /, *, secret: bool = False) -> str | None: ...
def setting(name: str, default: Any = ..., /, *, secret: bool = False) -> Any:
    """A value from outside: of `--set NAME=…`, the environment, or `[values]` in `ezflow.toml`, in this order.

    Ask for it where the file is loaded, not later: names that are given and not asked for are an error. Its type is
    the default's: str, int, float or bool; without a default it is a str that must be given. `secret=True` keeps it out
    of what `ezflow config` prints and, if it has 4 characters or more, of logs and errors: a shorter one would be cut
    out of other words. A script that Python runs, not `ezflow`, has the environment alone.
    Raises: SettingsError.
    """
    values = current.get() or Values()
    return values.take(name, None if default is ... else default, default is ..., secret)


@contextmanager
def using(values: Values) -> Iterator[Values]:
    """`setting` takes from these, in this context and those that come of it."""
    token = current.set(values)
    try:
        yield values
    finally:
        current.reset(token)


def parse(text: str, kind: Any, place: str, is_secret: bool = False) -> Any:
    """A value that was written as text. Raises: SettingsError that says where it stands and what is needed."""
    try:
        if kind is bool:
            return _truth(text.strip().lower())
        return kind(text.strip() if kind in (int, float) else text)
    except ValueError:
        shown = "what was given" if is_secret else repr(text)
        raise SettingsError(f"{place}: {shown} is not what is needed: {NEEDED[kind]}.") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not known: the one that was meant, or those there are."""
    names = list(known)
    close = get_close_matches(name, names, 1) or get_close_matches(name.lower(), names, 1)
    return f"Did you mean {close[0]}?" if close else f"Known: {', '.join(names) or 'none'}."


def _truth(text: str) -> bool:
    if text not in TRUE + FALSE:
        raise ValueError(text)
    return text in TRUE
