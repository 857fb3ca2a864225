"""The settings of a server from all places: the command line before the environment before `ezflow.toml`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ..convert import structure
from ..errors import InputError, SettingsError
from ..redaction import HIDDEN, SECRET_NAME, SECRETS, Redactor
from ..values import Given, nearest, parse
from ..written import Written
from .config import Settings
from .flags import DEFAULTS, FLAGS, SAID_IN_PYTHON, TOKENS_FILE, Flag, default_of, kind_of
from .tokens import lines_of_environment, read_file, read_tokens, secret_of

__all__ = ["Configuration", "configured"]

# Read elsewhere, or told by one process of ezflow to another.
OTHERS = ("EZFLOW_CACHE", "EZFLOW_CONFIG", "EZFLOW_TOKEN", "EZFLOW_TOKENS")
# What Kubernetes puts into every container of a namespace that has a service called `ezflow`: no settings.
OF_KUBERNETES = re.compile(r"EZFLOW_(SERVICE_(HOST|PORT)\w*|PORT_\d+_\w+)=.*|EZFLOW_PORT=\w+://.*")

REDACTOR = Redactor()
WIDTH = 48
# What JSON leaves as it is, and TOML or a terminal does not.
CONTROLS = re.compile("[\x7f-\x9f\u2028\u2029]")


@attrs.frozen
class Configuration:
    """What was given of a server's settings, and by whom; the tokens as they were written, if there were any."""

    given: Mapping[str, Given]
    tokens: Given | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """As `ezflow.serve` takes them."""
        given = {name: given.value for name, given in self.given.items() if name != TOKENS_FILE}
        return {**DEFAULTS, **given, "tokens": () if self.tokens is None else self.tokens.value}

    @property
    def tokens_file(self) -> str | None:
        """The file of tokens that is named."""
        return self.given[TOKENS_FILE].value if TOKENS_FILE in self.given else None

    def made(self) -> Settings:
        """The settings. Raises: SettingsError that says who gave what does not fit."""
        try:
            return Settings(**self.arguments)
        except SettingsError as error:
            by = self.given.get(str(error).partition("=")[0].partition(":")[0])
            if by is None:
                raise
            raise SettingsError(f"{error} (It is from {by.source}.)") from error

    def lines(self, asked: Mapping[str, Given]) -> Iterator[str]:
        """All that holds, the values that a flow's file has asked for among it: as TOML, with the source of each.

        Secrets are not shown.
        """
        yield from _table(
            "server", {name: self.given.get(name) or Given(default_of(name), "default") for name in FLAGS}
        )
        if self.tokens is not None:
            count = len(read_tokens(self.tokens.value))
            yield f"# {count} token{'' if count == 1 else 's'} of {self.tokens.source}"
        if asked:
            yield ""
            yield from _table("values", asked)


def configured(said: Mapping[str, Any], written: Written, environment: Mapping[str, str] = os.environ) -> Configuration:
    """What holds of what the command line says (None where it says nothing), the environment, and a file.

    Strict: a name that is not known is an error, and so is a value of another type. The tokens are taken as secret.
    Raises: SettingsError.
    """
    in_file = {name: Given(_of_file(name, value, written.file), written.file) for name, value in written.server.items()}
    around = dict(_of_environment(environment))
    on_line = {flag.name: _of_line(flag, said[flag.name]) for flag in FLAGS.values() if said.get(flag.name) is not None}
    tokens: Given | None = None
    if TOKENS_FILE not in on_line and (lines := lines_of_environment(environment)):
        tokens = Given(lines, "EZFLOW_TOKENS" if TOKENS_FILE not in around else around[TOKENS_FILE].source)
    given = {**in_file, **around, **on_line}
    if tokens is None and TOKENS_FILE in given:
        tokens = Given(read_file(given[TOKENS_FILE].value), given[TOKENS_FILE].source)
    if tokens is not None:
        SECRETS.update(filter(None, map(secret_of, tokens.value)))
    return Configuration(given, tokens)


def _of_file(name: str, value: Any, file: str) -> Any:
    """A setting that is written in a file, with its own type. Raises: SettingsError."""
    if name == "tokens":
        raise SettingsError(f"{file}: no tokens are written here; name their file: {TOKENS_FILE}.")
    if name not in FLAGS:
        why = f"only a program can say it: ezflow.serve({name}=...)." if name in SAID_IN_PYTHON else "it is not known. "
        raise SettingsError(f"{file}: server.{name}: {why}{'' if name in SAID_IN_PYTHON else nearest(name, FLAGS)}")
    kind = kind_of(name)
    try:
        return structure(value, list[str] if kind is list else kind, f"server.{name}")
    except InputError as error:
        raise SettingsError(f"{file}: {error}.") from error


def _of_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, Given]]:
    """The settings in the environment; an empty variable is as good as none. Raises: SettingsError."""
    variables = {flag.variable: flag for flag in FLAGS.values()}
    for variable, text in environment.items():
        if not variable.startswith("EZFLOW_") or variable in OTHERS or OF_KUBERNETES.fullmatch(f"{variable}={text}"):
            continue
        flag = variables.get(variable)
        if flag is None:
            raise SettingsError(f"{variable} is in the environment, and is no setting. {nearest(variable, variables)}")
        if text:
            yield flag.name, Given(_of_text(flag.name, text, variable), variable)


def _of_line(flag: Flag, value: str | bool | list[str]) -> Given:
    """A setting as the command line holds it. Raises: SettingsError."""
    place = f"--no-{flag.flag[2:]}" if value is False else flag.flag
    return Given(_of_text(flag.name, value, place) if isinstance(value, str) else value, place)


def _of_text(name: str, text: str, place: str) -> Any:
    kind = kind_of(name)
    if kind is list:
        return [part.strip() for part in text.split(",") if part.strip()]
    return parse(text, kind, place)


def _table(name: str, rows: Mapping[str, Given]) -> Iterator[str]:
    yield f"[{name}]"
    said = {key: f"{key} = {_toml(key, given)}" for key, given in rows.items() if given.value is not None}
    width = min(max(map(len, said.values()), default=0), WIDTH)
    for key, given in rows.items():
        yield f"{said.get(key, f'# {key}'):{width}}  # {given.source}"


def _toml(name: str, given: Given) -> str:
    """A value as TOML writes it."""
    value = given.value
    if given.is_secret or (SECRET_NAME.search(name) and name not in FLAGS):
        return f'"{HIDDEN}"'
    if isinstance(value, bool) or not isinstance(value, str | list):
        return str(value).lower()
    text = json.dumps(REDACTOR.text(value) if isinstance(value, str) else value, ensure_ascii=False)
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
